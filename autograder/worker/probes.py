"""Probes: a few lines each that call a submission for one task and return plain tensors. They hold no expected value.

A probe takes the loaded submission and the inputs of a graded test; what it returns is compared on the trusted side.
The same probes, run there on the solutions in float64, give the expected values.
"""

import torch
from torch import nn

from .fakes import DetectorByRequest, FakeHead
from .submission import SubmissionError

PROBES = {}


def probe(function):
    """Register a probe under its name."""
    PROBES[function.__name__] = function
    return function


@probe
def call(submission, function, arguments):
    """Call one of the submission's functions with keyword arguments as the contract names them."""
    return getattr(submission, function)(**arguments)


@probe
def fpn_shapes(submission, out_channels, size):
    """Build the backbone with its pyramid and run it on random images: shapes of the outputs, and the strides."""
    model = submission.DetectorBackboneWithFPN(out_channels)
    with torch.no_grad():
        outputs = model(torch.randn(size))
    return {
        "shapes": {level: list(output.shape) for level, output in outputs.items()},
        "strides": model.fpn_strides,
        "out_channels": model.out_channels,
    }


class _GivenFeatures(nn.Module):
    """Stands where the backbone was and returns c3, c4, c5 as they were sent."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, images):
        return dict(self.features)


def _pyramid(submission, out_channels, features):
    """A pyramid over given features, and its convolutions, wherever the submission keeps them."""
    model = submission.DetectorBackboneWithFPN(out_channels)
    model.backbone = _GivenFeatures(features)
    model.eval()  # batch norm in the pyramid, where a submission has some, changes nothing
    model.to(features["c3"].dtype)
    _fill_lazy(model, _image_for(features))
    return model, [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def _fill_lazy(model, *inputs) -> None:
    """Lazy convolutions get their weights at the first forward pass."""
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in model.parameters()):
        with torch.no_grad():
            model(*inputs)


@probe
def fpn_values(submission, features, lateral_weights, output_weight):
    """Run the pyramid on given features, all convolutions set to given weights.

    Lateral convolutions are told apart by their input channels; the three output convolutions share one weight, so it
    does not matter which is which.
    """
    out_channels = output_weight.shape[0]
    model, convolutions = _pyramid(submission, out_channels, features)
    by_shape = {tuple(weight.shape): weight for weight in [*lateral_weights.values(), output_weight]}
    found = []
    with torch.no_grad():
        for convolution in convolutions:
            shape = tuple(convolution.weight.shape)
            found.append(list(shape))
            if shape in by_shape:
                convolution.weight.copy_(by_shape[shape])
            if convolution.bias is not None:
                convolution.bias.zero_()
        return {"convolutions": sorted(found), "outputs": model(_image_for(features))}


@probe
def fpn_flow(submission, out_channels, features):
    """Gradients: of every parameter of the pyramid, and of each level with respect to c3, c4, c5, in both modes."""
    features = {level: feature.requires_grad_() for level, feature in features.items()}
    model, convolutions = _pyramid(submission, out_channels, features)
    # In train mode batch norm takes away the gradient of what it normalises, such as a bias: there only weights count.
    return {
        "eval": _flow(model.eval(), list(model.parameters()), features),
        "train": _flow(model.train(), [convolution.weight for convolution in convolutions], features),
    }


def _flow(model, parameters, features):
    outputs = model(_image_for(features))
    # Random sums, so that no gradient vanishes by symmetry.
    sums = {level: (output * torch.randn_like(output)).sum() for level, output in outputs.items()}
    gradients = torch.autograd.grad(sum(sums.values()), parameters, retain_graph=True, allow_unused=True)
    reach = {}
    for level, value in sums.items():
        wrt = torch.autograd.grad(value, list(features.values()), retain_graph=True, allow_unused=True)
        reach[level] = {name: _size(gradient) for name, gradient in zip(features, wrt, strict=True)}
    return {"parameters": [_size(gradient) for gradient in gradients], "reach": reach}


def _size(gradient) -> float:
    return 0.0 if gradient is None else float(gradient.abs().sum())


def _image_for(features):
    batch, _, height, width = features["c3"].shape
    return torch.zeros(batch, 3, height * 8, width * 8, dtype=features["c3"].dtype)


@probe
def locations_device(submission, arguments):
    """Ask for locations on a device that holds no numbers, and say on which device each level came."""
    try:
        locations = submission.get_fpn_location_coords(**arguments, device="meta")
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error).lower():
            raise
        return dict.fromkeys(arguments["shape_per_fpn_level"], "meta")  # it looked at numbers that are there, elsewhere
    return {level: str(coordinates.device) for level, coordinates in locations.items()}


def _head_convolutions(head):
    """The convolutions of the head by name: stems in order, then the three predictions."""
    named = {}
    for stem in ("stem_cls", "stem_box"):
        convolutions = [module for module in getattr(head, stem).modules() if isinstance(module, nn.Conv2d)]
        named.update({f"{stem}.{i}": convolution for i, convolution in enumerate(convolutions)})
    for name in ("pred_cls", "pred_box", "pred_ctr"):
        convolutions = [module for module in getattr(head, name).modules() if isinstance(module, nn.Conv2d)]
        if len(convolutions) != 1:
            raise SubmissionError(f"{name} should hold one convolution, it holds {len(convolutions)}")
        named[name] = convolutions[0]
    return named


@probe
def head_values(submission, num_classes, stem_channels, features, weights, biases):
    """Run the head with given weights. Without weights (shapes only) it keeps its own."""
    in_channels = features["p3"].shape[1]
    head = submission.FCOSPredictionNetwork(num_classes, in_channels, stem_channels)
    head.eval()
    head.to(features["p3"].dtype)
    _fill_lazy(head, features)
    shapes = {}
    with torch.no_grad():
        for name, convolution in _head_convolutions(head).items():
            shapes[name] = list(convolution.weight.shape)
            weight = weights.get(name)
            if weight is None or weight.shape != convolution.weight.shape:
                continue
            convolution.weight.copy_(weight)
            if convolution.bias is not None:
                convolution.bias.copy_(biases.get(name, torch.zeros_like(convolution.bias)))
        outputs = head(features)
    return {"convolutions": shapes, "outputs": list(outputs)}


@probe
def head_init(submission, num_classes, in_channels, stem_channels):
    """Statistics of the head's initial weights, before anything is trained."""
    head = submission.FCOSPredictionNetwork(num_classes, in_channels, stem_channels)
    _fill_lazy(head, {level: torch.zeros(1, in_channels, 4, 4) for level in ("p3", "p4", "p5")})
    named = _head_convolutions(head)
    stems = {name: convolution for name, convolution in named.items() if name.startswith("stem")}
    return {
        "stems": {name: _statistics(stem) for name, stem in stems.items()},
        "predictions": {name: _statistics(named[name]) for name in ("pred_cls", "pred_box", "pred_ctr")},
        "pred_cls_bias": named["pred_cls"].bias,
    }


