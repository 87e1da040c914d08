"""Checks what a grader answered before it is written: whatever happened there, no row may say more than the table."""

from collections.abc import Collection

from autograder.tasks import TaskTable


class UnsoundResults(Exception):
    """What came back are not results that the table of tasks allows; nobody gets points for it."""


def require_sound(results: dict, table: TaskTable, tasks: Collection[str] | None, public_only: bool) -> None:
    """Check that results hold the expected tasks, and that their points can be and add up.

    Args:
        results: as of `autograder.grade.grade`.
        table: of tasks.
        tasks: ids that were graded; None for all.
        public_only: whether hidden tests were left out.

    Raises:
        UnsoundResults: anything else.
    """
    expected = [
        (task.id, sum(part.points for part in task.parts if not (public_only and part.hidden)))
        for task in table.graded
        if tasks is None or task.id in tasks
    ]
    try:
        rows = [(row["id"], row["max_points"]) for row in results["tasks"]]
        points = [row["points"] for row in results["tasks"]]
        totals = [results["total"], results["max_total"]]
    except (KeyError, TypeError) as error:
        raise UnsoundResults(f"the results are not complete ({type(error).__name__}: {error})") from None
    if rows != expected:
        raise UnsoundResults("the results have other tasks than the table")
    if not all(type(number) is int for number in [*points, *totals]):
        raise UnsoundResults("the results have points that are no whole numbers")
    if not all(0 <= got <= most for got, (_, most) in zip(points, expected, strict=True)):
        raise UnsoundResults("the results have more points than a task gives, or fewer than none")
    if totals != [sum(points), sum(most for _, most in expected)]:
        raise UnsoundResults("the points of the results do not add up")
