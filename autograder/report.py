"""Shows results, in the terminal and the browser. Everything that a submission could have written is escaped."""

import re

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_LOOK = {
    "passed": "green",
    "partial": "yellow",
    "failed": "red",
    "not implemented": "bright_black",
    "not graded": "bright_black",
}


def print_results(results: dict, console) -> None:
    """Print one row for each task, the reasons for lost points, the notes of the intake, flags, and the total.

    Args:
        results: as `autograder.grade.grade` returns them.
        console: of rich.
    """
    table = Table(show_edge=False, pad_edge=False)
    for title, justify in (("task", "left"), ("", "left"), ("points", "right"), ("verdict", "left")):
        table.add_column(title, justify=justify, overflow="fold")
    for row in results["tasks"]:
        color = _LOOK[row["status"]]
        points = f"{row['points']}/{row['max_points']}"
        table.add_row(row["id"], escape(row["title"]), points, f"[{color}]{row['status']}[/]")
    console.print(table)
    for row in results["tasks"]:
        _print_reasons(row, console)
    if results["notes"]:
        console.print("\n" + "\n".join(f"note: {escape(one_line(note))}" for note in results["notes"]), style="dim")
    for flag in results["flags"]:
        console.print(f"[yellow]look at[/] {escape(one_line(flag))}")
    if results["isolation_warning"]:
        console.print(f"\n[yellow]warning:[/] {escape(one_line(results['isolation_warning']))}")
    if results.get("held_out"):
        console.print(f"\n{escape(measured_line(results))}")
    console.print(f"\ntotal [bold]{results['total']}/{results['max_total']}[/]   isolation: {results['isolation']}")


def _print_reasons(row: dict, console) -> None:
    """Print the parts of a task that lost their points, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for part in row["parts"]:
        if part["status"] != "passed":
            lost = f"{part['title']} ({part['points']}/{part['max_points']})"
            reasons.setdefault(_without_title(part["message"], part["title"]), []).append(lost)
    if reasons:
        console.print(f"\n[bold]{row['id']} {escape(row['title'])}[/]")
    for reason, parts in reasons.items():
        if 1 < len(parts) == len(row["parts"]):
            parts = [f"every part (0/{row['max_points']})"]
        for line, indent in [*((f"✗ {part}", 2) for part in parts), (one_line(reason), 6)]:
            console.print(Padding(Text(line), (0, 0, 0, indent), expand=False))


def _without_title(message: str, title: str) -> str:
    """Return a message without the task, or the part, that it begins with: both stand above it."""
    return re.sub(r'^Task [\d.]+, "[^"]*": ', "", message.removeprefix(f"{title}: "))


def measured_line(results: dict) -> str:
    """Return the mean average precision in words."""
    images = results["held_out"]["images"]
    value = results["measures"].get("mAP")
    return f"mAP on {images} held-out images: {'not measured' if value is None else f'{value:.2%}'}"


def one_line(text: str) -> str:
    """Return text without line breaks and control characters: it can neither forge a row nor color the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def results_page(results: dict, title: str) -> str:
    """Return a self-contained HTML page of one submission's results."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("autograder"), autoescape=True)
    return environment.get_template("results.html").render(
        results=results, title=title, measured=measured_line(results) if results.get("held_out") else ""
    )
