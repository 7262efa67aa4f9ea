"""Grade a submission: one process per case, valid results on disk at all times.

There are three kinds of processes. The main process keeps the results and never runs student code.
It forks a worker, which runs the cases one by one in ``sandbox`` and judges them. If the worker is
killed, the current case fails and a new worker continues with the next.
"""

import ast
import importlib
import json
import os
import signal
import stat
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import torch

from grader import judge, sandbox
from grader.imports import LeftOut, read_answer
from grader.trial import Case, conduct

# Imported once here rather than in every case; if one is missing, students' imports fail likewise.
with suppress(ImportError), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import matplotlib.figure
    import matplotlib.pyplot  # noqa: F401
    import numpy.random  # noqa: F401
with suppress(Exception), warnings.catch_warnings():  # it may be of another version than torch
    warnings.simplefilter("ignore")
    import torchvision  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
LARGEST_FILE = 1 << 20  # bytes of a submitted file
STAND_INS = "stand_ins.json"
IMPORT_LIMITS = sandbox.Limits(cpu=10, wall=30.0)
CASE_LIMITS = sandbox.Limits()
NOT_REACHED = "not reached: the grader ran out of time"
STAFF = "This is an error in the grader, not in your code; please tell the course staff. "


@dataclass(frozen=True)
class Assignment:
    """An assignment: its manifest and its cases."""

    name: str
    manifest: ModuleType
    cases: tuple[Case, ...]

    @property
    def points(self) -> float:
        return sum(self.manifest.POINTS.values())


@dataclass
class Verdict:
    """The result of a case.

    Attributes:
        passed: whether the case scores its points.
        message: for the student, "" if the case passed.
        staff: whether an error in the grader made it fail.
    """

    passed: bool = False
    message: str = NOT_REACHED
    staff: bool = False


@dataclass
class Report:
    """The result of grading a submission."""

    assignment: Assignment
    verdicts: list[Verdict]
    notes: list[str] = field(default_factory=list)  # about the files, for the student
    gaps: list[str] = field(default_factory=list)  # missing isolation, for the staff
    seconds: float = 0.0

    @property
    def score(self) -> float:
        return sum(c.points for c, v in zip(self.assignment.cases, self.verdicts) if v.passed)


def load_assignment(name: str) -> Assignment:
    """Load an assignment by the name of its folder.

    Raises:
        ValueError: unknown name, or points that do not add up.
    """
    folder = Path(__file__).resolve().parent
    known = sorted(path.parent.name for path in folder.glob("*/manifest.py"))
    if name not in known:
        raise ValueError(f"there is no assignment {name!r}; choose from {', '.join(known)}")
    manifest = importlib.import_module(f"grader.{name}.manifest")
    module = importlib.import_module(f"grader.{name}.cases")
    cases = tuple(value for value in vars(module).values() if isinstance(value, Case))
    if not cases:
        raise ValueError(f"{name} has no cases")
    for problem, points in manifest.POINTS.items():
        members = [c for c in cases if c.problem == problem or c.problem.startswith(problem + ".")]
        total = sum(c.points for c in members)
        if total != points:
            raise ValueError(f"{name}: the cases of problem {problem} sum to {total}, not {points}")
    if sum(c.points for c in cases) != sum(manifest.POINTS.values()):
        raise ValueError(f"{name}: some cases belong to problems that the manifest does not list")
    return Assignment(name, manifest, cases)


def read_solution(assignment: Assignment, root: Path = ROOT) -> dict[str, bytes]:
    """Return the solution's files by name."""
    folder = root / assignment.manifest.SOLUTION
    return {name: (folder / name).read_bytes() for name in assignment.manifest.SUBMITTED}


