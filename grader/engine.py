"""Grade a submission: each case in a process of its own, valid results at all times.

The processes are those of ``server``; this module neither runs student code nor imports PyTorch.
"""

import ast
import json
import marshal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grader import sandbox
from grader.assignment import ROOT, Assignment, Case, read_solution
from grader.imports import bound_by, read_answer, used_in
from grader.server import Killed, Server, Stopped
from grader.submissions import collect, digest

STAND_INS = "stand_ins.json"
IMPORT_LIMITS = sandbox.Limits(cpu=10, wall=30.0, result=1 << 20)
CASE_LIMITS = sandbox.Limits()
NOT_REACHED = "not reached: the grader ran out of time"
KILLED = "the process that ran this case was killed from within or ran out of memory"
STAFF = "This is an error in the grader, not in your code; please tell the course staff. "


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
    digest: str = ""  # of the submitted files

    @property
    def score(self) -> float:
        return sum(c.points for c, v in zip(self.assignment.cases, self.verdicts) if v.passed)


def prepare_expected(
    assignment: Assignment, folder: Path, server: Server, root: Path = ROOT
) -> None:
    """Run all cases on the solution in double precision and save their records.

    Args:
        assignment: the assignment.
        folder: receives one record per case and the solution's stand-ins for parts of student code.
            Only the grader's user may read it.
        server: of the assignment.
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
    for case in assignment.cases:
        outcome = server.run(
            sandbox.Limits(),
            solution,
            trusted=True,
            case=case.name,
            file=case.file,
            dtype="float64",
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
    binding: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        if method and isinstance(node, ast.ClassDef) and node.name == owner:
            node.bases = []
            node.body = [inner for inner in node.body if getattr(inner, "name", None) == method]
        for name in bound_by(node):
            binding.setdefault(name, []).append(node)
    kept, waiting = set(), [owner]
    while waiting:
        for node in binding.pop(waiting.pop(), ()):
            kept.add(node)
            waiting += used_in(node)
    return ast.unparse(ast.Module([n for n in tree.body if n in kept], type_ignores=[]))


def grade(
    assignment: Assignment,
    submission: Path,
    expected: Path,
    server: Server,
    deadline: float = 480.0,
    on_progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Grade a submission; several threads may do so with the same server.

    Args:
        assignment: the assignment.
        submission: folder or zip archive with the student's files.
        expected: folder that ``prepare_expected`` has filled.
        server: of the assignment.
        deadline: seconds; cases not reached by then score 0.
        on_progress: called before the first case and after each.

    Raises:
        server.Stopped: the server was closed meanwhile.
    """
    end = time.monotonic() + deadline
    report = Report(assignment, [Verdict() for _ in assignment.cases])
    on_progress(report)
    files, report.notes = collect(submission, assignment.manifest.SUBMITTED)
    report.digest = digest(files, report.notes)
    grading = _Grading(files, expected.absolute(), server, end)
    for number, case in enumerate(assignment.cases):
        if time.monotonic() >= end:
            break
        try:
            if not number:
                report.gaps = find_gaps(assignment, [submission], expected, server)
            report.verdicts[number] = grading.examine(case)
        except Killed:
            report.verdicts[number] = Verdict(message=KILLED)
        except Stopped:
            raise
        except Exception as error:  # one submission must not end the grading of the others
            text = str(error).replace(f"{grading.expected}/", "")[:300]
            report.verdicts[number] = Verdict(message=f"{STAFF}({text})", staff=True)
        report.notes += [note for note in grading.notes if note not in report.notes]
        on_progress(report)
    report.seconds = time.monotonic() - (end - deadline)
    return report


def find_gaps(
    assignment: Assignment, submissions: Sequence[Path], expected: Path, server: Server
) -> list[str]:
    """Return what is missing from the isolation of submissions on this machine."""
    solution = ROOT / assignment.manifest.SOLUTION
    places = {
        "the solution": [str(solution / name) for name in assignment.manifest.SUBMITTED],
        "the expected records": [str(expected.absolute())],
        "other submissions": [str(path.absolute()) for path in submissions],
    }
    gaps, _ = server.request("probe", 0.0, places=places, jobs=server.jobs)
    return gaps


