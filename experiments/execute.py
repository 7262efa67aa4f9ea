"""Do the runs: in processes of this machine, or as jobs of a cluster.

A run that is finished is not repeated, one that was interrupted goes on, and one that fails does
not keep the others from being done.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from experiments import classify
from experiments.plan import (
    Experiment,
    Run,
    Settings,
    load_experiments,
    read_results,
    runs_of,
)
from training import checkpoint, interrupt
from training.results import read_results as read

LOG = "log.txt"  # what a run prints, in its folder
PATIENCE = 60  # seconds to wait for a folder that a process which is about to end still holds


@dataclass(frozen=True)
class Task:
    """One thing to do in a process of its own: a run, or a share of a search.

    Attributes:
        experiment: its name.
        run: what to train; None to take part in the search.
        worker: number of the worker in the search.
    """

    experiment: str
    run: Run | None
    settings: Settings
    worker: int = 0

    @property
    def folder(self) -> Path:
        if self.run is None:
            return Path(self.settings.output) / self.experiment
        return self.run.folder

    @property
    def title(self) -> str:
        if self.run is None:
            return f"{self.experiment}: search, worker {self.worker + 1}"
        return self.run.folder.relative_to(self.settings.output).as_posix()

    @property
    def weight(self) -> float:
        """About how long it takes, in the unit of ``Clock``: multiply-adds of all its images."""
        experiment = load_experiments()[self.experiment]
        count = getattr(experiment.module, "multiply_adds", classify.multiply_adds)
        if self.run is None:
            changes: Mapping[str, Any] = {"model": experiment.module.MODEL}
            epochs = self.settings.trials * experiment.module.TRIAL_EPOCHS
        else:
            changes, epochs = self.run.changes, self.run.changes["epochs"]
        images = self.settings.subset or 45_000
        return 1e11 + count(changes) * images * epochs


def perform(task: Task) -> None:
    """Do a task in this process.

    Raises:
        Interrupted: a signal came; a checkpoint of the last step is there.
        ValueError, OSError: as ``main.prepare``; or the folder is still in use after a minute.
    """
    experiment = load_experiments()[task.experiment]
    deadline = time.monotonic() + PATIENCE
    with interrupt.held():
        while True:
            try:
                if task.run is None:
                    from experiments import search

                    search.work(experiment, task.settings, task.worker)
                else:
                    train = getattr(experiment.module, "train", classify.train)
                    train(task.run, task.settings)
                return
            except checkpoint.InUse:
                if time.monotonic() > deadline or interrupt.pending():
                    raise
                time.sleep(0.5)


def todo(experiments: Sequence[Experiment], settings: Settings, workers: int) -> list[Task]:
    """Return what is not done yet; the winners of searches once these are over.

    Args:
        experiments, settings: what was asked for.
        workers: of each search.
    """
    tasks: dict[Path, Task] = {}  # experiments share runs
    for experiment in experiments:
        runs = runs_of(experiment, settings)
        if experiment.is_search:
            from experiments import search

            if not search.is_over(experiment, settings):
                shares = [
                    Task(experiment.name, None, settings, worker) for worker in range(workers)
                ]
                tasks |= {share.folder / str(share.worker): share for share in shares}
                continue
            runs = search.winner(experiment, settings)
        for run in (run for group in runs.values() for run in group):
            if read_results(run) is None:
                tasks.setdefault(run.folder, Task(experiment.name, run, settings))
    return list(tasks.values())


@dataclass
class Outcome:
    """What became of a number of tasks."""

    done: list[str] = field(default_factory=list)  # titles
    failed: dict[str, str] = field(default_factory=dict)  # title: what was wrong

    def note(self, task: Task, error: str | None) -> None:
        """Note that a task has ended, and what was wrong, None if nothing."""
        if error is None:
            self.done.append(task.title)
        else:
            self.failed[task.title] = error


# Does tasks and notes what became of them.
Executor = Callable[[list[Task], Outcome], None]


def run_all(
    experiments: Sequence[Experiment],
    settings: Settings,
    do: Executor,
    workers: int,
) -> Outcome:
    """Do all that is left to do, and then what follows from it.

    Args:
        experiments, settings: what was asked for.
        do: does tasks and notes what became of them: ``Local(...)`` or ``Cluster(...)``.
        workers: of each search.
    """
    outcome = Outcome()
    while True:
        ended = {*outcome.done, *outcome.failed}  # a search may still wait for another machine
        tasks = [t for t in todo(experiments, settings, workers) if t.title not in ended]
        if not tasks:
            return outcome
        do(tasks, outcome)


class Clock:
    """Prints a line for each task, and how much time is left."""

    def __init__(self, tasks: Sequence[Task], width: int = 79):
        self._weights = {task.title: task.weight for task in tasks}
        self._number, self._width = len(tasks), width
        self._started, self._finished, self._done = time.monotonic(), 0, 0.0
        self._live = sys.stderr.isatty()

    def left(self, running: Sequence[Task]) -> str:
        """Return the time left in words, from the speed so far."""
        part = sum(self._weights[t.title] * _share(t) for t in running)
        done = self._done + part
        if not done:
            return "? left"
        seconds = (time.monotonic() - self._started) * (sum(self._weights.values()) / done - 1)
        return f"{_duration(seconds)} left"

    def show(self, running: Sequence[Task]) -> None:
        """Show, in a terminal only, what is being done."""
        if self._live:
            what = ", ".join(f"{task.title} ({_share(task):.0%})" for task in running)
            line = f"{self._finished}/{self._number} done, {self.left(running)}: {what}"
            print(f"\r{line[: self._width]:{self._width}}", end="", file=sys.stderr, flush=True)

    def finish(
        self, task: Task, seconds: float, error: str | None, running: Sequence[Task]
    ) -> None:
        """Print the line of a task that has ended."""
        self._finished += 1
        self._done += self._weights[task.title]
        if self._live:
            print(f"\r{'':{self._width}}\r", end="", file=sys.stderr)
        head = f"{self._finished:>{len(str(self._number))}}/{self._number}"
        result = f"failed: {error}" if error else f"{_duration(seconds)}, {_result(task)}"
        print(f"{head}  {task.title}\n{'':{len(head)}}  {result}; {self.left(running)}", flush=True)


def _share(task: Task) -> float:
    """Return how much of a run is done, from its results so far."""
    if task.run is None:
        return 0.0
    results = _peek(task.run)
    return len(results.get("train_seconds", ())) / task.run.changes["epochs"]


def _result(task: Task) -> str:
    """Return in a few words what came out of a task."""
    results = _peek(task.run) if task.run is not None else {}
    if results.get("best_epoch") and "valid_accs" in results:
        return f"validation accuracy {results['valid_accs'][results['best_epoch'] - 1]:.3f}"
    if results.get("test_mae"):
        return f"test MAE {results['test_mae'][-1]:.3f}"
    return "over" if task.run is None else results.get("finished", "")[:50]


def _peek(run: Run) -> dict[str, Any]:
    """Return the results of a run that is still being done."""
    with contextlib.suppress(OSError, ValueError):
        return read(run.folder)
    return {}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Local:
    """Does tasks in processes of this machine.

    Args:
        jobs: how many at once; they share the cores.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._context: context.ForkServerContext | context.SpawnContext
        if "forkserver" in multiprocessing.get_all_start_methods():
            # Forked from a process that has imported everything: torch alone takes seconds.
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload([__name__, "torch._dynamo"])
        else:
            self._context = multiprocessing.get_context("spawn")

    def __call__(self, tasks: list[Task], outcome: Outcome) -> None:
        """Do tasks; see ``run_all``."""
        clock, waiting = Clock(tasks), deque(tasks)
        running: dict[str, tuple[Task, BaseProcess, connection.Connection, float]] = {}  # by title
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    task = waiting.popleft()
                    receiver, sender = self._context.Pipe(duplex=False)
                    process: BaseProcess = self._context.Process(
                        target=_child, args=(task, threads, sender)
                    )
                    process.start()
                    sender.close()
                    running[task.title] = task, process, receiver, time.monotonic()
                sentinels = [process.sentinel for _, process, _, _ in running.values()]
                connection.wait(sentinels, timeout=1)
                for title, (task, process, receiver, started) in list(running.items()):
                    if process.is_alive():
                        continue
                    process.join()
                    del running[title]
                    error = _error_of(process, receiver)
                    outcome.note(task, error)
                    others = [other for other, *_ in running.values()]
                    clock.finish(task, time.monotonic() - started, error, others)
                clock.show([task for task, *_ in running.values()])
        finally:
            for _, process, _, _ in running.values():
                process.terminate()  # they write a checkpoint first
            for _, process, _, _ in running.values():
                process.join()


def _error_of(process: BaseProcess, receiver: connection.Connection) -> str | None:
    """Return what was wrong with a task, None if nothing."""
    with contextlib.suppress(EOFError, OSError):
        if receiver.poll():
            return receiver.recv()
    if process.exitcode is not None and process.exitcode < 0:
        return f"killed by {signal.Signals(-process.exitcode).name}"
    return f"exit status {process.exitcode}"


def _child(task: Task, threads: int, sender: connection.Connection) -> None:
    """Do a task and send what was wrong, None if nothing."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    task.folder.mkdir(parents=True, exist_ok=True)
    with (
        (task.folder / LOG).open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        error = None
        try:
            perform(task)
        except interrupt.Interrupted as interruption:
            error = f"stopped by {interruption}"
        except Exception as problem:
            traceback.print_exc()
            error = f"{problem} (see {task.folder / LOG})"
    with contextlib.suppress(OSError):  # the one that asked for it may be gone
        sender.send(error)


def _end_with_parent() -> None:
    """Ask this process to end when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
