"""How good is the regression with a CNN?

Regression assignment, part 2, question 2. Three convolutions with 16, 32 and 45 filters of 3 x 3,
and a hidden layer of 128.
"""

from experiments.regress import FIRST_SEED, KIND, multiply_adds, train
from experiments.regress_page import draw, say_overfitting, say_ranking

__all__ = ["FIRST_SEED", "KIND", "multiply_adds", "train"]

EPOCHS = 50
RUNS = {
    "CNN": {
        "model": "cnn",
        "n_channels": [16, 32, 45],
        "kernel_sizes": [3, 3, 3],
        "strides": [1, 1, 1],
        "dense_hiddens": [128],
    }
}


def report(page, groups):
    draw(page, groups, "network")
    say_ranking(page, groups, "the {}")
    say_overfitting(page, groups)
