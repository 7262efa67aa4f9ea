"""Command line of the graders: ``python -m grader --help``."""

import argparse
import csv
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from training.arguments import Parser, add_number, positive, positive_int, reason, report

PROGRAM = "python -m grader"

try:
    from grader.assignment import ROOT, Assignment, load_manifest
    from grader.engine import Report, grade, prepare_expected
    from grader.results import to_row, to_table, write_gradescope
    from grader.server import Server
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
        load_manifest(args.assignment)
        return {"handout": _handout, "build": _build, "grade": _grade, "mutants": _mutants}[
            args.command
        ](args)
    except (ValueError, OSError, RuntimeError) as error:
        return report(PROGRAM, reason(error))


def _handout(args: argparse.Namespace) -> int:
    from grader.handout import make_handout

    target = args.output or Path("dist") / f"{args.assignment}-handout.zip"
    print(make_handout(load_manifest(args.assignment), ROOT, target))
    return 0


def _build(args: argparse.Namespace) -> int:
    from grader.build import make_autograder

    target = args.output or Path("dist") / f"{args.assignment}-autograder.zip"
    with Server(args.assignment) as server:
        print(make_autograder(server.assignment, target, server))
    return 0


def _mutants(args: argparse.Namespace) -> int:
    from grader.mutants import run_mutants

    with Server(args.assignment) as server:
        return run_mutants(server.assignment, server, jobs=args.jobs, sample=args.sample)


def _grade(args: argparse.Namespace) -> int:
    for submission in args.submissions:
        if not submission.is_dir() and not zipfile.is_zipfile(submission):
            raise ValueError(f"{submission} is neither a folder nor a zip archive")
    if args.results and len(args.submissions) > 1:
        raise ValueError("--results is for one submission; use --csv for several")
    if args.expected and not args.expected.is_dir():
        raise ValueError(f"--expected: {args.expected} is not a folder")
    if args.csv and not args.csv.absolute().parent.is_dir():  # rather than after an hour
        raise ValueError(f"--csv: {args.csv.parent} is not a folder")
    with (
        tempfile.TemporaryDirectory(prefix="grader-expected-") as temporary,
        Server(args.assignment) as server,
    ):
        assignment = server.assignment
        expected = args.expected
        if expected is None:
            expected = Path(temporary)
            prepare_expected(assignment, expected, server)
        if len(args.submissions) == 1:
            on_progress = partial(write_gradescope, path=args.results) if args.results else _ignore
            submission = args.submissions[0]
            report = grade(assignment, submission, expected, server, args.deadline, on_progress)
            if args.results:
                write_gradescope(report, args.results)
            print(to_table(report))
            reports = [(args.submissions[0], report)]
        else:
            reports = list(_grade_many(assignment, expected, server, args))
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
    assignment: Assignment, expected: Path, server: Server, args: argparse.Namespace
) -> Iterator[tuple[Path, Report]]:
    """Grade submissions in parallel and yield each as it finishes."""
    from tqdm import tqdm  # not installed on Gradescope, which grades one submission

    with ThreadPoolExecutor(args.jobs) as pool:
        graded = {
            pool.submit(grade, assignment, folder, expected, server, args.deadline): folder
            for folder in args.submissions
        }
        try:
            for future in tqdm(as_completed(graded), total=len(graded), disable=None, leave=False):
                folder, report = graded[future], future.result()
                full = " (full marks)" if report.score == assignment.points else ""
                tqdm.write(f"{report.score:>5g} of {assignment.points:g}  {folder}{full}")
                yield folder, report
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            server.close()
            raise


if __name__ == "__main__":
    # An exception, so that nothing is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
