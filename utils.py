"""The loss, the accuracy, and small helpers of the experiments (Problem 4).

Shapes: B batch, K classes.
"""

import copy
import json
import random
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor


def cross_entropy_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy between softmax(logits) and the labels, averaged over the batch.

    Args:
        logits: (B, K), of any finite size; float16 and bfloat16 are converted to float32.
        labels: (B,) integers in [0, K).
        label_smoothing: share of the target that is spread evenly over the K classes
            (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7).

    Returns:
        The loss in nats, a 0-dim tensor.

    Raises:
        ValueError: the shapes do not match, the labels are not integers, or label_smoothing is
            outside [0, 1].
    """
    _check_logits_and_labels(logits, labels)
    if labels.is_floating_point():
        raise ValueError(f"labels are {labels.dtype}; they must be integers")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must lie between 0 and 1")
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    # Minus the largest logit of its row, no exponential overflows and one of them is 1. The lower
    # limit keeps the sum finite for logits at both ends of the number range.
    constant = logits.detach()
    lowest = torch.finfo(logits.dtype).min / 2
    shifted = logits + torch.maximum(-constant.amax(dim=1, keepdim=True), lowest - constant)
    log_normalizer = shifted.exp().sum(dim=1).log()
    target = shifted.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    if label_smoothing > 0:
        target = (1 - label_smoothing) * target + label_smoothing * _mean(shifted, dim=1)
    return _mean(log_normalizer - target, dim=0)


def _mean(x: Tensor, dim: int) -> Tensor:
    """Return the mean over a dimension, dividing first: a sum of finite numbers may overflow."""
    return (x / x.shape[dim]).sum(dim=dim)


def compute_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the fraction of correct predictions in the batch, a 0-dim tensor in [0, 1].

    Args:
        logits: (B, K)
        labels: (B,)

    Raises:
        ValueError: the shapes do not match.
    """
    _check_logits_and_labels(logits, labels)
    return (logits.argmax(dim=1) == labels).float().mean()


def _check_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless logits are (B, K) and labels (B,), with B and K at least 1."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.numel() == 0:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "they must be (B, K) and (B,), with at least one image"
        )


def seed_experiment(seed: int) -> None:
    """Seed the random numbers of Python, NumPy and PyTorch, on every device.

    Args:
        seed: an integer in [0, 2**32), the range that NumPy accepts.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_device(tensors: Any, device: torch.device | str) -> Any:
    """Return the same structure with every tensor on ``device``.

    Args:
        tensors: a tensor, or a list, tuple, named tuple or dict of them, nested to any depth.
            Everything else in it (numbers, strings, None) is returned unchanged.
        device: the target.
    """
    if isinstance(tensors, Tensor):
        # A non-blocking copy to the CPU could be read before it has arrived.
        return tensors.to(device, non_blocking=torch.device(device).type != "cpu")
    if isinstance(tensors, dict):
        moved = copy.copy(tensors)
        moved.update((key, to_device(value, device)) for key, value in tensors.items())
        return moved
    if isinstance(tensors, tuple) and hasattr(tensors, "_fields"):
        return type(tensors)(*(to_device(value, device) for value in tensors))
    if isinstance(tensors, (list, tuple)):
        return type(tensors)(to_device(value, device) for value in tensors)
    return tensors


# What generate_plots draws: the key in results.json, the title, the label of the vertical axis.
CURVES = (
    ("train_accs", "Training accuracy", "accuracy (%)"),
    ("valid_accs", "Validation accuracy", "accuracy (%)"),
    ("train_losses", "Training loss", "cross-entropy (nats)"),
    ("valid_losses", "Validation loss", "cross-entropy (nats)"),
)
# And two figures of the curves whose keys end so.
BOTH = (
    ("accs", "Accuracy, training dashed", "accuracy (%)"),
    ("losses", "Loss, training dashed", "cross-entropy (nats)"),
)


def generate_plots(
    list_of_dirs: Sequence[str | PathLike[str]],
    legend_names: Sequence[str],
    save_path: str | PathLike[str],
) -> None:
    """Draw the learning curves of several runs, one figure per quantity, as PNG and as PDF.

    Args:
        list_of_dirs: folders of runs, each with a ``results.json``.
        legend_names: one name per run.
        save_path: folder for train_accs.png, valid_accs.png, train_losses.png, valid_losses.png,
            and for accs.png and losses.png, which show training and validation in one panel; made
            if it does not exist.

    Raises:
        ValueError: no run, not one name per run, or a results.json without the curves.
        FileNotFoundError: a folder holds no run.
    """
    if len(list_of_dirs) == 0 or len(list_of_dirs) != len(legend_names):
        raise ValueError(
            f"list_of_dirs has {len(list_of_dirs)} folders and legend_names {len(legend_names)} "
            "names; there must be one name per folder, and at least one"
        )
    runs = [_read_results(Path(folder) / "results.json") for folder in list_of_dirs]
    # Runs of this project name their data; others need not.
    data = [run.get("data") for run in runs]
    sources = {source["name"] for source in data if isinstance(source, dict) and "name" in source}
    folder = Path(save_path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, title, label in (*CURVES, *BOTH):
        figure = Figure(figsize=(6, 4), layout="constrained")
        ax = figure.subplots()
        keys = [key for key, _, _ in CURVES if key.endswith(name)]
        for key in keys:
            line = "--" if len(keys) > 1 and key.startswith("train") else "-"
            for index, (run, marker) in enumerate(zip(runs, "osD^vPX*<>" * len(runs))):
                values = np.asarray(run[key], dtype=float) * (100 if key.endswith("accs") else 1)
                epochs, style = range(1, len(values) + 1), f"C{index}{marker}{line}"
                ax.plot(epochs, values, style, markersize=4)
        ax.set_title(f"{title} ({', '.join(sorted(sources))})" if sources else title)
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(alpha=0.3)
        # The validation curves come last. In this form a name may begin with an underscore.
        ax.legend(ax.lines[-len(runs) :], legend_names)
        for suffix in ("png", "pdf"):
            figure.savefig(folder / f"{name}.{suffix}", dpi=150)


def _read_results(path: Path) -> dict[str, Any]:
    """Return one results.json; it must have the curves."""
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} holds no run: it has no {path.name}")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    missing = [key for key, _, _ in CURVES if key not in results]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return results
