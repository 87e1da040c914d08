"""Builds archives byte by byte where the standard library would refuse to write them."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

COMMON = b"def hello_common():\n    print('Hello from common.py!')\n"
DETECTOR = b"def hello_one_stage_detector():\n    pass\n"
HONEST = {"common.py": COMMON, "one_stage_detector.py": DETECTOR}


def zip_of(files: dict, modes: dict | None = None) -> bytes:
    """A zip of {name: bytes}; `modes` gives Unix modes, file type included."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would cut the name at a null byte
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def raw_zip(entries: list[tuple[bytes, bytes, dict]]) -> bytes:
    """A zip with names as raw bytes and header fields as one likes: flags, size, packed, method, crc."""
    body, directory = bytearray(), bytearray()
    for name, content, fields in entries:
        packed = zlib.compress(content, 9)[2:-4]
        values = {"flags": 0x800, "size": len(content), "packed": len(packed), "method": 8, "crc": zlib.crc32(content)}
        values |= fields
        offset = len(body)
        shared = struct.pack(  # what the local header and the directory have in common
            "<5H3I2H",
            *(20, values["flags"], values["method"], 0, 0x21),
            *(values["crc"], values["packed"], values["size"], len(name), 0),
        )
        body += b"PK\x03\x04" + shared + name + packed
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + shared + struct.pack("<3H2I", 0, 0, 0, 0, offset) + name
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[len(entries) & 0xFFFF] * 2, len(directory), len(body), 0)
    return bytes(body + directory + end)


def tar_of(files: dict, members: list[tarfile.TarInfo] = (), mode: str = "w:gz") -> bytes:
    """A tar of {name: bytes}, with special members before the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member in members:
            archive.addfile(member)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A tar member that is not a file: a link, a device, a FIFO."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def gzip_bomb(megabytes: int) -> bytes:
    """A tar.gz with one file of zeros, packed a thousandfold."""
    info = tarfile.TarInfo("zeros.bin")
    info.size = megabytes << 20
    return gzip.compress(info.tobuf() + bytes(info.size), 9)
