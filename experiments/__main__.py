"""The command line of the experiments; ``python -m experiments --help`` shows it."""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.execute import Executor, Local, pick_precision, run_all
from experiments.groups import read_groups
from experiments.plan import (
    QUICK,
    Experiment,
    Settings,
    choose,
    load_experiments,
    read_finished,
    recall,
    reduce_data,
    remember,
)
from experiments.report import write_report
from experiments.wanted import runs_wanted
from training import interrupt
from training.arguments import (
    Parser,
    add_data,
    add_device,
    add_number,
    add_subset,
    count,
    positive_int,
    reason,
    report,
)
from training.data import load_data

PROGRAM = "python -m experiments"
FIRST_SEED = 42


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=PROGRAM,
        description="The experiments of the reports: train, draw, write.",
        epilog="example: python -m experiments run nonlinearity --seeds 3 && "
        "python -m experiments report",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="show all experiments")

    run = commands.add_parser(
        "run",
        help="train the runs that are not finished",
        epilog="example: python -m experiments run learning_rate patch_size --seeds 3 --jobs 2",
        allow_abbrev=False,
    )
    run.add_argument("names", nargs="+", metavar="NAME", help="an experiment, or all")
    what = run.add_argument_group("what to train on, and for how long")
    what.add_argument(
        "--preset",
        choices=["quick"],
        help="quick: 300 images of shapes, 2 epochs, 3 trials, unless set otherwise",
    )
    add_data(what)
    run.set_defaults(data=None)  # a preset has another default
    add_subset(what)
    add_number(what, "--epochs", positive_int, None, "default: each experiment's own")
    words = f"train each run N times, with the seeds from {FIRST_SEED}"
    add_number(what, "--seeds", positive_int, 1, words)
    add_number(what, "--trials", positive_int, None, "of a search; default: 20")
    where = run.add_argument_group("where")
    add_device(where)
    add_number(where, "--jobs", positive_int, 1, "runs at once")
    where.add_argument(
        "--cluster", choices=["slurm"], help="submit a job array, of which --jobs run at once"
    )
    where.add_argument(
        "--partition", metavar="NAME", help="of the cluster; default: the cluster's own"
    )
    add_number(where, "--time", positive_int, 180, "of a job", metavar="MINUTES")
    add_number(where, "--gpus", count, 1, "per job")
    _add_output(run)

    write = commands.add_parser(
        "report",
        help="write report.pdf and report.md",
        epilog="example: python -m experiments report learning_rate patch_size",
        allow_abbrev=False,
    )
    write.add_argument("names", nargs="*", metavar="NAME", help="default: all that have been run")
    words = "of your own, to which the best first layers are applied"
    write.add_argument("--image", metavar="FILE", help=words)
    _add_output(write)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", default="exps", metavar="DIR", help="of all runs, and the report; default: exps"
    )


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; the exit statuses are those of ``main.py``."""
    args = make_parser().parse_args(argv)
    try:
        with interrupt.raised():
            return {"list": _list, "run": _run, "report": _report}[args.command](args)
    except interrupt.Interrupted as interruption:
        message = f"stopped by {interruption}; the same command resumes the runs"
        return report(PROGRAM, message, interruption.status)
    except ModuleNotFoundError as error:
        if error.name not in ("optuna", "submitit", "typst"):
            raise
        install = "pip install -r experiments/requirements.txt"
        return report(PROGRAM, f"{error.name} is missing: {install}")
    except (OSError, ValueError) as error:
        return report(PROGRAM, reason(error))


def _list(args: argparse.Namespace) -> int:
    for name, experiment in load_experiments().items():
        number = len(experiment.runs)
        runs = "a search" if experiment.is_search else f"{number} run{'s' * (number != 1)}"
        print(f"{name} ({runs})")
        print(
            textwrap.fill(experiment.question, 79, initial_indent="    ", subsequent_indent="    ")
        )
    return 0


def _run(args: argparse.Namespace) -> int:
    experiments = choose(args.names)
    settings = _settings(args)
    _check_data(experiments, settings)
    earlier = {saved.precision for saved in recall(args.output).values()} - {"auto"}
    device, previous = settings.device, min(earlier, default=None)
    do: Executor
    if args.cluster:
        from experiments.cluster import Cluster  # only clusters need submitit

        do = Cluster(settings, args.jobs, args.partition, args.time, args.gpus)
        precision = do.pick_precision(device, previous)
    else:
        do, precision = Local(args.jobs), pick_precision(device, previous)
    print(f"precision: {precision.describe()}", flush=True)
    settings = replace(settings, precision=str(precision))
    remember(experiments, settings)
    outcome = run_all(experiments, settings, do, workers=args.jobs)
    _print_table(experiments, settings)
    for title, error in outcome.failed.items():
        print(f"failed: {title}: {error}", file=sys.stderr)
    print(f"{len(outcome.done)} done, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


def _settings(args: argparse.Namespace) -> Settings:
    """Return the settings; the command line takes precedence over a preset."""
    preset = QUICK if args.preset else {}
    own = {
        key: value
        for key in ("data", "subset", "epochs", "trials")
        if (value := getattr(args, key)) is not None
    }
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + args.seeds))
    settings = Settings(output=args.output, data_dir=args.data_dir, device=args.device, seeds=seeds)
    settings = replace(settings, **{**preset, **own})
    if args.preset:
        settings = reduce_data(settings)
    if settings.data.endswith(".npz"):  # jobs of a cluster may start elsewhere
        settings = replace(settings, data=os.path.abspath(settings.data))
    return settings


def _check_data(experiments: Sequence[Experiment], settings: Settings) -> None:
    """Raise ValueError if finished runs were trained on other images than those of ``--data``."""
    data = load_data(settings.data, settings.data_dir)
    if settings.subset and settings.subset > len(data.train):
        raise ValueError(f"--subset is {settings.subset}; {data.name} has {len(data.train)}")
    for experiment in experiments:
        for run in (run for group in runs_wanted(experiment, settings).values() for run in group):
            results = read_finished(run)
            if results is not None and results["data"]["sha256"] != data.sha256:
                raise ValueError(
                    f"{run.folder} was trained on other images than {settings.data} now holds; "
                    "choose another --output, or delete it"
                )


def _print_table(experiments: Sequence[Experiment], settings: Settings) -> None:
    """Print the results, one line per group."""
    for experiment in experiments:
        print(f"\n{experiment.name}: {experiment.question}")
        for group in read_groups(experiment, settings, runs_wanted(experiment, settings)):
            print(f"  {group.label:<34.34}{group.summary}")


def _report(args: argparse.Namespace) -> int:
    settings = recall(args.output)
    chosen = choose(args.names or ["all"])
    asked = [(one, settings[one.name]) for one in chosen if one.name in settings]
    if not asked:
        raise ValueError(f"{args.output} has no runs of these experiments: run them first")
    image = Path(args.image) if args.image else None
    for path in write_report(asked, Path(args.output), image):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
