"""Detections of many images: complete, in order, the same in batches; and pictures of them."""

import pytest
import torch
from tiny_detector import TinyDetector, tiny_loader
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset, SubsetRandomSampler

from helpers.dataset import collate
from helpers.evaluation import evaluate_voc
from helpers.inference import content_size, detect, ground_truth_of, inference_with_detector, whole_and_indices

SIZES = [(32, 64), (64, 32), (32, 64), (32, 32), (32, 64)]


class UnequalImages:
    """Images of several sizes, number n of brightness n / 4, with ten pixels of padding below."""

    def __len__(self):
        return len(SIZES)

    def __getitem__(self, n):
        if not 0 <= n < len(self):
            raise RuntimeError("asked for an image that is not there")
        return f"{n}.jpg", torch.full((3, *SIZES[n]), n / 4), torch.tensor([[0.0, 0.0, *SIZES[n][::-1], 0.0]])

    def content_size(self, n):
        return SIZES[n][0] - 10, SIZES[n][1]

    def ground_truth(self, n):
        height, width = self.content_size(n)
        return torch.tensor([[0.0, 0.0, width, height]]), torch.tensor([0]), torch.tensor([n == 4])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_images_of_unequal_size_come_back_in_order(batch_size):
    found = detect(TinyDetector(), UnequalImages(), batch_size=batch_size, progress=False)
    assert list(found) == [0, 1, 2, 3, 4]
    for n, (boxes, classes, scores) in found.items():
        height, width = SIZES[n]
        assert boxes.tolist() == [[0, 0, width, height - 10], [0, 0, 1, 1]]  # without the padding
        assert classes.tolist() == [0, 1]
        brightness = torch.tensor(n / 4).sigmoid()
        torch.testing.assert_close(scores, torch.stack([brightness, brightness / 2]))


def test_batches_need_the_detector_to_stay_as_it_was():
    detector = TinyDetector()
    detect(detector, UnequalImages(), batch_size=4, progress=False)
    assert "inference" not in vars(detector)
    assert detector.training
    assert torch.is_grad_enabled()


def test_frozen_batch_norm_stays_frozen():
    detector = TinyDetector()
    detector.features[1].eval()
    detect(detector, UnequalImages(), progress=False)
    assert detector.training
    assert not detector.features[1].training


def test_batch_without_images_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        detect(TinyDetector(), UnequalImages(), batch_size=0, progress=False)


def test_data_set_list_and_loader_give_the_same():
    detector, dataset = TinyDetector(), tiny_loader(augment=False).dataset
    by_index = detect(detector, dataset, progress=False)
    as_list = detect(detector, [dataset[n] for n in range(len(dataset))], progress=False)
    in_batches = detect(detector, DataLoader(dataset, batch_size=4), batch_size=3, progress=False)
    for other in (as_list, in_batches):
        assert list(other) == list(by_index)
        for n in by_index:
            for a, b in zip(by_index[n], other[n]):
                torch.testing.assert_close(a, b)


def test_what_a_batch_adds_to_an_image_changes_nothing():
    sizes = [(32, 96), (96, 32), (64, 64)]

    class Images(UnequalImages):
        def __len__(self):
            return len(sizes)

        def __getitem__(self, n):
            image = torch.full((3, *sizes[n]), n / 4)
            return f"{n}.jpg", image, torch.tensor([[0.0, 0.0, 8.0, 8.0, 0.0]])

        def content_size(self, n):
            return sizes[n][0] - 10, sizes[n][1]

    one_by_one = detect(TinyDetector(), Images(), progress=False)
    in_batches = detect(TinyDetector(), DataLoader(Images(), batch_size=3, collate_fn=collate), progress=False)
    for n, (boxes, classes, scores) in one_by_one.items():
        assert boxes.tolist()[0] == [0, 0, sizes[n][1], sizes[n][0] - 10]
        for a, b in zip((boxes, classes, scores), in_batches[n]):
            assert torch.equal(a, b)