def _statistics(convolution):
    weight, bias = convolution.weight.detach().double(), convolution.bias
    return {
        "mean": float(weight.mean()),
        "std": float(weight.std()),
        "fan_in": weight[0].numel(),
        "largest_bias": 0.0 if bias is None else float(bias.detach().abs().max()),
    }


def _detector(submission, num_classes):
    return submission.FCOS(num_classes=num_classes, fpn_channels=8, stem_channels=[12, 10])


@probe
def fcos_losses(submission, num_classes, steps):
    """Run the detector in train mode on some batches, one after the other, with prepared predictions.

    Each step is {"images", "gt_boxes", "predictions": [class, box, centerness]}; it gives the losses, their gradients
    with respect to the predictions, and the normaliser after the step.
    """
    predictions = [
        [{level: tensor.requires_grad_() for level, tensor in kind.items()} for kind in step["predictions"]]
        for step in steps
    ]
    FakeHead.script = predictions
    detector = _detector(submission, num_classes)
    detector.train()
    results = []
    for step, prepared in zip(steps, predictions, strict=True):
        losses = detector(step["images"], step["gt_boxes"])
        leaves = [tensor for kind in prepared for tensor in kind.values()]
        total = sum(loss.sum() for loss in losses.values())
        if total.requires_grad:
            gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        else:
            gradients = [None] * len(leaves)
        gradients = iter(
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        )
        results.append(
            {
                "losses": dict(losses),
                "gradients": [{level: next(gradients) for level in kind} for kind in prepared],
                "normalizer": float(detector._normalizer),  # as it is now, should it be changed in place
            }
        )
    return results


