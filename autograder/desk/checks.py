"""Says what is wrong with a file that lies where the results of a class should: valid JSON may still be anything."""

_MOST = 1e9  # no number of points, of images or of pixels is larger
_KINDS = {
    **dict.fromkeys(("submission", "submission_sha256", "isolation", "isolation_warning", "tasks_sha256"), str),
    **dict.fromkeys(("late", "public_only"), bool),
    "seed": (int, type(None)),
    "versions": dict,
}
_POINTS = ("points", "max_points")
_TEXTS = ("id", "title", "status", "message")
_LISTS = {"superseded": ("id", "source"), "not_graded": ("id", "reason")}


def results_problem(results) -> str:
    """Return what is wrong with one student's results; empty when nothing is."""
    if not isinstance(results, dict) or not isinstance(results.get("tasks"), list) or not results["tasks"]:
        return "it has no tasks"
    if not _is_number(results.get("total")) or not _is_number(results.get("max_total")):
        return "it has no total"
    if not _is_name(results.get("id", "-")):
        return "its id is not a text"
    if not _all(_is_name, results.get("members", [])):
        return "its members are not texts"
    if not all(_all(_is_text, results.get(key, [])) for key in ("notes", "flags")):
        return "its notes are no list of texts"
    for key, kind in _KINDS.items():
        if key in results and not isinstance(results[key], kind):
            return f"its {key} cannot be {results[key]!r}"
    held_out = results.get("held_out")
    if held_out is not None and not (isinstance(held_out, dict) and _is_number(held_out.get("images"))):
        return "it does not say how many images it was measured on"
    if not _all(_is_number, _values(results.get("measures", {}))):
        return "it has a measure that is no number"
    if not _all(_is_detections, _values(results.get("pictures", {}))):
        return "it has detections that are none"
    for row in results["tasks"]:
        parts = row.get("parts", []) if isinstance(row, dict) else None
        if not isinstance(parts, list):
            return "a task has no parts"
        for one in (row, *parts):
            if not isinstance(one, dict) or not all(_is_number(one.get(key)) for key in _POINTS):
                return "a task has no points"
            if not all(_is_text(one.get(key)) for key in _TEXTS):
                return "a task has no verdict"
    return ""


def summary_problem(summary) -> str:
    """Return what is wrong with a class's summary; empty when nothing is."""
    if not isinstance(summary, dict):
        return "it is no summary"
    if not _all(_is_text, summary.get("notes", [])):
        return "its notes are no list of texts"
    for key, texts in _LISTS.items():
        if not _all(lambda one, texts=texts: _has_texts(one, texts), summary.get(key, [])):
            return f"its {key} is no list of submissions"
    return ""


def pictures_problem(content) -> str:
    """Return what is wrong with the held-out images that a report shows; empty when nothing is."""
    if isinstance(content, dict) and _all(_is_picture, content.get("pictures", [])):
        return ""
    return "it has pictures that are none"


def _all(is_right, values) -> bool:
    return isinstance(values, list) and all(map(is_right, values))


def _values(content) -> list | None:
    return list(content.values()) if isinstance(content, dict) else None


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_name(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MOST


def _has_texts(row, keys) -> bool:
    return isinstance(row, dict) and all(_is_text(row.get(key)) for key in keys)


def _is_picture(image) -> bool:
    return (
        _has_texts(image, ("id", "jpeg"))
        and all(_is_number(image.get(key)) for key in ("width", "height"))
        and _all(lambda row: _is_object(row) and isinstance(row[5], bool), image.get("truth"))
    )


def _is_object(row) -> bool:
    """Whether a row is [x1, y1, x2, y2, class name, something]."""
    return isinstance(row, list) and len(row) == 6 and _is_text(row[4]) and _all(_is_number, row[:4])


def _is_detections(rows) -> bool:
    return _all(lambda row: _is_object(row) and _is_number(row[5]), rows)
