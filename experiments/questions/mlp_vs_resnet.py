"""Is an MLP with as many parameters as ResNet-18 as good?

2022, Question 3.8. The MLP has two hidden layers of the same width, computed so that the numbers of
parameters are as close as possible.
"""

from math import isqrt

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
    page.say_best(groups, "the {}")
    page.say_gap(groups)
