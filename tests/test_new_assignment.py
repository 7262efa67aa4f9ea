"""The page on a new assignment, word for word: its files, its commands and what they print."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from conftest import ROOT

PAGE = (ROOT / "docs" / "new_assignment.md").read_text(encoding="utf-8")
FILES = dict(
    re.findall(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the grader, and the files of the page."""
    folder = tmp_path_factory.mktemp("new") / "project"
    for name in ("grader", "training"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(command, project):
    """Run a command as a shell does, with this Python; return its status and its output."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        command, shell=True, cwd=project, capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def test_the_handout_holds_the_docstrings_and_no_solution(project):
    status, printed = run("python -m grader handout attention", project)
    assert status == 0, printed
    with zipfile.ZipFile(project / printed.strip()) as archive:
        assert archive.namelist() == ["attention/README.md", "attention/solution.py"]
        text = archive.read("attention/solution.py").decode()
    assert text.count("raise NotImplementedError(") == 2 and "Return softmax(Q K^T" in text
    assert "amax" not in text and "@" not in text


@pytest.mark.slow
def test_the_page_does_what_it_says(project):
    """Each line that it shows is printed, but for the seconds; all commands succeed."""
    assert len(COMMANDS) == 5
    output = ""
    for command in COMMANDS:
        status, printed = run(command, project)
        assert status == 0, printed
        output += printed

    def without_seconds(text):
        return [re.sub(r"[\d.]+ s$", "N s", line).strip() for line in text.splitlines()]

    shown = [line for language, block in BLOCKS if not language for line in without_seconds(block)]
    assert shown and [line for line in shown if line not in without_seconds(output)] == []
    with zipfile.ZipFile(project / "dist" / "attention-autograder.zip") as archive:
        names = archive.namelist()
    assert {"grader/attention/cases.py", "expected/softmax_is_finite.npz"} <= set(names)
    assert not [name for name in names if name.endswith(("solution.py", "mutants.py"))]
