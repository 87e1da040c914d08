"""A CSV file that is changed cell by cell: what is not changed keeps every byte, quotes and line ends included."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import KitError
from autograder.summary import safe_cell

_DELIMITERS = (",", ";", "\t")


@dataclass
class Cell:
    """One cell.

    Attributes:
        raw: its text in the file, quotes included.
        value: what it means.
    """

    raw: str
    value: str


class Sheet:
    """The rows of a CSV file.

    Attributes:
        path: where it was read.
        header: values of the first row.
        rows: the cells of every other row that is not empty.
    """

    def __init__(self, path: Path, text: str):
        self.path = path
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        text = text[len(self._mark) :]
        first = re.sub(r'"[^"]*"', "", text.splitlines()[0] if text else "")  # in a title, a comma parts nothing
        self._delimiter = max(_DELIMITERS, key=first.count)
        self._lines = _parse(text, self._delimiter, path)
        filled = [cells for cells, _ in self._lines if any(cell.raw for cell in cells)]
        if not filled:
            raise KitError(f"{path}: empty; expected an exported table with a header")
        self.header = [cell.value.strip() for cell in filled[0]]
        self.rows = filled[1:]

    @classmethod
    def read(cls, path: Path) -> "Sheet":
        """Read a file; `KitError` when it is not one of UTF-8 text in CSV format."""
        try:
            return cls(path, path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise KitError(f"{path}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise KitError(f"{path}: not text in UTF-8; export it again as CSV, not as a workbook") from None

    def text(self) -> str:
        """Return the file with the cells as they are now."""
        lines = (self._delimiter.join(cell.raw for cell in cells) + end for cells, end in self._lines)
        return self._mark + "".join(lines)

    def column(self, name: str) -> int:
        """Return the index of a column by its exact title; `KitError` when there is none, or more than one."""
        found = [index for index, title in enumerate(self.header) if title == name]
        if len(found) != 1:
            problem = "two columns are" if found else "no column is"
            raise KitError(f"{self.path}: {problem} titled {name!r}; there are: {_titles(self.header)}")
        return found[0]

    def value(self, row: list[Cell], index: int) -> str:
        """Return a cell's value without surrounding space; "" past the end of a short row."""
        return row[index].value.strip() if index < len(row) else ""

    def fill(self, row: list[Cell], index: int, value: str) -> None:
        """Give a cell a value that needs no quotes; quotes that were there stay."""
        if index >= len(row):
            raise KitError(f"{self.path}: the row of {row[0].value!r} ends before column {self.header[index]!r}")
        cell = row[index]
        cell.raw = f'"{value}"' if cell.raw.startswith('"') or self._delimiter in value else value
        cell.value = value


def _parse(text: str, delimiter: str, path: Path) -> list[tuple[list[Cell], str]]:
    """Split text into lines of cells, each with its line end, so that joining them gives the text again."""
    cell = re.compile(rf'("(?:[^"]|"")*"(?=[{delimiter}\r\n]|\Z)|[^"{delimiter}\r\n][^{delimiter}\r\n]*|)')
    end = re.compile(rf"({delimiter}|\r\n|\n|\r|\Z)")
    lines, cells, place = [], [], 0
    while place < len(text):
        raw = cell.match(text, place)[0]
        after = end.match(text, place + len(raw))
        if after is None:
            raise KitError(f"{path}:{text.count(chr(10), 0, place) + 1}: a quote that is not closed; export it again")
        place = after.end()
        quoted = raw.startswith('"')
        cells.append(Cell(raw, raw[1:-1].replace('""', '"') if quoted else raw))
        if after[0] != delimiter:
            lines.append((cells, after[0]))
            cells = []
        elif place == len(text):
            cells.append(Cell("", ""))
    if cells:
        lines.append((cells, ""))
    return lines


def read_table(path: Path, needed: dict[str, tuple[str, ...]]) -> list[dict[str, str]]:
    """Read some columns of a CSV file.

    Args:
        path: of the file.
        needed: name of a column here -> its possible titles in the file, in any case.

    Returns:
        One dict for each row, with the names of `needed`; values without surrounding space.

    Raises:
        KitError: no such file, not CSV, or a column missing.
    """
    sheet = Sheet.read(path)
    titles = [title.casefold() for title in sheet.header]
    columns = {}
    for name, choices in needed.items():
        found = [titles.index(choice.casefold()) for choice in choices if choice.casefold() in titles]
        if not found:
            raise KitError(f"{path}: no column {' or '.join(map(repr, choices))}; there are: {_titles(sheet.header)}")
        columns[name] = found[0]
    return [{name: sheet.value(row, index) for name, index in columns.items()} for row in sheet.rows]


def csv_text(rows: list[list]) -> str:
    """Return rows as CSV; texts that a spreadsheet would run are neutralised."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([safe_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def _titles(header: list[str]) -> str:
    """Titles for a message, on one line: a quote that is not closed makes the rest of the file a title."""
    text = " ".join(", ".join(header).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
