"""What the two assignment sheets say is true of the code, and the same in both languages."""

import ast
import json
import re
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import main
import mlp
import mlpmixer
import resnet18
import utils
from experiments.questions import learning_rate, mixer_width, nonlinearity
from grader.assignment import load_assignment
from grader.cifar10 import cases, manifest
from training import augment, batches, checkpoint, data, units
from training.arguments import make_parser
from training.config import MODELS, build_model, default_path, read_config
from training.results import RESULTS

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
        language: "en" or "fr".
        blocks: language and content of each fenced block.
        lines: all other lines; a paragraph or an item of a list is one.
        tables: rows of each table, and the cells of each row, without the line under the header.
    """

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

    def numbers(self, line: str) -> list[str]:
        """Return the numbers in a line as Python writes them."""
        found = NUMBERS[self.language].findall(hide_code(line))
        return [plain(number, self.language) for number in found]

    def item(self, problem: str) -> str:
        """Return the line of one of the problems 4.1 to 4.8."""
        (line,) = (line for line in self.lines if re.match(rf"(?:- )?\*\*{problem} \(", line))
        return line

    def stages(self, model: str) -> list[list[str]]:
        """Return the rows of the table of a model, without the header."""
        return self.tables[1 + list(MODELS).index(model)][1:]


def plain(number: str, language: str) -> str:
    if language == "en":
        return number.replace(",", "")
    return number.replace(" ", "").replace(",", ".")


def hide_code(text: str) -> str:
    """Put a sign in place of each piece of code, formula and link."""
    return LINK.sub("…", FORMULA.sub("…", SPAN.sub("…", text)))


def read(name: str, language: str) -> Sheet:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    fence = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
    sheet = Sheet(language, fence.findall(text), [])
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


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


ENGLISH, FRENCH = read("assignment.md", "en"), read("devoir.md", "fr")
both = pytest.mark.parametrize("sheet", [ENGLISH, FRENCH], ids=["English", "French"])
each_model = pytest.mark.parametrize("model", MODELS)


def build(model: str) -> nn.Module:
    path = default_path(model)
    return build_model(path, MODELS[model], read_config(path, model)).eval()


# ------------------------------------------------------------------------------------- points


def points_by_problem(sheet):
    return {row[0]: int(row[2]) for row in sheet.tables[0][1:] if row[0] != "total"}


@both
def test_the_points_add_up_to_100_and_those_of_the_autograder_are_the_manifests(sheet):
    (total,) = (row for row in sheet.tables[0] if row[0] == "total")
    points = points_by_problem(sheet)
    assert sum(points.values()) == int(total[2]) == 100
    files = dict(zip(manifest.POINTS, manifest.SUBMITTED))
    graded = [row for row in sheet.tables[0][1:] if row[3].startswith("`")]
    assert {row[0]: int(row[2]) for row in graded} == manifest.POINTS
    assert {row[0]: row[3].strip("`") for row in graded} == files
    by_hand = sum(points.values()) - sum(manifest.POINTS.values())
    assert sheet.numbers(total[1]) == [str(sum(manifest.POINTS.values())), str(by_hand)]


@both
def test_headings_and_items_have_the_points_of_the_table(sheet):
    stated = {}
    for line in sheet.lines:
        if match := re.match(r"(?:## \w+ |(?:- )?\*\*)(\d(?:\.\d)?)\b.*?\((\d+) points\)", line):
            stated[match[1]] = int(match[2])
    points = points_by_problem(sheet)
    fourth = sum(value for problem, value in points.items() if problem.startswith("4."))
    assert stated == points | {"4": fourth}


@both
def test_every_part_that_the_manifest_blanks_is_on_the_sheet(sheet):
    for entries in manifest.BLANKS.values():
        for function, (problem, *_) in entries.items():
            items = [line for line in sheet.lines if re.match(rf"(?:- )?\*\*{problem}\b", line)]
            names = f"`{function}`", f"`{function.partition('.')[0]}`"  # of a method: its class
            assert any(name in item for item in items for name in names), function


@both
def test_the_numbers_of_tests_are_those_of_the_autograder(sheet):
    assignment = load_assignment("cifar10")
    public = sum(case.public for case in assignment.cases)
    number = len(assignment.cases)
    last = [word for line in sheet.sections[-1] for word in sheet.numbers(line)]
    expected = [assignment.points, number, 0, number, public, number - public]
    assert last == [f"{value:g}" for value in expected]


@both
def test_what_is_said_to_be_forbidden_is_what_the_autograder_refuses(sheet):
    (rule,) = (line for line in sheet.lines if "`nn.Linear`" in line)
    linear, part, *losses = SPAN.findall(rule)
    assert linear in cases.OWN_LINEAR.names and part == cases.OWN_LINEAR.part
    assert set(losses) == set(cases.OWN_LOSS.names)


# ------------------------------------------------------------------------------- architectures


@both
@each_model
def test_every_stage_has_the_stated_shape_and_number_of_parameters(sheet, model):
    network = build(model)
    inputs, outputs = {}, {}

    def remember(module, arguments, output):
        inputs[module], outputs[module] = arguments[0].shape, output.shape

    for module in network.modules():
        module.register_forward_hook(remember)
    network(torch.zeros(5, 3, 32, 32))

    *stages, total = sheet.stages(model)
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
        assert plain(count, sheet.language) == str(parameters), stage
    assert plain(total[2], sheet.language) == str(sum(p.numel() for p in network.parameters()))
    stated = [int(plain(row[2], sheet.language)) for row in stages]
    assert sum(stated) == int(plain(total[2], sheet.language))


@both
def test_there_is_no_large_number_but_parameters_and_images(sheet):
    """So every count of parameters that is stated is in a table, where it is compared."""
    splits = {str(len(part)) for part in data.split_indices(50_000)} | {"10000"}
    loose = {number for line in sheet.prose for number in sheet.numbers(line)}
    large = {number for number in loose if "." not in number and int(number) > 2100}  # no year
    assert large == splits


def nodes_without_a_label(diagram):
    """Return the nodes that show their own name, except the input and the output."""
    edges = diagram.removeprefix("flowchart LR\n")
    names = re.findall(r"\w+", re.sub(r"\[.*?\]|\(\(.*?\)\)", "", edges))
    return set(names) - set(re.findall(r"(\w+)[\[(]", edges)) - set("xyXY")


@both
def test_the_diagrams_have_the_layers_of_the_blocks(sheet):
    diagrams = [content for language, content in sheet.blocks if language == "mermaid"]
    blocks = resnet18.BasicBlock(4, 8, 2), mlpmixer.MixerBlock(4, 6)
    assert len(diagrams) == len(blocks)
    for diagram, block in zip(diagrams, blocks):
        assert nodes_without_a_label(diagram) == {name for name, _ in block.named_children()}


@both
def test_each_question_varies_what_the_experiment_of_the_project_varies(sheet):
    activations = SPAN.findall(sheet.item("4.2"))[1:4]
    assert [name.strip('"') for name in activations] == list(mlp.ACTIVATIONS)
    assert set(nonlinearity.RUNS) == set(mlp.ACTIVATIONS)
    rates = [run["lr"] for run in learning_rate.RUNS.values()]
    assert [float(number) for number in sheet.numbers(sheet.item("4.3"))[2:]] == rates
    widths = [str(width) for width in mixer_width.WIDTHS]
    assert sheet.numbers(sheet.item("4.7"))[2:-2] == widths


@both
def test_the_numbers_of_the_mixer_experiments_are_those_of_the_code(sheet):
    def builds(patch_size):
        try:
            return mlpmixer.PatchEmbed(32, patch_size) is not None
        except ValueError:
            return False

    sizes = [str(size) for size in range(1, 65) if builds(size)]
    assert sheet.numbers(sheet.item("4.4")) == ["4.4", "10", *sizes, "32"]

    block = build("mlpmixer").blocks[0]
    units, patches = block.mlp_tokens.fc1.weight.shape
    side = str(int(patches**0.5))
    numbers = sheet.numbers(sheet.item("4.6"))
    assert str(units) in numbers and numbers.count(side) == 2 and int(side) ** 2 == patches
    widths = [str(units), str(block.mlp_channels.fc1.out_features)]
    assert sheet.numbers(sheet.item("4.7"))[-2:] == widths

    kernels = ", ".join(map(str, build("resnet18").conv1.weight.shape))
    assert f"`conv1.weight`, ({kernels})" in sheet.item("4.5")


@both
def test_the_data_are_described_as_they_are(sheet):
    (section,) = (s for s in sheet.sections if any("CIFAR-10 " in line[:10] for line in s))
    numbers = [number for line in section for number in sheet.numbers(line)]
    train, val = (len(part) for part in data.split_indices(50_000))
    assert [str(train), str(val), "10000"] == numbers[3:6]
    assert numbers[:3] == [str(data.SIZE), str(data.SIZE), "10"]
    area = [f"{100 * share:g}" for share in augment.SCALE]
    ratio = [f"{side:g}" for side in augment.RATIO]
    assert [number for number in numbers if number in area + ratio] == area + ratio
    for values in (batches.MEAN, batches.STD):
        stated = [f"{value:.4f}" for value in values]
        start = numbers.index(stated[0])
        assert numbers[start : start + 3] == stated


# ------------------------------------------------------------------------- commands and names


def commands(sheet):
    shell = [line for kind, text in sheet.blocks if kind == "sh" for line in text.splitlines()]
    inline = [span for line in sheet.lines for span in SPAN.findall(line)]
    return shell, [span for span in inline if span.startswith("python ")]


def parse(arguments):
    try:
        return make_parser().parse_args(arguments)
    except SystemExit as end:
        raise AssertionError(f"main.py refuses {' '.join(arguments)}") from end


@both
def test_every_command_is_accepted_by_its_program(sheet):
    shell, inline = commands(sheet)
    questions = set()
    for command in shell:
        python, program, *arguments = shlex.split(command)
        assert (python, program) == ("python", "main.py")
        args = parse(arguments)
        assert args.epochs >= 10
        config = args.model_config
        assert config is None or config.startswith("my_") or (ROOT / config).exists()
        questions.add(re.fullmatch(r"exps/(4\.\d)_\w[\w.]*", args.logdir)[1])
    assert sorted(questions) == ["4.2", "4.3", "4.4", "4.5", "4.6", "4.7"]
    assert inline == ["python test.py", "python main.py --help"]


@both
def test_the_defaults_are_those_of_the_command_line(sheet):
    (rules,) = (line for line in sheet.lines if line.startswith("**4.2 "))
    stated = [span.split() for span in SPAN.findall(rules) if span.startswith("--")]
    assert len(stated) == 6
    for flag, value in stated:
        name = flag.removeprefix("--")
        assert getattr(parse([flag, value]), name) == make_parser().get_default(name)


@both
@pytest.mark.parametrize(
    ("problem", "model", "changes"),
    [
        ("4.2", "mlp", {"activation": "tanh"}),
        ("4.4", "mlpmixer", {"patch_size": 8}),
        ("4.6", "mlpmixer", {"embed_dim": 64, "num_blocks": 2, "drop_rate": 0.1}),
        ("4.7", "mlpmixer", {"tokens_mlp_dim": 256, "channels_mlp_dim": 512}),
    ],
)
def test_a_copy_with_the_keys_of_the_sheet_makes_another_model(
    sheet, problem, model, changes, tmp_path
):
    assert set(changes) <= set(SPAN.findall(sheet.item(problem)))
    path = tmp_path / "my_copy.json"
    copy = json.loads(default_path(model).read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(copy), encoding="utf-8")
    changed, default = build_model(path, MODELS[model], read_config(path, model)), build(model)
    if problem == "4.2":
        assert (changed.activation, default.activation) == ("tanh", "relu")
    else:
        shapes = [[p.shape for p in network.parameters()] for network in (changed, default)]
        assert shapes[0] != shapes[1]


# In front of an attribute in backticks there is one of these.
OWNERS = (
    mlp.Linear(2, 3),
    build("mlp"),
    resnet18.BasicBlock(4, 8, 2),
    build("resnet18"),
    mlpmixer.MixerBlock(4, 6),
    build("mlpmixer"),
)
MODULES = (mlp, resnet18, mlpmixer, utils)
HANDED_OUT = {"README.md", *manifest.SUBMITTED, *manifest.HANDOUT}
OF_A_RUN = {RESULTS, checkpoint.BEST_MODEL, checkpoint.CHECKPOINT}
OF_A_RUN |= {f"{name}.png" for name, _, _ in (*utils.CURVES, *utils.BOTH)}
OF_A_RUN |= set(re.findall(r'"(\w+\.png)"', Path(units.__file__).read_text(encoding="utf-8")))


def arguments_and_keys():
    """Return the arguments of our functions in their files, and the keys of results.json."""
    names = set(json.loads((ROOT / "results" / "mlp.json").read_text(encoding="utf-8")))
    for module in MODULES:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return names


NAMES = arguments_and_keys()


def exists(span):
    """Return whether what stands in backticks is something that students have."""
    if span.startswith(("python ", "from ")) or span == "...":
        return True
    if span.startswith("--"):
        flag, *value = span.split()
        known = re.findall(r"(?<![-\w])--\w+", make_parser().format_help())
        return flag in known and (not value or bool(parse([flag, *value])))
    if span.startswith('"'):
        return ast.literal_eval(span) in mlp.ACTIVATIONS
    if re.fullmatch(r"[\w/]+(/|\.(py|json|ipynb|md|pt|txt|png))", span):
        mine = re.fullmatch(r"my_\w+\.json", span)
        inside = any(name.startswith(span) for name in HANDED_OUT) if span.endswith("/") else False
        return bool(mine) or inside or span in HANDED_OUT | OF_A_RUN
    if span in NAMES:
        return True
    scope = {name: value for module in MODULES for name, value in vars(module).items()}
    scope |= {"nn": nn, "F": F, "torch": torch, "utils": utils, "main": main}
    for owner in (None, *OWNERS):
        try:
            eval(span if owner is None else f"owner.{span}", {**scope, "owner": owner})
        except (AttributeError, IndexError, NameError, SyntaxError, TypeError):
            continue
        return True
    return False


@both
def test_everything_in_backticks_exists(sheet):
    spans = {span for line in sheet.lines for span in SPAN.findall(line)}
    assert [span for span in sorted(spans) if not exists(span)] == []


def test_what_does_not_exist_is_noticed():
    for span in (
        *("Lineal", "MLP.build", "conv3", "blocks[4]", "blocks[0].mlp_token", "nn.CrossEntropy"),
        *("tokens_dim_mlp", "train_second", '"silu"', "--optimiser", "mixer.py", "slides/"),
        *("utils.generate_plot", "model_configs/vit.json"),
    ):
        assert not exists(span), span


@both
def test_links_between_the_sheets_lead_somewhere(sheet):
    targets = [target for line in sheet.lines for _, target in LINK.findall(line)]
    local = [target for target in targets if not target.startswith("https://")]
    assert len(local) == 1 and (ROOT / "docs" / local[0]).exists()


# ------------------------------------------------------------------------ the lines of Python


def lines_of_python(number):
    return [content for language, content in ENGLISH.blocks if language == "python"][number]


def test_the_lines_for_the_figures_draw_six(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("relu", "tanh", "sigmoid"):
        folder = tmp_path / "exps" / f"4.2_{name}"
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "results" / "mlp.json", folder / "results.json")
    exec(lines_of_python(0), {})
    assert len(list((tmp_path / "figures" / "4.2").glob("*.png"))) == 6


@each_model
def test_the_lines_for_the_gradients_record_each_layer_at_each_step(
    model, small_npz, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    small = ["--data", str(small_npz), "--subset", "16", "--batch_size", "8", "--epochs", "1"]
    parse_args = main.parse_args
    small += ["--device", "cpu"]
    monkeypatch.setattr(main, "parse_args", lambda argv: parse_args([*argv, *small]))
    scope = {}
    code = lines_of_python(1).replace('"mlp"', f'"{model}"').replace("4.8_mlp", f"4.8_{model}")
    exec(code, scope)
    layers = {name for name, p in build(model).named_parameters() if p.ndim > 1}
    assert len(scope["norms"]) == 2
    for norms in scope["norms"]:
        assert set(norms) == layers and all(norm > 0 for norm in norms.values())
    assert (tmp_path / "exps" / f"4.8_{model}" / RESULTS).exists()


# --------------------------------------------------------------------------- the two languages


def test_both_languages_have_the_same_structure():
    def structure(sheet):
        levels = [len(line) - len(line.lstrip("#")) for line in sheet.lines]
        return {
            "headings": [level for level in levels if level],
            "rows and columns of tables": [[len(row) for row in table] for table in sheet.tables],
            "items": sum(line.startswith("- ") for line in sheet.lines),
            "lines of sections": [len(section) for section in sheet.sections],
            "links": [
                target
                for line in sheet.lines
                for _, target in LINK.findall(line)
                if target.startswith("https://")
            ],
        }

    assert structure(ENGLISH) == structure(FRENCH)


def test_both_languages_have_the_same_code():
    def code(sheet):
        return [(kind, re.sub(r'\["\w+"\]', "[]", text)) for kind, text in sheet.blocks]

    assert code(ENGLISH) == code(FRENCH) != []


def test_both_languages_have_the_same_rows_in_tables():
    for english, french in zip(ENGLISH.tables, FRENCH.tables, strict=True):
        for row, same in zip(english, french, strict=True):
            for cell, its in zip(row, same, strict=True):
                assert ENGLISH.numbers(cell) == FRENCH.numbers(its), (cell, its)
                assert SPAN.findall(cell) == SPAN.findall(its)


def test_both_languages_have_the_same_numbers_names_and_formulas():
    for line, same in zip(ENGLISH.lines, FRENCH.lines, strict=True):
        for parts in (
            [Counter(sheet.numbers(text)) for sheet, text in ((ENGLISH, line), (FRENCH, same))],
            [Counter(SPAN.findall(text)) for text in (line, same)],
            [Counter(FORMULA.findall(text)) for text in (line, same)],
        ):
            assert parts[0] == parts[1], (line, same)


def test_numbers_are_read_as_they_are_written():
    written = "CIFAR-10: 3,709,194 and 45,000, (B, 64, 32), 0.001, 1.5, 4.2.1, 3x3, ResNet18"
    en = ["3709194", "45000", "64", "32", "0.001", "1.5", "4.2.1", "3"]
    assert ENGLISH.numbers(written) == en
    written = "CIFAR-10 : 3 709 194 et 45 000, (B, 64, 32), 0,001; 1,5, 4.2.1, 3x3, ResNet18"
    assert FRENCH.numbers(written) == en


@pytest.mark.slow
def test_french_has_its_own_typography():
    for line in FRENCH.prose:
        assert not re.search(r"[^\s]:(?=\s|$)", line), f"no space before a colon: {line}"
        assert not re.search(r"\s[;!?]", line), f"a space before ; ! or ?: {line}"
        assert not re.search(r"«(?! )|(?<! )»|\"", line), f"quotation marks: {line}"
        sections = r"[1-4]\.\d(\.\d)?"
        for number in re.findall(r"\d+\.\d[\d.]*\b", line):
            assert re.fullmatch(sections, number), f"{number} has a point: {line}"
