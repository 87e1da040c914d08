"""The figures of `kit verify`: what the gradings of mutants and variants say about the grader."""

from tools.grading_pool import Graded
from tools.readme_section import write_section

OWN_TASK_ONLY, DIAGNOSED = 0.97, 0.60  # the least shares that are accepted
ROOM = 10  # a tolerance lies at least this factor above correct results and below mistakes


def summary(graded: list[Graded], elsewhere: dict) -> dict:
    """Return the figures, ready for JSON.

    Args:
        graded: every specimen.
        elsewhere: figures of a run on another version of torch, for the spread of correct results; may be empty.
    """
    mutants = [one for one in graded if one.specimen.task is not None]
    variants = [one for one in graded if one.specimen.task is None and not one.specimen.loses]
    partial = [one for one in graded if one.specimen.loses]
    public = [one for one in mutants if one.public_messages]
    figures = {
        "mutants_total": len(mutants),
        "mutants_killed": sum(one.killed for one in mutants),
        "mutants_own_task_only": sum(not one.lost_elsewhere for one in mutants),
        "mutants_public": len(public),
        "mutants_diagnosed": sum(one.diagnosed for one in public),
        "variants_total": len(variants),
        "variants_full": sum(not one.lost for one in variants),
        "partial_total": len(partial),
        "partial_as_stated": sum(set(one.lost) == set(one.specimen.loses) for one in partial),
        "partial": {one.specimen.name: sorted(one.lost) for one in partial},
        "survivors": [one.specimen.name for one in mutants if not one.killed],
        "undiagnosed": [one.specimen.name for one in public if not one.diagnosed],
        "elsewhere": {
            one.specimen.name: {"tasks": one.lost_elsewhere, "why": one.specimen.also}
            for one in mutants
            if one.lost_elsewhere
        },
        "matrix": {
            one.specimen.name: {task: points - most for task, (points, most) in one.points.items() if points < most}
            for one in mutants
        },
        "tolerances": tolerances(graded, elsewhere.get("tolerances", [])),
        "versions": _versions(),
    }
    figures["passed"] = (
        figures["mutants_killed"] == len(mutants)
        and figures["mutants_own_task_only"] >= OWN_TASK_ONLY * len(mutants)
        and all(entry["why"] for entry in figures["elsewhere"].values())
        and figures["mutants_diagnosed"] >= DIAGNOSED * len(public)
        and figures["variants_full"] == len(variants)
        and figures["partial_as_stated"] == len(partial)
        and all(row["room"] or row["why_not"] for row in figures["tolerances"])
    )
    return figures


def tolerances(graded: list[Graded], elsewhere: list[dict]) -> list[dict]:
    """Return, for each test that compares numbers, how far correct results and the nearest mistake lie from its limit.

    Errors are in units of the tolerance: correct results should stay below 1 / ROOM, mistakes above ROOM. A mutant that
    a test does not see (its error is that of correct results) plays no part in that test.

    Args:
        graded: every specimen.
        elsewhere: rows of a run on another version of torch; may be empty.
    """
    rows: dict[tuple, dict] = {}
    for one in graded:
        worst: dict[tuple, tuple[float, str]] = {}
        for comparison in one.comparisons:
            key = (comparison.task, comparison.test, comparison.relative, comparison.absolute)
            before, _ = worst.get(key, (0.0, ""))
            worst[key] = max(before, comparison.excess), comparison.why_not
        for key, (excess, why_not) in worst.items():
            row = rows.setdefault(key, {"spread": dict.fromkeys(_CONDITIONS.values(), 0.0), "mistakes": []})
            row["why_not"] = why_not
            if one.specimen.task == key[0]:
                row["mistakes"].append((excess, one.specimen.name))
            elif one.specimen.task is None and not one.specimen.loses:
                condition = _CONDITIONS.get(one.specimen.name, _CONDITIONS[""])
                row["spread"][condition] = max(row["spread"][condition], excess)
    others = {(row["task"], row["test"], row["relative"], row["absolute"]): row for row in elsewhere}
    return [_tolerance(key, row, others.get(key)) for key, row in sorted(rows.items())]


# Correct results under other conditions: the variant that shows them -> what it is called in the table.
_CONDITIONS = {
    "solutions": "float32",
    "two-threads": "2 and 4 threads",
    "four-threads": "2 and 4 threads",
    "channels-last": "channels_last",
    "": "other variants",
}
_OTHER_TORCH = "other torch"


