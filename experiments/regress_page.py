"""What the report shows of a regression: the curves, the errors and their ranking."""

import torch

from experiments import figures
from experiments.groups import Groups
from experiments.page import Page
from training.data import load_data

CURVES = (
    ("train_mae", "Training error", "MAE (classes)"),
    ("test_mae", "Test error", "MAE (classes)"),
)


def draw(page: Page, groups: Groups, legend: str) -> None:
    """Add the curves and a table."""
    figure = figures.draw_curves(groups, page.title, legend, CURVES)
    page.add_figure(figure, "curves", "Mean absolute error (MAE) of the predicted class index.")
    rows = [
        (
            group.label,
            f"{group.results[0]['parameters']:,}",
            f"{group.last('train_mae'):.3f}",
            "diverged" if group.diverged else f"{group.last('test_mae'):.3f}",
            f"{group.seconds():.2f}",
        )
        for group in groups
    ]
    header = (legend, "parameters", "training MAE", "test MAE", "s / epoch")
    page.add_table(header, rows, "Errors after the last epoch, and median seconds per epoch.")


def say_ranking(page: Page, groups: Groups, words: str = "{}") -> None:
    """State the order of the test MAEs, and how the lowest compares with a constant prediction."""
    page.say_diverged(groups, words)
    ranked = sorted(
        (group for group in groups if not group.diverged),
        key=lambda group: group.last("test_mae").mean,
    )
    if not ranked:
        return
    labels = load_data(groups.settings.data, groups.settings.data_dir).test.labels
    constant = (labels - labels.median()).abs().to(torch.float64).mean().item()
    difference = constant - ranked[0].last("test_mae").mean
    parts = [f"{g.last('test_mae'):.3f} with {words.format(g.label)}" for g in ranked]
    page.say(
        f"After the last epoch, the test MAE is {'; '.join(parts)}. The lowest is "
        f"{abs(difference):.2f} {'below' if difference > 0 else 'above'} the {constant:.2f} of the "
        "best constant prediction."
    )


def say_overfitting(page: Page, groups: Groups) -> None:
    """State in which epoch the test error was lowest, and its final gap to the training error."""
    for group in groups:
        if group.diverged:
            continue
        curve = group.curves("test_mae").mean(axis=0)
        gap = group.last("test_mae").mean - group.last("train_mae").mean
        page.say(
            f"{group.label}: the test MAE is lowest in epoch {curve.argmin() + 1} of "
            f"{len(curve)}, {curve.min():.3f}; after the last epoch it is {abs(gap):.2f} "
            f"{'above' if gap > 0 else 'below'} the training MAE."
        )
