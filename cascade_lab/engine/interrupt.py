"""Ctrl-C and SIGTERM as a question that the loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C and SIGTERM instead of dying of them; a second Ctrl-C works at once.

    Yields a function that says whether one came. Python hands signals to the main thread only, so
    elsewhere the function never does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
