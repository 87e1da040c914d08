"""Shows results, in the terminal and the browser. Everything that a submission could have written is escaped."""

from rich.markup import escape
from rich.table import Table

_LOOK = {
    "passed": "green",
    "partial": "yellow",
    "failed": "red",
    "not implemented": "bright_black",
    "not graded": "bright_black",
}


def print_results(results: dict, console) -> None:
    """Print one row for each task, the reason for lost points, the notes of the intake, flags, and the total.

    Args:
        results: as `autograder.grade.grade` returns them.
        console: of rich.
    """
    table = Table(show_edge=False, pad_edge=False)
    for title, justify in (("task", "left"), ("", "left"), ("points", "right"), ("verdict", "left"), ("why", "left")):
        table.add_column(title, justify=justify, overflow="fold")
    for row in results["tasks"]:
        color = _LOOK[row["status"]]
        table.add_row(
            row["id"],
            escape(row["title"]),
            f"{row['points']}/{row['max_points']}",
            f"[{color}]{row['status']}[/]",
            escape(one_line(row["message"])),
        )
    console.print(table)
    if results["notes"]:
        console.print("\n" + "\n".join(f"note: {escape(one_line(note))}" for note in results["notes"]), style="dim")
    for flag in results["flags"]:
        console.print(f"[yellow]look at[/] {escape(one_line(flag))}")
    if results["isolation_warning"]:
        console.print(f"\n[yellow]warning:[/] {escape(one_line(results['isolation_warning']))}")
    console.print(f"\ntotal [bold]{results['total']}/{results['max_total']}[/]   isolation: {results['isolation']}")


def one_line(text: str) -> str:
    """Return text without line breaks and control characters: it can neither forge a row nor color the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def results_page(results: dict, title: str) -> str:
    """Return a self-contained HTML page of one submission's results."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("autograder"), autoescape=True)
    return environment.get_template("results.html").render(results=results, title=title)
