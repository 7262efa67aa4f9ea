"""The drawings of first layers: what is drawn, in which order, and that nothing is changed."""

import copy
import math
from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.figures import draw_convolved, draw_kernels, draw_points
from experiments.report import read_image
from resnet18 import ResNet18
from training.batches import normalize
from training.figures import look, tile
from training.units import draw_pairs, order_units

from oracles import (
    draw,
    few_examples,
    mixer,
)

# Units of the mixers: one, five (odd), 17 (a second row with 15 empty places), and one weight each.
DRAWN = {
    "resnet18": lambda: ResNet18(),
    "mixer-1-unit": lambda: mixer(tokens_mlp_dim=1),
    "mixer-5-units": lambda: mixer(tokens_mlp_dim=5),
    "mixer-17-units": lambda: mixer(tokens_mlp_dim=17),
    "mixer-patch-32": lambda: mixer(patch_size=32, tokens_mlp_dim=4),
}
FIRST_WEIGHT = {"resnet18": "conv1.weight"}


def first_weight(name: str, model: nn.Module) -> Tensor:
    return model.state_dict()[FIRST_WEIGHT.get(name, "blocks.0.mlp_tokens.fc1.weight")]


@pytest.mark.parametrize("name", DRAWN)
def test_visualize_writes_a_picture_and_changes_nothing(name, tmp_path):
    """Into folders that are missing, with spaces and accents in their names."""
    torch.manual_seed(0)
    model = DRAWN[name]()
    before = copy.deepcopy(model.state_dict())
    figures = plt.get_fignums()
    logdir = tmp_path / "expérience no 1" / "réseau à convolutions"
    path = model.visualize(logdir)

    assert path.parent == logdir and path.suffix == ".png"
    assert list(logdir.iterdir()) == [path]
    picture = plt.imread(path)
    assert picture.ndim == 3 and min(picture.shape[:2]) > 100
    assert len(np.unique(picture[:, :, 0])) > 10
    assert plt.get_fignums() == figures
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mixer-5-units", "mixer-patch-32"])
def test_visualize_takes_a_string_and_shows_the_weights(name, tmp_path):
    """A second picture replaces the first; other weights give another picture."""
    torch.manual_seed(0)
    model = DRAWN[name]()
    first = plt.imread(model.visualize(str(tmp_path)))
    weight = first_weight(name, model)
    weight.copy_(torch.linspace(-1, 2, weight.numel()).reshape(weight.shape))
    second = plt.imread(model.visualize(str(tmp_path)))
    assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.parametrize("name", DRAWN)
def test_visualize_works_for_weights_that_are_all_zero(name, tmp_path):
    model = DRAWN[name]()
    first_weight(name, model).zero_()
    assert plt.imread(model.visualize(tmp_path)).size > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet18", "mixer-5-units"])
def test_visualize_works_in_any_precision(name, dtype, tmp_path):
    assert DRAWN[name]().to(dtype).visualize(tmp_path).exists()


@pytest.fixture
def images(monkeypatch):
    """The arrays of the images in each figure that is saved, as the axes have them."""
    saved = []
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *_, **__: saved.extend(
            np.ma.filled(image.get_array(), np.nan) for ax in figure.axes for image in ax.images
        ),
    )
    return saved


def test_kernels_are_drawn_in_order_with_zero_as_mid_grey(images, tmp_path):
    model = ResNet18()
    weight = first_weight("resnet18", model)
    weight.copy_(draw(64, 3, 3, 3))
    weight[5] = 0
    model.visualize(tmp_path)
    largest = weight.abs().max()
    assert len(images) == 64
    for kernel, image in zip(weight, images):
        expected = (kernel / largest + 1) / 2
        np.testing.assert_allclose(image, expected.permute(1, 2, 0).numpy(), atol=1e-6)
    assert (images[5] == 0.5).all()


