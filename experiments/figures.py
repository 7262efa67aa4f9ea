"""The figures of the report, in one style: each returns a matplotlib ``Figure``.

They are ``WIDTH`` inches wide, the text width of the report, so that font sizes are those on paper.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from experiments.groups import Group, Groups

WIDTH = 6.7  # inches: A4 less the margins
FONT = 8  # points
LEGEND = 95  # characters of this font that fit beside each other
# Colours that people with any colour vision tell apart: M. Okabe and K. Ito, "Color universal
# design" (2008), without the yellow, which is too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*"
CURVES = (
    ("train_losses", "Training loss", "cross-entropy (nats)"),
    ("valid_losses", "Validation loss", "cross-entropy (nats)"),
    ("train_accs", "Training accuracy", "accuracy (%)"),
    ("valid_accs", "Validation accuracy", "accuracy (%)"),
)


def new_figure(height: float, title: str, groups: Groups | None = None) -> Figure:
    """Return an empty figure whose title says where the numbers come from."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    source = f"\n{describe_source(groups)}" if groups is not None else ""
    figure.suptitle(title + source, fontsize=FONT + 1)
    return figure


def describe_source(groups: Groups) -> str:
    """Return data, seeds and preset in words."""
    number = len(groups.settings.seeds)
    seeds = f"mean of {number} seeds, shaded ± 1 standard deviation" if number > 1 else "1 seed"
    preset = f", {groups.settings.preset} preset" if groups.settings.preset else ""
    return f"{groups.first['data']['name']}, {seeds}{preset}"


