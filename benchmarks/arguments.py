"""What the command lines of the benchmarks share; it imports neither NumPy nor PyTorch."""

import argparse
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: error: {message}\n")


def positive_int(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def new_file(text: str) -> Path:
    """Read the path of a file that can be written: minutes later would be late to find out."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    return path


def new_png(text: str) -> Path:
    """Read the path of a PNG that can be written."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return new_file(text)


def add_data(parser: argparse.ArgumentParser, default: str) -> None:
    """Add where the images come from, in the words of ``main.py``."""
    parser.add_argument(
        "--data",
        default=default,
        metavar="SOURCE",
        help="cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file",
    )
    parser.add_argument("--data_dir", default="data", metavar="DIR", help="where cifar10 is kept")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add on what to train, and how precisely, in the words of ``main.py``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of this project's matrix products; the usual way is float32",
    )
