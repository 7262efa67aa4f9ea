"""How does the batch size change the result?

2025, Problems 4.5 and 4.6, part of the search. The learning rate stays the same; a larger batch
means fewer steps per epoch.
"""

EPOCHS = 15
RUNS = {
    f"{model}, {size}": {"model": model, "batch_size": size}
    for model in ("resnet18", "mlpmixer")
    for size in (128, 256, 512, 1024)
}


def report(page, groups):
    page.bars(groups, "model and batch size")
    page.table(groups, "model, batch size")
    page.say_best_of_each_model(groups, "a batch size of {}")
