"""Signals: the first asks, the second insists, and what was ignored stays ignored."""

from __future__ import annotations

import signal
import threading

import pytest

from lawfit.launch.campaign import SIGNAL
from lawfit.launch.interrupt import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_the_first_asks_and_the_second_insists(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signal() as asked:
        assert asked() == ""
        signal.raise_signal(number)
        assert asked() == SIGNAL
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_hears_no_signals_and_works() -> None:
    said: list[str] = []

    def work() -> None:
        with stop_on_signal() as asked:
            said.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [""]
