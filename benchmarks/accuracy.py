"""What networks learn with this project (B) and in the usual way (A), and how long it takes.

Speed must not be paid for with accuracy. For every seed both start from the same weights, train on
the same images with the same settings, and test the weights of the epoch with the best validation
accuracy, once. The time is that of all: training, validation, test, and with B the checkpoints.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import main
from benchmarks import common, usual
from benchmarks.arguments import add_data, add_device, count, positive_int
from training.config import MODELS, build_model, default_path, read_config
from training.data import DataSet, load_data
from training.device import describe_device, pick_device
from training.precision import pick_precision
from utils import seed_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks accuracy --epochs 10 --seeds 3 --data cifar10"
    parser.add_argument("--model", choices=list(MODELS), default="mlp", help="which to train")
    parser.add_argument(
        "--epochs", type=positive_int, default=10, metavar="N", help="of each training"
    )
    parser.add_argument(
        "--seeds", type=positive_int, default=3, metavar="N", help="trainings of each way"
    )
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes of the usual way's DataLoader (default: 2, on a GPU 4)",
    )
    add_data(parser, default="cifar10")
    add_device(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train both ways with each seed, one after the other.

    Returns:
        ``runs``: for each seed the ``test_acc``, ``valid_accs`` and ``seconds`` of "A" and "B".

    Raises:
        ValueError, OSError: the device, the precision or the data cannot be had.
    """
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    workers = args.workers
    if workers is None:
        workers = 2 if device.type == "cpu" else 4
    data = load_data(args.data, args.data_dir)
    runs = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for seed in range(args.seeds):
            common.show(f"{args.model}, seed {seed + 1} of {args.seeds}, A")
            a = train_usual(args, data, seed, device, workers)
            common.show(f"{args.model}, seed {seed + 1} of {args.seeds}, B")
            b = train_ours(args, Path(folder, str(seed)), seed)
            runs.append({"seed": seed, "A": a, "B": b})
    common.show("")
    return {
        "device": describe_device(device),
        "precision": str(precision),
        "workers": workers,
        "source": data.name,
        "split": [len(part) for part in (data.train, data.val, data.test)],
        "runs": runs,
    }


def build_network(model: str, seed: int) -> nn.Module:
    """Return a model with the weights that ``main.setup`` starts from with this seed."""
    path = default_path(model)
    config = read_config(path, model)
    seed_experiment(seed)
    return build_model(path, MODELS[model], config)


def train_usual(
    args: argparse.Namespace, data: DataSet, seed: int, device: torch.device, workers: int
) -> dict[str, Any]:
    """Train and test the usual way, A."""
    network = build_network(args.model, seed).to(device)
    train, val, test = (
        usual.make_loader(
            *common.to_arrays(split), training=split is data.train, workers=workers, device=device
        )
        for split in (data.train, data.val, data.test)
    )
    started = time.perf_counter()
    optimizer = usual.make_optimizer(network)
    valid_accs: list[float] = []
    best: dict[str, torch.Tensor] = {}
    for _ in range(args.epochs):
        usual.train(network, train, optimizer, device)
        accuracy = usual.evaluate(network, val, device)[1]
        if accuracy > max(valid_accs, default=-1.0):
            best = {name: value.clone() for name, value in network.state_dict().items()}
        valid_accs.append(accuracy)
    network.load_state_dict(best)
    test_acc = usual.evaluate(network, test, device)[1]
    return {
        "test_acc": test_acc,
        "valid_accs": valid_accs,
        "seconds": time.perf_counter() - started,
    }


def train_ours(args: argparse.Namespace, logdir: Path, seed: int) -> dict[str, Any]:
    """Train and test with this project, B."""
    run = common.prepare(
        args.model,
        args.data,
        logdir,
        data_dir=args.data_dir,
        epochs=args.epochs,
        seed=seed,
        device=args.device,
        precision=args.precision,
    )
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # a line for each epoch
        results = main.fit(run)
    return {
        "test_acc": results["test_acc"],
        "valid_accs": results["valid_accs"],
        "seconds": time.perf_counter() - started,
    }


def to_table(results: dict[str, Any]) -> str:
    """Return means and standard deviations over the seeds, and of the difference B - A."""
    arguments, runs = results["arguments"], results["runs"]
    train, val, test = results["split"]
    lines = [
        *common.name_device(results),
        f"{arguments['model']} after {arguments['epochs']} epochs of {results['source']}: "
        f"{train:,} images train, {val:,} validate,",
        f"{test:,} test. Mean and standard deviation of {len(runs)} seeds.",
        f"A: the usual way, float32, {results['workers']} workers. "
        f"B: this project, {results['precision']}.",
        "Both start from the same weights.",
        "",
        f"{'':<5} {'test accuracy, %':>18} {'seconds':>20}",
    ]
    for way in ("A", "B"):
        accuracy = _mean([100 * run[way]["test_acc"] for run in runs], 2)
        seconds = _mean([run[way]["seconds"] for run in runs], 1)
        lines.append(f"{way:<5} {accuracy:>18} {seconds:>20}")
    differences = [100 * (run["B"]["test_acc"] - run["A"]["test_acc"]) for run in runs]
    ratio = np.median([run["A"]["seconds"] / run["B"]["seconds"] for run in runs])
    lines.append(f"{'B - A':<5} {_mean(differences, 2):>18} {f'A/B {ratio:.2f}':>20}")
    return "\n".join(lines)


def _mean(values: list[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{np.mean(values):,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f}"
