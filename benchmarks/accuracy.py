"""Accuracy after training, and the time it takes: this project against the baseline.

Speed must not cost accuracy. For every seed both start from the same weights, train on the same
images with the same settings, and test the weights of the best validation accuracy once. The time
includes training, validation and test, and the checkpoints of this project.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import main
from benchmarks import baseline, common
from training.arguments import add_data, add_device, add_number, add_precision, count, positive_int
from training.config import MODELS, build_model, default_path, read_config
from training.data import DataSet, load_data
from training.device import describe_device, pick_device
from training.precision import pick_precision
from utils import seed_experiment

WAYS = ("baseline", "ours")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks accuracy --epochs 10 --seeds 3 --data cifar10"
    parser.add_argument("--model", choices=list(MODELS), default="mlp", help="default: mlp")
    add_number(parser, "--epochs", positive_int, 10, "of each run")
    add_number(parser, "--seeds", positive_int, 3, "runs of the baseline and of this project")
    words = "processes of the baseline's DataLoader; default: 2, on a GPU 4"
    add_number(parser, "--workers", count, None, words)
    add_data(parser)
    add_device(parser)
    add_precision(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train the baseline and this project with each seed, one after the other.

    Returns:
        ``runs``: for each seed the ``test_acc``, ``valid_accs`` and ``seconds`` of "baseline" and
        of "ours".

    Raises:
        ValueError, OSError: the device, the precision or the data is not available.
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
            what = f"{args.model}, seed {seed + 1} of {args.seeds}"
            common.show(f"{what}, baseline")
            theirs = train_baseline(args, data, seed, device, workers)
            common.show(f"{what}, ours")
            ours = train_ours(args, Path(folder, str(seed)), seed)
            runs.append({"seed": seed, "baseline": theirs, "ours": ours})
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
    """Return a model with the initial weights of ``main.setup`` for this seed."""
    path = default_path(model)
    config = read_config(path, model)
    seed_experiment(seed)
    return build_model(path, MODELS[model], config)


def train_baseline(
    args: argparse.Namespace, data: DataSet, seed: int, device: torch.device, workers: int
) -> dict[str, Any]:
    """Train and test the baseline."""
    network = build_network(args.model, seed).to(device)
    train, val, test = (
        baseline.make_loader(
            *common.to_arrays(split), training=split is data.train, workers=workers, device=device
        )
        for split in (data.train, data.val, data.test)
    )
    started = time.perf_counter()
    optimizer = baseline.make_optimizer(network)
    valid_accs: list[float] = []
    best: dict[str, torch.Tensor] = {}
    for _ in range(args.epochs):
        baseline.train(network, train, optimizer, device)
        accuracy = baseline.evaluate(network, val, device)[1]
        if accuracy > max(valid_accs, default=-1.0):
            best = {name: value.clone() for name, value in network.state_dict().items()}
        valid_accs.append(accuracy)
    network.load_state_dict(best)
    test_acc = baseline.evaluate(network, test, device)[1]
    return {
        "test_acc": test_acc,
        "valid_accs": valid_accs,
        "seconds": time.perf_counter() - started,
    }


def train_ours(args: argparse.Namespace, logdir: Path, seed: int) -> dict[str, Any]:
    """Train and test with this project."""
    run = common.setup(
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
    with contextlib.redirect_stdout(io.StringIO()):  # one line per epoch
        results = main.fit(run)
    return {
        "test_acc": results["test_acc"],
        "valid_accs": results["valid_accs"],
        "seconds": time.perf_counter() - started,
    }


def to_table(results: dict[str, Any]) -> str:
    """Return means and standard deviations over the seeds, and those of the difference."""
    arguments, runs = results["arguments"], results["runs"]
    train, val, test = results["split"]
    accuracy = {way: [100 * run[way]["test_acc"] for run in runs] for way in WAYS}
    seconds = {way: [run[way]["seconds"] for run in runs] for way in WAYS}
    lines = [
        *common.name_device(results),
        f"{arguments['model']} after {arguments['epochs']} epochs of {results['source']}: "
        f"{train:,} images train, {val:,} validate,",
        f"{test:,} test. Mean and standard deviation over {len(runs)} seeds.",
        f"Baseline: float32, {results['workers']} workers. Ours: {results['precision']}. "
        "Both start from the same weights.",
        "",
        f"{'':<15} {'test accuracy, %':>18} {'seconds':>20}",
    ]
    for way in WAYS:
        lines.append(f"{way:<15} {_mean(accuracy[way], 2):>18} {_mean(seconds[way], 1):>20}")
    differences = np.subtract(accuracy["ours"], accuracy["baseline"])
    ratio = f"baseline/ours {np.median(common.ratios(seconds, 'baseline')):.2f}"
    lines.append(f"{'ours - baseline':<15} {_mean(differences, 2):>18} {ratio:>20}")
    return "\n".join(lines)


def _mean(values: Sequence[float] | np.ndarray, digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{np.mean(values):,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f}"
