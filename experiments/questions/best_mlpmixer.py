"""What is the best MLP-Mixer with patches of 4, and what has its first layer learned?

2025, Problem 4.6. A search in short runs; the best of them is then trained for longer. Only the
winner is tested.
"""

import torch

from experiments.classify import load_model
from experiments.figures import draw_kernels_and_units, draw_units_on_image
from experiments.groups import read_groups
from experiments.measure import say_uses, show_shifts
from experiments.plan import load_experiments, recall, round_to_two_digits
from experiments.wanted import runs_wanted
from training.data import load_data
from training.units import draw_pairs

MODEL = "mlpmixer"
TRIAL_EPOCHS = 5
EPOCHS = 30


def suggest(trial):
    optimizer = trial.suggest_categorical("optimizer", ["adamw", "adam", "momentum"])
    highest = 0.3 if optimizer == "momentum" else 5e-3
    lr = trial.suggest_float(f"lr of {optimizer}", highest / 25, highest, log=True)
    decay = trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True)
    return {
        "embed_dim": trial.suggest_categorical("embed_dim", [128, 256, 512]),
        "num_blocks": trial.suggest_categorical("num_blocks", [4, 6, 8]),
        "optimizer": optimizer,
        "lr": round_to_two_digits(lr),
        "weight_decay": round_to_two_digits(decay),
        "batch_size": trial.suggest_categorical("batch_size", [128, 256]),
        "drop_rate": trial.suggest_categorical("drop_rate", [0.0, 0.1, 0.2, 0.4]),
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
    resnet18 = _finished("best_resnet18", "best", groups.settings)
    mlp = _finished("nonlinearity", "relu", groups.settings)
    if resnet18 is not None:
        kernels = load_model(resnet18.runs[0]).conv1.weight
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
    grid = model.patchemb.grid_size
    page.apply_to_image(
        groups,
        units.reshape(-1, 1, grid, grid),
        "The kernels are the token-mixing units, one weight per pixel of the brightness; the "
        "network applies each at one position only, to patches.",
    )
    correlation, error = _neighbours(units.detach(), grid)
    page.say(
        f"The weights of horizontally adjacent patches have a correlation of {correlation:.2f} "
        "over all units. The architecture does not encode which patches are adjacent: before "
        f"training, the expected correlation is 0, with a standard error of {error:.3f}."
    )
    compared = {
        f"{label} ({group.runs[0].changes['epochs']} epochs)": group
        for label, group in (
            ("best MLP-Mixer", groups["best"]), ("best ResNet18", resnet18), ("default MLP", mlp)
        )
        if group is not None
    }  # fmt: skip
    show_shifts(page, compared, groups.settings)
    say_uses(page, compared)
    page.say(
        "The MLP learns what to do with a pixel from this pixel alone. The mixer applies the same "
        "embedding and the same channel-mixing MLP to every patch, which learn from all positions; "
        "only the token mixing is bound to positions, and it is shared by all channels."
    )


def _finished(name, label, settings):
    """Return a group of another question, None if a run is missing or has diverged."""
    experiment = load_experiments()[name]
    settings = recall(settings.output).get(name, settings)
    runs = runs_wanted(experiment, settings).get(label)
    groups = read_groups(experiment, settings, {label: runs} if runs else {})
    return groups[label] if groups.missing == 0 and groups.ranked() else None


def _neighbours(units, grid):
    """Return the correlation of horizontally adjacent weights of units (U, N); its error at 0."""
    maps = units.reshape(-1, grid, grid)
    pairs = torch.stack([maps[:, :, 1:].flatten(), maps[:, :, :-1].flatten()])
    return torch.corrcoef(pairs)[0, 1].item(), pairs.shape[1] ** -0.5
