"""Regression on CIFAR-10: predict the class index of an image as a number, with an MLP or a CNN.

``train.py`` trains it from the command line. Importing this file seeds the random number generators
of Python, NumPy and PyTorch, and does nothing else.

Shapes: B batch, N images, C channels, H, W height and width.

Sources:
1. D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
2. A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009: CIFAR-10.
"""

import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SEED = 197331


def set_seed(seed: int = SEED) -> None:
    """Seed the random number generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


set_seed()

NETWORKS = ("mlp", "cnn")
ACTIVATIONS = ("relu", "tanh", "sigmoid")


class NetworkConfiguration(NamedTuple):
    """The hidden layers of a network; an MLP uses ``dense_hiddens`` only.

    Attributes:
        n_channels: output channels of each convolution.
        kernel_sizes: size of each convolution's kernels, in pixels.
        strides: of each convolution, in pixels.
        dense_hiddens: width of each hidden fully-connected layer.
    """

    n_channels: tuple[int, ...] = (16, 32, 48)
    kernel_sizes: tuple[int, ...] = (3, 3, 3)
    strides: tuple[int, ...] = (1, 1, 1)
    dense_hiddens: tuple[int, ...] = (256, 256)


class Trainer:
    """Trains a network to predict the labels of images, by the mean squared error and Adam.

    Args:
        network_type: "mlp" or "cnn".
        net_config: the hidden layers.
        lr: learning rate of Adam (source 1).
        batch_size: B, images per batch.
        activation_name: "relu", "tanh" or "sigmoid".
        seed: set at the start, so that each of several trainers starts from the same weights.

    Attributes:
        train, test: loaders of images (B, C, H, W) and labels (B,); train is shuffled.
        network: maps images to predictions (B, 1).
        optimizer: Adam, on the parameters of the network.
        train_logs: "train_loss", "train_mae", "test_loss", "test_mae"; one float per epoch.
        device: of network and images, the GPU if there is one.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(
        self,
        network_type: str = "mlp",
        net_config: NetworkConfiguration = NetworkConfiguration(),  # noqa: B008, it is immutable
        lr: float = 0.001,
        batch_size: int = 128,
        activation_name: str = "relu",
        seed: int = SEED,
    ):
        set_seed(seed)
        if network_type not in NETWORKS:
            raise ValueError("Network type not supported")
        activation = self.create_activation_function(activation_name)
        self.lr = lr
        self.batch_size = batch_size
        self.network_type = network_type
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.train, self.test = self.load_dataset(self)

        images, _ = next(iter(self.train))
        channels, height, width = images.shape[1:]
        if network_type == "mlp":
            network = self.create_mlp(channels * height * width, net_config, activation)
        else:
            network = self.create_cnn(channels, net_config, activation)
        self.network = network.to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.train_logs: dict[str, list[float]] = {
            name: [] for name in ("train_loss", "test_loss", "train_mae", "test_mae")
        }

    # Static but with self as an argument, as the assignment calls it.
    @staticmethod
    def load_dataset(self: "Trainer") -> tuple[DataLoader, DataLoader]:
        """Return loaders of the training and test images of CIFAR-10, scaled to [-1, 1].

        torchvision downloads the 50,000 training and 10,000 test images (source 2) into ``data/``
        on first use. Labels are class indices, int64.
        """
        from torchvision.datasets import CIFAR10  # here: all else works without torchvision

        parts = [CIFAR10("data", train=train, download=True) for train in (True, False)]
        train, test = (
            Images(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))
            for part in parts
        )
        return self.make_loaders(train, test)

    def make_loaders(self, train: "Images", test: "Images") -> tuple[DataLoader, DataLoader]:
        """Return loaders of images in memory, on the device; train is shuffled."""
        # Images returns whole batches; there is nothing to collate.
        return (
            DataLoader(train.to(self.device), self.batch_size, shuffle=True, collate_fn=tuple),
            DataLoader(test.to(self.device), self.batch_size, shuffle=False, collate_fn=tuple),
        )

    @staticmethod
    def create_activation_function(activation_str: str) -> nn.Module:
        """Return the module of an activation function: "relu", "tanh" or "sigmoid".

        Raises:
            ValueError: unknown name.
        """
        if activation_str == "relu":
            return nn.ReLU()
        if activation_str == "tanh":
            return nn.Tanh()
        if activation_str == "sigmoid":
            return nn.Sigmoid()
        raise ValueError(
            f"activation_name is {activation_str!r}; choose from {', '.join(ACTIVATIONS)}"
        )

    @staticmethod
    def create_mlp(
        input_dim: int, net_config: NetworkConfiguration, activation: nn.Module
    ) -> nn.Module:
        """Build an MLP that flattens images (B, C, H, W) and returns predictions (B, 1).

        It has an ``nn.Linear`` for each of ``dense_hiddens``, followed by the activation, and one
        more with a single output and no activation.

        Args:
            input_dim: numbers in one image, C * H * W.
            net_config: the hidden layers.
            activation: applied after each layer but the last.
        """
        layers: list[nn.Module] = [nn.Flatten()]
        widths = (input_dim, *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @staticmethod
    def create_cnn(
        in_channels: int, net_config: NetworkConfiguration, activation: nn.Module
    ) -> nn.Module:
        """Build a CNN that maps images (B, C, H, W) of almost any size to predictions (B, 1).

        Each ``nn.Conv2d``, without padding, is followed by the activation and
        ``nn.MaxPool2d(kernel_size=2)``; the last one by the activation,
        ``nn.AdaptiveMaxPool2d((4, 4))`` and ``nn.Flatten()``. The fully-connected layers are those
        of ``create_mlp``.

        Args:
            in_channels: C of the images.
            net_config: the hidden layers.
            activation: applied after each layer but the last.
        """
        layers: list[nn.Module] = []
        channels = (in_channels, *net_config.n_channels)
        for (channels_in, channels_out), kernel_size, stride in zip(
            pairwise(channels), net_config.kernel_sizes, net_config.strides
        ):
            layers += [nn.Conv2d(channels_in, channels_out, kernel_size, stride), activation]
            layers.append(nn.MaxPool2d(kernel_size=2))
        layers[-1] = nn.AdaptiveMaxPool2d((4, 4))  # not 2 x 2 after the last one
        layers.append(nn.Flatten())
        widths = (4 * 4 * channels[-1], *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def compute_loss_and_mae(self, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean squared error and the mean absolute error of the network on a batch.

        Args:
            X: images (B, C, H, W).
            y: labels (B,) or (B, 1), of any numeric type.

        Returns:
            Two 0-dim tensors through which gradients flow.
        """
        prediction = self.network(X)  # (B, 1)
        # (B, 1) minus (B,) would broadcast to (B, B), every prediction minus every label.
        error = prediction - y.reshape(prediction.shape).to(prediction)
        return error.square().mean(), error.abs().mean()

    def training_step(self, X_batch: Tensor, y_batch: Tensor) -> tuple[Tensor, Tensor]:
        """Take one optimizer step on the mean squared error of a batch.

        Args:
            X_batch: images (B, C, H, W).
            y_batch: labels (B,) or (B, 1).

        Returns:
            The loss and the mean absolute error before the step, detached.
        """
        # Before the backward pass, so that earlier gradients do not count.
        self.optimizer.zero_grad()
        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), mae.detach()

    def evaluate(self, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean absolute error, averaged over the images and detached.

        Weights and gradients do not change.

        Args:
            X: images (B, C, H, W).
            y: labels (B,) or (B, 1).
        """
        training = self.network.training
        self.network.eval()  # other networks may have dropout
        with torch.no_grad():
            loss, mae = self.compute_loss_and_mae(X, y)
        self.network.train(training)
        return loss, mae

    def train_loop(self, n_epochs: int) -> dict[str, list[float]]:
        """Train for ``n_epochs`` more epochs, evaluate after each, and return the logs."""
        for _ in range(n_epochs):
            self.network.train()
            loss, mae = self._average(self.training_step, self.train)
            self.train_logs["train_loss"].append(loss)
            self.train_logs["train_mae"].append(mae)
            self.evaluation_loop()
        return self.train_logs

    def evaluation_loop(self) -> None:
        """Append the loss and mean absolute error on the test images to the logs."""
        loss, mae = self._average(self.evaluate, self.test)
        self.train_logs["test_loss"].append(loss)
        self.train_logs["test_mae"].append(mae)

    def _average(
        self, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], loader: Iterable
    ) -> tuple[float, float]:
        """Call a step on each batch and return the mean loss and MAE over all images.

        A smaller last batch has less weight.
        """
        loss_sum = mae_sum = number = 0
        for X, y in loader:
            loss, mae = step(X.to(self.device), y.to(self.device))
            with torch.no_grad():  # a sum of attached losses would keep every graph
                loss_sum = loss_sum + len(X) * loss
                mae_sum = mae_sum + len(X) * mae
            number += len(X)
        return float(loss_sum) / number, float(mae_sum) / number  # the only wait for the GPU


# -------------------------------------------------------------------------------------------- data


class Images(Dataset):
    """A data set in memory that returns whole batches at once.

    The values equal those of torchvision's ``ToTensor()`` and ``Normalize(0.5, 0.5)``.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images.contiguous()
        self.labels = labels

    def to(self, device: torch.device) -> "Images":
        """Return the data set on a device."""
        return Images(self.images.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """Return float32 images in [-1, 1] and their labels: a single one or a batch."""
        images = self.images[index].float().div_(255).sub_(0.5).div_(0.5)
        return images, self.labels[index]

    __getitems__ = __getitem__  # what DataLoader calls with the indices of a batch
