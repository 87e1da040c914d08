"""`kit train`: one training run as a configuration describes it, all in one folder, and evaluated at its end."""

import argparse
import shutil
import sys
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT

EARLIER = ".earlier"  # in a run's folder: the run that is thrown away, until the new one has something to show


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = (
        "Several GPUs share every batch when torchrun starts a process for each: torchrun --standalone "
        "--nproc-per-node=2 -m tools.cli train CONFIGURATION. So do the cores of a CPU, with OMP_NUM_THREADS=1 before "
        "it: on two cores that gave 1.4 times the steps of one process."
    )
    parser.add_argument("configuration", type=Path, help="a YAML file, such as configs/voc2007_regnet.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as train.max_iters=1000")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/ and the file's name)")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on with the run that is in the folder")
    earlier.add_argument("--overwrite", action="store_true", help="throw away the run that is in the folder")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda")
    parser.add_argument("--tensorboard", action="store_true", help="also write a log for TensorBoard")
    parser.add_argument("--no-evaluation", action="store_true", help="stop when training is done")


def run(args: argparse.Namespace) -> int:
    """Train, save, and evaluate."""
    from helpers.distributed import rank_and_world_size, torchrun_group, wait_for_all
    from tools import evaluate, runs
    from tools.configuration import load_configuration

    configuration = load_configuration(args.configuration, args.overrides)
    if not args.no_evaluation:
        evaluate.open_images(configuration)  # what it lacks is to be said before hours of training
    folder = args.out or ROOT / "runs" / args.configuration.stem
    with torchrun_group(runs.choose_device(args.device)) as device:
        first = rank_and_world_size()[0] == 0
        file = folder / runs.CONFIGURATION
        before = file.read_bytes() if first and file.is_file() else None
        if first:
            prepare_folder(folder, configuration, args.resume, args.overwrite)
        try:
            wait_for_all()
            _train(configuration, folder, device, args)
        except BaseException as error:
            if first:
                _take_back_a_failed_start(folder, before)
            if first and isinstance(error, KeyboardInterrupt):
                _say_how_to_go_on(folder, args)
            raise
        if first:
            shutil.rmtree(folder / EARLIER, ignore_errors=True)
    if first and not args.no_evaluation:
        try:
            evaluate.evaluate_run(folder, configuration, device)
        except (KitError, KeyboardInterrupt):
            print(f"the training is done and saved; `kit evaluate {folder}` measures it", file=sys.stderr)
            raise
    return 0


def _train(configuration: dict, folder: Path, device: str, args: argparse.Namespace) -> None:
    """One process's part; the first one saves what comes out."""
    import torch

    from helpers.distributed import rank_and_world_size, wait_for_all
    from helpers.schedule import scale_learning_rate
    from helpers.seed import reset_seed
    from helpers.train import train_detector
    from helpers.training_run import NonFiniteLoss, OutOfMemory
    from tools import runs

    rank, world_size = rank_and_world_size()
    data, options = configuration["data"], dict(configuration["train"])
    shares_cache = data["cache"] not in (None, "memory")
    if shares_cache and rank != 0:
        wait_for_all()  # the first process fills the cache, and the others find it
    dataset = runs.open_split(data, data["train_split"], data["train_images"], training=True)
    if shares_cache and rank == 0:
        wait_for_all()
    loader = runs.training_loader(dataset, options, device, world_size)
    del options["num_workers"]
    options["learning_rate"] = scale_learning_rate(
        options["learning_rate"], options.pop("batch_size"), options.pop("learning_rate_batch_size")
    )
    if rank == 0:
        runs.check_same_images(dataset, folder)
        print(runs.describe(dataset, data["train_split"]))
    so_far = []  # the history, also of a run that ends before its time
    try:
        reset_seed(options["seed"] or 0)
        detector = runs.build_detector(configuration["model"], len(runs.class_names(dataset)))
        history = train_detector(
            detector,
            loader,
            device=device,
            checkpoint=folder / runs.CHECKPOINT,
            resume=True,  # the folder was emptied, or it is to be gone on with
            tensorboard=folder / runs.TENSORBOARD if args.tensorboard else None,
            on_row=so_far.append,
            **options,
        )
        so_far.append(history)
    except OutOfMemory as error:
        raise KitError(
            f"{error}. In a configuration change train.batch_size alone (images of all processes): the rate follows it"
        ) from error
    except NonFiniteLoss as error:
        raise KitError(
            f"{error} A run keeps its settings; for others, such as "
            f"train.learning_rate={configuration['train']['learning_rate'] / 3:.2g}, start anew (--overwrite)"
        ) from error
    except (ValueError, OSError, ImportError) as error:
        raise KitError(runs.last_line(error)) from error
    finally:
        if rank == 0 and so_far:
            _save_history(so_far[-1], folder)
    if rank != 0:
        return
    torch.save({name: value.cpu() for name, value in detector.state_dict().items()}, folder / runs.WEIGHTS)
    print(runs.describe_random_crops(dataset), end="")
    print(f"trained for {options['max_iters']} iterations; weights in {folder / runs.WEIGHTS}")


