"""How do gradients flow through the three architectures?

2025, Problem 4.8. The norm of the gradient of every weight matrix and convolution, at the same
steps of training.
"""

import json
from pathlib import Path

import torch

from experiments import classify, figures
from training.run import Run as Prepared

EPOCHS = 10
KIND = ("gradients",)
RUNS = {model: {"model": model} for model in ("mlp", "resnet18", "mlpmixer")}
RECORDS = 60  # over the whole training
FILE = "gradient_norms.jsonl"  # a line a record: the step, and the norm of each layer


def train(run, settings):
    """Train as always, and write down norms on the way."""
    prepared = classify.prepare(run, settings)
    record_norms(prepared, run.folder / FILE)
    classify.finish(prepared)


def record_norms(prepared: Prepared, path: Path) -> None:
    """Write the norms to a file, every so many steps, from the step on at which the run is."""
    layers = {name: p for name, p in prepared.model.named_parameters() if p.ndim > 1}
    epoch_steps = len(prepared.train_batches)
    every = max(1, epoch_steps * prepared.args.epochs // RECORDS)
    step = prepared.epoch * epoch_steps + prepared.progress.steps
    # A run that was killed goes on before the step that it had reached.
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in map(_parse, lines) if line is not None and line["step"] < step]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(*_):
        nonlocal step
        if step % every == 0:
            norms = torch.stack(torch._foreach_norm([p.grad for p in layers.values()]))
            if prepared.precision.scaler.is_enabled():
                norms /= prepared.precision.scaler.get_scale()
            content = {"step": step, "norms": dict(zip(layers, norms.tolist()))}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")
        step += 1

    prepared.optimizer.register_step_pre_hook(write)


def _parse(line):
    """Return a record, None if the process was killed while it was written."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def read_norms(folder):
    """Return layer names, steps (T,) and norms (layers, T)."""
    lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    names = list(records[0]["norms"])
    steps = [record["step"] for record in records]
    return names, steps, [[record["norms"][name] for record in records] for name in names]


def report(page, groups):
    ends = {}
    for group in groups:
        names, steps, norms = read_norms(group.folder)
        figure = figures.draw_norms(f"{page.title} {group.label}", groups, names, steps, norms)
        caption = f"`{group.label}`: norm of the gradient of each layer, from the input (top) on."
        page.add_figure(figure, group.label, caption.replace("`", ""))
        ends[group.label] = steps, norms[0], norms[-1]
    page.add_figure(
        figures.draw_ends(page.title, groups, ends),
        "first-to-last",
        "Norm of the gradient of the first layer over that of the last one. Far below 1 the first "
        "layer hardly learns.",
    )
    for label, (_, first, last) in ends.items():
        ratios = sorted(a / b for a, b in zip(first, last) if b > 0)
        if ratios:
            page.say(
                f"`{label}`: over training the gradient of the first layer is "
                f"{ratios[len(ratios) // 2]:.2g} times that of the last one (median; from "
                f"{ratios[0]:.2g} to {ratios[-1]:.2g})."
            )
    page.table(groups, "network")