def _tolerance(key: tuple, row: dict, other: dict | None) -> dict:
    spread = dict(row["spread"])
    if other is not None:
        spread[_OTHER_TORCH] = other["correct"]
    correct = max(spread.values())
    seen = [mistake for mistake in row["mistakes"] if mistake[0] > max(1 / ROOM, 3 * correct)]
    nearest, name = min(seen, default=(None, ""))
    return {
        **dict(zip(("task", "test", "relative", "absolute"), key, strict=True)),
        "spread": spread,
        "correct": correct,
        "nearest_mistake": nearest,
        "nearest_name": name,
        "room": correct <= 1 / ROOM and (nearest is None or nearest >= ROOM),
        "why_not": row["why_not"],
    }


def print_report(graded: list[Graded], figures: dict) -> None:
    """Print the matrix mutant x task, what went wrong, and the totals."""
    tasks = sorted({task for one in graded for task in one.points})
    width = max(len(one.specimen.name) for one in graded)
    print(" " * width, *(f"{task:>4}" for task in tasks))
    for one in graded:
        cells = [_cell(one.points.get(task)) for task in tasks]
        print(f"{one.specimen.name:<{width}}", *cells, "" if _as_it_should(one) else " <-")
    print()
    for one in graded:
        if not _as_it_should(one):
            print(f"{one.specimen.name} ({one.specimen.why})")
            for part, message in one.lost.items() or [("", "no task lost points")]:
                print(f"    {part} {message}"[:300])
    for row in figures["tolerances"]:
        if not row["room"]:
            print(_tolerance_line(row))
    print()
    for line in totals(figures):
        print(line)


def totals(figures: dict) -> list[str]:
    """Return the figures in sentences."""
    total, public = figures["mutants_total"], figures["mutants_public"]
    return [
        f"mutants {total}: {figures['mutants_killed']} lost points in their own task, "
        f"{figures['mutants_own_task_only']} lost none elsewhere ({_share(figures['mutants_own_task_only'], total)})",
        f"seen by a public test {public}: {figures['mutants_diagnosed']} got the right diagnosis "
        f"({_share(figures['mutants_diagnosed'], public)})",
        f"honest variants {figures['variants_total']}: {figures['variants_full']} got all points; partial solutions "
        f"{figures['partial_total']}: {figures['partial_as_stated']} got the points that the table states",
    ]


def write_readme(figures: dict) -> None:
    """Put the figures into the README of the grader."""
    write_section("kit verify --readme", [*_figures_lines(figures), "", *_tolerance_table(figures["tolerances"])])


def _figures_lines(figures: dict) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    partial = [f"`{name}` loses {', '.join(parts)}" for name, parts in figures["partial"].items()]
    return [
        f"Measured with {versions}.",
        "",
        *(f"- {line}." for line in totals(figures)),
        f"- What the partial solutions lose, and no more: {'; '.join(partial)}.",
        *(
            f"- `{name}` also costs {', '.join(entry['tasks'])}: {entry['why']}"
            for name, entry in figures["elsewhere"].items()
        ),
    ]


def _tolerance_table(rows: list[dict]) -> list[str]:
    conditions = list(dict.fromkeys(condition for row in rows for condition in row["spread"]))
    columns = ["task", "test", "tolerance", *conditions, "room above", "nearest mistake", "why not 10"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        nearest = row["nearest_mistake"]
        cells = [
            row["task"],
            row["test"].removeprefix("test_").replace("_", " "),
            f"{row['relative']:g}, {row['absolute']:g}",
            *(f"{row['spread'].get(condition, 0):.1g}" for condition in conditions),
            f"{1 / row['correct']:.1g}" if row["correct"] else "exact",
            "none" if nearest is None else f"{nearest:.2g} `{row['nearest_name'].partition('/')[2]}`",
            "" if row["room"] else row["why_not"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _tolerance_line(row: dict) -> str:
    nearest = row["nearest_mistake"]
    return (
        f"little room: {row['task']} {row['test']}: correct {row['correct']:.2g}, "
        f"nearest mistake {'none' if nearest is None else f'{nearest:.3g}'} {row['nearest_name']}"
        f"{', because ' + row['why_not'] if row['why_not'] else ', and no reason is given'}"
    )


def _as_it_should(one: Graded) -> bool:
    specimen = one.specimen
    if specimen.task is None:
        return set(one.lost) == set(specimen.loses)
    return one.killed and bool(not one.lost_elsewhere or specimen.also)


def _cell(points: tuple[int, int] | None) -> str:
    if points is None:
        return "    "
    lost = points[1] - points[0]
    return f"{-lost:>4}" if lost else "   ."


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"


def _versions() -> dict[str, str]:
    import torch
    import torchvision

    return {"torch": torch.__version__, "torchvision": torchvision.__version__}
