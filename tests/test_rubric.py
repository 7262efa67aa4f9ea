"""The rubric for course staff: its points are those of the sheets, and its numbers are measured."""

import re

import pytest

from experiments import __main__ as command_line
from experiments.rubric import BLOCK, NOTHING, fill
from grader.assignment import load_manifest

from conftest import ROOT
from test_experiments import arguments, tiny  # noqa: F401, a fixture

RUBRIC = (ROOT / "docs" / "staff" / "rubric.md").read_text(encoding="utf-8")
ASSIGNMENTS = {1: "cifar10", 2: "numpy_networks", 3: "regression"}


def points_of_sheet(name):
    """The points of each question of the report, from the table of the sheet."""
    folder = ROOT / load_manifest(name).SOLUTION / "docs"
    text = (folder / "assignment.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| ([\d.]+) \|[^|]*\| (\d+) \| report ", text, re.MULTILINE))


def questions_of_rubric(number):
    """The points of each question, and those of the rows of its table."""
    part = RUBRIC.partition(f"## Assignment {number}:")[2].partition("\n## ")[0]
    questions = re.split(r"^### ", part, flags=re.MULTILINE)[1:]
    found = {}
    for text in questions:
        question, points = re.match(r"([\d.]+) .* \((\d+) points\)", text).groups()
        rows = [int(row) for row in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
        found[question] = points, rows
    return found


@pytest.mark.parametrize("number, name", ASSIGNMENTS.items())
def test_every_question_of_the_report_has_its_points(number, name):
    found = questions_of_rubric(number)
    assert {question: points for question, (points, _) in found.items()} == points_of_sheet(name)
    for points, rows in found.values():
        assert sum(rows) == int(points) and len(rows) > 2


def test_no_handout_has_the_rubric():
    for name in ASSIGNMENTS.values():
        assert not [file for file in load_manifest(name).HANDOUT if "staff" in file]


def test_every_block_names_experiments_and_the_numbers_are_those_of_the_results():
    """Made anew, there is no difference."""
    assert len(BLOCK.findall(RUBRIC)) == sum(map(len, map(questions_of_rubric, ASSIGNMENTS)))
    assert fill(RUBRIC, str(ROOT / "results")) == RUBRIC


def test_a_block_holds_what_was_measured(tiny, tmp_path):  # noqa: F811
    command = arguments("nonlinearity", tiny, tmp_path, "--epochs", "1", "--device", "cpu")
    assert command_line.main(command) == 0
    filled = fill(RUBRIC, str(tmp_path))
    parts = filled.split("<!-- measured: ")[1:]
    answers = {names: text for names, _, text in (part.partition(" -->") for part in parts)}
    assert "The best validation accuracy is" in answers["nonlinearity"]
    assert "| activation | parameters |" in answers["nonlinearity"]
    assert "![" not in filled and not (tmp_path / "figures").exists()
    assert all(NOTHING in text for name, text in answers.items() if name != "nonlinearity")
    assert fill(filled, str(tmp_path)) == filled
    assert fill(filled, str(tmp_path / "elsewhere")) == fill(RUBRIC, str(tmp_path / "elsewhere"))