def _save_history(history, folder: Path) -> None:
    from helpers.plots import loss_curves
    from tools import runs

    history.save(folder / runs.HISTORY)
    if len(history):
        losses = {name: history.column(name) for name in history.losses}
        loss_curves(losses, history.column("iteration")).savefig(folder / runs.LOSSES)


def _take_back_a_failed_start(folder: Path, before: bytes | None) -> None:
    """Leave the folder as it was found, unless the new run has something to show."""
    from tools import runs

    earlier, file = folder / EARLIER, folder / runs.CONFIGURATION
    if earlier.is_dir() and not (folder / runs.CHECKPOINT).exists():
        _empty(folder)
        for path in earlier.iterdir():
            path.rename(folder / path.name)
        earlier.rmdir()
    elif before is not None and not earlier.is_dir():
        file.write_bytes(before)  # what may differ decides where and when, so it fits what has been trained since
    elif not any((folder / name).exists() for name in (runs.CHECKPOINT, runs.HISTORY)):
        for name in (runs.CONFIGURATION, runs.IMAGES):  # or the next start would be told of a run that is none
            (folder / name).unlink(missing_ok=True)


def _say_how_to_go_on(folder: Path, args: argparse.Namespace) -> None:
    from helpers import checkpoint
    from tools import runs

    if (folder / runs.CHECKPOINT).exists():
        done = checkpoint.load(folder / runs.CHECKPOINT)["iteration"]
        again = f"kit train {folder / runs.CONFIGURATION} --out {folder} --resume"
        print(f"{done} iterations are saved in {folder / runs.CHECKPOINT}; go on with `{again}`", file=sys.stderr)
    else:
        print("nothing was trained yet, and nothing is saved", file=sys.stderr)


def _set_aside(folder: Path) -> None:
    from tools import runs

    if (folder / EARLIER).is_dir() and not (folder / runs.CHECKPOINT).exists():
        _empty(folder)  # what was killed before it had anything to show is not worth the run before it
        return
    shutil.rmtree(folder / EARLIER, ignore_errors=True)
    (folder / EARLIER).mkdir()
    for path in _written_by_a_run(folder):
        path.rename(folder / EARLIER / path.name)


def _empty(folder: Path) -> None:
    """Remove what a run has written."""
    for path in _written_by_a_run(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _written_by_a_run(folder: Path) -> list[Path]:
    """Everything of a run in its folder, also other evaluations of it; what a person has put there is not of it."""
    from tools import runs

    evaluations = [path.parent for path in folder.glob(f"*/{runs.METRICS}") if path.parent.name != EARLIER]
    return evaluations + [
        folder / name for name in (*runs.FILES_OF_A_RUN, runs.TENSORBOARD) if (folder / name).exists()
    ]


def prepare_folder(folder: Path, configuration: dict, resume: bool, overwrite: bool) -> None:
    """Make a run's folder with its configuration, and refuse to lose or to mix up an earlier run.

    Args:
        folder: of the run.
        configuration: from `load_configuration`.
        resume: go on with the run that is in there, if there is one.
        overwrite: set that run aside, in a folder that goes when this one is trained.

    Raises:
        KitError: the folder holds something else, or a run that neither option says what to do with, or one with
            another configuration than this.
    """
    from tools import runs
    from tools.configuration import load_configuration, save_configuration

    if folder.is_file():
        raise KitError(f"{folder} is a file; name a folder with --out")
    earlier = folder / runs.CONFIGURATION
    if earlier.is_file() and resume:
        changed = runs.changed_settings(load_configuration(earlier), configuration)
        if changed:
            raise KitError(
                f"{folder} holds a run with another configuration: {', '.join(changed)}; resume it with "
                f"`kit train {earlier} --out {folder} --resume`, or start anew with --overwrite or another --out"
            )
    elif earlier.is_file() and overwrite:
        _set_aside(folder)
    elif earlier.is_file():
        raise KitError(f"{folder} holds a run: go on with it (--resume), throw it away (--overwrite), or name --out")
    elif folder.is_dir() and any(folder.iterdir()):
        raise KitError(f"{folder} is not empty and is not a run's folder; name another one with --out")
    folder.mkdir(parents=True, exist_ok=True)
    save_configuration(configuration, earlier)
