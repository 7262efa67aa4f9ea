"""How does the weight decay of AdamW change the result?

2025, Problems 4.5 and 4.6, part of the search. Weight decays over five powers of ten.
"""

EPOCHS = 15
RUNS = {
    f"{model}, {decay:g}": {"model": model, "weight_decay": decay}
    for model in ("resnet18", "mlpmixer")
    for decay in (5e-2, 5e-3, 5e-4, 5e-5, 5e-6)
}


def report(page, groups):
    page.bars(groups, "model and weight decay")
    page.table(groups, "model, weight decay")
    page.say_best_of_each_model(groups, "a weight decay of {}")
