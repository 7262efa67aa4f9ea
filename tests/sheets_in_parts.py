"""The assignment sheets in their parts, for the tests that compare them with the code."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import torch

from grader.assignment import load_manifest

from conftest import ROOT

SPAN = re.compile(r"`([^`\n]+)`")
FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$")
LINK = re.compile(r"\[([^\]]*)\]\(([^)]*)\)")
# "3,709,194" in English, "3 709 194" and "0,001" in French; not the 18 of ResNet18.
NUMBERS = {
    "en": re.compile(r"(?<![\w-])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:\.\d+)*)"),
    "fr": re.compile(r"(?<![\w-])(?:\d{1,3}(?: \d{3})+(?!\d)|\d+(?:[.,]\d+)*)"),
}


@dataclass
class Sheet:
    """A sheet in its parts.

    Attributes:
        manifest: of the assignment.
        language: "en" or "fr".
        blocks: language and content of each fenced block.
        lines: all other lines; a paragraph or an item of a list is one.
        tables: rows of each table, and the cells of each row, without the line under the header.
            The first is the block of the term, the second that of the points.
    """

    manifest: ModuleType
    language: str
    blocks: list[tuple[str, str]]
    lines: list[str]
    tables: list[list[list[str]]] = field(default_factory=list)

    @property
    def prose(self) -> list[str]:
        """The lines without tables, and without code, formulas and links inside them."""
        return [hide_code(line) for line in self.lines if not line.startswith("|")]

    @property
    def sections(self) -> list[list[str]]:
        """The lines of each heading, itself included."""
        starts = [i for i, line in enumerate(self.lines) if line.startswith("#")]
        return [self.lines[a:b] for a, b in pairwise([*starts, len(self.lines)])]

    @property
    def commands(self) -> list[str]:
        """The lines of shell."""
        shell = "".join(text for kind, text in self.blocks if kind == "sh")
        return shell.replace("\\\n", "").splitlines()

    @property
    def spans(self) -> set[str]:
        """All code between backquotes."""
        return {span for line in self.lines for span in SPAN.findall(line)}

    def numbers(self, line: str) -> list[str]:
        """Return the numbers in a line as Python writes them."""
        found = NUMBERS[self.language].findall(hide_code(line))
        return [plain(number, self.language) for number in found]

    def items(self, problem: str) -> list[str]:
        """Return the lines that begin with a problem, such as "4.1"."""
        return [line for line in self.lines if re.match(rf"(?:- )?\*\*{problem}\b", line)]

    def item(self, problem: str) -> str:
        """Return the line of a problem with its points."""
        (line,) = (line for line in self.items(problem) if f"**{problem} (" in line)
        return line

    def assert_stages(self, rows: list[list[str]], network: torch.nn.Module) -> None:
        """Compare the rows of a table, without the header, with a network for 32 x 32 pixels."""
        inputs, outputs = {}, {}

        def remember(module, arguments, output):
            inputs[module], outputs[module] = arguments[0].shape, output.shape

        for module in network.modules():
            module.register_forward_hook(remember)
        network(torch.zeros(5, 3, 32, 32))

        *stages, total = rows
        modules = [
            [eval(f"network.{span}", {"network": network}) for span in SPAN.findall(stage)]
            for stage, *_ in stages
        ]
        for number, (stage, shape, count) in enumerate(stages):
            parts = modules[number]
            # What has no layer of its own, such as a mean, shows in the input of the next one.
            found = outputs[parts[-1]] if parts else inputs[modules[number + 1][0]]
            assert shape == f"({', '.join(['B', *map(str, found[1:])])})", stage
            parameters = sum(p.numel() for part in parts for p in part.parameters())
            assert plain(count, self.language) == str(parameters), stage
        assert plain(total[2], self.language) == str(sum(p.numel() for p in network.parameters()))
        self.assert_total(rows)

    def assert_total(self, rows: list[list[str]]) -> None:
        """Check that the last row of a table of parameters is the sum of the others."""
        *parts, total = (int(plain(row[2], self.language)) for row in rows)
        assert sum(parts) == total


def plain(number: str, language: str) -> str:
    if language == "en":
        return number.replace(",", "")
    return number.replace(" ", "").replace(",", ".")


def hide_code(text: str) -> str:
    """Put a sign in place of each piece of code, formula and link."""
    return LINK.sub("…", FORMULA.sub("…", SPAN.sub("…", text)))


def read(assignment: str, name: str, language: str) -> Sheet:
    manifest = load_manifest(assignment)
    text = (ROOT / manifest.SOLUTION / "docs" / name).read_text(encoding="utf-8")
    fence = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
    sheet = Sheet(manifest, language, fence.findall(text), [])
    for part in re.split(r"\n\s*\n", fence.sub("\n", text)):
        lines = re.split(r"\n(?=[-|#])", part.strip("\n"))
        sheet.lines += [" ".join(line.split()) for line in lines]
    table = None
    for line in sheet.lines:
        if not line.startswith("|"):
            table = None
        elif table is None:
            table = [cells(line)]
            sheet.tables.append(table)
        elif set(line) - set("|-"):
            table.append(cells(line))
    return sheet


def texts_of(figure: Path) -> list[str]:
    """Return the texts in an SVG file, in their order."""
    return [
        node.text for node in ElementTree.parse(figure).iter("{http://www.w3.org/2000/svg}text")
    ]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


ASSIGNMENTS = ("cifar10", "numpy_networks", "regression")
SHEETS = {
    name: (read(name, "assignment.md", "en"), read(name, "devoir.md", "fr")) for name in ASSIGNMENTS
}
