"""The command line of the benchmarks.

    python -m benchmarks training --json training.json --figure training.png
    python -m benchmarks numpy_layers --repeats 15 --json numpy_layers.json

A benchmark is a module of this folder with three functions: ``add_arguments(parser)`` adds the
flags of its own, ``measure(args)`` returns results that JSON can hold, ``to_table(results)`` makes
a text of them. With a fourth, ``draw(results)``, it has a figure.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import textwrap
from pathlib import Path
from types import ModuleType

from benchmarks.arguments import Parser, new_file, new_png, positive_int

BENCHMARKS = {
    "training": "an epoch, its parts and its memory, against the usual way",
    "growth": "an epoch with more images and with larger batches",
    "accuracy": "what networks learn, against the usual way",
    "numpy_layers": "the NumPy layers of numpy_networks, against PyTorch's and plain loops",
}
THREADS = {"numpy_layers": 1}  # all cores where nothing is said


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the defaults to the help, but for None: that means something else with each flag."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def make_parser(name: str | None = None, benchmark: ModuleType | None = None) -> Parser:
    """Return the parser of the command line, complete for the one benchmark that is imported."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Measure how long something takes, and what it costs.",
        epilog="python -m benchmarks BENCHMARK --help says more",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for command, words in BENCHMARKS.items():
        sub = commands.add_parser(
            command,
            help=words,
            description=f"Measure {words}.",
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        if command == name and benchmark is not None:
            benchmark.add_arguments(sub)
            _add_threads(sub, command)
            sub.add_argument(
                "--json", type=new_file, metavar="FILE", help="write all measurements, too"
            )
            if hasattr(benchmark, "draw"):
                sub.add_argument(
                    "--figure", type=new_png, metavar="FILE.png", help="draw them, too"
                )
    return parser


def _add_threads(parser: argparse.ArgumentParser, name: str | None) -> None:
    parser.add_argument(
        "--threads",
        type=positive_int,
        default=THREADS.get(name or ""),
        metavar="N",
        help="of NumPy and of PyTorch" + ("" if name in THREADS else " (default: all cores)"),
    )


def main(argv: list[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        The exit status: 2 for a mistake of the user's, 1 for a benchmark that cannot go on, 130
        after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    name = argv[0] if argv and argv[0] in BENCHMARKS else None
    # Ahead of all others, because NumPy's library for matrix products reads its number of threads
    # once, when it is loaded.
    early = Parser(add_help=False, allow_abbrev=False)
    _add_threads(early, name)
    threads = early.parse_known_args(argv)[0].threads
    if threads is not None:
        for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
            os.environ[f"{library}_NUM_THREADS"] = str(threads)
    try:  # only the one: another may need a library that is not there
        benchmark = importlib.import_module(f"benchmarks.{name}") if name else None
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        return _say(f"error: {error}; pip install -r requirements.txt installs what it needs", 2)
    parser = make_parser(name, benchmark)
    args = parser.parse_args(argv)
    if benchmark is None:
        parser.error("the name of the benchmark must be the first argument")

    import numpy
    import torch

    from training.device import is_out_of_memory, processor_name

    if threads is not None:
        torch.set_num_threads(threads)
    machine = {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }
    arguments = {key: _to_json(value) for key, value in vars(args).items() if key != "benchmark"}
    try:
        measured = benchmark.measure(args)
    except (ValueError, OSError) as error:
        return _say(f"error: {error}", 2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _say("stopped: out of memory", 1)
    except KeyboardInterrupt:
        return _say("stopped by Ctrl-C", 130)
    results = {"benchmark": args.benchmark, **machine, "arguments": arguments, **measured}
    print(textwrap.fill(", ".join(f"{key} {value}" for key, value in machine.items()), width=80))
    print(benchmark.to_table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if getattr(args, "figure", None):
        benchmark.draw(results).savefig(args.figure, dpi=150)
    return 0


def _to_json(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _say(message: str, status: int) -> int:
    """Print the one line with which the program ends, and return its exit status."""
    print(f"benchmarks: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
