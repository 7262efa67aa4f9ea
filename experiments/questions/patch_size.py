"""How does the patch size change the MLP-Mixer: accuracy, parameters and time?

2025, Problem 4.4. All patch sizes that divide 32. Smaller patches are more of them: the tokens
grow with the square, and so does the time; the parameters are those of the embedding, which grow
with the patch, and of the token mixing, which grow with the number of patches.
"""

from experiments.classify import multiply_adds
from experiments.figures import draw_points, new_figure

EPOCHS = 15
RUNS = {str(size): {"model": "mlpmixer", "patch_size": size} for size in (1, 2, 4, 8, 16, 32)}


def report(page, groups):
    page.curves(groups, legend="patch size (pixels)")
    page.table(groups, "patch size")
    page.say_best(groups, "a patch size of {}")
    page.say_gap(groups)

    images = groups.first["data"]["valid_images"]
    count = [group.results[0]["parameters"] for group in groups]
    work = [multiply_adds(group.runs[0].changes) for group in groups]
    train = [group.seconds("train_seconds") for group in groups]
    infer = [group.seconds("valid_seconds") for group in groups]
    panels = (
        ("parameters", count),
        ("multiply-adds of an image", work),
        ("seconds to train an epoch", [spread.mean for spread in train]),
        (f"seconds to classify {images:,} images", [spread.mean for spread in infer]),
    )
    figure = new_figure(4.6, page.title, groups)
    draw_points(figure, list(groups), panels, "patch size (pixels)")
    page.add_figure(figure, "cost", "What a patch size costs. All axes are logarithmic.")
    rows = [
        (group.label, f"{n:,}", f"{w / 1e6:.1f}", f"{t:.2f}", f"{i:.2f}")
        for group, n, w, t, i in zip(groups, count, work, train, infer)
    ]
    header = ("patch size", "parameters", "10⁶ multiply-adds", "train, s", "inference, s")
    page.add_table(
        header, rows,
        f"Training seconds of an epoch of {groups.first['data']['train_images']:,} images, and "
        f"seconds for the {images:,} validation images: medians over the epochs.",
    )  # fmt: skip
    labels = [group.label for group in groups]
    ratio = train[0].mean / train[-1].mean
    fewest = labels[count.index(min(count))]
    page.say(
        f"A patch size of {fewest} has the fewest parameters, {min(count):,}. Training with "
        f"patches of {labels[0]} takes {ratio:.1f} times as long as with patches of {labels[-1]}, "
        f"for {work[0] / work[-1]:.1f} times the multiply-adds."
    )
