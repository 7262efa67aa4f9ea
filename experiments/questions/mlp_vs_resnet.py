"""Is an MLP with as many parameters as ResNet-18 as good?

2022, Question 3.8. Two hidden layers of one width, computed so that the numbers of parameters are
as near to each other as they can be.
"""

from math import isqrt

EPOCHS = 25
PIXELS, CLASSES = 3 * 32 * 32, 10
RESNET = 11_173_962  # parameters; a test counts them


def width_of(parameters: int) -> int:
    """Return w so that an MLP with hidden layers (w, w) has about so many parameters.

    It has w² + (PIXELS + CLASSES + 2) w + CLASSES, which is solved for w and rounded.
    """
    linear = PIXELS + CLASSES + 2
    return round((isqrt(linear**2 + 4 * (parameters - CLASSES)) - linear) / 2)


RUNS = {
    "ResNet-18": {
        "model": "resnet18_a2022",
        "activation_str": "relu",
        "initialization": "xavier_normal",
    },
    "MLP": {"model": "mlp", "hidden_sizes": [width_of(RESNET)] * 2},
}


def report(page, groups):
    page.curves(groups)
    page.table(groups, "network")
    page.say_best(groups, "the {}")
    page.say_gap(groups)
