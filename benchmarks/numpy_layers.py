"""The NumPy layers of ``numpy_networks`` against PyTorch's, and against plain loops.

All compute the same: 64 images of 32 x 32 pixels pass 64 filters of 3 x 3, and the outputs pass
windows of 2 x 2, forward and backward, in the same precision. NumPy and PyTorch take turns, so that
a slow moment of the machine affects both. The loops are slow: they get two images, and their time
per image is compared.
"""

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import common
from numpy_networks.solution import Convolution2dLayer, MaxPooling2dLayer
from training.arguments import add_number, positive_int

IMAGES, UNITS, SIZE = 64, 64, 32
IMAGES_OF_LOOPS = 2
REPEATS_OF_LOOPS = 3
PASSES = ("forward", "backward", "both")

Passes = dict[str, Callable[[], Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks numpy_layers --repeats 15 --threads 1"
    add_number(parser, "--repeats", positive_int, 15, "of each pass")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Check that all implementations return the same numbers, and time them.

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
                seconds = common.take_turns({"numpy": ours[name], "torch": theirs[name]}, repeats)
                rows.append({"layer": layer, "dtype": dtype.__name__, "pass": name} | seconds)
    for layer, plain, ours in _loops():
        _compare(layer, plain, ours, np.float64)
        for name in plain:
            seconds = common.take_turns({"loops": plain[name]}, min(repeats, REPEATS_OF_LOOPS))
            loops.append({"layer": layer, "pass": name} | seconds)
    return {
        "repeats": repeats,
        "images": IMAGES,
        "images_of_loops": IMAGES_OF_LOOPS,
        "rows": rows,
        "loops": loops,
    }


def to_table(results: dict[str, Any]) -> str:
    """Return medians with quartiles in milliseconds, and ratios of the medians."""
    lines = [
        f"{results['images']} images, median of {results['repeats']} repeats (quartiles), ms; "
        "ratio: NumPy/PyTorch",
        f"{'layer':<12} {'numbers':<8} {'pass':<9} {'NumPy':>20} {'PyTorch':>20} {'ratio':>6}",
    ]
    for row in results["rows"]:
        numpy_ms, torch_ms = (1e3 * np.array(row[name]) for name in ("numpy", "torch"))
        lines.append(
            f"{row['layer']:<12} {row['dtype']:<8} {row['pass']:<9} {_words(numpy_ms):>20} "
            f"{_words(torch_ms):>20} {np.median(numpy_ms) / np.median(torch_ms):>6.2f}"
        )
    lines += [
        "",
        "Plain loops in double precision, ms per image; ratio: loops/NumPy",
        f"{'layer':<12} {'numbers':<8} {'pass':<9} {'NumPy':>20} {'loops':>20} {'ratio':>6}",
    ]
    times = {(row["layer"], row["dtype"], row["pass"]): row["numpy"] for row in results["rows"]}
    for row in results["loops"]:
        ours = times[row["layer"], "float64", row["pass"]]
        layer = np.median(ours) / results["images"]
        loops = np.median(row["loops"]) / results["images_of_loops"]
        lines.append(
            f"{row['layer']:<12} {'float64':<8} {row['pass']:<9} {1e3 * layer:>20.3f} "
            f"{1e3 * loops:>20.1f} {loops / layer:>6.0f}"
        )
    return "\n".join(lines)


def _words(values: np.ndarray) -> str:
    return common.summary(values, min(common.digits_of(values), 2))


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
    """Return both layers, each as passes in NumPy and in PyTorch."""
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


def _compare(layer: str, found: Passes, expected: Passes, dtype: type) -> None:
    """Raise RuntimeError unless two implementations return the same numbers."""
    for name in found:
        ours = np.asarray(found[name]())
        theirs = torch.as_tensor(expected[name]()).detach().numpy().reshape(ours.shape)
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if error > (1e-12 if dtype is np.float64 else 1e-4):
            raise RuntimeError(f"{layer}, {name}: the relative difference is {error:.1e}")


# ---------------------------------------------------------------- what students write first


def _loops() -> list[tuple[str, Passes, Passes]]:
    """Return both layers, as two passes with loops and in NumPy, on a few images."""
    x, weights, grad_out, grad_pooled = _inputs(np.float64, IMAGES_OF_LOOPS)
    out = _convolve(x, weights)
    plain: list[Passes] = [
        {
            "forward": lambda: _convolve(x, weights),
            "backward": lambda: _convolve_backward(x, weights, grad_out),
        },
        {
            "forward": lambda: _pool(out),
            "backward": lambda: _pool_backward(out, grad_pooled),
        },
    ]
    layers = _layers(np.float64, IMAGES_OF_LOOPS)
    return [(layer, loops, ours) for (layer, ours, _), loops in zip(layers, plain)]


def _places(array: np.ndarray) -> product:
    """Return the indices of all entries: image, unit or channel, row, column."""
    return product(*map(range, array.shape))


def _convolve(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    units, size, _ = weights.shape
    out = np.zeros((len(x), units, x.shape[2] - size + 1, x.shape[3] - size + 1))
    for image, unit, row, column in _places(out):
        window = x[image, 0, row : row + size, column : column + size]
        out[image, unit, row, column] = np.sum(window * weights[unit])
    return out


def _convolve_backward(x: np.ndarray, weights: np.ndarray, grad_out: np.ndarray) -> np.ndarray:
    gradient, size = np.zeros(weights.shape), weights.shape[1]
    for image, unit, row, column in _places(grad_out):
        window = x[image, 0, row : row + size, column : column + size]
        gradient[unit] += window * grad_out[image, unit, row, column]
    return gradient


def _pool(x: np.ndarray) -> np.ndarray:
    images, channels, height, width = x.shape
    out = np.zeros((images, channels, height // 2, width // 2))
    for image, channel, row, column in _places(out):
        window = x[image, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        out[image, channel, row, column] = np.max(window)
    return out


def _pool_backward(x: np.ndarray, grad_out: np.ndarray) -> np.ndarray:
    gradient = np.zeros(x.shape)
    for image, channel, row, column in _places(grad_out):
        rows, columns = slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2)
        window = x[image, channel, rows, columns]
        maximal = window == np.max(window)
        gradient[image, channel, rows, columns] += maximal * grad_out[image, channel, row, column]
    return gradient
