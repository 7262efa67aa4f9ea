"""How does the learning rate change the regression with an MLP?

Regression assignment, part 2, question 1. An MLP with two hidden layers of 128 predicts the class
index.
"""

import numpy as np

from experiments.groups import Spread
from experiments.measure import moved
from experiments.regress import (
    FIRST_SEED,
    KIND,
    load_networks,
    mae_of,
    multiply_adds,
    train,
)
from experiments.regress_page import draw, say_ranking
from training.data import SIZE, load_data

__all__ = ["FIRST_SEED", "KIND", "multiply_adds", "train"]

EPOCHS = 50
BATCH_SIZE = 128  # the default of the Trainer
RUNS = {
    f"{lr:g}": {"model": "mlp", "dense_hiddens": [128, 128], "lr": lr} for lr in (0.01, 1e-4, 1e-8)
}


def report(page, groups):
    draw(page, groups, "learning rate")
    say_ranking(page, groups, "a learning rate of {}")
    show_effect(page, groups)


def show_effect(page, groups):
    """Add a table of how far the weights went and how much the error fluctuates; explain it."""
    data = load_data(groups.settings.data, groups.settings.data_dir)
    members = [group for group in groups if not group.diverged]
    found = {group.label: _effects(group, data) for group in members}
    if not found:
        return
    page.add_table(
        ("learning rate", "weights moved", "test MAE, untrained", "trained", "fluctuation"),
        [
            (
                group.label,
                f"{found[group.label][0]:.2g}",
                f"{found[group.label][1]:.3f}",
                f"{group.last('test_mae'):.3f}",
                f"{found[group.label][2]:.3f}",
            )
            for group in members
        ],
        "Norm of the change of all weights during training relative to their norm before it; test "
        "MAE before and after training; fluctuation: standard deviation of its changes from one "
        "epoch to the next in the second half of training.",
    )
    large, middle, small = members[0], members[len(members) // 2], members[-1]
    lr = small.runs[0].changes["lr"]
    images = small.results[0]["data"]["train_images"]
    steps = -(-images // BATCH_SIZE) * len(small.results[0]["test_mae"])
    page.say(
        "Very small: Adam moves each weight by about the learning rate per step at most. With a "
        f"learning rate of {small.label} and {steps:,} steps, that is {steps * lr:.1g}; the "
        f"weights of the first layer start within ±{(3 * SIZE**2) ** -0.5:.2g}. All "
        f"weights moved by {found[small.label][0]:.2g} of their norm, and the test MAE went from "
        f"{found[small.label][1]:.3f} to {small.last('test_mae'):.3f}."
    )
    page.say(
        f"Very large: with {large.label}, the weights moved by {found[large.label][0]:.2g} times "
        "their norm. Late in training, the changes of the test MAE from one epoch to the next have "
        f"a standard deviation of {found[large.label][2]:.3f}, with {middle.label} of "
        f"{found[middle.label][2]:.3f}."
    )


def _effects(group, data):
    """Return how far the weights went, the MAE before training, and the fluctuation of the MAE."""
    pairs = [load_networks(run, data) for run in group.runs]
    curves = group.curves("test_mae")
    half = max(0, curves.shape[1] // 2 - 1)
    changes = np.diff(curves[:, half:], axis=1)
    late = changes.std(axis=1) if changes.size else np.zeros(len(curves))
    before = [mae_of(first, data.test.images, data.test.labels) for first, _ in pairs]
    return Spread(tuple(moved(*pair) for pair in pairs)), Spread(tuple(before)), Spread(tuple(late))