@pytest.mark.parametrize("units", [1, 5, 16, 17, 40])
def test_units_are_drawn_in_the_order_of_the_rows(units, images, tmp_path):
    """Sixteen per row, with a line of NaN, which is grey, between them."""
    model = mixer(tokens_mlp_dim=units)
    weight = first_weight("mixer", model)
    weight.copy_(draw(*weight.shape))
    model.visualize(tmp_path)
    sheet, grid = images[0], model.patchemb.grid_size
    for index, unit in enumerate(weight):
        top, left = (grid + 1) * (index // 16), (grid + 1) * (index % 16)
        square = sheet[top : top + grid, left : left + grid]
        np.testing.assert_array_equal(square, unit.reshape(grid, grid).numpy())
    assert np.isfinite(sheet).sum() == weight.numel()


@pytest.mark.parametrize("units", [1, 2, 17, 40])
def test_pairs_are_drawn_side_by_side_eight_to_a_row(units, images, tmp_path):
    """Each unit has its own value, found again as one square; the gap in a pair is narrower."""
    model = mixer(tokens_mlp_dim=units)
    weight = first_weight("mixer", model)
    grid = model.patchemb.grid_size
    weight.copy_(draw(*weight.shape))
    draw_pairs(model, tmp_path, "shapes")
    corners = []
    for unit in order_units(weight):
        place = np.isclose(images[0], weight[unit, 0].item(), rtol=1e-6)
        down, across = np.argwhere(place)[0]
        square = images[0][down : down + grid, across : across + grid]
        np.testing.assert_array_equal(square, weight[unit].reshape(grid, grid).numpy())
        corners.append((down, across))
    assert np.isfinite(images[0]).sum() == weight.numel()
    assert corners == sorted(corners)
    steps = [b[1] - a[1] if a[0] == b[0] else None for a, b in pairwise(corners)]
    in_a_pair, between = set(steps[::2]), set(steps[1::2]) - {None}
    assert len(in_a_pair) <= 1 and len(between) <= 1
    if between:
        assert grid < min(in_a_pair) < min(between)


@pytest.mark.parametrize("maps", [(1, 2, 3), (7, 1, 1), (8, 4, 2, 3)])
def test_tiles_are_the_maps_in_reading_order(maps):
    values = np.arange(1.0, 1 + math.prod(maps)).reshape(maps)
    sheet = tile(values, columns=3, gap=0.0, width=2)
    rows = [values[start : start + 3] for start in range(0, len(values), 3)]
    padding = [(0, 2), (0, 2)] + [(0, 0)] * (len(maps) - 3)
    lines = [np.concatenate([np.pad(m, padding) for m in row], axis=1) for row in rows]
    width = max(line.shape[1] for line in lines)
    whole = [(0, 0), (0, 0)] + [(0, 0)] * (len(maps) - 3)
    padded = []
    for line in lines:
        whole[1] = (0, width - line.shape[1])
        padded.append(np.pad(line, whole))
    np.testing.assert_array_equal(sheet, np.concatenate(padded)[:-2, :-2])


def waves(grid: int, *frequencies: tuple[int, int]) -> Tensor:
    """Return one plane wave per frequency (cycles over the grid, down and across): (U, N)."""
    position = torch.arange(grid, dtype=torch.float32) * 2 * math.pi / grid
    return torch.stack(
        [
            torch.cos(down * position[:, None] + across * position[None, :] + 0.4).flatten()
            for down, across in frequencies
        ]
    )


# Plane waves of different frequencies are orthogonal, so that only opposite ones correlate.
FREQUENCIES = [(0, 1), (1, 1), (2, 0), (2, 2), (3, 1), (3, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_units_are_paired_by_opposite_phase_and_sorted_by_frequency(seed):
    """Opposite units belong together, also if they differ in size and share a mean."""
    wave = waves(8, *FREQUENCIES)
    means = torch.linspace(-2, 2, 6)[:, None]
    units = torch.cat((wave + means, -3 * wave + means))
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    order = order_units(units[shuffled])
    drawn = shuffled[order].reshape(6, 2) % 6
    assert drawn.tolist() == [[pair, pair] for pair in range(6)]


def test_the_most_opposite_pair_is_matched_first():
    """Unit 0 is opposite to 1, but 1 is more so to 2; 3 is left for 0."""
    a, b = waves(8, (0, 1), (0, 3))
    units = torch.stack((-a - b, a + 0.2 * b, -a - 0.2 * b, b))
    pairs = torch.tensor(order_units(units)).reshape(2, 2).sort(dim=1).values
    assert sorted(pairs.tolist()) == [[0, 3], [1, 2]]


def test_the_frequency_is_the_distance_from_zero_in_two_dimensions():
    """A wave across, a wave down and a wave along the diagonal, at 2, 1 and sqrt(2) cycles."""
    wave = waves(8, (0, 2), (1, 0), (1, -1))
    order = order_units(torch.cat((wave, -wave)))
    assert (torch.tensor(order).reshape(3, 2) % 3).tolist() == [[1, 1], [2, 2], [0, 0]]


def test_the_odd_unit_without_a_partner_comes_last():
    wave = waves(8, (0, 1), (2, 0), (3, 3))
    units = torch.stack((wave[0], wave[2], wave[1], -wave[2], -wave[1]))
    order = order_units(units)
    assert [sorted(order[:2]), sorted(order[2:4]), order[4:]] == [[2, 4], [1, 3], [0]]


@few_examples
@given(
    units=st.integers(1, 9),
    grid=st.integers(1, 4),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0, 1e-3, 1]),
)
def test_every_unit_is_drawn_once(units, grid, seed, scale):
    weight = scale * draw(units, grid**2, seed=seed, dtype=torch.float32)
    assert sorted(order_units(weight)) == list(range(units))


def test_35_curves_look_different():
    looks = {tuple(look(index).values()) for index in range(35)}
    assert len(looks) == 35


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8, 16, 32), (2, 4, 8), (4, 8), (16,)])
def test_the_ticks_of_a_logarithmic_axis_are_the_values_that_were_run(sizes):
    """Within a power of ten, matplotlib would add 3 x 10^0 and others between them."""

    class Labels(list):
        of_all = "source"

    labels = Labels(SimpleNamespace(label=str(size)) for size in sizes)
    figure = draw_points(labels, "title", [("cost", sizes), ("time", sizes)], "size")
    figure.draw_without_rendering()
    for ax in figure.axes:
        texts = [tick.get_text() for tick in ax.get_xticklabels(which="both")]
        assert texts == [str(size) for size in sizes]


