"""Decides whose results a person should look at, and says why. Nothing here changes a grade."""

import re
from collections import defaultdict
from collections.abc import Sequence

from autograder.desk.results import ClassResults
from autograder.desk.similarity import Pair
from autograder.isolation import LEVELS

# The words of `autograder.conversation` and `autograder.limits`, when a submission was stopped from outside.
_LIMIT = re.compile(
    r"stopped after|used more than|used up the memory|started more than|has used its|crashed with|ended the program"
)
_FORBIDDEN = re.compile(r"asks you to write .* yourself")


def attention(
    results: ClassResults, code: dict[str, str] | None = None, pairs: Sequence[Pair] = ()
) -> list[list[tuple[str, str]]]:
    """Say whose results a person should look at, and why.

    Args:
        results: of the class.
        code: student id -> a hash of the code that was handed in, where the submissions are at hand.
        pairs: of submissions with code in common.

    Returns:
        For each student in order (kind, sentence), an empty list for most. Kinds: "refused", "limit", "forbidden",
        "flag", "isolation", "duplicate", "similar", "older", "late".
    """
    same_code, older, similar = _same_code(code or {}), defaultdict(list), defaultdict(list)
    for pair in pairs:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            if other not in same_code.get(one, ()):
                similar[one].append(f"{pair.share:.0%} alike with {other}, see Similar code")
    for one in results.summary.get("superseded", []):
        older[one["id"]].append(one["source"])
    used = [one["isolation"] for one in results.students if one["isolation"] in LEVELS]
    best = min(used, key=LEVELS.index, default="")
    return [
        _reasons(one, best, same_code.get(one["id"], []), similar[one["id"]], older[one["id"]])
        for one in results.students
    ]


def class_notes(results: ClassResults) -> list[str]:
    """Return what concerns the class: what has no results, ids in doubt, and isolation that could be stronger."""
    summary = results.summary
    lines = [f"{one['id']}: not graded ({one['reason']})" for one in summary.get("not_graded", [])]
    lines += summary.get("notes", [])
    warnings = defaultdict(int)
    for one in results.students:
        warnings[one["isolation_warning"]] += 1
    lines += [f"isolation, for {count} of {len(results.students)}: {text}" for text, count in warnings.items() if text]
    return lines


def _reasons(one: dict, best: str, same_code: list[str], similar: list[str], older: list[str]) -> list[tuple[str, str]]:
    if one["seed"] is None:
        return [("refused", one["notes"][0] if one["notes"] else "the submission could not be taken in")]
    reasons: dict[tuple[str, str], None] = {}
    stopped: dict[tuple[str, str], dict[str, None]] = {}
    for task in one["tasks"]:
        for part in task.get("parts", [task]):
            for kind, pattern in (("limit", _LIMIT), ("forbidden", _FORBIDDEN)):
                if part["status"] != "passed" and pattern.search(part["message"]):
                    text = part["message"].splitlines()[0].removeprefix(f"{part.get('title')}: ")
                    stopped.setdefault((kind, text), {})[task["id"]] = None
    for (kind, text), tasks in stopped.items():
        reasons[kind, f"{text} (task {', '.join(tasks)})"] = None
    reasons |= {("flag", str(flag)): None for flag in one["flags"]}
    if one["isolation"] != best:
        reasons["isolation", f"graded at {one['isolation']}, others at {best}"] = None
    if same_code:
        reasons["duplicate", f"the same code as {', '.join(same_code)}"] = None
    reasons |= {("similar", text): None for text in similar}
    reasons |= {("older", f"an older submission was not graded: {source}"): None for source in older}
    if one["late"]:
        reasons["late", "marked as late by the learning platform"] = None
    return list(reasons)


def _same_code(code: dict[str, str]) -> dict[str, list[str]]:
    """Return, for each student who has company, the others."""
    found = defaultdict(list)
    for student, digest in code.items():
        found[digest].append(student)
    return {
        student: [other for other in group if other != student]
        for group in found.values()
        if len(group) > 1
        for student in group
    }
