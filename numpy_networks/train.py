"""Train the network of Question 3 and draw what Questions 3.4 to 3.6 ask for.

    python train.py --epochs 25 --logdir exps/relu_xavier_normal

Question 3.8 trains an MLP in the same way, from a file of its own:

    import sys
    from train import main

    sys.exit(main(build=MLP, name="MLP"))  # MLP() is your network
"""

import random
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

HERE = Path(__file__).resolve().parent
if not (HERE / "training").is_dir():  # it is beside this file, or one folder above
    sys.path.append(str(HERE.parent))

from training import checkpoint
from training.arguments import Parser, add_device, add_number, count, positive, seed_number
from training.device import pick_device
from training.program import Training, add_flags, read_data, run
from training.results import read_results

from figures import draw_curves, draw_feature_maps, draw_filters
from solution import Images, ResNet18, make_loaders, train_loop, valid_loop

LOGDIR = "exps/numpy_networks"
FIGURES = (
    "curves.png", "filters_first.png", "filters_last.png", "features_first.png",
    "features_last.png",
)  # fmt: skip


def make_parser(is_resnet18: bool = True) -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="train.py",
        description="Train a network and draw its curves, filters and feature maps (Question 3).",
        epilog="example: python train.py --data shapes --subset 1000 --epochs 2",
        allow_abbrev=False,
    )
    add_flags(parser, epochs=25, logdir=LOGDIR)
    add_number(parser, "--lr", positive, 1e-3, "learning rate of Adam")
    if is_resnet18:
        parser.add_argument(
            "--activation", choices=("relu", "tanh"), default="relu", help="default: relu"
        )
        parser.add_argument(
            "--initialization",
            choices=("xavier_normal", "xavier_uniform", "kaiming_normal"),
            default="xavier_normal",
            help="of the blocks; default: xavier_normal",
        )
        add_number(parser, "--image", count, 0, "validation image of the feature maps")
    add_number(parser, "--seed", seed_number, 42)
    add_device(parser)
    return parser


def main(
    argv: list[str] | None = None,
    build: Callable[[], nn.Module] | None = None,
    name: str = "ResNet-18",
) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: the arguments; those of the program by default.
        build: returns the network; a ``ResNet18`` by default.
        name: of the network, for the figures.
    """
    args = make_parser(build is None).parse_args(argv)
    data_name = {"cifar10": "CIFAR-10"}.get(args.data, Path(args.data).stem)
    trained_on = data_name + (f", {args.subset:,} images" if args.subset else "")

    def setup() -> Training:
        device = pick_device(args.device)
        train_loader, val_loader = load_images(args.data, args.data_dir, args.subset)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(args.seed)
        network = build() if build else ResNet18(args.activation, args.initialization)
        training = make_training(args, network.to(device), train_loader, val_loader)
        training.facts |= {"network": name, "data": trained_on}
        print(
            f"{name}: {training.facts['parameters']:,} parameters on {device}\n{data_name}: "
            f"{len(train_loader.dataset):,} images train, {len(val_loader.dataset):,} validate"
        )
        return training

    def draw(training: Training) -> list[Path]:
        curves, *filters_and_maps = (args.logdir / figure for figure in FIGURES)
        options = "" if build else f", {args.activation}, {args.initialization},"
        draw_curves(training.history, curves, f"{name}{options} on {trained_on}")
        print(describe(training))
        if build is not None:
            return [curves]
        first, last, *maps = filters_and_maps
        draw_filters(training.network, first, last, trained_on)
        draw_feature_maps(training.network, training.kept["vis_image"], *maps, trained_on)
        return [curves, first, last, *maps]

    return run(setup, draw)


def load_images(source: str, data_dir: str, subset: int | None) -> tuple[DataLoader, DataLoader]:
    """Return loaders of the training and validation images, the first ``subset`` of each.

    Args:
        source: "cifar10", "shapes" or the path of an ``.npz`` file.
        data_dir: folder of CIFAR-10.
        subset: number of images; None for all.

    Raises:
        ValueError, OSError: the data are wrong, or cannot be read or downloaded.
    """
    data, train = read_data(source, data_dir)
    parts = (part.first(subset or len(part)) for part in (train, data.test))
    return make_loaders(*(Images(part.images, part.labels) for part in parts))


def make_training(
    args: Namespace, network: nn.Module, train_loader: DataLoader, val_loader: DataLoader
) -> Training:
    """Return the training of a network by ``train_loop``, with Adam."""
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=args.lr)

    def run_epoch(epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        returned = train_loop(epoch, network, train_loader, criterion, optimizer)
        train_acc, train_loss = _numbers("train_loop", returned)
        seconds = time.perf_counter() - started
        returned = valid_loop(epoch, network, val_loader, criterion)
        valid_acc, valid_loss = _numbers("valid_loop", returned)
        print(
            f"epoch {epoch:>3}/{args.epochs}  train loss {train_loss:.3f} acc {train_acc:.3f}  "
            f"valid loss {valid_loss:.3f} acc {valid_acc:.3f}  {seconds:5.1f} s",
            flush=True,
        )
        return {
            "train_losses": train_loss,
            "valid_losses": valid_loss,
            "train_accs": train_acc,
            "valid_accs": valid_acc,
            "train_seconds": seconds,
        }

    training = Training(args, network, optimizer, run_epoch)
    if (index := getattr(args, "image", None)) is not None:
        if index >= len(val_loader.dataset):
            raise ValueError(f"--image is {index}; the last one is {len(val_loader.dataset) - 1}")
        training.kept["vis_image"] = val_loader.dataset[index][0]
    return training


def _numbers(loop: str, returned: Any) -> tuple[float, float]:
    """Return accuracy and loss as floats, whatever kind of number the loop returns."""
    try:
        accuracy, loss = (float(torch.as_tensor(number).detach()) for number in returned)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{loop} returns {returned!r:.80}; expected (accuracy, loss)") from error
    return accuracy, loss


def describe(training: Training) -> str:
    """Return the numbers that Questions 3.7 and 3.8 ask for, as lines for the terminal."""
    facts, history = training.facts, training.history
    losses, accuracies = history["valid_losses"], history["valid_accs"]
    lines = [
        f"{facts['network']}: {facts['parameters']:,} parameters, {len(losses)} epochs, "
        f"{sum(history['train_seconds']):,.0f} s of training"
    ]
    for which, index in (("last", len(losses) - 1), ("best", int(np.argmax(accuracies)))):
        lines.append(
            f"{which} epoch, {index + 1}: validation loss {losses[index]:.4f}, "
            f"accuracy {accuracies[index]:.4f}"
        )
    return "\n".join(lines)


def load_model(logdir: str | Path) -> tuple[ResNet18, Tensor]:
    """Return the trained network of a run and the image of its feature maps.

    Args:
        logdir: folder of a run with a ``ResNet18``, finished or not.

    Returns:
        The network after the last finished epoch, on the CPU, and ``vis_image``, (3, 32, 32).

    Raises:
        ValueError, OSError: the folder does not hold such a run.
    """
    arguments = read_results(logdir)["args"]
    state = checkpoint.load_checkpoint(Path(logdir) / checkpoint.CHECKPOINT, {})
    network = ResNet18(arguments["activation"], arguments["initialization"])
    network.load_state_dict(state["network"])
    return network.eval(), state["vis_image"]


if __name__ == "__main__":
    sys.exit(main())
