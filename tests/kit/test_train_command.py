"""`kit train` and `kit evaluate`: configurations that name their mistakes, and one small run from end to end."""

import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torchvision.models import _api

from autograder.errors import KitError
from autograder.tasks import ROOT
from helpers import distributed
from helpers.history import History
from helpers.sample import make_sample
from helpers.sampling import leave_interrupts_to_the_loop
from tools import cli, evaluate, runs
from tools.configuration import differences, load_configuration, save_configuration
from tools.run_folder import EARLIER, RunFolder
from tools.train import _train


@pytest.fixture
def write(tmp_path):
    """Function (name, text): write a configuration and return its path."""

    def write_file(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_file


def test_defaults_are_those_of_the_functions(write):
    values = load_configuration(write("empty.yaml", ""))
    assert list(values) == ["data", "model", "train", "evaluate"]
    assert values["train"]["momentum"] == 0.9
    assert values["data"]["image_size"] == 224
    assert values["evaluate"]["score_thresh"] == 0.05


def test_a_file_changes_its_base_and_the_command_line_changes_both(write):
    write("base.yaml", "train: {max_iters: 10, learning_rate: 0.1}\ndata: {hflip: 0.5}")
    child = write("child.yaml", "base: base.yaml\ntrain: {max_iters: 20}")
    values = load_configuration(child, ["train.ema_decay=0.99", "model.stem_channels=[24, 12]", "data.cache=memory"])
    assert (values["train"]["max_iters"], values["train"]["learning_rate"]) == (20, 0.1)
    assert values["data"]["hflip"] == 0.5
    assert values["train"]["ema_decay"] == 0.99
    assert values["model"]["stem_channels"] == [24, 12]
    assert values["data"]["cache"] == "memory"


def test_numbers_without_a_point_are_numbers(write):
    values = load_configuration(write("a.yaml", "train: {learning_rate: 5e-3, clip_grad_norm: 5}"))
    assert values["train"]["learning_rate"] == 0.005
    assert values["train"]["clip_grad_norm"] == 5.0


def test_saved_configuration_reads_the_same(write, tmp_path):
    values = load_configuration(write("a.yaml", "data: {scale_jitter: [0.7, 1.4]}\ntrain: {seed: null}"))
    save_configuration(values, tmp_path / "saved.yaml")
    assert load_configuration(tmp_path / "saved.yaml") == values
    values["train"]["seed"] = 3
    assert differences(load_configuration(tmp_path / "saved.yaml"), values) == ["train.seed None -> 3"]


# what is wrong, text of the file, overrides, words of the message
BAD = [
    ("unknown_key", "train: {learning_rat: 0.1}", [], r"bad\.yaml: unknown key .* mean train\.learning_rate\?"),
    ("key_of_another_section", "train: {image_size: 96}", [], r"train\.image_size; did you mean data\.image_size\?"),
    ("unknown_section", "trian: {max_iters: 1}", [], r"unknown section trian; did you mean train\?"),
    ("wrong_type", "train: {max_iters: many}", [], r"train\.max_iters: expected int, got 'many'"),
    ("fraction_for_a_count", "train: {max_iters: 1.5}", [], r"expected int, got 1\.5"),
    ("yes_for_a_number", "train: {max_iters: yes}", [], r"expected int, got True"),
    ("nothing_for_a_number", "train: {max_iters: }", [], r"expected int, got None"),
    ("text_for_one_or_nothing", "train: {clip_grad_norm: a lot}", [], r"expected float or null"),
    ("list_of_sections", "- train", [], r"bad\.yaml: expected sections"),
    ("section_without_keys", "train: 3", [], r"train must hold keys, got 3"),
    ("broken_yaml", "train: [1", [], r"bad\.yaml is not YAML"),
    ("section_twice", "train: {seed: 3}\ntrain: {max_iters: 7}", [], r"the key train is there twice"),
    ("key_twice", "train: {seed: 3, seed: 4}", [], r"the key seed is there twice"),
    ("base_that_is_not_there", "base: nowhere.yaml", [], r"nowhere\.yaml cannot be read"),
    ("base_of_itself", "base: bad.yaml", [], r"circle: bad\.yaml -> bad\.yaml"),
    ("override_without_value", "", ["train.max_iters"], r"write section\.key=value"),
    ("override_without_section", "", ["max_iters=3"], r"write section\.key=value"),
    ("unknown_override", "", ["train.max_iter=3"], r"command line: unknown key .*did you mean train\.max_iters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_configuration_is_refused_with_the_place(text, overrides, message, write):
    with pytest.raises(KitError, match=message):
        load_configuration(write("bad.yaml", text), overrides)


def test_configuration_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(KitError, match=r"a\.yaml is not a text in UTF-8"):
        load_configuration(tmp_path / "a.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    load_configuration(path)


# --- the run's folder -------------------------------------------------------------------------------------------------


def prepare_folder(folder, configuration, **options):
    RunFolder(folder).prepare(configuration, **options)


@pytest.fixture
def earlier(write, tmp_path):
    """(folder with the beginning of a run, its configuration)."""
    configuration = load_configuration(write("a.yaml", "train: {max_iters: 5}"))
    prepare_folder(tmp_path / "run", configuration, resume=False, overwrite=False)
    (tmp_path / "run" / runs.CHECKPOINT).write_bytes(b"precious")
    (tmp_path / "run" / runs.TENSORBOARD).mkdir()
    (tmp_path / "run" / runs.TENSORBOARD / "events").write_bytes(b"a curve")
    return tmp_path / "run", configuration


def test_earlier_run_is_kept_unless_told_otherwise(earlier):
    folder, configuration = earlier
    with pytest.raises(KitError, match="holds a run: go on with it"):
        prepare_folder(folder, configuration, resume=False, overwrite=False)
    prepare_folder(folder, configuration, resume=True, overwrite=False)
    assert (folder / runs.CHECKPOINT).exists()
    prepare_folder(folder, configuration, resume=False, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {runs.CONFIGURATION, EARLIER}


def test_resume_with_another_recipe_is_refused_but_not_with_another_machine(earlier):
    folder, configuration = earlier
    configuration["train"]["num_workers"] = 4
    prepare_folder(folder, configuration, resume=True, overwrite=False)
    configuration["train"]["learning_rate"] = 1.0
    with pytest.raises(KitError, match=r"another configuration: train\.learning_rate 0\.005 -> 1\.0"):
        prepare_folder(folder, configuration, resume=True, overwrite=False)


# num_workers, device -> loader processes on a machine of 16 cores
WORKERS = [(None, "cpu", 0), (None, "cuda", 4), (None, "cuda:1", 4), (0, "cuda", 0), (7, "cpu", 7)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("asked", "device", "workers"), WORKERS)
def test_gpu_gets_loader_processes(asked, device, workers, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    options = {"batch_size": 2, "learning_rate_batch_size": 2, "num_workers": asked}
    loader = runs.training_loader([1, 2], options, device, world_size=1)
    assert loader.num_workers == workers
    assert loader.worker_init_fn is leave_interrupts_to_the_loop


def test_folder_of_something_else_is_left_alone(earlier, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...")
    for overwrite in (False, True):
        with pytest.raises(KitError, match="is not a run's folder"):
            prepare_folder(tmp_path / "thesis", earlier[1], resume=False, overwrite=overwrite)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


# --- one small run ----------------------------------------------------------------------------------------------------

SMALL = [
    "data.image_size=64", "data.train_images=4", "model.fpn_channels=8", "model.stem_channels=[8]",
    "model.backbone=mobilenet_v2", "train.max_iters=4", "train.batch_size=2", "train.checkpoint_period=2",
    "train.log_period=2", "evaluate.images=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(folder of a finished run, arguments that made it)."""
    folder = tmp_path_factory.mktemp("runs")
    data = make_sample(folder / "sample", train=4, val=3)
    arguments = ["train", str(ROOT / "configs" / "smoke.yaml"), *SMALL, f"data.root={data}", "--device", "cpu"]
    assert cli.main([*arguments, "--out", str(folder / "run")]) == 0
    return folder / "run", arguments


def test_run_leaves_everything_in_one_folder(small_run):
    folder, _ = small_run
    assert {path.name for path in folder.iterdir()} == set(runs.FILES_OF_A_RUN)
    metrics = json.loads((folder / runs.METRICS).read_text())
    assert metrics["images"] == 3
    assert len(metrics["AP"]) == 20
    assert set(metrics["other_modes"]) == {"area", "11-point", "101-point"}
    assert load_configuration(folder / runs.CONFIGURATION)["train"]["max_iters"] == 4
    # The smoke preset's 0.02 is meant for 4 images; this run has 2. Its first row ends with the second of four steps.
    rate = 0.01 * 0.5 * (1 + math.cos(math.pi / 4))
    assert History.load(folder / runs.HISTORY).column("learning_rate")[0] == pytest.approx(rate)


def test_half_a_run_that_is_resumed_ends_like_a_whole_one(small_run, tmp_path, monkeypatch):
    from helpers import training_run

    folder, arguments = small_run
    step = training_run.TrainingRun.step

    def step_that_stops(run):
        if run.iteration == 3:
            raise KeyboardInterrupt
        step(run)

    arguments = [*arguments, "--out", str(tmp_path / "run"), "--no-evaluation"]
    monkeypatch.setattr(training_run.TrainingRun, "step", step_that_stops)
    assert cli.main(arguments) == 130
    monkeypatch.undo()
    assert cli.main(arguments) == 2  # there is a run now
    assert cli.main([*arguments, "--resume"]) == 0
    one, other = (torch.load(place / runs.WEIGHTS) for place in (folder, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluate_reads_the_run_and_takes_overrides(small_run, tmp_path, capsys):
    folder, _ = small_run
    out = tmp_path / "on_train"
    arguments = ["evaluate", str(folder), "evaluate.split=train", "evaluate.images=2", "--out", str(out)]
    assert cli.main([*arguments, "--device", "cpu"]) == 0
    assert json.loads((out / runs.METRICS).read_text())["images"] == 2
    assert (out / runs.PICTURES[0]).exists()
    assert "as the original computed it" in capsys.readouterr().out


def test_another_evaluation_leaves_the_runs_own_figures(small_run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    before = content(folder)
    other = tmp_path / "weights.pt"
    torch.save({name: 2 * value for name, value in torch.load(folder / runs.WEIGHTS).items()}, other)
    root = make_sample(tmp_path / "data", train=4, val=3, seed=7)
    words = [
        ["evaluate.split=train", "evaluate.images=2"],
        ["evaluate.split =train", "evaluate.images= 2"],  # the same
        ["--weights", str(folder / runs.WEIGHTS)],
        ["--weights", str(other)],
        [f"data.root={root}"],
    ]
    for arguments in words:
        assert cli.main(["evaluate", str(folder), *arguments, "--device", "cpu"]) == 0
    after = content(folder)
    assert {name: after[name] for name in before} == before
    places = sorted(path.name for path in (folder / runs.EVALUATIONS).iterdir())
    assert [place.rpartition("-")[0] for place in places if "root=" not in place] == [
        "split=train,images=2", "weights", "weights",
    ]  # fmt: skip
    assert len(places) == 4
    of_train = next(place for place in places if place.startswith("split"))
    assert json.loads(after[f"{runs.EVALUATIONS}/{of_train}/{runs.METRICS}"])["images"] == 2
    assert "train: 2 images" in capsys.readouterr().out
    (folder / runs.METRICS).unlink()
    data = next(word for word in small_run[1] if word.startswith("data.root="))
    assert cli.main(["evaluate", str(folder), data, "evaluate.batch_size=3"]) == 0  # which change no figure
    assert (folder / runs.METRICS).is_file()


@pytest.fixture
def own_data(tmp_path):
    """(folder with the sample, function that rewrites all annotations with a replacement)."""
    root = make_sample(tmp_path / "data", train=4, val=3)

    def rewrite(old, new):
        for path in (root / "VOCdevkit/VOC2007/Annotations").iterdir():
            path.write_text(path.read_text().replace(old, new))

    return root, rewrite


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_images_without_an_object_are_said_before_anything_is_done(command, small_run, own_data, tmp_path, capsys):
    root, rewrite = own_data
    rewrite("<difficult>0", "<difficult>1")
    arguments = (
        [*small_run[1], "--out", str(tmp_path / "run")] if command == "train" else ["evaluate", str(small_run[0])]
    )
    assert cli.main([*arguments, f"data.root={root}"]) == 2
    error = capsys.readouterr().err
    assert "the 'val' images show no object, or only difficult ones" in error
    assert "training:" not in error
    assert not (tmp_path / "run").exists()


def test_damaged_image_is_one_line_and_the_training_is_kept(small_run, own_data, tmp_path, capsys):
    root, _ = own_data
    pictures = root / "VOCdevkit/VOC2007/JPEGImages"
    lists = root / "VOCdevkit/VOC2007/ImageSets/Main"
    train, val = ((lists / f"{split}.txt").read_text().split()[1] for split in ("train", "val"))
    (pictures / f"{val}.jpg").write_bytes(b"no picture")
    arguments = [*small_run[1], f"data.root={root}", "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.strip().splitlines()[-1].startswith(f"kit train: the image {pictures / val}.jpg cannot be read")
    assert f"the training is done and saved; `kit evaluate {tmp_path / 'run'}` measures it" in error
    assert (tmp_path / "run" / runs.WEIGHTS).is_file()
    (pictures / f"{train}.jpg").write_bytes(b"no picture")
    for workers in (0, 1):
        assert cli.main([*arguments, "--overwrite", f"train.num_workers={workers}"]) == 2
        error = capsys.readouterr().err
        assert f"the image {pictures / train}.jpg cannot be read" in error.strip().splitlines()[-1]
        assert "Traceback" not in error


def test_failed_start_with_a_log_leaves_a_folder_that_can_be_used(small_run, own_data, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    root, _ = own_data
    for picture in (root / "VOCdevkit/VOC2007/JPEGImages").iterdir():
        picture.write_bytes(b"no picture")
    start = [*small_run[1], "--out", str(tmp_path / "run"), "--no-evaluation", "--tensorboard"]
    assert cli.main([*start, f"data.root={root}"]) == 2
    assert list((tmp_path / "run").iterdir()) == []
    assert cli.main(start) == 0


def test_failed_resume_of_a_run_that_does_not_say_its_images_settles_nothing(small_run, own_data, tmp_path):
    root, rewrite = own_data
    rewrite("<xmax>", "<xmax>1")
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    (folder / runs.IMAGES).unlink()
    (folder / EARLIER).mkdir()  # of an overwritten run that was killed
    before = content(folder)
    resume = [*small_run[1], "--out", str(folder), "--resume", "--no-evaluation"]
    (folder / runs.CHECKPOINT).write_bytes(b"")  # so that it fails
    assert cli.main([*resume, f"data.root={root}"]) == 2
    assert not (folder / runs.IMAGES).exists()
    shutil.copy(small_run[0] / runs.CHECKPOINT, folder)
    assert content(folder) == before
    assert cli.main(resume) == 0
    assert (folder / runs.IMAGES).exists()


@pytest.mark.parametrize("change", [("<xmax>", "<xmax>1"), ("<difficult>0", "<difficult>1")])
def test_run_is_not_gone_on_with_on_other_images(change, small_run, own_data, tmp_path, capsys):
    root, rewrite = own_data
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    arguments = [*small_run[1], "--out", str(folder), "--resume", "--no-evaluation"]
    assert cli.main([*arguments, f"data.root={root}"]) == 0  # the same sample, in another folder
    rewrite(*change)
    before = content(folder)
    assert cli.main([*arguments, f"data.root={root}"]) == 2
    assert "was trained on other images or annotations (4 images, now 4)" in capsys.readouterr().err
    assert content(folder) == before


def test_stopped_training_says_how_to_go_on(small_run, tmp_path, monkeypatch, capsys):
    from helpers import training_run

    step = training_run.TrainingRun.step

    def step_that_stops(run):
        if run.iteration == 3:
            raise KeyboardInterrupt
        step(run)

    monkeypatch.setattr(training_run.TrainingRun, "step", step_that_stops)
    assert cli.main([*small_run[1], "--out", str(tmp_path / "run"), "--no-evaluation"]) == 130
    again = f"kit train {tmp_path / 'run' / runs.CONFIGURATION} --out {tmp_path / 'run'} --resume"
    assert f"2 iterations are saved in {tmp_path / 'run' / runs.CHECKPOINT}; go on with `{again}`" in (
        capsys.readouterr().err
    )
    assert cli.main([*small_run[1], "--out", str(tmp_path / "run"), "--overwrite"]) == 130
    earlier = tmp_path / "run" / EARLIER
    assert f"the run before it lies in {earlier} until this one is trained" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main([*again.split()[1:], "--device", "cpu"]) == 0


KIT = [sys.executable, "-m", "tools.cli"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM as a scheduler sends it")
@pytest.mark.parametrize("in_background", [False, True])  # where a shell lets its jobs ignore Ctrl-C
def test_killed_training_is_saved_and_says_how_to_go_on(in_background, small_run, tmp_path):
    def ignore_ctrl_c():
        signal.signal(signal.SIGINT, signal.SIG_IGN if in_background else signal.default_int_handler)

    workers = 2 if in_background and multiprocessing.get_start_method() == "fork" else 0  # others take long to start
    long = ["train.max_iters=100000", "train.checkpoint_period=100000", f"train.num_workers={workers}"]
    arguments = [*small_run[1], "--out", str(tmp_path / "run"), *long]
    log = tmp_path / "stderr"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*KIT, *arguments], cwd=ROOT, stderr=file, preexec_fn=ignore_ctrl_c, start_new_session=True
        )
    deadline = time.monotonic() + 120
    while "training:" not in log.read_text() and time.monotonic() < deadline:  # the bar, before the first step
        time.sleep(0.1)
    time.sleep(2)  # processes that load images are running
    os.killpg(process.pid, signal.SIGTERM)  # to those that load images as well
    assert process.wait(60) == 130, log.read_text()
    done = torch.load(tmp_path / "run" / runs.CHECKPOINT, weights_only=False)["iteration"]
    assert f"{done} iterations are saved in {tmp_path / 'run' / runs.CHECKPOINT}; go on with" in log.read_text()
    assert 1 <= done < 100_000


FAILS_ALONE = """
import os
import time

from detector import FCOS as Solution


class FCOS(Solution):
    def forward(self, *args):
        if os.environ["RANK"] == "1":
            raise RuntimeError("this process fails alone")
        time.sleep(3)  # by then torchrun has sent SIGTERM
        return super().forward(*args)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_run_that_is_overwritten_comes_back_when_another_process_fails(small_run, solution_copy, tmp_path):
    (solution_copy / "one_stage_detector.py").rename(solution_copy / "detector.py")
    (solution_copy / "one_stage_detector.py").write_text(FAILS_ALONE)
    shutil.copytree(small_run[0], tmp_path / "run")
    before = content(tmp_path / "run")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *KIT[1:]]
    arguments = [*small_run[1], "--out", str(tmp_path / "run"), "--overwrite", f"model.folder={solution_copy}"]
    process = subprocess.run([*torchrun, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode != 0
    assert "this process fails alone" in process.stderr
    assert content(tmp_path / "run") == before


def test_run_says_what_it_is_trained_on_and_what_crops_leave_out(small_run, tmp_path, capsys):
    arguments = [*small_run[1], "--out", str(tmp_path / "run"), "--no-evaluation"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"train: 4 images, \d+ objects and \d+ difficult ones\n", out)
    assert re.search(r"random crops left out \d+ of \d+ \(\d+\.\d %\) of the objects", out)
    assert cli.main([*arguments, "--overwrite", "data.scale_jitter=null"]) == 0
    assert "random crops" not in capsys.readouterr().out


@pytest.mark.parametrize(("crop", "crops_at_random"), [(False, False), (True, False), (True, True)])
def test_objects_outside_of_the_centre_crop_are_said(crop, crops_at_random):
    class Images:
        def summary(self, indices):
            assert indices is None
            return {"images": 9, "objects": 20, "difficult": 4, "lost_objects": 3, "lost_difficult": 1}

    Images.crop, Images.crops_at_random = crop, crops_at_random
    outside = "; 3 and 1 of them are outside of the centre crop" if crop and not crops_at_random else ""
    assert runs.describe(Images(), "train") == f"train: 9 images, 20 objects and 4 difficult ones{outside}"


def test_overrides_may_follow_options(small_run, tmp_path, capsys):
    folder, _ = small_run
    arguments = ["evaluate", str(folder), "evaluate.split=train", "--out", str(tmp_path), "evaluate.images=2"]
    assert cli.main(arguments) == 0
    assert json.loads((tmp_path / runs.METRICS).read_text())["images"] == 2
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--wieghts", "a.pt"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: evaluate.images=2 --wieghts a.pt" in capsys.readouterr().err


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what is wrong, arguments after the run's folder, words of the message
BAD_EVALUATIONS = [
    ("unknown_key", ["evaluate.score=0.1"], "did you mean evaluate.score_thresh"),
    ("other_detector", ["model.fpn_channels=4"], "does not fit the detector"),
    ("setting_of_training", ["train.max_iters=9"], "train.max_iters changes nothing in an evaluation"),
    ("no_state_dict", ["--weights", __file__], "holds no state dict that can be loaded safely"),
    ("no_weights", ["--weights", "nowhere.pt"], "no weights at nowhere.pt"),
    ("no_data", ["data.root=nowhere"], "nowhere holds no VOCdevkit/VOC2007: fetch it with `kit data voc2007`"),
    ("no_split", ["evaluate.split=test"], "no list of the 'test' images"),
    ("no_mode", ["evaluate.mode=areaa"], "evaluate.mode must be one of area, 11-point, 101-point, not 'areaa'"),
    ("no_overlap", ["evaluate.iou_threshold=50"], "evaluate.iou_threshold must be above 0 and at most 1, not 50.0"),
    ("no_offset", ["evaluate.pixel_offset=.nan"], "evaluate.pixel_offset must be 0 or 1, not nan"),
    ("no_batch", ["evaluate.batch_size=0"], "evaluate.batch_size must be at least 1, not 0"),
    ("no_folder", ["model.folder=nowhere"], "model.folder: there is no"),
    ("no_image", ["evaluate.images=0"], "at least 1"),
    ("augmentation", ["data.scale_jitter=[0.5, 1]"], "data.scale_jitter changes nothing in an evaluation"),
    ("images_of_training", ["data.train_images=2"], "data.train_images changes nothing in an evaluation"),
    ("weights_of_the_backbone", ["model.weights=a.pt"], "model.weights changes nothing in an evaluation"),
    ("no_folder_for_results", ["--out", __file__], f"--out {__file__}: File exists"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [c[1:] for c in BAD_EVALUATIONS], ids=[c[0] for c in BAD_EVALUATIONS]
)
def test_bad_evaluation_is_one_line(arguments, message, small_run, capsys):
    assert cli.main(["evaluate", str(small_run[0]), *arguments, "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("kit evaluate: ")
    assert message in error


def test_detector_that_fails_in_the_evaluation_is_one_line_and_the_training_is_kept(
    small_run, solution_copy, tmp_path, capsys
):
    with (solution_copy / "one_stage_detector.py").open("a") as file:
        file.write(
            "\n\ndef spoiled(self, *args, **kwargs):\n    raise IndexError('too many')\n\n\nFCOS.inference = spoiled\n"
        )

    arguments = [*small_run[1], "--out", str(tmp_path / "run"), f"model.folder={solution_copy}"]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-2].startswith("the training is done and saved; `kit evaluate")
    assert re.search(r"cannot be evaluated: IndexError: too many \(one_stage_detector.py, line \d+\)$", said[-1])
    assert (tmp_path / "run" / runs.WEIGHTS).exists()


def test_figures_say_what_they_are_of(small_run, tmp_path):
    assert (
        cli.main(
            ["evaluate", str(small_run[0]), "data.image_size=96", "evaluate.score_thresh=0.45", "--out", str(tmp_path)]
        )
        == 0
    )
    metrics = json.loads((tmp_path / runs.METRICS).read_text())
    assert metrics["configuration"]["data"]["image_size"] == 96
    assert metrics["configuration"]["evaluate"]["score_thresh"] == 0.45
    digest = hashlib.sha256((small_run[0] / runs.WEIGHTS).read_bytes()).hexdigest()
    assert metrics["weights"] == {"file": str(small_run[0] / runs.WEIGHTS), "sha256": digest}
    assert "mistakes above 0.45" in metrics
    assert metrics["as_the_original_computed_it"] is None  # detections between 0.4 and 0.45 are not there


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_are_measured_whole(split, small_run):
    data = load_configuration(small_run[0] / runs.CONFIGURATION)["data"]
    assert not runs.open_split(data, split, None, training=False).crop
    assert runs.open_split(data, "train", None, training=True).crop


OWN_BACKBONE = """
from torchvision.models import mobilenet_v2

from detector import FCOS as Solution


class FCOS(Solution):
    def __init__(self, num_classes, fpn_channels, stem_channels):
        super().__init__(num_classes, fpn_channels, stem_channels, weights=None, backbone="mobilenet_v2")
        mobilenet_v2(weights="DEFAULT")
"""


def test_detector_of_the_original_signature_has_a_backbone_of_its_own(solution_copy, monkeypatch):
    (solution_copy / "one_stage_detector.py").rename(solution_copy / "detector.py")
    (solution_copy / "one_stage_detector.py").write_text(OWN_BACKBONE)
    model = {"folder": str(solution_copy), "fpn_channels": 8, "stem_channels": [8]}
    asked = {"backbone": "mobilenet_v2", "weights": None}
    with pytest.raises(KitError, match=r"model.backbone=mobilenet_v2 and model.weights=None would change nothing"):
        runs.build_detector(model | asked, 20)
    monkeypatch.setattr(_api, "load_state_dict_from_url", lambda *_, **__: pytest.fail("this needs no network"))
    # In an evaluation its weights are loaded from the run anyway.
    runs.build_detector(model | {"backbone": "regnet_x_400mf", "weights": "W"}, 20, pretrained=False)
    with pytest.raises(KitError, match=r"model.backbone=mobilenet_v2 would change nothing; give \S+=regnet_x_400mf$"):
        runs.build_detector(model | asked, 20, pretrained=False)


# what is wrong, arguments after the configuration, words of the message
BAD_TRAININGS = [
    ("evaluation", ["evaluate.mode=areaa"], "evaluate.mode must be one of"),
    ("split_to_evaluate", ["evaluate.split=vall"], "no list of the 'vall' images"),
    ("seed", ["train.seed=-1"], "Seed must be between 0"),
    ("optimizer", ["train.optimizer=adam"], "optimizer must be one of sgd, adamw"),
    ("split", ["data.train_split=trian"], "no list of the 'trian' images: "),
    ("batch", ["train.batch_size=0"], "train.batch_size must be at least 1, not 0"),
    ("weights", [f"model.weights={__file__}"], "model.weights=FILE takes a state dict of this backbone"),
    ("workers", ["train.num_workers=-1"], "train.num_workers must be at least 0, not -1"),
    ("batch_of_the_rate", ["train.learning_rate_batch_size=0"], "train.learning_rate_batch_size must be at least 1"),
    ("device", ["--device", "gpu"], "--device gpu: name auto, cpu, cuda"),
]


@pytest.mark.parametrize(("overrides", "message"), [c[1:] for c in BAD_TRAININGS], ids=[c[0] for c in BAD_TRAININGS])
def test_bad_training_is_one_line_before_it_begins(overrides, message, small_run, tmp_path, capsys):
    _, arguments = small_run
    assert cli.main([*arguments, *overrides, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / runs.CONFIGURATION).exists()  # else the next start would be told to go on with it


# how the start is wrong, words of the message
FAILED_STARTS = {
    "no_data": (["data.root=nowhere", "--no-evaluation"], "nowhere holds no VOCdevkit/VOC2007"),
    "bad_setting": (["train.optimizer=adam"], "optimizer must be one of sgd, adamw"),
    "no_rate": (["train.learning_rate=.nan"], "learning_rate must be a number that is not negative, not nan"),
    "loss": (["train.learning_rate=1e30", "train.clip_grad_norm=null", "train.warmup_iters=0"], "start anew"),
}


@pytest.mark.parametrize("how", FAILED_STARTS)
def test_failed_start_leaves_what_was_there(how, small_run, tmp_path, capsys):
    wrong, message = FAILED_STARTS[how]
    folder = tmp_path / "run"
    start = [*small_run[1], "--out", str(folder), "train.checkpoint_period=10", "train.log_period=1", *wrong]
    assert cli.main(start) == 2
    left = {runs.CONFIGURATION, runs.IMAGES, runs.HISTORY, runs.LOSSES} if how == "loss" else set()
    assert {path.name for path in folder.iterdir()} == left  # else the next start would be told to go on with it
    assert message in capsys.readouterr().err
    shutil.rmtree(folder)
    shutil.copytree(small_run[0], folder)
    for place in (folder / runs.EVALUATIONS / "split=train-0", folder / "a persons"):
        place.mkdir(parents=True)
        shutil.copy(folder / runs.METRICS, place)
    before = content(folder)
    assert cli.main([*start, "--overwrite"]) == 2
    assert content(folder) == before


def test_failed_resume_leaves_the_configuration_that_was_there(small_run, tmp_path, capsys):
    shutil.copy(small_run[0] / runs.CONFIGURATION, tmp_path)
    before = content(tmp_path)
    arguments = [*small_run[1], "--out", str(tmp_path), "--no-evaluation", "data.root=nowhere", "--resume"]
    assert cli.main(arguments) == 2
    assert content(tmp_path) == before
    assert "nowhere holds no VOCdevkit/VOC2007" in capsys.readouterr().err


def test_run_that_is_thrown_away_goes_when_the_new_one_is_trained(small_run, tmp_path):
    shutil.copytree(small_run[0], tmp_path / "run")
    shutil.copytree(small_run[0], tmp_path / "run" / "another run")
    place = tmp_path / "run" / runs.EVALUATIONS / "split=train-0"
    place.mkdir(parents=True)
    shutil.copy(small_run[0] / runs.METRICS, place)
    arguments = [*small_run[1], "--out", str(tmp_path / "run"), "--overwrite", "--no-evaluation", "train.max_iters=2"]
    assert cli.main(arguments) == 0
    evaluated = {runs.METRICS, *runs.PICTURES}
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == set(runs.FILES_OF_A_RUN) - evaluated | {"another run"}
    assert content(tmp_path / "run" / "another run") == content(small_run[0])


def test_run_before_those_that_were_never_trained_to_their_end_is_not_lost(earlier):
    folder, configuration = earlier
    for n in range(3):  # killed after the first time, stopped after the second
        prepare_folder(folder, configuration, resume=False, overwrite=True)
        (folder / runs.CHECKPOINT).write_bytes(b"of %d iterations" % n)
    assert (folder / EARLIER / runs.CHECKPOINT).read_bytes() == b"precious"
    place = RunFolder(folder)
    place.prepare(configuration, resume=False, overwrite=True)
    assert not (folder / runs.CHECKPOINT).exists()
    place.take_back()  # it failed before its first checkpoint
    assert (folder / runs.CHECKPOINT).read_bytes() == b"of 2 iterations"
    assert (folder / EARLIER / runs.CHECKPOINT).read_bytes() == b"precious"
    prepare_folder(folder, configuration, resume=False, overwrite=True)  # killed at once
    place = RunFolder(folder)
    place.prepare(configuration, resume=False, overwrite=True)
    place.take_back()
    assert (folder / runs.CHECKPOINT).read_bytes() == b"of 2 iterations"
    place.finish()
    assert {path.name for path in folder.iterdir()} == {runs.CONFIGURATION, runs.CHECKPOINT}


def test_earlier_run_comes_back_after_one_that_was_killed_at_once_and_one_that_failed(earlier):
    folder, configuration = earlier
    before = content(folder)
    prepare_folder(folder, configuration, resume=False, overwrite=True)
    place = RunFolder(folder)
    place.prepare(configuration, resume=False, overwrite=True)
    place.take_back()
    assert content(folder) == before


def test_run_that_was_moved_back_by_hand_is_set_aside_again(earlier):
    folder, configuration = earlier
    before = content(folder)
    prepare_folder(folder, configuration, resume=False, overwrite=True)
    for path in (folder / EARLIER).iterdir():  # as the message of a stopped run says
        path.rename(folder / path.name)
    prepare_folder(folder, configuration, resume=False, overwrite=True)
    assert content(folder / EARLIER) == before


def test_stop_before_the_first_checkpoint_says_that_the_earlier_run_is_back(small_run, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    shutil.copytree(small_run[0], tmp_path / "run")
    monkeypatch.setattr(runs, "open_split", stop)
    assert cli.main([*small_run[1], "--out", str(tmp_path / "run"), "--overwrite", "--no-evaluation"]) == 130
    said = capsys.readouterr().err
    assert f"nothing of this run is saved; {tmp_path / 'run'} holds the run before it again" in said
    assert "go on with" not in said
    assert content(tmp_path / "run") == content(small_run[0])


# rank of a process, cache -> what it does, in order
ORDER = [
    (0, "folder", ["open", "wait"]),
    (1, "folder", ["wait", "open"]),
    (0, "memory", ["open"]),
    (1, "memory", ["open"]),
    (1, None, ["open"]),
]


@pytest.mark.parametrize(("rank", "cache", "order"), ORDER)
def test_first_process_fills_a_cache_that_all_share(rank, cache, order, write, tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    did = []
    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (rank, 2))
    monkeypatch.setattr(distributed, "wait_for_all", lambda: did.append("wait"))
    monkeypatch.setattr(runs, "open_split", lambda *_, **__: did.append("open"))
    monkeypatch.setattr(runs, "build_detector", lambda *_: None)
    monkeypatch.setattr(runs, "training_loader", stop)
    configuration = load_configuration(write("a.yaml", ""), [f"data.cache={cache or 'null'}"])
    with pytest.raises(Enough):
        _train(configuration, tmp_path, "cpu", None)
    assert did == order


def test_images_of_any_list_can_be_trained_on(small_run, tmp_path, capsys):
    arguments = [*small_run[1], "--out", str(tmp_path / "run"), "--no-evaluation", "data.train_split=val"]
    assert cli.main([*arguments, "data.train_images=2"]) == 0
    assert "val: 2 images" in capsys.readouterr().out


def test_resume_and_overwrite_exclude_each_other(small_run, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*small_run[1], "--resume", "--overwrite"])
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_all_modes_measure_boxes_in_one_way():
    # Sides 2 x 2 and 1 x 2: IoU 2/4. With a pixel more, 3 x 3 and 2 x 3: IoU 6/9, which is enough.
    truth = {0: (np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([0]), np.array([False]))}
    found = {0: (np.array([[0.0, 0.0, 1.0, 2.0]]), np.array([0]), np.array([0.9]))}
    options = {"iou_threshold": 0.6, "mode": "area", "pixel_offset": 1, "score_thresh": 0.05}
    metrics, _ = evaluate.measure(found, truth, {0: "cat"}, options, [np.zeros((3, 32, 32))])
    assert metrics["mAP"] == metrics["other_modes"]["area"] == metrics["other_modes"]["11-point"] == 1


def test_folder_without_a_run_is_named(tmp_path, capsys):
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "is no run's folder" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_that_is_not_there_is_refused(small_run, capsys):
    assert cli.main(["evaluate", str(small_run[0]), "--device", "cuda"]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err
