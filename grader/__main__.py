"""Command line of the graders: ``python -m grader --help``."""

import argparse
import csv
import multiprocessing
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from training.arguments import Parser, add_number, positive, positive_int, reason, report

PROGRAM = "python -m grader"

try:
    from grader.engine import ROOT, Assignment, Report, grade, load_assignment, prepare_expected
    from grader.results import to_row, to_table, write_gradescope
except ModuleNotFoundError as error:
    if error.name not in ("fcntl", "resource"):
        raise
    sys.exit(report(PROGRAM, "Linux or macOS is required; on Windows, use WSL"))


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Build handouts and autograders, and grade submissions.",
        epilog="example: python -m grader grade cifar10 submissions/* --jobs 4 --csv marks.csv",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    handout = _add_command(
        commands,
        "handout",
        "build the students' version of an assignment",
        "handout cifar10 --output cifar10.zip",
    )
    handout.add_argument(
        "--output", type=Path, metavar="FILE", help="default: dist/ASSIGNMENT-handout.zip"
    )

    build = _add_command(
        commands, "build", "build the zip file for Gradescope", "build cifar10 --output grader.zip"
    )
    build.add_argument(
        "--output", type=Path, metavar="FILE", help="default: dist/ASSIGNMENT-autograder.zip"
    )

    marks = _add_command(
        commands,
        "grade",
        "grade submissions; exit status 0 if all have full marks",
        "grade cifar10 submissions/* --jobs 4 --csv marks.csv",
    )
    marks.add_argument(
        "submissions", nargs="+", type=Path, metavar="SUBMISSION", help="folder or zip"
    )
    add_number(marks, "--jobs", positive_int, 1, "graded in parallel")
    marks.add_argument("--csv", type=Path, metavar="FILE", help="write one row per submission")
    marks.add_argument(
        "--results", type=Path, metavar="FILE", help="write results.json for Gradescope"
    )
    marks.add_argument(
        "--expected",
        type=Path,
        metavar="DIR",
        help="expected records; default: compute them from the solution",
    )
    add_number(marks, "--deadline", positive, 480, "time limit per submission", metavar="SECONDS")
    marks.add_argument(
        "--always-succeed", action="store_true", help="exit status 0 regardless of the marks"
    )

    mutants = _add_command(
        commands,
        "mutants",
        "grade wrong solutions and list those that are not caught",
        "mutants cifar10 --sample 20 --jobs 4",
    )
    words = "N mutants, evenly spread; default: all"
    add_number(mutants, "--sample", positive_int, None, words)
    add_number(mutants, "--jobs", positive_int, 1, "graded in parallel")
    return parser


def _add_command(
    commands: argparse._SubParsersAction, name: str, what: str, example: str
) -> argparse.ArgumentParser:
    """Add a command whose first argument is an assignment."""
    command = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}",
        epilog=f"example: python -m grader {example}",
    )
    names = sorted(path.parent.name for path in (ROOT / "grader").glob("*/manifest.py"))
    command.add_argument("assignment", help=", ".join(names))
    return command


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 2 for invalid arguments."""
    args = make_parser().parse_args(argv)
    try:
        assignment = load_assignment(args.assignment)
        return {"handout": _handout, "build": _build, "grade": _grade, "mutants": _mutants}[
            args.command
        ](assignment, args)
    except (ValueError, OSError, RuntimeError) as error:
        return report(PROGRAM, reason(error))


def _handout(assignment: Assignment, args: argparse.Namespace) -> int:
    from grader.handout import make_handout

    target = args.output or Path("dist") / f"{assignment.name}-handout.zip"
    print(make_handout(assignment.manifest, ROOT, target))
    return 0


def _build(assignment: Assignment, args: argparse.Namespace) -> int:
    from grader.build import make_autograder

    target = args.output or Path("dist") / f"{assignment.name}-autograder.zip"
    print(make_autograder(assignment, target))
    return 0


def _mutants(assignment: Assignment, args: argparse.Namespace) -> int:
    from grader.mutants import run_mutants

    return run_mutants(assignment, jobs=args.jobs, sample=args.sample)


def _grade(assignment: Assignment, args: argparse.Namespace) -> int:
    for submission in args.submissions:
        if not submission.is_dir() and not zipfile.is_zipfile(submission):
            raise ValueError(f"{submission} is neither a folder nor a zip archive")
    if args.results and len(args.submissions) > 1:
        raise ValueError("--results is for one submission; use --csv for several")
    if args.expected and not args.expected.is_dir():
        raise ValueError(f"--expected: {args.expected} is not a folder")
    if args.csv and not args.csv.absolute().parent.is_dir():  # rather than after an hour
        raise ValueError(f"--csv: {args.csv.parent} is not a folder")
    with tempfile.TemporaryDirectory(prefix="grader-expected-") as temporary:
        expected = args.expected
        if expected is None:
            expected = Path(temporary)
            prepare_expected(assignment, expected)
        if len(args.submissions) == 1:
            on_progress = partial(write_gradescope, path=args.results) if args.results else _ignore
            report = grade(
                assignment, args.submissions[0], expected, args.deadline, on_progress=on_progress
            )
            if args.results:
                write_gradescope(report, args.results)
            print(to_table(report))
            reports = [(args.submissions[0], report)]
        else:
            reports = list(_grade_many(assignment, expected, args))
    if args.csv:
        rows = [to_row(str(folder), report) for folder, report in sorted(reports, key=_folder)]
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    full = all(report.score == assignment.points for _, report in reports)
    return 0 if full or args.always_succeed else 1


def _ignore(report: Report) -> None:
    pass


def _folder(item: tuple[Path, Report]) -> Path:
    return item[0]


def _grade_many(
    assignment: Assignment, expected: Path, args: argparse.Namespace
) -> Iterator[tuple[Path, Report]]:
    """Grade submissions in parallel and yield each as it finishes."""
    from tqdm import tqdm  # not installed on Gradescope, which grades one submission

    work = partial(_grade_one, args.assignment, expected, args.deadline)
    context = multiprocessing.get_context("fork")
    with context.Pool(args.jobs) as pool:
        done = pool.imap_unordered(work, args.submissions)
        for folder, state in tqdm(done, total=len(args.submissions), disable=None, leave=False):
            report = Report(assignment, **state)
            full = " (full marks)" if report.score == assignment.points else ""
            tqdm.write(f"{report.score:>5g} of {assignment.points:g}  {folder}{full}")
            yield folder, report


def _grade_one(name: str, expected: Path, deadline: float, folder: Path) -> tuple[Path, dict]:
    """Grade one submission in a process of the pool."""
    worker = multiprocessing.current_process()._identity[0] - 1
    report = grade(load_assignment(name), folder, expected, deadline, worker)
    state = vars(report)
    return folder, {key: state[key] for key in ("verdicts", "notes", "gaps", "seconds")}


if __name__ == "__main__":
    sys.exit(main())
