"""The command lines of the project: one parser class, its number types, the flags of ``main.py``.

This file imports neither NumPy nor PyTorch: the benchmarks set the number of threads before both
are loaded, and the grader needs nothing but the parser.
"""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def report(program: str, message: str, status: int = 2) -> int:
    """Print the one line with which a program ends on stderr, and return its exit status.

    Args:
        program: its name.
        message: what is wrong.
        status: 2 for a mistake of the user's, which is marked as an error.
    """
    print(f"{program}: {'error: ' if status == 2 else ''}{message}", file=sys.stderr)
    return status


def reason(error: Exception) -> str:
    """Return an error in words: of a system error the file and what is wrong with it."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _number(kind: type, words: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type for argparse: the numbers of a kind that are allowed, as ``words`` says."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan  # which no comparison allows
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {words}")
        return value

    return parse


positive_int = _number(int, "whole number of 1 or more", lambda value: value >= 1)
count = _number(int, "whole number of 0 or more", lambda value: value >= 0)
seed_number = _number(int, "whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
positive = _number(float, "number above 0", lambda value: 0 < value < math.inf)
not_negative = _number(float, "number of 0 or more", lambda value: 0 <= value < math.inf)
fraction = _number(float, "number of 0 or more and less than 1", lambda value: 0 <= value < 1)


def add_data(parser: argparse._ActionsContainer, default: str | None = "cifar10") -> None:
    """Add the flags that choose the images."""
    parser.add_argument(
        "--data",
        default=default,
        metavar="SOURCE",
        help="cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file; "
        f"default: {default or 'that of the run'}",
    )
    parser.add_argument(
        "--data_dir",
        default="data" if default else None,
        metavar="DIR",
        help=f"where cifar10 is kept; default: {'data' if default else 'that of the run'}",
    )


def add_subset(parser: argparse._ActionsContainer) -> None:
    """Add the flag that leaves training images out."""
    parser.add_argument(
        "--subset",
        type=positive_int,
        metavar="N",
        help="train on N images only, for slow machines; default: all",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add the flag that chooses where to compute."""
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto"
    )


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Add the flag that chooses how precisely to multiply."""
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of the matrix products; auto: bfloat16 or float16 where the hardware has it",
    )


def make_parser() -> Parser:
    """Return the parser of ``main.py``; its groups are those of ``--help``."""
    from training.config import MODELS  # here, because this loads PyTorch

    parser = Parser(
        prog="main.py",
        description="Train an MLP, a ResNet18 or an MLP-Mixer on CIFAR-10.",
        epilog="example: python main.py --model resnet18 --epochs 15 --logdir exps/resnet18",
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to train")
    what.add_argument("--model", choices=list(MODELS), default="mlp", help="default: mlp")
    what.add_argument(
        "--model_config", metavar="FILE", help="JSON; default: model_configs/MODEL.json"
    )
    add_data(what)
    add_subset(what)
    how = parser.add_argument_group("how to train")
    how.add_argument("--epochs", type=positive_int, default=15, metavar="N", help="default: 15")
    how.add_argument(
        "--batch_size", type=positive_int, default=128, metavar="N", help="images; default: 128"
    )
    how.add_argument(
        "--optimizer",
        choices=["sgd", "momentum", "adam", "adamw"],
        default="adamw",
        help="default: adamw",
    )
    how.add_argument(
        "--lr",
        type=positive,
        default=1e-3,
        metavar="X",
        help="learning rate, the highest one with a schedule; default: 1e-3",
    )
    how.add_argument(
        "--momentum",
        type=fraction,
        default=0.9,
        metavar="X",
        help="of the optimizer of this name; default: 0.9",
    )
    how.add_argument(
        "--weight_decay", type=not_negative, default=5e-4, metavar="X", help="default: 5e-4"
    )
    how.add_argument(
        "--scheduler",
        choices=["constant", "cosine", "onecycle"],
        default="constant",
        help="of the learning rate, step by step; default: constant",
    )
    how.add_argument(
        "--label_smoothing",
        type=fraction,
        default=0.0,
        metavar="X",
        help="share of the target spread over all classes; default: 0",
    )
    how.add_argument("--seed", type=seed_number, default=42, metavar="N", help="default: 42")
    where = parser.add_argument_group("where to train")
    add_device(where)
    add_precision(where)
    where.add_argument(
        "--compile", action="store_true", help="torch.compile the model: slower start, faster steps"
    )
    results = parser.add_argument_group("results")
    results.add_argument("--logdir", metavar="DIR", help="folder of the run; default: exps/MODEL")
    results.add_argument(
        "--resume",
        nargs="?",
        choices=["must", "auto"],
        const="must",
        help="resume from the checkpoint in --logdir; with auto, start if there is none",
    )
    results.add_argument(
        "--overwrite", action="store_true", help="replace the run that is in --logdir"
    )
    results.add_argument(
        "--print_every",
        type=positive_int,
        default=80,
        metavar="N",
        help="steps between two updates of the progress bar; default: 80",
    )
    results.add_argument(
        "--visualize",
        action="store_true",
        help="draw the learning curves, and the first layer of resnet18 and mlpmixer",
    )
    results.add_argument(
        "--tensorboard",
        action="store_true",
        help="show the curves in TensorBoard during training, and the figures after it",
    )
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``main.py``; a mistake ends the program with exit status 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume continues a run, --overwrite replaces it: choose one")
    args.logdir = args.logdir or f"exps/{args.model}"
    return args
