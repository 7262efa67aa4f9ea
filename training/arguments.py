"""The command lines of the project: one parser class, its number types, the flags of ``main.py``.

This file imports neither NumPy nor PyTorch: the benchmarks set the number of threads before both
are loaded, and the grader needs nothing but the parser.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.match("unrecognized arguments: (-[^ =]+)", message):
            similar = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
            message += "".join(f"; did you mean {flag}?" for flag in similar)
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


def add_number(
    group: argparse._ActionsContainer,
    flag: str,
    kind: Callable[[str], float],
    default: float | None,
    words: str = "",
    **options: Any,
) -> None:
    """Add a flag whose value is a number; its help ends with the default, unless that is None.

    Args:
        group: of the parser.
        flag: with its two hyphens.
        kind: one of the number types above.
        default: of the value.
        words: what the number is.
        options: of ``add_argument``, such as ``metavar``.
    """
    if default is not None:
        words = f"{words}; default: {default}".removeprefix("; ")
    options = {"metavar": "X" if isinstance(default, float) else "N"} | options
    group.add_argument(flag, type=kind, default=default, help=words, **options)


def add_data(group: argparse._ActionsContainer, default: str | None = "cifar10") -> None:
    """Add the flags that choose the images; without a default it is that of the run."""
    sources = "cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file"
    folder = "data" if default else None
    for flag, value, metavar, words in (
        ("--data", default, "SOURCE", sources),
        ("--data_dir", folder, "DIR", "where cifar10 is kept"),
    ):
        words += f"; default: {value or 'that of the run'}"
        group.add_argument(flag, default=value, metavar=metavar, help=words)


def add_subset(group: argparse._ActionsContainer) -> None:
    """Add the flag that leaves training images out."""
    words = "train on N images only, for slow machines; default: all"
    add_number(group, "--subset", positive_int, None, words)


def add_device(group: argparse._ActionsContainer) -> None:
    """Add the flag that chooses where to compute."""
    words = "auto, cpu, cuda, cuda:N or mps; default: auto"
    group.add_argument("--device", default="auto", help=words)


def add_precision(group: argparse._ActionsContainer) -> None:
    """Add the flag that chooses how precisely to multiply."""
    group.add_argument(
        "--precision",
        choices=["auto", "float32", "tf32", "bfloat16", "float16"],
        default="auto",
        help="of the matrix products; auto: the fastest on this device, as measured",
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
    words = "JSON; default: model_configs/MODEL.json"
    what.add_argument("--model_config", metavar="FILE", help=words)
    add_data(what)
    add_subset(what)
    how = parser.add_argument_group("how to train")
    add_number(how, "--epochs", positive_int, 15)
    add_number(how, "--batch_size", positive_int, 128, "images")
    optimizers = ["sgd", "momentum", "adam", "adamw"]
    how.add_argument("--optimizer", choices=optimizers, default="adamw", help="default: adamw")
    add_number(how, "--lr", positive, 1e-3, "learning rate, the highest one with a schedule")
    add_number(how, "--momentum", fraction, 0.9, "of the optimizer of this name")
    add_number(how, "--weight_decay", not_negative, 5e-4)
    how.add_argument(
        "--scheduler",
        choices=["constant", "cosine", "onecycle"],
        default="constant",
        help="of the learning rate, step by step; default: constant",
    )
    words = "share of the target spread over all classes"
    add_number(how, "--label_smoothing", fraction, 0.0, words)
    add_number(how, "--seed", seed_number, 42)
    images = parser.add_argument_group("augmentation of the training images")
    images.add_argument(
        "--crop",
        choices=["resized", "padded"],
        default="resized",
        help="80 to 100 %% of the area, resized to 32 x 32 pixels; or 32 x 32 pixels of the image "
        "padded by 4; default: resized",
    )
    words = "side of the square that Cutout covers, pixels"
    add_number(images, "--cutout", count, 0, words)
    words = "alpha of mixup, which trains on mixtures of two images"
    add_number(images, "--mixup", not_negative, 0.0, words)
    where = parser.add_argument_group("where to train")
    add_device(where)
    add_precision(where)
    words = "torch.compile the model: slower start, faster steps"
    where.add_argument("--compile", action="store_true", help=words)
    results = parser.add_argument_group("results")
    results.add_argument("--logdir", metavar="DIR", help="folder of the run; default: exps/MODEL")
    results.add_argument(
        "--resume",
        nargs="?",
        choices=["must", "auto"],
        const="must",
        help="resume from the checkpoint in --logdir; with auto, start if there is none",
    )
    words = "replace the run that is in --logdir"
    results.add_argument("--overwrite", action="store_true", help=words)
    words = "steps between two updates of the progress bar"
    add_number(results, "--print_every", positive_int, 80, words)
    words = "draw the learning curves, and the first layer of resnet18 and mlpmixer"
    results.add_argument("--visualize", action="store_true", help=words)
    words = "show the curves in TensorBoard during training, and the figures after it"
    results.add_argument("--tensorboard", action="store_true", help=words)
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of ``main.py``; a mistake ends the program with exit status 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume continues a run, --overwrite replaces it: choose one")
    args.logdir = args.logdir or f"exps/{args.model}"
    return args