def test_an_image_is_convolved_as_it_is(tmp_path):
    """A kernel that is 1 in its middle and 0 elsewhere leaves the normalised image as it is."""
    path = tmp_path / "own.png"
    plt.imsave(path, np.random.default_rng(0).random((40, 60, 3)))
    image = read_image(path)
    assert image.shape == (3, 128, 128) and image.dtype == torch.uint8
    kernels = torch.zeros(2, 3, 3, 3)
    kernels[0, 1, 1, 1] = 1
    shown = draw_convolved(kernels, image, "title", "source").axes[1].images[0].get_array()
    np.testing.assert_allclose(shown, normalize(image[None].float())[0, 1, 1:-1, 1:-1], atol=1e-6)


def test_the_report_shows_kernels_in_four_ways():
    """In colour, the first channel, the mean, and the mean of kernels that are standardised."""
    kernels = draw(64, 3, 3, 3)
    figure = draw_kernels(kernels, "title", "source")
    coloured, red, mean, standardised = (
        np.ma.filled(ax.images[0].get_array(), np.nan) for ax in figure.axes[:4]
    )
    flat = kernels.flatten(1)
    z = (flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)
    for sheet, maps in (
        (coloured, (kernels / flat.abs().amax(1)[:, None, None, None] + 1).movedim(1, -1) / 2),
        (red, kernels[:, 0]),
        (mean, kernels.mean(1)),
        (standardised, z.reshape(64, 3, 3, 3).mean(1)),
    ):
        assert sheet.shape[:2] == (31, 31)
        assert np.allclose(sheet[4:7, 8:11], maps[8 + 2], atol=1e-6)
