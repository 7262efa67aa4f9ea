"""How does the learning rate of Adam change the training of ResNet18?

2025, Problem 4.3. Learning rates over five powers of ten.
"""

EPOCHS = 15
RUNS = {
    f"{lr:g}": {"model": "resnet18", "optimizer": "adam", "lr": lr}
    for lr in (0.1, 0.01, 0.001, 0.0001, 0.00001)
}


def report(page, groups):
    page.curves(groups, legend="learning rate")
    page.table(groups, "learning rate")
    page.say_best(groups, "a learning rate of {}")
    page.say_gap(groups)
