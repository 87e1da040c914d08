"""Configuration of an nbgrader course whose graded cells the kit grades; `kit nbgrader` has written it."""

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    IgnorePattern,
    LimitOutput,
    OverwriteKernelspec,
    SaveAutoGrades,
)

from tools.nbgrader_grading import KitGrading, RestoreCells

c = get_config()  # noqa: F821 - nbgrader provides it

c.CourseDirectory.course_id = "fcos"

# The kit grades the files that were handed in, in its sandbox; no notebook of a student runs.
c.Autograde.autograde_preprocessors = [
    KitGrading,
    IgnorePattern,
    ClearMetadataPreprocessor,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]

# Without this, nbgrader replaces the students' work with the skeletons.
c.Autograde.exclude_overwriting = {"fcos": ["common.py", "one_stage_detector.py"]}

# A graded cell that a student has deleted comes back, and with it the points.
c.Autograde.sanitize_preprocessors = [ClearOutput, DeduplicateIds, OverwriteKernelspec, RestoreCells, CheckCellMetadata]
c.OverwriteCells.add_missing_cells = True

c.ClearSolutions.text_stub = "@STUB@"
