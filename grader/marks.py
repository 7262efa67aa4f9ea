"""Grade many submissions into a CSV file, from which an interrupted grading resumes."""

import csv
import hashlib
import io
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from grader.assignment import ROOT, Assignment, read_solution
from grader.engine import Report, Verdict, find_gaps, grade
from grader.feedback import has_record, write_record
from grader.results import FORMULA, VERSIONS, to_row
from grader.server import Server
from grader.submissions import collect, digest, printable
from training.files import write_atomically

Row = dict[str, str]


@dataclass(frozen=True)
class Work:
    """Submissions to grade, and how.

    Attributes:
        name: of the assignment.
        submissions: folders or zip archives.
        expected: folder of the expected records.
        deadline: seconds per submission.
        isolated: whether a gap in the isolation is an error.
        setup: fingerprint of everything besides a submission on which its marks depend.
        feedback: folder of the pages about the submissions, if they are wanted.
    """

    name: str
    submissions: tuple[Path, ...]
    expected: Path
    deadline: float
    isolated: bool
    setup: str
    feedback: Path | None = None


def make_setup(assignment: Assignment, expected: Path | None, deadline: float) -> str:
    """Return the fingerprint of the grader, its expected records and its time limit.

    Args:
        assignment: the assignment.
        expected: folder of the expected records; None if they are computed from the solution.
        deadline: seconds per submission.
    """
    folder = ROOT / "grader"
    files = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    files |= {f"case/{p.name}": p.read_bytes() for p in (folder / assignment.name).glob("*.py")}
    if expected is None:
        solution = read_solution(assignment)
        files |= {f"expected/{name}": content for name, content in solution.items()}
    else:
        files |= {f"expected/{path.name}": path.read_bytes() for path in expected.iterdir()}
    versions = [platform.python_version(), *VERSIONS.values(), str(deadline)]
    return digest(files, versions)


def check_isolation(work: Work, server: Server) -> None:
    """Raise ValueError if the isolation must have no gap, and has one."""
    if work.isolated:
        gaps = find_gaps(server.assignment, work.submissions, work.expected, server)
        if gaps:
            raise ValueError(f"--require-isolation: {'; '.join(gaps)}")


def _name(submission: Path) -> str:
    """Return how a submission is called in the file: printable, and a path to a spreadsheet too."""
    name = printable(str(submission))
    return f"./{name}" if name.startswith(FORMULA) else name


def make_row(submission: Path, report: Report, setup: str) -> Row:
    """Return the row of a submission."""
    row = to_row(_name(submission), report)
    row["fingerprint"] = _fingerprint(setup, report.digest)
    return {key: str(value) for key, value in row.items()}  # as they are read from the file


def finish(submission: Path, report: Report, work: Work) -> Row:
    """Return the row of a submission, after its record for the feedback is written."""
    row = make_row(submission, report, work.setup)
    if work.feedback:
        write_record(work.feedback, row, report)
    return row


def grade_many(work: Work, server: Server, jobs: int) -> Iterator[Row]:
    """Grade submissions in threads and yield the row of each as it finishes."""
    check_isolation(work, server)
    assignment = server.assignment
    with ThreadPoolExecutor(jobs) as pool:
        reports = {
            pool.submit(grade, assignment, path, work.expected, server, work.deadline): path
            for path in work.submissions
        }
        try:
            for future in as_completed(reports):
                yield finish(reports[future], future.result(), work)
        except BaseException:  # above all, a signal
            pool.shutdown(wait=False, cancel_futures=True)
            server.close()
            raise


class Marks:
    """The CSV file, whole at every moment, with a row for each submission.

    Args:
        path: of the file; the rows that it has are kept.
        assignment: of the submissions.

    Raises:
        ValueError: the file is something else.
    """

    def __init__(self, path: Path, assignment: Assignment):
        self._path, self._names = path, assignment.manifest.SUBMITTED
        nothing = Report(assignment, [Verdict() for _ in assignment.cases])
        self._columns = list(make_row(Path(), nothing, ""))
        self.rows: dict[str, Row] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            with self._path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                columns, rows = reader.fieldnames, list(reader)
        except (UnicodeDecodeError, csv.Error):
            raise ValueError(f"{self._path} is not a CSV file") from None
        if columns != self._columns:
            raise ValueError(
                f"{self._path} has other columns than the marks of this assignment; "
                "move it away or choose another --csv"
            )
        self.rows = {row["submission"]: row for row in rows}

    def find(self, submission: Path, work: Work) -> Row | None:
        """Return the row of a submission if it is of its present content and of the same setup.

        If feedback is wanted, a row without the record of the same grading does not count.
        """
        row = self.rows.get(_name(submission))
        if row is None or row["staff errors"] != "0" or (work.isolated and row["not isolated"]):
            return None
        if work.feedback and not has_record(work.feedback, row):
            return None
        content = digest(*collect(submission, self._names))
        return row if row["fingerprint"] == _fingerprint(work.setup, content) else None

    def add(self, row: Row) -> None:
        """Add a row, or replace that of the same submission, and write the file."""
        self.rows[row["submission"]] = row
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self.rows[name] for name in sorted(self.rows))
        write_atomically(self._path, text.getvalue().encode())


def _fingerprint(setup: str, content: str) -> str:
    return hashlib.sha256(f"{setup} {content}".encode()).hexdigest()[:16]
