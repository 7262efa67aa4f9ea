"""How the time of an epoch grows with the images and with the size of a batch.

It should be proportional to the images: nothing in an epoch may cost more for each image because
there are others. Larger batches should not be slower.
"""

import argparse
import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.arguments import add_data, add_device, positive_int
from training.batches import Batches
from training.config import MODELS
from training.device import describe_device
from training.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks growth --images 5000 10000 --repeats 5"
    parser.add_argument("--model", choices=list(MODELS), default="mlp", help="which to train")
    parser.add_argument(
        "--images",
        type=positive_int,
        nargs="+",
        default=[5_000, 10_000, 20_000, 45_000],
        metavar="N",
        help="training images of an epoch, in batches of 128",
    )
    parser.add_argument(
        "--batch_sizes",
        type=positive_int,
        nargs="+",
        default=[64, 128, 256, 512, 1024],
        metavar="N",
        help="images of a batch, in epochs of the largest number of images",
    )
    parser.add_argument(
        "--repeats", type=positive_int, default=3, metavar="N", help="times that all is measured"
    )
    add_data(parser, default="shapes")
    add_device(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure an epoch of each number of images and of each size of a batch.

    Returns:
        ``images`` and ``batch_sizes``: rows of ``images``, ``batch_size`` and ``seconds``.

    Raises:
        ValueError, OSError: the device, the precision or the data cannot be had.
    """
    largest = max(args.images)
    pairs = [(number, common.BATCH_SIZE) for number in sorted(set(args.images))]
    pairs_of_batches = [(largest, size) for size in sorted(set(args.batch_sizes))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Path(folder, "images.npz")
        source = common.write_images(args.data, args.data_dir, largest, data)
        run = common.prepare(
            args.model,
            data,
            Path(folder, "run"),
            subset=largest,
            device=args.device,
            precision=args.precision,
        )
        calls = {}
        for number, batch_size in dict.fromkeys(pairs + pairs_of_batches):
            images = run.train_batches.split.first(number)
            batches = Batches(images, batch_size, training=True, seed=run.args.seed)
            part = replace(run, train_batches=batches)
            common.show(f"{args.model}, batches of {batch_size}, to warm up")
            # The last steps of an epoch: a first one has to set up what larger ones need anew.
            last = max(len(batches) - 3, 0)
            common.train_epoch(part, 1, Progress(steps=last))
            name = f"{number} images in batches of {batch_size}"
            calls[name] = functools.partial(common.train_epoch, part, 1)
        seconds = common.take_turns(calls, args.repeats, run.device, args.model)

    def rows(of: list[tuple[int, int]]) -> list[dict[str, Any]]:
        return [
            {
                "images": number,
                "batch_size": size,
                "seconds": seconds[f"{number} images in batches of {size}"],
            }
            for number, size in of
        ]

    return {
        "device": describe_device(run.device),
        "precision": run.results["precision"],
        "source": source,
        "images": rows(pairs),
        "batch_sizes": rows(pairs_of_batches),
    }


def to_table(results: dict[str, Any]) -> str:
    """Return seconds of an epoch, microseconds of an image, and the exponent of the growth."""
    arguments = results["arguments"]
    header = f"{'images':>7} {'batch':>6} {'seconds':>24} {'images/s':>10} {'us/image':>9}"
    lines = [
        *common.name_device(results),
        f"Training epoch of {arguments['model']}, {results['precision']}; median of "
        f"{arguments['repeats']} repeats (quartiles).",
        f"The images are from {results['source']}, repeated where there are too few.",
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
