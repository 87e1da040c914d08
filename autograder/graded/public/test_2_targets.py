"""Part 2: the head and the targets that it learns."""

from autograder.compare import Mismatch, assert_matches
from autograder.plugin import task
from autograder.rules import assert_call, assert_head_values, assert_initial_values, assert_shapes, seen_in


@task("2.1", "shapes")
def test_head_returns_three_dicts_of_flat_maps(submission, reference):
    """Class logits (B, H*W, K), deltas (B, H*W, 4), centerness (B, H*W, 1) for each level."""
    case = reference("head_shapes")
    outputs = submission.run(case)["outputs"]
    names = ("class logits", "box deltas", "centerness logits")
    assert len(case.expected["outputs"]) == len(names)
    if len(outputs) != len(names):
        assert_matches(outputs, case.expected["outputs"], "the head's output (class, box, centerness)")
    for i, name in enumerate(names):
        assert_shapes(outputs[i], case.expected["outputs"][i], name, seen_in(case.mistakes, "outputs", i))
        if any((values == values.flatten()[0]).all() for values in outputs[i].values()):
            raise Mismatch(f"the {name} are the same everywhere", hint="They do not depend on the features")


@task("2.1", "values")
def test_head_values_with_given_weights(submission, reference):
    """Class logits come from stem_cls, deltas and centerness from stem_box, locations row by row."""
    assert_head_values(submission, reference("head_values"))


@task("2.1", "init")
def test_head_starts_from_small_weights_and_rare_classes(submission, reference):
    """Stems from N(0, 0.01) with zero bias; pred_cls.bias = -log(99), so that every class starts at 0.01."""
    assert_initial_values(submission, reference("head_init"))


@task("2.5", "values")
def test_match_small_and_large_boxes(submission, reference):
    """Three boxes of different sizes go to their levels."""
    assert_call(submission, reference("match"), "matched boxes")


@task("2.2", "values")
def test_deltas_of_locations_inside_their_boxes(submission, reference):
    """Left, top, right, bottom in units of the stride."""
    assert_call(submission, reference("deltas"), "deltas")


@task("2.2", "background")
def test_deltas_of_background(submission, reference):
    """Rows of -1 give -1."""
    assert_call(submission, reference("deltas_background"), "deltas")


@task("2.3", "values")
def test_apply_positive_deltas(submission, reference):
    """Boxes around their locations."""
    assert_call(submission, reference("apply"), "boxes")


@task("2.3", "negative")
def test_apply_negative_deltas(submission, reference):
    """Rows of negative deltas shrink to their location."""
    assert_call(submission, reference("apply_negative"), "boxes")


@task("2.4", "values")
def test_centerness_inside_boxes(submission, reference):
    """Equation 3."""
    assert_call(submission, reference("centerness"), "centerness")


@task("2.4", "background")
def test_centerness_of_background(submission, reference):
    """Rows of -1 give -1."""
    assert_call(submission, reference("centerness_background"), "centerness")
