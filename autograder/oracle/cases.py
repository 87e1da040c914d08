"""Inputs of the graded tests, one builder a case. `kit reference` stores public and fixed hidden ones; hidden tests
also build some afresh, with a generator that is seeded by the submission.

A builder takes a `torch.Generator` and returns the probe's name and inputs. Boxes are continuous, so that no answer
hangs on a tie.
"""

import torch

STRIDES = {"p3": 8, "p4": 16, "p5": 32}
CASES = {}


def case(visibility: str):
    """Register a builder: "public", "hidden" (stored) or "fresh" (hidden, built for each submission)."""

    def register(builder):
        CASES[builder.__name__] = (visibility, builder)
        return builder

    return register


def uniform(generator, *shape, low=0.0, high=1.0, dtype=torch.float32):
    """Uniform random numbers in [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)


def normal(generator, *shape, dtype=torch.float32):
    """Standard normal random numbers."""
    return torch.randn(shape, generator=generator, dtype=dtype)


def random_boxes(generator, count, height, width, smallest=10.0, dtype=torch.float32):
    """(count, 4) boxes inside an image, both sides at least `smallest` pixels."""
    x, y = (smallest + (size - smallest) * torch.rand(count, generator=generator) for size in (width, height))
    left = (width - x) * torch.rand(count, generator=generator)
    top = (height - y) * torch.rand(count, generator=generator)
    return torch.stack([left, top, left + x, top + y], dim=1).to(dtype)


def shapes_for(height, width, batch=1, channels=8):
    """{"p3": (B, C, H, W), ...} for an image whose sides are multiples of 32."""
    return {level: [batch, channels, height // stride, width // stride] for level, stride in STRIDES.items()}


def locations_for(height, width, dtype=torch.float32):
    """{"p3": (L, 2), ...} written out cell by cell: the definition itself, not the solution."""
    return {
        level: torch.tensor(
            [
                [stride * (column + 0.5), stride * (row + 0.5)]
                for row in range(height // stride)
                for column in range(width // stride)
            ],
            dtype=dtype,
        )
        for level, stride in STRIDES.items()
    }


def predictions_for(generator, height, width, num_classes, batch=1, dtype=torch.float32):
    """Random [class logits, box deltas, centerness logits], dicts of (B, L, .), as the head returns them."""
    counts = {level: (height // stride) * (width // stride) for level, stride in STRIDES.items()}
    return [
        {level: normal(generator, batch, count, channels, dtype=dtype) for level, count in counts.items()}
        for channels in (num_classes, 4, 1)
    ]


def function_call(function, **arguments):
    """Inputs of the probe `call`."""
    return "call", {"function": function, "arguments": arguments}


# --- 1.1 feature pyramid


@case("public")
def fpn_square(generator):
    """A pyramid of 64 channels on two square images."""
    return "fpn_shapes", {"out_channels": 64, "size": [2, 3, 224, 224]}


@case("hidden")
def fpn_off_square(generator):
    """A pyramid of 20 channels on one off-square image."""
    return "fpn_shapes", {"out_channels": 20, "size": [1, 3, 64, 160]}


def _fpn_values(generator, out_channels, height, width, batch, dtype=torch.float32):
    channels = {"c3": 64, "c4": 160, "c5": 400}  # of RegNetX-400MF
    features = {
        level: normal(generator, batch, count, height // stride, width // stride, dtype=dtype)
        for (level, count), stride in zip(channels.items(), STRIDES.values(), strict=True)
    }
    # Scaled by 1/sqrt(fan-in), so that all levels count alike.
    laterals = {
        level: normal(generator, out_channels, count, 1, 1, dtype=dtype) / count**0.5
        for level, count in channels.items()
    }
    output = normal(generator, out_channels, out_channels, 3, 3, dtype=dtype) / (9 * out_channels) ** 0.5
    return "fpn_values", {"features": features, "lateral_weights": laterals, "output_weight": output}


@case("public")
def fpn_merge(generator):
    """Given features and weights on a square image."""
    return _fpn_values(generator, 16, 64, 64, batch=2)


@case("fresh")
def fpn_merge_off_square(generator):
    """Given features and weights on an off-square image, with another number of channels."""
    return _fpn_values(generator, 24, 64, 96, batch=1)


@case("fresh")
def fpn_flow(generator):
    """Gradients on an off-square image."""
    _, inputs = _fpn_values(generator, 16, 64, 96, batch=1)
    return "fpn_flow", {"out_channels": 16, "features": inputs["features"]}


# --- 1.2 location coordinates


@case("public")
def locations_off_square(generator):
    """An image of 32 x 96 pixels: p3 has 4 rows and 12 columns."""
    return function_call(
        "get_fpn_location_coords", shape_per_fpn_level=shapes_for(32, 96), strides_per_fpn_level=STRIDES
    )


@case("public")
def locations_square(generator):
    """An image of 224 x 224 pixels."""
    return function_call(
        "get_fpn_location_coords", shape_per_fpn_level=shapes_for(224, 224), strides_per_fpn_level=STRIDES
    )


@case("fresh")
def locations_any(generator):
    """Random map sizes, one beyond what half precision counts, and unusual strides; higher than wide, and wider."""
    sizes = torch.randint(2, 9, (3,), generator=generator).tolist()
    shapes = {"p3": [2, 4, sizes[0] + 5, sizes[0]]}
    shapes |= {"p4": [2, 4, sizes[1], sizes[1] + 3], "p5": [2, 4, 1, 300 + sizes[2]]}
    return function_call(
        "get_fpn_location_coords", shape_per_fpn_level=shapes, strides_per_fpn_level={"p3": 4, "p4": 10, "p5": 64}
    )


@case("fresh")
def locations_device(generator):
    """The same on a device that is asked for."""
    _, inputs = locations_any(generator)
    return "locations_device", {"arguments": inputs["arguments"]}


@case("fresh")
def locations_float64(generator):
    """The same in float64, when that is asked for."""
    _, inputs = locations_any(generator)
    return function_call("get_fpn_location_coords", **inputs["arguments"], dtype=torch.float64)


# --- 2.1 prediction head


def _head_values(generator, num_classes, in_channels, stem_channels, sizes, batch, dtype=torch.float32, filled=True):
    features = {
        level: normal(generator, batch, in_channels, height, width, dtype=dtype)
        for level, (height, width) in sizes.items()
    }
    weights, biases = {}, {}
    if filled:
        for stem in ("stem_cls", "stem_box"):
            previous = in_channels
            for i, channels in enumerate(stem_channels):
                # Their biases stay 0: a stem with batch norm may have none.
                weights[f"{stem}.{i}"] = (
                    normal(generator, channels, previous, 3, 3, dtype=dtype) / (9 * previous) ** 0.5
                )
                previous = channels
        for name, channels in (("pred_cls", num_classes), ("pred_box", 4), ("pred_ctr", 1)):
            weights[name] = (
                normal(generator, channels, stem_channels[-1], 3, 3, dtype=dtype) / (9 * stem_channels[-1]) ** 0.5
            )
            biases[name] = normal(generator, channels, dtype=dtype)
    return "head_values", {
        "num_classes": num_classes,
        "stem_channels": stem_channels,
        "features": features,
        "weights": weights,
        "biases": biases,
    }


@case("public")
def head_shapes(generator):
    """20 classes, stems of [64, 64], square maps, the head's own weights."""
    sizes = {"p3": (4, 4), "p4": (2, 2), "p5": (1, 1)}
    return _head_values(generator, 20, 16, [64, 64], sizes, batch=2, filled=False)


