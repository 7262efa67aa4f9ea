"""Training with this project against the baseline: an epoch, its parts, and the memory.

Both train the same networks on the same images in batches of 128. "Ours" is ``main.train`` with
what ``main.setup`` builds from the defaults of ``main.py``; the baseline reads its images from
DataLoaders with several numbers of worker processes. All of them take turns, so that a slow moment
of the machine affects each of them, and a ratio compares two neighbours in time.
"""

import argparse
import functools
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks import baseline, common, hardware, memory
from training import figures
from training.arguments import add_data, add_device, add_number, add_precision, count, positive_int
from training.config import MODELS, build_model, default_path, read_config
from training.device import describe_device, pick_device
from training.precision import PRECISIONS, Precision, pick_precision
from training.progress import Progress
from training.run import Run
from utils import to_device

# Default images per epoch on a CPU: an epoch takes a few seconds.
ON_CPU = {"pipeline": 10_000, "mlp": 10_000, "resnet18": 256, "mlpmixer": 512}
STEPS = 20  # at most, without the pipeline
PIPELINE = 50_000  # images, the training set of CIFAR-10, to which the pipeline's time is scaled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = (
        "example: python -m benchmarks training --models mlp --images 5000 --workers 0 2 4 "
        "--json training.json --figure training.png"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(MODELS),
        default=list(MODELS),
        metavar="MODEL",
        help=f"of {', '.join(MODELS)}; default: all",
    )
    on_cpu = ", ".join(f"{name} {number}" for name, number in ON_CPU.items())
    words = f"training images per epoch; default: 45000, on a CPU {on_cpu}"
    add_number(parser, "--images", positive_int, None, words)
    words = "processes of the baseline's DataLoaders, one each; default: 0 2, on a GPU 4"
    add_number(parser, "--workers", count, None, words, nargs="+")
    add_number(parser, "--repeats", positive_int, 5, "of each measurement")
    add_data(parser, default="shapes")
    add_device(parser)
    add_precision(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure model by model.

    Returns:
        ``pipeline``: seconds of the baseline and ours for its ``images``. ``models``: for each,
        seconds of an ``epoch`` of ``images`` and of ``steps`` steps, bytes of ``memory``, and
        ``multiply_adds`` per image. ``limits``: the rates of the hardware, by precision.

    Raises:
        ValueError, OSError: the device, the precision or the data is not available.
    """
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    workers = list(dict.fromkeys(args.workers or ([0, 2] if device.type == "cpu" else [4])))
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
        name: hardware.measure_limit(device, PRECISIONS[name])
        for name in dict.fromkeys(["float32", str(precision)])
    }
    common.show("")
    return {
        "device": describe_device(device),
        "precision": str(precision),
        "versions": baseline.versions(),
        "memory_of": "GPU" if device.type == "cuda" else "process",
        "source": source,
        "images_of_memory": number,
        "pipeline": pipeline,
        "models": models,
        "limits": limits,
    }


@dataclass(frozen=True)
class _Bench:
    """What all measurements share; ``data`` is a file of ``common.write_images``."""

    data: Path
    device: torch.device
    precision: Precision
    workers: list[int]
    repeats: int

    def setup(self, model: str, images: int) -> Run:
        return common.setup(
            model,
            self.data,
            Path(tempfile.mkdtemp(prefix=f"{model}-", dir=self.data.parent)),
            subset=images,
            device=self.device,
            precision=self.precision,
        )

    def make_loaders(self, images: int) -> dict[str, Any]:
        """Return a DataLoader of the baseline for each number of workers."""
        arrays = [array[:images] for array in common.read_images(self.data)]
        return {
            f"baseline, {number} worker{'' if number == 1 else 's'}": baseline.make_loader(
                *arrays, training=True, workers=number, device=self.device
            )
            for number in self.workers
        }

    def measure_pipeline(self, images: int) -> dict[str, Any]:
        """Time the pipeline: from all images to batches on the device."""
        sources = self.make_loaders(images)
        sources["ours"] = self.setup("mlp", images).train_batches

        def read_all(source: Any) -> None:
            for batch in source:
                to_device(batch, self.device)

        for name, source in sources.items():
            common.show(f"pipeline, {name}, warm-up")
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
        optimizer = baseline.make_optimizer(network)
        run = self.setup(model, images)
        last = max(len(run.train_batches) - 2, 0)
        run.train_batches.set_epoch(1, last)
        warm_up = list(run.train_batches)  # including the smaller batch, if there is one
        batch = warm_up[0]

        def train_baseline(batches: Any) -> None:
            baseline.train(network, batches, optimizer, self.device)

        common.show(f"{model}, warm-up")
        train_baseline(warm_up)
        common.train(run, run.train_batches, progress=Progress(steps=last))
        steps = min(STEPS, len(run.train_batches))
        seconds_of_steps = common.take_turns(
            {
                "baseline": lambda: train_baseline([batch] * steps),
                "ours": lambda: common.train(run, [batch] * steps),
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
            name: functools.partial(train_baseline, loader) for name, loader in loaders.items()
        }
        calls["ours"] = lambda: common.train(run, run.train_batches, next(epochs))
        seconds_of_epochs = common.take_turns(calls, self.repeats, self.device, f"{model}, epoch")

        peaks = {}
        for way in ("baseline", "ours"):
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
    """Return medians with quartiles, and the ratios of the baseline to ours."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    images = ", ".join(f"{row['model']} {row['images']:,}" for row in results["models"])
    lines = [
        *common.name_device(results),
        *_wrap(
            f"Baseline: PIL images one by one in a DataLoader ({versions}), float32, PyTorch's "
            "default AdamW, loss and accuracy read back at every step."
        ),
        f"Ours: the defaults of main.py, here {results['precision']}.",
        *_wrap(
            f"Batches of {common.BATCH_SIZE}. Median of {results['arguments']['repeats']} repeats "
            "(quartiles). A ratio is baseline/ours, the median over neighbouring repeats. The "
            f"images are from {results['source']}, repeated if there are too few: speed does not "
            "depend on their content."
        ),
        "",
        *_wrap(f"Training epoch; images: {images}"),
        f"{'model':<8} {'':<20} {'seconds':>22} {'images/s':>9} {'ratio':>16}",
    ]
    for row in results["models"]:
        for name, seconds in row["epoch"].items():
            speed = row["images"] / np.median(seconds)
            lines.append(
                f"{row['model']:<8} {name:<20} {_seconds(seconds):>22} {speed:>9,.0f} "
                f"{_ratio(row['epoch'], name):>16}".rstrip()
            )
    pipeline = results["pipeline"]
    scale = PIPELINE / pipeline["images"]
    lines += [
        "",
        f"Pipeline alone: seconds for {PIPELINE:,} images, measured with {pipeline['images']:,}",
        f"{'':<20} {'seconds':>22} {'ratio':>20}",
    ]
    for name, seconds in pipeline["seconds"].items():
        scaled = [scale * value for value in seconds]
        ratio = _ratio(pipeline["seconds"], name)
        lines.append(f"{name:<20} {_seconds(scaled):>22} {ratio:>20}".rstrip())
    lines += [
        "",
        "Step alone, on a batch that is on the device: milliseconds",
        f"{'model':<8} {'images':>7} {'baseline':>22} {'ours':>22} {'ratio':>16}",
    ]
    for row in results["models"]:
        theirs, ours = (
            [1e3 * value / row["steps"] for value in row["step"][way]]
            for way in ("baseline", "ours")
        )
        lines.append(
            f"{row['model']:<8} {row['batch']:>7} {_seconds(theirs):>22} {_seconds(ours):>22} "
            f"{_ratio(row['step'], 'baseline'):>16}"
        )
    return "\n".join([*lines, *_table_of_memory(results), *_table_of_limits(results)])


def _seconds(values: list[float]) -> str:
    return common.summary(values, common.digits_of(values))


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, width=80)


