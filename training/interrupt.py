"""Signals that ask a run to end: Ctrl-C, SIGTERM, and SIGUSR1, which SLURM sends as a warning.

Only programs install handlers, and remove them: in a notebook that calls ``train``, Ctrl-C works
as usual.
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
        status: the exit status that shells report for a program ended by this signal.
    """

    def __init__(self, number: int):
        super().__init__("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self.status = 128 + number


_held: Interrupted | None = None


def pending() -> Interrupted | None:
    """Return the first signal that came while signals were held, None if none did."""
    return _held


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Raise Interrupted wherever the program is when a signal comes."""
    with _handled_by(_raise):
        yield


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Only remember a signal, for ``pending`` to return, so that the step in progress can end.

    A second Ctrl-C raises Interrupted: whoever presses it twice does not want to wait.
    """
    global _held
    with _handled_by(_hold):
        try:
            yield
        finally:
            _held = None


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler for all signals except those that the parent process ignores."""
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