@case("public")
def head_values(generator):
    """5 classes, stems of [16, 16], given weights."""
    return _head_values(generator, 5, 16, [16, 16], {"p3": (4, 6), "p4": (2, 3), "p5": (1, 2)}, batch=2)


@case("public")
def head_init(generator):
    """Initial values of a head for 20 classes."""
    return "head_init", {"num_classes": 20, "in_channels": 64, "stem_channels": [64, 64]}


@case("fresh")
def head_stems_narrowing(generator):
    """Stems of [24, 12] on features of 16 channels."""
    return _head_values(generator, 5, 16, [24, 12], {"p3": (4, 4), "p4": (2, 2), "p5": (1, 1)}, batch=1)


@case("fresh")
def head_stems_single(generator):
    """Stems of one layer."""
    return _head_values(generator, 5, 8, [12], {"p3": (4, 4), "p4": (2, 2), "p5": (1, 1)}, batch=1)


@case("fresh")
def head_stems_deep(generator):
    """Stems of four layers."""
    return _head_values(generator, 5, 8, [8, 16, 8, 12], {"p3": (4, 4), "p4": (2, 2), "p5": (1, 1)}, batch=1)


@case("fresh")
def head_general(generator):
    """3 classes, off-square maps, float64."""
    sizes = {"p3": (3, 8), "p4": (5, 2), "p5": (1, 3)}
    return _head_values(generator, 3, 12, [12, 12], sizes, batch=3, dtype=torch.float64)


