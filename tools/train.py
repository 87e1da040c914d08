"""`kit train`: one training run as a configuration describes it, all in one folder, and evaluated at its end."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from autograder.errors import KitError
from autograder.tasks import ROOT


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
    earlier.add_argument(
        "--overwrite",
        action="store_true",
        help="throw away the run that is there; it stays in .earlier until the new one is trained",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda")
    parser.add_argument("--tensorboard", action="store_true", help="also write a log for TensorBoard")
    parser.add_argument("--no-evaluation", action="store_true", help="stop when training is done")


def run(args: argparse.Namespace) -> int:
    """Train, save, and evaluate."""
    with _kill_ends_like_ctrl_c():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from helpers.distributed import rank_and_world_size, torchrun_group, wait_for_all
    from tools import evaluate, runs
    from tools.configuration import load_configuration
    from tools.run_folder import RunFolder

    configuration = load_configuration(args.configuration, args.overrides)
    if not args.no_evaluation:
        evaluate.open_images(configuration)  # what it lacks is to be said before hours of training
    folder = args.out or ROOT / "runs" / args.configuration.stem
    with torchrun_group(runs.choose_device(args.device)) as device:
        first = rank_and_world_size()[0] == 0
        place = RunFolder(folder)
        if first:
            place.prepare(configuration, args.resume, args.overwrite)
        try:
            wait_for_all()
            _train(configuration, folder, device, args)
        except BaseException as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it when the first process fails
            if first:
                place.take_back()
            if first and isinstance(error, KeyboardInterrupt):
                print(place.how_to_go_on(), file=sys.stderr)
            raise
        if first:
            place.finish()
    if first and not args.no_evaluation:
        try:
            evaluate.evaluate_run(folder, configuration, device)
        except (KitError, KeyboardInterrupt):
            print(f"the training is done and saved; `kit evaluate {folder}` measures it", file=sys.stderr)
            raise
    return 0


@contextlib.contextmanager
def _kill_ends_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end a training as Ctrl-C does, saved and with its folder in order.

    A cluster's scheduler sends it some time before it kills, and torchrun when another process has failed. As with
    Ctrl-C, several processes go back to the last checkpoint that was due; so does one on a GPU that was started with
    Ctrl-C ignored.
    """

    def interrupt(number, frame):
        signal.signal(number, signal.SIG_IGN)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(configuration: dict, folder: Path, device: str, args: argparse.Namespace) -> None:
    """One process's part; the first one saves what comes out."""
    import torch

    from helpers.annotations import VOC_CLASSES
    from helpers.distributed import rank_and_world_size, wait_for_all
    from helpers.schedule import scale_learning_rate
    from helpers.seed import reset_seed
    from helpers.train import train_detector
    from helpers.training_run import NonFiniteLoss, OutOfMemory
    from tools import runs

    rank, world_size = rank_and_world_size()
    data, options = configuration["data"], dict(configuration["train"])
    # Built before images are decoded, since it can fail, and not with what follows, which might draw random numbers.
    try:
        reset_seed(options["seed"] or 0)
    except ValueError as error:
        raise KitError(f"train.seed={options['seed']}: {error}") from error
    detector = runs.build_detector(configuration["model"], len(VOC_CLASSES))
    random_state = torch.get_rng_state()
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
    runs.check_same_images(dataset, folder, note=rank == 0)
    if rank == 0:
        print(runs.describe(dataset, data["train_split"]))
    so_far = []  # the history, also of a run that ends before its time
    try:
        torch.set_rng_state(random_state)
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
