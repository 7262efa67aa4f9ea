"""What is the best ResNet18, and what has its first layer learned?

2025, Problem 4.5. A search over learning rate, weight decay, batch size, optimizer, schedule and
label smoothing, in short runs; the best of them is then trained for longer. Only the winner is
tested.
"""

from experiments.classify import load_model
from experiments.figures import draw_kernels
from experiments.plan import round_to_two_digits

MODEL = "resnet18"
TRIAL_EPOCHS = 5
EPOCHS = 30


def suggest(trial):
    optimizer = trial.suggest_categorical("optimizer", ["adamw", "momentum"])
    highest = 1e-2 if optimizer == "adamw" else 0.3
    lr = trial.suggest_float(f"lr of {optimizer}", highest / 100, highest, log=True)
    decay = trial.suggest_float("weight_decay", 1e-5, 5e-2, log=True)
    return {
        "optimizer": optimizer,
        "lr": round_to_two_digits(lr),
        "weight_decay": round_to_two_digits(decay),
        "batch_size": trial.suggest_categorical("batch_size", [128, 256]),
        "scheduler": trial.suggest_categorical("scheduler", ["constant", "cosine", "onecycle"]),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.1]),
    }


def report(page, groups):
    from experiments.search_page import show_search  # only searches need Optuna

    show_search(page, groups)
    if groups["best"].diverged:
        return
    model = load_model(groups["best"].runs[0])
    page.add_figure(
        draw_kernels(model.conv1.weight, page.title, groups.of_one),
        "kernels",
        "The 64 kernels of the first convolution: in colour, each scaled by its largest weight; "
        "the weights of the red channel; the mean over the channels; and the same mean after each "
        "kernel is standardised, to mean 0 and standard deviation 1.",
    )
    caption = "These are the outputs of the first layer, before the batch norm."
    page.apply_to_image(groups, model.conv1.weight, caption)
