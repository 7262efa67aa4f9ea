"""How wide should the embedding of the MLP-Mixer be?

2025, Problem 4.6, part of the search. The widths of both MLPs grow with it.
"""

EPOCHS = 15
RUNS = {
    str(width): {"model": "mlpmixer", "embed_dim": width} for width in (32, 64, 128, 256, 512, 1024)
}


def report(page, groups):
    page.curves(groups, legend="embedding width")
    page.table(groups, "embedding width")
    page.say_best(groups, "an embedding width of {}")
    page.say_gap(groups)
