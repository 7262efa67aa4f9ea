"""``main.ipynb``: executed as a student would, with the files of the handout beside it."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.display import Image
from nbclient import NotebookClient

from grader.cifar10 import manifest

from conftest import ROOT

NOTEBOOK = ROOT / "main.ipynb"
SLOW = pytest.mark.slow
TRAINED = r"epoch +\d+/\d+  train loss"  # the line after an epoch; a bar was there before
SMALL = {"epochs": 1, "batch_size": 64}


@pytest.fixture
def project(tmp_path):
    """A folder with the files that students have, solved."""
    folder = tmp_path / "mon projet"
    for name in {*manifest.HANDOUT, *manifest.SUBMITTED}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def read_notebook(**form):
    """The notebook, with other values in its form."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for name, value in form.items():
        line = re.compile(rf"^{name} = [^#]*(?=  # @param)", re.MULTILINE)
        found = 0
        for cell in notebook.cells:
            cell.source, number = line.subn(lambda _: f"{name} = {value!r}", cell.source)  # noqa: B023
            found += number
        assert found == 1, name
    return notebook


def execute(notebook, folder):
    """Run all cells and return the text that they print; an error or a warning fails the test."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    red = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert red == ""
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def to_the_training(notebook):
    """The notebook up to the first training, without the students' tests."""
    notebook.cells = notebook.cells[: 1 + _find(notebook, "train(logdir, lr=lr)")]
    del notebook.cells[_find(notebook, "test.py")]
    return notebook


def pictures(notebook):
    return [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def test_the_cells_run_one_after_the_other(small_npz, tmp_path, monkeypatch, capsys):
    """In this process and without Jupyter; the slow tests execute the notebook itself."""
    shown = []
    stand_in = SimpleNamespace(run_line_magic=lambda *_: None, system=shown.append)
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.chdir(tmp_path)
    scope = {"get_ipython": lambda: stand_in}
    for cell in read_notebook(**SMALL, data=str(small_npz)).cells:
        if cell.cell_type == "code":
            exec(TransformerManager().transform_cell(cell.source), scope)
    assert len(re.findall(TRAINED, capsys.readouterr().out)) == 4
    test, *images = shown
    assert test == "{sys.executable} test.py"
    assert len(images) == 4 + 1 + 4 and {type(image) for image in images} == {Image}


@SLOW
def test_the_notebook_runs_from_top_to_bottom_and_again_without_training_anything_twice(
    project, small_npz
):
    small = SMALL | {"data": str(small_npz)}
    notebook = read_notebook(**small)
    printed = execute(notebook, project)
    assert re.search(r"^OK", printed, re.MULTILINE)  # of the students' tests
    assert len(re.findall(TRAINED, printed)) == 4
    assert "resuming" not in printed
    assert len(pictures(notebook)) == 4 + 1 + 4
    results = (project / "exps" / "mlp" / "results.json").read_bytes()

    again = read_notebook(**small)
    printed = execute(again, project)
    assert len(re.findall(TRAINED, printed)) == 0
    assert printed.count("resuming after epoch 1") == 4
    assert len(pictures(again)) == 4 + 1 + 4
    assert (project / "exps" / "mlp" / "results.json").read_bytes() == results


@SLOW
def test_a_session_that_was_cut_off_resumes_with_the_same_cell(project, small_npz):
    """The first session ends after two of four epochs: its notebook asks for no more."""
    for epochs in (2, 4):
        small = SMALL | {"epochs": epochs, "data": str(small_npz)}
        notebook = to_the_training(read_notebook(**small))
        printed = execute(notebook, project)
    assert "resuming after epoch 2" in printed
    results = json.loads((project / "exps" / "mlp" / "results.json").read_text())
    assert len(results["train_losses"]) == 4


@SLOW
def test_a_mistake_in_the_form_stops_the_notebook_at_the_training(project):
    notebook = to_the_training(read_notebook(**SMALL | {"data": "missing.npz"}))
    with pytest.raises(Exception, match="The training has not finished"):
        execute(notebook, project)
    (red,) = [
        output.text for output in notebook.cells[-1].outputs if output.get("name") == "stderr"
    ]
    assert red == "main.py: error: missing.npz: No such file or directory\n"


@SLOW
def test_on_colab_the_project_is_cloned_to_the_drive_and_the_images_stay_off_it(project, tmp_path):
    """With a stand-in for ``google.colab``, which is nowhere else: it only notes what it mounts."""
    for command in (["init"], ["add", "."], ["commit", "-m", "all"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command],
            cwd=project,
            check=True,
            capture_output=True,
        )
    package = tmp_path / "stand-in" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "drive.py").write_text("def mount(place):\n    print('mounted', place)\n")
    drive = tmp_path / "Mon Drive" / "cifar10"
    drive.parent.mkdir()

    notebook = read_notebook(project=str(drive), repository=str(project))
    setup = 1 + _find(notebook, "drive.mount")
    notebook.cells = [
        nbformat.v4.new_code_cell(
            f"import sys\nsys.path.insert(0, {str(package.parent.parent)!r})\nimport google.colab"
        ),
        *notebook.cells[:setup],
        nbformat.v4.new_code_cell("import main\nprint(main.__file__, data_dir, Path.cwd())"),
    ]
    printed = execute(notebook, tmp_path).splitlines()
    assert printed == ["mounted /content/drive", f"{drive / 'main.py'} /content/data {drive}"]


def test_the_notebook_is_committed_without_outputs():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] for cell in code)
    assert all(cell["execution_count"] is None for cell in code)


def _find(notebook, text):
    """The index of the one code cell that holds a text."""
    (index,) = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and text in cell.source
    ]
    return index