def prepare_expected(assignment: Assignment, folder: Path, root: Path = ROOT) -> None:
    """Run all cases on the solution in double precision and save their records.

    Args:
        assignment: the assignment.
        folder: receives one record per case and the solution's stand-ins for parts of student code.
            Only the grader's user may read it.
        root: folder of the project.

    Raises:
        RuntimeError: the solution fails in a case.
    """
    solution = read_solution(assignment, root)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    sources = {
        name: {part: _extract(text.decode(), part) for part in _parts(assignment, name)}
        for name, text in solution.items()
    }
    (folder / STAND_INS).write_text(json.dumps(sources), encoding="utf-8")
    isolation = sandbox.Isolation(uid=None, reads_all=False, gaps=())
    for case in assignment.cases:
        outcome = sandbox.run(
            partial(conduct, case, dtype=torch.float64),
            isolation,
            sandbox.Limits(),
            solution,
            trusted=True,
        )
        content = outcome.result or b"E" + f"{outcome.ended} {outcome.trace}".encode()
        if content[:1] != b"R":
            raise RuntimeError(f"the solution fails in {case.name}: {content[1:].decode()}")
        (folder / f"{case.name}.npz").write_bytes(content[1:])


def _parts(assignment: Assignment, file: str) -> list[str]:
    """Return the names of a file's stand-ins in a fixed order."""
    return sorted({part for c in assignment.cases if c.file == file for part in c.stand_ins})


def _extract(source: str, part: str) -> str:
    """Return the source of a class, function or method with everything it uses in its file."""
    tree = ast.parse(source)
    owner, _, method = part.partition(".")
    definitions = {}
    for node in tree.body:
        if method and isinstance(node, ast.ClassDef) and node.name == owner:
            node.bases = []
            node.body = [inner for inner in node.body if getattr(inner, "name", None) == method]
        names = [getattr(node, "name", None)]
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        definitions.update(dict.fromkeys(names, node))
    kept, waiting = set(), [owner]
    while waiting:
        found = definitions.get(waiting.pop())
        if found is not None and found not in kept:
            kept.add(found)
            waiting += _names_in(found)
    used = {name for node in kept for name in _names_in(node)}
    for node in tree.body:
        imported = node.names if isinstance(node, ast.Import | ast.ImportFrom) else ()
        if used & {(alias.asname or alias.name).split(".")[0] for alias in imported}:
            kept.add(node)
    return ast.unparse(ast.Module([n for n in tree.body if n in kept], type_ignores=[]))


def _names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


@dataclass(frozen=True)
class Member:
    """A file of a submission: its path, its size in bytes, and a function that reads it."""

    path: PurePosixPath
    size: int
    is_link: bool
    read: Callable[[], bytes]


def collect(submission: Path, names: tuple[str, ...]) -> tuple[dict[str, bytes], list[str]]:
    """Find the submitted files in a folder or zip archive.

    A file in a subfolder or with capitals in its name is used if it is the only candidate. No other
    file is read, no link is followed, and nothing is unpacked.

    Returns:
        The content of the files by name, and a note about each irregularity.

    Raises:
        ValueError: neither a folder nor a zip archive.
    """
    files, notes = {}, []
    members = list(_members(submission))
    for name in names:
        similar = [m for m in members if m.path.name.lower() == name]
        exact = [m for m in similar if str(m.path) == name]
        choice = [m for m in exact or similar if not m.is_link]
        if len(choice) > 1:
            found = ", ".join(str(m.path) for m in choice[:4])
            notes.append(f"{name} was found in several places: {found}. None was used.")
        elif not choice:
            fault = "is a link; submit the file itself" if similar else "is missing"
            notes.append(f"{name} {fault}.")
        elif choice[0].size > LARGEST_FILE:
            notes.append(f"{name} has more than {LARGEST_FILE:,} bytes and was not used.")
        else:
            try:
                files[name] = choice[0].read()
            except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                notes.append(f"{name} cannot be read: {getattr(error, 'strerror', error)}.")
            if not exact:
                notes.append(f"{name} was taken from {choice[0].path}.")
    # Folder names may contain any bytes.
    return files, [_clean(os.fsencode(note)) for note in notes]


def _members(submission: Path) -> Iterator[Member]:
    """Yield the files of a folder or zip archive, except those with a path outside it."""
    if submission.is_dir():
        inside = submission.resolve()
        for path in sorted(submission.rglob("*")):
            relative = path.relative_to(submission)
            if path.is_file():
                is_link = path.resolve() != inside / relative
                size = path.stat().st_size
                yield Member(PurePosixPath(relative), size, is_link, path.read_bytes)
    elif zipfile.is_zipfile(submission):
        with zipfile.ZipFile(submission) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                stored = PurePosixPath(info.filename.replace("\\", "/"))
                if info.is_dir() or stored.is_absolute() or ".." in stored.parts:
                    continue
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                yield Member(stored, info.file_size, is_link, partial(_unzip, submission, info))
    else:
        raise ValueError(f"{submission} is neither a folder nor a zip archive")


