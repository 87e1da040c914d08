"""The figures of `kit verify`: what the gradings of mutants and variants say about the grader."""

from autograder.tasks import ROOT
from tools.grading_pool import Graded

README = ROOT / "autograder" / "README.md"
_BEGIN, _END = "<!-- figures: written by `kit verify --readme` -->", "<!-- end of figures -->"
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
    )
    return figures


def tolerances(graded: list[Graded], elsewhere: list[dict]) -> list[dict]:
    """Return, for each test that compares numbers, how far correct results and the nearest mistake lie from its limit.

    Errors are in units of the tolerance: correct results should stay below 1 / ROOM, mistakes above ROOM. A mutant that
    a test does not see (its error is that of correct results) plays no part in that test.
    """
    rows: dict[tuple, dict] = {}
    for one in graded:
        worst: dict[tuple, float] = {}
        for comparison in one.comparisons:
            key = (comparison.task, comparison.test, comparison.relative, comparison.absolute)
            worst[key] = max(worst.get(key, 0.0), comparison.excess)
        honest = one.specimen.task is None and not one.specimen.loses
        for key, excess in worst.items():
            row = rows.setdefault(key, {"correct": 0.0, "correct_name": "", "mistakes": []})
            if honest and excess > row["correct"]:
                row["correct"], row["correct_name"] = excess, one.specimen.name
            elif one.specimen.task == key[0]:
                row["mistakes"].append((excess, one.specimen.name))
    before = {(row["task"], row["test"], row["relative"], row["absolute"]): row for row in elsewhere}
    table = []
    for key, row in sorted(rows.items()):
        other = before.get(key)
        if other is not None and other["correct"] > row["correct"]:
            row["correct"], row["correct_name"] = other["correct"], f"{other['correct_name']}, other version"
        seen = [mistake for mistake in row["mistakes"] if mistake[0] > max(1 / ROOM, 3 * row["correct"])]
        nearest = min(seen, default=(None, ""))
        task, test, relative, absolute = key
        table.append(
            {
                **{"task": task, "test": test, "relative": relative, "absolute": absolute},
                **{"correct": row["correct"], "correct_name": row["correct_name"]},
                **{"nearest_mistake": nearest[0], "nearest_name": nearest[1]},
                "room": row["correct"] <= 1 / ROOM and (nearest[0] is None or nearest[0] >= ROOM),
            }
        )
    return table


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
    """Put the figures into the README of the grader, between their two markers."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    README.write_text(f"{before}{_BEGIN}\n{_markdown(figures)}\n{_END}{after}", encoding="utf-8")
    print(f"wrote {README.relative_to(ROOT)}")


def _markdown(figures: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    lines = [f"Measured with {versions}.", "", *(f"- {line}" for line in totals(figures))]
    lines += [
        f"- `{name}` also costs {', '.join(entry['tasks'])}: {entry['why']}"
        for name, entry in figures["elsewhere"].items()
    ]
    lines += ["", "| task | test | tolerance (relative, absolute) | correct results, at most | nearest mistake |"]
    lines += ["|---|---|---|---|---|"]
    for row in figures["tolerances"]:
        nearest = "-" if row["nearest_mistake"] is None else f"{row['nearest_mistake']:.3g} ({row['nearest_name']})"
        lines.append(
            f"| {row['task']} | {row['test'].removeprefix('test_')} | {row['relative']:g}, {row['absolute']:g} "
            f"| {row['correct']:.2g} | {nearest} |"
        )
    return "\n".join(lines)


def _tolerance_line(row: dict) -> str:
    nearest = row["nearest_mistake"]
    return (
        f"little room: {row['task']} {row['test']}: correct {row['correct']:.2g} ({row['correct_name']}), "
        f"nearest mistake {'none' if nearest is None else f'{nearest:.3g}'} {row['nearest_name']}"
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
