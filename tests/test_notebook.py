"""``main.ipynb``: executed as a student would, with the files of the handout beside it.

Colab has Python 3.12, IPython 7.34 and ipykernel 6.17. A slow test takes the latter two; all three,
where there is a Python 3.12:

    python3.12 -m venv colab && colab/bin/pip install -r requirements.txt -r tests/requirements.txt
    colab/bin/pip install ipython==7.34.0 ipykernel==6.17.1
    colab/bin/python -m pytest -m "" tests/test_notebook.py
"""

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import IPython
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.display import Image
from nbclient import NotebookClient

from grader.cifar10 import manifest
from grader.handout import make_handout
from training import reload

import notebooks
from conftest import ROOT
from notebooks import pictures, read

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


def execute(notebook, folder):
    """Run all cells and return what they print; a warning fails the test."""
    printed, red = notebooks.execute(notebook, folder)
    assert red == ""
    return printed


def to_the_training(notebook):
    """The notebook up to the first training, without the students' tests."""
    notebook.cells = notebook.cells[: 1 + _find(notebook, "train(logdir)")]
    del notebook.cells[_find(notebook, "test.py")]
    return notebook


def test_the_cells_run_one_after_the_other(small_npz, tmp_path, monkeypatch, capsys):
    """In this process and without Jupyter; the slow tests execute the notebook itself."""
    shown = []
    stand_in = SimpleNamespace(system=shown.append)
    files = {name: (ROOT / f"{name}.py").read_text(encoding="utf-8") for name in reload.WRITTEN}
    monkeypatch.setattr(reload, "_loaded", files)  # as they are, by the other tests
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.chdir(tmp_path)
    scope = {"get_ipython": lambda: stand_in}
    for cell in read(NOTEBOOK, **SMALL, data=str(small_npz)).cells:
        if cell.cell_type == "code":
            exec(TransformerManager().transform_cell(cell.source), scope)
    printed = capsys.readouterr().out
    assert len(re.findall(TRAINED, printed)) == 3  # one of the three learning rates was there
    assert "Loaded: nothing, as no file has changed" in printed
    test, *images = shown
    assert test == "{sys.executable} test.py"
    assert len(images) == 6 + 1 + 6 and {type(image) for image in images} == {Image}


@SLOW
def test_the_notebook_runs_from_top_to_bottom_and_again_without_training_anything_twice(
    project, small_npz
):
    small = SMALL | {"data": str(small_npz)}
    notebook = read(NOTEBOOK, **small)
    printed = execute(notebook, project)
    assert "4.1: 5 of 5 tests pass" in printed  # of the students' tests
    assert len(re.findall(TRAINED, printed)) == 3
    assert printed.count("its results are loaded") == 1  # one of the three learning rates
    assert "resuming" not in printed
    assert len(pictures(notebook)) == 6 + 1 + 6
    results = (project / "exps" / "mlp" / "results.json").read_bytes()

    again = read(NOTEBOOK, **small)
    printed = execute(again, project)
    assert len(re.findall(TRAINED, printed)) == 0
    assert printed.count("its results are loaded") == 4
    assert len(pictures(again)) == 6 + 1 + 6
    assert (project / "exps" / "mlp" / "results.json").read_bytes() == results


@SLOW
def test_a_session_that_was_cut_off_resumes_with_the_same_cell(project, small_npz):
    """The first session ends after two of four epochs: its notebook asks for no more."""
    for epochs in (2, 4):
        small = SMALL | {"epochs": epochs, "data": str(small_npz)}
        notebook = to_the_training(read(NOTEBOOK, **small))
        printed = execute(notebook, project)
    assert "resuming after epoch 2" in printed
    results = json.loads((project / "exps" / "mlp" / "results.json").read_text())
    assert len(results["train_losses"]) == 4


@SLOW
def test_a_mistake_in_the_form_stops_the_notebook_at_the_training(project):
    notebook = to_the_training(read(NOTEBOOK, **SMALL | {"data": "missing.npz"}))
    with pytest.raises(Exception, match="The training has not finished"):
        execute(notebook, project)
    (red,) = [
        output.text for output in notebook.cells[-1].outputs if output.get("name") == "stderr"
    ]
    assert red == "main.py: error: missing.npz: No such file or directory\n"


