"""Execute the runs, in processes of this machine or as jobs of a cluster.

A finished run is not repeated, an interrupted one resumes, and one that fails does not stop the
others.
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
from collections.abc import Callable, Sequence
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
    make_run,
    read_finished,
)
from experiments.wanted import runs_wanted
from training import checkpoint, interrupt, precision
from training.device import pick_device
from training.precision import Precision
from training.results import FINISHED, TRAINED, read_results

LOG = "log.txt"  # the output of a run, in its folder
PATIENCE = 60  # seconds to wait for a folder that a process which is about to end has locked


@dataclass(frozen=True)
class Task:
    """The work of one process: a run, or a share of a search.

    Attributes:
        experiment: its name.
        run: to train; None for a share of the search.
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
        """Roughly how long it takes, in the unit of ``Clock``: multiply-adds of all its images."""
        experiment = load_experiments()[self.experiment]
        count = getattr(experiment.module, "multiply_adds", classify.multiply_adds)
        if self.run is None:
            changes = {"model": experiment.module.MODEL}
            run = make_run(experiment, changes, self.settings, self.settings.seeds[0])
            epochs = self.settings.trials * experiment.module.TRIAL_EPOCHS
        else:
            run, epochs = self.run, self.run.changes["epochs"]
        images = self.settings.subset or 45_000
        return 1e11 + count(run) * images * epochs


def perform(task: Task) -> None:
    """Perform a task in this process.

    Raises:
        Interrupted: a signal came; the last step is in the checkpoint.
        ValueError, OSError: as ``training.run.setup``; or the folder is still in use after a
            minute.
    """
    experiment = load_experiments()[task.experiment]
    deadline = time.monotonic() + PATIENCE
    with interrupt.held():
        while True:
            try:
                if task.run is None:
                    from experiments import search  # only searches need Optuna

                    search.work(experiment, task.settings)
                else:
                    train = getattr(experiment.module, "train", classify.train)
                    train(task.run, task.settings)
                return
            except checkpoint.InUse:
                if time.monotonic() > deadline or interrupt.pending():
                    raise
                time.sleep(0.5)


def todo(experiments: Sequence[Experiment], settings: Settings, workers: int) -> list[Task]:
    """Return the tasks that can be performed now: the winner of a search follows the search.

    Args:
        experiments, settings: to perform.
        workers: of each search.
    """
    tasks: dict[Path, Task] = {}  # experiments share runs
    for experiment in experiments:
        runs = runs_wanted(experiment, settings)
        if experiment.is_search and not runs:
            shares = [Task(experiment.name, None, settings, worker) for worker in range(workers)]
            tasks |= {share.folder / str(share.worker): share for share in shares}
        for run in (run for group in runs.values() for run in group):
            if read_finished(run) is None:
                tasks.setdefault(run.folder, Task(experiment.name, run, settings))
    return list(tasks.values())


def pick_precision(device: str, previous: str | None) -> Precision:
    """Return the precision for all runs: the previous one, or the fastest on this machine.

    Args:
        device: as in ``main.py``.
        previous: of the runs that are already in the output folder, None if there are none.
    """
    return precision.pick_precision("auto", pick_device(device), previous)


@dataclass
class Outcome:
    """The tasks that have ended."""

    done: list[str] = field(default_factory=list)  # titles
    failed: dict[str, str] = field(default_factory=dict)  # title: error

    def note(self, task: Task, error: str | None) -> None:
        """Note that a task has ended, and its error, None if there was none."""
        if error is None:
            self.done.append(task.title)
        else:
            self.failed[task.title] = error


# Performs tasks and notes their outcome.
Executor = Callable[[list[Task], Outcome], None]


def run_all(
    experiments: Sequence[Experiment],
    settings: Settings,
    do: Executor,
    workers: int,
) -> Outcome:
    """Perform all tasks that are left, and then those that they make possible.

    Args:
        experiments, settings: to perform.
        do: performs tasks and notes their outcome: ``Local(...)`` or ``Cluster(...)``.
        workers: of each search.
    """
    outcome = Outcome()
    while True:
        ended = {*outcome.done, *outcome.failed}  # a search may wait for another machine
        tasks = [t for t in todo(experiments, settings, workers) if t.title not in ended]
        if not tasks:
            return outcome
        do(tasks, outcome)


class Clock:
    """Prints a line for each task and estimates the time left."""

    def __init__(self, tasks: Sequence[Task]):
        self._weights = {task.title: task.weight for task in tasks}
        self._number = len(tasks)
        self._started, self._finished, self._done = time.monotonic(), 0, 0.0
        self._live = sys.stderr.isatty()

    def left(self, running: Sequence[Task]) -> str:
        """Return the time left in words, estimated from the speed so far."""
        part = sum(self._weights[t.title] * _share(t) for t in running)
        done = self._done + part
        if not done:
            return "? left"
        seconds = (time.monotonic() - self._started) * (sum(self._weights.values()) / done - 1)
        return f"{_duration(seconds)} left"

    def show(self, running: Sequence[Task]) -> None:
        """Show the running tasks, in a terminal only."""
        if self._live:
            names = ", ".join(f"{task.title} ({_share(task):.0%})" for task in running)
            line = f"{self._finished}/{self._number} done, {self.left(running)}: {names}"
            print(f"\r{line[:79]:79}", end="", file=sys.stderr, flush=True)

    def finish(
        self, task: Task, seconds: float, error: str | None, running: Sequence[Task]
    ) -> None:
        """Print the line of a task that has ended."""
        self._finished += 1
        self._done += self._weights[task.title]
        if self._live:
            print(f"\r{'':79}\r", end="", file=sys.stderr)
        head = f"{self._finished:>{len(str(self._number))}}/{self._number}"
        result = f"failed: {error}" if error else f"{_duration(seconds)}, {_result(task)}"
        print(f"{head}  {task.title}\n{'':{len(head)}}  {result}; {self.left(running)}", flush=True)


def _share(task: Task) -> float:
    """Return the finished part of a run, as a fraction."""
    if task.run is None:
        return 0.0
    results = _results_so_far(task.run)
    return len(results.get("train_seconds", ())) / task.run.changes["epochs"]


def _result(task: Task) -> str:
    """Return the result of a task in a few words."""
    results = _results_so_far(task.run) if task.run is not None else {}
    if results.get(FINISHED) != TRAINED:
        return results.get(FINISHED, "done")[:50]
    if "test_mae" in results:
        return f"test MAE {results['test_mae'][-1]:.3f}"
    return f"validation accuracy {max(results['valid_accs']):.3f}"


def _results_so_far(run: Run) -> dict[str, Any]:
    """Return the results of a run that may still be training, {} if there are none yet."""
    with contextlib.suppress(OSError, ValueError):
        return read_results(run.folder)
    return {}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Local:
    """Performs tasks in processes of this machine.

    Args:
        jobs: number of processes at once; they share the cores.
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
        """Perform tasks; see ``run_all``."""
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
    """Return the error of a task that has ended, None if there was none."""
    with contextlib.suppress(EOFError, OSError):
        if receiver.poll():
            return receiver.recv()
    if process.exitcode is not None and process.exitcode < 0:
        return f"killed by {signal.Signals(-process.exitcode).name}"
    return f"exit status {process.exitcode}"


def _child(task: Task, threads: int, sender: connection.Connection) -> None:
    """Perform a task and send its error, None if there was none."""
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
    with contextlib.suppress(OSError):  # the parent may be gone
        sender.send(error)


def _end_with_parent() -> None:
    """Ask this process to end when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
