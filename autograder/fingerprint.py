"""Says whether what was handed in is still the same."""

import contextlib
import hashlib
from pathlib import Path

from autograder.archives import EntryRefused, SubmissionRefused, list_entries, read_entry
from autograder.filenames import ARCHIVES


def fingerprint(paths: tuple[Path, ...]) -> str:
    """Return a hash of what was handed in; it changes when a student's file is replaced by another of the same name."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
        if not path.is_dir():
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            continue
        # What cannot be taken is told when it is graded, with the reason; the files after it count as well.
        with contextlib.suppress(SubmissionRefused):
            for entry in list_entries(path):
                digest.update(f"{entry.name}\0{entry.size}\0".encode("utf-8", "surrogateescape"))
                if not entry.refusal and entry.name.lower().endswith((".py", ".pt", *ARCHIVES)):
                    with contextlib.suppress(EntryRefused):
                        for chunk in read_entry(entry, entry.size):
                            digest.update(chunk)
    return digest.hexdigest()