@dataclass
class _Grading:
    """The grading of a submission.

    Attributes:
        files: its content by name.
        expected: folder of the expected records.
        server: of the assignment.
        end: when the deadline is reached, in the time of ``time.monotonic``.
        imports: why the import of a file fails, "" if it does not, by name.
        left_out: what the import of the files leaves out.
        notes: about the imports, for the student.
    """

    files: dict[str, bytes]
    expected: Path
    server: Server
    end: float
    imports: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def examine(self, case: Case) -> Verdict:
        """Return the verdict of a case: with the submission's own parts, then with stand-ins."""
        if case.file not in self.imports:
            self.imports[case.file] = self._try_import(case.file)
        if self.imports[case.file]:
            return Verdict(message=self.imports[case.file])
        verdict, _ = self._run(case, {})
        if verdict.message != "" and not verdict.staff and case.stand_ins:
            with suppress(Killed):
                other, compared = self._run(case, self._read_stand_ins(case))
                if other.passed:
                    return Verdict(True, "")
                # The place only: what the code says or computes may hold a part of the solution.
                if compared and not verdict.message.startswith(other.message):
                    parts = ", ".join(case.stand_ins)
                    verdict.message = f"{other.message}: wrong even with a correct {parts}"
        return verdict

    def _try_import(self, file: str) -> str:
        """Import a submitted file and return why this fails, "" if it does not.

        If the import does not end, it is tried again without what is not a definition.
        """
        if file not in self.files:
            return f"{file} is missing"
        message = ""
        for left_out in (self.left_out, self.left_out | {file: "all"}):
            outcome = self.server.run(IMPORT_LIMITS, self.files, file=file, left_out=left_out)
            if outcome.result is not None:
                break
            how = _how_it_ended(outcome, IMPORT_LIMITS)
            message = message or f"{file} cannot be imported: {how}"
        if outcome.result is None:
            return message
        if outcome.result[:1] != b"R":
            return message or f"{file} cannot be imported: {_clean(outcome.result[1:])}"
        notes, found = read_answer(outcome.result[1:])
        self.notes += [_clean(note.encode(errors="replace")) for note in notes]
        self.left_out |= found
        return ""

    def _read_stand_ins(self, case: Case) -> dict[str, bytes]:
        """Return compiled parts of the solution without their text."""
        sources = json.loads((self.expected / STAND_INS).read_text(encoding="utf-8"))[case.file]
        return {
            part: marshal.dumps(compile(sources[part], "<solution>", "exec", optimize=2))
            for part in case.stand_ins
        }

    def _run(self, case: Case, stand_ins: dict[str, bytes]) -> tuple[Verdict, bool]:
        """Run and judge a case; return the verdict, and whether it comes from the judge.

        With stand-ins, the judge's message is only the place of the first difference.
        """
        remaining = max(self.end - time.monotonic(), 0)
        limits = replace(CASE_LIMITS, wall=min(CASE_LIMITS.wall, remaining))
        outcome = self.server.run(
            limits,
            self.files,
            case=case.name,
            file=case.file,
            stand_ins=stand_ins,
            left_out=self.left_out,
        )
        if outcome.result is None:
            if limits.wall < CASE_LIMITS.wall and time.monotonic() >= self.end:
                return Verdict(), False
            return Verdict(message=_how_it_ended(outcome, limits)), False
        record = outcome.result[1:]
        if outcome.result[:1] != b"R":
            # Student code may have sent this; an empty message would pass.
            message = _clean(record).strip() or "the code ended without a result"
            return Verdict(message=message), False
        message, _ = self.server.request(
            "judge",
            sandbox.Limits().wall,
            case=case.name,
            record=record,
            expected=self.expected,
            brief=bool(stand_ins),
        )
        return Verdict(not message, _clean(message.encode(errors="replace"))), True


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