def _ratio(seconds: common.Seconds, name: str) -> str:
    if name == "ours":
        return ""
    ratios = common.ratios(seconds, name)
    return common.summary(ratios, min(common.digits_of(ratios), 2))


def _table_of_memory(results: dict[str, Any]) -> list[str]:
    number = f"{results['images_of_memory']:,}"
    if results["memory_of"] == "GPU":
        words = (
            f"Memory: the peak that PyTorch allocates on the GPU, with {number} images, in a fresh "
            "process that trains a few steps. Ours keeps all images on the GPU."
        )
    else:
        words = (
            f"Memory: the peak resident memory, with {number} images, of a fresh process that "
            "trains a few steps, without workers. Libraries: the part of it that Python and the "
            "libraries use before the first image."
        )
    header = f"{'model':<8} {'baseline, MB':>12} {'ours, MB':>9} {'ratio':>6} {'libraries, MB':>14}"
    lines = ["", *_wrap(words), header]
    for row in results["models"]:
        theirs, ours = row["memory"]["baseline"], row["memory"]["ours"]
        if not theirs["peak"]:  # the system does not report it
            lines.append(f"{row['model']:<8} {'?':>12} {'?':>9}")
            continue
        lines.append(
            f"{row['model']:<8} {theirs['peak'] / 1e6:>12,.0f} {ours['peak'] / 1e6:>9,.0f} "
            f"{theirs['peak'] / ours['peak']:>6.2f} {ours['before'] / 1e6:>14,.0f}"
        )
    return lines


