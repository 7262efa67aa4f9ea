"""How do gradients flow through the three architectures?

2025, Problem 4.8. At evenly spaced steps of training, the norm of the gradient of every weight
matrix and convolution, divided by the norm of the weights themselves. Layers of different sizes are
comparable that way: it is the relative change per unit of learning rate with plain gradient
descent.
"""

import json
from pathlib import Path

import numpy as np
import torch

from experiments import classify, figures
from experiments.groups import Spread
from training.run import Run as Training

EPOCHS = 10
KIND = ("gradients",)
RUNS = {model: {"model": model} for model in ("mlp", "resnet18", "mlpmixer")}
RECORDS = 60  # over the whole training
FILE = "gradient_norms.jsonl"  # one line per record: the step, and the norms of each layer


def train(run, settings):
    """Train as ``classify`` does, and record the norms."""
    training = classify.setup(run, settings)
    record_norms(training, run.folder / FILE)
    classify.fit(training)


def record_norms(training: Training, path: Path) -> None:
    """Append the norms to a file at regular steps, from the step that the run has reached."""
    layers = {name: p for name, p in training.model.named_parameters() if p.ndim > 1}
    epoch_steps = len(training.train_batches)
    every = max(1, epoch_steps * training.args.epochs // RECORDS)
    step = training.epoch * epoch_steps + training.progress.steps
    # A killed run resumes before the last step in the file, and may have left half a line.
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
    path.write_text("".join(kept))

    def write(*_):
        nonlocal step
        if step % every == 0:
            norms = torch.stack(torch._foreach_norm([p.grad for p in layers.values()]))
            if training.precision.scaler.is_enabled():
                norms /= training.precision.scaler.get_scale()
            weights = torch.stack(torch._foreach_norm([p.detach() for p in layers.values()]))
            content = {
                "step": step,
                "gradients": dict(zip(layers, norms.tolist())),
                "weights": dict(zip(layers, weights.tolist())),
            }
            with path.open("a") as file:
                file.write(json.dumps(content) + "\n")
        step += 1

    training.optimizer.register_step_pre_hook(write)


def read_norms(folder):
    """Return layer names, steps (T,), and norms of gradients and of weights (layers, T)."""
    records = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    names = list(records[0]["weights"])
    steps = [record["step"] for record in records]
    gradients, weights = (
        np.array([[record[key][name] for record in records] for name in names])
        for key in ("gradients", "weights")
    )
    return names, steps, gradients, weights


def report(page, groups):
    page.say_diverged(groups)
    ratios, rows = {}, []
    for group in groups:
        if group.diverged:
            continue
        names, steps, relative = relative_norms(group)
        mean = np.exp(np.log(relative).mean(axis=0))
        page.add_figure(
            figures.draw_norms(group.label, groups.of_all, names, steps, mean),
            group.label,
            f"{group.label}: norm of the gradient over the norm of the weights, the input at the "
            "top; geometric mean over the seeds.",
        )
        ratio = relative[:, 0] / relative[:, -1]
        ratios[group.label] = steps, ratio
        fifth = max(1, len(steps) // 5)
        early, late = (_mean(part) for part in (ratio[:, :fifth], ratio[:, -fifth:]))
        by_layer = np.exp(np.log(relative).mean(axis=2))  # (seeds, layers)
        low, high = (int(f(by_layer.mean(axis=0))) for f in (np.argmin, np.argmax))
        factor = Spread(tuple(by_layer[:, high] / by_layer[:, low]))
        rows.append((group.label, f"{early:.2g}", f"{late:.2g}", f"{factor:.2g}"))
        page.say(
            f"In `{group.label}`, the relative gradient of the first layer is {early:.2g} times "
            f"that of the last one in the first fifth of training, and {late:.2g} times in the "
            f"last fifth. It is largest in `{names[high]}`, {factor:.2g} times that in "
            f"`{names[low]}`, where it is smallest."
        )
    if not rows:
        return
    page.add_figure(
        figures.draw_ratios(groups, page.title, ratios),
        "first-to-last",
        "Relative gradient of the first layer over that of the last one. Below 1, the first layer "
        "has the smaller one.",
    )
    page.add_table(
        ("network", "first / last layer, early", "late", "largest / smallest layer"),
        rows,
        "Ratios of the relative gradients: in the first and in the last fifth of training, and "
        "between two layers over all of it.",
    )
    page.table(groups, "network")


def relative_norms(group):
    """Return layer names, steps (T,) and the norms of gradients over weights (seeds, layers, T)."""
    names, steps, _, _ = read_norms(group.runs[0].folder)
    norms = [read_norms(run.folder)[2:] for run in group.runs]
    relative = np.array([gradients / weights for gradients, weights in norms])
    return names, steps, np.maximum(relative, 1e-12)  # their logarithms are averaged


def _mean(ratio):
    """Return the geometric mean over the steps for each seed, from ratios (seeds, T)."""
    return Spread(tuple(np.exp(np.log(ratio).mean(axis=1))))
