"""Part 3, hidden: off-square images, other counts, empty images, the moving average, gradients, eval mode, training."""

import pytest

from autograder.compare import Mismatch, Tolerance, assert_matches
from autograder.plugin import task
from autograder.rules import LOSSES, assert_loss, assert_networks, assert_training_falls


@task("3.1", "general-cls")
@pytest.mark.parametrize("name", ["losses_general", "losses_single"])
def test_classification_loss_in_general(submission, fresh, name):
    """7 classes in a batch of three; 3 classes in a batch of one."""
    assert_loss(submission, fresh(name), "loss_cls")


@task("3.1", "general-box")
@pytest.mark.parametrize("name", ["losses_general", "losses_single"])
def test_box_loss_in_general(submission, fresh, name):
    """7 classes in a batch of three; 3 classes in a batch of one."""
    assert_loss(submission, fresh(name), "loss_box")


@task("3.1", "general-ctr")
@pytest.mark.parametrize("name", ["losses_general", "losses_single"])
def test_centerness_loss_in_general(submission, fresh, name):
    """7 classes in a batch of three; 3 classes in a batch of one."""
    assert_loss(submission, fresh(name), "loss_ctr")


@task("3.1", "networks")
def test_backbone_and_head_are_built_from_the_arguments(submission, fresh):
    """fpn_channels for both, the classes and all stem channels for the head."""
    assert_networks(submission, fresh("eval_mode"))


@task("3.1", "normalizer")
def test_normalizer_follows_the_foreground(submission, fresh):
    """0.9 * old + 0.1 * foreground locations of an image, updated before the division."""
    case = fresh("losses_normalizer")
    for step, expected in zip(submission.run(case), case.expected, strict=True):
        assert_matches(step["normalizer"], expected["normalizer"], "the normaliser", Tolerance(1e-5, 1e-3))


@task("3.1", "empty")
@pytest.mark.parametrize("name", ["losses_some_empty", "losses_all_empty"])
def test_images_without_objects(submission, fresh, name):
    """No crash, finite losses, and no box or centerness loss where nothing is."""
    case = fresh(name)
    for loss in LOSSES:
        assert_loss(submission, case, loss)


@task("3.1", "gradients")
def test_gradients_of_the_losses(submission, fresh):
    """Every prediction gets the gradient that the losses imply."""
    case = fresh("losses_general")
    for step, expected in zip(submission.run(case), case.expected, strict=True):
        names = ("class logits", "box deltas", "centerness logits")
        for received, wanted, name in zip(step["gradients"], expected["gradients"], names, strict=True):
            assert_matches(received, wanted, f"the gradient of the {name}", Tolerance(1e-3, 1e-7))


@task("3.1", "modes")
def test_eval_mode_hands_over_to_inference(submission, fresh):
    """`inference` gets predictions, locations and thresholds, and its result is returned."""
    case = fresh("eval_mode")
    result = submission.run(case)
    for name, expected in case.expected["received"].items():
        if name not in result["received"]:
            raise Mismatch(f"inference was called without {name}")
        assert_matches(result["received"][name], expected, name, Tolerance(1e-5, 1e-5))
    assert_matches(result["returned"], case.expected["returned"], "what inference returned", Tolerance(1e-5, 1e-5))


@task("3.2", "falls")
def test_loss_falls_on_a_small_set(submission, reference):
    """About a hundred steps of training on a few images."""
    assert_training_falls(submission, reference("overfit"), reference("overfit_untrained"))
