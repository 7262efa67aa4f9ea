"""The figures of the report; each function returns a matplotlib ``Figure``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import Tensor
from torch.nn.functional import conv2d

from experiments.groups import Groups, Spread
from training.batches import normalize
from training.figures import FONT, look, new_figure, show_signed, style, tile
from utils import CURVES

LEGEND = 95  # characters per row of a legend


def draw_curves(
    groups: Groups, title: str, legend: str | None, curves: Sequence[tuple[str, str, str]] = CURVES
) -> Figure:
    """Draw means over the seeds and one standard deviation around them, a panel per quantity."""
    longest = max(len(group.label) for group in groups)
    columns = min(len(groups), max(1, LEGEND // (longest + 7)))
    legend_rows = -(-len(groups) // columns) + (legend is not None)
    rows = -(-len(curves) // 2)
    source = _with_spread(groups, "shaded")
    figure = new_figure(2.15 * rows + 0.5 + 0.18 * legend_rows, title, source)
    for ax, (key, name, label) in zip(figure.subplots(rows, 2, squeeze=False).flat, curves):
        scale = 100 if key.endswith("accs") else 1
        for index, group in enumerate(groups):
            values, shown = scale * group.curves(key), look(index)
            epochs, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
            ax.plot(epochs, mean, label=group.label, markersize=3, linewidth=1.2, **shown)
            if len(values) > 1:
                low, high = (mean + sign * values.std(axis=0, ddof=1) for sign in (-1, 1))
                ax.fill_between(epochs, low, high, alpha=0.2, color=shown["color"], lw=0)
        style(ax, name, "epoch", label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if not key.endswith("accs"):
            _cut_outliers(ax, [group.curves(key).mean(axis=0) for group in groups])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title=legend, loc="outside lower center", title_fontsize=FONT,
        fontsize=FONT, ncols=columns, frameon=False,
    )  # fmt: skip
    return figure


def _with_spread(groups: Groups, shown: str) -> str:
    """Return the source of a figure of all seeds, and how it shows the standard deviation."""
    several = len(groups.settings.seeds) > 1
    return groups.of_all + (f", {shown}: ± 1 standard deviation" if several else "")


def _cut_outliers(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    """End the axis at twice the median if a loss is far above it, and say so."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    if values.size and values.max() > 10 * np.median(values):
        ax.set_ylim(0, 2 * np.median(values))
        ax.text(
            0.5, 0.98, f"larger values, up to {values.max():,.3g}, are not shown",
            fontsize=FONT - 1, ha="center", va="top", transform=ax.transAxes,
        )  # fmt: skip


