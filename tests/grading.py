"""Grades submissions for the tests.

As a program, with a file of requests as its argument, it grades as another user or with another
Python.
"""

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from grader import build, engine, mutants, results
from grader.assignment import load_assignment
from grader.server import Server

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py")
SOLUTION = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
NUMBER_OF_CASES = len(load_assignment("cifar10").cases)
POINTS = 45
# A case of each file that takes little time.
QUICK = {
    "mlp.py": "linear_is_the_affine_map",
    "resnet18.py": "block_adds_its_input",
    "mlpmixer.py": "mlp_of_the_mixer_is_two_layers",
    "utils.py": "loss_has_the_right_gradient",
}
WRONG = "return right + 1"  # for in_forward
# Attacks on the grader's own process.
GRADER_REPLACED = """
import gc, sys
def forge(*arguments, **options):
    return ""
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "grader":
        for attribute in ("compare", "find", "watch", "_close", "_examine", "conduct"):
            if hasattr(module, attribute):
                setattr(module, attribute, forge)
        if hasattr(module, "_COMPARE"):
            module._COMPARE.update(dict.fromkeys(module._COMPARE, forge))
for thing in gc.get_objects():
    if type(thing).__name__ in ("Trial", "Case", "Verdict", "Report"):
        for attribute in ("record", "call", "differentiate", "_add"):
            setattr(type(thing), attribute, forge)
        if type(thing).__name__ == "Verdict":
            thing.passed = True
"""
PARENT_KILLED = """
import os, signal
for aim in (lambda: os.kill(os.getppid(), signal.SIGKILL),
            lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGKILL),
            lambda: os.kill(os.getppid(), signal.SIGSTOP)):
    try:
        aim()
    except OSError:
        pass
"""


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


def at_import(code: str, name: str = "mlp.py") -> str:
    """Return a file of the solution with some code in front of it."""
    return code.strip() + "\n" + SOLUTION[name]


def in_forward(code: str, head: str = "") -> str:
    """Return the solution's mlp.py with other code in Linear.forward, where ``right`` is right."""
    own = "return nn.functional.linear(input, self.weight, self.bias)"
    lines = ["right = nn.functional.linear(input, self.weight, self.bias)", *code.splitlines()]
    return head + "\n" + edit(SOLUTION["mlp.py"], (own, "\n        ".join(lines)))


def is_whole(results: Mapping[str, Any]) -> bool:
    """Return whether results.json has every case, and the points of all of them together."""
    tests = results["tests"]
    return len(tests) == NUMBER_OF_CASES and sum(test["max_score"] for test in tests) == POINTS


@cache
def server_of(name: str = "cifar10") -> Server:
    """Return the server of an assignment, one for all tests of this process."""
    server = Server(name)
    atexit.register(server.close)
    return server


def grade_folder(
    submission: str,
    expected: str,
    cases: Sequence[str] = (),
    cpu: int = 20,
    wall: float = 60.0,
    deadline: float = 480.0,
    name: str = "cifar10",
    server: Server | None = None,
) -> dict[str, Any]:
    """Grade the submission in a folder.

    Args:
        submission: the folder.
        expected: folder with what the solution computes.
        cases: names of the cases to grade; none for all.
        cpu: seconds of computing for an import or a case.
        wall: seconds of waiting for an import or a case.
        deadline: seconds for all.
        name: of the assignment.
        server: of the assignment; None for the one that the tests share.
    """
    server = server or server_of(name)
    assignment = _choose(name, cases)
    limits = engine.CASE_LIMITS, engine.IMPORT_LIMITS
    set_limits(cpu, wall)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "results.json")
            report = engine.grade(
                assignment,
                Path(submission),
                Path(expected),
                server,
                deadline,
                on_progress=lambda report: results.write_gradescope(report, path),
            )
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
    finally:
        engine.CASE_LIMITS, engine.IMPORT_LIMITS = limits


def set_limits(cpu: int = 20, wall: float = 60.0) -> None:
    """Set the limits of all gradings of this process."""
    engine.CASE_LIMITS = replace(engine.CASE_LIMITS, cpu=cpu, wall=wall)
    engine.IMPORT_LIMITS = replace(engine.IMPORT_LIMITS, cpu=min(cpu, 10), wall=min(wall, 30.0))


def _choose(name: str, cases: Sequence[str]) -> Any:
    """Return an assignment, perhaps with a few of its cases only."""
    assignment = load_assignment(name)
    chosen = tuple(case for case in assignment.cases if case.name in cases or not cases)
    assert len(chosen) == len(set(cases)) or not cases, set(cases) - {c.name for c in chosen}
    return replace(assignment, cases=chosen)


