"""The reader of tars against the standard library's, on what honest programs write, and on damage."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.tar_stream import TarError, members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def written(files: list[tuple[str, bytes]], kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(content), 10**9  # beyond octal digits: pax needs a record, GNU base 256
            if kind == tarfile.USTAR_FORMAT:
                info.uid = 0
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(content: bytes) -> list[tuple[str, bytes]]:
    found = []
    for member in members(io.BytesIO(content)):
        data = b""
        while chunk := member.read(7):
            data += chunk
        assert (len(data), member.refusal, member.is_folder) == (member.size, "", False)
        found.append((member.name, data))
    return found


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    lambda name: not name.startswith("/") and not name.endswith("/")
)
long_names = st.lists(names, min_size=1, max_size=12).map("/".join)


@settings(deadline=None)
@given(files=st.lists(st.tuples(long_names, st.binary(max_size=1500)), max_size=5), kind=st.sampled_from(FORMATS[1:]))
def test_archive_reads_as_it_was_written(files, kind):
    content = written(files, kind)
    assert read(content) == [(member, data) for member, data in files]
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:  # the library agrees
        assert archive.getnames() == [name for name, _ in files]


def test_ustar_prefix_is_part_of_the_name():
    name = "/".join(["folder" * 5] * 6) + "/common.py"  # 196 characters: beyond the name's own 100
    assert read(written([(name, b"x")], tarfile.USTAR_FORMAT)) == [(name, b"x")]


def test_members_that_are_not_read_are_passed_over():
    content = written([("a", b"1" * 700), ("b", b""), ("c", b"2")], tarfile.GNU_FORMAT)
    assert [(member.name, member.size) for member in members(io.BytesIO(content))] == [("a", 700), ("b", 0), ("c", 1)]


@pytest.mark.parametrize(
    "size", [b"-0000000512\0", b"+0000000512\0", b"\xff" * 12, b"1_000000000\0", b"99999999999\0", b"0x000000010\0"]
)
def test_size_that_is_no_octal_number_is_refused(size):
    header = bytearray(tarfile.TarInfo("a").tobuf())
    header[124:136] = size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    with pytest.raises(TarError, match="a number in a header"):
        list(members(io.BytesIO(bytes(header) + bytes(2048))))


@pytest.mark.parametrize(
    "payload",
    [b"5 a=b\n", b"7 a=b\n", b"6 a-b\n", b"x a=b\n", b"99 path=a\n", b"1" * 30_000, b"9999999999999999999 a=b\n"],
)
def test_long_header_that_is_damaged_is_refused(payload):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(payload)
    content = info.tobuf() + payload + bytes(-len(payload) % 512) + written([("a", b"")], tarfile.USTAR_FORMAT)
    with pytest.raises(TarError):
        list(members(io.BytesIO(content)))


@settings(deadline=None)
@given(cut=st.integers(1, 2047))
def test_cut_archive_never_gives_less_data_in_silence(cut):
    content = written([("a", b"1" * 700), ("b", b"2" * 100)], tarfile.GNU_FORMAT)[:cut]
    try:
        found = read(content)
    except (TarError, EOFError):
        return
    assert found in ([], [("a", b"1" * 700)])


@settings(deadline=None, max_examples=300)
@given(content=st.binary(max_size=1200), start=st.sampled_from([b"", tarfile.TarInfo("a").tobuf()]))
def test_any_bytes_are_read_or_refused(content, start):
    message = ""
    try:
        assert all(isinstance(member.name, str) for member in members(io.BytesIO(start + content)))
    except TarError as error:
        message = str(error)
    assert message.isprintable()
