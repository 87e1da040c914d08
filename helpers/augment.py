"""Random views of a training image, with its boxes: torchvision's transforms, put together for detection."""

import torch


class Augmentation:
    """Scale jitter and random crop, mirroring, and colour jitter, in this order.

    Args:
        crops: whether the result is a random square of `image_size`, or has the size of the input.
        steps: transforms of `torchvision.transforms.v2`.
    """

    def __init__(self, crops: bool, steps: list):
        from torchvision.transforms import v2

        self.crops = crops
        self.transform = v2.Compose(steps)

    @classmethod
    def create(
        cls,
        image_size: int,
        hflip: float = 0.0,
        scale_jitter: tuple[float, float] | None = None,
        random_crop: bool = False,
        color_jitter: float = 0.0,
    ) -> "Augmentation | None":
        """Choose the transforms; `VOC2007DetectionTiny` explains the arguments.

        Returns:
            `None` when nothing is asked for.

        Raises:
            ValueError: an option is out of its range.
        """
        if not 0 <= hflip <= 1:
            raise ValueError(f"hflip is a probability, 0 to 1, not {hflip}")
        if not 0 <= color_jitter <= 1:
            raise ValueError(f"color_jitter must lie in 0 to 1, not {color_jitter}")
        if scale_jitter is not None and not _is_range(scale_jitter):
            raise ValueError(
                f"scale_jitter is (smallest, largest) factor on the size, in 0.1 to 10, not {scale_jitter}"
            )
        if not (hflip or scale_jitter or random_crop or color_jitter):
            return None

        from torchvision.transforms import v2

        steps = []
        if scale_jitter:
            smallest, largest = (round(factor * image_size) for factor in scale_jitter)
            steps.append(v2.RandomResize(smallest, largest + 1, antialias=True))
        crops = random_crop or scale_jitter is not None
        if crops:
            # An image that was made smaller than the square gets a border of about ImageNet's mean colour.
            steps.append(v2.RandomCrop(image_size, pad_if_needed=True, fill=(124, 116, 104)))
        if hflip:
            steps.append(v2.RandomHorizontalFlip(hflip))
        if color_jitter:
            # Not hue: it takes four times as long as the other three together.
            steps.append(v2.ColorJitter(brightness=color_jitter, contrast=color_jitter, saturation=color_jitter))
        return cls(crops, steps)

    def __call__(self, image: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one view from PyTorch's global generator.

        Args:
            image: (3, h, w) uint8.
            boxes: (G, 4) in pixels.

        Returns:
            The image, uint8, and its boxes (G, 4) in the same order, those outside of a crop with no area.
        """
        from torchvision import tv_tensors

        image, boxes = self.transform(
            tv_tensors.Image(image), tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[1:])
        )
        return image.as_subclass(torch.Tensor), boxes.as_subclass(torch.Tensor)


def _is_range(factors) -> bool:
    """Whether these are two numbers in order; a configuration file may hold any list."""
    numbers = len(factors) == 2 and all(isinstance(factor, (int, float)) for factor in factors)
    return numbers and 0.1 <= factors[0] <= factors[1] <= 10
