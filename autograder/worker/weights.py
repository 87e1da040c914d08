"""Opens a submitted file of weights, in the worker: nobody opens it anywhere else.

`torch.load` with `weights_only=True` refuses every pickle that could run code; what it refuses less well (programs in
TorchScript, archives that unpack to far more than they hold) is refused here before it is called.
"""

import os
import zipfile
from pathlib import Path

import torch

from .submission import SubmissionError

NAME = "fcos_detector.pt"
_MAX_ENTRIES = 10_000
_MAX_BYTES = 512 << 20


def inspect_weights(folder: str, name: str = NAME, max_bytes: int = _MAX_BYTES) -> dict:
    """Return what a file of weights holds, {"parameters": number of values, "tensors": {name: shape}}.

    The latter is cut after a thousand names. Arguments and errors are those of `load_weights`.
    """
    state = load_weights(folder, name, max_bytes)
    shapes = {key[:200]: list(value.shape) for key, value in list(state.items())[:1000]}
    return {"parameters": sum(value.numel() for value in state.values()), "tensors": shapes}


def load_weights(folder: str, name: str = NAME, max_bytes: int = _MAX_BYTES) -> dict[str, torch.Tensor]:
    """Load a file of weights.

    Args:
        folder: where the submission lies.
        name: of the file in it.
        max_bytes: of the file.

    Returns:
        The state dict.

    Raises:
        SubmissionError: the file is missing, too large, or not a plain state dict.
    """
    path = Path(folder) / name
    if path.is_symlink() or not path.is_file():
        raise SubmissionError(f"{name} is missing")
    if path.stat().st_size > max_bytes:
        raise SubmissionError(f"{name} is larger than {max_bytes >> 20} MiB")
    _check_archive(path, name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SubmissionError(f"{name} is not a state dict saved with torch.save ({type(error).__name__})") from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # a checkpoint that holds more than the weights
    if not isinstance(state, dict) or not state:
        raise SubmissionError(f"{name} holds a {type(state).__name__}, expected a state dict")
    for key, value in state.items():
        if type(key) is not str or type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise SubmissionError(f"{name} is not a state dict: it holds more than tensors by name")
    return state


def _check_archive(path: Path, name: str) -> None:
    """Require the plain archive that `torch.save` writes: stored entries, no code."""
    if not zipfile.is_zipfile(path):
        raise SubmissionError(f"{name} is not an archive as torch.save writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise SubmissionError(f"{name} is not an archive as torch.save writes it ({type(error).__name__})") from None
    if len(entries) > _MAX_ENTRIES:
        raise SubmissionError(f"{name} has more than {_MAX_ENTRIES} entries")
    for entry in entries:
        inner = entry.filename.partition("/")[2]
        if inner.startswith("code/") or inner == "constants.pkl" or entry.filename.endswith((".py", ".pt2")):
            raise SubmissionError(f"{name} is a program (TorchScript or an exported model), expected a state dict")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise SubmissionError(f"{name} is compressed; torch.save stores tensors as they are")
    if sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise SubmissionError(f"{name} names more bytes than it has")
