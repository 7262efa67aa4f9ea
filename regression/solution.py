"""Regression on CIFAR-10: predict the class index of an image as a number, with an MLP or a CNN.

    python solution.py --data shapes --network cnn --epochs 3

trains on synthetic images; --help lists all options. Importing this file seeds the random number
generators of Python, NumPy and PyTorch, and does nothing else.

Shapes: B batch, N images, C channels, H, W height and width.

Sources:
1. D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
2. A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009: CIFAR-10.
"""

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SEED = 197331
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

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
        data: "cifar10", "shapes" or the path of an ``.npz`` file.

    Attributes:
        train, test: loaders of images (B, C, H, W) and labels (B,); train is shuffled.
        network: maps images to predictions (B, 1).
        optimizer: Adam, on the parameters of the network.
        train_logs: "train_loss", "train_mae", "test_loss", "test_mae"; one float per epoch.
        device: of network and images, the GPU if there is one.

    Raises:
        ValueError: an unknown name, or layers that do not match each other or the images.
        OSError: the data cannot be read or downloaded.
    """

    def __init__(
        self,
        network_type: str = "mlp",
        net_config: NetworkConfiguration = NetworkConfiguration(),  # noqa: B008, it is immutable
        lr: float = 0.001,
        batch_size: int = 128,
        activation_name: str = "relu",
        data: str = "cifar10",
    ):
        if network_type not in NETWORKS:
            raise ValueError("Network type not supported")
        activation = self.create_activation_function(activation_name)
        self.lr = lr
        self.batch_size = batch_size
        self.network_type = network_type
        self.data = data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.train, self.test = self.load_dataset(self)

        images, _ = next(iter(self.train))
        channels, height, width = images.shape[1:]
        if network_type == "mlp":
            network = self.create_mlp(channels * height * width, net_config, activation)
        else:
            _check_image_size(net_config, height, width)
            network = self.create_cnn(channels, net_config, activation)
        self.network = network.to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.train_logs: dict[str, list[float]] = {
            name: [] for name in ("train_loss", "test_loss", "train_mae", "test_mae")
        }

    # Static but with self as an argument, as the assignment calls it.
    @staticmethod
    def load_dataset(self: "Trainer") -> tuple[DataLoader, DataLoader]:
        """Return loaders of the training and test images, scaled to [-1, 1].

        CIFAR-10 (source 2) has 50,000 training and 10,000 test images; torchvision downloads it
        into ``data/`` on first use. Labels are class indices, int64.

        Raises:
            ValueError: unknown data, or a file with invalid content.
            OSError: the data cannot be read or downloaded.
        """
        parts = _read_cifar10() if self.data == "cifar10" else _read_other(self.data)
        train, test = (Images(images.to(self.device), y.to(self.device)) for images, y in parts)
        # Images returns whole batches; there is nothing to collate.
        return (
            DataLoader(train, self.batch_size, shuffle=True, collate_fn=tuple),
            DataLoader(test, self.batch_size, shuffle=False, collate_fn=tuple),
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

        Raises:
            ValueError: a size below 1.
        """
        _check_positive(input_dim=(input_dim,), dense_hiddens=net_config.dense_hiddens)
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

        Raises:
            ValueError: no convolution, tuples of different lengths, or a size below 1.
        """
        _check_convolutions(net_config)
        _check_positive(in_channels=(in_channels,), dense_hiddens=net_config.dense_hiddens)
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

        Raises:
            ValueError: the number of labels is not that of the images.
        """
        prediction = self.network(X)  # (B, 1)
        if y.numel() != prediction.numel():
            raise ValueError(
                f"y has shape {tuple(y.shape)} for {len(X)} images; it must be ({len(X)},) or "
                f"({len(X)}, 1)"
            )
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
        """Train for ``n_epochs`` more epochs, evaluate after each, and return the logs.

        Raises:
            ValueError: ``n_epochs`` is negative.
        """
        if n_epochs < 0:
            raise ValueError(f"n_epochs is {n_epochs}; it must be at least 0")
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


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


# -------------------------------------------------------------------------------------------- data