def test_box_in_the_padding_is_no_detection():
    class LowBoxes(TinyDetector):
        def inference(self, *args, **options):
            _, classes, scores = super().inference(*args, **options)
            return torch.tensor([[0.0, 25.0, 8.0, 30.0], [0.0, 20.0, 8.0, 30.0]]), classes, scores

    boxes, classes, scores = detect(LowBoxes(), UnequalImages(), progress=False)[0]  # 22 rows are image, 10 padding
    assert boxes.tolist() == [[0, 20, 8, 22]]
    assert classes.tolist() == [1]
    assert scores.tolist() == [0.25]


def test_image_without_detection_is_there_and_counts():
    found = detect(TinyDetector(), UnequalImages(), score_thresh=0.6, progress=False)  # sigmoid(1/2) = 0.62
    assert [len(boxes) for boxes, _, _ in found.values()] == [0, 0, 1, 1, 1]
    # Objects 2 and 3 of four that are not difficult are found, both surely.
    assert evaluate_voc(found, ground_truth_of(UnequalImages()), 2).mean_ap == pytest.approx(0.5)


def test_subset_keeps_sizes_and_objects_together():
    subset = Subset(UnequalImages(), [3, 1])
    assert content_size(subset, 1) == (54, 32)
    assert content_size([1, 2], 1) is None
    assert [boxes.tolist() for boxes, _, _ in ground_truth_of(subset).values()] == [[[0, 0, 32, 22]], [[0, 0, 32, 54]]]
    assert evaluate_voc(detect(TinyDetector(), subset, progress=False), ground_truth_of(subset), 2).mean_ap == 1
    part_of_it = Subset(subset, [1])
    assert whole_and_indices(part_of_it)[1] == [1]
    assert content_size(part_of_it, 0) == (54, 32)
    assert [boxes.tolist() for boxes, _, _ in ground_truth_of(part_of_it).values()] == [[[0, 0, 32, 54]]]


OTHER_ORDERS = {
    "shuffled": {"shuffle": True},
    "own": {"sampler": SubsetRandomSampler([3, 1])},
    "own_batches": {"batch_sampler": BatchSampler(RandomSampler(range(5)), 2, False)},
    "a_list_of_batches": {"batch_sampler": [[3, 1], [0]]},
    "incomplete": {"batch_size": 2, "drop_last": True},
    "the_first": {"batch_sampler": BatchSampler(SequentialSampler(range(3)), 2, False)},
    "no_batches": {"batch_size": None, "sampler": SubsetRandomSampler([3, 1])},
}


@pytest.mark.parametrize("options", OTHER_ORDERS.values(), ids=OTHER_ORDERS)
def test_loader_in_another_order_is_refused(options):
    with pytest.raises(ValueError, match="shuffle=False, drop_last=False"):
        detect(TinyDetector(), DataLoader(UnequalImages(), collate_fn=collate, **options), progress=False)


@pytest.mark.parametrize(
    "options", [{"batch_size": 2}, {"batch_sampler": BatchSampler(SequentialSampler(range(5)), 2, False)}]
)
def test_loader_in_the_order_of_its_images_gives_all_of_them(options):
    found = detect(TinyDetector(), DataLoader(UnequalImages(), collate_fn=collate, **options), progress=False)
    assert list(found) == [0, 1, 2, 3, 4]


def test_pictures_are_returned_for_every_image():
    loader = tiny_loader(length=3, batch_size=1)
    figures = inference_with_detector(TinyDetector(), loader, {0: "cat", 1: "dog"}, 0.4, 0.5)
    assert len(figures) == 3
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert any(text.startswith("cat 0.") for text in texts)


def test_pictures_are_written_with_the_names_of_their_images(tmp_path):
    loader = tiny_loader(length=2, batch_size=1)
    folder = tmp_path / "pictures"
    assert inference_with_detector(TinyDetector(), loader, {0: "cat", 1: "dog"}, 0.4, 0.5, output_dir=folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "1.png"]


def test_pictures_in_another_precision_and_with_the_detectors_own_thresholds():
    loader = tiny_loader(length=1, batch_size=1)
    (figure,) = inference_with_detector(TinyDetector(), loader, {0: "cat", 1: "dog"}, dtype=torch.float64)
    assert figure.axes
