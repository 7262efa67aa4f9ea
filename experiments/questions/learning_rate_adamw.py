"""Which learning rate is best for the MLP-Mixer, and is AdamW better than Adam for ResNet18?

2025, Problems 4.5 and 4.6, part of the search. The learning rates of Problem 4.3 with AdamW, whose
weight decay does not pass through the adaptive step, for both networks.
"""

from experiments.page import in_points
from experiments.questions import learning_rate

EPOCHS = learning_rate.EPOCHS
RATES = [run["lr"] for run in learning_rate.RUNS.values()]
RUNS = {
    **{f"ResNet18 with Adam, {label}": run for label, run in learning_rate.RUNS.items()},
    **{f"ResNet18 with AdamW, {lr:g}": {"model": "resnet18", "lr": lr} for lr in RATES},
    **{f"MLP-Mixer with AdamW, {lr:g}": {"model": "mlpmixer", "lr": lr} for lr in RATES},
}


def report(page, groups):
    page.bars(groups, "network, optimizer and learning rate")
    page.table(groups, "network, learning rate")
    page.say_best_of_each_model(groups, "a learning rate of {}")
    finished = {group.label: group for group in groups.ranked()}
    pairs = {
        lr: [finished.get(f"ResNet18 with {name}, {lr:g}") for name in ("AdamW", "Adam")]
        for lr in RATES
    }
    leads = [f"{in_points(a.lead(b))} at {lr:g}" for lr, (a, b) in pairs.items() if a and b]
    if leads:
        page.say(
            "In validation accuracy of ResNet18 at the same learning rate, AdamW minus Adam is "
            f"{'; '.join(leads)}."
        )
