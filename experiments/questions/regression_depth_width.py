"""Is a deep or a shallow CNN better, with about as many parameters?

Regression assignment, part 2, question 3. The CNN of question 2; the deep one of the sheet, with
1 x 1 convolutions; and a shallow one whose only convolution sees the whole image, with the number
of filters that brings it closest to the parameters of the deep one.
"""

from experiments.questions import regression_cnn
from experiments.regress import KIND, multiply_adds, train
from experiments.regress_page import draw, say_overfitting, say_ranking

__all__ = ["KIND", "multiply_adds", "train"]

EPOCHS = 50
DENSE = 128
DEEP = 134_161  # parameters of the deep one; a test counts them


def filters_for(parameters: int) -> int:
    """Return how many 32 x 32 filters give the shallow CNN about this many parameters.

    The adaptive pooling copies the one output of each filter to 4 x 4, before the dense layer.
    """
    a_filter = 3 * 32 * 32 + 1 + 4 * 4 * DENSE
    rest = DENSE + DENSE + 1  # biases of the dense layer, and the output
    return round((parameters - rest) / a_filter)


RUNS = {
    "original": regression_cnn.RUNS["CNN"],
    "deep": {
        "model": "cnn",
        "n_channels": [8, 16, 32, 64],
        "kernel_sizes": [1, 1, 1, 1],
        "strides": [1, 1, 1, 1],
        "dense_hiddens": [DENSE],
    },
    "shallow": {
        "model": "cnn",
        "n_channels": [filters_for(DEEP)],
        "kernel_sizes": [32],
        "strides": [1],
        "dense_hiddens": [DENSE],
    },
}


def report(page, groups):
    draw(page, groups, "CNN")
    say_ranking(page, groups, "the {} CNN")
    say_overfitting(page, groups)
