"""Draws the class report: one HTML page that needs nothing but itself."""

import base64
import hashlib
import statistics
from pathlib import Path

from autograder.desk.attention import attention, class_notes
from autograder.desk.figures import failures, histogram, taken_in, task_figures
from autograder.desk.pictures import draw
from autograder.desk.results import ClassResults
from autograder.desk.similarity import excerpts, similar_pairs
from autograder.desk.sources import code_digests, differences, skeleton
from autograder.report import measured_line

_HERE = Path(__file__).parent


def class_page(
    results: ClassResults,
    title: str,
    sources: dict[str, dict[str, str]] | None = None,
    pages: dict[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> str:
    """Return the page.

    Everything that a submission could have written is escaped. The page's policy allows this one script and this one
    style sheet, and no address at all: what escaping missed would still not run.

    Args:
        results: of the class.
        title: of the page.
        sources: student id -> file name -> text, to show what differs from the skeleton and what is alike.
        pages: student id -> relative address of the student's own page, to link to.
        notes: to show beside those on the class.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    totals = [one["total"] for one in results.students]
    pairs = similar_pairs(sources or {}, skeleton())
    reasons = attention(results, code_digests(sources or {}), pairs)
    return environment.get_template("page.html").render(
        title=title,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:",
        students=results.students,
        tasks=results.tasks,
        max_total=results.max_total,
        mean=statistics.fmean(totals),
        median=statistics.median(totals),
        spread=statistics.pstdev(totals),
        full=sum(total >= results.max_total for total in totals),
        bars=histogram(totals, results.max_total),
        figures=task_figures(results),
        taken_in=len(taken_in(results)),
        failures=failures(results),
        reasons=reasons,
        looks=sum(map(bool, reasons)),
        compared=len(sources or {}),
        pairs=[(pair, excerpts(pair, sources)) for pair in pairs],
        place_of={one["id"]: index for index, one in enumerate(results.students)},
        incomplete=results.incomplete,
        notes=[*class_notes(results), *notes],
        differences={student: differences(files) for student, files in (sources or {}).items()},
        pages=pages or {},
        images=results.pictures,
        drawn=[draw(results.pictures, one["pictures"]) for one in results.students],
        measured=any(one["measures"] for one in results.students),
        measured_line=measured_line,
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _figure(value: float) -> str:
    """A number of points as a person writes it: 7, 7.5, 66.67."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
