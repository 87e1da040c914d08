"""Handing in, under the old name."""

from pathlib import Path

__all__ = ["make_a4_submission"]


def make_a4_submission(assignment_path: str | Path, uniquename: str | None = None, umid: str | None = None) -> Path:
    """Make the zip to hand in; see `helpers.submission.make_submission`.

    Args:
        assignment_path: folder with `common.py` and `one_stage_detector.py`.
        uniquename: name of the student; asked for when missing.
        umid: student id; asked for when missing.

    Returns:
        Path of the zip.
    """
    from helpers.submission import make_submission, read_identity

    folder = Path(assignment_path)
    name, student_id = read_identity(uniquename or "", umid or "", ask=input)
    notebook, weights = folder / "one_stage_detector.ipynb", folder / "fcos_detector.pt"
    return make_submission(
        folder,
        name,
        student_id,
        notebook=notebook if notebook.is_file() else None,
        weights=weights if weights.is_file() else None,
    )
