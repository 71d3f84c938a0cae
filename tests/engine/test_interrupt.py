"""Signals become a question; the second Ctrl-C is not caught."""

import signal
import threading

import pytest

from cascade_lab.engine.interrupt import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_old_handler_returns(number):
    before = signal.getsignal(number)
    with stop_signals() as stop_asked:
        assert not stop_asked()
        signal.raise_signal(number)
        assert stop_asked()
    assert signal.getsignal(number) is before


@pytest.fixture
def usual_ctrl_c():
    """Python's own handler, which a shell that starts the tests in the background takes away."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_works_at_once(usual_ctrl_c):
    with stop_signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_are_left_alone():
    answers = []

    def work() -> None:
        with stop_signals() as stop_asked:
            answers.append(stop_asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
