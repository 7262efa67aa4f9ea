"""Feedback on graded submissions: a page for each student, and an index for the course staff.

Each grading leaves a record in ``records/``, from which the pages are drawn, as HTML and Markdown.
"""

import hashlib
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from grader.assignment import Assignment, Case
from grader.engine import Report, Verdict
from grader.pages import Bar, Cell, Html, Link, Markdown, Page
from grader.results import belongs_to, number_cases, problem_scores, public_message
from training.files import write_atomically, write_json


class Graded(NamedTuple):
    """A graded submission, as its record holds it.

    Attributes:
        submission: its path, printable.
        stem: of the names of its files.
        report: of its grading.
    """

    submission: str
    stem: str
    report: Report

    @property
    def name(self) -> str:
        return Path(self.submission).name or self.submission


def check_folder(folder: Path, assignment: Assignment) -> None:
    """Create the folder of the pages if needed; only the grader's user and group may read it.

    Raises:
        ValueError: it is no folder, or it holds records of other cases.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--feedback: {folder} is not a folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(PermissionError):  # it is a colleague's
        folder.chmod(folder.stat().st_mode & 0o770)  # whoever runs submissions is another user
    for name in ("records", "students"):
        (folder / name).mkdir(exist_ok=True)
    read_records(folder, assignment)


def write_record(folder: Path, row: dict[str, str], report: Report) -> None:
    """Write the record of a submission.

    Args:
        folder: of the pages.
        row: of the CSV file.
        report: of the grading.
    """
    verdicts = zip(report.assignment.cases, report.verdicts)
    content = {
        "submission": row["submission"],
        "fingerprint": row["fingerprint"],
        "cases": {case.name: asdict(verdict) for case, verdict in verdicts},
        "notes": report.notes,
        "gaps": report.gaps,
    }
    write_json(_path(folder, row["submission"]), content)


def has_record(folder: Path, row: dict[str, str]) -> bool:
    """Return whether the record of a submission is of the same grading as its row."""
    path = _path(folder, row["submission"])
    return path.exists() and _load(path)["fingerprint"] == row["fingerprint"]


def _path(folder: Path, submission: str) -> Path:
    """Return the path of a record: two submissions may have the same name, in other folders.

    The number is long, because students choose names and could look for one of another's number.
    """
    name = re.sub("[^A-Za-z0-9_-]+", "_", Path(submission).name).strip("_")[:60]
    number = hashlib.sha256(submission.encode()).hexdigest()[:16]
    return folder / "records" / f"{name or 'submission'}-{number}.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: content[key] for key in ("submission", "fingerprint", "cases", "notes", "gaps")
        }
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a record of this grader; move it away") from None


def read_records(folder: Path, assignment: Assignment) -> list[Graded]:
    """Return all graded submissions, by name.

    Raises:
        ValueError: a record is of other cases.
    """
    found = []
    for path in (folder / "records").glob("*.json"):
        content = _load(path)
        if list(content["cases"]) != [case.name for case in assignment.cases]:
            raise ValueError(
                f"{folder} holds feedback on other cases than those of this assignment; "
                "move it away or choose another --feedback"
            )
        verdicts = [Verdict(**verdict) for verdict in content["cases"].values()]
        report = Report(assignment, verdicts, content["notes"], content["gaps"])
        found.append(Graded(content["submission"], path.stem, report))
    return sorted(found, key=lambda graded: graded.submission)


def write_pages(folder: Path, assignment: Assignment) -> None:
    """Write ``index`` for the course staff and a page for each student, from all records."""
    graded = read_records(folder, assignment)
    for make in (Html, Markdown):
        for one in graded:
            page: Page = make(f"{assignment.name}: {one.name}")
            _fill_student(page, one.report)
            _write(folder / "students" / f"{one.stem}{make.suffix}", page)
        if graded:
            page = make(f"{assignment.name}: {len(graded)} submissions")
            _fill_index(page, assignment, graded)
            _write(folder / f"index{make.suffix}", page)


def _write(path: Path, page: Page) -> None:
    write_atomically(path, page.render().encode(errors="replace"))


def _fill_student(page: Page, report: Report) -> None:
    """Add what the student may read: of hidden cases, a hint."""
    assignment = report.assignment
    page.add_lead(f"{report.score:g} of {assignment.points:g} points")
    scores = problem_scores(report)
    of = assignment.manifest.POINTS
    rows = [(f"Problem {p}", f"{s:g} of {of[p]:g}", Bar(s / of[p])) for p, s in scores.items()]
    page.add_table(("", "points", ""), rows)
    if report.notes:
        page.add_heading("Your files")
        page.add_list(report.notes)
    cases = list(zip(assignment.cases, number_cases(assignment), report.verdicts))
    for problem in of:
        page.add_heading(f"Problem {problem}")
        for case, number, verdict in cases:
            if belongs_to(case, problem):
                score = f"{case.points if verdict.passed else 0:g} of {case.points:g}"
                title = case.title if case.public else "A hidden test."
                message = "" if verdict.passed else public_message(case, verdict)
                page.add_case(verdict.passed, f"{number} ({score})", title, message)


def _fill_index(page: Page, assignment: Assignment, graded: Sequence[Graded]) -> None:
    """Add what the course staff look at: faults first, then the class, its cases, its members."""
    page.add_text("For the course staff: this page shows the results of hidden cases.")
    _add_faults(page, graded)
    _add_scores(page, assignment, graded)
    page.add_heading("Submissions")
    rows: list[list[Cell]] = []
    for one in graded:
        link = Link(one.name, f"students/{one.stem}.html")
        scores = [f"{score:g}" for score in problem_scores(one.report).values()]
        rows.append([link, f"{one.report.score:g}", *scores, " ".join(one.report.notes)])
    page.add_table(["submission", "score", *assignment.manifest.POINTS, "notes"], rows)
    page.add_heading("Messages")
    for case, number, share, _ in _cases(assignment, graded):
        if share < 1:
            words = "" if case.public else ", hidden"
            page.add_case(False, f"{number} ({case.name}{words})", case.title, "")
            page.add_table(["message", "submissions"], _messages(case, assignment, graded))


def _add_faults(page: Page, graded: Sequence[Graded]) -> None:
    """Add staff errors and gaps in the isolation."""
    page.add_heading("Staff errors and gaps")
    faults = []
    for one in graded:
        messages = dict.fromkeys(v.message for v in one.report.verdicts if v.staff)
        faults += [f"{one.submission}: {message}" for message in messages]
    gaps: defaultdict[str, list[str]] = defaultdict(list)
    for one in graded:
        for gap in one.report.gaps:
            gaps[gap].append(one.submission)
    faults += [f"not isolated: {gap} ({len(names)} submissions)" for gap, names in gaps.items()]
    if faults:
        page.add_list(faults)
    else:
        page.add_text("None.")


def _add_scores(page: Page, assignment: Assignment, graded: Sequence[Graded]) -> None:
    """Add the distribution of the scores, and what is known of each case."""
    scores = [one.report.score for one in graded]
    page.add_heading("Scores")
    page.add_text(
        f"Mean {statistics.mean(scores):.1f}, median {statistics.median(scores):.1f}, "
        f"from {min(scores):g} to {max(scores):g} of {assignment.points:g} points."
    )
    width = next(w for w in (1, 2, 5, 10, 20, 50, 100) if 10 * w >= assignment.points)
    counts = {"full marks": sum(score == assignment.points for score in scores)}
    for low in reversed(range(0, math.ceil(assignment.points), width)):
        counts[f"from {low}"] = sum(
            low <= score < min(low + width, assignment.points) for score in scores
        )
    most = max(counts.values())
    rows = [(name, str(count), Bar(count / most)) for name, count in counts.items()]
    page.add_table(("points", "submissions", ""), rows)
    page.add_heading("Cases")
    page.add_text(
        "How many submissions pass each case. The correlation is that of passing the case with the "
        "points of all other cases: near 0 or below, strong submissions fail it as often as weak "
        "ones, so look at the case itself."
    )
    page.add_table(
        ("case", "passes", "correlation", ""),
        [
            (
                f"{number} {case.title}{'' if case.public else ' (hidden)'}",
                f"{share:.0%}",
                correlation,
                Bar(share),
            )
            for case, number, share, correlation in _cases(assignment, graded)
        ],
    )


def _cases(assignment: Assignment, graded: Sequence[Graded]) -> list[tuple[Case, str, float, str]]:
    """Return each case, its number, the share that passes and its correlation with the rest."""
    found = []
    for index, (case, number) in enumerate(zip(assignment.cases, number_cases(assignment))):
        passed = [float(one.report.verdicts[index].passed) for one in graded]
        rest = [one.report.score - case.points * p for one, p in zip(graded, passed)]
        try:
            correlation = f"{statistics.correlation(passed, rest):.2f}"
        except statistics.StatisticsError:  # all pass, or all fail, or there is one submission
            correlation = ""
        found.append((case, number, statistics.mean(passed), correlation))
    return found


def _messages(
    case: Case, assignment: Assignment, graded: Sequence[Graded]
) -> list[tuple[str, str]]:
    """Return the messages of a case and the submissions that have them, most frequent first."""
    index = assignment.cases.index(case)
    names: defaultdict[str, list[str]] = defaultdict(list)
    for one in graded:
        verdict = one.report.verdicts[index]
        if not verdict.passed:
            names[verdict.message].append(one.name)
    ranked = sorted(names.items(), key=lambda item: -len(item[1]))
    return [(message, ", ".join(some)) for message, some in ranked]
