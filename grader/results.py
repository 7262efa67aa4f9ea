"""Report a grading as Gradescope's results.json, a table or a row of a CSV file.

Source of the keys: "Autograder Specifications", gradescope-autograders.readthedocs.io.
"""

import json
import os
import platform
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grader.assignment import Case
from grader.engine import Report

WIDTH = 80
VERSIONS = {package: version(package) for package in ("torch", "numpy")}


def to_gradescope(report: Report) -> dict[str, Any]:
    """Return the content of results.json.

    Hidden cases are shown when the grades are published. Until then, the text above the cases
    gives a hint for each hidden case that fails.
    """
    tests = []
    for case, number, verdict in zip(report.assignment.cases, _numbers(report), report.verdicts):
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
        "output": "\n".join([*report.notes, *_hints(report)]),
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
    text = json.dumps(to_gradescope(report), indent=1, allow_nan=False)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _numbers(report: Report) -> list[str]:
    """Number the cases within their problems: 1.1.1, 1.1.2, 1.2.1, ..."""
    numbers: list[str] = []
    for case in report.assignment.cases:
        before = sum(number.startswith(case.problem + ".") for number in numbers)
        numbers.append(f"{case.problem}.{before + 1}")
    return numbers


def _hints(report: Report) -> list[str]:
    hints = []
    for case, verdict in zip(report.assignment.cases, report.verdicts):
        if not case.public and not verdict.passed:
            # Not the message, which reveals the expected result.
            hint = f"A hidden test of Problem {case.problem} fails: {case.hint}"
            hints.append(hint if not verdict.staff else verdict.message)
    return hints


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
    numbers = _numbers(report)
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
    """Return a row of the CSV file: total, problems, cases, staff errors, seconds and notes."""
    row: dict[str, Any] = {"submission": name, "score": report.score}
    row |= {f"problem {problem}": score for problem, score in problem_scores(report).items()}
    for case, number, verdict in zip(report.assignment.cases, _numbers(report), report.verdicts):
        row[f"{number} {case.name}"] = case.points if verdict.passed else 0
    errors = sum(verdict.staff for verdict in report.verdicts)
    return row | {
        "staff errors": errors,
        "seconds": round(report.seconds, 1),
        "notes": " ".join(report.notes),
    }
