"""The NumPy layers of ``numpy_networks`` against PyTorch's, and against plain loops.

All compute the same: 64 images of 32 x 32 pixels through 64 filters of 3 x 3, and what comes out of
that through windows of 2 x 2, forward and backward, each in the same precision. NumPy and PyTorch
take turns, so that a slow moment of the machine meets both. The loops get two images, because they
are slow, and are compared by the time for one image.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.arguments import positive_int
from numpy_networks.solution import Convolution2dLayer, MaxPooling2dLayer

IMAGES, UNITS, SIZE = 64, 64, 32
IMAGES_OF_LOOPS = 2
REPEATS_OF_LOOPS = 3
PASSES = ("forward", "backward", "both")

Passes = dict[str, Callable[[], Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks numpy_layers --repeats 15 --threads 1"
    parser.add_argument(
        "--repeats", type=positive_int, default=15, metavar="N", help="of each pass"
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all, and check that all ways give the same numbers.

    Returns:
        ``rows``: for each layer, precision and pass the seconds of every repeat with NumPy and with
        PyTorch. ``loops``: the same for plain loops, in double precision.
    """
    rows, loops = [], []
    repeats = args.repeats
    for dtype in (np.float64, np.float32):
        for layer, ours, theirs in _layers(dtype, IMAGES):
            _compare(layer, ours, theirs, dtype)
            for name in PASSES:
                seconds = _take_turns({"numpy": ours[name], "torch": theirs[name]}, repeats)
                rows.append({"layer": layer, "dtype": dtype.__name__, "pass": name} | seconds)
    for layer, ours, theirs in _loops():
        _compare(layer, ours, theirs, np.float64)
        for name in PASSES[:2]:
            seconds = _take_turns({"loops": ours[name]}, min(repeats, REPEATS_OF_LOOPS))
            loops.append({"layer": layer, "pass": name} | seconds)
    return {
        "repeats": repeats,
        "images": IMAGES,
        "images_of_loops": IMAGES_OF_LOOPS,
        "rows": rows,
        "loops": loops,
    }


def to_table(results: dict[str, Any]) -> str:
    """Return medians in milliseconds, with quartiles, and how many times as long NumPy takes."""
    lines = [
        f"{results['images']} images, median of {results['repeats']} repeats (quartiles), ms",
        f"{'layer':<12} {'numbers':<8} {'pass':<9} {'NumPy':>22} {'PyTorch':>22} {'ratio':>6}",
    ]
    for row in results["rows"]:
        ratio = np.median(row["numpy"]) / np.median(row["torch"])
        lines.append(
            f"{row['layer']:<12} {row['dtype']:<8} {row['pass']:<9} {_words(row['numpy']):>22} "
            f"{_words(row['torch']):>22} {ratio:>6.2f}"
        )
    lines += ["", "Plain loops, double precision, ms for an image, and how much faster NumPy is"]
    for row in results["loops"]:
        (ours,) = (
            other["numpy"]
            for other in results["rows"]
            if (other["layer"], other["dtype"], other["pass"])
            == (row["layer"], "float64", row["pass"])
        )
        loops = np.median(row["loops"]) / results["images_of_loops"]
        layer = np.median(ours) / results["images"]
        lines.append(
            f"{row['layer']:<12} {'float64':<8} {row['pass']:<9} {1e3 * layer:>22.3f} "
            f"{1e3 * loops:>22.1f} {loops / layer:>6.0f}"
        )
    return "\n".join(lines)


