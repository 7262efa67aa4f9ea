"""What several test files share, and the check that no test leaves anything behind."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# One thread per process, also in the processes that a test starts: the files run side by side, and
# sums depend on the number of threads. Before PyTorch and NumPy are loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import pytest
import torch
from filelock import FileLock

from training import config

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # where test.py has loaded it before

# A shell that starts the tests in the background makes them, and their children, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Keep the order of the files where the slow ones run side by side; see the next function."""
    if config.option.markexpr == "slow" and hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Start with SLURM, which makes a job wait for minutes while other tests can run."""
    items.sort(key=lambda item: item.path.name != "test_cluster.py")


IGNORED = ("PYTEST_", "TORCHINDUCTOR_", "PYDEVD_")


def _global_state():
    """Everything that a test could change for the next one."""
    return {
        # Without what pytest sets, PyTorch with its first optimizer, and an older ipykernel.
        "environment": {k: v for k, v in os.environ.items() if not k.startswith(IGNORED)},
        "folder": os.getcwd(),
        "search path": list(sys.path),
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "models": dict(config.MODELS),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_behind_by_a_module():
    """Module-wide fixtures restore what they change, too."""
    before = _global_state()
    yield
    assert _global_state() == before


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No test depends on the ones before it."""
    before = _global_state()
    yield
    assert _global_state() == before


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A function that builds a file or folder once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def build_once(name, build):
        """Return the path called ``name``; ``build(path)`` makes it, in the first process."""
        path = folder / name
        with FileLock(f"{path}.lock"):
            if not path.exists():
                unfinished = folder / f"unfinished-{name}"
                build(unfinished)
                unfinished.rename(path)
        return path

    return build_once


def without_times(results):
    """The results without what differs between two equal runs."""
    own = ("train_seconds", "valid_seconds", "precision_speeds", "args")
    return {key: value for key, value in results.items() if key not in own}


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a file system of some bytes in memory; for root only."""
    mounted = []

    def mount_at(folder, size):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a file system is not permitted here")
        mounted.append(folder)
        return folder

    yield mount_at
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def read_only(mount):
    """A function that makes a mounted file system read-only."""

    def remount(folder):
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)

    return remount


@pytest.fixture(scope="session")
def cifar10_npz(shared):
    """The real CIFAR-10, where a copy of it lies beside the repository."""
    unpack = ROOT.parent / "shared" / "cifar10" / "unpack.py"
    if not unpack.exists():
        pytest.skip(f"the real CIFAR-10 is not here: there is no {unpack}")

    def build(folder):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, unpack, folder / "cifar10.npz"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return shared("cifar10", build) / "cifar10.npz"


@pytest.fixture(scope="session")
def expected(shared):
    """The folder with the expected records of the first assignment."""
    import grading  # here, as the grader needs Linux or macOS

    return grading.expected_of(shared)


@pytest.fixture
def graded(expected, tmp_path):
    """A function that grades the solution with other files in its place."""
    import grading

    return grading.make_graded(expected, tmp_path)


@pytest.fixture
def spoilt(graded):
    """A function that grades one changed file and checks that another keeps its points."""
    import grading

    return grading.make_spoilt(graded)


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory):
    """A small data set that can be learned: the height of a bright band is the class."""
    random = np.random.default_rng(0)

    def images(labels):
        pixels = random.integers(0, 100, (len(labels), 32, 32, 3), np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[3 * label : 3 * label + 3] += 150
        return pixels

    train, test = np.arange(300) % 10, np.arange(50) % 10
    path = tmp_path_factory.mktemp("data") / "bands.npz"
    np.savez(
        path,
        train_images=images(train),
        train_labels=train,
        test_images=images(test),
        test_labels=test,
    )
    return path


@pytest.fixture(scope="session")
def small_mlp(tmp_path_factory):
    """The configuration of an MLP that trains in no time."""
    path = tmp_path_factory.mktemp("configs") / "small_mlp.json"
    path.write_text(json.dumps({"input_size": 3072, "hidden_sizes": [16], "num_classes": 10}))
    return path


@pytest.fixture(scope="session")
def demanding_run(small_npz, tmp_path_factory):
    """Arguments of a run with dropout, a schedule and mixup: all that a checkpoint has to carry."""
    config = tmp_path_factory.mktemp("configs") / "small_mixer.json"
    config.write_text(
        json.dumps(
            {"num_classes": 10, "img_size": 32, "patch_size": 8, "embed_dim": 16, "num_blocks": 2}
            | {"drop_rate": 0.2, "drop_path_rate": 0.2}
        )
    )
    return [
        *("--model", "mlpmixer", "--model_config", str(config), "--data", str(small_npz)),
        *("--epochs", "12", "--batch_size", "16", "--device", "cpu", "--precision", "float32"),
        *("--scheduler", "onecycle", "--crop", "padded", "--cutout", "8", "--mixup", "0.2"),
    ]


@pytest.fixture
def small_run(small_npz, small_mlp, tmp_path):
    """Arguments of a run that takes a fraction of a second."""
    return [
        *("--model", "mlp", "--model_config", str(small_mlp), "--data", str(small_npz)),
        *("--epochs", "3", "--batch_size", "64", "--device", "cpu", "--precision", "float32"),
        *("--logdir", str(tmp_path / "run")),
    ]


@pytest.fixture
def program(monkeypatch, tmp_path):
    """A function that imports ``train.py`` of a sibling assignment, as running it there does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    names = ("train", "solution", "figures")

    def load(assignment):
        monkeypatch.syspath_prepend(str(ROOT / assignment))
        for name in names:
            sys.modules.pop(name, None)
        return importlib.import_module("train")

    yield load
    for name in names:
        sys.modules.pop(name, None)
