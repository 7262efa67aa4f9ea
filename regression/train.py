"""Train a network of the regression assignment from the command line.

python train.py --network mlp --dense_hiddens 128 128 --lr 1e-4 --epochs 50
"""

import sys
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.data import DataLoader

HERE = Path(__file__).resolve().parent
if not (HERE / "training").is_dir():  # it is beside this file, or one folder above
    sys.path.append(str(HERE.parent))

from training.arguments import Parser, add_number, positive, positive_int
from training.program import Training, add_flags, read_data, run

from solution import ACTIVATIONS, NETWORKS, SEED, Images, NetworkConfiguration, Trainer

# Help texts of the fields of NetworkConfiguration.
LAYERS = {
    "n_channels": "filters of each convolution",
    "kernel_sizes": "kernel size of each convolution, in pixels",
    "strides": "stride of each convolution, in pixels",
    "dense_hiddens": "units of each hidden layer",
}


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="train.py",
        description="Predict the class index of images as a number.",
        epilog="example: python train.py --network cnn --data shapes --epochs 5",
        allow_abbrev=False,
    )
    add_flags(parser, epochs=50, logdir="exps/regression")
    parser.add_argument("--network", default="mlp", choices=NETWORKS, help="default: mlp")
    for name, values in NetworkConfiguration()._asdict().items():
        default = " ".join(map(str, values))
        parser.add_argument(
            f"--{name}",
            type=positive_int,
            nargs="+",
            default=values,
            metavar="N",
            help=f"{LAYERS[name]}; default: {default}",
        )
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS, help="default: relu")
    add_number(parser, "--lr", positive, 1e-3, "learning rate of Adam")
    add_number(parser, "--batch_size", positive_int, 128, "images per batch")
    return parser


def make_trainer(
    source: str = "cifar10", data_dir: str = "data", subset: int | None = None, **options: Any
) -> Trainer:
    """Return a ``Trainer`` on other images than all of CIFAR-10.

    Args:
        source: "cifar10", "shapes" or the path of an ``.npz`` file.
        data_dir: folder of CIFAR-10.
        subset: number of training images; None for all.
        options: arguments of ``Trainer``.

    Raises:
        ValueError, OSError: the data are wrong, or cannot be read or downloaded.
    """
    data, split = read_data(source, data_dir)
    train = split.first(subset or len(split))

    class OnData(Trainer):
        @staticmethod
        def load_dataset(self: Trainer) -> tuple[DataLoader, DataLoader]:
            parts = (Images(part.images, part.labels) for part in (train, data.test))
            return self.make_loaders(*parts)

    return OnData(**options)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = make_parser().parse_args(argv)

    def setup() -> Training:
        layers = (tuple(getattr(args, name)) for name in NetworkConfiguration._fields)
        options = {
            "network_type": args.network,
            "net_config": NetworkConfiguration(*layers),
            "lr": args.lr,
            "batch_size": args.batch_size,
            "activation_name": args.activation,
        }
        if args.network == "cnn":
            check_layers(options["net_config"])
        trainer = make_trainer(args.data, args.data_dir, args.subset, **options)

        def run_epoch(epoch: int) -> dict[str, float]:
            started = time.perf_counter()
            logs = trainer.train_loop(1)
            seconds = time.perf_counter() - started
            numbers = {name: values[-1] for name, values in logs.items()}
            print(
                f"epoch {epoch:>3}/{args.epochs}  "
                f"train loss {numbers['train_loss']:.3f} MAE {numbers['train_mae']:.3f}  "
                f"test loss {numbers['test_loss']:.3f} MAE {numbers['test_mae']:.3f}  "
                f"{seconds:5.1f} s",
                flush=True,
            )
            return {**numbers, "train_seconds": seconds}

        data_name = {"cifar10": "CIFAR-10"}.get(args.data, Path(args.data).stem)
        trained_on = data_name + (f", {args.subset:,} images" if args.subset else "")
        facts = {"seed": SEED, "data": trained_on}
        training = Training(args, trainer.network, trainer.optimizer, run_epoch, facts)
        print(f"{args.network}: {training.facts['parameters']:,} parameters on {trainer.device}")
        return training

    def draw(training: Training) -> list[Path]:
        path = args.logdir / "mae.png"
        facts = training.facts
        network = f"{args.network.upper()}, {facts['parameters']:,} parameters"
        draw_mae(training.history, f"{network}, lr {args.lr:g}, {facts['data']}", path)
        return [path]

    return run(setup, draw)


def check_layers(layers: NetworkConfiguration, side: int = 32) -> None:
    """Raise ValueError unless images of ``side`` x ``side`` pixels fit through the convolutions."""
    lengths = {name: len(getattr(layers, name)) for name in list(LAYERS)[:3]}
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"--{name} {number}" for name, number in lengths.items())
        raise ValueError(f"the flags need as many numbers each: {words}")
    for number, (kernel_size, stride) in enumerate(zip(layers.kernel_sizes, layers.strides), 1):
        if kernel_size > side:
            words = f"convolution {number} has kernels of {kernel_size} x {kernel_size} pixels"
            raise ValueError(f"{words}; {side} x {side} are left of the image")
        side = (side - kernel_size) // stride + 1
        if number < len(layers.strides):
            side //= 2  # max pooling


def draw_mae(history: dict[str, list[float]], title: str, path: Path) -> None:
    """Draw the mean absolute error on the training and test images over the epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="epoch", ylabel="mean absolute error (classes)")
    for name, marker in (("train", "o"), ("test", "s")):
        values = history[f"{name}_mae"]
        axes.plot(range(1, len(values) + 1), values, marker=marker, markersize=3, label=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
