"""A mirror on this machine that misbehaves on request, and archives to put on it."""

import hashlib
import io
import ssl
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.fetch import RemoteFile

NAME = "VOCtrainval_06-Nov-2007.tar"
TIMEOUT = 0.6  # seconds; a silent server is given up after this


class Server:
    """A local mirror: the first folder of an address says how it behaves.

    `requests` notes (that folder, Range header), `paths` the whole path.
    """

    def __init__(self, content: bytes, tls: ssl.SSLContext | None = None):
        self.content, self.requests, self.paths, self.scheme = content, [], [], "https" if tls else "http"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                folder = self.path.split("/")[1]
                server.requests.append((folder, self.headers.get("Range")))
                server.paths.append(self.path)
                getattr(server, folder)(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, folder: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http.server_port}/{folder}/"

    def send(self, handler, body: bytes, status: int = 200, length: int | None = -1, **headers: str) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    def _from(self, handler) -> int:
        wanted = handler.headers.get("Range")
        return int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0

    # --- behaviours ---------------------------------------------------------------------------------

    def good(self, handler, body: bytes | None = None, cut: int | None = None):
        body = self.content if body is None else body
        start = self._from(handler)
        rest = body[start:]
        status = 206 if start else 200
        self.send(
            handler, rest[:cut], status, length=len(rest), Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}"
        )

    def truncates(self, handler):
        self.good(handler, cut=len(self.content) // 3)  # each time a third of the file, then the connection is closed

    def truncates_at_once(self, handler):
        self.good(handler, cut=10)

    def truncates_without_ranges(self, handler):
        self.send(handler, self.content[: len(self.content) // 2], length=len(self.content))

    def without_ranges(self, handler):
        self.send(handler, self.content)

    def without_length(self, handler):
        self.send(handler, self.content, length=None)

    def wrong_bytes(self, handler):
        self.good(handler, body=bytes(len(self.content)))

    def wrong_size(self, handler):
        self.send(handler, b"<html>please log in</html>")

    def ends_early_without_length(self, handler):
        start = self._from(handler)
        self.send(handler, self.content[start:5000], 206 if start else 200, length=None)

    def login_page_without_length(self, handler):
        self.send(handler, b"<html>please log in</html>" * 1000, length=None)  # whatever range is asked for

    def endless(self, handler):
        self.send(handler, self.content + b"more", length=None)

    def missing(self, handler):
        self.send(handler, b"no", 404)

    def overloaded(self, handler):
        self.send(handler, b"later", 503)

    def redirects(self, handler):
        self.send(handler, b"", 302, Location=f"/good/{NAME}")

    def redirects_for_ever(self, handler):
        self.send(handler, b"", 302, Location=self.url("redirects_for_ever") + NAME)

    def name_in_another_form(self, handler):
        self.send(handler, self.content, Content_Disposition="attachment; filename*=UTF-8''x.tar")

    def silent(self, handler):
        time.sleep(4 * TIMEOUT)

    def stalls(self, handler):
        self.send(handler, self.content[:1000], length=len(self.content))
        time.sleep(4 * TIMEOUT)

    def drips(self, handler):
        self.send(handler, b"", length=len(self.content))
        try:
            for n in range(60):
                handler.wfile.write(self.content[n : n + 1])
                time.sleep(TIMEOUT / 10)
        except OSError:
            pass  # the client has left, as it should

    def drips_its_head(self, handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for n in range(60):
                handler.wfile.write(b"X-%d: nothing\r\n" % n)
                time.sleep(TIMEOUT / 10)
        except OSError:
            pass

    # --- end of the behaviours ----------------------------------------------------------------------

    def remote(self) -> RemoteFile:
        """What the mirror has, as a manifest would say it."""
        return RemoteFile(NAME, len(self.content), hashlib.md5(self.content).hexdigest())

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def make_tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def make_zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return stream.getvalue()
