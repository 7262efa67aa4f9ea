"""Grade submissions as jobs of SLURM: each job grades a share of them into a CSV file of its own.

A job that is preempted, out of time or lost with its node is queued again and grades what is left.
"""

import glob
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from experiments.jobs import ClusterTask, make_executor, why_failed
from grader.assignment import Assignment
from grader.marks import Marks, Row, Work, grade_many
from grader.server import Server
from training import interrupt


def prefix(marks: Path) -> str:
    """Return how the folder is called in which main and the jobs of a CSV file meet."""
    return f".{marks.name}-"


def recover(path: Path, marks: Marks, work: Work, assignment: Assignment, current: Path) -> None:
    """Take over the rows of jobs whose main process was killed.

    Args:
        path: of the CSV file.
        marks: its rows.
        work: all submissions.
        assignment: of the submissions.
        current: the folder of this process.
    """
    for folder in path.parent.glob(f"{glob.escape(prefix(path))}*"):
        for share in folder.glob("*.csv"):
            with suppress(ValueError):  # of another version
                rows = Marks(share, assignment)
                for submission in work.submissions:
                    row = rows.find(submission, work)
                    if row and not marks.find(submission, work):
                        marks.add(row)
        if folder != current:
            shutil.rmtree(folder, ignore_errors=True)


def grade_in_jobs(
    work: Work,
    assignment: Assignment,
    folder: Path,
    jobs: int,
    partition: str | None,
    minutes: int,
) -> Iterator[Row]:
    """Grade submissions in jobs and yield the row of each as it appears in the file of its job.

    Args:
        work: what to grade.
        assignment: of the submissions.
        folder: for the files of the jobs; all nodes must see it.
        jobs: number of jobs.
        partition: of the cluster; None for its default.
        minutes: time limit of a job; what is left is graded in another.

    Raises:
        RuntimeError: a job failed.
    """
    numbers = range(min(jobs, len(work.submissions)))
    shares = [replace(work, submissions=work.submissions[number::jobs]) for number in numbers]
    paths = [folder.absolute() / f"{number}.csv" for number in numbers]
    executor = make_executor("grader", folder, jobs, partition, minutes)
    running = list(zip(executor.map_array(ClusterTask(grade_share), shares, paths), paths))
    print(f"submitted {len(running)} jobs, {running[0][0].job_id} is the first", flush=True)
    seen: set[str] = set()
    failures = []
    try:
        while running:
            ended = [job for job, _ in running if job.done()]  # before its file is read
            for _, path in running:
                for name, row in Marks(path, assignment).rows.items():
                    if name not in seen:
                        seen.add(name)
                        yield row
            failures += [error for job in ended if (error := why_failed(job))]
            running = [(job, path) for job, path in running if job not in ended]
            time.sleep(1)
    finally:
        for job, _ in running:
            job.cancel()
    if failures:
        raise RuntimeError(f"{len(failures)} jobs failed: {failures[0]}")


def grade_share(work: Work, path: Path) -> None:
    """Grade the submissions that the CSV file of a job does not hold yet."""
    with interrupt.raised(), Server(work.name) as server:
        marks = Marks(path, server.assignment)
        left = tuple(path for path in work.submissions if not marks.find(path, work))
        for row in grade_many(replace(work, submissions=left), server, jobs=1):
            marks.add(row)