class Images(Dataset):
    """A data set in memory that returns whole batches at once.

    The values equal those of torchvision's ``ToTensor()`` and ``Normalize(0.5, 0.5)``.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """Return float32 images in [-1, 1] and their labels: a single one or a batch."""
        images = self.images[index].float().div_(255).sub_(0.5).div_(0.5)
        return images, self.labels[index]

    __getitems__ = __getitem__  # what DataLoader calls with the indices of a batch


def _read_cifar10() -> list[tuple[Tensor, Tensor]]:
    """Return images (N, 3, 32, 32) uint8 and labels (N,) of the training and the test set."""
    try:
        from torchvision.datasets import CIFAR10  # not needed for other data

        parts = [CIFAR10("data", train=train, download=True) for train in (True, False)]
    except (ImportError, RuntimeError, OSError) as error:
        raise OSError(
            f"CIFAR-10 cannot be read or downloaded into data/ with torchvision ({error}); "
            "other data: shapes, or the path of an .npz file"
        ) from error
    return [
        (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    ]


def _read_other(source: str) -> list[tuple[Tensor, Tensor]]:
    """Return the same for other data, which the project's ``training`` reads.

    Its validation images are used for training: this assignment has no validation set.
    """
    here = Path(__file__).resolve().parent
    folder = next((f for f in (here, here.parent) if (f / "training" / "data.py").is_file()), None)
    if folder is None:
        raise OSError(f"data {source!r} needs the folder training in {here}; copy it there")
    sys.path.insert(0, str(folder))
    try:
        from training.data import load_data
    finally:
        sys.path.remove(str(folder))
    data = load_data(str(source))
    images = torch.cat([data.train.images, data.val.images])
    labels = torch.cat([data.train.labels, data.val.labels])
    return [(images, labels), (data.test.images, data.test.labels)]


# ------------------------------------------------------------------------------------------ checks


def _check_positive(**sizes: tuple[int, ...]) -> None:
    for name, values in sizes.items():
        if any(value < 1 for value in values):
            raise ValueError(f"{name} contains {min(values)}; every size must be at least 1")


def _check_convolutions(net_config: NetworkConfiguration) -> None:
    """Raise ValueError unless the configuration describes at least one convolution."""
    sizes = {name: getattr(net_config, name) for name in ("n_channels", "kernel_sizes", "strides")}
    if len({len(values) for values in sizes.values()}) > 1:
        found = ", ".join(f"{name} {tuple(values)}" for name, values in sizes.items())
        raise ValueError(f"{found}: these must have the same length, one entry per convolution")
    if not net_config.n_channels:
        raise ValueError("n_channels is empty; it must have one entry or more")
    _check_positive(**sizes)


def _check_image_size(net_config: NetworkConfiguration, height: int, width: int) -> None:
    """Raise ValueError if images of this size are too small for the convolutions."""
    _check_convolutions(net_config)
    image = f"the {height} x {width} image"
    last = len(net_config.n_channels)
    layers = zip(net_config.kernel_sizes, net_config.strides)
    for number, (kernel_size, stride) in enumerate(layers, start=1):
        if kernel_size > min(height, width):
            raise ValueError(
                f"convolution {number} has kernels of {kernel_size} x {kernel_size} pixels, but "
                f"only {height} x {width} pixels are left of {image}"
            )
        height, width = ((side - kernel_size) // stride + 1 for side in (height, width))
        if number < last and min(height, width) < 2:
            raise ValueError(
                f"convolution {number} leaves {height} x {width} pixels of {image}; the max "
                "pooling after it needs 2 x 2"
            )
        if number < last:
            height, width = height // 2, width // 2


# ------------------------------------------------------------------------------------ command line


def plot_mae(train_logs: dict[str, list[float]], title: str, path: Path) -> None:
    """Draw the mean absolute error on the training and test images over the epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="epoch", ylabel="mean absolute error (classes)")
    for name, marker in (("train", "o"), ("test", "s")):
        values = train_logs[f"{name}_mae"]
        axes.plot(range(1, len(values) + 1), values, marker=marker, markersize=3, label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str):
        self.exit(2, f"solution.py: error: {message}\n")


