"""Compares what a submission returned with what is right, and says in words what is different."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Tolerance:
    """|received - expected| <= absolute + relative * |expected|.

    It lies at least ten times above the error of correct results and ten times below that of mistakes, as `kit verify`
    measures them; `why_not` says why, where it does not.
    """

    relative: float = 1e-4
    absolute: float = 1e-5
    why_not: str = field(default="", compare=False)

    def excess(self, received: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Return, for each element, the error in units of what is allowed: above 1 is wrong."""
        return (received - expected).abs() / (self.absolute + self.relative * expected.abs())


class Mismatch(AssertionError):
    """A wrong answer.

    Attributes:
        problem: what kind of thing is wrong, without any value: safe to show for hidden tests.
        detail: expected and received.
        hint: the likely cause, where the numbers show a known mistake; also safe.
    """

    def __init__(self, problem: str, detail: str = "", hint: str = ""):
        super().__init__(": ".join(text for text in (problem, detail) if text) + (f". {hint}" if hint else ""))
        self.problem, self.detail, self.hint = problem, detail, hint


@dataclass(frozen=True)
class Margin:
    """How near a comparison came to its tolerance.

    Attributes:
        what: name of the value.
        tolerance: that was allowed.
        excess: the largest error in units of what was allowed: above 1 is wrong.
    """

    what: str
    tolerance: Tolerance
    excess: float


_margins: ContextVar[list[Margin] | None] = ContextVar("margins", default=None)


@contextmanager
def measured() -> Iterator[list[Margin]]:
    """Collect the margins of all comparisons made inside the context; `kit verify` sets tolerances by them."""
    margins: list[Margin] = []
    token = _margins.set(margins)
    try:
        yield margins
    finally:
        _margins.reset(token)


# Known mistakes, computed when asked for: what to tell the student, and the answer which that mistake leads to.
Mistakes = Callable[[], Iterable[tuple[str, object]]]


def assert_matches(
    received,
    expected,
    what: str = "the result",
    tolerance: Tolerance = Tolerance(),
    mistakes: Mistakes = tuple,
) -> None:
    """Require that two values agree: containers by key, tensors by type, shape, finiteness, then values.

    Args:
        received: what the submission returned: tensors in dicts and lists.
        expected: the same from the solutions, in float64.
        what: name of the value in messages.
        tolerance: allowed error of each element.
        mistakes: tried in order when values or shapes differ.

    Raises:
        Mismatch: they differ.
    """
    try:
        _compare(received, expected, what, tolerance)
    except Mismatch as mismatch:
        raise Mismatch(mismatch.problem, mismatch.detail, diagnose(received, mistakes, tolerance)) from None


def diagnose(received, mistakes: Mistakes, tolerance: Tolerance) -> str:
    """Return the hint of the first known mistake that leads to what was received, or ""."""
    with measured():  # these comparisons decide nothing
        for hint, prediction in mistakes():
            try:
                _compare(received, prediction, "", tolerance)
            except Mismatch:
                continue
            return hint
    return ""


def _compare(received, expected, what: str, tolerance: Tolerance) -> None:
    if isinstance(expected, dict):
        if not isinstance(received, dict):
            raise Mismatch(f"wrong type of {what} ({_kind(received)})", f"expected a dict with keys {_keys(expected)}")
        if set(received) != set(expected):
            raise Mismatch(f"wrong keys in {what}", f"expected {_keys(expected)}, received {_keys(received)}")
        for key in expected:
            _compare(received[key], expected[key], f"{what}[{key!r}]", tolerance)
    elif isinstance(expected, (list, tuple)):
        if not isinstance(received, list) or len(received) != len(expected):
            size = f" of {len(received)}" if isinstance(received, list) else ""
            raise Mismatch(f"wrong type of {what} ({_kind(received)}{size})", f"expected {len(expected)} values")
        for i, (one, other) in enumerate(zip(received, expected, strict=True)):
            _compare(one, other, f"{what}[{i}]", tolerance)
    elif isinstance(expected, torch.Tensor):
        compare_tensor(received, expected, what, tolerance)
    elif isinstance(expected, float):
        number = received if isinstance(received, torch.Tensor) else _as_tensor(received, what)
        compare_tensor(number.reshape(()) if number.numel() == 1 else number, torch.tensor(expected), what, tolerance)
    elif received != expected:
        raise Mismatch(f"wrong value of {what}", f"expected {expected!r}, received {str(received)[:80]}")


def compare_tensor(received, expected: torch.Tensor, what: str, tolerance: Tolerance) -> None:
    """Require that one tensor agrees with another; see `assert_matches`."""
    if not isinstance(received, torch.Tensor):
        wanted = f"expected a tensor of shape {tuple(expected.shape)}"
        raise Mismatch(f"wrong type of {what} ({_kind(received)})", wanted)
    if received.shape != expected.shape:
        raise Mismatch(f"wrong shape of {what}", f"expected {tuple(expected.shape)}, received {tuple(received.shape)}")
    if received.is_floating_point() != expected.is_floating_point():
        wanted = "floats" if expected.is_floating_point() else "integers"
        came = str(received.dtype).removeprefix("torch.")
        raise Mismatch(f"wrong dtype of {what}", f"expected {wanted}, received {came}")
    received, expected = received.to(torch.float64), expected.to(torch.float64)
    if received.numel() == 0:
        return
    bad = ~torch.isfinite(received) & torch.isfinite(expected)
    if bad.any() and bad.dim() == 0:
        raise Mismatch(f"{what} is not finite", f"expected {expected:.6g}, received {received:.6g}")
    if bad.any():
        index = bad.flatten().int().argmax()
        came = f"the first at {_index(index, expected)}: {_pair(received, expected, index)}"
        raise Mismatch(f"values in {what} are not finite", f"{int(bad.sum())} of {bad.numel()}, {came}")
    excess = tolerance.excess(received, expected).nan_to_num(torch.inf).masked_fill(received == expected, 0)
    worst = excess.argmax()
    if (margins := _margins.get()) is not None:
        margins.append(Margin(what, tolerance, float(excess.max())))
    if excess.max() > 1 and excess.dim() == 0:
        raise Mismatch(f"wrong value of {what}", f"expected {expected:.6g}, received {received:.6g}")
    if excess.max() > 1:
        came = f"the worst at {_index(worst, expected)}: {_pair(received, expected, worst)}"
        raise Mismatch(f"wrong values in {what}", f"{int((excess > 1).sum())} of {excess.numel()} differ, {came}")


def _pair(received: torch.Tensor, expected: torch.Tensor, index: torch.Tensor) -> str:
    return f"expected {expected.flatten()[index]:.6g}, received {received.flatten()[index]:.6g}"


def _as_tensor(value, what: str) -> torch.Tensor:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.tensor(float(value))
    raise Mismatch(f"wrong type of {what} ({_kind(value)})", "expected a number")


def _kind(value) -> str:
    names = {"NoneType": "None", "Tensor": "tensor"}
    return names.get(type(value).__name__, type(value).__name__)


def _keys(mapping: dict) -> str:
    return ", ".join(str(key) for key in mapping) or "none"


def _index(flat, tensor: torch.Tensor) -> str:
    return str(tuple(int(i) for i in torch.unravel_index(torch.as_tensor(flat), tensor.shape)))
