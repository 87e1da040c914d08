"""Fetching one file: every way in which a mirror can fail, played by a local server."""

import os
import shutil
import ssl
import subprocess
import urllib.request

import pytest
from local_mirror import NAME, TIMEOUT, Server

from helpers.fetch import DownloadError, RemoteFile, fetch


@pytest.fixture(scope="module")
def server():
    server = Server(os.urandom(200_000))
    yield server
    server.close()


@pytest.fixture
def remote(server) -> RemoteFile:
    server.requests.clear()
    server.paths.clear()
    return server.remote()


@pytest.mark.parametrize("behaviour", ["good", "truncates", "without_ranges", "without_length", "redirects"])
def test_fetch_gets_the_file_from_a_mirror_that_has_it(server, remote, tmp_path, behaviour):
    path = fetch(remote, [server.url(behaviour)], tmp_path, TIMEOUT)
    assert path.read_bytes() == server.content
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("behaviour", ["name_in_another_form", "good/Course%20Data", "good/course%2Fvoc"])
def test_fetch_gets_the_file_whatever_its_mirror_calls_it(server, remote, tmp_path, behaviour):
    path = fetch(remote, [server.url(behaviour)], tmp_path, TIMEOUT)
    assert path.read_bytes() == server.content
    assert server.paths == [f"/{behaviour}/{NAME}"]


FAILURES = {
    "truncates_at_once": "broke off",
    "truncates_without_ranges": "broke off",
    "wrong_bytes": "MD5",
    "wrong_size": r"it has 26 bytes, expected \d+",
    "ends_early_without_length": "ends before the file does",
    "login_page_without_length": "ends before the file does",
    "endless": "more than the expected",
    "missing": "404",
    "overloaded": "503",
    "redirects_for_ever": "302",
    "silent": "too slow",
    "stalls": "too slow",
    "drips": "too slow",
    "drips_its_head": "too slow",
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_failing_mirror_is_named_with_its_reason(server, remote, tmp_path, behaviour):
    url = server.url(behaviour)
    with pytest.raises(DownloadError, match=f"(?s){url}{NAME}: .*{FAILURES[behaviour]}"):
        fetch(remote, [url], tmp_path, TIMEOUT)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("behaviour", FAILURES)
def test_next_mirror_is_tried_after_a_failing_one(server, remote, tmp_path, behaviour):
    path = fetch(remote, [server.url(behaviour), server.url("good")], tmp_path, TIMEOUT)
    assert path.read_bytes() == server.content
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "behaviour", ["login_page_without_length", "wrong_size", "truncates_without_ranges", "missing"]
)
def test_failing_mirror_leaves_what_an_earlier_transfer_brought(server, remote, tmp_path, behaviour):
    (tmp_path / f"{NAME}.part").write_bytes(server.content[:180_000])
    path = fetch(remote, [server.url(behaviour), server.url("good")], tmp_path, TIMEOUT)
    assert path.read_bytes() == server.content
    assert server.requests[-1] == ("good", "bytes=180000-")


# Addresses where nobody is: port 9 of this machine, a name that RFC 2606 keeps free, and something that is no address.
@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "http://mirror.invalid/", "no address"])
def test_unreachable_mirror_is_a_reason_like_any_other(server, remote, tmp_path, address):
    with pytest.raises(DownloadError, match="no mirror gave"):
        fetch(remote, [address], tmp_path, TIMEOUT)
    assert fetch(remote, [address, server.url("good")], tmp_path, TIMEOUT).read_bytes() == server.content


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl: apt install openssl")
def test_certificate_of_a_mirror_is_checked(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    making += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(making, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(os.urandom(5000), context)
    try:
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(server.remote(), [server.url("good")], tmp_path / "data", TIMEOUT)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        path = fetch(server.remote(), [server.url("good")], tmp_path / "data", TIMEOUT)
        assert path.read_bytes() == server.content
    finally:
        server.close()


def test_broken_transfer_is_resumed_where_it_ended(server, remote, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(server.content[:5000])
    assert fetch(remote, [server.url("good")], tmp_path, TIMEOUT).read_bytes() == server.content
    assert server.requests == [("good", "bytes=5000-")]


def test_what_a_killed_transfer_left_is_resumed(server, remote, tmp_path):
    # wget writes into a file with a random ending; the bytes before it are in the .part file.
    (tmp_path / f"{NAME}.part").write_bytes(server.content[:3000])
    (tmp_path / f"{NAME}.part.from3000-abc123.tmp").write_bytes(server.content[3000:7000])
    assert fetch(remote, [server.url("good")], tmp_path, TIMEOUT).read_bytes() == server.content
    assert server.requests == [("good", "bytes=7000-")]
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_stalled_mirror_is_continued_by_the_next_one(server, remote, tmp_path):
    fetch(remote, [server.url("stalls"), server.url("good")], tmp_path, TIMEOUT)
    assert server.requests == [("stalls", None), ("good", "bytes=1000-")]


def test_wrong_bytes_from_before_are_not_kept(server, remote, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 5000)
    assert fetch(remote, [server.url("good")], tmp_path, TIMEOUT).read_bytes() == server.content
    assert server.requests == [("good", "bytes=5000-"), ("good", None)]


def test_file_that_is_there_is_not_fetched_again(server, remote, tmp_path):
    (tmp_path / NAME).write_bytes(server.content)
    fetch(remote, [server.url("good")], tmp_path, TIMEOUT)
    assert server.requests == []


def test_fetch_leaves_urllib_as_it_was(server, remote, tmp_path):
    before = urllib.request._opener
    fetch(remote, [server.url("good")], tmp_path, TIMEOUT)
    assert urllib.request._opener is before
