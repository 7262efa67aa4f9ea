"""Which non-linearity is best for the MLP?

2025, Problem 4.2. The MLP of `model_configs/mlp.json` with three activations; nothing else
changes. Saturation is measured: the slopes of the activations at the inputs that they receive, and
the gradient that reaches the first hidden layer.
"""

import torch

from experiments.classify import initial_model, load_model
from experiments.groups import Spread
from experiments.measure import images_for
from training.batches import normalize
from utils import cross_entropy_loss

EPOCHS = 15
RUNS = {name: {"model": "mlp", "activation": name} for name in ("relu", "tanh", "sigmoid")}
STEEPEST = {"relu": 1.0, "tanh": 1.0, "sigmoid": 0.25}


def report(page, groups):
    page.curves(groups)
    page.table(groups, "activation")
    page.say_best(groups)
    page.say_gap(groups)
    show_saturation(page, groups)


def show_saturation(page, groups):
    """Add a table of slopes and gradients, before and after training, and state the extremes."""
    split = images_for(groups.settings)
    rows, before = [], {}
    for group in groups:
        if group.diverged:
            continue
        for when, load in (("before", initial_model), ("after", load_model)):
            flat, ratio = zip(*(saturation(load(run), split) for run in group.runs))
            layers = [Spread(values) for values in zip(*flat)]
            rows.append(
                (f"{group.label}, {when}", *(f"{s:.0%}" for s in layers), f"{Spread(ratio):.2g}")
            )
            if when == "before":
                before[group.label] = Spread(ratio)
    if not rows:
        return
    layers = [f"layer {number}" for number in range(1, len(rows[0]) - 1)]
    page.add_table(
        ("activation, training", *layers, "gradient, first / last"),
        rows,
        f"Share of the outputs of each hidden layer on {len(split):,} validation images where the "
        "slope of the activation is below a tenth of its maximum; and the norm of the gradient of "
        "the loss with respect to the inputs of the first activation, over that of the last.",
    )
    texts = [f"{ratio:.2g} with {label}" for label, ratio in before.items()]
    page.say(
        "Before training, the gradient at the first hidden layer, relative to that at the last, is "
        f"{', '.join(texts)}. The maximal slopes are 1, 1 and 0.25: where the inputs are small, "
        "tanh passes the gradient on and each sigmoid divides it by 4 or more. The table shows "
        "where the activations saturate after training; for ReLU these are the inactive outputs, "
        "and the others pass the gradient on unchanged."
    )


def saturation(model, split):
    """Return the share of flat outputs of each hidden layer, and the ratio of the gradients."""
    inputs = []

    def keep(module, _, output):
        output.retain_grad()
        inputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in model.hidden_layers]
    cross_entropy_loss(model(normalize(split.images.float())), split.labels).backward()
    for hook in hooks:
        hook.remove()
    shares = []
    for values in inputs:
        leaf = values.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.activation_fn(model.activation, leaf).sum(), leaf)
        shares.append((slope < 0.1 * STEEPEST[model.activation]).float().mean().item())
    return shares, (inputs[0].grad.norm() / inputs[-1].grad.norm()).item()
