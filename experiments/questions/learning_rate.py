"""How does the learning rate of Adam change the training of ResNet18?

2025, Problem 4.3. Learning rates over five powers of ten.
"""

from itertools import pairwise

from experiments.classify import initial_model, load_model
from experiments.groups import Spread
from experiments.measure import moved

EPOCHS = 15
RUNS = {
    f"{lr:g}": {"model": "resnet18", "optimizer": "adam", "lr": lr}
    for lr in (0.1, 0.01, 0.001, 0.0001, 0.00001)
}


def report(page, groups):
    page.curves(groups, legend="learning rate")
    page.table(groups, "learning rate")
    page.say_best(groups, "a learning rate of {}")
    page.say_gap(groups)
    show_losses(page, groups)


def show_losses(page, groups):
    """Add a table of the training loss and of how far the weights went; state both ends."""
    members = [group for group in groups if not group.diverged]
    rows = []
    for group in members:
        losses = group.curves("train_losses")  # (seeds, epochs)
        epochs = sorted({0, losses.shape[1] // 2, losses.shape[1] - 1})
        change = [moved(initial_model(run), load_model(run)) for run in group.runs]
        rows.append(
            (
                group.label,
                *(f"{Spread(tuple(losses[:, epoch])):.3f}" for epoch in epochs),
                f"{Spread(tuple(change)):.2g}",
            )
        )
    if not rows:
        return
    page.add_table(
        ("learning rate", *(f"epoch {epoch + 1}" for epoch in epochs), "weights moved"),
        rows,
        "Training loss, and the norm of the change of all weights from the start to the best "
        "epoch, relative to their norm at the start.",
    )
    chance = "A network that knows nothing and predicts all ten classes alike has a loss of 2.303."
    page.say(f"{chance} {_say_end(members[0], 'largest')} {_say_end(members[-1], 'smallest')}")


def _say_end(group, size):
    """Return what the training loss does with the largest or the smallest learning rate."""
    losses = group.curves("train_losses").mean(axis=0)
    falls = sum(later < earlier for earlier, later in pairwise(losses))
    return (
        f"With the {size} learning rate that does not diverge, {group.label}, it goes "
        f"from {losses[0]:.3f} in the first epoch to {losses[-1]:.3f} in the last one; it falls "
        f"from one epoch to the next in {falls} of {len(losses) - 1} cases, the last time by "
        f"{losses[-2] - losses[-1] if len(losses) > 1 else 0:.3f}."
    )
