"""Compares two gradings of a class: whose grade changed, and why."""

from dataclasses import dataclass, field

from autograder.desk.results import ClassResults


@dataclass
class Change:
    """What became of one student.

    Attributes:
        student: id.
        old: total before; None when there was no result.
        new: total now; None when there is none any more.
        reasons: one line each: what was handed in anew, and every part whose verdict changed.
    """

    student: str
    old: float | None
    new: float | None
    reasons: list[str] = field(default_factory=list)


def compare_classes(old: ClassResults, new: ClassResults) -> list[Change]:
    """Return every student whose total or any of whose points changed, in order of ids."""
    before = {one["id"]: one for one in old.students}
    after = {one["id"]: one for one in new.students}
    changes = []
    for student in sorted(before.keys() | after.keys(), key=lambda name: (name.casefold(), name)):
        one, other = before.get(student), after.get(student)
        if one is None:
            changes.append(Change(student, None, other["total"], ["only in the new results"]))
        elif other is None:
            changes.append(Change(student, one["total"], None, ["only in the old results"]))
        elif _points(one) != _points(other) or one["total"] != other["total"]:
            changes.append(
                Change(student, one["total"], other["total"], [*_circumstances(one, other), *_parts(one, other)])
            )
    return changes


def what_changed(old: ClassResults, new: ClassResults) -> list[str]:
    """Return what differs between the gradings as a whole: the table of tasks, versions, isolation."""
    one, other, lines = old.students[0], new.students[0], []
    if one["tasks_sha256"] != other["tasks_sha256"]:
        lines.append("the table of tasks is another one")
    if one["public_only"] != other["public_only"]:
        lines.append("hidden tests count in one of them only")
    for name in sorted(one["versions"].keys() | other["versions"].keys()):
        versions = one["versions"].get(name, "none"), other["versions"].get(name, "none")
        if versions[0] != versions[1]:
            lines.append(f"{name} {versions[0]} -> {versions[1]}")
    if one["held_out"] != other["held_out"]:
        lines.append(f"mAP measured on {_images(one)} -> {_images(other)}")
    levels = [", ".join(sorted({one["isolation"] for one in results.students})) for results in (old, new)]
    if levels[0] != levels[1]:
        lines.append(f"isolation {levels[0]} -> {levels[1]}")
    return lines


def _images(results: dict) -> str:
    held_out = results["held_out"]
    return "no images" if held_out is None else f"{held_out['images']} images ({held_out['sha256'][:8]})"


def _circumstances(one: dict, other: dict) -> list[str]:
    if one["submission_sha256"] != other["submission_sha256"]:
        lines = [f"another submission: {one['submission']} -> {other['submission']}"]
    elif one["seed"] is None or other["seed"] is None:
        lines = ["could not be taken in " + ("before" if one["seed"] is None else "any more")]
    else:
        lines = []
    measured = [results["measures"].get("mAP") for results in (one, other)]
    if measured[0] != measured[1]:
        lines.append("mAP " + " -> ".join("not measured" if value is None else f"{value:.2%}" for value in measured))
    return lines


def _parts(one: dict, other: dict) -> list[str]:
    before, after, lines = _verdicts(one), _verdicts(other), []
    for key in before | after:
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            lines.append(f"{_name(key)}: {'new' if old is None else 'gone'}, {(old or new)['points']:g} points")
            continue
        points = [f"{part['points']:g}/{part['max_points']:g}" for part in (old, new)]
        if points[0] == points[1]:
            continue
        better = new["points"] > old["points"]
        message = (old if better else new)["message"].strip().removeprefix(f"{key[1]}: ").splitlines()
        why = f": {'no longer: ' if better else ''}{message[0]}" if message else ""
        lines.append(f"{_name(key)} {points[0]} -> {points[1]}{why}")
    return lines


def _points(results: dict) -> dict[tuple[str, str], tuple[float, float]]:
    """(task, part) -> (points, maximum); the wording of a message is no change of a grade."""
    return {key: (part["points"], part["max_points"]) for key, part in _verdicts(results).items()}


def _verdicts(results: dict) -> dict[tuple[str, str], dict]:
    """(task, part) -> verdict; a task without parts is one itself."""
    return {
        (task["id"], part["title"] if task.get("parts") else ""): part
        for task in results["tasks"]
        for part in task.get("parts") or [task]
    }


def _name(key: tuple[str, str]) -> str:
    task, part = key
    return f"{task} {part}".strip()
