"""The command line of the benchmarks.

    python -m benchmarks training --json training.json --figure training.png
    python -m benchmarks numpy_layers --repeats 15 --json numpy_layers.json

A benchmark is a module of this folder with three functions: ``add_arguments(parser)`` adds its
flags, ``measure(args)`` returns results that JSON can hold, ``to_table(results)`` returns them as
text. An optional fourth, ``draw(results)``, returns a figure.
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

from training.arguments import Parser, add_number, positive_int, reason, report

BENCHMARKS = {
    "training": "the time of an epoch and of its parts, and the memory, against the baseline",
    "growth": "the time of an epoch with more images and with larger batches",
    "accuracy": "the accuracy after training, against the baseline",
    "reproduce": "the accuracies in the README, with defaults and best settings",
    "grading": "the time and the memory of grading a submission",
    "numpy_layers": "the NumPy layers of numpy_networks, against PyTorch's and plain loops",
}
THREADS = {"numpy_layers": 1}  # default: all cores
PROGRAM = "python -m benchmarks"


def make_parser(name: str | None = None, benchmark: ModuleType | None = None) -> Parser:
    """Return the parser of the command line, complete for the benchmark that is imported."""
    parser = Parser(
        prog=PROGRAM,
        description="Measure speed, memory or accuracy.",
        epilog=f"{PROGRAM} BENCHMARK --help lists the flags of a benchmark",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for command, words in BENCHMARKS.items():
        sub = commands.add_parser(
            command, help=words, description=f"Measure {words}.", allow_abbrev=False
        )
        if command == name and benchmark is not None:
            benchmark.add_arguments(sub)
            _add_threads(sub, command)
            sub.add_argument(
                "--json", type=_new_file, metavar="FILE", help="file for all measurements"
            )
            if hasattr(benchmark, "draw"):
                sub.add_argument(
                    "--figure", type=_new_png, metavar="FILE.png", help="file for a figure"
                )
    return parser


def _add_threads(parser: argparse.ArgumentParser, name: str) -> None:
    default = THREADS.get(name)
    words = "of NumPy and PyTorch" + ("" if default else "; default: all cores")
    add_number(parser, "--threads", positive_int, default, words)


def _new_file(text: str) -> Path:
    """Read the path of a file that can be written: after minutes of measuring it is too late."""
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    return path


def _new_png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return _new_file(text)


def main(argv: list[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        The exit status: 2 for a mistake of the user's, 1 for a benchmark that cannot continue, 130
        after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in BENCHMARKS:
        parser = make_parser()
        parser.parse_args(argv)  # ends with the help or a mistake
        parser.error("the name of the benchmark must be the first argument")
    name, program = argv[0], f"{PROGRAM} {argv[0]}"
    # Read before the imports: the BLAS library of NumPy reads its number of threads when it loads.
    early = Parser(prog=program, add_help=False, allow_abbrev=False)
    _add_threads(early, name)
    threads = early.parse_known_args(argv)[0].threads
    if threads is not None:
        for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
            os.environ[f"{library}_NUM_THREADS"] = str(threads)
    try:  # only this one: another may need a library that is not installed
        benchmark = importlib.import_module(f"benchmarks.{name}")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision for another torch
        return report(program, f"{error}; pip install -r requirements.txt installs what it needs")
    args = make_parser(name, benchmark).parse_args(argv)

    import numpy
    import torch

    from training.device import is_out_of_memory, processor_name
    from training.progress import Diverged

    if threads is not None:
        torch.set_num_threads(threads)
    machine = {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }
    try:
        measured = benchmark.measure(args)
    except (ValueError, OSError) as error:
        return report(program, reason(error))
    except Diverged as error:
        return report(program, f"stopped: {error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return report(program, "stopped: out of memory", 1)
    except KeyboardInterrupt:
        return report(program, "stopped by Ctrl-C", 130)
    arguments = {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()}
    del arguments["benchmark"]
    results = {"benchmark": name, **machine, "arguments": arguments, **measured}
    print(textwrap.fill(", ".join(f"{key} {value}" for key, value in machine.items()), width=80))
    print(benchmark.to_table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if getattr(args, "figure", None):
        benchmark.draw(results).savefig(args.figure, dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