def style(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Give an axes its titles and a light grid."""
    ax.set_title(title, fontsize=FONT)
    ax.set_xlabel(x, fontsize=FONT)
    ax.set_ylabel(y, fontsize=FONT)
    ax.tick_params(labelsize=FONT - 1)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and line style of the curve of this number; the first 35 differ."""
    number = len(COLOURS)
    return {
        "color": COLOURS[index % number],
        "marker": MARKERS[index % number],
        "linestyle": ("-", "--", ":", "-.", (0, (5, 1)))[index // number % 5],
    }


def plot_spread(ax: Axes, values: np.ndarray, label: str, index: int) -> None:
    """Draw the mean of curves (seeds, epochs) and shade one standard deviation around it."""
    epochs = np.arange(1, values.shape[1] + 1)
    mean = values.mean(axis=0)
    shown = look(index)
    ax.plot(epochs, mean, label=label, markersize=3, linewidth=1.2, **shown)
    if len(values) > 1:
        deviation = values.std(axis=0, ddof=1)
        ax.fill_between(
            epochs, mean - deviation, mean + deviation, alpha=0.2, color=shown["color"], lw=0
        )


def draw_curves(
    groups: Groups, title: str, legend: str | None, curves: Sequence[tuple[str, str, str]] = CURVES
) -> Figure:
    """Draw loss and accuracy over the epochs, one panel a quantity."""
    longest = max(len(group.label) for group in groups)
    columns = min(len(groups), max(1, LEGEND // (longest + 7)))
    legend_rows = -(-len(groups) // columns)
    figure = new_figure(2.15 * ((len(curves) + 1) // 2) + 0.6 + 0.18 * legend_rows, title, groups)
    axes = figure.subplots(-(-len(curves) // 2), 2, squeeze=False).flat
    for ax, (key, name, label) in zip(axes, curves):
        scale = 100 if key.endswith("accs") else 1
        for index, group in enumerate(groups):
            plot_spread(ax, scale * group.curves(key), group.label, index)
        style(ax, name, "epoch", label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not key.endswith("accs"):
            _cut_outliers(ax, [group.curves(key).mean(axis=0) for group in groups])
    for ax in list(axes):
        ax.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title=legend, loc="outside lower center", title_fontsize=FONT,
        fontsize=FONT, ncols=columns, frameon=False,
    )  # fmt: skip
    return figure


def _cut_outliers(ax: Axes, curves: Sequence[np.ndarray]) -> None:
    """End the axis at ten times the median if a loss goes far beyond it, and say so."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    limit = 10 * np.median(values)
    if values.size and values.max() > limit:
        ax.set_ylim(0, 2 * np.median(values))
        ax.text(
            0.5, 0.98, f"losses up to {values.max():,.3g} are beyond", fontsize=FONT - 1,
            ha="center", va="top", transform=ax.transAxes,
        )  # fmt: skip


def draw_bars(groups: Groups, title: str, label: str) -> Figure:
    """Draw the best validation accuracy of each group as a point with its standard deviation."""
    figure = new_figure(0.9 + 0.19 * len(groups), title, groups)
    ax = figure.subplots()
    models = list(dict.fromkeys(group.results[0]["model"] for group in groups))
    for index, group in enumerate(groups):
        best = group.best("valid_accs")
        if best.values:
            shown = look(models.index(group.results[0]["model"])) | {"linestyle": "none"}
            ax.errorbar(100 * best.mean, index, xerr=100 * best.deviation, capsize=2, **shown)
        else:
            ax.text(0.01, index, "diverged", fontsize=FONT - 1, va="center",
                    transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set_yticks(range(len(groups)), [group.label for group in groups])
    ax.invert_yaxis()
    style(ax, "", "best validation accuracy (%)", label)
    return figure


def draw_heat_maps(
    groups: Groups, names: Sequence[Sequence[str]], ticks: Sequence[str], title: str, x: str, y: str
) -> Figure:
    """Draw training and validation accuracy and their difference, in the best epoch."""
    train = np.array([[100 * groups[n].best("train_accs").mean for n in row] for row in names])
    valid = np.array([[100 * groups[n].best("valid_accs").mean for n in row] for row in names])
    panels = (
        ("training accuracy (%)", train, "viridis"),
        ("validation accuracy (%)", valid, "viridis"),
        ("gap between them (points)", train - valid, "cividis"),
    )
    figure = new_figure(2.7, title, groups)
    for ax, (name, values, colours) in zip(figure.subplots(1, 3), panels):
        image = ax.imshow(values, cmap=colours, origin="lower")
        for (row, column), value in np.ndenumerate(values):
            dark = image.norm(value) < 0.5
            ax.text(
                column, row, f"{value:.1f}", fontsize=FONT, ha="center", va="center",
                color="white" if dark else "black",
            )  # fmt: skip
        style(ax, name, x, y if ax is figure.axes[0] else "")
        ax.grid(visible=False)
        ax.set_xticks(range(len(ticks)), ticks)
        ax.set_yticks(range(len(ticks)), ticks)
    return figure


def draw_train_against_valid(groups: Groups, title: str) -> Figure:
    """Draw validation over training accuracy in the best epoch; on the dashed line they agree."""
    figure = new_figure(3.3, title, groups)
    ax = figure.subplots()
    points = [(100 * g.best("train_accs").mean, 100 * g.best("valid_accs").mean) for g in groups]
    for index, (group, (train, valid)) in enumerate(zip(groups, points)):
        shown = look(index) | {"linestyle": "none"}
        face = shown["color"] if index < len(COLOURS) else "none"  # the second round is hollow
        ax.plot(train, valid, label=group.label, markerfacecolor=face, **shown)
    low, high = np.nanmin(points), np.nanmax(points)
    ax.plot([low, high], [low, high], color="0.5", linestyle="--", linewidth=1)
    style(ax, "", "training accuracy in the best epoch (%)", "validation accuracy (%)")
    figure.legend(loc="outside right center", fontsize=FONT, frameon=False)
    return figure


def draw_points(
    figure: Figure, groups: Sequence[Group], panels: Sequence[tuple[str, Sequence[float]]], x: str
) -> None:
    """Draw one log-log panel a quantity over the labels, which are numbers."""
    sizes = [float(group.label) for group in groups]
    for index, (ax, (name, values)) in enumerate(
        zip(figure.subplots(-(-len(panels) // 2), 2).flat, panels)
    ):
        ax.loglog(sizes, values, **look(index), markersize=4)
        style(ax, name, x)
        ax.set_xticks(sizes, [group.label for group in groups])
        ax.tick_params(axis="x", which="minor", bottom=False)
        ax.tick_params(axis="y", which="both", labelsize=FONT - 1)


def draw_norms(
    title: str, groups: Groups, names: Sequence[str], steps: Sequence[int], norms: Sequence
) -> Figure:
    """Draw norms (layers, T) as a map: layer against step, colours on a logarithmic scale."""
    values = np.ma.masked_less_equal(np.array(norms, dtype=float), 0)
    figure = new_figure(1.3 + 0.145 * len(names), title, groups)
    ax = figure.subplots()
    edges = [*steps, steps[-1] + max(1, steps[-1] // max(1, len(steps) - 1))]
    shown = ax.pcolormesh(
        edges, np.arange(len(names) + 1) - 0.5, values, norm=LogNorm(), cmap="viridis"
    )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    style(ax, "", "step of the optimizer", "layer, from input to output")
    ax.grid(visible=False)
    bar = figure.colorbar(shown, ax=ax, pad=0.01)
    bar.set_label("norm of the gradient", fontsize=FONT)
    bar.ax.tick_params(which="both", labelsize=FONT - 1)
    return figure


def draw_ends(title: str, groups: Groups, ends: dict[str, tuple]) -> Figure:
    """Draw the gradient norm of the first layer over that of the last one, step by step."""
    figure = new_figure(2.8, title, groups)
    ax = figure.subplots()
    for index, (label, (steps, first, last)) in enumerate(ends.items()):
        ratio = np.array(first) / np.maximum(np.array(last), 1e-30)
        ax.semilogy(steps, ratio, label=label, markersize=3, linewidth=1.2, **look(index))
    ax.axhline(1, color="0.5", linestyle="--", linewidth=1)
    style(ax, "", "step of the optimizer", "first over last layer")
    ax.legend(fontsize=FONT)
    return figure


def draw_kernels(weight: Tensor, title: str, groups: Groups) -> Figure:
    """Draw kernels (64, 3, 3, 3) as colours, one channel, and the mean over the channels."""
    kernels = weight.detach().float().cpu().numpy()
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    coloured = ((kernels / np.maximum(largest, 1e-12) + 1) / 2).transpose(0, 2, 3, 1)
    figure = new_figure(2.9, title, groups)
    axes = figure.subplots(1, 3)
    axes[0].imshow(tile(coloured, 8, gap=1.0))
    axes[0].set_title("colours, each kernel scaled", fontsize=FONT)
    for ax, maps, name in (
        (axes[1], kernels[:, 0], "red channel"),
        (axes[2], kernels.mean(axis=1), "mean over the channels"),
    ):
        _show_signed(figure, ax, tile(maps, 8), name)
    for ax in axes:
        ax.set_axis_off()
    return figure


def draw_kernels_and_units(kernels: Tensor, units: Tensor, title: str, groups: Groups) -> Figure:
    """Draw 64 kernels (64, 3, 3, 3), averaged, beside 64 token-mixing units (U, N)."""
    grid = round(units.shape[1] ** 0.5)
    maps = units.detach().float().cpu().numpy().reshape(-1, grid, grid)
    strongest = np.argsort(-np.linalg.norm(maps, axis=(1, 2)))[:64]
    figure = new_figure(3.8, title, groups)
    axes = figure.subplots(1, 2)
    mean = kernels.detach().float().cpu().numpy().mean(axis=1)
    _show_signed(figure, axes[0], tile(mean, 8), "ResNet18: 64 kernels, 3 x 3 pixels")
    name = f"MLP-Mixer: the 64 strongest units, {grid} x {grid} patches"
    _show_signed(figure, axes[1], tile(maps[strongest], 8), name)
    for ax in axes:
        ax.set_axis_off()
    return figure


def draw_units_on_image(units: Tensor, image: Tensor, title: str, groups: Groups) -> Figure:
    """Draw an image (3, S, S) in [0, 255], and its brightness times the weights of 15 units."""
    grid = round(units.shape[1] ** 0.5)
    maps = units.detach().float().cpu().numpy().reshape(-1, grid, grid)
    strongest = np.argsort(-np.linalg.norm(maps, axis=(1, 2)))[:15]
    brightness = image.float().mean(dim=0).cpu().numpy() / 255
    patch = len(brightness) // grid
    seen = np.kron(maps[strongest], np.ones((1, patch, patch))) * (brightness - brightness.mean())
    return _image_and_maps(image, seen, [f"unit {n}" for n in strongest], title, groups)


def draw_maps(image: Tensor, maps: np.ndarray, title: str) -> Figure:
    """Draw an image (3, S, S) in [0, 255] and the first 15 of its feature maps (C, H, W)."""
    return _image_and_maps(image, maps[:15], [f"filter {n}" for n in range(15)], title, None)


def _image_and_maps(
    image: Tensor, maps: np.ndarray, names: Sequence[str], title: str, groups: Groups | None
) -> Figure:
    figure = new_figure(2.6, title, groups)
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


def tile(maps: np.ndarray, columns: int, gap: float = np.nan) -> np.ndarray:
    """Lay maps (N, h, w) or pictures (N, h, w, 3) out in rows, one entry apart."""
    number, height, width = maps.shape[:3]
    rows = -(-number // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *maps.shape[3:]), gap)
    for index, values in enumerate(maps):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = values
    return sheet


def _show_signed(figure: Figure, ax: Axes, sheet: np.ndarray, name: str) -> None:
    """Show numbers on a scale that is white at 0; its ends are the 99.5 % quantile."""
    limit = max(float(np.nanquantile(np.abs(sheet), 0.995)), 1e-12)
    shown = ax.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_title(name, fontsize=FONT)
    bar = figure.colorbar(shown, ax=ax, location="bottom", shrink=0.8, pad=0.02, extend="both")
    bar.set_label("weight", fontsize=FONT)
    bar.ax.tick_params(which="both", labelsize=FONT - 1)
