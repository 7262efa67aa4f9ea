"""Signals that ask a run to end: Ctrl-C, SIGTERM, and SIGUSR1, with which SLURM warns.

Only ``main`` installs handlers, and takes them back: where a notebook calls ``train``, Ctrl-C does
what it always does there.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

# Windows has no SIGUSR1.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end.

    Attributes:
        status: the exit status that shells give to a program that this signal ended.
    """

    def __init__(self, number: int):
        super().__init__("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self.status = 128 + number


_held: Interrupted | None = None


def pending() -> Interrupted | None:
    """Return what a signal asked for while signals were held, None if none came."""
    return _held


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raise Interrupted wherever the program is when a signal comes."""
    with _handled_by(_raise):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Only remember a signal: ``pending`` tells of it, so that a step in progress can end.

    After that, Ctrl-C raises Interrupted: who presses it twice does not want to wait.
    """
    global _held
    with _handled_by(_hold):
        try:
            yield
        finally:
            _held = None


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler for all signals but those that the parent process chose to ignore."""
    before = {
        number: signal.signal(number, handler)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _hold(number: int, frame: FrameType | None) -> None:
    global _held
    if _held is not None and number == signal.SIGINT:
        raise Interrupted(number)
    _held = _held or Interrupted(number)
