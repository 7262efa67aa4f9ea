"""What is the best MLP-Mixer with patches of 4, and what has its first layer learnt?

2025, Problem 4.6. A search over embedding width, depth, learning rate, weight decay, schedule,
dropout, stochastic depth and label smoothing, in short runs; the best of them is then trained for
longer. The test images are looked at once, by the winner.
"""

import torch

from experiments.classify import load_model
from experiments.figures import draw_kernels_and_units, draw_units_on_image
from experiments.groups import read_groups
from experiments.plan import load_experiments, round_to_two_digits
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
    from experiments.search import say_search  # Optuna is needed for this only

    say_search(page, groups)
    page.curves(groups)
    page.table(groups, "run")
    page.say_gap(groups)
    model = load_model(groups["best"].runs[0])
    page.add_picture(
        draw_pairs(model, page.folder / "figures", groups.first["data"]["name"]).relative_to(
            page.folder
        ),
        "The token-mixing units of the first block, as in figure 5 of the MLP-Mixer paper.",
    )
    units = model.blocks[0].mlp_tokens.fc1.weight
    others = read_groups(load_experiments()["best_resnet18"], groups.settings)
    if len(others):
        kernels = load_model(others["best"].runs[0]).conv1.weight
        page.add_figure(
            draw_kernels_and_units(kernels, units, page.title, groups),
            "comparison",
            "Left: kernels of ResNet18, means over the channels; each looks at 3 x 3 pixels, "
            "wherever they are. Right: as many token-mixing units; each looks at the whole image, "
            "one weight a patch, and is tied to the place.",
        )
    data = load_data(groups.settings.data, groups.settings.data_dir)
    page.add_figure(
        draw_units_on_image(units, data.val.images[0], page.title, groups),
        "on-image",
        "What 15 units make of a validation image: its brightness, less the mean, times the "
        "weight of the patch. Where a unit looks, the image shows; red adds to the unit, blue "
        "takes away.",
    )
    page.say(
        "The weights of patches side by side correlate with "
        f"{_neighbours(units.detach(), model.patchemb.grid_size):.2f}. Nothing but the data tells "
        "the mixer which patches are neighbours: 0 would mean that it has not noticed."
    )


def _neighbours(units, grid):
    """Return the correlation of the weights of patches side by side, over all units (U, N)."""
    maps = units.reshape(-1, grid, grid)
    pairs = torch.stack([maps[:, :, 1:].flatten(), maps[:, :, :-1].flatten()])
    return torch.corrcoef(pairs)[0, 1].item()
