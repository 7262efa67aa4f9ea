"""Build the zip file to upload to Gradescope."""

import tempfile
from pathlib import Path, PurePosixPath

from grader.archive import write_zip
from grader.assignment import ROOT, Assignment
from grader.engine import prepare_expected
from grader.server import Server

# The modules that run on Gradescope.
ENGINE = (
    "grader/__init__.py", "grader/__main__.py", "grader/assignment.py", "grader/engine.py",
    "grader/feedback.py", "grader/forbidden.py", "grader/imports.py", "grader/judge.py",
    "grader/marks.py", "grader/pages.py", "grader/results.py", "grader/sandbox.py",
    "grader/server.py", "grader/submissions.py", "grader/trial.py", "training/__init__.py",
    "training/arguments.py", "training/files.py", "training/interrupt.py",
)  # fmt: skip


def make_autograder(
    assignment: Assignment, target: Path, server: Server, root: Path = ROOT
) -> Path:
    """Build the zip: engine, cases and expected records, but not the solution.

    Args:
        assignment: the assignment.
        target: the zip file.
        server: of the assignment.
        root: folder of the project.

    Returns:
        The path of the zip file.
    """
    names = [*ENGINE, *(f"grader/{assignment.name}/{name}.py" for name in ("manifest", "cases"))]
    if "test.py" in assignment.manifest.HANDOUT:  # which cases run too
        names.append(str(PurePosixPath(assignment.manifest.SOLUTION, "test.py")))
        names.append("training/testing.py")
    members = {name: (ROOT / name).read_bytes() for name in names}
    for name in ("setup.sh", "run_autograder", "requirements.txt"):
        text = (ROOT / "grader" / "gradescope" / name).read_text(encoding="utf-8")
        members[name] = text.replace("ASSIGNMENT", assignment.name).encode()
    with tempfile.TemporaryDirectory() as folder:
        prepare_expected(assignment, Path(folder), server, root)
        for path in Path(folder).iterdir():
            members[f"expected/{path.name}"] = path.read_bytes()
    return write_zip(target, members, executable=("setup.sh", "run_autograder"))
