"""Run a trained detector over many images: detections for the evaluation, or pictures to look at."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, Subset

from helpers.dataset import LARGEST_STRIDE, clip_boxes
from helpers.progress import progress_bar


def detect(
    detector: nn.Module,
    data: Iterable,
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    device: str | torch.device | None = None,
    batch_size: int = 1,
    progress: bool = True,
) -> dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Detect the objects of every image.

    Args:
        detector: in eval mode `detector(image (1, 3, H, W), test_score_thresh=, test_nms_thresh=)` returns
            (boxes (N, 4), classes (N,), scores (N,)). It is moved to `device`; its train or eval mode comes back.
        data: a data set or list of items (path, image (3, H, W), ...), or a loader of batches (paths, images
            (B, 3, H, W), ...) in the order of its data set. Images may differ in size; what
            `collate` has added to one because of the others in its batch is taken off again.
        score_thresh: detections with a score up to this are left out. Low, since average precision looks at all
            scores; a threshold of 0.4 cuts the curve off.
        nms_thresh: overlap above which the lower of two boxes of one class is left out.
        device: where to compute; `None` is where the detector is.
        batch_size: images of equal size that go through the network together, with the same result. Above 1 the
            detector must hand a batch to its method `inference`, as `FCOS.forward` does.
        progress: show a bar.

    Returns:
        number of the image, in the order of `data` -> (boxes, classes, scores) on the CPU: predictions for
        `evaluate_voc`. Every image is there, also without a detection. Where the data set knows the size of an image
        without its padding (`content_size`), boxes are clipped to that, and those in the padding left out.

    Raises:
        ValueError: the loader shuffles or leaves images out, so that the numbers would mean nothing; or `batch_size`
            is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if isinstance(data, DataLoader) and not _in_order(data):
        raise ValueError(
            "the loader shuffles, leaves out its last images or has a sampler of its own, so that detections could not "
            "be told apart by number: use shuffle=False, drop_last=False, and a Subset for a part of the images"
        )
    device = next(detector.parameters()).device if device is None else torch.device(device)
    dataset = data.dataset if isinstance(data, DataLoader) else data
    found = {}
    waiting = defaultdict(list)  # shape -> images of that shape
    with _ready_for_inference(detector, device):

        def run(batch):
            results = _detect_batch(detector, [image for _, image in batch], score_thresh, nms_thresh, device)
            for (n, _), (boxes, classes, scores) in zip(batch, results):
                found[n] = _inside(content_size(dataset, n), boxes.cpu(), classes.cpu(), scores.cpu())

        for n, (_, image) in enumerate(_images(data, progress)):
            if (size := content_size(dataset, n)) is not None:
                height, width = (-(-side // LARGEST_STRIDE) * LARGEST_STRIDE for side in size)
                image = image[:, :height, :width]
            batch = waiting[image.shape]
            batch.append((n, image))
            if len(batch) == batch_size:
                run(waiting.pop(image.shape))
        for batch in waiting.values():
            run(batch)
    return dict(sorted(found.items()))


def ground_truth_of(dataset) -> dict[int, tuple]:
    """Objects of every image, under the same numbers as `detect` gives detections.

    Args:
        dataset: with `ground_truth(index)` -> (boxes (G, 4), classes (G,), difficult (G,)), or a `Subset` of one.

    Returns:
        number of the image -> what its `ground_truth` says.
    """
    whole, indices = whole_and_indices(dataset)
    return {n: whole.ground_truth(index) for n, index in enumerate(range(len(whole)) if indices is None else indices)}


def inference_with_detector(
    detector: nn.Module,
    test_loader: Iterable,
    idx_to_class: dict[int, str],
    score_thresh: float | None = None,
    nms_thresh: float | None = None,
    output_dir: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> list:
    """Draw detections and ground truth of every image; unlike `detect` this is for people.

    Args:
        detector: as in `detect`.
        test_loader: batches of one: (paths, images (1, 3, H, W), gt_boxes (1, M, 5)).
        idx_to_class: class index -> name.
        score_thresh: detections with a score up to this are not drawn; `None` leaves it to the detector.
        nms_thresh: as in `detect`; `None` leaves it to the detector.
        output_dir: write each picture there, named as its image, instead of returning it.
        dtype: of weights and images.
        device: where to compute.

    Returns:
        One matplotlib figure for each image, also for those without a detection; none when they are written.
    """
    from helpers.visualize import detection_visualizer

    thresholds = {"test_score_thresh": score_thresh, "test_nms_thresh": nms_thresh}
    thresholds = {name: value for name, value in thresholds.items() if value is not None}
    figures = []
    detector.to(dtype)
    with _ready_for_inference(detector, torch.device(device)):
        for paths, images, gt_boxes in test_loader:
            boxes, classes, scores = detector(images.to(device, dtype), **thresholds)
            detections = torch.cat([boxes, classes[:, None].to(boxes), scores[:, None].to(boxes)], dim=1)  # (N, 6)
            figure = detection_visualizer(images[0], idx_to_class, bbox=gt_boxes[0], pred=detections.cpu().float())
            if output_dir is None:
                figures.append(figure)
                continue
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            figure.savefig(Path(output_dir) / f"{Path(paths[0]).stem}.png")
    return figures


def content_size(dataset, n: int) -> tuple[int, int] | None:
    """Height and width of an image without its padding.

    Args:
        dataset: one that has a method of this name, a `Subset` of one, or any other.
        n: which image.

    Returns:
        The size in pixels, or `None` where the data set does not know it.
    """
    if isinstance(dataset, Subset):
        return content_size(dataset.dataset, dataset.indices[n])
    return dataset.content_size(n) if hasattr(dataset, "content_size") else None


def whole_and_indices(dataset) -> tuple:
    """The data set that a `Subset`, or one of a `Subset`, is part of, and which images; (itself, `None`) for others."""
    indices = None
    while isinstance(dataset, Subset):
        indices = dataset.indices if indices is None else [dataset.indices[n] for n in indices]
        dataset = dataset.dataset
    return dataset, indices


def in_file_pixels(dataset, boxes: Mapping[int, tuple]) -> dict[int, tuple]:
    """Predictions or ground truth in pixels of the image files, so that sizes do not depend on `image_size`.

    Args:
        dataset: one with `file_scale(index)` -> (4,), a `Subset` of one, or any other.
        boxes: number of the image -> (boxes (N, 4), ...).

    Returns:
        The same with scaled boxes; unchanged where the data set does not know its files.
    """
    whole, indices = whole_and_indices(dataset)
    if not hasattr(whole, "file_scale"):
        return dict(boxes)
    scales = {n: whole.file_scale(n if indices is None else indices[n]) for n in boxes}
    return {n: (torch.as_tensor(one).double() * scales[n], *rest) for n, (one, *rest) in boxes.items()}


def _in_order(loader: DataLoader) -> bool:
    """Whether a loader gives every image of its data set, one after the other."""
    if isinstance(loader.dataset, IterableDataset):  # it has no numbers: its order is what it gives
        return not loader.drop_last
    batches, sampler = loader.batch_sampler, loader.sampler
    if batches is not None:
        if type(batches) is not BatchSampler or batches.drop_last:
            return False
        sampler = batches.sampler  # of one that the user has made `loader.sampler` says nothing
    return isinstance(sampler, SequentialSampler) and len(sampler) == len(loader.dataset)


@contextlib.contextmanager
def _ready_for_inference(detector: nn.Module, device: torch.device) -> Iterator[None]:
    was_training = {module: module.training for module in detector.modules()}  # frozen batch norms differ
    detector.to(device).eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in was_training.items():
            module.training = training


def _images(data: Iterable, progress: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """(path, image) one by one, of items or of batches."""
    # A data set is asked by index: one without an IndexError at its end would go on for ever.
    by_index = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    items = (data[n] for n in range(len(data))) if by_index else data
    total = len(data) if hasattr(data, "__len__") else None
    for path, image, *_ in progress_bar(items, total=total, desc="detecting", unit="image", disable=not progress):
        if image.dim() == 3:
            yield path, image
        else:
            yield from zip(path, image)


def _detect_batch(detector, images, score_thresh, nms_thresh, device) -> list[tuple]:
    batch = torch.stack(images).to(device)  # (B, 3, H, W)
    thresholds = {"test_score_thresh": score_thresh, "test_nms_thresh": nms_thresh}
    if len(batch) == 1:
        return [detector(batch, **thresholds)]

    # `inference` takes one image, but what is slow comes before it: the network runs once, `inference` for each image.
    def inference_of_each(*args, **options):
        return [
            one_image(*(_of_image(b, a) for a in args), **{name: _of_image(b, a) for name, a in options.items()})
            for b in range(len(batch))
        ]

    one_image = detector.inference
    detector.inference = inference_of_each
    try:
        return detector(batch, **thresholds)
    finally:
        del detector.inference  # the method of the class shows again


def _of_image(b: int, argument):
    """The part of an argument of `inference` that belongs to image b: of images (B, 3, H, W) and maps (B, L, ...)."""
    if isinstance(argument, dict):
        return {level: _of_image(b, values) for level, values in argument.items()}
    # Locations (L, 2) and thresholds are the same for all images.
    return argument[b : b + 1] if isinstance(argument, torch.Tensor) and argument.dim() >= 3 else argument


def _inside(size: tuple[int, int] | None, boxes, classes, scores) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detections clipped to an image, without those of which nothing is left."""
    if size is None:
        return boxes, classes, scores
    boxes, kept = clip_boxes(boxes, size, min_side=0)
    return boxes[kept], classes[kept], scores[kept]
