"""Is a deep or a shallow CNN better, with about as many parameters?

Regression assignment, part 2, question 3. The CNN of question 2; the deep one of the sheet, with
1 x 1 convolutions; and a shallow one whose only convolution sees the whole image, with the number
of filters that brings it closest to the parameters of the deep one.
"""

import torch.nn.functional as F

from experiments.groups import Spread
from experiments.measure import shift
from experiments.questions import regression_cnn
from experiments.regress import (
    FIRST_SEED,
    KIND,
    load_networks,
    mae_of,
    multiply_adds,
    train,
)
from experiments.regress_page import draw, say_overfitting, say_ranking
from training.data import load_data

__all__ = ["FIRST_SEED", "KIND", "multiply_adds", "train"]

EPOCHS = 50
DENSE = 128
DEEP = 134_161  # parameters of the deep one; a test counts them


def filters_for(parameters: int) -> int:
    """Return how many 32 x 32 filters give the shallow CNN about this many parameters.

    The adaptive pooling copies the one output of each filter to 4 x 4, before the dense layer.
    """
    a_filter = 3 * 32 * 32 + 1 + 4 * 4 * DENSE
    rest = DENSE + DENSE + 1  # biases of the dense layer, and the output
    return round((parameters - rest) / a_filter)


RUNS = {
    "original": regression_cnn.RUNS["CNN"],
    "deep": {
        "model": "cnn",
        "n_channels": [8, 16, 32, 64],
        "kernel_sizes": [1, 1, 1, 1],
        "strides": [1, 1, 1, 1],
        "dense_hiddens": [DENSE],
    },
    "shallow": {
        "model": "cnn",
        "n_channels": [filters_for(DEEP)],
        "kernel_sizes": [32],
        "strides": [1],
        "dense_hiddens": [DENSE],
    },
}


def report(page, groups):
    draw(page, groups, "CNN")
    say_ranking(page, groups, "the {} CNN")
    say_overfitting(page, groups)
    data = load_data(groups.settings.data, groups.settings.data_dir)
    whole = {group.label: group for group in groups if not group.diverged}
    for label, say in (("deep", _say_one_by_one), ("shallow", _say_whole)):
        if label in whole:
            say(page, load_networks(whole[label].runs[0], data)[1], data.test.images[:100])
    if len(whole) == len(RUNS):
        show_hypothesis(page, whole, data)


def _say_one_by_one(page, network, images):
    """Answer (a): the relation of 1 x 1 convolutions to fully-connected layers."""
    x = normalised(images)
    convolution = network[0]
    linear = F.linear(x.movedim(1, -1), convolution.weight[:, :, 0, 0], convolution.bias)
    difference = (convolution(x) - linear.movedim(-1, 1)).abs().max().item()
    page.say(
        "(a) A 1 x 1 convolution is a fully-connected layer on the channels of one pixel, the same "
        "for every pixel; no two pixels interact in it. The first convolution of the deep CNN, "
        "computed on 100 test images as a fully-connected layer on each pixel, has the same "
        f"outputs up to {difference:.1g}. Only the max pooling and the dense layer combine pixels."
    )


def _say_whole(page, network, images):
    """Answer (b): the relation of kernels as large as the image to fully-connected layers."""
    x = normalised(images)
    convolution = network[0]
    linear = F.linear(x.flatten(1), convolution.weight.flatten(1), convolution.bias)
    difference = (convolution(x).flatten(1) - linear).abs().max().item()
    page.say(
        "(b) A kernel as large as the image has one position, so that the convolution is a "
        "fully-connected layer from all pixels to its filters; no weight is shared. Computed as "
        f"such a layer on 100 test images, its outputs are the same up to {difference:.1g}."
    )


def show_hypothesis(page, whole, data):
    """Answer (c): what the hypothesis predicts, and whether it was observed."""
    images, labels = data.test.images, data.test.labels
    variants = {"unchanged": images, "shifted": shift(images, 4), "windows": turn_windows(images)}
    maes = {}
    for label, group in whole.items():
        networks = [load_networks(run, data)[1] for run in group.runs]
        maes[label] = {
            name: Spread(tuple(mae_of(network, changed, labels) for network in networks))
            for name, changed in variants.items()
        }
    page.add_table(
        ("CNN", "unchanged", "shifted by 4 pixels", "2 x 2 windows turned"),
        [(label, *(f"{value:.3f}" for value in found.values())) for label, found in maes.items()],
        "Test MAE on the images, on the images moved to the right by 4 pixels, and on the images "
        "with each window of 2 x 2 pixels turned by 180 degrees.",
    )
    train = {label: group.last("train_mae") for label, group in whole.items()}
    test = {label: group.last("test_mae") for label, group in whole.items()}
    gap = {label: _minus(test[label], train[label]) for label in whole}
    shifted = {label: _minus(mae["shifted"], mae["unchanged"]) for label, mae in maes.items()}
    windows = {label: _minus(mae["windows"], mae["unchanged"]) for label, mae in maes.items()}
    windows = {label: Spread(tuple(map(abs, cost.values))) for label, cost in windows.items()}
    lines = [
        _check("The deep CNN sees no edges, because its kernels see one pixel each: its training "
               "MAE is the highest", train, max, "deep"),
        _check("Turning the windows, which destroys edges, changes its error the least", windows,
               min, "deep"),
        _check("The shallow CNN learns every position by itself: a shift costs it the most",
               shifted, max, "shallow"),
        _check("It fits its images without generalising: test minus training MAE is the largest",
               gap, max, "shallow"),
        _check("The original CNN sees edges and shares its weights: its test MAE is the lowest",
               test, min, "original"),
    ]  # fmt: skip
    page.say(f"(c) Hypothesis, and what was observed. {' '.join(lines)}")


def _minus(first, second):
    """Return the difference for each seed."""
    return Spread(tuple(a - b for a, b in zip(first.values, second.values)))


def _check(claim, values, extreme, expected):
    """Return a claim that a network has the extreme value, and for how many seeds it holds."""
    numbers = ", ".join(f"{label} {value:.3f}" for label, value in values.items())
    seeds = [dict(zip(values, row)) for row in zip(*(value.values for value in values.values()))]
    held = sum(extreme(seed, key=seed.get) == expected for seed in seeds)
    return f"{claim}: true for {held} of {len(seeds)} seeds ({numbers})."


def turn_windows(images):
    """Turn each window of 2 x 2 pixels of images (N, 3, S, S) by 180 degrees."""
    number, channels, height, width = images.shape
    windows = images.reshape(number, channels, height // 2, 2, width // 2, 2)
    return windows.flip(3, 5).reshape(images.shape)


def normalised(images):
    """Return images in [0, 255] as the ``Trainer`` sees them, in [-1, 1]."""
    return images.float() / 127.5 - 1