def _table_of_limits(results: dict[str, Any]) -> list[str]:
    limits = results["limits"]
    lines = [
        "",
        *_wrap(
            "Share of the hardware's limit: multiply-adds per second of forward and backward, over "
            "those of the fastest square matrix product in the same precision."
        ),
    ]
    for precision, limit in limits.items():
        lines.append(
            f"  {precision}: {limit['rate'] / 1e9:,.0f} billion per second, matrices of "
            f"{limit['side']} x {limit['side']}"
        )
    lines.append(
        f"{'model':<8} {'million/image':>13} {'':<20} {'billion/s':>10} {'epoch':>8} {'step':>8}"
    )
    for row in results["models"]:
        each = sum(row["multiply_adds"].values())
        fastest = min(
            (name for name in row["epoch"] if name != "ours"),
            key=lambda name: np.median(row["epoch"][name]),
        )
        for way, name, precision in (
            ("baseline", fastest, "float32"),
            ("ours", "ours", results["precision"]),
        ):
            rate = each * row["images"] / np.median(row["epoch"][name])
            images = row["steps"] * row["batch"]
            rate_of_step = each * images / np.median(row["step"][way])
            limit = limits[precision]["rate"]
            lines.append(
                f"{row['model']:<8} {each / 1e6:>13,.1f} {name:<20} {rate / 1e9:>10,.1f} "
                f"{rate / limit:>8.1%} {rate_of_step / limit:>8.1%}"
            )
    return lines


# ---------------------------------------------------------------- the figure


def _number(values: Sequence[float] | np.ndarray) -> str:
    """Return the median with three digits, or with all digits of its integer part."""
    return f"{np.median(values):,.{common.digits_of(values)}f}"


def draw(results: dict[str, Any]) -> Figure:
    """Return bars of the seconds per epoch, one panel per model, with the ratios above."""
    rows = results["models"]
    figure = figures.new_figure(
        3,
        f"Training epoch of {common.EPOCH:,} images, batches of {common.BATCH_SIZE}; "
        "x: times as long as ours",
        f"{results['device']}; baseline: float32, ours: {results['precision']}",
    )
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
            capsize=3,
            color=[figures.COLOURS[0] if name == "ours" else "0.7" for name in names],
        )
        for place, name in enumerate(names):
            text = f"{_number(seconds[place])} s"
            if name != "ours":
                text += f"\n{_number(common.ratios(row['epoch'], name))}x"
            ax.annotate(
                text,
                (place, high[place]),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=figures.FONT - 1,
            )
        scaled = row["images"] != common.EPOCH
        figures.style(ax, row["model"], x=f"scaled from {row['images']:,} images" if scaled else "")
        ax.set_ylim(0, 1.25 * high.max())
        ax.grid(False, axis="x")
        ax.set_axisbelow(True)
    axes[0].set_ylabel("seconds, median and quartiles", fontsize=figures.FONT)
    return figure
