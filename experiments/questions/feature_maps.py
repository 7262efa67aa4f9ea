"""What have the first and the last convolution of ResNet-18 learnt?

2022, Questions 3.5 and 3.6. Filters of both layers after training, and what they make of one
validation image.
"""

from experiments.classify import load_model
from experiments.figures import draw_maps
from experiments.questions import resnet_grid
from numpy_networks import solution
from training.batches import normalize
from training.data import load_data

EPOCHS = resnet_grid.EPOCHS
RUNS = {"ResNet-18": resnet_grid.RUNS["relu, xavier_normal"]}


def report(page, groups):
    model = load_model(groups["ResNet-18"].runs[0])
    name = groups.first["data"]["name"]
    folder = page.folder / "figures"
    paths = [folder / f"{page.name}-filters-{layer}.png" for layer in ("first", "last")]
    solution.draw_filters(model, *paths, name)
    page.add_picture(paths[0].relative_to(page.folder), "Filters of the first convolution.")
    page.add_picture(paths[1].relative_to(page.folder), "Filters of the last convolution.")
    image = load_data(groups.settings.data, groups.settings.data_dir).val.images[0]
    first, last = solution.feature_maps(model, normalize(image[None].float())[0])
    for layer, maps in (("first", first), ("last", last)):
        page.add_figure(
            draw_maps(image, maps, f"The {layer} convolution, on one image of {name}"),
            f"maps-{layer}",
            f"What the same filters of the {layer} convolution make of a validation image: "
            f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]} in all, before batch norm.",
        )
    page.table(groups, "network")