@SLOW
def test_on_colab_the_project_is_cloned_to_the_drive_and_the_images_stay_off_it(project, tmp_path):
    for command in (["init"], ["add", "."], ["commit", "-m", "all"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command],
            cwd=project,
            check=True,
            capture_output=True,
        )
    drive = tmp_path / "Mon Drive" / "cifar10"
    drive.parent.mkdir()

    notebook = read(NOTEBOOK, project=str(drive), repository=str(project))
    setup = 1 + _find(notebook, "drive.mount")
    notebook.cells = [
        import_colab(tmp_path),
        *notebook.cells[:setup],
        nbformat.v4.new_code_cell("import main\nprint(main.__file__, data_dir, Path.cwd())"),
    ]
    printed = execute(notebook, tmp_path).splitlines()
    assert printed == ["mounted /content/drive", f"{drive / 'main.py'} /content/data {drive}"]


@SLOW
def test_a_folder_that_is_not_on_the_drive_is_one_sentence(tmp_path):
    notebook = read(NOTEBOOK, project=str(tmp_path / "Mon Drive" / "cifar10"))
    notebook.cells.insert(0, import_colab(tmp_path))
    with kernel(notebook, tmp_path) as run:
        run("import google.colab")
        sentence = run("drive.mount").error
    words = "There is no main.py in .*/Mon Drive/cifar10: enter the folder of the project above."
    assert re.fullmatch(words, sentence)


def import_colab(folder):
    """A cell that imports a stand-in for ``google.colab``: it only notes what it mounts."""
    package = folder / "stand-in" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "drive.py").write_text("def mount(place):\n    print('mounted', place)\n")
    path = str(package.parent.parent)
    return nbformat.v4.new_code_cell(
        f"import sys\nsys.path.insert(0, {path!r})\nimport google.colab"
    )


# ------------------------------------------------------------------- without restarting the kernel


@contextlib.contextmanager
def kernel(notebook, folder, **environment):
    """Start a kernel; yields a function that runs the one cell with a text.

    The function returns what the cell prints, and the error in which it ends.
    """
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=resources, allow_errors=True
    )

    def run(text):
        index = _find(notebook, text)
        outputs = client.execute_cell(notebook.cells[index], index).outputs
        printed = "".join(output.text for output in outputs if "text" in output)
        errors = ["\n".join(output.traceback) for output in outputs if "traceback" in output]
        return SimpleNamespace(printed=printed, error="".join(errors))

    with client.setup_kernel(env=os.environ | environment):
        yield run


