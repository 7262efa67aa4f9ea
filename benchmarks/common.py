"""What several benchmarks share: the images, training with this project, and timing."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import main
from training.arguments import parse_args
from training.data import Split, load_data
from training.progress import Progress
from training.run import Run

EPOCH = 45_000  # training images of CIFAR-10
BATCH_SIZE = 128

Seconds = dict[str, list[float]]


def write_images(source: str, data_dir: str, number: int, path: Path) -> str:
    """Write ``number`` training images into an ``.npz`` file and return the name of their source.

    A source with fewer images is repeated: speed does not depend on the content of the images, and
    no accuracy is measured with them.

    Raises:
        ValueError, OSError: as ``load_data``.
    """
    data = load_data(source, data_dir)
    images, labels = to_arrays(data.train)
    chosen = np.arange(max(number, 10)) % len(labels)  # main.py needs at least ten images
    np.savez(
        path,
        train_images=images[chosen],
        train_labels=labels[chosen],
        val_images=images[:1],
        val_labels=labels[:1],
        test_images=images[:1],
        test_labels=labels[:1],
    )
    return data.name


def to_arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the images as (N, S, S, 3) uint8 and the labels as (N,) int64."""
    return split.images.permute(0, 2, 3, 1).contiguous().numpy(), split.labels.numpy()


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images and labels of a file of ``write_images``."""
    with np.load(path) as archive:
        return archive["train_images"], archive["train_labels"]


def setup(model: str, data: str | Path, logdir: Path, **arguments: Any) -> Run:
    """Return a run of ``main.py`` with these arguments, and defaults for the others.

    Raises:
        ValueError, OSError: as ``main.setup``.
    """
    argv = ["--model", model, "--data", str(data), "--logdir", str(logdir)]
    for name, value in arguments.items():
        argv += [f"--{name}", str(value)]
    return main.setup(parse_args(argv))


def train(run: Run, batches: Any, epoch: int = 1, progress: Progress | None = None) -> None:
    """Train on these batches as ``main.fit_epoch`` does."""
    main.train(
        epoch,
        run.model,
        batches,
        run.optimizer,
        run.args,
        scheduler=run.scheduler,
        precision=run.precision,
        progress=progress,
    )


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    repeats: int,
    device: torch.device | None = None,
    what: str = "",
) -> Seconds:
    """Time calls in turn, ``repeats`` times each, so that a slow moment affects all of them alike.

    Args:
        calls: by name; each has run before.
        repeats: number of times each is called.
        device: synchronized before and after each call; None for calls on the CPU.
        what: shown on a terminal meanwhile.

    Returns:
        The seconds of each call, in order, by name.
    """
    seconds: Seconds = {name: [] for name in calls}
    device = device or torch.device("cpu")
    for repeat in range(repeats):
        for name, call in calls.items():
            show(f"{what}, {name}, {repeat + 1} of {repeats}" if what else "")
            synchronize(device)
            started = time.perf_counter()
            call()
            synchronize(device)
            seconds[name].append(time.perf_counter() - started)
    show("")
    return seconds


def show(what: str) -> None:
    """Show on one line of a terminal what is being measured; an empty text clears the line."""
    if sys.stderr.isatty():
        print(f"\r{what[:79]:<79}\r", end="", file=sys.stderr, flush=True)


def name_device(results: dict[str, Any]) -> list[str]:
    """Return the lines that name a GPU; the processor is named above the table."""
    on_processor = results["device"].startswith(results["processor"])
    return [""] if on_processor else [f"on {results['device']}", ""]


def summary(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """Return the median and the quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def ratios(seconds: Seconds, name: str, base: str = "ours") -> list[float]:
    """Return how many times as long ``name`` takes as ``base``, repeat by repeat."""
    return [first / second for first, second in zip(seconds[name], seconds[base])]


def digits_of(values: Sequence[float] | np.ndarray) -> int:
    """Return the number of decimals, 4 at most, that shows three digits of the median."""
    return max(0, min(4, 2 - int(np.floor(np.log10(np.median(values))))))
