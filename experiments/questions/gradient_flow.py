"""How do gradients flow through the three architectures?

2025, Problem 4.8. The norm of the gradient of every weight matrix and convolution, at evenly
spaced steps of training.
"""

import json
from pathlib import Path

import numpy as np
import torch

from experiments import classify, figures
from training.run import Run as Training

EPOCHS = 10
KIND = ("gradients",)
RUNS = {model: {"model": model} for model in ("mlp", "resnet18", "mlpmixer")}
RECORDS = 60  # over the whole training
FILE = "gradient_norms.jsonl"  # one line per record: the step, and the norm of each layer


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
            content = {"step": step, "norms": dict(zip(layers, norms.tolist()))}
            with path.open("a") as file:
                file.write(json.dumps(content) + "\n")
        step += 1

    training.optimizer.register_step_pre_hook(write)


def read_norms(folder):
    """Return layer names, steps (T,) and norms (layers, T)."""
    records = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    names = list(records[0]["norms"])
    steps = [record["step"] for record in records]
    return names, steps, np.array([[r["norms"][name] for r in records] for name in names])


def report(page, groups):
    ratios = {}
    for group in groups:
        names, steps, norms = read_norms(group.runs[0].folder)
        title = f"Gradient norms of {group.label}"
        page.add_figure(
            figures.draw_norms(title, groups.of_one, names, steps, norms),
            group.label,
            f"{group.label}: norm of the gradient of each layer, input at the top.",
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios[group.label] = steps, norms[0] / norms[-1]
    page.add_figure(
        figures.draw_ratios(page.title, groups.of_one, ratios),
        "first-to-last",
        "Gradient norm of the first layer over that of the last one. Below 1, the gradient of the "
        "first layer is the smaller one.",
    )
    for label, (_, ratio) in ratios.items():
        finite = ratio[np.isfinite(ratio)]
        if finite.size:
            page.say(
                f"`{label}`: the gradient norm of the first layer is {np.median(finite):.2g} times "
                f"that of the last one (median over the recorded steps; from {finite.min():.2g} to "
                f"{finite.max():.2g})."
            )
    page.table(groups, "network")
