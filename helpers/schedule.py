"""The learning rate as a function of the iteration: nothing to save, nothing to restore."""

import math

from helpers.distributed import rank_and_world_size

SCHEDULES = ("step", "cosine")
# The step schedule divides the rate by 10 after these shares of the run.
STEPS = (0.6, 0.9)


def learning_rate_factor(iteration: int, max_iters: int, schedule: str = "step", warmup_iters: int = 0) -> float:
    """What the learning rate is multiplied by in one iteration.

    Args:
        iteration: counted from 0.
        max_iters: iterations of the whole run.
        schedule: "step" divides by 10 at 60 % and at 90 % of the run; "cosine" falls from 1 to 0 along half a wave.
        warmup_iters: the rate first rises linearly over this many iterations; gradients of a fresh head are large.

    Returns:
        The factor, above 0 and at most 1.

    Source: "step" is near FCOS, section 4 (60,000 and 80,000 of 90,000 iterations); warm-up: Goyal et al.,
    https://arxiv.org/abs/1706.02677, section 2.2; "cosine": Loshchilov and Hutter, https://arxiv.org/abs/1608.03983.
    """
    if iteration < warmup_iters:
        return (iteration + 1) / (warmup_iters + 1)
    if schedule == "step":
        return 0.1 ** sum(iteration >= share * max_iters for share in STEPS)
    progress = (iteration - warmup_iters) / max(max_iters - warmup_iters, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def scale_learning_rate(learning_rate: float, batch_size: int, reference_batch_size: int = 16) -> float:
    """Linear scaling rule: k times as many images in a batch allow k times the learning rate.

    It prints what it changed. Beyond some 8 times the reference it needs a warm-up, and then stops to hold. It is a
    rule of SGD: with AdamW, whose steps do not grow with the gradient, it asks for more than large batches need.

    Args:
        learning_rate: known to be good with `reference_batch_size`.
        batch_size: images of one step, over all processes.
        reference_batch_size: images of one step in the run that the rate is taken from.

    Returns:
        The new learning rate.

    Source: Goyal et al., https://arxiv.org/abs/1706.02677, section 2.1.
    """
    scaled = learning_rate * batch_size / reference_batch_size
    if batch_size != reference_batch_size and rank_and_world_size()[0] == 0:
        print(
            f"Learning rate {learning_rate:g} -> {scaled:g}: {batch_size} images in a batch "
            f"instead of {reference_batch_size} (linear scaling rule)."
        )
    return scaled
