"""The growth of the time of an epoch with the images and with the batch size.

The time should be proportional to the number of images, and larger batches should not be slower.
"""

import argparse
import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from training.arguments import add_data, add_device, add_number, add_precision, positive_int
from training.batches import Batches
from training.config import MODELS
from training.device import describe_device, pick_device
from training.precision import pick_precision
from training.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks growth --images 5000 10000 --repeats 5"
    parser.add_argument("--model", choices=list(MODELS), default="mlp", help="default: mlp")
    parser.add_argument(
        "--images",
        type=positive_int,
        nargs="+",
        default=[5_000, 10_000, 20_000, 45_000],
        metavar="N",
        help="training images per epoch, in batches of 128; default: 5000 10000 20000 45000",
    )
    parser.add_argument(
        "--batch_sizes",
        type=positive_int,
        nargs="+",
        default=[64, 128, 256, 512, 1024],
        metavar="N",
        help="images per batch, with the largest of --images; default: 64 128 256 512 1024",
    )
    add_number(parser, "--repeats", positive_int, 3, "of each epoch")
    add_data(parser, default="shapes")
    add_device(parser)
    add_precision(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time an epoch for each number of images and for each batch size.

    Returns:
        ``images`` and ``batch_sizes``: rows of ``images``, ``batch_size`` and ``seconds``.

    Raises:
        ValueError, OSError: the device, the precision or the data is not available.
    """
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)  # a mistake ends before images are drawn
    largest = max(args.images)
    by_images = [(number, common.BATCH_SIZE) for number in sorted(set(args.images))]
    by_batch_size = [(largest, size) for size in sorted(set(args.batch_sizes))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Path(folder, "images.npz")
        source = common.write_images(args.data, args.data_dir, largest, data)
        run = common.setup(
            args.model,
            data,
            Path(folder, "run"),
            subset=largest,
            device=device,
            precision=precision,
        )
        calls = {}
        for number, batch_size in dict.fromkeys(by_images + by_batch_size):
            images = run.train_batches.split.first(number)
            batches = Batches(images, batch_size, training=True, seed=run.args.seed)
            part = replace(run, train_batches=batches)
            common.show(f"{args.model}, batches of {batch_size}, warm-up")
            # The last steps, with the smaller batch: each size allocates buffers of its own.
            common.train(part, batches, progress=Progress(steps=max(len(batches) - 3, 0)))
            name = f"{number} images in batches of {batch_size}"
            calls[name] = functools.partial(common.train, part, batches)
        seconds = common.take_turns(calls, args.repeats, device, args.model)

    def rows(pairs: list[tuple[int, int]]) -> list[dict[str, Any]]:
        return [
            {
                "images": number,
                "batch_size": size,
                "seconds": seconds[f"{number} images in batches of {size}"],
            }
            for number, size in pairs
        ]

    return {
        "device": describe_device(device),
        "precision": str(precision),
        "source": source,
        "images": rows(by_images),
        "batch_sizes": rows(by_batch_size),
    }


def to_table(results: dict[str, Any]) -> str:
    """Return seconds per epoch, microseconds per image, and the exponent of the growth."""
    arguments = results["arguments"]
    header = f"{'images':>7} {'batch':>6} {'seconds':>24} {'images/s':>10} {'us/image':>9}"
    lines = [
        *common.name_device(results),
        f"Training epoch of {arguments['model']}, {results['precision']}; median of "
        f"{arguments['repeats']} repeats (quartiles).",
        f"The images are from {results['source']}, repeated if there are too few.",
        "",
        "More images",
        header,
        *map(_line, results["images"]),
    ]
    if len(results["images"]) > 1:
        lines.append(f"seconds grow as images ** {exponent(results['images']):.2f}")
    return "\n".join([*lines, "", "Larger batches", header, *map(_line, results["batch_sizes"])])


def exponent(rows: list[dict[str, Any]]) -> float:
    """Return p of the power law seconds ~ images ** p through the medians; 1 is proportional."""
    images = np.log([row["images"] for row in rows])
    seconds = np.log([np.median(row["seconds"]) for row in rows])
    return float(np.polyfit(images, seconds, 1)[0])


def _line(row: dict[str, Any]) -> str:
    seconds = np.median(row["seconds"])
    words = common.summary(row["seconds"], common.digits_of(row["seconds"]))
    return (
        f"{row['images']:>7,} {row['batch_size']:>6,} {words:>24} "
        f"{row['images'] / seconds:>10,.0f} {1e6 * seconds / row['images']:>9,.1f}"
    )
