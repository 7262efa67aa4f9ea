"""Report a grading as Gradescope's results.json, a table or a row of a CSV file.

Source of the keys: "Autograder Specifications", gradescope-autograders.readthedocs.io.
"""

import platform
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grader.assignment import Assignment, Case
from grader.engine import NOT_REACHED, Report, Verdict
from training.files import write_json

WIDTH = 80
FORMULA = ("=", "+", "-", "@")  # what starts a formula in a spreadsheet
VERSIONS = {package: version(package) for package in ("torch", "numpy")}


def to_gradescope(report: Report) -> dict[str, Any]:
    """Return the content of results.json.

    Hidden cases are shown when the grades are published. Until then, the text above the cases
    gives a hint for each hidden case that fails.
    """
    tests = []
    for case, number, verdict in zip(
        report.assignment.cases, number_cases(report.assignment), report.verdicts
    ):
        tests.append(
            {
                "name": case.title,
                "number": number,
                "score": case.points if verdict.passed else 0,
                "max_score": case.points,
                "status": "passed" if verdict.passed else "failed",
                "output": "As expected." if verdict.passed else verdict.message,
                "output_format": "text",
                "visibility": "visible" if case.public else "after_published",
                "tags": ["staff-error"] if verdict.staff else [],
            }
        )
    return {
        "tests": tests,
        "output": "\n".join([*report.notes, *make_hints(report)]),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "execution_time": round(report.seconds),
        "extra_data": {
            "assignment": report.assignment.name,
            "not_isolated": report.gaps,
            "python": platform.python_version(),
            **VERSIONS,
        },
    }


def write_gradescope(report: Report, path: Path) -> None:
    """Write results.json atomically."""
    write_json(path, to_gradescope(report))


def number_cases(assignment: Assignment) -> list[str]:
    """Number the cases within their problems: 1.1.1, 1.1.2, 1.2.1, ..."""
    numbers: list[str] = []
    for case in assignment.cases:
        before = sum(number.startswith(case.problem + ".") for number in numbers)
        numbers.append(f"{case.problem}.{before + 1}")
    return numbers


def make_hints(report: Report) -> list[str]:
    """Return a line for each hidden case that fails, and one for all that fail for one reason."""
    hints = [
        public_message(case, verdict)
        for case, verdict in zip(report.assignment.cases, report.verdicts)
        if not (case.public or verdict.passed or _is_missing(case, verdict))
    ]
    return list(dict.fromkeys(hints))


def public_message(case: Case, verdict: Verdict) -> str:
    """Return what students may read of a case that fails before the grades are published."""
    message = verdict.message
    if case.public or verdict.staff or _is_missing(case, verdict):
        return message
    if message == NOT_REACHED:
        return "Some hidden tests were not reached: the grader ran out of time."
    if message.startswith(f"{case.file} cannot be imported"):
        return f"{case.file} cannot be imported, so that all of its tests fail."
    if message.startswith("not implemented yet"):
        return f"A hidden test of Problem {case.problem} fails: not implemented yet."
    # Not the message, which reveals the expected result.
    return f"A hidden test of Problem {case.problem} fails: {case.hint}"


def _is_missing(case: Case, verdict: Verdict) -> bool:
    """Return whether a case fails because its file is missing, of which the notes speak."""
    return verdict.message == f"{case.file} is missing"


def problem_scores(report: Report) -> dict[str, float]:
    """Return the points of each problem of the manifest."""
    return {
        problem: sum(
            case.points
            for case, verdict in zip(report.assignment.cases, report.verdicts)
            if verdict.passed and belongs_to(case, problem)
        )
        for problem in report.assignment.manifest.POINTS
    }


def belongs_to(case: Case, problem: str) -> bool:
    """Return whether a case belongs to a problem, such as "1.1" to "1"."""
    return f"{case.problem}.".startswith(f"{problem}.")


def to_table(report: Report) -> str:
    """Return a table of all cases, 80 columns wide, with the messages of those that fail."""
    lines = []
    numbers = number_cases(report.assignment)
    for case, number, verdict in zip(report.assignment.cases, numbers, report.verdicts):
        points = f"{case.points if verdict.passed else 0:g}/{case.points:g}"
        mark = "ok" if verdict.passed else "STAFF" if verdict.staff else "FAIL"
        title = textwrap.shorten(case.title, WIDTH - 25, placeholder=" ...")
        lines.append(f"{number:<7} {mark:<5} {points:>9}  {title}")
        if not verdict.passed:
            for line in verdict.message.splitlines():
                lines += textwrap.wrap(
                    line, WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 14
                )
    lines.append("-" * WIDTH)
    of = report.assignment.manifest.POINTS
    scores = [f"Problem {p}: {s:g}/{of[p]:g}" for p, s in problem_scores(report).items()]
    lines += textwrap.wrap("; ".join(scores), WIDTH)
    lines.append(
        f"{report.score:g} of {report.assignment.points:g} points in {report.seconds:.1f} s"
    )
    for line in (*report.notes, *(f"not isolated: {gap}" for gap in report.gaps)):
        lines += textwrap.wrap(line, WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def to_row(name: str, report: Report) -> dict[str, Any]:
    """Return a row of the CSV file: points of the problems and cases, and what went wrong."""
    row: dict[str, Any] = {"submission": name, "score": report.score}
    row |= {f"problem {problem}": score for problem, score in problem_scores(report).items()}
    for case, number, verdict in zip(
        report.assignment.cases, number_cases(report.assignment), report.verdicts
    ):
        row[f"{number} {case.name}"] = case.points if verdict.passed else 0
    errors = [verdict.message for verdict in report.verdicts if verdict.staff]
    notes = " ".join(dict.fromkeys([*report.notes, *errors]))
    if notes.startswith(FORMULA):
        notes = f"'{notes}"
    return row | {
        "staff errors": len(errors),
        "seconds": round(report.seconds, 1),
        "notes": notes,
        "not isolated": "; ".join(report.gaps),
    }


def gaps_of(row: dict[str, str]) -> list[str]:
    """Return the gaps in the isolation that a row of the CSV file lists."""
    return [gap for gap in row["not isolated"].split("; ") if gap]


def to_line(row: dict[str, str], points: float) -> str:
    """Return a row as a line of the output, 80 columns wide; notes follow if nothing scored.

    Args:
        row: of the CSV file.
        points: that can be scored.
    """
    score, errors = float(row["score"]), int(row["staff errors"])
    head = f"{score:>5g} of {points:g}  "
    tail = " (full marks)" if score == points else f" ({errors} grader errors)" if errors else ""
    name, room = row["submission"], WIDTH - len(head) - len(tail)
    lines = [head + (name if len(name) <= room else f"...{name[3 - room :]}") + tail]
    if not score:
        indent = " " * len(head)
        lines += textwrap.wrap(row["notes"], WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)