# Help texts of the fields of NetworkConfiguration.
LAYERS = {
    "n_channels": "filters of each convolution",
    "kernel_sizes": "kernel size of each convolution, in pixels",
    "strides": "stride of each convolution, in pixels",
    "dense_hiddens": "units of each hidden layer",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        description="Predict the class index of images as a number.",
        epilog="example: python solution.py --network cnn --data shapes --epochs 5",
        allow_abbrev=False,
    )
    layers = NetworkConfiguration()
    parser.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file; "
        "default: cifar10",
    )
    parser.add_argument("--network", default="mlp", choices=NETWORKS, help="default: mlp")
    for name, values in layers._asdict().items():
        default = " ".join(map(str, values))
        parser.add_argument(
            f"--{name}",
            type=int,
            nargs="+",
            default=values,
            metavar="N",
            help=f"{LAYERS[name]}; default: {default}",
        )
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS, help="default: relu")
    parser.add_argument("--lr", type=float, default=0.001, metavar="X", help="default: 0.001")
    parser.add_argument(
        "--batch_size", type=int, default=128, metavar="N", help="images per batch; default: 128"
    )
    parser.add_argument("--epochs", type=int, default=50, metavar="N", help="default: 50")
    parser.add_argument(
        "--logdir",
        metavar="DIR",
        help="folder of logs.json and mae.png; default: exps/regression_NETWORK",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the logs in --logdir")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train from the command line.

    Returns:
        The exit status: 2 for an error of the user, 1 for a run that fails, 130 after Ctrl-C.
    """
    args = make_parser().parse_args(argv)
    logdir = Path(args.logdir or f"exps/regression_{args.network}")
    layers = NetworkConfiguration(*(tuple(vars(args)[n]) for n in NetworkConfiguration._fields))
    try:
        if args.epochs < 1:
            raise ValueError(f"--epochs is {args.epochs}; it must be at least 1")
        if (logdir / "logs.json").exists() and not args.overwrite:
            raise ValueError(f"{logdir} already has logs; choose another --logdir or --overwrite")
        trainer = Trainer(
            args.network, layers, args.lr, args.batch_size, args.activation, args.data
        )
        logdir.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError, NotImplementedError) as error:
        return _report(f"error: {_in_one_line(error)}", 2)
    print(f"{args.network}: {count_parameters(trainer.network):,} parameters on {trainer.device}")
    try:
        for epoch in range(1, args.epochs + 1):
            logs = trainer.train_loop(1)
            print(
                f"epoch {epoch:>2}: loss {logs['train_loss'][-1]:.4f} in training, "
                f"{logs['test_loss'][-1]:.4f} on the test images; "
                f"MAE {logs['train_mae'][-1]:.4f} and {logs['test_mae'][-1]:.4f}",
                flush=True,
            )
            if not all(math.isfinite(values[-1]) for values in logs.values()):
                return _report(f"stopped: epoch {epoch} diverged; --lr {args.lr:g} is too large")
            # After each epoch, and atomically, so that an interrupted run keeps its logs.
            text = json.dumps({"args": vars(args), **logs}, indent=1)
            (logdir / "logs.json.new").write_text(text, encoding="utf-8")
            os.replace(logdir / "logs.json.new", logdir / "logs.json")
        title = f"{args.network}, lr {args.lr:g}, {Path(args.data).stem}"
        plot_mae(logs, title, logdir / "mae.png")
    except (OSError, NotImplementedError) as error:
        return _report(f"stopped: {_in_one_line(error)}")
    except KeyboardInterrupt:
        return _report(f"stopped by Ctrl-C; the logs of finished epochs are in {logdir}", 130)
    print(f"logs.json and mae.png are in {logdir}")
    return 0


def _in_one_line(error: Exception) -> str:
    """Return the message of an error, with the file if it has one."""
    if getattr(error, "filename", None):
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _report(message: str, status: int = 1) -> int:
    """Print the program's last line to stderr and return its exit status."""
    print(f"solution.py: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