@probe
def fcos_eval(submission, num_classes, images, predictions, score_thresh, nms_thresh):
    """Run the detector in eval mode with its `inference` replaced by a recorder of what it was given.

    It also tells what backbone and head were built with.
    """
    FakeHead.script = [predictions]
    received = {}

    def recorder(self, *args, **kwargs):
        names = ["images", "locations_per_fpn_level", "pred_cls_logits", "pred_boxreg_deltas", "pred_ctr_logits"]
        names += ["test_score_thresh", "test_nms_thresh"]
        received.update(zip(names, args, strict=False))
        received.update(kwargs)
        return received["pred_boxreg_deltas"]["p5"][0], torch.zeros(0), torch.zeros(0)

    submission.FCOS.inference = recorder
    detector = _detector(submission, num_classes)
    detector.eval()
    with torch.no_grad():
        outputs = detector(images, test_score_thresh=score_thresh, test_nms_thresh=nms_thresh)
    received.pop("images", None)
    built_with = [part.built_with for part in detector.modules() if hasattr(part, "built_with")]
    return {"received": received, "returned": outputs[0], "built_with": built_with}


@probe
def inference(submission, num_classes, images, locations, predictions, thresholds):
    """Call `FCOS.inference` with prepared predictions. A broken `__init__` belongs to another task."""
    try:
        detector = _detector(submission, num_classes)
    except Exception:
        detector = submission.FCOS.__new__(submission.FCOS)
        nn.Module.__init__(detector)
        detector.num_classes = num_classes
        detector._normalizer = 150
    if not hasattr(detector, "backbone"):
        detector.backbone = submission.DetectorBackboneWithFPN(8)
    detector.eval()
    with torch.no_grad():
        outputs = detector.inference(images, locations, *predictions, **thresholds)
    return list(outputs)


def normalised(images):
    """Scale images (..., 3, H, W) uint8 as pretrained backbones expect them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255.0 - mean[:, None, None]) / std[:, None, None]


@probe
def overfit(submission, num_classes, images, gt_boxes, iterations, batch_size, learning_rate):
    """Train the submission's own detector on a few images (uint8).

    It gives the three losses of every iteration, and how large the first gradients of backbone and head are.
    """
    images, gt_boxes = normalised(images), gt_boxes.float()
    torch.set_flush_denormal(True)  # tiny gradients would make the CPU many times slower
    if isinstance(submission.FCOS, type):
        detector = submission.FCOS(num_classes=num_classes, fpn_channels=32, stem_channels=[32, 24])
    else:  # its task has lost points already: the class was replaced by a function that asks the trusted side
        head = submission.FCOSPredictionNetwork(num_classes, 32, [32, 24])
        detector = DetectorByRequest(submission.DetectorBackboneWithFPN(32), head, submission.FCOS)
    detector.train()
    optimizer = torch.optim.SGD(detector.parameters(), lr=learning_rate, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    history, first_gradients = [], {}
    for iteration in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (iteration + 1) / 20)  # warm-up: nothing is pretrained here
        chosen = torch.randint(len(images), (batch_size,), generator=generator)
        losses = detector(images[chosen], gt_boxes[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        for name in () if first_gradients else ("backbone", "pred_net"):
            parameters = getattr(detector, name).parameters()
            first_gradients[name] = sum(_size(parameter.grad) for parameter in parameters)
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        history.append([float(losses[name].detach()) for name in ("loss_cls", "loss_box", "loss_ctr")])
    return {"losses": torch.tensor(history), "first_gradients": first_gradients}
