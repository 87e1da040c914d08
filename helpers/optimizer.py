"""Which optimiser trains a detector, and how fast its parts learn."""

from torch import nn, optim

OPTIMIZERS = ("sgd", "adamw")
# Where the detectors of the assignment keep the network that comes from ImageNet.
BACKBONE = "backbone.backbone."


def make_optimizer(
    detector: nn.Module,
    name: str,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    backbone_lr_factor: float = 1.0,
) -> optim.Optimizer:
    """Make the optimiser of a detector's weights.

    The backbone has learned from a million images and is easily spoiled; pyramid and head begin with random numbers, in
    convolutions whose outputs no norm scales. So the one may learn slower than the other ("backbone_lr_factor"), and
    AdamW, which measures each gradient by its own usual size, suits both.

    Args:
        detector: parameters with names in `backbone.backbone` are those of the backbone.
        name: "sgd" or "adamw".
        learning_rate: of all that is not the backbone.
        momentum: share of the old direction that a step keeps (the first beta of AdamW).
        weight_decay: "sgd" adds it to the gradient; "adamw" shrinks the weights by it, times the learning rate.
        backbone_lr_factor: the backbone's learning rate, divided by `learning_rate`.

    Returns:
        The optimiser. Where the backbone learns at another rate, its weights come in a group of their own before the
        rest; a group's "factor" is what its rate is multiplied by.

    Raises:
        ValueError: the name is not known, the factor is negative, or a backbone is to learn at another rate and there
            is none.

    Source: SGD: FCOS, section 4; AdamW: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101, algorithm 2; a
    backbone that learns ten times slower: DETR, https://arxiv.org/abs/2005.12872, section 4.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {name!r}")
    if not backbone_lr_factor >= 0:
        raise ValueError(f"backbone_lr_factor must not be negative, but is {backbone_lr_factor}")
    weights = dict(detector.named_parameters())
    if backbone_lr_factor != 1 and not any(path.startswith(BACKBONE) for path in weights):
        raise ValueError(f"backbone_lr_factor={backbone_lr_factor:g} needs weights in detector.{BACKBONE[:-1]}")
    parts = {factor: [] for factor in (backbone_lr_factor, 1.0)}  # a single part, if both are 1
    for path, weight in weights.items():
        if weight.requires_grad:
            parts[backbone_lr_factor if path.startswith(BACKBONE) else 1.0].append(weight)
    groups = [
        {"params": part, "lr": learning_rate * factor, "factor": factor} for factor, part in parts.items() if part
    ]
    if name == "adamw":
        return optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=weight_decay)
    return optim.SGD(groups, momentum=momentum, weight_decay=weight_decay)
