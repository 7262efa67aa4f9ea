"""How do the widths of the token- and the channel-mixing MLP change generalisation?

2025, Problem 4.7. All pairs of three widths.
"""

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
        rows = [str(width) for width in WIDTHS]
        names = [[f"{tokens}, {channels}" for channels in rows] for tokens in rows]
        page.heat_maps(groups, names, rows, "width of channel mixing", "width of token mixing")
    page.train_against_valid(groups)
    page.table(groups, "token, channel width")
    page.say_best(groups, "the pair {} (token, channel width)")
    page.say_gap(groups)
