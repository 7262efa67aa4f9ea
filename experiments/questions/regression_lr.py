"""How does the learning rate change the regression with an MLP?

Regression assignment, part 2, question 1. An MLP with two hidden layers of 128 predicts the class
index.
"""

from experiments.regress import KIND, multiply_adds, train
from experiments.regress_page import draw, say_ranking

__all__ = ["KIND", "multiply_adds", "train"]

EPOCHS = 50
RUNS = {
    f"{lr:g}": {"model": "mlp", "dense_hiddens": [128, 128], "lr": lr} for lr in (0.01, 1e-4, 1e-8)
}


def report(page, groups):
    draw(page, groups, "learning rate")
    say_ranking(page, groups, "a learning rate of {}")
