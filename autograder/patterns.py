"""Known mistakes, recognised from the numbers: each pattern predicts what its mistake would have returned for the same inputs."""

import torch

from autograder.compare import Pattern

_ERRATUM = (
    "These are (row, column) pairs. A location is (x, y): x runs along the columns and changes fastest. With the order swapped "
    "a detector still trains, transposed, and loses about half of its mAP"
)


def _map(expected: dict, function) -> dict:
    return {key: function(value) for key, value in expected.items()}


def location_mistakes(inputs: dict, expected: dict) -> list[Pattern]:
    """Mistakes in `get_fpn_location_coords`; expected is {"p3": (L, 2), ...}."""
    arguments = inputs["arguments"]
    shapes, strides = arguments["shape_per_fpn_level"], arguments["strides_per_fpn_level"]

    def column_major():
        return {
            level: value.reshape(*shapes[level][-2:], 2).transpose(0, 1).reshape(-1, 2)
            for level, value in expected.items()
        }

    def shifted(share):
        return {level: value + share * strides[level] for level, value in expected.items()}

    return [
        (_ERRATUM, lambda: _map(expected, lambda value: value.flip(1))),
        (_ERRATUM, lambda: _map(column_major(), lambda value: value.flip(1))),
        (
            "The locations are listed column by column; features are flattened row by row, so x must change fastest",
            column_major,
        ),
        ("The locations are the corners of the cells, not their centres: half a stride is missing", lambda: shifted(-0.5)),
        ("The locations lie half a stride too far right and down", lambda: shifted(0.5)),
        (
            "The stride is missing: these are cells, not pixels",
            lambda: {level: value / strides[level] for level, value in expected.items()},
        ),
        (
            "The half is added after the multiplication by the stride, not before",
            lambda: {level: value - 0.5 * strides[level] + 0.5 for level, value in expected.items()},
        ),
    ]


def delta_mistakes(inputs: dict, expected: torch.Tensor) -> list[Pattern]:
    """Mistakes in `fcos_get_deltas_from_locations`; expected is (N, 4)."""
    arguments = inputs["arguments"]
    stride, boxes = arguments["stride"], arguments["gt_boxes"][:, :4]
    background = (boxes == -1).all(dim=1, keepdim=True)

    def raw():
        x, y = arguments["locations"].double().unbind(1)
        x1, y1, x2, y2 = boxes.double().unbind(1)
        return torch.stack([x - x1, y - y1, x2 - x, y2 - y], dim=1) / stride

    def keeping_background(values):
        return torch.where(background, expected, values)

    return [
        ("The division by the stride is missing", lambda: keeping_background(expected * stride)),
        ("Background rows (boxes of -1) must give -1; here they are computed like any other box", raw),
        (
            "Background rows are -1 divided by the stride; set them to -1 after the division",
            lambda: torch.where(background, expected / stride, expected),
        ),
        ("The signs are turned: distances from a location inside a box are positive", lambda: keeping_background(-expected)),
        (
            "The order is wrong: columns are left, top, right, bottom",
            lambda: keeping_background(expected[:, [1, 0, 3, 2]]),
        ),
        ("The order is wrong: columns are left, top, right, bottom", lambda: keeping_background(expected[:, [0, 2, 1, 3]])),
        ("Left and right, top and bottom are swapped", lambda: keeping_background(expected[:, [2, 3, 0, 1]])),
    ]


def apply_mistakes(inputs: dict, expected: torch.Tensor) -> list[Pattern]:
    """Mistakes in `fcos_apply_deltas_to_locations`; expected is (N, 4)."""
    arguments = inputs["arguments"]
    stride = arguments["stride"]
    deltas, locations = arguments["deltas"].double(), arguments["locations"].double()
    x, y = locations.unbind(1)

    def boxes(ltrb):
        left, top, right, bottom = ltrb.unbind(1)
        return torch.stack([x - left, y - top, x + right, y + bottom], dim=1)

    clipped = deltas.clamp(min=0)
    return [
        ("The multiplication by the stride is missing", lambda: boxes(clipped)),
        ("Negative deltas must count as 0: a box contains its location", lambda: boxes(deltas * stride)),
        (
            "Negative deltas count as 0 one by one, not only in rows where all are negative",
            lambda: boxes(torch.where((deltas < 0).all(dim=1, keepdim=True), 0.0, deltas) * stride),
        ),
        ("The signs are turned: left and top are subtracted, right and bottom are added", lambda: boxes(-clipped * stride)),
        (
            "This is (x, y, width, height); boxes are (x1, y1, x2, y2)",
            lambda: torch.cat([expected[:, :2], expected[:, 2:] - expected[:, :2]], dim=1),
        ),
        ("The x and y of the location are swapped", lambda: boxes(clipped * stride) + (locations.flip(1) - locations).repeat(1, 2)),
        ("The locations are scaled by the stride as well; they are pixels already", lambda: expected + (locations * (stride - 1)).repeat(1, 2)),
    ]


