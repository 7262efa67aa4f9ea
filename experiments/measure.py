"""What a trained network does, measured on images: the evidence for the report's explanations.

Shapes: N images, S = 32 pixels, K classes.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from experiments.classify import load_model, multiply_adds
from experiments.groups import Group, Spread
from experiments.page import Page
from experiments.plan import Settings
from training.batches import normalize
from training.data import Split, load_data

IMAGES = 1000  # of the validation split; the standard error of an accuracy is 1.6 points at most
SHIFTS = (0, 2, 4, 8)  # pixels


def images_for(settings: Settings) -> Split:
    """Return the first validation images."""
    return load_data(settings.data, settings.data_dir).val.first(IMAGES)


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Return the accuracy of a model in evaluation mode, on the CPU in float32."""
    parts = [model(normalize(images.float())).argmax(dim=1) for images in split.images.split(250)]
    return (torch.cat(parts) == split.labels).float().mean().item()


def shift(images: Tensor, pixels: int) -> Tensor:
    """Move images (N, 3, S, S) to the right; the left column fills the gap."""
    columns = torch.arange(images.shape[-1]) - pixels
    return images[..., columns.clamp(min=0)]


def show_shifts(page: Page, groups: Mapping[str, Group], settings: Settings) -> None:
    """Add a table of the validation accuracy on shifted images, and state the largest loss."""
    split = images_for(settings)
    shifted = [Split(shift(split.images, pixels), split.labels) for pixels in SHIFTS]
    found: dict[str, list[Spread]] = {}
    for label, group in groups.items():
        models = [load_model(run) for run in group.runs]
        found[label] = [Spread(tuple(accuracy(m, part) for m in models)) for part in shifted]
    page.add_table(
        ("shift in pixels", *map(str, SHIFTS)),
        [(label, *(f"{value:.1%}" for value in values)) for label, values in found.items()],
        f"Accuracy on {len(split):,} validation images that are moved to the right; the column on "
        "the left fills the gap.",
    )
    lost = "; ".join(
        f"{100 * (values[0].mean - values[-1].mean):.1f} points with the {label}"
        for label, values in found.items()
    )
    page.say(
        f"A shift by {SHIFTS[-1]} pixels does not change what an image shows, but it costs {lost}. "
        "The less is lost, the more of what a network has learned holds for every position."
    )


def say_uses(page: Page, groups: Mapping[str, Group]) -> None:
    """State how often a weight of each network is used for one image."""
    uses = "; ".join(
        f"{multiply_adds(group.runs[0]) / group.results[0]['parameters']:.1f} times in the {label}"
        for label, group in groups.items()
    )
    page.say(f"For one image, a parameter is used on average {uses} (multiply-adds per parameter).")


def moved(before: nn.Module, after: nn.Module) -> float:
    """Return the norm of the change of all weights over their norm before; biases do not count."""
    pairs = [
        (old.detach().cpu().double(), new.detach().cpu().double())
        for old, new in zip(before.parameters(), after.parameters())
        if old.ndim > 1
    ]
    change = sum((new - old).square().sum() for old, new in pairs)
    start = sum(old.square().sum() for old, _ in pairs)
    return float((change / start) ** 0.5)


@torch.no_grad()
def outputs_of(
    model: nn.Module, layer: nn.Module, images: Tensor, reduce: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return what ``reduce`` makes of a layer's outputs for images (N, 3, S, S) in [0, 255]."""
    found: list[Tensor] = []
    with layer.register_forward_hook(lambda module, inputs, output: found.append(reduce(output))):
        for part in images.split(250):
            model(normalize(part.float()))
    return torch.cat(found)
