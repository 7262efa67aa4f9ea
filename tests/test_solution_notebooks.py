"""``solution.ipynb`` of the siblings: executed in the handout, as a student would."""

import json
import re
import subprocess
import sys
import zipfile

import pytest

from grader.assignment import load_manifest
from grader.handout import make_handout
from grader.notebook import fill_notebook, split

from conftest import ROOT
from notebooks import execute, pictures, read

NAMES = ("numpy_networks", "regression")
each = pytest.mark.parametrize("name", NAMES)
WRITTEN = "# Written by solution.ipynb: change its cells, not this file.\n"
# What a form says in place of the course's data and epochs, and what a training prints.
SMALL = {"numpy_networks": {"epochs": 1, "subset": 20}, "regression": {"epochs": 1}}
TRAINED = {"numpy_networks": 1, "regression": 3}
PICTURES = {"numpy_networks": 5, "regression": 1}


@pytest.fixture
def handout(name, tmp_path):
    """The folder that students unpack."""
    archive = make_handout(load_manifest(name), ROOT, tmp_path / "handout.zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    return tmp_path / name


def read_solution(name):
    return (ROOT / name / "solution.py").read_text(encoding="utf-8")


@pytest.mark.slow
@each
def test_a_student_who_writes_in_the_notebook_gets_the_file_its_tests_and_its_figures(
    name, handout, small_npz
):
    template = (ROOT / name / "solution.ipynb").read_bytes()
    solved = fill_notebook(template, {"solution.py": read_solution(name).encode()})
    (handout / "solution.ipynb").write_bytes(solved)
    stub = (handout / "solution.py").read_text(encoding="utf-8")
    form = SMALL[name] | {"data": str(small_npz)}

    notebook = read(handout / "solution.ipynb", **form)
    printed, _ = execute(notebook, handout)
    written = (handout / "solution.py").read_text(encoding="utf-8")
    assert written == f"{read_solution(name)}\n\n{WRITTEN}"
    assert (handout / "solution_before.py").read_text(encoding="utf-8") == stub
    assert re.search(r"^1\.1: (\d) of \1 tests pass$", printed, re.MULTILINE)
    epochs = re.findall(r"^epoch +\d+/\d+  train loss", printed, re.MULTILINE)
    assert len(epochs) == TRAINED[name]
    assert len(pictures(notebook)) == PICTURES[name]

    (handout / "solution_before.py").unlink()
    printed, _ = execute(read(handout / "solution.ipynb", **form), handout)
    assert (handout / "solution.py").read_text(encoding="utf-8") == written
    assert not (handout / "solution_before.py").exists()  # nothing else has been here


@pytest.mark.slow
@each
def test_as_it_is_handed_out_the_notebook_says_what_is_not_written(name, handout):
    stub = (handout / "solution.py").read_text(encoding="utf-8")
    notebook = read(handout / "solution.ipynb", data="shapes")
    printed, _ = execute(notebook, handout)
    assert (handout / "solution.py").read_text(encoding="utf-8") == f"{stub}\n\n{WRITTEN}"
    assert re.search(r"NotImplementedError: Problem 1\.1: ", printed, re.MULTILINE)
    errors = re.findall(r"^train\.py: (?:error|stopped): Problem \d\.\d: ", printed, re.MULTILINE)
    assert len(errors) == TRAINED[name] and pictures(notebook) == []


@each
def test_the_cells_are_the_sections_of_the_students_file(name, handout):
    """Together they are the file: nothing that students write is in the notebook."""
    notebook = read(handout / "solution.ipynb")
    cells = [cell.source for cell in notebook.cells if cell.source.startswith("# solution.py, ")]
    parts = [source.partition("\n")[2] for source in cells]
    source = (handout / "solution.py").read_text(encoding="utf-8")
    assert parts == split(source) and len(parts) > 1
    assert "\n\n\n".join(parts) + "\n" == source


@each
def test_a_cell_that_has_not_been_run_is_missed(name, tmp_path):
    notebook = read(ROOT / name / "solution.ipynb")
    (code,) = (cell.source for cell in notebook.cells if cell.source.startswith("def export"))
    for cells, message in (([], "0 of 0"), (["# solution.py, part 2 of 3\nx"], "1 of 3")):
        program = f"In = {cells!r}\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
        expected = f"{message} parts have been run: run all cells above first.\n"
        assert (done.stdout, done.stderr) == (expected, "")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_that_does_not_name_each_section_in_order_is_an_error():
    rule = "# " + 30 * "-"
    source = f"one\n{rule} two\ntwo\n".encode()

    def fill(*cells):
        cells = [{"cell_type": "code", "source": [cell]} for cell in cells]
        return fill_notebook(json.dumps({"cells": cells}).encode(), {"a.py": source})

    first, second = "# a.py, part 1 of 2", "# a.py, part 2 of 2"
    filled = json.loads(fill("other", first, second))
    texts = ["".join(cell["source"]) for cell in filled["cells"]]
    assert texts == ["other", f"{first}\none", f"{second}\n{rule} two\ntwo"]
    for cells in ((first,), (second, first), (first, second, second), ("# a.py, part 1 of 3",)):
        with pytest.raises(ValueError, match="needs these cells, in this order: # a"):
            fill(*cells)


@each
def test_the_notebook_is_committed_without_outputs_and_without_the_solution(name):
    content = json.loads((ROOT / name / "solution.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] for cell in code)
    assert all(cell["execution_count"] is None for cell in code)
    places = [cell for cell in code if "".join(cell["source"]).startswith("# solution.py, ")]
    assert all(len(cell["source"]) == 1 for cell in places)