@pytest.fixture
def handout(tmp_path):
    """The folder that students unpack."""
    with zipfile.ZipFile(make_handout(manifest, ROOT, tmp_path / "handout.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path / manifest.NAME


def write(path, old="", new=""):
    """Write a file of the solution with a part replaced, and no sooner than a student could.

    Within a second, a file of the same length would not be compiled again.
    """
    text = (ROOT / path.name).read_text(encoding="utf-8")
    assert old in text
    later = path.stat().st_mtime + 10
    path.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(path, (later, later))


SIGN = ("linear(input, self.weight", "linear(input, -self.weight")


def write_and_train_without_a_restart(handout, data, version=IPython.__version__, **environment):
    """The stubs, the solution, another sign in ``Linear``, and both ways on."""
    notebook = read(NOTEBOOK, **SMALL | {"data": str(data)})
    folder = handout / "exps" / "mlp"
    with kernel(notebook, handout, **environment) as run:

        def choose(**form):
            values = "; ".join(f"{name} = {value!r}" for name, value in form.items())
            notebook.cells.append(nbformat.v4.new_code_cell(f"{values}  # chosen"))
            run(f"{values}  # chosen")

        notebook.cells.append(
            nbformat.v4.new_code_cell("import IPython as i; print(i.__version__)")
        )
        assert run("i.__version__").printed == f"{version}\n"
        for text in ("import os", "describe_device", "batch_size = "):
            assert run(text).error == "", text
        names = "utils.py, mlp.py, resnet18.py, mlpmixer.py"
        assert run("as no file has changed").printed == f"Loaded: {names}\n"
        done = run("import main")
        assert "Problem 1.2: build the hidden layers" in done.printed
        assert done.error.startswith("The training has not finished: the line above says why.")
        assert "\n" not in done.error

        write(handout / "mlp.py")
        write(handout / "utils.py")
        assert run("as no file has changed").printed == "Loaded: utils.py, mlp.py\n"
        done = run("import main")
        assert re.search(TRAINED, done.printed) and done.error == ""
        results = (folder / "results.json").read_bytes()
        done = run("import main")
        assert "its results are loaded" in done.printed and done.error == ""

        write(handout / "mlp.py", *SIGN)
        done = run("import main")
        assert done.printed.startswith("Loaded: mlp.py\n")
        assert "the code of mlp.py has changed since" in done.printed
        assert "--overwrite is the box `overwrite`, and --logdir the field `name`" in done.error
        assert (folder / "results.json").read_bytes() == results

        choose(name="another sign")
        assert re.search(TRAINED, run("import main").printed)
        assert (folder / "results.json").read_bytes() == results
        choose(name="", overwrite=True)
        assert re.search(TRAINED, run("import main").printed)
        assert "its results are loaded" in run("import main").printed
        other, another = (
            json.loads((handout / "exps" / name / "results.json").read_text())["train_losses"]
            for name in ("mlp", "another sign")
        )
        assert other == another != json.loads(results)["train_losses"]


@SLOW
def test_the_files_are_written_and_changed_without_a_restart(handout, small_npz):
    write_and_train_without_a_restart(handout, small_npz)


@SLOW
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="IPython 7 does not run on this Python")
def test_they_are_under_the_ipython_of_colab_too(handout, small_npz, tmp_path):
    folder = tmp_path / "packages"
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", folder]
    done = subprocess.run([*command, "ipython==7.34.0", "ipykernel==6.17.1"], capture_output=True)
    if done.returncode != 0:
        pytest.skip("IPython 7.34 cannot be installed")
    write_and_train_without_a_restart(handout, small_npz, "7.34.0", PYTHONPATH=str(folder))


def test_what_imports_the_four_files_is_loaded_after_them_and_in_order():
    """The imports at the top of each file of the handout, as its syntax tree has them."""
    files = [name for name in manifest.HANDOUT if name.endswith(".py") and name != "test.py"]
    uses = {}
    for name in files:
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        names = {node.module for node in imports}
        names |= {f"{node.module}.{part.name}" for node in imports for part in node.names}
        uses[name.removesuffix(".py").replace("/", ".")] = names
    wanted = set(reload.WRITTEN)
    for _ in uses:
        wanted |= {name for name, names in uses.items() if names & wanted}
    assert wanted == {*reload.WRITTEN, *reload.USERS}
    for index, name in enumerate(reload.USERS):
        assert not uses[name] & set(reload.USERS[index:]), name


def test_a_file_is_loaded_again_when_it_has_changed_and_after_a_mistake(project):
    """In a process of its own; the slow tests do the same in the notebook."""
    program = """
import os, sys
from pathlib import Path
from training.reload import reload_files

def write(text):
    later = path.stat().st_mtime + 10
    path.write_text(text)
    os.utime(path, (later, later))

path = Path("mlp.py")
solved = path.read_text()
write("class MLP:\\n    def __init__(self):\\n        raise NotImplementedError\\n")
assert reload_files() == ["utils.py", "mlp.py", "resnet18.py", "mlpmixer.py"]
import main, training.config, utils
write(solved)
assert reload_files() == ["mlp.py"] and reload_files() == []
model = training.config.MODELS["mlp"](3, [2], 1)  # with super(), which the stub has not
loss = main.cross_entropy_loss
assert loss is utils.cross_entropy_loss
write(solved + "def")
for _ in range(2):
    try:
        reload_files()
    except SyntaxError as error:
        assert error.filename.endswith("mlp.py")
    else:
        raise AssertionError
assert main.cross_entropy_loss is not utils.cross_entropy_loss
write(solved)
assert reload_files() == ["mlp.py"]
assert main.cross_entropy_loss is utils.cross_entropy_loss is not loss
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_notebook_needs_no_extension_of_ipython():
    """Autoreload cannot replace ``Linear.__init__`` of the handout, and fails on Colab."""
    sources = [cell.source for cell in read(NOTEBOOK).cells if cell.cell_type == "code"]
    assert not re.search(r"^\s*%", "\n".join(sources), re.MULTILINE)


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
