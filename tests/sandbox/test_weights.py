"""A file of weights is opened in the worker alone, and only when it is a plain state dict."""

import io
import zipfile

import pytest
import torch

from autograder.flags import weights_problem
from tools.hostile import Marks, weights_file

REFUSED = {
    "pickle": "is not a state dict saved with torch.save (UnpicklingError)",
    "legacy": "is not an archive as torch.save writes it",
    "torchscript": "is a program (TorchScript or an exported model)",
    "bomb": "is compressed; torch.save stores tensors as they are",
    "text": "is not an archive as torch.save writes it",
}


@pytest.fixture
def inspect(workers, tmp_path):
    """Function (level) -> outcome of looking at the file in `tmp_path`."""

    def run(level="process", **inputs):
        request = {"folder": str(tmp_path), "modules": [], "replaced": [], "forbidden": [], "probe": "weights"}
        return workers(level).run({**request, "inputs": inputs})

    return run


def state(**entries):
    return {"pred.weight": torch.zeros(4, 3), "pred.bias": torch.zeros(4)} | entries


@pytest.mark.parametrize("content", [state(), {"model": state(), "iteration": 5000}], ids=["weights", "checkpoint"])
def test_state_dict_is_described(inspect, tmp_path, content):
    torch.save(content, tmp_path / "fcos_detector.pt")
    outcome = inspect()
    assert outcome.value == {"parameters": 16, "tensors": {"pred.weight": [4, 3], "pred.bias": [4]}}


@pytest.mark.parametrize(("kind", "message"), REFUSED.items(), ids=REFUSED)
def test_file_of_another_kind_is_refused(inspect, tmp_path, level, kind, message):
    marks = Marks.fresh()
    weights_file(kind, tmp_path / "fcos_detector.pt", marks)
    outcome = inspect(level)
    assert message in outcome.message
    assert not marks.remove_trace()


def test_graders_report_says_what_is_wrong_with_weights_and_nothing_else(workers, tmp_path):
    worker = workers("process")
    assert weights_problem(worker, tmp_path) == ""  # there are none
    torch.save(state(), tmp_path / "fcos_detector.pt")
    assert weights_problem(worker, tmp_path) == ""
    weights_file("text", tmp_path / "fcos_detector.pt", Marks.fresh())
    assert weights_problem(worker, tmp_path) == "fcos_detector.pt is not an archive as torch.save writes it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor, expected a state dict"),
        ({}, "holds a dict, expected a state dict"),
        (state(epoch=3), "holds more than tensors by name"),
        ({1: torch.zeros(2)}, "holds more than tensors by name"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(inspect, tmp_path, content, message):
    torch.save(content, tmp_path / "fcos_detector.pt")
    assert message in inspect().message


def test_large_file_is_refused_unopened(inspect, tmp_path):
    with open(tmp_path / "fcos_detector.pt", "wb") as file:
        file.truncate(3 << 20)
    assert inspect(max_bytes=2 << 20).message == "fcos_detector.pt is larger than 2 MiB"


def test_link_and_nothing_are_missing_files(inspect, tmp_path):
    assert inspect().message == "fcos_detector.pt is missing"
    torch.save(state(), tmp_path / "other.pt")
    (tmp_path / "fcos_detector.pt").symlink_to(tmp_path / "other.pt")
    assert inspect().message == "fcos_detector.pt is missing"


def test_archive_that_names_more_than_it_has_is_refused(inspect, tmp_path):
    """A directory whose entries all point at the same bytes: each entry claims them for itself."""
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(tmp_path / "fcos_detector.pt", "w") as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
        first = packed.infolist()[0]
        for number in range(50):
            again = zipfile.ZipInfo(f"archive/data/{number + 100}")
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.compress_size = again.file_size = 1 << 20
            packed.filelist.append(again)
    assert "names more bytes than it has" in inspect().message


def test_five_gigabytes_of_zeros_are_not_allocated(inspect, tmp_path):
    """A tensor of stride 0 takes a few bytes in the file and no more in memory."""
    torch.save({"weight": torch.zeros(1).expand(5 << 30)}, tmp_path / "fcos_detector.pt")
    assert inspect().value["parameters"] == 5 << 30
