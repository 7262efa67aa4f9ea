"""The command line of the benchmarks.

    python -m benchmarks numpy_layers --repeats 15 --json numpy_layers.json

A benchmark is a module of this folder with two functions: ``measure(repeats)`` returns results that
JSON can hold, ``to_table(results)`` makes a text of them.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one line, without the usage in front of it."""

    def error(self, message: str):
        self.exit(2, f"benchmarks: error: {message}\n")


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    parser = _Parser(
        prog="python -m benchmarks",
        description="Measure how long something takes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("benchmark", choices=names, help="what to measure")
    parser.add_argument("--repeats", type=_positive_int, default=15, metavar="N", help="of each")
    parser.add_argument(
        "--threads", type=_positive_int, default=1, metavar="N", help="of NumPy and of PyTorch"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run from the command line and return the exit status: 2 for a mistake in the arguments."""
    args = make_parser().parse_args(argv)
    if args.json and not args.json.absolute().parent.is_dir():
        print(f"benchmarks: error: --json: {args.json.parent} is not a folder", file=sys.stderr)
        return 2
    # NumPy's library for matrix products reads these once, when it is loaded.
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    import numpy
    import torch

    torch.set_num_threads(args.threads)
    benchmark = importlib.import_module(f"benchmarks.{args.benchmark}")
    machine = {
        "processor": _processor(),
        "threads": args.threads,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
    }
    results = {"benchmark": args.benchmark, "repeats": args.repeats, **machine}
    results |= benchmark.measure(args.repeats)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(benchmark.to_table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _processor() -> str:
    """Return the model of the processor, as far as the system says it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
