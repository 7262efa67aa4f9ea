"""Notebooks, read and executed as a student would."""

import re

import nbformat
from nbclient import NotebookClient


def read(path, **form):
    """A notebook, with other values in its form."""
    notebook = nbformat.read(path, as_version=4)
    for name, value in form.items():
        line = re.compile(rf"^{name} = [^#]*(?=  # @param)", re.MULTILINE)
        found = 0
        for cell in notebook.cells:
            cell.source, number = line.subn(lambda _: f"{name} = {value!r}", cell.source)  # noqa: B023
            found += number
        assert found == 1, name
    return notebook


def execute(notebook, folder):
    """Run all cells; return what they print on stdout and on stderr. An error fails the test."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    printed = {"stdout": "", "stderr": ""}
    for output in outputs(notebook):
        if output.output_type == "stream":
            printed[output.name] += output.text.replace("\r\n", "\n")
    return printed["stdout"], printed["stderr"]


def pictures(notebook):
    """The outputs of an executed notebook that are pictures."""
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]
