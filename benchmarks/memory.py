"""The memory of training: the peak of a fresh process that takes a few steps.

The process is fresh because the peak of a process never falls, and because the baseline and this
project would add up in one.
"""

import itertools
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks import baseline, common
from training.config import MODELS, build_model, default_path, read_config
from training.device import pick_device
from training.progress import Progress

STEPS = 3  # the second has the optimizer's state; the third allocates nothing new


def measure_peak(way: str, model: str, data: Path, device: str, precision: str) -> dict[str, int]:
    """Return the peak memory of "baseline" or "ours", in bytes, in a fresh process.

    On CUDA it is what PyTorch allocates on the GPU. Elsewhere it is the resident memory of the
    process, Python and its libraries included; the baseline has no workers.

    Returns:
        ``peak``, and ``before``: the peak after the libraries were loaded. Both are 0 if the
        system does not report them.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        arguments = (way, model, data, device, precision, torch.get_num_threads())
        return process.submit(_train_some_steps, *arguments).result()


def _train_some_steps(
    way: str, model: str, data: Path, device_name: str, precision: str, threads: int
) -> dict[str, int]:
    torch.set_num_threads(threads)
    device = pick_device(device_name)
    before = _peak(device)
    if way == "baseline":
        path = default_path(model)
        network = build_model(path, MODELS[model], read_config(path, model)).to(device)
        loader = baseline.make_loader(
            *common.read_images(data), training=True, workers=0, device=device
        )
        optimizer = baseline.make_optimizer(network)
        baseline.train(network, itertools.islice(loader, STEPS), optimizer, device)
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            run = common.setup(
                model, data, Path(folder, "run"), device=device_name, precision=precision
            )
            last = max(len(run.train_batches) - STEPS, 0)
            common.train(run, run.train_batches, progress=Progress(steps=last))
    return {"peak": _peak(device), "before": before}


def _peak(device: torch.device) -> int:
    """Return the peak memory of this process, in bytes, 0 if the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # Linux, where getrusage would also count the process that started this one
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
