"""How do the widths of the token- and the channel-mixing MLP change generalisation?

2025, Problem 4.7. One width varies, while the other keeps its default. Training accuracy is
measured after training, on as many unchanged training images as there are for validation.
"""

from experiments.classify import load_model
from experiments.figures import draw_spreads
from experiments.groups import Spread
from experiments.measure import accuracy
from experiments.page import in_points
from training.data import load_data

EPOCHS = 15
WIDTHS = (256, 512, 1024)
DEFAULTS = (128, 1024)  # of tokens and channels
RUNS = {
    "128, 1024": {"model": "mlpmixer"},
    **{f"{width}, 1024": {"model": "mlpmixer", "tokens_mlp_dim": width} for width in WIDTHS},
    **{f"128, {width}": {"model": "mlpmixer", "channels_mlp_dim": width} for width in WIDTHS[:2]},
}
PANELS = {
    "token": ["128, 1024", "256, 1024", "512, 1024", "1024, 1024"],
    "channel": ["128, 256", "128, 512", "128, 1024"],
}


def report(page, groups):
    legend = "widths of token and of channel mixing"
    page.curves(groups, legend)
    page.say_best(groups, "token and channel widths of {}")

    data = load_data(groups.settings.data, groups.settings.data_dir)
    seen = data.train.first(min(len(data.val), groups.first["data"]["train_images"]))
    train = {
        group.label: {run.changes["seed"]: accuracy(load_model(run), seen) for run in group.runs}
        for group in groups.ranked()
    }
    panels = []
    for index, (name, labels) in enumerate(PANELS.items()):
        varied = [group for group in groups.part(labels) if not group.diverged]
        if not varied:
            continue
        widths = [int(group.label.split(", ")[index]) for group in varied]
        curves = {
            "training": [_spread(train[group.label]) for group in varied],
            "validation": [group.best("valid_accs") for group in varied],
        }
        panels.append((f"width of {name} mixing", widths, curves))
        if len(varied) > 1:
            page.say(_say_capacity(name, widths, varied, train))
    if panels:
        page.add_figure(
            draw_spreads(groups, page.title, panels, "accuracy (%)"),
            "accuracy",
            f"Accuracy after training, on {len(seen):,} unchanged training images and on the "
            "validation images. One width varies, the other keeps its default.",
        )
        rows = [
            (
                group.label,
                f"{group.results[0]['parameters']:,}",
                f"{_spread(train[group.label]):.1%}",
                f"{group.best('valid_accs'):.1%}",
                f"{_gap(group, train):.1f}",
                f"{group.value('test_acc'):.1%}",
            )
            for group in groups
            if not group.diverged
        ]
        header = ("token, channel width", "parameters", "training", "validation", "gap", "test")
        page.add_table(
            header, rows, "The accuracies of the figure, their difference in points, and the test."
        )


def _say_capacity(name, widths, groups, train):
    """Return what the widest network has over the narrowest, and what that says of its capacity."""
    narrow, wide = groups[0], groups[-1]
    gained, (before, after) = wide.lead(narrow), (train[g.label] for g in (narrow, wide))
    fitted = Spread(tuple(after[seed] - before[seed] for seed in after if seed in before))
    parameters = [group.results[0]["parameters"] for group in (narrow, wide)]
    low, high = gained.interval
    if len(gained.values) < 2:
        verdict = "With one seed, this is not enough to tell underfitting from overfitting."
    elif low > 0:
        verdict = "Validation accuracy still rises with the width: the narrow network underfits."
    elif fitted.interval[0] > 0:
        verdict = (
            "Training accuracy rises, validation accuracy does not, or by no more than chance "
            "explains: with its capacity, the wide network overfits."
        )
    elif high < 0:
        verdict = "Validation accuracy falls, but not because the wide network fits better."
    else:
        verdict = "Chance between the seeds explains both; they show no effect of this width."
    return (
        f"From a {name}-mixing width of {widths[0]} to {widths[-1]}, the parameters go from "
        f"{parameters[0]:,} to {parameters[1]:,}, training accuracy changes by "
        f"{in_points(fitted)} and validation accuracy by {in_points(gained)}. {verdict}"
    )


def _gap(group, train):
    """Return training minus validation accuracy in points, for each seed."""
    valid = group.best("valid_accs").values
    return Spread(tuple(100 * (t - v) for t, v in zip(train[group.label].values(), valid)))


def _spread(by_seed):
    return Spread(tuple(by_seed.values()))
