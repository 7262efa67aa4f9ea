"""The programs of the sibling assignments: they train a student's network epoch by epoch.

After each epoch, ``results.json`` and ``checkpoint.pt`` are in the folder of the run, written whole
or not at all. Whatever ends the program leaves those of the last finished epoch; ``--resume``
continues with the next one and draws the same random numbers as a run that was not interrupted.
"""

import argparse
import contextlib
import math
import platform
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from training import checkpoint, interrupt
from training.arguments import (
    Parser,
    add_data,
    add_number,
    add_subset,
    positive_int,
    reason,
    report,
)
from training.data import DataSet, Split, load_data
from training.device import describe_device, is_out_of_memory, random_state, set_random_state
from training.files import write_json
from training.results import FINISHED, RESULTS, TRAINED

# Arguments that a run may change when it resumes.
FREE_ARGUMENTS = {"data_dir", "device", "epochs", "image", "logdir", "overwrite", "resume"}


def add_flags(parser: Parser, epochs: int, logdir: str) -> None:
    """Add the flags that both programs have."""
    add_data(parser)
    add_subset(parser)
    add_number(parser, "--epochs", positive_int, epochs)
    words = f"folder of the run; default: {logdir}"
    parser.add_argument("--logdir", type=Path, default=Path(logdir), metavar="DIR", help=words)
    words = "resume the run in --logdir; a finished one is drawn again"
    parser.add_argument("--resume", action="store_true", help=words)
    words = "replace the run in --logdir"
    parser.add_argument("--overwrite", action="store_true", help=words)


def read_data(source: str, data_dir: str) -> tuple[DataSet, Split]:
    """Return a data set, and its training and validation images as one split.

    The sibling assignments validate on the test split.

    Raises:
        ValueError, OSError: as ``load_data``; the set has more than 10 classes.
    """
    data = load_data(source, data_dir)
    if data.num_classes > 10:
        raise ValueError(f"{source} has labels up to {data.num_classes - 1}; 9 is the largest")
    images = torch.cat([data.train.images, data.val.images])
    return data, Split(images, torch.cat([data.train.labels, data.val.labels]))


@dataclass
class Training:
    """A training: what it consists of, and what it has measured.

    Attributes:
        args: of the command line, with the flags of ``add_flags``.
        network, optimizer: saved after each epoch.
        run_epoch: trains and validates, prints a line, and returns the numbers of an epoch by name,
            "train_seconds" among them.
        history: these numbers, one per epoch.
        facts: what ``results.json`` holds besides.
        kept: what the checkpoint holds besides, tensors and plain types.
    """

    args: argparse.Namespace
    network: nn.Module
    optimizer: Optimizer
    run_epoch: Callable[[int], dict[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        arguments = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.args).items()}
        self.fingerprint = {k: v for k, v in arguments.items() if k not in FREE_ARGUMENTS}
        self.facts |= {
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "args": arguments,
            "device": describe_device(self.device),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history.get("train_seconds", ()))

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder, and restore the run that it holds if ``--resume`` says so.

        Raises:
            ValueError, OSError: the folder holds another run, or cannot be written to.
        """
        resume = "must" if self.args.resume else None
        lock, resumes = checkpoint.open_folder(self.args.logdir, resume, self.args.overwrite)
        try:
            if resumes:
                self._restore()
                print(f"resuming after epoch {self.epoch}")
            yield
        finally:
            lock.release()

    def fit(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal came; the finished epochs are in the folder.
            FloatingPointError: a number is not finite; the network is again that of the last
                finished epoch.
            OSError: the folder cannot be written to.
        """
        if self.epoch == self.args.epochs:
            self._save()  # what is kept may be new
        while self.epoch < self.args.epochs:
            numbers = self.run_epoch(self.epoch + 1)
            for name, value in numbers.items():
                if not math.isfinite(value):
                    words = f"{name} is {value} in epoch {self.epoch + 1}"
                    if self.epoch > 0:
                        self._restore()
                    self._write_results(f"diverged: {words}")
                    raise FloatingPointError(words)
            with interrupt.held():  # the numbers and the weights belong together
                for name, value in numbers.items():
                    self.history.setdefault(name, []).append(value)
                self._save()
                interruption = interrupt.pending()
            if interruption is not None:
                raise interruption
        self._write_results(TRAINED)

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "random": random_state(self.device),
            **self.kept,
        }
        path = self.args.logdir / checkpoint.CHECKPOINT
        checkpoint.save_checkpoint(path, state, self.fingerprint)
        self._write_results()

    def _write_results(self, finished: str | None = None) -> None:
        ended = {FINISHED: finished} if finished else {}
        write_json(self.args.logdir / RESULTS, self.history | self.facts | ended)

    def _restore(self) -> None:
        logdir = self.args.logdir
        state = checkpoint.load_last_good(logdir, self.fingerprint)
        done = len(state["history"]["train_seconds"])
        if done > self.args.epochs:
            raise ValueError(f"{logdir} holds {done} epochs, more than --epochs {self.args.epochs}")
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ValueError(f"{logdir} holds the weights of another network") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        set_random_state(state["random"], self.device)


def run(build: Callable[[], Training], draw: Callable[[Training], list[Path]]) -> int:
    """Build a training, train, draw the figures, and return the exit status of the program.

    Args:
        build: returns the training.
        draw: writes the figures of the finished epochs and returns their paths.

    Returns:
        0; 2 for a mistake of the user's; 1 for a run that cannot continue; 128 plus the number of
        the signal for one that a signal ended.
    """
    training, status, trains = None, 0, False
    try:
        with interrupt.raised():
            training = build()
            with training.opened():
                trains = True
                try:
                    training.fit()
                except FloatingPointError as error:
                    status = report("train.py", f"stopped: {error}; a smaller --lr may help", 1)
                if training.epoch > 0:
                    names = [RESULTS, checkpoint.CHECKPOINT, *(p.name for p in draw(training))]
                    files = f"{training.args.logdir}: {', '.join(names)}"
                    print(textwrap.fill(files, 80, break_long_words=False, break_on_hyphens=False))
        return status
    except interrupt.Interrupted as interruption:
        words = f"stopped by {interruption}; no epoch is finished"
        if training is not None and training.epoch > 0:
            words = (
                f"stopped by {interruption} after epoch {training.epoch}; "
                "repeat the command with --resume"
            )
        return report("train.py", words, interruption.status)
    except (MemoryError, RuntimeError, ValueError, OSError) as error:
        if is_out_of_memory(error):
            return report("train.py", "stopped: out of memory", 1)
        if isinstance(error, NotImplementedError):
            return report("train.py", str(error))
        if isinstance(error, OSError) or (isinstance(error, ValueError) and not trains):
            return report("train.py", reason(error), 1 if trains else 2)
        raise  # a mistake in the student's code, which only a traceback shows
