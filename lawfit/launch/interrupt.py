"""Signals that end a launch: the first asks for a clean stop, the second ends everything at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lawfit.launch.campaign import SIGNAL

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], str]]:
    """Gives a function that says whether a signal asked for the end; signals reach the main thread only."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, receive) for number in heard}
    try:
        yield lambda: SIGNAL if received else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
