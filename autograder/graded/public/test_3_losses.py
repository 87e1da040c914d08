"""Part 3: the detector's losses. Backbone and head are fakes with prepared predictions."""

from autograder.plugin import task
from autograder.rules import assert_loss


@task("3.1", "loss-cls")
def test_classification_loss(submission, reference):
    """Focal loss over all locations, background included as 'none of the classes'."""
    assert_loss(submission, reference("losses"), "loss_cls")


@task("3.1", "loss-box")
def test_box_loss(submission, reference):
    """0.25 * L1 over foreground locations."""
    assert_loss(submission, reference("losses"), "loss_box")


@task("3.1", "loss-ctr")
def test_centerness_loss(submission, reference):
    """Binary cross-entropy over foreground locations."""
    assert_loss(submission, reference("losses"), "loss_ctr")
