"""What is the best MLP-Mixer with patches of 4, and what has its first layer learned?

2025, Problem 4.6. A search over embedding width, depth, learning rate, weight decay, schedule,
dropout, stochastic depth and label smoothing, in short runs; the best of them is then trained for
longer. Only the winner is tested.
"""

import torch

from experiments.classify import load_model
from experiments.figures import draw_kernels_and_units, draw_units_on_image
from experiments.groups import read_groups
from experiments.plan import load_experiments, round_to_two_digits
from experiments.wanted import runs_wanted
from training.data import load_data
from training.units import draw_pairs

MODEL = "mlpmixer"
TRIAL_EPOCHS = 5
EPOCHS = 30


def suggest(trial):
    lr = trial.suggest_float("lr", 2e-4, 5e-3, log=True)
    decay = trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True)
    return {
        "embed_dim": trial.suggest_categorical("embed_dim", [128, 256, 512]),
        "num_blocks": trial.suggest_categorical("num_blocks", [4, 6, 8]),
        "lr": round_to_two_digits(lr),
        "weight_decay": round_to_two_digits(decay),
        "drop_rate": trial.suggest_categorical("drop_rate", [0.0, 0.1, 0.2]),
        "drop_path_rate": trial.suggest_categorical("drop_path_rate", [0.0, 0.1]),
        "scheduler": trial.suggest_categorical("scheduler", ["constant", "cosine", "onecycle"]),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.1]),
    }


def report(page, groups):
    from experiments.search_page import show_search  # only searches need Optuna

    show_search(page, groups)
    if groups["best"].diverged:
        return
    model = load_model(groups["best"].runs[0])
    path = draw_pairs(model, page.folder / "figures" / page.name, groups.of_one)
    page.add_picture(
        path.relative_to(page.folder),
        "The token-mixing units of the first block, as in figure 5 of the MLP-Mixer paper.",
    )
    units = model.blocks[0].mlp_tokens.fc1.weight
    resnet18 = load_experiments()["best_resnet18"]
    others = read_groups(resnet18, groups.settings, runs_wanted(resnet18, groups.settings))
    if others.ranked():
        kernels = load_model(others["best"].runs[0]).conv1.weight
        page.add_figure(
            draw_kernels_and_units(kernels, units, page.title, groups.of_one),
            "comparison",
            "Left: the kernels of ResNet18, averaged over the channels. Each sees 3 x 3 pixels, at "
            "every position. Right: token-mixing units. Each sees the whole image, with one weight "
            "per patch, and is bound to the position.",
        )
    image = load_data(groups.settings.data, groups.settings.data_dir).val.images[0]
    page.add_figure(
        draw_units_on_image(units, image, page.title, groups.of_one),
        "on-image",
        "The strongest units on a validation image: its brightness minus the mean, times the "
        "weight of the patch. Red adds to the output of the unit, blue subtracts from it.",
    )
    page.say(
        "The weights of horizontally adjacent patches have a correlation of "
        f"{_neighbours(units.detach(), model.patchemb.grid_size):.2f} over all units. The "
        "architecture does not encode which patches are adjacent: before training, the expected "
        "correlation is 0."
    )


def _neighbours(units, grid):
    """Return the correlation of the weights of horizontally adjacent patches, for units (U, N)."""
    maps = units.reshape(-1, grid, grid)
    pairs = torch.stack([maps[:, :, 1:].flatten(), maps[:, :, :-1].flatten()])
    return torch.corrcoef(pairs)[0, 1].item()