def centerness_mistakes(inputs: dict, expected: torch.Tensor) -> list[Pattern]:
    """Mistakes in `fcos_make_centerness_targets`; expected is (N,)."""
    deltas = inputs["arguments"]["deltas"].double()
    background = (deltas == -1).all(dim=1)
    left, top, right, bottom = deltas.unbind(1)

    def masked(values):
        return torch.where(background, -1.0, values)

    def ratio(a, b):
        return torch.minimum(a, b) / torch.maximum(a, b)

    return [
        ("The square root of equation 3 is missing", lambda: masked(expected**2)),
        (
            "Background rows must give -1; equation 3 gives 1 for them",
            lambda: torch.where(background, 1.0, expected),
        ),
        ("Background rows must give -1, not 0", lambda: torch.where(background, 0.0, expected)),
        (
            "Left is paired with right, and top with bottom",
            lambda: masked((ratio(left, top) * ratio(right, bottom)).sqrt()),
        ),
        (
            "Maximum and minimum are swapped: centerness is at most 1",
            lambda: masked(1 / expected),
        ),
        ("The two ratios are multiplied, not added", lambda: masked((ratio(left, right) + ratio(top, bottom)).sqrt())),
    ]


def head_mistakes(inputs: dict, expected: dict) -> list[Pattern]:
    """Mistakes in the head's output; expected holds the three dicts."""
    features = inputs["features"]

    def every(function):
        return [{level: function(value, features[level]) for level, value in kind.items()} for kind in expected["outputs"]]

    def scrambled(value, feature):
        # What `view(B, H*W, C)` makes of (B, C, H, W): the right shape, other numbers.
        return value.transpose(1, 2).reshape(value.shape)

    def channels_first(value, feature):
        return value.transpose(1, 2)

    def unflattened(value, feature):
        return value.transpose(1, 2).reshape(value.shape[0], value.shape[2], *feature.shape[-2:])

    def column_major(value, feature):
        batch, _, channels = value.shape
        height, width = feature.shape[-2:]
        return value.reshape(batch, height, width, channels).transpose(1, 2).reshape(batch, -1, channels)

    classes, boxes, centerness = expected["outputs"]
    return [
        ("The numbers are scrambled: `view` without `permute` mixes channels and locations", lambda: every(scrambled)),
        ("The dimensions are (B, channels, locations); locations come before channels", lambda: every(channels_first)),
        ("The maps are not flattened: (B, channels, H, W) must become (B, H*W, channels)", lambda: every(unflattened)),
        ("The locations are listed column by column; they must be listed row by row", lambda: every(column_major)),
        (
            "A sigmoid is applied already; the head returns logits",
            lambda: [_map(classes, torch.sigmoid), boxes, centerness],
        ),
        (
            "A sigmoid is applied already; the head returns logits",
            lambda: [_map(classes, torch.sigmoid), boxes, _map(centerness, torch.sigmoid)],
        ),
        ("The deltas have passed a ReLU; the head returns them as they are", lambda: [classes, _map(boxes, torch.relu), centerness]),
        ("The dicts are in another order: class logits, box deltas, centerness logits", lambda: [classes, centerness, boxes]),
    ]


def nms_mistakes(inputs: dict, expected: torch.Tensor) -> list[Pattern]:
    """Mistakes in `nms`; expected is (N_keep,)."""
    scores = inputs["arguments"]["scores"]
    everything = scores.argsort(descending=True)
    return [
        ("Nothing was removed: boxes that overlap a kept box of higher score must go", lambda: everything),
        ("The order is wrong: highest score first", lambda: expected.flip(0)),
        ("The order is wrong: highest score first, these are sorted by index", lambda: expected.sort().values),
        ("These are the boxes themselves; return their indices", lambda: inputs["arguments"]["boxes"][expected]),
    ]


def loss_mistakes(name: str, expected: float, count: dict[str, float]) -> list[Pattern]:
    """Mistakes in one loss of `FCOS.forward`.

    Args:
        name: of the loss.
        expected: its value.
        count: {"batch", "normalizer", "locations", "foreground"} of the step.
    """
    value = torch.as_tensor(expected, dtype=torch.float64)
    normalizer, batch = count["normalizer"], count["batch"]
    patterns = [
        ("The division by the normaliser and the batch size is missing", lambda: value * normalizer * batch),
        ("The division by the batch size is missing", lambda: value * batch),
        ("The division by the normaliser is missing", lambda: value * normalizer),
        ("The normaliser must be updated before the division, not after it", lambda: value * normalizer / count["previous"]),
        (
            "The mean was taken where the sum is asked for",
            lambda: value * normalizer * batch / count["elements"],
        ),
    ]
    if name == "loss_box":
        patterns.insert(0, ("The factor 0.25 is missing", lambda: value * 4))
    return patterns


def match_mistakes(inputs: dict, expected: dict) -> list[Pattern]:
    """Mistakes in `fcos_match_locations_to_gt`; expected is {"p3": (L, 5), ...}."""
    return [
        ("Only the coordinates are returned; the class column is missing", lambda: _map(expected, lambda v: v[:, :4])),
        (
            "Background rows must be -1 in all columns",
            lambda: _map(expected, lambda v: torch.where(v[:, 4:] == -1, torch.zeros_like(v), v)),
        ),
    ]
