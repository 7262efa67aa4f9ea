"""Training with this project (B) against the usual way (A, ``benchmarks/usual.py``).

Both train the same networks on the same images in batches of 128. B is ``main.train`` with what
``main.setup`` builds from the defaults of ``main.py``; A takes its images from DataLoaders with
several numbers of worker processes. All ways take turns, so that a slow moment of the machine
meets each of them, and a ratio is that of two neighbours in time.
"""

import argparse
import functools
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks import common, hardware, memory, usual
from benchmarks.arguments import add_data, add_device, count, positive_int
from training.config import MODELS, build_model, default_path, read_config
from training.device import describe_device, pick_device
from training.precision import Precision, pick_precision
from training.progress import Progress
from training.run import Run
from utils import to_device

# Images of an epoch where nothing is said: on a CPU as many as a few seconds take.
ON_CPU = {"pipeline": 10_000, "mlp": 10_000, "resnet18": 256, "mlpmixer": 512}
STEPS = 20  # at most, without the pipeline
PIPELINE = 50_000  # images, all of CIFAR-10's training set, for which its time is given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = (
        "example: python -m benchmarks training --models mlp --images 5000 --workers 0 2 4 "
        "--json training.json --figure training.png"
    )
    parser.add_argument(
        "--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="which to train"
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        metavar="N",
        help="training images of an epoch (default: 45000, on a CPU fewer: "
        + ", ".join(f"{name} {number}" for name, number in ON_CPU.items())
        + ")",
    )
    parser.add_argument(
        "--workers",
        type=count,
        nargs="+",
        metavar="N",
        help="processes of the usual way's DataLoader, one way for each number "
        "(default: 0 2, on a GPU 4)",
    )
    parser.add_argument(
        "--repeats", type=positive_int, default=5, metavar="N", help="times that all is measured"
    )
    add_data(parser, default="shapes")
    add_device(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all, model by model.

    Returns:
        ``pipeline``: seconds of each way for its ``images``. ``models``: for each, seconds of an
        ``epoch`` of ``images`` and of ``steps`` steps, bytes of ``memory``, and ``multiply_adds``
        of an image. ``limits``: what the hardware can do, by precision.

    Raises:
        ValueError, OSError: the device, the precision or the data cannot be had.
    """
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    workers = args.workers or ([0, 2] if device.type == "cpu" else [4])
    workers = list(dict.fromkeys(workers))
    images = {
        name: args.images or (number if device.type == "cpu" else common.EPOCH)
        for name, number in ON_CPU.items()
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = _Bench(Path(folder, "images.npz"), device, precision, workers, args.repeats)
        number = args.images or common.EPOCH
        source = common.write_images(args.data, args.data_dir, number, bench.data)
        models = [bench.measure_model(model, images[model]) for model in args.models]
        pipeline = bench.measure_pipeline(images["pipeline"])
    common.show("matrix products")
    limits = {
        _name(kind): hardware.measure_limit(device, kind)
        for kind in dict.fromkeys([torch.float32, precision.dtype])
    }
    return {
        "device": describe_device(device),
        "precision": str(precision),
        "versions": usual.versions(),
        "memory_of": "GPU" if device.type == "cuda" else "process",
        "source": source,
        "images_of_memory": number,
        "pipeline": pipeline,
        "models": models,
        "limits": limits,
    }


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def _way(workers: int) -> str:
    return f"A, {workers} worker{'' if workers == 1 else 's'}"


class _Bench:
    """What all measurements share."""

    def __init__(
        self,
        data: Path,
        device: torch.device,
        precision: Precision,
        workers: list[int],
        repeats: int,
    ):
        self.data = data  # an .npz file
        self.device = device
        self.precision = precision
        self.workers = workers
        self.repeats = repeats

    def prepare(self, model: str, images: int) -> Run:
        return common.prepare(
            model,
            self.data,
            Path(tempfile.mkdtemp(prefix=f"{model}-", dir=self.data.parent)),
            subset=images,
            device=self.device,
            precision=self.precision,
        )

    def make_loaders(self, images: int) -> dict[str, Any]:
        """Return a DataLoader for each number of workers."""
        arrays = [array[:images] for array in common.read_images(self.data)]
        return {
            _way(number): usual.make_loader(
                *arrays, training=True, workers=number, device=self.device
            )
            for number in self.workers
        }

    def measure_pipeline(self, images: int) -> dict[str, Any]:
        """Time the way of all images to batches on the device."""
        sources = self.make_loaders(images)
        sources["B"] = self.prepare("mlp", images).train_batches

        def read_all(source: Any) -> None:
            for batch in source:
                to_device(batch, self.device)

        for name, source in sources.items():
            common.show(f"pipeline, {name}, to warm up")
            read_all(source)
        calls = {name: functools.partial(read_all, source) for name, source in sources.items()}
        seconds = common.take_turns(calls, self.repeats, self.device, "pipeline")
        return {"images": images, "seconds": seconds}

    def measure_model(self, model: str, images: int) -> dict[str, Any]:
        """Time steps and epochs of one model, and measure its memory."""
        config = read_config(default_path(model), model)
        network = build_model(default_path(model), MODELS[model], config)
        multiply_adds = hardware.count_multiply_adds(network)
        network = network.to(self.device)
        optimizer = usual.make_optimizer(network)
        run = self.prepare(model, images)
        last = max(len(run.train_batches) - 2, 0)
        run.train_batches.set_epoch(1, last)
        batches_of_warm_up = list(run.train_batches)  # a smaller one, if there is one, included
        batch = batches_of_warm_up[0]

        def train_usual(batches: Any) -> None:
            usual.train(network, batches, optimizer, self.device)

        common.show(f"{model}, to warm up")
        train_usual(batches_of_warm_up)
        common.train_epoch(run, 1, Progress(steps=last))
        steps = min(STEPS, len(run.train_batches))
        seconds_of_steps = common.take_turns(
            {
                "A": lambda: train_usual([batch] * steps),
                "B": lambda: common.train_on(run, [batch] * steps),
            },
            self.repeats,
            self.device,
            f"{model}, {steps} steps",
        )

        loaders = self.make_loaders(images)
        for loader in loaders.values():  # the networks are warm; this starts the workers
            for _ in loader:
                pass
        epochs = iter(range(1, self.repeats + 1))
        calls: dict[str, Callable[[], Any]] = {
            name: functools.partial(train_usual, loader) for name, loader in loaders.items()
        }
        calls["B"] = lambda: common.train_epoch(run, next(epochs))
        seconds_of_epochs = common.take_turns(calls, self.repeats, self.device, f"{model}, epoch")

        peaks = {}
        for way in ("A", "B"):
            common.show(f"{model}, memory, {way}")
            peaks[way] = memory.measure_peak(
                way, model, self.data, str(self.device), str(self.precision)
            )
        common.show("")
        return {
            "model": model,
            "parameters": run.results["parameters"],
            "images": images,
            "epoch": seconds_of_epochs,
            "steps": steps,
            "batch": len(batch[1]),
            "step": seconds_of_steps,
            "memory": peaks,
            "multiply_adds": multiply_adds,
        }


# ---------------------------------------------------------------- the table


def to_table(results: dict[str, Any]) -> str:
    """Return medians with quartiles, and how many times as long A takes, or as much it needs."""
    repeats = results["arguments"]["repeats"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        *common.name_device(results),
        *_wrap(
            f"A: the usual way. PIL images one by one in a DataLoader ({versions}), "
            "float32, PyTorch's default AdamW, loss and accuracy read back at every step."
        ),
        f"B: this project with its defaults, here {results['precision']}.",
        *_wrap(
            f"Batches of {common.BATCH_SIZE}. Median of {repeats} repeats (quartiles); A/B is the "
            "median of the ratios of neighbouring repeats. The images are from "
            f"{results['source']}, repeated where there are too few: speed does not depend on "
            "what is in them."
        ),
        "",
        "Training epoch",
        f"{'model':<8} {'images':>7} {'way':<13} {'seconds':>22} {'images/s':>9} {'A/B':>16}",
    ]
    for row in results["models"]:
        for name, seconds in row["epoch"].items():
            speed = row["images"] / np.median(seconds)
            lines.append(
                f"{row['model']:<8} {row['images']:>7,} {name:<13} {_seconds(seconds):>22} "
                f"{speed:>9,.0f} {_ratio(row['epoch'], name):>16}".rstrip()
            )
    pipeline = results["pipeline"]
    scale = PIPELINE / pipeline["images"]
    lines += [
        "",
        f"Pipeline alone: seconds for {PIPELINE:,} images, measured with {pipeline['images']:,}",
        f"{'way':<13} {'seconds':>22} {'A/B':>20}",
    ]
    for name, seconds in pipeline["seconds"].items():
        scaled = [scale * value for value in seconds]
        ratio = _ratio(pipeline["seconds"], name)
        lines.append(f"{name:<13} {_seconds(scaled):>22} {ratio:>20}".rstrip())
    lines += [
        "",
        "Step alone, on a batch that is on the device: milliseconds",
        f"{'model':<8} {'images':>7} {'A':>22} {'B':>22} {'A/B':>16}",
    ]
    for row in results["models"]:
        a, b = ([1e3 * value / row["steps"] for value in row["step"][way]] for way in "AB")
        lines.append(
            f"{row['model']:<8} {row['batch']:>7} {_seconds(a):>22} {_seconds(b):>22} "
            f"{_ratio(row['step'], 'A'):>16}"
        )
    return "\n".join([*lines, *_table_of_memory(results), *_table_of_limits(results)])


def _seconds(values: list[float]) -> str:
    return common.summary(values, common.digits_of(values))


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, width=80)


def _ratio(seconds: common.Seconds, name: str) -> str:
    if name == "B":
        return ""
    ratios = common.ratios(seconds, name)
    return common.summary(ratios, min(common.digits_of(ratios), 2))


def _table_of_memory(results: dict[str, Any]) -> list[str]:
    number = f"{results['images_of_memory']:,}"
    if results["memory_of"] == "GPU":
        words = (
            f"Memory: the most that PyTorch allocates on the GPU, with {number} images, which are "
            "all on the GPU with B, in a fresh process that trains a few steps."
        )
    else:
        words = (
            f"Memory: the most that is resident, with {number} images, of a fresh process that "
            "trains a few steps, workers not counted. Libraries: what of it Python and the "
            "libraries take before the first image."
        )
    header = f"{'model':<8} {'A, MB':>9} {'B, MB':>9} {'A/B':>6} {'libraries, MB':>14}"
    lines = ["", *_wrap(words), header]
    for row in results["models"]:
        a, b = row["memory"]["A"], row["memory"]["B"]
        if not a["peak"]:  # the system does not tell
            lines.append(f"{row['model']:<8} {'?':>9} {'?':>9}")
            continue
        lines.append(
            f"{row['model']:<8} {a['peak'] / 1e6:>9,.0f} {b['peak'] / 1e6:>9,.0f} "
            f"{a['peak'] / b['peak']:>6.2f} {b['before'] / 1e6:>14,.0f}"
        )
    return lines


def _table_of_limits(results: dict[str, Any]) -> list[str]:
    limits = results["limits"]
    lines = [
        "",
        *_wrap(
            "Share of the hardware's limit: multiply-adds of forward and backward a second, over "
            "those of the fastest square matrix product in the same precision."
        ),
    ]
    for precision, limit in limits.items():
        lines.append(
            f"  {precision}: {limit['rate'] / 1e9:,.0f} billion a second, matrices of "
            f"{limit['side']} x {limit['side']}"
        )
    lines.append(
        f"{'model':<8} {'million/image':>13} {'way':<13} {'billion/s':>10} {'epoch':>8} {'step':>8}"
    )
    for row in results["models"]:
        each = sum(row["multiply_adds"].values())
        fastest = min(
            (name for name in row["epoch"] if name != "B"),
            key=lambda name: np.median(row["epoch"][name]),
        )
        for way, name, precision in (
            ("A", fastest, "float32"),
            ("B", "B", results["precision"]),
        ):
            rate = each * row["images"] / np.median(row["epoch"][name])
            images = row["steps"] * row["batch"]
            rate_of_step = each * images / np.median(row["step"][way])
            limit = limits[precision]["rate"]
            lines.append(
                f"{row['model']:<8} {each / 1e6:>13,.1f} {name:<13} {rate / 1e9:>10,.1f} "
                f"{rate / limit:>8.1%} {rate_of_step / limit:>8.1%}"
            )
    return lines


# ---------------------------------------------------------------- the figure


def _number(values: Sequence[float] | np.ndarray) -> str:
    """Return the median with three digits, or all that stand before the point."""
    return f"{np.median(values):,.{common.digits_of(values)}f}"


def draw(results: dict[str, Any]) -> Figure:
    """Return bars of the seconds of an epoch, a panel for each model, with the ratios above."""
    rows = results["models"]
    width = max(3.2 * len(rows) + 0.6, 5.5)
    figure = Figure(figsize=(width, 4.4), layout="constrained", facecolor="white")
    figure.suptitle(f"Training epoch of {common.EPOCH:,} images, batches of {common.BATCH_SIZE}")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for ax, row in zip(axes, rows):
        names = list(row["epoch"])
        seconds = np.array([row["epoch"][name] for name in names])
        seconds *= common.EPOCH / row["images"]
        low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75), axis=1)
        ax.bar(
            [name.replace(", ", "\n") for name in names],
            middle,
            yerr=[middle - low, high - middle],
            capsize=4,
            color=["#1f77b4" if name == "B" else "#b0b0b0" for name in names],
        )
        for place, name in enumerate(names):
            text = f"{_number(seconds[place])} s"
            if name != "B":
                text += f"\n{_number(common.ratios(row['epoch'], name))} x B"
            ax.annotate(text, (place, high[place]), (0, 4), textcoords="offset points", ha="center")
        ax.set_title(row["model"])
        ax.set_ylim(0, 1.25 * high.max())
        ax.grid(axis="y", alpha=0.3)
        ax.set_axisbelow(True)
        if row["images"] != common.EPOCH:
            ax.set_xlabel(f"scaled from {row['images']:,} images", fontsize=9)
    axes[0].set_ylabel("seconds, median and quartiles")
    figure.supxlabel(
        f"A: the usual way, float32. B: this project, {results['precision']}.\n{results['device']}",
        fontsize=9,
    )
    return figure
