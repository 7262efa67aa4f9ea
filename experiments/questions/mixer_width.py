"""How do the widths of the token- and the channel-mixing MLP change generalisation?

2025, Problem 4.7. All pairs of three widths.
"""

from experiments.figures import draw_heat_maps, draw_train_against_valid

EPOCHS = 15
WIDTHS = (256, 512, 1024)
RUNS = {
    f"{tokens}, {channels}": {
        "model": "mlpmixer",
        "tokens_mlp_dim": tokens,
        "channels_mlp_dim": channels,
    }
    for tokens in WIDTHS
    for channels in WIDTHS
}


def report(page, groups):
    if groups.missing == 0:
        ticks = [str(width) for width in WIDTHS]
        names = [[f"{tokens}, {channels}" for channels in WIDTHS] for tokens in WIDTHS]
        x, y = "width of channel mixing", "width of token mixing"
        page.add_figure(
            draw_heat_maps(groups, names, ticks, page.title, x, y),
            "gap",
            "Accuracies in the epoch of the best validation accuracy, and the gap between them.",
        )
    page.add_figure(
        draw_train_against_valid(groups, page.title),
        "train-valid",
        "Validation against training accuracy in the epoch of the best validation accuracy; on the "
        "dashed line, both are equal.",
    )
    page.table(groups, "token, channel width")
    page.say_best(groups, "token and channel widths of {}")
    page.say_gap(groups)
