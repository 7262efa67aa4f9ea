"""Grades submissions for the tests, in a process that has never computed anything.

The grader forks, and what PyTorch has computed with does not survive that; pytest has computed
much. As a program, with a request as its argument, it grades under another user or another Python.
"""

import atexit
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py")
SOLUTION = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}


@dataclass(frozen=True)
class Graded:
    """What came of a submission.

    Attributes:
        results: content of results.json.
        text: that file as it is on the disk.
        table: what is printed.
        verdicts: of each case, by its name.
        score: the points.
        files: what the grading left in the folder of the results.
    """

    results: dict[str, Any]
    text: str
    table: str
    verdicts: dict[str, dict[str, Any]]
    score: float
    files: list[str]

    def message(self, case: str) -> str:
        return self.verdicts[case]["message"]

    @property
    def passed(self) -> set[str]:
        return {name for name, verdict in self.verdicts.items() if verdict["passed"]}


def edit(text: str, *pairs: tuple[str, str]) -> str:
    """Replace pieces of a text, each of which must occur in it once."""
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def write_submission(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write the solution's four files with others in their place; None stands for no file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (SOLUTION | dict(files)).items():
        path = folder / name
        if content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def grade_folder(
    submission: str,
    expected: str,
    cases: Sequence[str] = (),
    cpu: int = 20,
    wall: float = 60.0,
    deadline: float = 480.0,
    worker: int = 0,
    scratch: str | None = None,
    name: str = "cifar10",
) -> dict[str, Any]:
    """Grade the submission in a folder, in this process.

    Args:
        submission: the folder.
        expected: folder with what the solution computes.
        cases: names of the cases to grade; none for all.
        cpu: seconds of computing for an import or a case.
        wall: seconds of waiting for an import or a case.
        deadline: seconds for all.
        worker: number of the process among those that grade side by side.
        scratch: folder for the grader's temporary files.
        name: of the assignment.
    """
    from grader import __main__, engine, results  # noqa: F401, it imports what students must not

    engine.CASE_LIMITS = replace(engine.CASE_LIMITS, cpu=cpu, wall=wall)
    engine.IMPORT_LIMITS = replace(engine.IMPORT_LIMITS, cpu=min(cpu, 10), wall=min(wall, 30.0))
    assignment = engine.load_assignment(name)
    if cases:
        chosen = tuple(case for case in assignment.cases if case.name in cases)
        assert len(chosen) == len(set(cases)), set(cases) - {case.name for case in chosen}
        assignment = replace(assignment, cases=chosen)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.json")
        tempfile.tempdir = scratch
        report = engine.grade(
            assignment,
            Path(submission),
            Path(expected),
            deadline,
            worker,
            on_progress=lambda report: results.write_gradescope(report, path),
        )
        tempfile.tempdir = None
        results.write_gradescope(report, path)
        return {
            "text": path.read_text(encoding="utf-8"),
            "table": results.to_table(report),
            "verdicts": {
                case.name: asdict(verdict)
                for case, verdict in zip(assignment.cases, report.verdicts, strict=True)
            },
            "score": report.score,
            "files": sorted(path.name for path in Path(folder).iterdir()),
        }


def build_autograder(target: str, cases: Sequence[str] = (), name: str = "cifar10") -> None:
    """Make the zip file for Gradescope, perhaps of a few cases only."""
    from grader import build, engine

    assignment = engine.load_assignment(name)
    if cases:
        chosen = tuple(case for case in assignment.cases if case.name in cases)
        assignment = replace(assignment, cases=chosen)
    build.make_autograder(assignment, Path(target))


@cache
def workers() -> ProcessPoolExecutor:
    """Return two processes that were not forked from this one."""
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    atexit.register(pool.shutdown, cancel_futures=True)
    return pool


def submit(*arguments: Any, **options: Any) -> Future:
    """Grade a folder in one of the two processes."""
    return workers().submit(grade_folder, *arguments, **options)


def read(answer: Mapping[str, Any]) -> Graded:
    """Check what holds for every grading, and return it."""

    def refuse(constant):
        raise AssertionError(f"results.json holds {constant}")

    results = json.loads(answer["text"], parse_constant=refuse)
    assert answer["files"] == ["results.json"]
    assert len(answer["text"]) < 100_000
    assert sum(test["score"] for test in results["tests"]) == answer["score"]
    assert len(results["tests"]) == len(answer["verdicts"])
    for name, verdict in answer["verdicts"].items():
        message = verdict["message"]
        assert bool(message) != verdict["passed"], name
        # Nothing of the grader's own stack, of its folders or of the terminal's codes.
        assert "Traceback" not in message and "\x1b" not in message
        assert "/tmp/" not in message or verdict["staff"]
        assert "trial.py" not in message and "engine.py" not in message, message
        assert len(message) <= 1000
    for line in answer["table"].splitlines():
        assert len(line) <= 80, line
    return Graded(results=results, **answer)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps([grade_folder(**request) for request in json.loads(sys.argv[1])]))
