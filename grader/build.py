"""Build the zip file to upload to Gradescope."""

import tempfile
from pathlib import Path

from grader.archive import write_zip
from grader.engine import ROOT, Assignment, prepare_expected

PACKAGE = Path(__file__).resolve().parent
# The modules that run on Gradescope.
ENGINE = (
    "__init__.py",
    "__main__.py",
    "engine.py",
    "judge.py",
    "results.py",
    "sandbox.py",
    "trial.py",
)


def make_autograder(assignment: Assignment, target: Path, root: Path = ROOT) -> Path:
    """Build the zip: engine, cases and expected records, but not the solution.

    Args:
        assignment: the assignment.
        target: the zip file.
        root: folder of the project.

    Returns:
        The path of the zip file.
    """
    members = {f"grader/{name}": (PACKAGE / name).read_bytes() for name in ENGINE}
    for name in ("__init__.py", "manifest.py", "cases.py"):
        path = PACKAGE / assignment.name / name
        members[f"grader/{assignment.name}/{name}"] = path.read_bytes()
    for name in ("setup.sh", "run_autograder", "requirements.txt"):
        text = (PACKAGE / "gradescope" / name).read_text(encoding="utf-8")
        members[name] = text.replace("ASSIGNMENT", assignment.name).encode()
    with tempfile.TemporaryDirectory() as folder:
        prepare_expected(assignment, Path(folder), root)
        for path in Path(folder).iterdir():
            members[f"expected/{path.name}"] = path.read_bytes()
    return write_zip(target, members, executable=("setup.sh", "run_autograder"))
