"""The notebook of an assignment: the cells of code come from the students' file."""

import json
import re
from collections.abc import Mapping

# A cell with only this line is filled in. The line stays: the notebook finds the cell by it.
PLACE = re.compile(r"# (\w+\.py), part \d+ of \d+")
SECTION = re.compile(r"^(?=# -{20,})", re.MULTILINE)  # the line above a section of the file
ENTRY = 'if __name__ == "__main__":\n'


def fill_notebook(notebook: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return a notebook with the sections of files in the cells that name them.

    Args:
        notebook: the notebook; without such a cell it is returned as it is.
        files: content by name.

    Raises:
        ValueError: the cells do not name each section of a file once, in order.
    """
    content = json.loads(notebook)
    places: dict[str, list[dict]] = {}
    for cell in content["cells"]:
        if place := PLACE.fullmatch("".join(cell["source"])):
            places.setdefault(place[1], []).append(cell)
    for name, cells in places.items():
        parts = split(files[name].decode())
        marks = [f"# {name}, part {number + 1} of {len(parts)}" for number in range(len(parts))]
        if [cell["source"] for cell in cells] != [[mark] for mark in marks]:
            raise ValueError(f"the notebook needs these cells, in this order: {', '.join(marks)}")
        for cell, mark, part in zip(cells, marks, parts):
            cell["source"] = f"{mark}\n{part}".splitlines(keepends=True)
    if not places:
        return notebook
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def split(source: str) -> list[str]:
    """Return the sections of a file, without the last lines, which would start the program."""
    return [part.strip("\n") for part in SECTION.split(source.partition(ENTRY)[0])]
