"""An assignment: its manifest and its cases, as plain data."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """A check and its points.

    Attributes:
        name: of the check's function.
        title: the first line of its docstring.
        problem: number in the assignment, such as "1.1".
        points: all or nothing.
        file: the submitted file that it tests.
        public: whether students see the result before the grades are published.
        hint: what students see before that if a hidden case fails.
        stand_ins: parts of the file from other problems, such as "Linear" or "MLP._build_layers".
            If the case fails with the student's own parts, it runs again with the solution's, so
            that one mistake costs points once.
        check: records what the submission computes; only where the cases are imported.
        forbidden: what a part of the file must not use, a ``forbidden.Forbidden``; only where the
            cases are imported.
    """

    name: str
    title: str
    problem: str
    points: float
    file: str
    public: bool
    hint: str
    stand_ins: tuple[str, ...]
    check: Callable[[Any], None] | None = None
    forbidden: Any = None


@dataclass(frozen=True)
class Assignment:
    """An assignment: its manifest and its cases."""

    name: str
    manifest: ModuleType
    cases: tuple[Case, ...]

    @property
    def points(self) -> float:
        return sum(self.manifest.POINTS.values())


def list_assignments() -> list[str]:
    """Return the names of all assignments."""
    return sorted(path.parent.name for path in (ROOT / "grader").glob("*/manifest.py"))


def load_manifest(name: str) -> ModuleType:
    """Load the manifest of an assignment by the name of its folder.

    Raises:
        ValueError: unknown name.
    """
    known = list_assignments()
    if name not in known:
        raise ValueError(f"there is no assignment {name!r}; choose from {', '.join(known)}")
    return importlib.import_module(f"grader.{name}.manifest")


def load_assignment(name: str) -> Assignment:
    """Load an assignment with its cases, which import PyTorch.

    Raises:
        ValueError: unknown name, or points that do not add up.
    """
    manifest = load_manifest(name)
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
