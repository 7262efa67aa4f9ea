"""The drawings of first layers: what is drawn, in which order, and that nothing is changed."""

import copy
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mlpmixer
import resnet18
from resnet18 import ResNet18

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


@pytest.mark.parametrize("name", ["resnet18", "mixer-5-units"])
def test_the_title_says_which_data_the_model_was_trained_on(name, tmp_path):
    """The picture changes in its upper part, where the title is, and nowhere else."""
    model = DRAWN[name]()
    without = plt.imread(model.visualize(tmp_path))
    changed = (without != plt.imread(model.visualize(tmp_path, trained_on="shapes"))).any(axis=2)
    rows = np.flatnonzero(changed.any(axis=1))
    assert len(rows) > 0 and rows.max() < 0.3 * len(changed)


@pytest.mark.parametrize("name", DRAWN)
def test_visualize_works_for_weights_that_are_all_zero(name, tmp_path):
    model = DRAWN[name]()
    first_weight(name, model).zero_()
    assert plt.imread(model.visualize(tmp_path)).size > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet18", "mixer-5-units"])
def test_visualize_works_in_any_precision(name, dtype, tmp_path):
    assert DRAWN[name]().to(dtype).visualize(tmp_path).exists()


def test_kernels_that_are_zero_are_drawn_mid_grey_in_all_three_panels(tmp_path):
    """As the caption says. The 64 squares fill about half of a panel, a third of the picture."""
    model = ResNet18()
    nn.init.zeros_(model.conv1.weight)
    picture = plt.imread(model.visualize(tmp_path))[:, :, :3]
    grey = (np.abs(picture - 0.5) < 0.01).all(axis=2)
    shares = [panel.mean() for panel in np.array_split(grey, 3, axis=1)]
    assert min(shares) > 0.2, shares


def test_kernels_are_laid_out_from_left_to_right_and_top_to_bottom():
    kernels = draw(64, 3, 3, 3)
    picture = torch.as_tensor(resnet18._tile(kernels, gap=9.0))
    assert picture.shape == (31, 31, 3)
    for index, kernel in enumerate(kernels):
        top, left = 4 * (index // 8), 4 * (index % 8)
        square = picture[top : top + 3, left : left + 3]
        assert torch.equal(square, kernel.permute(1, 2, 0))
        square.fill_(9.0)
    assert (picture == 9.0).all()


@pytest.mark.parametrize("grid", [1, 2, 8, 16])
@pytest.mark.parametrize("number", [1, 5, 16, 17, 40])
def test_units_are_laid_out_in_pairs_from_left_to_right_and_top_to_bottom(number, grid):
    """Each unit has a value of its own, found again as one square in the picture."""
    units = np.broadcast_to(np.arange(1.0, number + 1)[:, None, None], (number, grid, grid))
    picture = mlpmixer._tile_pairs(units)
    corners = []
    for value in range(1, number + 1):
        down, across = np.nonzero(picture == value)
        assert len(down) == grid**2 and np.ptp(down) == np.ptp(across) == grid - 1
        corners.append((down.min(), across.min()))
    assert np.isnan(picture).sum() == picture.size - number * grid**2
    assert corners == sorted(corners)
    steps = [b[1] - a[1] if a[0] == b[0] else None for a, b in pairwise(corners)]
    in_a_pair, between = set(steps[::2]), set(steps[1::2]) - {None}
    assert len(in_a_pair) <= 1 and len(between) <= 1
    if between:
        assert grid < min(in_a_pair) < min(between)


def waves(grid: int, *frequencies: tuple[int, int]) -> Tensor:
    """Return one plane wave a frequency (cycles over the grid, down and across): (U, N)."""
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
    order = mlpmixer._order_of_units(units[shuffled], 8)
    drawn = shuffled[order].reshape(6, 2) % 6
    assert drawn.tolist() == [[pair, pair] for pair in range(6)]


def test_the_most_opposite_pair_is_matched_first():
    """Unit 0 is opposite to 1, but 1 is more so to 2; 3 is left for 0."""
    a, b = waves(8, (0, 1), (0, 3))
    units = torch.stack((-a - b, a + 0.2 * b, -a - 0.2 * b, b))
    pairs = torch.tensor(mlpmixer._order_of_units(units, 8)).reshape(2, 2).sort(dim=1).values
    assert sorted(pairs.tolist()) == [[0, 3], [1, 2]]


def test_the_frequency_is_the_distance_from_zero_in_two_dimensions():
    """A wave across, a wave down and a wave along the diagonal, at 2, 1 and sqrt(2) cycles."""
    wave = waves(8, (0, 2), (1, 0), (1, -1))
    order = mlpmixer._order_of_units(torch.cat((wave, -wave)), 8)
    assert (torch.tensor(order).reshape(3, 2) % 3).tolist() == [[1, 1], [2, 2], [0, 0]]


def test_the_odd_unit_without_a_partner_comes_last():
    wave = waves(8, (0, 1), (2, 0), (3, 3))
    units = torch.stack((wave[0], wave[2], wave[1], -wave[2], -wave[1]))
    order = mlpmixer._order_of_units(units, 8)
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
    assert sorted(mlpmixer._order_of_units(weight, grid)) == list(range(units))
