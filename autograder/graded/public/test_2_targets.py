"""Part 2: the head and the targets that it learns."""

from autograder import patterns
from autograder.compare import assert_matches
from autograder.plugin import task
from autograder.rules import assert_call, assert_head_values, assert_initial_values, assert_shapes


@task("2.1", "shapes")
def test_head_returns_three_dicts_of_flat_maps(submission, reference):
    """Class logits (B, H*W, K), deltas (B, H*W, 4), centerness (B, H*W, 1) for each level."""
    case = reference("head_shapes")
    outputs = submission.run(case)["outputs"]
    names = ("class logits", "box deltas", "centerness logits")
    assert len(case.expected["outputs"]) == len(names)
    if len(outputs) != len(names):
        assert_matches(outputs, case.expected["outputs"], "the head's output (class, box, centerness)")
    for received, expected, name in zip(outputs, case.expected["outputs"], names, strict=True):
        assert_shapes(received, expected, name)


@task("2.1", "values")
def test_head_values_with_given_weights(submission, reference):
    """Class logits come from stem_cls, deltas and centerness from stem_box, locations row by row."""
    assert_head_values(submission, reference("head_values"))


@task("2.1", "init")
def test_head_starts_from_small_weights_and_rare_classes(submission, reference):
    """Stems from N(0, 0.01) with zero bias; pred_cls.bias = -log(99), so that every class starts at 0.01."""
    assert_initial_values(submission.run(reference("head_init")))


@task("2.5", "values")
def test_match_small_and_large_boxes(submission, reference):
    """Three boxes of different sizes go to their levels."""
    assert_call(submission, reference("match"), "matched boxes", patterns.match_mistakes)


@task("2.2", "values")
def test_deltas_of_locations_inside_their_boxes(submission, reference):
    """Left, top, right, bottom in units of the stride."""
    assert_call(submission, reference("deltas"), "deltas", patterns.delta_mistakes)


@task("2.2", "background")
def test_deltas_of_background(submission, reference):
    """Rows of -1 give -1."""
    assert_call(submission, reference("deltas_background"), "deltas", patterns.delta_mistakes)


@task("2.3", "values")
def test_apply_positive_deltas(submission, reference):
    """Boxes around their locations."""
    assert_call(submission, reference("apply"), "boxes", patterns.apply_mistakes)


@task("2.3", "negative")
def test_apply_negative_deltas(submission, reference):
    """Rows of negative deltas shrink to their location."""
    assert_call(submission, reference("apply_negative"), "boxes", patterns.apply_mistakes)


@task("2.4", "values")
def test_centerness_inside_boxes(submission, reference):
    """Equation 3."""
    assert_call(submission, reference("centerness"), "centerness", patterns.centerness_mistakes)


@task("2.4", "background")
def test_centerness_of_background(submission, reference):
    """Rows of -1 give -1."""
    assert_call(submission, reference("centerness_background"), "centerness", patterns.centerness_mistakes)
