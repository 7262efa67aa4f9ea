"""An MLP and convolutional layers in NumPy, and ResNet-18 in PyTorch (Questions 1, 2 and 3).

    python solution.py --epochs 25 --logdir exps/relu_xavier_normal

trains a ResNet-18 and draws its curves, filters and feature maps (Question 3); with
``--data shapes``, it downloads nothing.

Shapes: B batch, C channels, H, W height and width, F filter size, U units, K classes.

Sources:
1. X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
   networks", AISTATS 2010: Xavier initialisation.
2. K. He, X. Zhang, S. Ren and J. Sun, "Delving Deep into Rectifiers", ICCV 2015: Kaiming's.
3. K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016:
   the residual block and the network, here with a 3x3 stem of stride 1 for small images.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_convert

BATCH_SIZE = 128
ACTIVATIONS = ("relu", "tanh")
INITIALIZATIONS = ("xavier_normal", "xavier_uniform", "kaiming_normal")


# ---------------------------------------------------------------- Question 1: an MLP in NumPy


class NN:
    """A multilayer perceptron with a softmax, its loss and its backward pass, in NumPy.

    Beware of the notation: the sheet calls pre-activations Z and activations A, but the course's
    code and this class swap the letters. ``A{i}`` is the affine output of layer i and ``Z{i}`` its
    activation. ``Z0`` is the input and the last ``Z`` the softmax.

    Args:
        dims: sizes of the input, of each hidden layer and of the output, two or more.
        activation: of the hidden layers, "relu", "sigmoid" or "tanh".
        epsilon: in (0, 0.5); the loss clips probabilities to [epsilon, 1 - epsilon].
        lr: learning rate of ``update``.
        seed: of ``initialize_weights``; None leaves NumPy's random state as it is.

    Attributes:
        dims, epsilon, lr, seed: the arguments.
        activation_str: the name of the activation.
        n_hidden: number of hidden layers, ``len(dims) - 2``.
        weights: ``W1``, ``b1``, ``W2``, ``b2`` and so on; set by ``initialize_weights``.

    Raises:
        ValueError: fewer than two dims, one below 1, or an epsilon out of range.
    """

    def __init__(
        self,
        dims: Sequence[int] = (784, 128, 64, 10),
        activation: str = "relu",
        epsilon: float = 1e-6,
        lr: float = 0.01,
        seed: int | None = 0,
    ):
        if len(dims) < 2 or min(dims) < 1:
            raise ValueError(f"dims is {dims}; it must have two sizes or more, each at least 1")
        if not 0 < epsilon < 0.5:
            raise ValueError(f"epsilon is {epsilon}; it must lie between 0 and 0.5")
        self.dims = dims
        self.n_hidden = len(dims) - 2
        self.activation_str = activation
        self.epsilon = epsilon
        self.lr = lr
        self.seed = seed

    def initialize_weights(self) -> None:
        """Initialise the weights of all layers (Question 1.1).

        Seeds ``np.random`` with ``seed``, unless it is None. Then sets ``weights`` to a dictionary
        with, for each layer i = 1, 2, ...: ``W{i}`` (dims[i - 1], dims[i]), uniform between
        -1 / sqrt(dims[0]) and 1 / sqrt(dims[0]), and ``b{i}`` (1, dims[i]), zeros. As on the
        sheet, all layers have the same bound.
        """
        if self.seed is not None:
            np.random.seed(self.seed)
        bound = 1 / np.sqrt(self.dims[0])
        self.weights = {}
        for layer, (size_in, size_out) in enumerate(pairwise(self.dims), start=1):
            self.weights[f"W{layer}"] = np.random.uniform(-bound, bound, size=(size_in, size_out))
            self.weights[f"b{layer}"] = np.zeros((1, size_out))

    def relu(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return max(x, 0) elementwise; with ``grad``, its derivative (Question 1.2).

        The derivative at 0 is 0, as in PyTorch.
        """
        if grad:
            return np.where(x > 0, 1.0, 0.0)
        return np.maximum(x, 0)

    def sigmoid(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return 1 / (1 + exp(-x)) elementwise; with ``grad``, its derivative (Question 1.2).

        Correct for every finite x.
        """
        # The argument of exp is never positive: exp(-x) would overflow for x = -1,000.
        small = np.exp(-np.abs(x))
        if grad:
            return small / (1 + small) ** 2
        return np.where(x > 0, 1, small) / (1 + small)

    def tanh(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return tanh(x) elementwise; with ``grad``, its derivative (Question 1.2).

        Correct for every finite x.
        """
        if grad:
            return 1 - np.tanh(x) ** 2
        return np.tanh(x)

    def activation(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Apply the function named by ``activation_str``, or its derivative (Question 1.2).

        Raises:
            Exception: "Invalid activation", for an unknown name.
        """
        if self.activation_str == "relu":
            return self.relu(x, grad)
        if self.activation_str == "sigmoid":
            return self.sigmoid(x, grad)
        if self.activation_str == "tanh":
            return self.tanh(x, grad)
        raise Exception("Invalid activation")

    def softmax(self, x: np.ndarray) -> np.ndarray:
        """Return the softmax of x (..., K) over the last axis (Question 1.2).

        Correct for every finite x, since softmax(x) = softmax(x - c) for any number c.
        """
        exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the cache of a batch (Question 1.3).

        Args:
            x: (B, dims[0])

        Returns:
            ``Z0`` (the input), ``A1``, ``Z1``, ..., ``Am``, ``Zm``: the pre-activation ``A{i}`` and
            the activation ``Z{i}`` of layer i, both (B, dims[i]). The activation of the last layer
            m is the softmax.

        Raises:
            ValueError: x has another shape.
            RuntimeError: the weights are not initialised.
        """
        _check_initialized(self)
        if np.ndim(x) != 2 or x.shape[1] != self.dims[0]:
            raise ValueError(f"x has shape {np.shape(x)}; it must be (B, {self.dims[0]})")
        cache = {"Z0": x}
        last = self.n_hidden + 1
        for layer in range(1, last + 1):
            affine = cache[f"Z{layer - 1}"] @ self.weights[f"W{layer}"] + self.weights[f"b{layer}"]
            cache[f"A{layer}"] = affine
            cache[f"Z{layer}"] = self.activation(affine) if layer < last else self.softmax(affine)
        return cache

    def loss(self, prediction: np.ndarray, labels: np.ndarray) -> float:
        """Return the cross-entropy of the predictions, averaged over the batch (Question 1.4).

        Args:
            prediction: (B, K) probabilities, clipped to [``epsilon``, 1 - ``epsilon``].
            labels: (B, K) one-hot.

        Raises:
            ValueError: the shapes are not both (B, K), with B at least 1.
        """
        _check_one_hot(labels, "prediction", prediction)
        probabilities = np.clip(prediction, self.epsilon, 1 - self.epsilon)
        return -(labels * np.log(probabilities)).sum(axis=1).mean()

    def backward(self, cache: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of the cross-entropy of a softmax (Question 1.5).

        The gradients ignore the clipping in ``loss``, so that confidently wrong examples still
        have one.

        Args:
            cache: from ``forward``.
            labels: (B, K) one-hot.

        Returns:
            ``dAm``, ``dWm``, ``dbm``, ``dZ(m-1)``, ``dA(m-1)``, ``dW(m-1)``, ``db(m-1)``, ...,
            ``dA1``, ``dW1``, ``db1``. ``dA{i}`` and ``dZ{i}`` (B, dims[i]) are gradients of each
            example's own loss, not divided by B; ``dW{i}`` (dims[i - 1], dims[i]) and ``db{i}``
            (1, dims[i]) are means over the batch.

        Raises:
            ValueError: the labels do not have the shape of the predictions.
        """
        last = self.n_hidden + 1
        _check_one_hot(labels, f"Z{last}", cache[f"Z{last}"])
        grads = {f"dA{last}": cache[f"Z{last}"] - labels}
        for layer in range(last, 0, -1):
            gradient = grads[f"dA{layer}"]
            grads[f"dW{layer}"] = cache[f"Z{layer - 1}"].T @ gradient / len(labels)
            grads[f"db{layer}"] = gradient.mean(axis=0, keepdims=True)
            if layer > 1:
                below = gradient @ self.weights[f"W{layer}"].T
                grads[f"dZ{layer - 1}"] = below
                slope = self.activation(cache[f"A{layer - 1}"], grad=True)
                grads[f"dA{layer - 1}"] = below * slope
        return grads

    def update(self, grads: dict[str, np.ndarray]) -> None:
        """Take one step of gradient descent with learning rate ``lr`` (Question 1.6).

        Args:
            grads: from ``backward``; only ``dW{i}`` and ``db{i}`` are used.
        """
        for name in self.weights:
            self.weights[name] = self.weights[name] - self.lr * grads[f"d{name}"]


def one_hot(y: np.ndarray, n_classes: int = 10) -> np.ndarray:
    """Return labels (B,) as one-hot rows (B, n_classes).

    Args:
        y: (B,) integers in [0, n_classes).
        n_classes: K.

    Raises:
        ValueError: labels that are not integers or out of range.
    """
    y = np.asarray(y)
    if y.dtype.kind not in "iu":
        raise ValueError(f"y has shape {y.shape} and type {y.dtype}; it must hold integers")
    if y.size and not 0 <= y.min() <= y.max() < n_classes:
        raise ValueError(
            f"y has shape {y.shape} and labels from {y.min()} to {y.max()}; "
            f"they must lie between 0 and {n_classes - 1}"
        )
    return np.eye(n_classes)[y]


def _check_one_hot(labels: np.ndarray, name: str, prediction: np.ndarray) -> None:
    """Raise ValueError unless labels and predictions are both (B, K), with B at least 1."""
    if np.shape(labels) != np.shape(prediction) or np.ndim(labels) != 2 or np.size(labels) == 0:
        raise ValueError(
            f"labels have shape {np.shape(labels)} and {name} {np.shape(prediction)}; "
            "both must be (B, K), with at least one example"
        )


def _check_initialized(layer: object) -> None:
    """Raise RuntimeError unless the layer has weights."""
    if not hasattr(layer, "weights"):
        raise RuntimeError("there are no weights yet; call initialize_weights first")


# ---------------------------------------------------------------- Question 2: layers in NumPy


class Convolution2dLayer:
    """A cross-correlation of one channel with U filters, without bias or padding, in NumPy.

    Args:
        filter_size: F, height and width of a filter.
        stride: pixels from one position of the filter to the next, in both directions.
        n_units: U, number of filters.
        seed: of ``initialize_weights``; None leaves NumPy's random state as it is.

    Attributes:
        filter_size, stride, n_units, seed: the arguments.
        weights: (U, F, F); set by ``initialize_weights``.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, filter_size: int = 3, stride: int = 1, n_units: int = 64, seed: int | None = 0
    ):
        _check_sizes(filter_size=filter_size, stride=stride, n_units=n_units)
        self.filter_size = filter_size
        self.stride = stride
        self.n_units = n_units
        self.seed = seed

    def initialize_weights(self) -> None:
        """Set ``weights`` (U, F, F) to uniform numbers in [0, 1) (Question 2.1).

        Seeds ``np.random`` with ``seed`` first, unless it is None.
        """
        if self.seed is not None:
            np.random.seed(self.seed)
        shape = (self.n_units, self.filter_size, self.filter_size)
        self.weights = np.random.uniform(0, 1, size=shape)

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Apply every filter at every position (Question 2.1).

        Args:
            x: (B, 1, H, W)

        Returns:
            ``x``, and ``out`` (B, U, H', W') with H' = (H - F) // stride + 1 and W' likewise.

        Raises:
            ValueError: x has another shape, or is smaller than a filter.
            RuntimeError: the weights are not initialised.
        """
        _check_initialized(self)
        _check_images(x, self.filter_size, channels=1)
        columns = _columns(x, self.filter_size, self.stride)
        batch, size, _, height, width = columns.shape
        columns = columns.reshape(batch, size * size, height * width)
        out = self.weights.reshape(self.n_units, size * size) @ columns  # (B, U, H' W')
        return {"x": x, "out": out.reshape(batch, self.n_units, height, width)}

    def backward(self, cache: dict[str, np.ndarray], grad_output: np.ndarray) -> np.ndarray:
        """Return the gradient of the loss with respect to the weights (Question 2.2).

        Args:
            cache: from ``forward``.
            grad_output: gradient with respect to ``out``, (B, U, H', W').

        Returns:
            (U, F, F), summed over all images and positions.

        Raises:
            ValueError: grad_output does not have the shape of ``out``.
        """
        _check_gradient(cache, grad_output)
        columns = _columns(cache["x"], self.filter_size, self.stride)
        batch, size, _, height, width = columns.shape
        columns = columns.reshape(batch, size * size, height * width)
        flat = grad_output.reshape(batch, self.n_units, height * width)
        return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)


class MaxPooling2dLayer:
    """Max pooling over windows of F x F pixels that do not overlap, in NumPy.

    Rows and columns at the lower and right edge that do not fill a window are dropped, as by
    default in ``torch.nn.functional.max_pool2d``: their gradient is zero.

    Args:
        filter_size: F, height and width of a window.

    Attributes:
        filter_size: the argument.
        stride: the same number.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, filter_size: int = 2):
        _check_sizes(filter_size=filter_size)
        self.filter_size = filter_size
        self.stride = filter_size

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maxima (Question 2.3).

        Args:
            x: (B, C, H, W)

        Returns:
            ``x``, and ``out`` (B, C, H // F, W // F).

        Raises:
            ValueError: x has another rank, or is smaller than a window.
        """
        _check_images(x, self.filter_size)
        windows = _windows(x, self.filter_size)
        # The maximum over the first axis is ten times faster in NumPy than that over the last.
        candidates = windows.reshape(self.filter_size**2, *windows.shape[2:])
        return {"x": x, "out": candidates.max(axis=0)}

    def backward(self, cache: dict[str, np.ndarray], grad_output: np.ndarray) -> np.ndarray:
        """Return the gradient of the loss with respect to the input (Question 2.4).

        Args:
            cache: from ``forward``.
            grad_output: gradient with respect to ``out``, (B, C, H // F, W // F).

        Returns:
            (B, C, H, W): the gradient of each maximum at its pixel, zero elsewhere. If several
            pixels of a window are maximal, each receives the whole gradient; PyTorch gives it to
            the first only.

        Raises:
            ValueError: grad_output does not have the shape of ``out``.
        """
        _check_gradient(cache, grad_output)
        maximal = _windows(cache["x"], self.filter_size) == cache["out"]
        gradient = np.zeros(cache["x"].shape, np.result_type(grad_output, np.float32))
        np.multiply(maximal, grad_output, out=_windows(gradient, self.filter_size))
        return gradient


def _columns(x: np.ndarray, filter_size: int, stride: int) -> np.ndarray:
    """Return the pixels of x (B, 1, H, W) under a filter at each position, (B, F, F, H', W').

    They turn a convolution into a matrix product (K. Chellapilla et al., "High Performance
    Convolutional Neural Networks for Document Processing", 2006).
    """
    windows = sliding_window_view(x[:, 0], (filter_size, filter_size), axis=(1, 2))
    return windows[:, ::stride, ::stride].transpose(0, 3, 4, 1, 2)


def _windows(x: np.ndarray, size: int) -> np.ndarray:
    """Return a view of x (B, C, H, W): the pixels of each window, (F, F, B, C, H // F, W // F)."""
    batch, channels, height, width = x.shape
    rows, columns = height // size, width // size
    whole = x[:, :, : rows * size, : columns * size]
    return whole.reshape(batch, channels, rows, size, columns, size).transpose(3, 5, 0, 1, 2, 4)


def _check_sizes(**sizes: int) -> None:
    """Raise ValueError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def _check_images(x: np.ndarray, smallest: int, channels: int | None = None) -> None:
    """Raise ValueError unless x is (B, C, H, W) with ``channels`` and H, W >= ``smallest``."""
    shape = np.shape(x)
    if len(shape) != 4 or (channels or shape[1]) != shape[1] or min(shape[2:]) < smallest:
        raise ValueError(
            f"x has shape {shape}; it must be (B, {channels or 'C'}, H, W), "
            f"with H and W at least {smallest}"
        )


def _check_gradient(cache: dict[str, np.ndarray], grad_output: np.ndarray) -> None:
    """Raise ValueError unless the gradient has the shape of the output."""
    if np.shape(grad_output) != cache["out"].shape:
        raise ValueError(
            f"grad_output has shape {np.shape(grad_output)}; "
            f"it must have that of the output, {cache['out'].shape}"
        )


# ---------------------------------------------------------------- Question 3: ResNet-18 in PyTorch


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a residual connection around them (source 3, figure 2).

    Args:
        in_channels: of the input.
        channels: of the output.
        conv_stride: stride of the first convolution and of the residual connection.
        activation_str: "relu" or "tanh".
        initialization: of the two convolutions, "xavier_normal", "xavier_uniform" or
            "kaiming_normal". That of the residual connection keeps PyTorch's default.

    Attributes:
        conv1, bn1, conv2, bn2: the layers; the convolutions have no bias.
        residual_connection: the layers from ``residual``.

    Raises:
        Exception: "Invalid initialization", for an unknown name.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        conv_stride: int = 1,
        activation_str: str = "relu",
        initialization: str = "xavier_normal",
    ):
        super().__init__()
        self.activation_str = activation_str
        self.conv1 = nn.Conv2d(
            in_channels, channels, kernel_size=3, stride=conv_stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.residual_connection = self.residual(in_channels, channels, conv_stride)
        for convolution in (self.conv1, self.conv2):
            if initialization == "xavier_normal":
                nn.init.xavier_normal_(convolution.weight)
            elif initialization == "xavier_uniform":
                nn.init.xavier_uniform_(convolution.weight)
            elif initialization == "kaiming_normal":
                nn.init.kaiming_normal_(convolution.weight)
            else:
                raise Exception("Invalid initialization")

    def activation(self, input: Tensor) -> Tensor:
        """Apply the function named by ``activation_str`` to each element (Question 3.1).

        Raises:
            Exception: "Invalid activation", for an unknown name.
        """
        return _activate(self.activation_str, input)

    def residual(self, in_channels: int, channels: int, conv_stride: int = 1) -> nn.Sequential:
        """Return the residual connection (Question 3.1).

        If the block changes the shape, it is a 1x1 convolution with the block's stride, without
        padding or bias, and a batch norm; otherwise it is an empty ``nn.Sequential``.
        """
        if conv_stride == 1 and in_channels == channels:
            return nn.Sequential()
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H', W'), H' = ceil(H / conv_stride).

        A batch norm follows each convolution. The first activation is between the two
        convolutions, the second after the residual connection is added (Question 3.1).
        """
        out = self.activation(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.activation(out + self.residual_connection(x))


class ResNet18(nn.Module):
    """A stem, four layers of two residual blocks, global average pooling, a linear classifier.

    Args:
        activation_str: "relu" or "tanh".
        initialization: of the convolutions in the blocks; see ``ResidualBlock``.

    Attributes:
        n_classes: K, 10.
        conv1, bn1: the stem, 3 to 64 channels, 3x3.
        layer1, layer2, layer3, layer4: of 64, 128, 256 and 512 channels and strides 1, 2, 2, 2.
        avgpool, linear: the classifier.

    Raises:
        Exception: "Invalid initialization", for an unknown name.
    """

    def __init__(self, activation_str: str = "relu", initialization: str = "xavier_normal"):
        super().__init__()
        self.n_classes = 10
        self.activation_str = activation_str
        self.initialization = initialization
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._create_layer(64, 64, conv_stride=1)
        self.layer2 = self._create_layer(64, 128, conv_stride=2)
        self.layer3 = self._create_layer(128, 256, conv_stride=2)
        self.layer4 = self._create_layer(256, 512, conv_stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512, self.n_classes)

    def activation(self, input: Tensor) -> Tensor:
        """Apply the function named by ``activation_str`` to each element.

        Raises:
            Exception: "Invalid activation", for an unknown name.
        """
        return _activate(self.activation_str, input)

    def _create_layer(self, in_channels: int, channels: int, conv_stride: int = 1) -> nn.Sequential:
        """Return two residual blocks (Question 3.2).

        The first block changes the channels and has the stride. Both have the activation and
        initialization of the network.
        """
        options = {"activation_str": self.activation_str, "initialization": self.initialization}
        return nn.Sequential(
            ResidualBlock(in_channels, channels, conv_stride, **options),
            ResidualBlock(channels, channels, **options),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, 10), without a softmax (Question 3.2)."""
        out = self.activation(self.bn1(self.conv1(input)))  # (B, 64, 32, 32)
        out = self.layer1(out)
        out = self.layer2(out)  # (B, 128, 16, 16)
        out = self.layer3(out)  # (B, 256, 8, 8)
        out = self.layer4(out)  # (B, 512, 4, 4)
        out = self.avgpool(out).flatten(start_dim=1)  # (B, 512)
        return self.linear(out)

    def get_first_conv_layer_filters(self) -> np.ndarray:
        """Return a copy of the filters of ``conv1``, (64, 3, 3, 3)."""
        return self.conv1.weight.detach().cpu().numpy().copy()

    def get_last_conv_layer_filters(self) -> np.ndarray:
        """Return a copy of the filters of ``layer4[1].conv2``, (512, 512, 3, 3)."""
        return self.layer4[1].conv2.weight.detach().cpu().numpy().copy()


def _activate(name: str, input: Tensor) -> Tensor:
    """Apply the function of this name to each element."""
    if name == "relu":
        return torch.relu(input)
    if name == "tanh":
        return torch.tanh(input)
    raise Exception("Invalid activation")


class _Images(Dataset):
    """Images (N, 3, 32, 32) uint8, scaled to [0, 1] batch by batch, and labels (N,) int64."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index].float() / 255, self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices].float() / 255, self.labels[indices]


def get_cifar10(
    data: str = "cifar10", data_dir: str | PathLike[str] = "data", subset: int | None = None
) -> tuple[DataLoader, DataLoader]:
    """Return loaders of the training and validation images, 128 per batch.

    As on the sheet, the validation images are the test split of CIFAR-10. Choosing by validation
    accuracy, as in Question 3.7, thus chooses on the test split, and the accuracy of the choice
    does not estimate that on new images.

    Args:
        data: "cifar10", which torchvision downloads, or another source of the project's
            ``load_data``: "shapes" or the path of an .npz file.
        data_dir: folder of CIFAR-10.
        subset: use the first ``subset`` images of each split only.

    Returns:
        Loaders of images (B, 3, 32, 32) in [0, 1] and labels (B,); the training loader shuffles.

    Raises:
        ValueError: unknown source, a file with invalid content, or more than 10 classes.
        OSError: data that cannot be read or downloaded.
    """
    train, val = _read_cifar10(Path(data_dir)) if data == "cifar10" else _read_other(data)
    if max(int(labels.max()) for _, labels in (train, val)) >= 10:
        raise ValueError(f"{data} has labels above 9; ResNet18 has 10 classes")
    train, val = (_Images(images[:subset], labels[:subset]) for images, labels in (train, val))
    # default_convert returns the batch as it is; the default would collate it again.
    return (
        DataLoader(train, BATCH_SIZE, shuffle=True, collate_fn=default_convert),
        DataLoader(val, BATCH_SIZE, collate_fn=default_convert),
    )


def _read_cifar10(data_dir: Path) -> list[tuple[Tensor, Tensor]]:
    """Return images (N, 3, 32, 32) uint8 and labels (N,) of the training and the test split."""
    try:
        from torchvision.datasets import CIFAR10

        splits = [CIFAR10(data_dir, train=train, download=True) for train in (True, False)]
    except (ImportError, OSError, RuntimeError) as error:
        raise OSError(
            f"CIFAR-10 cannot be downloaded to or read from {data_dir} with torchvision ({error}); "
            'data="shapes" needs no download'
        ) from error
    return [
        (torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets))
        for split in splits
    ]


def _read_other(source: str) -> list[tuple[Tensor, Tensor]]:
    """Return the same for another source, read by ``training`` in this folder or the one above."""
    here = Path(__file__).resolve().parent
    folder = next((f for f in (here, here.parent) if (f / "training" / "data.py").is_file()), None)
    if folder is None:
        raise OSError(f"data={source!r} needs the folder training in {here} or {here.parent}")
    sys.path.insert(0, str(folder))
    try:
        from training.data import load_data
    finally:
        sys.path.remove(str(folder))
    loaded = load_data(source)
    train = [
        torch.cat(pair) for pair in zip(vars(loaded.train).values(), vars(loaded.val).values())
    ]
    return [tuple(train), (loaded.test.images, loaded.test.labels)]


Loader = Iterable[tuple[Tensor, Tensor]]
Criterion = Callable[[Tensor, Tensor], Tensor]


def train_loop(
    epoch: int,
    model: nn.Module,
    train_loader: Loader,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
) -> tuple[float, float]:
    """Train for one epoch, in training mode (Question 3.3).

    Args:
        epoch: number of the epoch, for messages.
        model: maps images to logits; batches are moved to its device.
        train_loader: yields images and labels.
        criterion: maps logits and labels to the mean loss of a batch.
        optimizer: of the model's parameters.

    Returns:
        Accuracy, as a fraction, and loss: means over all images, each measured before the step of
        its batch. Images of a smaller last batch have the same weight.

    Raises:
        ValueError: the loader is empty.
    """
    device = next(model.parameters()).device
    model.train()
    # Summed on the device and read once: reading waits for the GPU.
    correct, total_loss, number = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += loss.detach() * len(labels)
        number += len(labels)
    if number == 0:
        raise ValueError(f"epoch {epoch}: train_loader has no images")
    return correct.item() / number, total_loss.item() / number


@torch.no_grad()
def valid_loop(
    epoch: int, model: nn.Module, val_loader: Loader, criterion: Criterion
) -> tuple[float, float]:
    """Evaluate the model in evaluation mode, without changing it (Question 3.3).

    Args:
        epoch: number of the epoch, for messages.
        model, val_loader, criterion: as in ``train_loop``.

    Returns:
        Accuracy, as a fraction, and loss: means over all images.

    Raises:
        ValueError: the loader is empty.
    """
    device = next(model.parameters()).device
    model.eval()
    correct, total_loss, number = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for images, labels in val_loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += criterion(logits, labels) * len(labels)
        number += len(labels)
    if number == 0:
        raise ValueError(f"epoch {epoch}: val_loader has no images")
    return correct.item() / number, total_loss.item() / number


# ---------------------------------------------------------------- Questions 3.4 to 3.6: figures

SHOWN = 32  # filters of a layer that are drawn, with their feature maps
CURVES = ("train_losses", "valid_losses", "train_accs", "valid_accs")


def draw_curves(
    history: dict[str, Sequence[float]], path: str | PathLike[str], data_name: str
) -> None:
    """Draw loss and accuracy over the epochs (Question 3.4).

    Args:
        history: "train_losses", "valid_losses", "train_accs" and "valid_accs", one entry per epoch.
        path: of the figure; its folder is created if needed.
        data_name: name of the training data, for the title.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(f"ResNet-18 on {data_name}")
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
    model: ResNet18,
    first_path: str | PathLike[str],
    last_path: str | PathLike[str],
    trained_on: str,
) -> None:
    """Draw filters of the first and the last convolution (Question 3.5).

    Those of the first have three channels and are drawn in colour. Those of the last have 512
    channels; the one with the largest norm is drawn.

    Args:
        model: the network.
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
    model: ResNet18,
    vis_image: Tensor,
    first_path: str | PathLike[str],
    last_path: str | PathLike[str],
    trained_on: str,
) -> None:
    """Draw the feature maps of the same filters for one image (Question 3.6).

    Args:
        model: the network; it is set to evaluation mode.
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
        axes[0].imshow(vis_image.detach().cpu().clamp(0, 1).permute(1, 2, 0))
        axes[0].set_title("image", fontsize=9)
        limit = max(float(np.abs(maps[:SHOWN]).max()), 1e-12)
        for ax, values in zip(axes[1:], maps):
            shown = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        figure.colorbar(shown, ax=axes, label="output of the convolution", shrink=0.8)
        figure.supxlabel(f"{height} x {width} outputs of each filter, before the batch norm")
        _save(figure, path)


@torch.no_grad()
def feature_maps(model: ResNet18, vis_image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature maps of the first and the last convolution for one image.

    Args:
        model: the network; it is set to evaluation mode.
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


# ---------------------------------------------------------------- Question 3: the program


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="solution.py",
        description="Train a ResNet-18 and draw its curves, filters and feature maps (Question 3).",
        epilog="example: python solution.py --data shapes --subset 1000 --epochs 2",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file",
    )
    parser.add_argument("--data_dir", default="data", metavar="DIR", help="folder of cifar10")
    parser.add_argument("--subset", type=_positive_int, metavar="N", help="use N images per split")
    parser.add_argument("--epochs", type=_positive_int, default=25, metavar="N", help="of training")
    parser.add_argument("--lr", type=_positive, default=1e-3, metavar="X", help="learning rate")
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu", help="of the network")
    parser.add_argument(
        "--initialization", choices=INITIALIZATIONS, default="xavier_normal", help="of the blocks"
    )
    parser.add_argument("--seed", type=_positive_int, default=42, metavar="N", help="random seed")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--logdir", type=Path, default=Path("exps/numpy_networks"), metavar="DIR", help="results"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 2 for an error of the user."""
    args = make_parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError, NotImplementedError) as error:
        text = f"{error.filename}: {error.strerror}" if getattr(error, "filename", "") else error
        print(f"solution.py: error: {text}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"solution.py: stopped: {error}; a smaller --lr may help", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    """Train, validate after every epoch, and draw what Questions 3.4 to 3.6 ask for.

    Writes ``results.json``, ``curves.png``, ``filters_first.png``, ``filters_last.png``,
    ``features_first.png`` and ``features_last.png`` into ``args.logdir``.

    Raises:
        ValueError, OSError: as ``get_cifar10``; an unknown device; a folder that contains a run.
        FloatingPointError: the loss is not finite.
    """
    results_path = args.logdir / "results.json"
    if results_path.exists():
        raise ValueError(f"{results_path} already exists; choose another --logdir")
    device = _pick_device(args.device)
    torch.manual_seed(args.seed)
    train_loader, val_loader = get_cifar10(args.data, args.data_dir, args.subset)
    vis_image = val_loader.dataset[0][0]
    model = ResNet18(args.activation, args.initialization).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    data_name = {"cifar10": "CIFAR-10"}.get(args.data, Path(args.data).stem)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {args.activation}, "
        f"{args.initialization}, on {device}; {data_name}: {len(train_loader.dataset):,} images "
        f"train, {len(val_loader.dataset):,} validate"
    )
    args.logdir.mkdir(parents=True, exist_ok=True)  # fails before the training, not after it
    history = {name: [] for name in CURVES}
    for epoch in range(1, args.epochs + 1):
        started = time.perf_counter()
        train_acc, train_loss = train_loop(epoch, model, train_loader, criterion, optimizer)
        valid_acc, valid_loss = valid_loop(epoch, model, val_loader, criterion)
        print(
            f"epoch {epoch}: training loss {train_loss:.4f}, accuracy {train_acc:.4f}; "
            f"validation loss {valid_loss:.4f}, accuracy {valid_acc:.4f}; "
            f"{time.perf_counter() - started:.1f} s",
            flush=True,
        )
        if not math.isfinite(train_loss):
            raise FloatingPointError(f"the training loss of epoch {epoch} is {train_loss}")
        for name, value in zip(CURVES, (train_loss, valid_loss, train_acc, valid_acc)):
            history[name].append(value)
    text = json.dumps({**history, "args": vars(args)}, indent=1, default=str)
    results_path.write_text(text + "\n", encoding="utf-8")
    trained_on = data_name + (f", {args.subset:,} images" if args.subset else "")
    draw_curves(history, args.logdir / "curves.png", trained_on)
    paths = {
        name: args.logdir / f"{name}.png"
        for name in ("filters_first", "filters_last", "features_first", "features_last")
    }
    draw_filters(model, paths["filters_first"], paths["filters_last"], trained_on)
    draw_feature_maps(model, vis_image, paths["features_first"], paths["features_last"], trained_on)
    print(f"results.json, curves.png, {', '.join(p.name for p in paths.values())}: {args.logdir}")


def _pick_device(name: str) -> torch.device:
    """Return the device of this name, or for "auto" the best one available."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise ValueError(f"--device {name} cannot be used: {reason}") from error


if __name__ == "__main__":
    sys.exit(main())
