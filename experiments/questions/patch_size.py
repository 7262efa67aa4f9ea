"""How does the patch size change the MLP-Mixer: accuracy, parameters and time?

2025, Problem 4.4. All patch sizes that divide 32. With half the patch size there are four times as
many patches. The parameters of the embedding grow with the size of a patch, those of the token
mixing with the number of patches.
"""

from experiments.classify import multiply_adds
from experiments.figures import draw_points

EPOCHS = 15
RUNS = {str(size): {"model": "mlpmixer", "patch_size": size} for size in (1, 2, 4, 8, 16, 32)}


def report(page, groups):
    page.curves(groups, legend="patch size (pixels)")
    page.table(groups, "patch size")
    page.say_best(groups, "a patch size of {}")
    page.say_gap(groups)

    data, labels = groups.first["data"], [group.label for group in groups]
    count = [group.results[0]["parameters"] for group in groups]
    work = [multiply_adds(group.runs[0]) for group in groups]
    train = [group.seconds("train_seconds") for group in groups]
    infer = [group.seconds("valid_seconds") for group in groups]
    panels = (
        ("parameters", count),
        ("multiply-adds per image", work),
        ("seconds of training per epoch", [spread.mean for spread in train]),
        (f"seconds to classify {data['valid_images']:,} images", [spread.mean for spread in infer]),
    )
    figure = draw_points(groups, page.title, panels, "patch size (pixels)")
    page.add_figure(figure, "cost", "The cost of a patch size. All axes are logarithmic.")
    rows = [
        (label, f"{n:,}", f"{w / 1e6:.1f}", f"{t:.2f}", f"{i:.2f}")
        for label, n, w, t, i in zip(labels, count, work, train, infer)
    ]
    header = ("patch size", "parameters", "10⁶ multiply-adds", "training, s", "inference, s")
    page.add_table(
        header, rows,
        f"Seconds of training per epoch of {data['train_images']:,} images, and seconds for the "
        f"{data['valid_images']:,} validation images: medians over the epochs.",
    )  # fmt: skip
    text = (
        f"A patch size of {labels[count.index(min(count))]} has the fewest parameters, "
        f"{min(count):,}."
    )
    if len(groups) > 1:
        text += (
            f" Training with patches of {labels[0]} takes {train[0].mean / train[-1].mean:.1f} "
            f"times as long as with patches of {labels[-1]}, for {work[0] / work[-1]:.1f} times "
            "the multiply-adds."
        )
    page.say(text)
