"""The figures of Questions 3.4 to 3.6: curves, filters and feature maps.

Shapes: H, W height and width.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

SHOWN = 32  # filters of a layer that are drawn, with their feature maps


def draw_curves(
    history: Mapping[str, Sequence[float]], path: str | PathLike[str], title: str
) -> None:
    """Draw loss and accuracy over the epochs (Question 3.4).

    Args:
        history: "train_losses", "valid_losses", "train_accs" and "valid_accs", one entry per epoch,
            as in ``results.json``.
        path: of the figure; its folder is created if needed.
        title: of the figure, such as "ResNet-18 on CIFAR-10".
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    for ax, kind, label, scale in zip(
        figure.subplots(1, 2),
        ("losses", "accs"),
        ("cross-entropy (nats)", "accuracy (%)"),
        (1, 100),
    ):
        for part, name, style in (("train", "training", "o--"), ("valid", "validation", "s-")):
            values = scale * np.asarray(history[f"{part}_{kind}"], dtype=float)
            ax.plot(range(1, len(values) + 1), values, style, markersize=4, label=name)
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    _save(figure, path)


def draw_filters(
    model: Any,
    first_path: str | PathLike[str],
    last_path: str | PathLike[str],
    trained_on: str,
) -> None:
    """Draw filters of the first and the last convolution (Question 3.5).

    Those of the first have three channels and are drawn in colour. Those of the last have 512
    channels; the one with the largest norm is drawn.

    Args:
        model: a ``ResNet18``.
        first_path, last_path: of the two figures; folders are created if needed.
        trained_on: name of the data, for the titles.
    """
    first = model.get_first_conv_layer_filters()[:SHOWN]  # (32, 3, 3, 3)
    largest = max(float(np.abs(first).max()), 1e-12)
    figure, axes = _grid(f"ResNet-18 on {trained_on}: {SHOWN} of the 64 filters of conv1")
    for ax, weight in zip(axes, first):
        ax.imshow((weight.transpose(1, 2, 0) / largest + 1) / 2)
    figure.supxlabel(
        f"3 x 3 weights of red, green and blue: {-largest:.2f} is black, 0 mid-grey, "
        f"{largest:.2f} full brightness"
    )
    _save(figure, first_path)

    last = model.get_last_conv_layer_filters()[:SHOWN]  # (32, 512, 3, 3)
    channels = (last**2).sum(axis=(2, 3)).argmax(axis=1)
    strongest = last[np.arange(len(last)), channels]  # (32, 3, 3)
    limit = max(float(np.abs(strongest).max()), 1e-12)
    figure, axes = _grid(
        f"ResNet-18 on {trained_on}: {SHOWN} of the 512 filters of layer4[1].conv2"
    )
    for ax, weight in zip(axes, strongest):
        shown = ax.imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    figure.supxlabel("3 x 3 weights of each filter for the strongest of its 512 input channels")
    _save(figure, last_path)


def draw_feature_maps(
    model: Any,
    vis_image: Tensor,
    first_path: str | PathLike[str],
    last_path: str | PathLike[str],
    trained_on: str,
) -> None:
    """Draw the feature maps of the same filters for one image (Question 3.6).

    Args:
        model: a ``ResNet18``; it is set to evaluation mode.
        vis_image: the image, (3, 32, 32) in [0, 1].
        first_path, last_path: of the two figures; folders are created if needed.
        trained_on: name of the data, for the titles.

    Raises:
        ValueError: the image has another shape.
    """
    first, last = feature_maps(model, vis_image)
    for maps, layer, path in (
        (first, "conv1", first_path),
        (last, "layer4[1].conv2", last_path),
    ):
        number, height, width = maps.shape
        title = f"ResNet-18 on {trained_on}: {SHOWN} of the {number} feature maps of {layer}"
        figure, axes = _grid(title, with_image=True)
        axes[0].imshow(vis_image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy())
        axes[0].set_title("image", fontsize=9)
        limit = max(float(np.abs(maps[:SHOWN]).max()), 1e-12)
        for ax, values in zip(axes[1:], maps):
            shown = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        figure.colorbar(shown, ax=axes, label="output of the convolution", shrink=0.8)
        figure.supxlabel(f"{height} x {width} outputs of each filter, before the batch norm")
        _save(figure, path)


@torch.no_grad()
def feature_maps(model: Any, vis_image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature maps of the first and the last convolution for one image.

    Args:
        model: a ``ResNet18``; it is set to evaluation mode.
        vis_image: (3, H, W) in [0, 1].

    Returns:
        (64, H, W) and (512, H / 8, W / 8), before the batch norms.

    Raises:
        ValueError: the image has another shape.
    """
    if vis_image.ndim != 3 or vis_image.shape[0] != 3:
        raise ValueError(f"vis_image has shape {tuple(vis_image.shape)}; it must be (3, H, W)")
    maps = []
    hooks = [
        convolution.register_forward_hook(lambda module, inputs, output: maps.append(output[0]))
        for convolution in (model.conv1, model.layer4[1].conv2)
    ]
    try:
        model.eval()(vis_image.unsqueeze(0).to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    first, last = (output.cpu().numpy() for output in maps)
    return first, last


def _grid(title: str, with_image: bool = False) -> tuple[Figure, list]:
    """Return a figure with numbered axes for the filters, and before them one for an image."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    figure.suptitle(title)
    columns = SHOWN // 4 + with_image
    axes = figure.subplots(4, columns)
    for ax in axes.flat:
        ax.set_axis_off()
    filters = axes[:, columns - SHOWN // 4 :].ravel()
    for number, ax in enumerate(filters):
        ax.set_title(number, fontsize=9, pad=3)
    return figure, [*axes[:1, 0], *filters] if with_image else list(filters)


def _save(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure; its folder is created if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
