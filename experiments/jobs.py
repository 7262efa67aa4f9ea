"""Jobs of SLURM, through submitit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import submitit

from training import interrupt


def make_executor(
    name: str, folder: Path, jobs: int, partition: str | None, minutes: int, gpus: int = 0
) -> submitit.SlurmExecutor:
    """Return an executor of job arrays.

    Args:
        name: of the jobs.
        folder: for their output; all nodes must see it.
        jobs: number of jobs at once.
        partition: None for the cluster's default.
        minutes: time limit of a job.
        gpus: per job.
    """
    executor = submitit.SlurmExecutor(folder=folder.absolute())
    executor.update_parameters(
        job_name=name,
        partition=partition,
        time=minutes,
        gpus_per_node=gpus or None,
        array_parallelism=jobs,
        signal_delay_s=90,
    )
    return executor


class ClusterTask(submitit.helpers.Checkpointable):
    """The work of a job; ``Checkpointable`` queues it again when time is short.

    Args:
        work: a function that resumes what it has begun.
    """

    def __init__(self, work: Callable[..., None]):
        self._work = work

    def __call__(self, *arguments: Any) -> None:
        try:
            self._work(*arguments)
        except interrupt.Interrupted as interruption:
            # The cluster will queue the job again; an exception here would become its result.
            print(f"stopped by {interruption}", flush=True)
            os._exit(interruption.status)


def why_failed(job: submitit.Job) -> str | None:
    """Return the last line of the error of a job that has ended, None if it had none."""
    error = job.exception()
    return str(error).strip().splitlines()[-1] if error else None
