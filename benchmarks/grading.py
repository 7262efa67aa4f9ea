"""The time and the memory of grading: the solution of an assignment as the submission.

Times are wall-clock times with the grader's processes bound to as many cores as there are jobs, so
that with one job they are an upper limit of the processor time. The expected records exist already,
as in the image of Gradescope; the start of the grader's server is measured separately.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from grader.assignment import list_assignments, read_solution
from grader.engine import grade, prepare_expected
from grader.server import Server
from training.arguments import add_number, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks grading --repeats 5 --jobs 2"
    add_number(parser, "--repeats", positive_int, 3, "of each grading")
    add_number(parser, "--jobs", positive_int, os.cpu_count() or 1, "graded at once, besides 1")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Grade each solution with one job and with several.

    Returns:
        ``rows``: for each assignment and number of jobs the seconds of every repeat from the start
        of the server to its first answer (``start``) and per submission (``submission``); for one
        job also the peak memory of all processes in bytes (``memory``), 0 where /proc lacks it.
    """
    rows = []
    for name in list_assignments():
        for jobs in sorted({1, args.jobs}):
            with tempfile.TemporaryDirectory() as folder, _cores(jobs):
                rows.append({"assignment": name, "jobs": jobs} | _grade(name, jobs, args, folder))
    return {"repeats": args.repeats, "rows": rows}


def _grade(name: str, jobs: int, args: argparse.Namespace, folder: str) -> dict[str, Any]:
    started = time.perf_counter()
    with Server(name) as server, ThreadPoolExecutor(jobs) as pool:
        assignment = server.assignment
        start = time.perf_counter() - started
        submission, expected = Path(folder, "submission"), Path(folder, "expected")
        submission.mkdir()
        for file, content in read_solution(assignment).items():
            (submission / file).write_bytes(content)
        prepare_expected(assignment, expected, server)

        def repeat(_: int = 0) -> None:
            report = grade(assignment, submission, expected, server)
            if report.score != assignment.points:
                raise RuntimeError(f"{name}: the solution scores {report.score:g}")

        seconds = []
        for _ in range(args.repeats):
            started = time.perf_counter()
            list(pool.map(repeat, range(jobs)))
            seconds.append((time.perf_counter() - started) / jobs)
        with _peak_memory() as peak:
            if jobs == 1:  # not while the time is taken: reading it takes time too
                repeat()
    return {"start": start, "submission": seconds, "memory": peak[0]}


def to_table(results: dict[str, Any]) -> str:
    """Return medians with quartiles."""
    lines = [
        f"Seconds per submission, median of {results['repeats']} repeats (quartiles)",
        f"{'assignment':<16} {'jobs':>4} {'start, s':>9} {'submission, s':>22} {'memory, MB':>11}",
    ]
    for row in results["rows"]:
        memory = f"{row['memory'] / 1e6:.0f}" if row["memory"] else ""
        lines.append(
            f"{row['assignment']:<16} {row['jobs']:>4} {row['start']:>9.1f} "
            f"{common.summary(np.array(row['submission']), 1):>22} {memory:>11}"
        )
    return "\n".join(lines)


@contextmanager
def _cores(number: int) -> Iterator[None]:
    """Bind this process and those that it starts to some cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Yield a list that receives the peak memory of the processes that this one has started.

    Shared pages count once. It is read ten times a second, so a short peak may be missed.
    """
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], sum(map(_memory, _descendants(os.getpid()))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, path.read_text(encoding="utf-8").split())
    return [each for child in children for each in (child, *_descendants(child))]


def _memory(pid: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
