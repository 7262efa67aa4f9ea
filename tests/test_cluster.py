"""The experiments and the grader on a real SLURM of one node, started by slurm.sh.

Skipped where SLURM is not installed or the tests do not run as root.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from test_experiments import arguments, results_below, tiny  # noqa: F401, a fixture
from test_grader_marks import rows_of

SCRIPT = Path(__file__).parent / "slurm.sh"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0,
        reason="SLURM is not installed here, or this is not root",
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which the commands of SLURM find it."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        pytest.skip(f"SLURM does not start here: {started.stderr.strip()}")
    name, _, value = started.stdout.strip().partition("=")
    yield os.environ | {name: value, "OMP_NUM_THREADS": "1"}
    subprocess.run([SCRIPT, "stop", folder], check=True)


def run_on(slurm, data, output):
    words = arguments("regression_cnn", data, output, "--epochs", "400")
    # Without accounting submitit warns that sacct has nothing to say.
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "experiments", *words, "--cluster", "slurm",
         "--gpus", "0", "--time", "10"],
        cwd=ROOT, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_job_that_is_requeued_ends_as_if_it_had_not_been(slurm, tiny, tmp_path):  # noqa: F811
    """SLURM stops the job in the middle, and queues it again."""
    interrupted, whole = tmp_path / "interrupted", tmp_path / "whole"
    first = run_on(slurm, tiny, interrupted)
    deadline = time.monotonic() + 240
    while not list(interrupted.rglob("results.json")):
        assert time.monotonic() < deadline, first.communicate()[0]
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    running = ["squeue", "--noheader", "--states", "running", "--format", "%i"]
    job = subprocess.check_output(running, env=slurm, text=True).strip()
    subprocess.run(["scontrol", "requeue", job], check=True, env=slurm)
    second = run_on(slurm, tiny, whole)  # meanwhile: a job is requeued two minutes later
    for process in (second, first):
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output
        assert "1 done, 0 failed" in output
    epochs = [len(r["train_mae"]) for r in results_below(interrupted).values()]
    assert epochs == [400]
    assert "stopped by SIGTERM" in "".join(
        path.read_text() for path in (interrupted / "slurm").glob("*_log.out")
    )
    assert results_below(interrupted) == results_below(whole)


def test_the_command_of_the_readme_is_warned_before_its_time_ends(slurm, small_npz, tmp_path):
    """The run is far too long for two minutes; SLURM may warn up to a minute early."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^sbatch .*$", readme, re.MULTILINE)
    log, logdir = tmp_path / "log", tmp_path / "run"
    small = f"--data {small_npz} --epochs 100000 --batch_size 300 --device cpu --logdir {logdir}"
    for old, new in (
        (
            "sbatch --gres=gpu:1 --time=60 ",
            f"sbatch --wait --output={log} --time=2 ",
        ),  # no GPU here
        ('--resume auto"', f'--resume auto {small}"'),
    ):
        assert old in command
        command = command.replace(old, new)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(command, shell=True, cwd=ROOT, env=slurm | {"PATH": path})
    printed = log.read_text()
    assert "stopped by SIGUSR1; the same command with --resume resumes it" in printed, printed
    assert done.returncode == 128 + signal.SIGUSR1
    assert (logdir / "checkpoint.pt").exists()


def test_a_class_is_graded_in_jobs_as_it_is_without(slurm, expected, tmp_path):
    """The main process is killed when the first row is there; the jobs go on meanwhile."""
    for number in range(6):
        (tmp_path / "class" / str(number)).mkdir(parents=True)
        text = "raise SystemExit" if number % 2 else (ROOT / "utils.py").read_text()
        (tmp_path / "class" / str(number) / "utils.py").write_text(text)
    (tmp_path / "class" / "damaged.zip").write_bytes(b"PK\3\4")
    command = [sys.executable, "-W", "ignore", "-m", "grader", "grade", "cifar10"]
    command += [*sorted((tmp_path / "class").iterdir()), "--expected", expected, "--csv"]
    path, jobs = tmp_path / "jobs.csv", ["--cluster", "slurm", "--jobs", "2", "--time", "10"]
    jobs += ["--feedback", tmp_path / "pages"]
    options = {"cwd": ROOT, "env": slurm, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, path, *jobs], **options) as first:
        while not path.exists():
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.05)
        first.kill()
    resumed = subprocess.run([*command, path, *jobs], **options)
    assert "submissions are graded already" in resumed.stdout
    assert resumed.returncode == 1, resumed.stdout
    whole = tmp_path / "whole.csv"
    subprocess.run([*command, whole], **options)
    assert rows_of(path) == rows_of(whole)
    assert sorted(os.listdir(tmp_path)) == ["class", "jobs.csv", "pages", "whole.csv"]
    assert len(list((tmp_path / "pages" / "students").glob("*.html"))) == len(rows_of(whole))
