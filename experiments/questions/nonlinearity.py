"""Which non-linearity is best for the MLP?

2025, Problem 4.2. The MLP of `model_configs/mlp.json` with three activations; nothing else
changes.
"""

EPOCHS = 15
RUNS = {name: {"model": "mlp", "activation": name} for name in ("relu", "tanh", "sigmoid")}


def report(page, groups):
    page.curves(groups)
    page.table(groups, "activation")
    page.say_best(groups)
    page.say_gap(groups)
