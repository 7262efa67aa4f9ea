"""The token-mixing units of the MLP-Mixer, paired and sorted as in figure 5 of the paper.

A unit is a row of ``blocks[0].mlp_tokens.fc1.weight``: one weight per patch. Units of opposite
phase are pairs, and the pairs go from low to high spatial frequency.

Shapes: U units, N = g * g patches.

Source: I. Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021.
"""

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.figures import WIDTH, new_figure, save, show_signed, tile

PAIRS = 8  # per row


def draw_pairs(model: nn.Module, logdir: str | PathLike[str], trained_on: str) -> Path:
    """Draw the units of the first block and return the path, ``logdir/token_mixing_pairs.png``.

    A PDF is written beside it.

    Args:
        model: an ``MLPMixer``.
        logdir: folder of the figure; made if it does not exist.
        trained_on: name of the data, for the title.
    """
    weight = model.get_parameter("blocks.0.mlp_tokens.fc1.weight").detach().float().cpu()
    grid = round(weight.shape[1] ** 0.5)
    maps = weight[order_units(weight)].reshape(-1, grid, grid).numpy()
    maps = np.concatenate([maps, np.full((len(maps) % 2, grid, grid), np.nan)])  # a last one alone
    gap = -(-grid // 8)
    pairs = [tile(pair, columns=2, width=gap) for pair in maps.reshape(-1, 2, grid, grid)]
    sheet = tile(np.stack(pairs), columns=PAIRS, width=3 * gap)
    height = WIDTH * sheet.shape[0] / sheet.shape[1]
    figure = new_figure(
        height + 1.1,
        f"MLP-Mixer: {len(weight)} token-mixing units of the first block, {grid} x {grid} patches",
        f"trained on {trained_on}; pairs of opposite phase, from low to high spatial frequency",
    )
    show_signed(figure, figure.subplots(), sheet, "")
    path = Path(logdir) / "token_mixing_pairs.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    return path


def order_units(weight: Tensor) -> list[int]:
    """Return the order in which to draw units (U, N): opposite pairs, low frequencies first."""
    grid = round(weight.shape[1] ** 0.5)
    centred = weight - weight.mean(dim=1, keepdim=True)
    directions = nn.functional.normalize(centred, dim=1)
    correlation = directions @ directions.T
    # Greedy matching: the most opposite pair of all that are left is the next pair.
    number = len(weight)
    free = set(range(number))
    pairs = []
    for flat in correlation.flatten().argsort().tolist():
        first, second = divmod(flat, number)
        if first < second and first in free and second in free:
            free -= {first, second}
            pairs.append((first, second))

    power = torch.fft.fft2(centred.reshape(-1, grid, grid)).abs().square()
    frequency = torch.fft.fftfreq(grid)
    radius = (frequency[:, None].square() + frequency[None, :].square()).sqrt()  # cycles per patch
    mean_frequency = (power * radius).sum(dim=(1, 2)) / power.sum(dim=(1, 2)).clamp(min=1e-12)
    pairs.sort(key=lambda pair: (mean_frequency[pair[0]] + mean_frequency[pair[1]]).item())
    return [unit for pair in pairs for unit in pair] + sorted(free)
