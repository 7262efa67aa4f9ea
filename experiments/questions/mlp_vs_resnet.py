"""Is an MLP with as many parameters as ResNet-18 as good?

2022, Question 3.8. The MLP has two hidden layers of the same width, computed so that the numbers of
parameters are as close as possible.
"""

from math import isqrt

from experiments.classify import multiply_adds
from experiments.groups import Spread
from experiments.measure import say_uses, show_shifts
from experiments.questions import resnet_grid

EPOCHS = resnet_grid.EPOCHS
NETWORKS = resnet_grid.NETWORKS
PIXELS, CLASSES = 3 * 32 * 32, 10
RESNET = 11_173_962  # parameters; a test counts them


def width_of(parameters: int) -> int:
    """Return the w for which an MLP with hidden layers (w, w) has about this many parameters.

    It has w² + (PIXELS + CLASSES + 2) w + CLASSES of them.
    """
    linear = PIXELS + CLASSES + 2
    return round((isqrt(linear**2 + 4 * (parameters - CLASSES)) - linear) / 2)


RUNS = {
    "ResNet-18": resnet_grid.RUNS["relu, xavier_normal"],
    "MLP": {"model": "mlp", "hidden_sizes": [width_of(RESNET)] * 2},
}


def report(page, groups):
    page.curves(groups)
    page.table(groups, "network")
    members = {group.label: group for group in groups if not group.diverged}
    if not members:
        page.say_diverged(groups, "the {}")
        return
    rows = [
        (
            label,
            f"{group.results[0]['parameters']:,}",
            f"{group.best('valid_accs'):.1%}",
            f"{group.best('valid_losses'):.4g}",
            f"{Spread(tuple(sum(r['train_seconds']) / 60 for r in group.results)):.1f}",
            f"{multiply_adds(group.runs[0]) / 1e6:.0f}",
        )
        for label, group in members.items()
    ]
    epochs = groups.members[0].runs[0].changes["epochs"]
    page.add_table(
        (
            "network",
            "parameters",
            "validation acc.",
            "validation loss",
            "minutes",
            "10⁶ mult.-adds",
        ),
        rows,
        f"Validation accuracy and loss in the best epoch; minutes of training for all {epochs} "
        "epochs; multiply-adds for one image.",
    )
    page.say_best(groups, "the {}")
    page.say_gap(groups)
    show_shifts(page, members, groups.settings)
    say_uses(page, members)
    page.say(
        "The number of parameters is the same, their use is not: a convolution applies its weights "
        "at every position, which takes time, and learns from every position."
    )
