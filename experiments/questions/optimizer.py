"""Which optimizer is best?

2025, Problems 4.5 and 4.6, part of the search. All use the same learning rate, which is small for
`sgd`.
"""

EPOCHS = 15
RUNS = {
    f"{model}, {name}": {"model": model, "optimizer": name}
    for model in ("resnet18", "mlpmixer")
    for name in ("sgd", "momentum", "adam", "adamw")
}


def report(page, groups):
    page.bars(groups, "model and optimizer")
    page.table(groups, "model, optimizer")
    page.say_best_of_each_model(groups)
