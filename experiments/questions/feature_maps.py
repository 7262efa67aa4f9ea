"""What have the first and the last convolution of ResNet-18 learned?

2022, Questions 3.5 and 3.6. Filters of both layers after training, and their feature maps for one
validation image. Which classes a filter tells apart is measured on many validation images.
"""

import numpy as np
import torch

from experiments.classify import initial_model, load_model
from experiments.figures import draw_maps
from experiments.measure import images_for, outputs_of
from experiments.questions import resnet_grid
from numpy_networks import figures
from training.batches import normalize
from training.data import load_data

EPOCHS = resnet_grid.EPOCHS
NETWORKS = resnet_grid.NETWORKS
RUNS = {"ResNet-18": resnet_grid.RUNS["relu, xavier_normal"]}
SHOWN = 15  # feature maps


def report(page, groups):
    page.table(groups, "network")
    page.say_diverged(groups, "the {}")
    if groups["ResNet-18"].diverged:
        return
    run = groups["ResNet-18"].runs[0]
    model = load_model(run)
    folder = page.folder / "figures"
    paths = {layer: folder / f"{page.name}-filters-{layer}.png" for layer in ("first", "last")}
    figures.draw_filters(model, *paths.values(), groups.of_one)
    data = load_data(groups.settings.data, groups.settings.data_dir)
    image, label = data.val.images[0], data.name_of(int(data.val.labels[0]))
    maps = figures.feature_maps(model, normalize(image[None].float())[0])
    for layer, path in paths.items():
        page.add_picture(path.relative_to(page.folder), f"Filters of the {layer} convolution.")
    show_filters(page, initial_model(run), model)
    for layer, values in zip(paths, maps):
        title = f"Feature maps of the {layer} convolution for one validation image ({label})"
        page.add_figure(
            draw_maps(image, values, title, groups.of_one),
            f"maps-{layer}",
            f"Outputs of {SHOWN} filters of the {layer} convolution for a validation image, before "
            f"the batch norm: {values.shape[1]} x {values.shape[2]} each.",
        )
    split = images_for(groups.settings)
    for layer, convolution in zip(paths, (model.conv1, model.layer4[1].conv2)):
        say_selectivity(page, layer, convolution, model, split, data)


def show_filters(page, before, after):
    """Question 3.5: what the filters of both layers have in common, and how they differ."""
    rows = []
    for layer, get in (
        ("first", "get_first_conv_layer_filters"),
        ("last", "get_last_conv_layer_filters"),
    ):
        for when, model in (("untrained", before), ("trained", after)):
            weights = getattr(model, get)().astype(np.float64)  # (filters, channels, 3, 3)
            means = (weights.mean(axis=axes, keepdims=True) for axes in ((2, 3), 1))
            share = [_share(mean, weights) for mean in means]
            norms = np.sqrt((weights**2).sum(axis=(1, 2, 3)))
            weak = (norms < 0.1 * norms.max()).mean()
            strongest = ((weights**2).sum(axis=(2, 3)).max(axis=1) / norms**2).mean()
            rows.append(
                (
                    f"{layer}, {when}",
                    str(len(weights)),
                    f"{weights[0].size:,}",
                    *(f"{value:.1%}" for value in (*share, strongest, weak)),
                )
            )
    page.add_table(
        ("convolution", "filters", "weights each", "constant", "colourless", "strongest", "weak"),
        rows,
        "Shares of the squared weights: of the mean over the 9 positions (constant, nothing but a "
        "blob), of the mean over the input channels (colourless in the first layer), and of the "
        "strongest input channel, mean over the filters. Weak: filters with less than a tenth of "
        "the largest norm.",
    )
    first, last = rows[1], rows[3]
    page.say(
        f"The filters of the first convolution see 3 x 3 pixels in 3 colours and can be read as "
        f"pictures: {first[4]} of their squared weights are in the mean over the colours, the rest "
        f"compares colours; {first[3]} are constant over the 9 pixels, the rest compares "
        f"neighbouring pixels, as edges do. A filter of the last convolution has {last[2]} weights "
        f"for 512 feature maps, the strongest of which has {last[5]} of its squared weights: no "
        "single 3 x 3 picture shows what it does. The rows of the untrained network show what "
        "random weights give."
    )


def _share(part, weights):
    """Return the share of the squared weights that a part of them, broadcast, accounts for."""
    return (np.broadcast_to(part, weights.shape) ** 2).sum() / (weights**2).sum()


def say_selectivity(page, layer, convolution, model, split, data):
    """Question 3.6: how much of a filter's mean output the class explains, and for which class."""
    means = outputs_of(model, convolution, split.images, lambda out: out.mean(dim=(2, 3)))
    classes, scores, explained = explain_by_class(means.double(), split.labels)
    chance = (len(classes) - 1) / (len(means) - 1)
    parts = []
    for number in explained[:SHOWN].argsort(descending=True)[:3].tolist():
        extreme = scores[:, number].abs().argmax()
        name = data.name_of(int(classes[extreme]))
        side = "high" if scores[extreme, number] > 0 else "low"
        parts.append(f"filter {number} ({explained[number]:.0%}), {side} for {name}")
    page.say(
        f"The {layer} convolution, on {len(split):,} validation images: the class explains "
        f"{explained.median():.1%} of the variance of a filter's mean output (median over the "
        f"filters), {explained.max():.0%} at most; {chance:.1%} would be chance. Of the filters "
        f"shown, the most selective are {', '.join(parts)}."
    )


def explain_by_class(values, labels):
    """Return how values (N, filters) depend on labels (N,).

    Returns:
        The classes (K,), their means in standard deviations of the filter (K, filters), and the
        share of the variance of each filter that lies between the classes (filters,).
    """
    classes = labels.unique()
    scores = (values - values.mean(dim=0)) / values.std(dim=0, correction=0).clamp(min=1e-12)
    means = torch.stack([scores[labels == one].mean(dim=0) for one in classes])
    sizes = torch.stack([(labels == one).sum() for one in classes])
    return classes, means, (sizes[:, None] * means**2).sum(dim=0) / len(labels)
