"""Signals that ask the program to end stop it as Ctrl+C does."""

import os
import signal

import pytest

from heretic.cli import main
from heretic.cli.signals import ending_signals, ignore_interrupts, status_of


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_and_decides_the_status(number: int) -> None:
    # `nohup` ignores one of them, for the tests too.
    signal.signal(number, signal.SIG_DFL)
    with ending_signals():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert status_of(130) == 128 + number
        assert status_of(0) == 0
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_second_signal_waits_for_nothing() -> None:
    with ending_signals():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143


def test_what_the_caller_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_a_signal_the_status_is_that_of_an_interrupt() -> None:
    with ending_signals():
        assert status_of(130) == 130


def test_a_second_ctrl_c_does_not_disturb_the_end() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ending_signals():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        ignore_interrupts()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_a_command_begins_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(verb: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("heretic.cli.entry.module_of", interrupted)
    assert main(["results"]) == 130
    assert capsys.readouterr().err == "heretic: stopped.\n"
