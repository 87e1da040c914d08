"""One file from the first mirror that has it: resumed where a transfer broke off, and checked before anybody uses it.

The `wget` package moves the bytes. By itself it waits for a silent server for ever, cannot resume and checks nothing; a
handler in front of it adds a time limit, the range to resume from, and the expected size.
"""

import hashlib
import http.client
import os
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

SLOWEST_RATE = 4096  # bytes per second; at this rate VOC2007 would take 31 hours, so the next mirror is tried
SMALLEST_GAIN = 0.01  # a mirror that breaks off is asked to go on when it has brought this share of the file


class DownloadError(RuntimeError):
    """The file could not be had; the message says why and what to do."""


class _Refused(Exception):
    """A mirror does not give what is wanted; the message is the reason."""


class _NoRange(Exception):
    """A mirror cannot resume."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the manifest describes it."""

    name: str
    size: int  # bytes
    md5: str


def fetch(file: RemoteFile, mirrors: list[str], folder: str | Path, timeout: float = 20.0) -> Path:
    """Download a file, or finish a download that was broken off.

    Args:
        file: what to get.
        mirrors: addresses of folders that hold it, in the order to try.
        folder: where to put it. An unfinished transfer stays there as `{name}.part` and is continued by the next call.
        timeout: seconds without an answer, or at less than 4 kB/s, after which a mirror is given up.

    Returns:
        Path of the complete, checked file.

    Raises:
        DownloadError: no mirror gave it; the message has one reason for each.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and is_intact(target, file):
        return target
    reasons = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            _fetch_from(url, file, part, timeout)
        except (_Refused, OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"  {url}: {_reason(error, timeout)}")
        else:
            os.replace(part, target)
            return target
    raise DownloadError(f"no mirror gave {file.name}:\n" + "\n".join(reasons))


def is_intact(path: Path, file: RemoteFile) -> bool:
    """Compare size and MD5 of a file with what they should be, with a progress bar."""
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as stream,
        tqdm(total=file.size, desc=f"checking {file.name}", unit="B", unit_scale=True) as bar,
    ):
        while block := stream.read(1 << 20):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest() == file.md5


def _fetch_from(url: str, file: RemoteFile, part: Path, timeout: float) -> None:
    """Bring `part` to completion with one mirror; when it breaks off, go on as long as that is worth it."""
    first = start = _adopt_leftovers(part)
    resumes = True
    while start < file.size:
        # An answer that does not tell its length may end early without an error, as the page of a login does.
        failure = _Refused("its answer ends before the file does")
        try:
            _transfer(url, file, part, start, timeout)
        except _NoRange:
            resumes, start = False, 0  # what is there stays until there is more
            continue
        except (OSError, http.client.HTTPException) as error:
            failure = error
        have = _adopt_leftovers(part)
        if have < file.size and (not resumes or have - start < SMALLEST_GAIN * file.size):
            if first == 0 and isinstance(failure, _Refused):
                part.unlink(missing_ok=True)  # it is of something else, most likely
            raise failure
        start = have
    if is_intact(part, file):
        return
    part.unlink()
    if first == 0 or not resumes:
        raise _Refused("its content is wrong: size or MD5 sum differ")
    _fetch_from(url, file, part, timeout)  # the bytes from before may have been the wrong ones


def _transfer(url: str, file: RemoteFile, part: Path, start: int, timeout: float) -> None:
    """Let wget get the bytes from `start` on, into a file of its own beside `part`."""
    import wget

    with _installed(_Transfer(url, file, start, timeout)):
        wget.download(url, out=f"{part}.from{start}-", bar=None)


def _adopt_leftovers(part: Path) -> int:
    """Join what transfers have left beside `part`, finished or not, and say how many bytes there are."""
    have = part.stat().st_size if part.exists() else 0
    for piece in sorted(part.parent.glob(f"{part.name}.from*")):
        start = int(re.search(r"\.from(\d+)-", piece.name).group(1))
        if start == have and start > 0:
            with part.open("ab") as whole, piece.open("rb") as more:
                shutil.copyfileobj(more, whole, 1 << 20)
            piece.unlink()
        elif start == 0 and piece.stat().st_size > have:
            os.replace(piece, part)
        else:
            piece.unlink()
        have = part.stat().st_size if part.exists() else 0
    return have


class _Transfer(urllib.request.BaseHandler):
    """Goes between wget and the server: sets range and time limit, refuses a wrong size, watches the rate."""

    handler_order = 1001  # after urllib's own handler has dealt with redirects and errors

    def __init__(self, url: str, file: RemoteFile, start: int, timeout: float):
        self.url, self.file, self.start, self.timeout = url, file, start, timeout

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        if "%" in self.url:  # it is quoted, and wget has quoted it once more
            request.full_url = self.url
        self.url = ""  # a redirect leads elsewhere
        request.timeout = self.timeout
        request.add_header("User-Agent", "fcos-course-kit")
        if self.start:
            request.add_header("Range", f"bytes={self.start}-")
        return request

    def http_response(self, request: urllib.request.Request, response):
        if isinstance(response, _Watched):  # of a redirect, and looked at before
            return response
        is_part = response.status == http.client.PARTIAL_CONTENT
        length = response.headers["Content-Length"]
        whole = None if length is None else int(length) + (self.start if is_part else 0)
        if whole not in (None, self.file.size):
            response.close()
            raise _Refused(f"it has {whole} bytes, expected {self.file.size}")
        if self.start and not is_part:
            response.close()
            raise _NoRange
        del response.headers["Content-Disposition"]  # wget stumbles over some forms of it, and the name is known
        return _Watched(response, self.file, self.start, self.timeout)

    https_request, https_response = http_request, http_response


class _Watched:
    """A response that moves a progress bar and gives up when the server is too slow or sends too much."""

    def __init__(self, response, file: RemoteFile, start: int, timeout: float):
        self.response, self.done, self.size, self.timeout = response, start, file.size, timeout
        self.since, self.mark = time.monotonic(), start
        self.bar = tqdm(total=file.size, initial=start, desc=file.name, unit="B", unit_scale=True)

    def read(self, amount: int) -> bytes:
        # read1 hands over what has arrived; read would wait for the whole block, however slowly it drips in.
        block = self.response.read1(amount)
        self.done += len(block)
        self.bar.update(len(block))
        if self.done > self.size:
            raise _Refused(f"it sends more than the expected {self.size} bytes")
        elapsed = time.monotonic() - self.since
        if elapsed > self.timeout:
            if self.done - self.mark < SLOWEST_RATE * elapsed:
                raise TimeoutError
            self.since, self.mark = time.monotonic(), self.done
        return block

    def close(self) -> None:
        self.bar.close()
        self.response.close()

    def __getattr__(self, name: str):
        return getattr(self.response, name)


class _Prompt:
    """A connection whose time limit is for the whole head of an answer, not for each byte of it."""

    def getresponse(self):
        late = threading.Event()

        def hang_up():
            late.set()
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout, hang_up)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise TimeoutError if late.is_set() else error from None
        finally:
            timer.cancel()
        if late.is_set():  # a head that is cut off may look whole
            response.close()
            raise TimeoutError
        return response


class _PromptConnection(_Prompt, http.client.HTTPConnection):
    pass


class _PromptSecureConnection(_Prompt, http.client.HTTPSConnection):
    pass


class _PromptHTTP(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_PromptConnection, request)


class _PromptHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_PromptSecureConnection, request)


@contextmanager
def _installed(handler: urllib.request.BaseHandler) -> Iterator[None]:
    """Put a handler in the way of `urllib.request.urlopen`, which wget calls, and take it out again."""
    before = getattr(urllib.request, "_opener", None)
    urllib.request.install_opener(urllib.request.build_opener(handler, _PromptHTTP, _PromptHTTPS))
    try:
        yield
    finally:
        urllib.request.install_opener(before)


def _reason(error: Exception, timeout: float) -> str:
    """Say in a few words what went wrong with a mirror."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.ContentTooShortError | http.client.IncompleteRead | ConnectionResetError):
        return "it broke off"
    if isinstance(cause, socket.gaierror):
        return "its name cannot be looked up; is there a network?"
    if isinstance(cause, TimeoutError):
        return f"too slow: nothing, or less than {SLOWEST_RATE // 1024} kB/s, for {timeout:g} seconds"
    return str(cause) or type(cause).__name__
