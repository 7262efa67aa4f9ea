"""Execute the runs as a job array of SLURM, through submitit.

A job that is preempted, out of time or lost with its node is queued again and resumes from its last
checkpoint.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from experiments.execute import Clock, Outcome, Task, perform, pick_precision
from experiments.jobs import ClusterTask, make_executor, why_failed
from experiments.plan import Settings
from training.precision import Precision


class Cluster:
    """Performs tasks as jobs of a cluster; see ``execute.run_all``.

    Args:
        settings: of the runs; all nodes must see the output folder.
        jobs: number of jobs at once.
        partition: None for the cluster's default.
        minutes: time limit of a job; a run that needs longer resumes in another.
        gpus: per job.
    """

    def __init__(
        self, settings: Settings, jobs: int, partition: str | None, minutes: int, gpus: int
    ):
        folder = Path(settings.output) / "slurm"
        self._executor = make_executor("experiments", folder, jobs, partition, minutes, gpus)

    def pick_precision(self, device: str, previous: str | None) -> Precision:
        """Return the precision for all runs, as a job of its own measures it on a node."""
        job = self._executor.submit(pick_precision, device, previous)
        print(f"job {job.job_id} measures the precision", flush=True)
        return job.result()

    def __call__(self, tasks: Sequence[Task], outcome: Outcome) -> None:
        """Submit the tasks and wait for them; if this process ends, the jobs keep running."""
        clock = Clock(tasks)
        jobs = list(zip(tasks, self._executor.map_array(ClusterTask(perform), tasks)))
        print(f"submitted {len(jobs)} jobs, {jobs[0][1].job_id} is the first", flush=True)
        started = time.monotonic()
        while jobs:
            ended = [(task, job) for task, job in jobs if job.done()]
            jobs = [pair for pair in jobs if pair not in ended]
            waiting = [task for task, _ in jobs]
            for task, job in ended:
                outcome.note(task, why_failed(job))
                seconds = time.monotonic() - started
                clock.finish(task, seconds, outcome.failed.get(task.title), waiting)
            clock.show(waiting)
            time.sleep(1)