def _words(seconds: list[float]) -> str:
    low, middle, high = 1e3 * np.quantile(seconds, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _take_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time the calls one after the other, so many times; ``_compare`` has run them once before."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _inputs(dtype: type, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images, filters, and gradients of the two outputs."""
    draws = np.random.RandomState(0)
    shapes = (
        (images, 1, SIZE, SIZE),
        (UNITS, 3, 3),
        (images, UNITS, SIZE - 2, SIZE - 2),
        (images, UNITS, SIZE // 2 - 1, SIZE // 2 - 1),
    )
    arrays: list[np.ndarray] = [draws.standard_normal(shape).astype(dtype) for shape in shapes]
    x, weights, grad_out, grad_pooled = arrays
    return x, weights, grad_out, grad_pooled


def _layers(dtype: type, images: int) -> list[tuple[str, Passes, Passes]]:
    """Return both layers, as passes in NumPy and in PyTorch."""
    x, weights, grad_out, grad_pooled = _inputs(dtype, images)
    convolution, pooling = Convolution2dLayer(n_units=UNITS), MaxPooling2dLayer()
    convolution.weights = weights
    cache = convolution.forward(x)
    pooled = pooling.forward(cache["out"])
    tx, tw = torch.from_numpy(x), torch.from_numpy(weights)[:, None].requires_grad_()
    tout = torch.from_numpy(cache["out"]).requires_grad_()
    return [
        (
            "convolution",
            _passes(convolution.forward, convolution.backward, x, cache, grad_out),
            _torch_passes(lambda: F.conv2d(tx, tw), tw, grad_out),
        ),
        (
            "max-pooling",
            _passes(pooling.forward, pooling.backward, cache["out"], pooled, grad_pooled),
            _torch_passes(lambda: F.max_pool2d(tout, 2), tout, grad_pooled),
        ),
    ]


def _passes(
    forward: Callable, backward: Callable, x: np.ndarray, cache: dict, gradient: np.ndarray
) -> Passes:
    return {
        "forward": lambda: forward(x)["out"],
        "backward": lambda: backward(cache, gradient),
        "both": lambda: backward(forward(x), gradient),
    }


def _torch_passes(forward: Callable, leaf: torch.Tensor, gradient: np.ndarray) -> Passes:
    out, grad_out = forward(), torch.from_numpy(gradient)
    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(out, leaf, grad_out, retain_graph=True)[0],
        "both": lambda: torch.autograd.grad(forward(), leaf, grad_out)[0],
    }


def _compare(layer: str, ours: Passes, theirs: Passes, dtype: type) -> None:
    """Raise RuntimeError unless both ways give the same numbers."""
    for name in ours:
        found = np.asarray(ours[name]())
        expected = torch.as_tensor(theirs[name]()).detach().numpy().reshape(found.shape)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        if error > (1e-12 if dtype is np.float64 else 1e-4):
            raise RuntimeError(f"{layer}, {name}: the relative difference is {error:.1e}")


# ---------------------------------------------------------------- what students write first


def _loops() -> list[tuple[str, Passes, Passes]]:
    """Return both layers, as two passes by loops and in NumPy, on a few images."""
    x, weights, grad_out, grad_pooled = _inputs(np.float64, IMAGES_OF_LOOPS)
    out = _convolve(x, weights)
    (_, convolution, _), (_, pooling, _) = _layers(np.float64, IMAGES_OF_LOOPS)
    return [
        (
            "convolution",
            {
                "forward": lambda: _convolve(x, weights),
                "backward": lambda: _convolve_backward(x, weights, grad_out),
            },
            convolution,
        ),
        (
            "max-pooling",
            {
                "forward": lambda: _pool(out),
                "backward": lambda: _pool_backward(out, grad_pooled),
            },
            pooling,
        ),
    ]


def _convolve(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    images, (units, size, _) = len(x), weights.shape
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    out = np.zeros((images, units, height, width))
    for image in range(images):
        for unit in range(units):
            for row in range(height):
                for column in range(width):
                    window = x[image, 0, row : row + size, column : column + size]
                    out[image, unit, row, column] = np.sum(window * weights[unit])
    return out


def _convolve_backward(x: np.ndarray, weights: np.ndarray, grad_out: np.ndarray) -> np.ndarray:
    gradient, size = np.zeros(weights.shape), weights.shape[1]
    images, units, height, width = grad_out.shape
    for image in range(images):
        for unit in range(units):
            for row in range(height):
                for column in range(width):
                    window = x[image, 0, row : row + size, column : column + size]
                    gradient[unit] += window * grad_out[image, unit, row, column]
    return gradient


def _pool(x: np.ndarray) -> np.ndarray:
    images, channels, height, width = x.shape
    out = np.zeros((images, channels, height // 2, width // 2))
    for image in range(images):
        for channel in range(channels):
            for row in range(height // 2):
                for column in range(width // 2):
                    window = x[image, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                    out[image, channel, row, column] = np.max(window)
    return out


def _pool_backward(x: np.ndarray, grad_out: np.ndarray) -> np.ndarray:
    gradient = np.zeros(x.shape)
    images, channels, height, width = grad_out.shape
    for image in range(images):
        for channel in range(channels):
            for row in range(height):
                for column in range(width):
                    place = (
                        image,
                        channel,
                        slice(2 * row, 2 * row + 2),
                        slice(2 * column, 2 * column + 2),
                    )
                    maximal = x[place] == np.max(x[place])
                    gradient[place] += maximal * grad_out[image, channel, row, column]
    return gradient