def _unzip(path: Path, member: zipfile.ZipInfo) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def grade(
    assignment: Assignment,
    submission: Path,
    expected: Path,
    deadline: float = 480.0,
    worker: int = 0,
    on_progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Grade a submission.

    Args:
        assignment: the assignment.
        submission: folder or zip archive with the student's files.
        expected: folder that ``prepare_expected`` has filled.
        deadline: seconds; cases not reached by then score 0.
        worker: index of this grader among those running in parallel.
        on_progress: called before the first case and after each.
    """
    started = time.monotonic()
    report = Report(assignment, [Verdict() for _ in assignment.cases])
    on_progress(report)
    files, report.notes = collect(submission, assignment.manifest.SUBMITTED)
    number = 0
    while number < len(assignment.cases) and time.monotonic() - started < deadline:
        remaining = deadline - (time.monotonic() - started)
        failure = Verdict(
            message="the process that ran this case was killed from within or ran out of memory"
        )
        for message in _work(assignment, files, expected, number, worker, remaining):
            if "gaps" in message:
                report.gaps = message["gaps"]
                continue
            if "notes" in message:
                fresh = map(_clean, (note.encode(errors="replace") for note in message["notes"]))
                report.notes += [note for note in fresh if note not in report.notes]
                continue
            if "error" in message:
                failure = Verdict(message=f"{STAFF}({message['error']})", staff=True)
                continue
            report.verdicts[number] = Verdict(**message)
            number += 1
            on_progress(report)
        if number < len(assignment.cases) and time.monotonic() - started < deadline:
            report.verdicts[number] = failure
            number += 1
            on_progress(report)
    report.seconds = time.monotonic() - started
    return report


def _work(
    assignment: Assignment,
    files: Mapping[str, bytes],
    expected: Path,
    first: int,
    worker: int,
    seconds: float,
) -> Iterator[dict]:
    """Start a worker for the cases from ``first`` on and yield its messages."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            os.setsid()  # signals to the worker's process group do not reach the parent
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
            with os.fdopen(writing, "w") as pipe:
                try:
                    for message in _examine_all(
                        assignment, files, expected, first, worker, seconds
                    ):
                        print(json.dumps(message), file=pipe, flush=True)
                except Exception as error:
                    text = f"{type(error).__name__}: {error}"
                    print(json.dumps({"error": text}), file=pipe, flush=True)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            for line in pipe:
                with suppress(ValueError):  # a killed worker may leave half a line
                    yield json.loads(line)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _examine_all(
    assignment: Assignment,
    files: Mapping[str, bytes],
    expected: Path,
    first: int,
    worker: int,
    seconds: float,
) -> Iterator[dict]:
    """Yield a verdict for each case from ``first`` on; after the deadline, NOT_REACHED."""
    started = time.monotonic()
    isolation = sandbox.isolate(worker)
    yield {"gaps": list(isolation.gaps)}
    imports: dict[str, str] = {}  # file: why its import fails, "" if it does not
    left_out: dict[str, Any] = {}
    for case in assignment.cases[first:]:
        if time.monotonic() - started >= seconds:
            yield vars(Verdict())
            continue
        message, staff = "", False
        if case.file not in imports:
            imports[case.file], notes, found = _try_import(case.file, files, isolation, left_out)
            left_out |= found
            yield {"notes": notes}
        if imports[case.file]:
            message = imports[case.file]
        else:
            end = started + seconds
            message, staff = _examine(case, files, left_out, expected, isolation, end, False)
            if message and not staff and case.stand_ins:
                second = _examine(case, files, left_out, expected, isolation, end, True)
                if second == ("", False):
                    message = ""
        yield vars(Verdict(not message, message, staff))


def _try_import(
    file: str, files: Mapping[str, bytes], isolation: sandbox.Isolation, left_out: LeftOut
) -> tuple[str, list[str], dict[str, Any]]:
    """Import a submitted file; return why this fails, notes, and what has to be left out.

    If the import does not end, it is tried again without what is not a definition.
    """
    if file not in files:
        return f"{file} is missing", [], {}
    message = ""
    for skipped in (left_out, {**left_out, file: "all"}):
        outcome = sandbox.run(
            partial(conduct, None, file=file, left_out=skipped), isolation, IMPORT_LIMITS, files
        )
        if outcome.result is not None and outcome.result[:1] == b"R":
            return "", *read_answer(outcome.result[1:])
        if outcome.result is not None:
            message = message or f"{file} cannot be imported: {_clean(outcome.result[1:])}"
            break
        how = _how_it_ended(outcome, IMPORT_LIMITS)
        message = message or f"{file} cannot be imported: {how}"
    return message, [], {}


def _examine(
    case: Case,
    files: Mapping[str, bytes],
    left_out: LeftOut,
    expected: Path,
    isolation: sandbox.Isolation,
    end: float,
    with_stand_ins: bool,
) -> tuple[str, bool]:
    """Run and judge a case; return a message, "" if it passed, and whether the grader failed."""
    limits = replace(CASE_LIMITS, wall=min(CASE_LIMITS.wall, max(end - time.monotonic(), 0)))

    def run_case(code: Path) -> bytes:
        return conduct(case, code, stand_ins=stand_ins, left_out=left_out)

    def judge_case(code: Path) -> bytes:
        wanted = judge.read_record((expected / f"{case.name}.npz").read_bytes())
        if not wanted:
            raise ValueError("the expected record is empty")
        try:
            message = judge.compare(judge.read_record(record), wanted)
        except Exception as fault:  # forged bytes may raise anything
            message = f"the code damaged the grader's record: {fault}"
        return message.encode(errors="replace")

    stand_ins = {}
    if with_stand_ins:
        try:
            sources = json.loads((expected / STAND_INS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return f"{STAFF}({error})", True
        parts = sources[case.file]
        stand_ins = {case.file: {part: parts[part] for part in case.stand_ins}}
    outcome = sandbox.run(run_case, isolation, limits, files)
    if outcome.result is None and limits.wall < CASE_LIMITS.wall and time.monotonic() >= end:
        return NOT_REACHED, False
    if outcome.result is None:
        return _how_it_ended(outcome, limits), False
    record = outcome.result[1:]
    if outcome.result[:1] != b"R":
        # Student code may have sent this; an empty message would pass.
        return _clean(record).strip() or "the code ended without a result", False
    judged = sandbox.run(judge_case, isolation, sandbox.Limits(), {}, trusted=True)
    if judged.result is None:
        trace = judged.trace.replace(f"{expected}/", "").strip()
        return f"{STAFF}({judged.ended}: {trace[-300:]})", True
    return _clean(judged.result), False


def _how_it_ended(outcome: sandbox.Outcome, limits: sandbox.Limits) -> str:
    """Return a message for the student: why the code did not finish."""
    lines = [line.strip() for line in outcome.trace.splitlines()]
    own = [line for line in lines if line.startswith("File") and "/code/" in line]
    where = ""
    if own:
        # Some instructions, such as the jump back in a loop, have no line of their own.
        place = own[0].rpartition("/code/")[2].replace('"', "").replace(", line ???", "")
        where = f" ({_clean(place.encode())})"
    if outcome.ended == "time":
        return (
            f"stopped after {limits.cpu} s of CPU time or {limits.wall:.0f} s in total{where}. "
            "Is there an infinite loop?"
        )
    if outcome.ended == "result too large":
        return f"returned more than {limits.result >> 20} MB"
    if outcome.ended.startswith("exit"):
        return f"the process ended by itself, with {outcome.ended} (os._exit?){where}"
    if outcome.ended == "SIGKILL":
        return f"the process was killed; it may have used too much memory{where}"
    return f"the process crashed ({outcome.ended}){where}"


def _clean(content: bytes) -> str:
    """Return short, printable text that is safe to show."""
    text = content.decode("utf-8", errors="replace")
    return "".join(c for c in text if c == "\n" or c.isprintable())[:1000]