# --- 2.2 deltas, 2.3 apply, 2.4 centerness


def _inside(generator, boxes):
    """One random location well inside each box."""
    share = uniform(generator, len(boxes), 2, low=0.05, high=0.95, dtype=boxes.dtype)
    return boxes[:, :2] + share * (boxes[:, 2:4] - boxes[:, :2])


def _classes(generator, count, dtype=torch.float32):
    return torch.randint(0, 20, (count, 1), generator=generator).to(dtype)


def _deltas_call(generator, count, stride, background=(), columns=5, dtype=torch.float32):
    boxes = random_boxes(generator, count, 200, 300, dtype=dtype)
    locations = _inside(generator, boxes)
    boxes = torch.cat([boxes, _classes(generator, count, dtype)], dim=1)[:, :columns]
    boxes[list(background)] = -1
    return function_call("fcos_get_deltas_from_locations", locations=locations, gt_boxes=boxes.clone(), stride=stride)


@case("public")
def deltas(generator):
    """Eight locations, each inside its box, stride 8."""
    return _deltas_call(generator, 8, stride=8)


@case("public")
def deltas_background(generator):
    """Eight locations, four of them background."""
    return _deltas_call(generator, 8, stride=8, background=(1, 4, 5, 7))


@case("fresh")
def deltas_many(generator):
    """A thousand locations, some background, some outside of their boxes, stride 32."""
    probe, inputs = _deltas_call(generator, 1000, stride=32, background=tuple(range(0, 1000, 7)))
    inputs["arguments"]["locations"][1::7] += 300  # beyond every box: right and bottom are negative
    return probe, inputs


@case("fresh")
def deltas_float64(generator):
    """The same in float64 with a stride that is no power of two."""
    return _deltas_call(generator, 50, stride=12, background=(3, 9), dtype=torch.float64)


@case("fresh")
def deltas_four_columns(generator):
    """Boxes without a class column, some of them background."""
    return _deltas_call(generator, 40, stride=16, background=(0, 5, 6, 31), columns=4)


def _apply_call(generator, count, stride, deltas, dtype=torch.float32):
    locations = uniform(generator, count, 2, low=40, high=260, dtype=dtype)
    return function_call("fcos_apply_deltas_to_locations", deltas=deltas, locations=locations, stride=stride)


@case("public")
def apply(generator):
    """Eight locations with positive deltas, stride 8."""
    return _apply_call(generator, 8, 8, uniform(generator, 8, 4, low=0.2, high=5))


@case("public")
def apply_negative(generator):
    """Rows of negative deltas: the box shrinks to its location."""
    values = uniform(generator, 6, 4, low=0.2, high=5)
    values[[1, 4]] *= -1
    return _apply_call(generator, 6, 8, values)


@case("fresh")
def apply_many(generator):
    """A thousand locations, stride 32."""
    return _apply_call(generator, 1000, 32, uniform(generator, 1000, 4, low=0.1, high=8))


@case("fresh")
def apply_float64(generator):
    """The same in float64 with a stride that is no power of two."""
    return _apply_call(
        generator, 50, 12, uniform(generator, 50, 4, low=0.1, high=8, dtype=torch.float64), dtype=torch.float64
    )


@case("fresh")
def apply_mixed(generator):
    """Rows where each delta by itself is positive or negative."""
    return _apply_call(generator, 200, 16, 4 * normal(generator, 200, 4))


def _centerness_call(values):
    return function_call("fcos_make_centerness_targets", deltas=values)


@case("public")
def centerness(generator):
    """Eight locations inside their boxes."""
    return _centerness_call(uniform(generator, 8, 4, low=0.2, high=5))


@case("public")
def centerness_background(generator):
    """Eight locations, three of them background."""
    values = uniform(generator, 8, 4, low=0.2, high=5)
    values[[0, 3, 6]] = -1
    return _centerness_call(values)


@case("fresh")
def centerness_many(generator):
    """A thousand locations over three orders of magnitude, some background."""
    values = 10 ** uniform(generator, 1000, 4, low=-2, high=1)
    values[::9] = -1
    return _centerness_call(values)


@case("fresh")
def centerness_float64(generator):
    """The same in float64."""
    return _centerness_call(10 ** uniform(generator, 60, 4, low=-2, high=1, dtype=torch.float64))
