"""What have the first and the last convolution of ResNet-18 learned?

2022, Questions 3.5 and 3.6. Filters of both layers after training, and their feature maps for one
validation image.
"""

from experiments.classify import load_model
from experiments.figures import draw_maps
from experiments.questions import resnet_grid
from numpy_networks import figures
from training.batches import normalize
from training.data import load_data

EPOCHS = resnet_grid.EPOCHS
NETWORKS = resnet_grid.NETWORKS
RUNS = {"ResNet-18": resnet_grid.RUNS["relu, xavier_normal"]}


def report(page, groups):
    page.table(groups, "network")
    page.say_diverged(groups, "the {}")
    if groups["ResNet-18"].diverged:
        return
    model = load_model(groups["ResNet-18"].runs[0])
    folder = page.folder / "figures"
    paths = {layer: folder / f"{page.name}-filters-{layer}.png" for layer in ("first", "last")}
    figures.draw_filters(model, *paths.values(), groups.of_one)
    image = load_data(groups.settings.data, groups.settings.data_dir).val.images[0]
    maps = figures.feature_maps(model, normalize(image[None].float())[0])
    for (layer, path), values in zip(paths.items(), maps):
        page.add_picture(path.relative_to(page.folder), f"Filters of the {layer} convolution.")
        title = f"Feature maps of the {layer} convolution for one validation image"
        page.add_figure(
            draw_maps(image, values, title, groups.of_one),
            f"maps-{layer}",
            f"Outputs of 15 filters of the {layer} convolution for a validation image, before the "
            f"batch norm: {values.shape[1]} x {values.shape[2]} each.",
        )
