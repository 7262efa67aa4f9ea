"""The accuracies of the README from nothing: every run, one after the other, and the table.

The settings were chosen on the validation images. An interrupted command resumes when it is
repeated; a finished run is not trained again. Each run leaves a file in ``results/``: its
``results.json`` with the command and the commit. ``--table`` prints the table of these files.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import main
from benchmarks import common
from training import figures
from training.arguments import add_data, add_device, add_precision, parse_args
from training.config import MODELS
from training.data import load_data
from training.files import write_json
from training.results import RESULTS, read_results

ROOT = Path(__file__).parents[1]
STEPS = 5  # timed for the estimate
COMMIT = "commit.txt"  # in the folder of a run: the commit that started it
WHERE = ("data", "data_dir", "logdir")  # arguments that mean nothing on another machine
HEADER = [
    "model", "settings", "epochs", "seeds", "validation accuracy", "test accuracy",
    "test accuracy in reports", "fastest epoch, s", "precision, hardware",
]  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A row of the table.

    Attributes:
        name: of its files.
        title, settings: the first two cells.
        reported: the test accuracies in reports of the course.
        flags: of ``main.py``.
        seeds: one run for each.
    """

    name: str
    title: str
    settings: str
    reported: str
    flags: str
    seeds: tuple[int, ...] = (42,)

    def command(self, seed: int) -> str:
        """Return the command of a run."""
        return f"python main.py {self.flags} --seed {seed}"


