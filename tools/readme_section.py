"""Sections of `autograder/README.md` that a command writes, between two markers; the rest is written by hand."""

from collections.abc import Iterable
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT

README = ROOT / "autograder" / "README.md"


def write_section(command: str, lines: Iterable[str], readme: Path = README) -> None:
    """Replace what stands between a command's two markers.

    Args:
        command: that writes the section; it is named in its markers.
        lines: of the section, in Markdown.
        readme: file that holds the markers.

    Raises:
        KitError: the file, or one of the markers, is not there.
    """
    begin, end = f"<!-- written by `{command}` -->", f"<!-- end of `{command}` -->"
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise KitError(f"{readme}: cannot be read ({error.strerror})") from None
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise KitError(f"{readme}: needs the two lines {begin} and {end}; the section is written between them")
    section = "\n".join(lines).strip("\n")
    readme.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}", encoding="utf-8")
    print(f"wrote {readme.name} of {readme.parent.name}/")
