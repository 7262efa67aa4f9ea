"""Command line of the graders: ``python -m grader --help``."""

import argparse
import os
import signal
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from training import interrupt
from training.arguments import Parser, add_number, positive, positive_int, reason, report

PROGRAM = "python -m grader"

try:
    from grader import sandbox
    from grader.assignment import ROOT, list_assignments, load_manifest
    from grader.engine import Report, grade, prepare_expected
    from grader.feedback import check_folder, write_pages
    from grader.marks import Marks, Row, Work, check_isolation, finish, grade_many, make_setup
    from grader.results import WIDTH, gaps_of, to_line, to_table, write_gradescope
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

    sheets = _add_command(
        commands,
        "sheets",
        "set the assignment sheets as PDF, in English and in French",
        "sheets cifar10 --output sheets",
    )
    sheets.add_argument(
        "--output", type=Path, default=Path("dist"), metavar="DIR", help="default: dist"
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
    marks.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="one row per submission, written as it is graded; rows that are there and still "
        "valid are kept",
    )
    marks.add_argument(
        "--feedback",
        type=Path,
        metavar="DIR",
        help="write a page for each student, and index.html for the course staff",
    )
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
        "--require-isolation",
        action="store_true",
        help="grade nothing if submissions are not fully isolated on this machine",
    )
    marks.add_argument(
        "--always-succeed", action="store_true", help="exit status 0 regardless of the marks"
    )
    marks.add_argument("--cluster", choices=["slurm"], help="grade in --jobs jobs; needs --csv")
    marks.add_argument(
        "--partition", metavar="NAME", help="of the cluster; default: the cluster's own"
    )
    add_number(marks, "--time", positive_int, 180, "of a job", metavar="MINUTES")

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
    command.add_argument("assignment", help=", ".join(list_assignments()))
    return command


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 2 for invalid arguments."""
    args = make_parser().parse_args(argv)
    try:
        load_manifest(args.assignment)
        with interrupt.raised():
            return COMMANDS[args.command](args)
    except interrupt.Interrupted as interruption:
        resumes = "; the same command grades what is left" if getattr(args, "csv", None) else ""
        return report(PROGRAM, f"stopped by {interruption}{resumes}", interruption.status)
    except ModuleNotFoundError as error:
        if error.name not in REQUIREMENTS:
            raise
        return report(PROGRAM, _missing(error))
    except (ValueError, OSError, RuntimeError) as error:
        return report(PROGRAM, reason(error))


def _missing(error: ModuleNotFoundError) -> str:
    return f"{error.name} is missing: pip install -r {REQUIREMENTS[str(error.name)]}"


def _handout(args: argparse.Namespace) -> int:
    from grader.handout import make_handout
    from grader.sheets import make_pdfs

    target = args.output or Path("dist") / f"{args.assignment}-handout.zip"
    manifest = load_manifest(args.assignment)
    try:
        pdfs = make_pdfs(manifest, ROOT)
    except ModuleNotFoundError as error:
        pdfs = {}
        report(PROGRAM, f"the handout has no PDF of the sheets: {_missing(error)}", 0)
    print(make_handout(manifest, ROOT, target, pdfs))
    return 0


def _sheets(args: argparse.Namespace) -> int:
    from grader.sheets import make_pdfs

    for name, pdf in make_pdfs(load_manifest(args.assignment), ROOT).items():
        path = args.output / f"{args.assignment}-{Path(name).name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pdf)
        print(path)
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
    submissions = tuple(dict.fromkeys(args.submissions))
    for submission in submissions:
        if not os.path.lexists(submission):
            raise ValueError(f"{submission} does not exist")
    if args.results and len(submissions) > 1:
        raise ValueError("--results is for one submission; use --csv for several")
    if args.expected and not args.expected.is_dir():
        raise ValueError(f"--expected: {args.expected} is not a folder")
    if args.csv and not args.csv.absolute().parent.is_dir():  # rather than after an hour
        raise ValueError(f"--csv: {args.csv.parent} is not a folder")
    if args.cluster and not args.csv:
        raise ValueError("--cluster needs --csv, in a folder that all nodes see")
    folder, prefix = None, "grader-"
    if args.cluster:  # the jobs read the expected records too
        from grader import cluster  # needs submitit

        folder, prefix = args.csv.parent, cluster.prefix(args.csv)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary,
        sandbox.hold(Path(temporary)),
        Server(args.assignment, args.jobs) as server,
        _uninterrupted_cleanup(),
    ):
        setup = make_setup(server.assignment, args.expected, args.deadline) if args.csv else ""
        expected = args.expected or Path(temporary, "expected")
        work = Work(
            args.assignment, submissions, expected, args.deadline, args.require_isolation, setup,
            args.feedback,
        )  # fmt: skip
        if args.feedback:
            check_folder(args.feedback, server.assignment)
        marks = Marks(args.csv, server.assignment) if args.csv else None
        try:
            if len(submissions) > 1 or args.cluster:
                rows = _grade_many(work, marks, server, Path(temporary), args)
            else:
                rows = [_grade_one(work, marks, server, args)]
        finally:
            if args.feedback:
                write_pages(args.feedback, server.assignment)
    full = all(float(row["score"]) == server.assignment.points for row in rows)
    return 0 if full or args.always_succeed else 1


@contextmanager
def _uninterrupted_cleanup() -> Iterator[None]:
    """Ignore further signals when one has come, so that what follows can end."""
    try:
        yield
    except interrupt.Interrupted:
        for number in interrupt.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise


def _grade_one(work: Work, marks: Marks | None, server: Server, args: argparse.Namespace) -> Row:
    """Grade a submission, even if it has a row, and print the table of its cases."""
    if args.expected is None:
        prepare_expected(server.assignment, work.expected, server)
    check_isolation(work, server)
    on_progress = partial(write_gradescope, path=args.results) if args.results else _ignore
    [submission] = work.submissions
    report = grade(server.assignment, submission, work.expected, server, work.deadline, on_progress)
    if args.results:
        write_gradescope(report, args.results)
    print(to_table(report))
    row = finish(submission, report, work)
    if marks:
        marks.add(row)
    return row


def _ignore(report: Report) -> None:
    pass


def _grade_many(
    work: Work, marks: Marks | None, server: Server, folder: Path, args: argparse.Namespace
) -> list[Row]:
    """Grade the submissions that have no valid row yet and print a line for each.

    Args:
        work: all submissions.
        marks: the CSV file, if there is one.
        server: of the assignment.
        folder: for the files of jobs.
        args: of the command line.

    Returns:
        The rows of all submissions.
    """
    from tqdm import tqdm  # not installed on Gradescope, which grades one submission

    if args.cluster and marks:
        from grader import cluster

        cluster.recover(args.csv, marks, work, server.assignment, folder)
    found = {path: marks.find(path, work) for path in work.submissions} if marks else {}
    rows = [row for row in found.values() if row is not None]
    if rows:
        print(f"{len(rows)} of {len(work.submissions)} submissions are graded already")
    left = replace(
        work, submissions=tuple(path for path in work.submissions if not found.get(path))
    )
    try:
        if left.submissions:
            if args.expected is None:
                prepare_expected(server.assignment, work.expected, server)
            if args.cluster:
                where = args.partition, args.time
                graded = cluster.grade_in_jobs(left, server.assignment, folder, args.jobs, *where)
            else:
                graded = grade_many(left, server, args.jobs)
            for row in tqdm(graded, total=len(left.submissions), disable=None, leave=False):
                if marks:
                    marks.add(row)
                rows.append(row)
                tqdm.write(to_line(row, server.assignment.points))
    finally:
        for gap in dict.fromkeys(gap for row in rows for gap in gaps_of(row)):
            print(textwrap.fill(f"not isolated: {gap}", WIDTH, subsequent_indent="  "))
    return rows


COMMANDS = {
    "handout": _handout,
    "sheets": _sheets,
    "build": _build,
    "grade": _grade,
    "mutants": _mutants,
}
# What installs a package that only some commands need.
REQUIREMENTS = {
    "submitit": "experiments/requirements.txt",
    "pypandoc": "grader/requirements.txt",
    "typst": "grader/requirements.txt",
}


if __name__ == "__main__":
    sys.exit(main())
