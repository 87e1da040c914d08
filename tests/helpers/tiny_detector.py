"""The smallest detector and data set that the training and inference code can work with."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class TinyDetector(nn.Module):
    """Has what makes a run hard to repeat: batch norm, dropout, and a moving average outside the state dict."""

    def __init__(self, dropout=0.1):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(4, 4)
        self._normalizer = 2

    def forward(self, images, gt_boxes=None, test_score_thresh=None, test_nms_thresh=None):
        guess = self.head(self.features(images).mean(dim=(2, 3)))  # (B, 4)
        if not self.training:
            return self.inference(images, {}, {"p3": guess[:, None]}, {}, {}, test_score_thresh, test_nms_thresh or 0.5)
        self._normalizer = 0.9 * self._normalizer + 0.1 * (gt_boxes[..., 4] >= 0).sum().item() / len(images)
        loss = (guess - gt_boxes[:, 0, :4] / 32).abs().sum() / (len(images) * self._normalizer)
        return {"loss_cls": loss * 0.5, "loss_box": loss, "loss_ctr": guess.square().mean() * 0.1}

    def inference(self, images, locations, logits, deltas, centerness, test_score_thresh=0.3, test_nms_thresh=0.5):
        """The whole image and its first pixel, with scores that its brightness decides; only `images` is used."""
        assert len(images) == len(logits["p3"]) == 1
        height, width = images.shape[-2:]
        boxes = torch.tensor([[0.0, 0.0, width, height], [0.0, 0.0, 1.0, 1.0]], device=images.device)
        scores = torch.stack([images.mean().sigmoid(), images.mean().sigmoid() / 2])
        keep = scores > (0.3 if test_score_thresh is None else test_score_thresh)
        return boxes[keep], torch.tensor([0, 1])[keep], scores[keep]


class TinyImages(Dataset):
    """Random images that are shifted at random each time they are asked for."""

    def __init__(self, length=10, augment=True):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(length, 3, 32, 32, generator=generator)
        self.corners = torch.rand(length, 4, generator=generator) * 16
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        shift = torch.randn(1) * 0.1 if self.augment else torch.zeros(1)
        row = torch.cat([self.corners[index], torch.zeros(1)])
        return f"{index}.jpg", self.images[index] + shift, torch.stack([row, -torch.ones(5)])


def tiny_loader(length=10, batch_size=4, augment=True, **options):
    return DataLoader(TinyImages(length, augment), batch_size=batch_size, **options)
