"""The folder of a training run: what is there already is not lost before the new run has something to show."""

import shutil
from pathlib import Path

from autograder.errors import KitError
from tools import runs
from tools.configuration import load_configuration, save_configuration

# In the folder: the run that `--overwrite` is to throw away, until the new one is trained; and one that was itself
# begun with `--overwrite` and never trained to its end.
EARLIER, UNFINISHED = ".earlier", ".unfinished"


class RunFolder:
    """A folder, from the start of a training to its end.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path):
        self.folder, self.earlier, self.unfinished = folder, folder / EARLIER, folder / UNFINISHED
        self._aside = self.earlier  # where `--overwrite` has put the run that was there
        self.is_back = False  # that run
        self.checkpoint = folder / runs.CHECKPOINT
        self._found = None  # of a run that is gone on with: its small files, and when its checkpoint was written

    def prepare(self, configuration: dict, resume: bool, overwrite: bool) -> None:
        """Make the folder with its configuration, and refuse to lose or to mix up an earlier run.

        Args:
            configuration: from `load_configuration`.
            resume: go on with the run that is in there, if there is one.
            overwrite: set that run aside.

        Raises:
            KitError: the folder holds something else, or a run that neither option says what to do with, or one with
                another configuration than this.
        """
        folder, file = self.folder, self.folder / runs.CONFIGURATION
        if folder.is_file():
            raise KitError(f"{folder} is a file; name a folder with --out")
        if file.is_file() and resume:
            changed = runs.changed_settings(load_configuration(file), configuration)
            if changed:
                raise KitError(
                    f"{folder} holds a run with another configuration: {', '.join(changed)}; resume it with "
                    f"`kit train {file} --out {folder} --resume`, or start anew with --overwrite or another --out"
                )
            small = {path: path.read_bytes() if path.is_file() else None for path in (file, folder / runs.IMAGES)}
            self._found = small, self._time_of_checkpoint()
        elif file.is_file() and overwrite:
            self._set_aside()
        elif file.is_file():
            raise KitError(
                f"{folder} holds a run: go on with it (--resume), throw it away (--overwrite), or name --out"
            )
        elif folder.is_dir() and any(folder.iterdir()):
            raise KitError(f"{folder} is not empty and is not a run's folder; name another one with --out")
        folder.mkdir(parents=True, exist_ok=True)
        save_configuration(configuration, file)

    def take_back(self) -> None:
        """After a failure leave the folder as it was found, unless the new run has something to show."""
        if self._found is not None:
            small, time_of_checkpoint = self._found
            for path, content in small.items():
                # Of the configuration only what decides where and when may differ. Which images they are, an older
                # run does not say; it was found out as soon as there is a new checkpoint.
                if content is not None:
                    path.write_bytes(content)
                elif self._time_of_checkpoint() == time_of_checkpoint:
                    path.unlink(missing_ok=True)
        elif _holds_something(self._aside) and not self.checkpoint.exists():
            self._empty()
            for path in self._aside.iterdir():
                path.rename(self.folder / path.name)
            self._aside.rmdir()
            self.is_back = True
        elif not self.checkpoint.exists() and not (self.folder / runs.HISTORY).exists():
            self._empty()  # or the next start would be told of a run that is none

    def finish(self) -> None:
        """The run is trained: let go of the one before it."""
        for place in (self.earlier, self.unfinished):
            shutil.rmtree(place, ignore_errors=True)

    def how_to_go_on(self) -> str:
        """What a person who has stopped the training may do."""
        from helpers import checkpoint

        if self.is_back:
            return f"nothing of this run is saved; {self.folder} holds the run before it again"
        lines = ["nothing of this run is saved"]
        if self.checkpoint.exists():
            done = checkpoint.load(self.checkpoint)["iteration"]
            again = f"kit train {self.folder / runs.CONFIGURATION} --out {self.folder} --resume"
            lines = [f"{done} iterations are saved in {self.checkpoint}; go on with `{again}`"]
        if _holds_something(self.earlier):
            lines.append(
                f"the run before it lies in {self.earlier} until this one is trained; to have it back, move what is in "
                f"there over what is in {self.folder}"
            )
        return "\n".join(lines)

    def _set_aside(self) -> None:
        if _holds_something(self.earlier) and not (self.folder / runs.WEIGHTS).exists():
            # What was not trained to its end is not worth the run before it, nor what was killed at once any other.
            if not self.checkpoint.exists():
                self._aside = self.unfinished if _holds_something(self.unfinished) else self.earlier
                self._empty()
                return
            self._aside = self.unfinished
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir()
        for path in self._own():
            path.rename(self._aside / path.name)

    def _empty(self) -> None:
        for path in self._own():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _own(self) -> list[Path]:
        """What runs write there, the configuration last: without it nobody takes the folder for a run's."""
        names = (*runs.FILES_OF_A_RUN, runs.TENSORBOARD, runs.EVALUATIONS)
        own = [self.folder / name for name in names if (self.folder / name).exists()]
        return sorted(own, key=lambda path: path.name == runs.CONFIGURATION)

    def _time_of_checkpoint(self) -> int | None:
        return self.checkpoint.stat().st_mtime_ns if self.checkpoint.exists() else None


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