THREE = (42, 43, 44)
ONECYCLE = "--scheduler onecycle --label_smoothing 0.1"
TRAININGS = (
    Training("mlp", "MLP", "default", "0.554", "--model mlp", THREE),
    Training(
        "mlp_best", "MLP", "best", "", f"--model mlp --epochs 40 {ONECYCLE} --cutout 8", THREE
    ),
    Training("mlpmixer", "MLP-Mixer", "default", "0.755", "--model mlpmixer"),
    Training(
        "mlpmixer_best",
        "MLP-Mixer",
        "best",
        "0.779",
        f"--model mlpmixer --epochs 40 {ONECYCLE} --weight_decay 0.05 --cutout 8 --mixup 0.2",
    ),
    Training(
        "resnet18_best",
        "ResNet18",
        "best",
        "0.868, 0.902",
        f"--model resnet18 --epochs 18 --optimizer momentum --lr 0.1 {ONECYCLE} --crop padded "
        "--cutout 8",
    ),
    Training("resnet18", "ResNet18", "default", "0.837", "--model resnet18"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.epilog = "example: python -m benchmarks reproduce --only mlp mlp_best --data cifar10"
    names = [training.name for training in TRAININGS]
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"of {', '.join(names)}; default: all, in this order",
    )
    words = "train nothing: print the table of the files in --results"
    parser.add_argument("--table", action="store_true", help=words)
    words = "folder of the files that the table is made from; default: results"
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help=words)
    words = "folder of the runs; default: exps/reproduce"
    parser.add_argument(
        "--runs", type=Path, default=Path("exps/reproduce"), metavar="DIR", help=words
    )
    add_data(parser)
    add_device(parser)
    add_precision(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train what is not trained yet, and read the results.

    Returns:
        ``runs``: by the name of the training, the content of the files of its seeds.

    Raises:
        ValueError, OSError: the device, the precision or the data is not available, or a file
            cannot be read or written.
        SystemExit: a run has ended early; it has said why.
    """
    chosen = [training for training in TRAININGS if training.name in args.only]
    runs = [(training, seed) for training in chosen for seed in training.seeds]
    if not args.table:
        left = [run for run in runs if not _file(*run, args.results).exists()]
        print(describe_time(left, args), flush=True)
        for run in left:
            train(*run, args)
    results: dict[str, list[dict[str, Any]]] = {}
    for training, seed in runs:
        if (path := _file(training, seed, args.results)).exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            results.setdefault(training.name, []).append(content)
    return {"runs": results}


def _file(training: Training, seed: int, folder: Path) -> Path:
    return folder / f"{training.name}-{seed}.json"


def _arguments(training: Training, seed: int, args: argparse.Namespace) -> list[str]:
    """Return the command line of a run."""
    flags = {name: getattr(args, name) for name in ("data", "data_dir", "device", "precision")}
    flags |= {"seed": seed, "logdir": args.runs / f"{training.name}-{seed}"}
    return training.flags.split() + [f"--{name}={value}" for name, value in flags.items()]


def describe_time(left: Iterable[tuple[Training, int]], args: argparse.Namespace) -> str:
    """Return a line per run and one for all: how long they will take, from a few timed steps."""
    lines, total = [], 0.0
    seconds: dict[str, float] = {}
    for training, seed in left:
        if training.flags not in seconds:
            common.show(f"timing {training.name}")
            seconds[training.flags] = _seconds_per_epoch(training, args)
        run = parse_args(_arguments(training, seed, args))
        done = 0
        if Path(run.logdir, RESULTS).exists():
            done = len(read_results(run.logdir)["valid_accs"])
        duration = (run.epochs - done) * seconds[training.flags]
        total += duration
        epochs = f"{run.epochs - done} of {run.epochs} epochs"
        lines.append(f"{training.name}, seed {seed}: {epochs}, about {duration / 60:,.0f} min")
    common.show("")
    return "\n".join([*lines, f"about {total / 3600:,.1f} h in all"])


def _seconds_per_epoch(training: Training, args: argparse.Namespace) -> float:
    """Return the time of an epoch: that of a few steps, after as many to warm up."""
    images = len(load_data(args.data, args.data_dir).train)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        arguments = [*_arguments(training, 42, args), "--logdir", folder]
        timed = min(images, STEPS * parse_args(arguments).batch_size)
        run = main.setup(parse_args([*arguments, "--subset", str(timed)]))
        for _ in range(2):
            started = time.perf_counter()
            common.train(run, run.train_batches)
            elapsed = time.perf_counter() - started
        run.close()
    return elapsed * images / timed


def train(training: Training, seed: int, args: argparse.Namespace) -> None:
    """Train, or resume, and write the file of the run.

    Raises:
        SystemExit: the run has ended early; it has said why.
    """
    arguments = _arguments(training, seed, args)
    folder = Path(parse_args(arguments).logdir)
    folder.mkdir(parents=True, exist_ok=True)
    commit = folder / COMMIT
    if not commit.exists():
        commit.write_text(_describe_commit() + "\n", encoding="utf-8")
    if status := main.main([*arguments, "--resume", "auto"]):
        raise SystemExit(status)
    args.results.mkdir(parents=True, exist_ok=True)
    results = read_results(folder)
    for name in WHERE:
        del results["args"][name]
    origin = {"command": training.command(seed), "commit": commit.read_text("utf-8").strip()}
    write_json(_file(training, seed, args.results), origin | results)


def _describe_commit() -> str:
    """Return the hash of the commit, with "-dirty" if files have changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.check_output(
            command, cwd=ROOT, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def to_table(results: dict[str, Any]) -> str:
    """Return the table of the README and the commands of its rows."""
    return f"{to_markdown(results)}\n\n{to_commands(results)}"


def to_markdown(results: dict[str, Any]) -> str:
    """Return the table, a row per training: means and standard deviations over the seeds.

    The time is that of the fastest epoch, since other programs may have run during the others.
    """
    rows = [HEADER, ["---"] * len(HEADER)]
    for training in TRAININGS:
        if not (runs := results["runs"].get(training.name)):
            continue
        seconds = [value for run in runs for value in run["train_seconds"]]
        row = [
            training.title,
            training.settings,
            str(len(runs[0]["valid_accs"])),
            str(len(runs)),
            _mean([max(run["valid_accs"]) for run in runs]),
            _mean([run["test_acc"] for run in runs]),
            training.reported,
            f"{min(seconds):.1f}",
            "; ".join(sorted({f"{run['precision']}, {run['device']}" for run in runs})),
        ]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def to_commands(results: dict[str, Any]) -> str:
    """Return the command of every row, with the seed of its first run."""
    found = (results["runs"].get(training.name) for training in TRAININGS)
    return "\n".join(runs[0]["command"] for runs in found if runs)


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def draw(results: dict[str, Any]) -> Figure:
    """Return the validation accuracy over the epochs, of the defaults and of the best settings."""
    figure = figures.new_figure(2.8, "Validation accuracy on CIFAR-10, a line per seed")
    for ax, settings in zip(figure.subplots(1, 2, sharey=True), ("default", "best")):
        for training in (t for t in TRAININGS if t.settings == settings):
            look = figures.look(list(MODELS).index(parse_args(training.flags.split()).model))
            for number, run in enumerate(results["runs"].get(training.name, [])):
                accuracies = 100 * np.array(run["valid_accs"])
                label = training.title if number == 0 else None
                ax.plot(range(1, len(accuracies) + 1), accuracies, **look, ms=3, lw=1, label=label)
        figures.style(
            ax, f"{settings} settings", x="epoch", y="accuracy (%)" if settings == "default" else ""
        )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if ax.lines:
            ax.legend(fontsize=figures.FONT - 1)
    return figure