def build_autograder(target: str, cases: Sequence[str] = (), name: str = "cifar10") -> None:
    """Make the zip file for Gradescope, perhaps of a few cases only."""
    build.make_autograder(_choose(name, cases), Path(target), server_of(name))


def grade(*arguments: Any, **options: Any) -> Graded:
    """Grade a folder; the arguments are those of ``grade_folder``."""
    return read(grade_folder(*arguments, **options))


def autograder_of(shared: Callable, name: str = "cifar10") -> Path:
    """Return the zip file for Gradescope, which is built once per test run."""

    def build(path):
        build_autograder(str(path), name=name)

    return shared(f"{name}-autograder.zip", build)


def expected_of(shared: Callable, name: str = "cifar10") -> Path:
    """Return the folder of the expected records, which are computed once per test run."""

    def unpack(folder):
        with zipfile.ZipFile(autograder_of(shared, name)) as archive:
            archive.extractall(folder, [n for n in archive.namelist() if n.startswith("expected/")])

    return shared(f"{name}-expected", unpack) / "expected"


@cache
def offset() -> int:
    """Return where samples start: it changes with the commit. SAMPLE_OFFSET repeats a sample."""
    if "SAMPLE_OFFSET" in os.environ:
        return int(os.environ["SAMPLE_OFFSET"])
    command = ["git", "rev-parse", "--short=6", "HEAD"]
    try:
        head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    except OSError:  # no git
        head = ""
    return int(head or "0", 16)


def sample(items: Sequence[Any], number: int) -> list[Any]:
    """Return at most a number of items, evenly spread; which ones changes with the commit."""
    number = min(number, len(items))
    return [
        items[(index * len(items) // number + offset()) % len(items)] for index in range(number)
    ]


def by_hand(name: str) -> dict[tuple[str, str], str]:
    """Return solution.py with each of the typical mistakes, by problem and description."""
    mistakes = importlib.import_module(f"grader.{name}.mutants").BY_HAND["solution.py"]
    source = (ROOT / name / "solution.py").read_text(encoding="utf-8")
    return {
        (problems.split()[0], what): edit(source, (old, new))
        for problems, texts in mistakes.items()
        for old, changes in texts.items()
        for what, new in changes.items()
    }


def check_mutants(name: str, number: int) -> None:
    """Check that none of a sample of the mutants of an assignment is missed."""
    assignment = load_assignment(name)
    chosen = sample(mutants.make_mutants(assignment), number)
    verdicts = list(mutants.grade_mutants(assignment, chosen, server_of(name)))
    report = f"with SAMPLE_OFFSET={offset()}: {verdicts}"
    assert not [verdict for verdict in verdicts if verdict[1] == "missed"], report
    assert [verdict for verdict in verdicts if verdict[1] == "caught"], report


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
        assert "/tmp/grader-" not in message or verdict["staff"]
        assert "trial.py" not in message and "engine.py" not in message, message
        assert len(message) <= 1000
    for line in answer["table"].splitlines():
        assert len(line) <= 80, line
    return Graded(results=results, **answer)


def make_graded(expected: Path, folder: Path) -> Callable[..., Graded]:
    """Return a function that grades the solution with other files in its place, None for no file.

    Args:
        expected: the folder of the expected records.
        folder: an empty one, for the submission.
    """

    def graded(files, *cases, folder=folder / "submission", expected=expected, **options):
        write_submission(folder, files)
        return grade(str(folder), str(expected), cases, **options)

    return graded


def make_spoilt(graded: Callable[..., Graded]) -> Callable[..., str]:
    """Return a function that grades one changed file and checks that another keeps its points.

    By default on the quick case of the changed file, which has to fail. It returns the message of
    the first case.
    """

    def spoilt(name, text, *cases, files=(), passes=False, others=None, **options):
        others = others or {QUICK["mlp.py" if name == "utils.py" else "utils.py"]}
        cases = cases or (QUICK[name],)
        result = graded({name: text, **dict(files)}, *cases, *others, **options)
        assert result.passed == others | (set(cases) if passes else set()), result.table
        assert not any(verdict["staff"] for verdict in result.verdicts.values())
        return result.message(cases[0])

    return spoilt


if __name__ == "__main__":  # with the project's folder in PYTHONPATH
    requests = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    set_limits(**{key: requests[0][key] for key in ("cpu", "wall") if key in requests[0]})
    with ThreadPoolExecutor(int(os.environ.get("JOBS", 2))) as pool:
        print(json.dumps(list(pool.map(lambda request: grade_folder(**request), requests))))
