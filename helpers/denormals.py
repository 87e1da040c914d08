"""Denormal numbers (below 1e-38) make a CPU up to ten times slower; here they are rounded to zero.

Fine-tuning is full of them: the momentum of a weight whose gradient has died shrinks by a tenth in every step.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")
GLANCE = 0.2  # seconds


def call_without_denormals(function: Callable[[threading.Event], Result]) -> Result:
    """Run a function on this CPU with denormal numbers rounded to zero, in it alone.

    The processor's switch belongs to a thread and is inherited by the threads which that one starts. PyTorch's pool of
    the main thread usually exists already, so that `torch.set_flush_denormal(True)` there would reach one core only.
    A fresh thread gets a fresh pool, and the switch ends with it.

    Args:
        function: called with an event that is set when the user interrupts (Ctrl-C); it should then return soon.

    Returns:
        What the function returns; its exceptions are raised here.

    Raises:
        KeyboardInterrupt: after an interrupted function has returned.
    """
    go, stop, answer = threading.Event(), threading.Event(), Future()

    def run():
        go.wait()
        torch.set_flush_denormal(True)
        try:
            answer.set_result(function(stop))
        except BaseException as error:  # raised again where somebody waits for the answer
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="without-denormals", daemon=True)
    thread.start()  # nothing happens yet: an interrupt in here would leave the function alone in the dark
    try:
        go.set()
        _wait(answer)
    except BaseException:
        stop.set()
        _wait(answer)
        raise
    return answer.result()


def _wait(answer: Future) -> None:
    """Wait for the end of a function, and wake up now and then.

    Python raises KeyboardInterrupt in the main thread, and only while that runs. A wait without a limit hears nothing
    of a Ctrl-C that reached another thread or came just before the wait began, nor, on Windows, of any.
    """
    while not answer.done():
        wait([answer], timeout=GLANCE)