def draw_bars(groups: Groups, title: str, label: str) -> Figure:
    """Draw the best validation accuracy of each group as a point with its standard deviation."""
    figure = new_figure(0.9 + 0.19 * len(groups), title, _with_spread(groups, "bars"))
    ax = figure.subplots()
    models = list(dict.fromkeys(group.family for group in groups))
    for index, group in enumerate(groups):
        best = group.best("valid_accs")
        if best.values:
            shown = look(models.index(group.family)) | {"linestyle": "none"}
            error = 100 * best.standard_deviation
            ax.errorbar(100 * best.mean, index, xerr=error, capsize=2, **shown)
        else:
            ax.text(0.01, index, "diverged", fontsize=FONT - 1, va="center",
                    transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set_yticks(range(len(groups)), [group.label for group in groups])
    ax.invert_yaxis()
    style(ax, "", "best validation accuracy (%)", label)
    return figure


def draw_spreads(
    groups: Groups,
    title: str,
    panels: Sequence[tuple[str, Sequence[int], Mapping[str, Sequence[Spread]]]],
    y: str,
) -> Figure:
    """Draw means and standard deviations of fractions, in %, over a logarithmic axis.

    Args:
        groups: for the source.
        title: of the figure.
        panels: for each, the name of x, the values of x, and the fractions of each curve.
        y: name of the fractions.
    """
    figure = new_figure(2.8, title, _with_spread(groups, "bars"))
    for ax, (x, sizes, curves) in zip(figure.subplots(1, len(panels), sharey=True), panels):
        for index, (label, spreads) in enumerate(curves.items()):
            means = [100 * spread.mean for spread in spreads]
            errors = [100 * spread.standard_deviation for spread in spreads]
            shown = look(index) | {"markersize": 4, "linewidth": 1.2}
            ax.errorbar(sizes, means, errors, capsize=2, label=label, **shown)
        ax.set_xscale("log")
        style(ax, "", x, y if ax is figure.axes[0] else "")
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.xaxis.set_minor_locator(NullLocator())
    figure.axes[0].legend(fontsize=FONT)
    return figure


def draw_points(
    groups: Groups, title: str, panels: Sequence[tuple[str, Sequence[float]]], x: str
) -> Figure:
    """Draw one log-log panel per quantity over the labels, which are numbers."""
    figure = new_figure(4.6, title, groups.of_all)
    sizes = [float(group.label) for group in groups]
    axes = figure.subplots(-(-len(panels) // 2), 2).flat
    for index, (ax, (name, values)) in enumerate(zip(axes, panels)):
        ax.loglog(sizes, values, **look(index), markersize=4)
        style(ax, name, x)
        ax.set_xticks(sizes, [group.label for group in groups])
        ax.xaxis.set_minor_locator(NullLocator())
    return figure


def draw_norms(
    title: str, source: str, names: Sequence[str], steps: Sequence[int], norms: np.ndarray
) -> Figure:
    """Draw norms (layers, T) as a map: layer against step, colours on a logarithmic scale."""
    figure = new_figure(1.8 + 0.145 * len(names), title, source)
    ax = figure.subplots()
    edges = [*steps, steps[-1] + max(1, steps[-1] // max(1, len(steps) - 1))]
    values = np.ma.masked_less_equal(np.ma.masked_invalid(norms), 0)
    shown = ax.pcolormesh(
        edges, np.arange(len(names) + 1) - 0.5, values, norm=LogNorm(), cmap="viridis"
    )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    style(ax, "", "step of the optimizer", "layer")
    ax.grid(visible=False)
    bar = figure.colorbar(shown, ax=ax, pad=0.01)
    bar.set_label("norm of the gradient over that of the weights", fontsize=FONT)
    bar.ax.tick_params(which="both", labelsize=FONT - 1)
    return figure


def draw_ratios(
    groups: Groups, title: str, ratios: Mapping[str, tuple[Sequence[int], np.ndarray]]
) -> Figure:
    """Draw ratios (seeds, T) over the steps: geometric means and standard deviations."""
    figure = new_figure(2.8, title, _with_spread(groups, "shaded"))
    ax = figure.subplots()
    for index, (label, (steps, ratio)) in enumerate(ratios.items()):
        logs, shown = np.log(ratio), look(index)
        mean = logs.mean(axis=0)
        ax.semilogy(steps, np.exp(mean), label=label, markersize=3, linewidth=1.2, **shown)
        if len(logs) > 1:
            low, high = (np.exp(mean + sign * logs.std(axis=0, ddof=1)) for sign in (-1, 1))
            ax.fill_between(steps, low, high, alpha=0.2, color=shown["color"], lw=0)
    ax.axhline(1, color="0.5", linestyle="--", linewidth=1)
    style(ax, "", "step of the optimizer", "first over last layer")
    ax.legend(fontsize=FONT)
    return figure


def draw_kernels(weight: Tensor, title: str, source: str) -> Figure:
    """Draw kernels (N, 3, h, w) in four ways: in colour, and as three kinds of maps."""
    kernels = weight.detach().float().cpu().numpy()
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    coloured = ((kernels / np.maximum(largest, 1e-12) + 1) / 2).transpose(0, 2, 3, 1)
    centred = kernels - kernels.mean(axis=(1, 2, 3), keepdims=True)
    scale = np.maximum(kernels.std(axis=(1, 2, 3), keepdims=True), 1e-12)
    figure = new_figure(7.0, title, source)
    axes = figure.subplots(2, 2).flat
    axes[0].imshow(tile(coloured, 8, gap=0.85))
    axes[0].set_title("in colour", fontsize=FONT)
    axes[0].set_axis_off()
    show_signed(figure, axes[1], tile(kernels[:, 0], 8), "red channel")
    show_signed(figure, axes[2], tile(kernels.mean(axis=1), 8), "mean over the channels")
    standardised = (centred / scale).mean(axis=1)
    show_signed(figure, axes[3], tile(standardised, 8), "standardised mean over the channels")
    figure.axes[-1].set_xlabel("standardised weight", fontsize=FONT)
    return figure


def draw_kernels_and_units(kernels: Tensor, units: Tensor, title: str, source: str) -> Figure:
    """Draw 64 kernels (64, 3, h, w), averaged, next to 64 token-mixing units (U, N)."""
    maps, strongest = _maps_of(units, 64)
    figure = new_figure(3.8, title, source)
    axes = figure.subplots(1, 2)
    mean = kernels.detach().float().cpu().numpy().mean(axis=1)
    name = f"ResNet18: {len(mean)} kernels, {mean.shape[1]} x {mean.shape[2]} pixels"
    show_signed(figure, axes[0], tile(mean, 8), name)
    grid = maps.shape[1]
    name = f"MLP-Mixer: the {len(strongest)} strongest units, {grid} x {grid} patches"
    show_signed(figure, axes[1], tile(maps[strongest], 8), name)
    return figure


def draw_units_on_image(units: Tensor, image: Tensor, title: str, source: str) -> Figure:
    """Draw an image (3, S, S) in [0, 255], and its brightness times the weights of 15 units."""
    maps, strongest = _maps_of(units, 15)
    brightness = image.float().mean(dim=0).cpu().numpy() / 255
    patch = len(brightness) // maps.shape[1]
    seen = np.kron(maps[strongest], np.ones((1, patch, patch))) * (brightness - brightness.mean())
    return _image_and_maps(image, seen, [f"unit {n}" for n in strongest], title, source)


def _maps_of(units: Tensor, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return units (U, N) as maps (U, g, g), and the indices of those with the largest norm."""
    grid = round(units.shape[1] ** 0.5)
    maps = units.detach().float().cpu().numpy().reshape(-1, grid, grid)
    return maps, np.argsort(-np.linalg.norm(maps, axis=(1, 2)))[:number]


def draw_convolved(kernels: Tensor, image: Tensor, title: str, source: str) -> Figure:
    """Draw an image (3, S, S) in [0, 255], and what 15 kernels (N, 3 or 1, h, w) make of it.

    The 15 kernels are those with the largest norm. A kernel with one channel sees the brightness.
    """
    seen = normalize(image[None].float())
    if kernels.shape[1] == 1:
        seen = seen.mean(dim=1, keepdim=True)
    kernels = kernels.detach().float().cpu()
    strongest = kernels.flatten(1).norm(dim=1).argsort(descending=True)[:15]
    maps = conv2d(seen, kernels[strongest])[0].numpy()
    return _image_and_maps(image, maps, [f"{n}" for n in strongest.tolist()], title, source)


def draw_maps(image: Tensor, maps: np.ndarray, title: str, source: str) -> Figure:
    """Draw an image (3, S, S) in [0, 255] and the first 15 of its feature maps (C, H, W)."""
    return _image_and_maps(image, maps[:15], [f"filter {n}" for n in range(15)], title, source)


def _image_and_maps(
    image: Tensor, maps: np.ndarray, names: Sequence[str], title: str, source: str
) -> Figure:
    figure = new_figure(2.6, title, source)
    axes = figure.subplots(2, 8).flat
    axes[0].imshow(image.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    axes[0].set_title("image", fontsize=FONT)
    limit = max(float(np.quantile(np.abs(maps), 0.995)), 1e-12)
    for ax, values, name in zip(axes[1:], maps, names):
        shown = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_title(name, fontsize=FONT - 1)
    for ax in axes:
        ax.set_axis_off()
    bar = figure.colorbar(shown, ax=list(figure.axes), extend="both", pad=0.01, shrink=0.8)
    bar.ax.tick_params(which="both", labelsize=FONT - 1)
    return figure
