"""The sheets of all assignments: points, figures, PDF, and the same in both languages."""

import ast
import builtins
import inspect
import re
import shlex
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from grader import sheets
from grader.assignment import load_assignment
from numpy_networks import solution as numpy_networks
from regression import solution as regression

from conftest import ROOT
from sheets_in_parts import ASSIGNMENTS, FORMULA, LINK, SHEETS, SPAN, plain, texts_of

PAIRS = [pytest.param(*SHEETS[name], id=name) for name in ASSIGNMENTS]
pairs = pytest.mark.parametrize(("english", "french"), PAIRS)


def languages_of(*names):
    return pytest.mark.parametrize(
        "sheet",
        [
            pytest.param(sheet, id=f"{name}-{sheet.language}")
            for name in names
            for sheet in SHEETS[name]
        ],
    )


every = languages_of(*ASSIGNMENTS)
numpy_sheets = languages_of("numpy_networks")
regression_sheets = languages_of("regression")


# ------------------------------------------------------------------------------------- points


def points_by_problem(sheet):
    return {row[0]: int(row[2]) for row in sheet.tables[1][1:] if row[0] != "total"}


def belongs(problem, heading):
    return problem == heading or problem.startswith(f"{heading}.")


@every
def test_the_points_are_those_of_the_cases_and_the_rest_is_for_the_report(sheet):
    assignment = load_assignment(sheet.manifest.NAME)
    graded = [row for row in sheet.tables[1][1:] if row[3].startswith("`")]
    for problem, _, points, file, _ in graded:
        cases = [case for case in assignment.cases if belongs(case.problem, problem)]
        assert sum(case.points for case in cases) == int(points), problem
        assert {f"`{case.file}`" for case in cases} == {file}
    (total,) = (row for row in sheet.tables[1] if row[0] == "total")
    every_point = sum(points_by_problem(sheet).values())
    assert int(total[2]) == every_point
    by_machine = sum(int(row[2]) for row in graded)
    assert by_machine == assignment.points
    assert sheet.numbers(total[1]) == [str(by_machine), str(every_point - by_machine)]


@every
def test_headings_and_items_have_the_points_of_the_table(sheet):
    points = points_by_problem(sheet)
    stated = {}
    for line in sheet.lines:
        if match := re.match(r"(?:## \w+ |(?:- )?\*\*)(\d(?:\.\d)?)\b.*?\((\d+) points?\)", line):
            stated[match[1]] = int(match[2])
    assert stated.keys() >= points.keys()
    for problem, value in stated.items():
        assert value == sum(points[each] for each in points if belongs(each, problem)), problem


@every
def test_every_part_that_the_manifest_blanks_is_on_the_sheet(sheet):
    for entries in sheet.manifest.BLANKS.values():
        for function, (problem, *_) in entries.items():
            names = f"`{function}`", f"`{function.partition('.')[0]}`"  # of a method: its class
            items = sheet.items(problem)
            assert any(name in item for item in items for name in names), function


@every
def test_the_numbers_of_tests_are_those_of_the_autograder(sheet):
    assignment = load_assignment(sheet.manifest.NAME)
    public, number = sum(case.public for case in assignment.cases), len(assignment.cases)
    stated = [sheet.numbers(line) for line in sheet.sections[-1]]
    stated = [numbers for numbers in stated if str(number) in numbers]
    assert [len(numbers) for numbers in stated] == [2, 3]
    expected = [assignment.points, number, number, public, number - public]
    assert [float(text) for numbers in stated for text in numbers] == expected


# ---------------------------------------------------------------------- the first page, the data


def test_the_block_of_the_term_is_the_same_on_all_sheets():
    """Its first column: staff fill in the second."""
    for language in (0, 1):
        blocks = [[row[0] for row in SHEETS[name][language].tables[0]] for name in ASSIGNMENTS]
        assert blocks[0] == blocks[1] == blocks[2] and len(blocks[0]) == 7


@every
def test_there_is_no_large_number_but_images_and_a_seed(sheet):
    """So every count of parameters that is stated is in a table, where it is compared."""
    images = {"60000", "6000", "10000"}
    images |= {"45000", "5000"} if sheet.manifest.NAME == "cifar10" else {"50000"}
    loose = {number for line in sheet.prose for number in sheet.numbers(line)}
    large = {number for number in loose if "." not in number and int(number) > 2100}  # no year
    assert large - {str(regression.SEED)} == images


# ------------------------------------------------------------------------------ links and figures


@every
def test_links_lead_to_the_other_language_and_to_figures_of_the_handout(sheet):
    targets = [target for line in sheet.lines for _, target in LINK.findall(line)]
    other, *figures = [target for target in targets if not target.startswith("https://")]
    assert {other, *figures} == {other} | {
        name.removeprefix("docs/") for name in sheet.manifest.HANDOUT if name.endswith(".svg")
    }
    for name in (other, *figures):
        assert f"docs/{name}" in sheet.manifest.HANDOUT
        assert (ROOT / sheet.manifest.SOLUTION / "docs" / name).exists()


def test_the_figures_of_the_resnet_have_the_layers_of_the_code():
    docs = ROOT / "numpy_networks" / "docs"
    names = [name for name, _ in numpy_networks.ResidualBlock(4, 8, 2).named_children()]
    shown = [
        text for text in texts_of(docs / "residual_block.svg") if re.fullmatch(r"\w{2,}", text)
    ]
    assert {*names, "activation"} == set(shown) - {"3x3"}
    shown = " ".join(texts_of(docs / "resnet18.svg"))
    for name, _ in numpy_networks.ResNet18().named_children():
        assert name in shown or name == "bn1"


def test_the_figure_of_the_numpy_mlp_has_the_shapes_and_gradients_of_the_code():
    texts = " ".join(texts_of(ROOT / "numpy_networks" / "docs" / "mlp.svg"))
    network = numpy_networks.NN()
    network.initialize_weights()
    cache = network.forward(np.zeros((2, 784)))
    grads = network.backward(cache, np.eye(10)[:2])
    assert set(re.findall(r"\w+", texts)) >= {*cache, *grads, *network.weights}
    shapes = [f"(B, {values.shape[1]})" for values in cache.values()]
    assert re.findall(r"\(B, \d+\)", texts) == shapes


def test_the_figure_of_the_regression_has_the_layers_of_both_networks_in_order():
    texts = texts_of(ROOT / "regression" / "docs" / "networks.svg")
    config = regression.NetworkConfiguration((16, 32), (4, 5), (1, 2), (256, 256))
    create = regression.Trainer
    names = [
        "activation" if isinstance(layer, nn.ReLU) else type(layer).__name__
        for network in (
            create.create_cnn(3, config, nn.ReLU()),
            create.create_mlp(3072, config, nn.ReLU()),
        )
        for layer in network
    ]
    assert [text for text in texts if text in names] == names


# ------------------------------------------------------------------------------- architectures


@numpy_sheets
def test_the_table_of_the_numpy_mlp_is_that_of_the_code(sheet):
    network = numpy_networks.NN()
    network.initialize_weights()
    arrays = network.forward(np.zeros((5, 784))) | network.weights
    *rows, total = sheet.tables[2][1:]
    for names, shapes, count in rows:
        parts = [arrays[name] for name in SPAN.findall(names)]
        found = [str(part.shape).replace("(5,", "(B,") for part in parts]
        assert shapes in (", ".join(found), found[0]) and len(set(found)) == shapes.count("(")
        weights = sum(arrays[name].size for name in SPAN.findall(names) if name in network.weights)
        assert plain(count, sheet.language) == str(weights)
    assert plain(total[2], sheet.language) == str(sum(w.size for w in network.weights.values()))
    sheet.assert_total(sheet.tables[2][1:])


@numpy_sheets
def test_the_table_of_the_numpy_layers_is_that_of_the_code(sheet):
    convolution, pooling = numpy_networks.Convolution2dLayer(), numpy_networks.MaxPooling2dLayer()
    convolution.initialize_weights()
    images = np.zeros((5, 1, 32, 32))
    maps = convolution.forward(images)["out"]
    pooled = pooling.forward(maps)["out"]
    for (_, shape, count), array, size in zip(
        sheet.tables[3][1:], (images, maps, pooled), (0, convolution.weights.size, 0), strict=True
    ):
        assert shape == str(array.shape).replace("(5,", "(B,") and count == str(size)


@numpy_sheets
def test_the_table_of_the_resnet_is_that_of_the_code(sheet):
    sheet.assert_stages(sheet.tables[4][1:], numpy_networks.ResNet18().eval())


@numpy_sheets
def test_the_examples_of_convolution_and_pooling_are_right(sheet):
    def matrix(text):
        rows = [[float(number) for number in row.split("&")] for row in text.split(r"\\")]
        return np.array(rows)

    formulas = " ".join(text for kind, text in sheet.blocks if kind == "math")
    found = [matrix(text) for text in re.findall(r"n\{pmatrix\}(.*?)\\end", formulas)]
    image, weights, out, window, gradient = found
    layer = numpy_networks.Convolution2dLayer(filter_size=2, n_units=1)
    layer.weights = weights[None]
    assert (layer.forward(image[None, None])["out"][0, 0] == out).all()
    pooling = numpy_networks.MaxPooling2dLayer()
    cache = pooling.forward(window[None, None])
    assert (pooling.backward(cache, np.full((1, 1, 1, 1), 5.0))[0, 0] == gradient).all()


@regression_sheets
def test_the_tables_of_the_regression_are_those_of_the_code(sheet):
    arguments, fields, stages = sheet.tables[2:]
    defaults = inspect.signature(regression.Trainer).parameters
    for name, default, _ in arguments[1:]:
        value = plain(default.strip("`"), sheet.language)
        assert eval(value, vars(regression)) == defaults[name.strip("`")].default
    config = regression.NetworkConfiguration()
    assert {row[0].strip("`"): ast.literal_eval(row[1]) for row in fields[1:]} == config._asdict()

    (example,) = (s for s in sheet.spans if s.startswith("NetworkConfiguration(("))
    config = eval(example, vars(regression))
    values, rows = torch.zeros(5, 3, 32, 32), iter(stages[1:])
    for layer in regression.Trainer.create_cnn(3, config, nn.ReLU()):
        values = layer(values)
        if isinstance(layer, nn.ReLU):
            continue
        name, shape, count = next(rows)
        assert type(layer) is eval(SPAN.findall(name)[0])
        assert shape == str(tuple(values.shape)).replace("(5,", "(B,")
        assert plain(count, sheet.language) == str(sum(p.numel() for p in layer.parameters()))
    assert next(rows)[0] == "total"
    sheet.assert_total(stages[1:])


# ------------------------------------------------------------------------------ commands, names


@languages_of("numpy_networks", "regression")
def test_every_command_of_the_siblings_is_accepted_and_is_one_of_the_report(sheet, program):
    parser = program(sheet.manifest.NAME).make_parser()
    for command in sheet.commands:
        python, program, *arguments = shlex.split(command)
        assert (python, program) == ("python", "train.py")
        args = parser.parse_args(arguments)
        assert str(args.epochs) in [n for line in sheet.lines for n in sheet.numbers(line)]
    assert sheet.commands
    known = re.findall(r"(?<![-\w])--\w+", parser.format_help())
    assert {s.split()[0] for s in sheet.spans if s.startswith("--")} <= set(known)
    assert {s for s in sheet.spans if s.startswith("python ")} == {
        "python test.py",
        "python train.py --help",
    }


def test_the_lines_for_the_mlp_of_the_report_train_it(small_npz, program, capsys):
    (code,) = (text for kind, text in SHEETS["numpy_networks"][0].blocks if kind == "python")
    program("numpy_networks")
    exec(code.replace("--epochs 25", f"--epochs 2 --device cpu --data {small_npz}"), {})
    printed = capsys.readouterr().out
    assert "MLP: 154,160 parameters" in printed and printed.count("\nepoch ") == 2


def names_in(source):
    """All names, attributes and texts of a file: what its students meet."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        found |= {getattr(node, name, None) for name in ("id", "arg", "attr", "name")}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@languages_of("numpy_networks", "regression")
def test_everything_in_backquotes_exists_in_the_siblings(sheet):
    module = {"numpy_networks": numpy_networks, "regression": regression}[sheet.manifest.NAME]
    network = numpy_networks.NN()
    network.initialize_weights()
    cache = network.forward(np.zeros((2, 784)))
    grads = network.backward(cache, np.eye(10)[:2])
    files = (path for path in (ROOT / sheet.manifest.NAME).glob("*.py") if path.stem != "test")
    programs = (ROOT / "training" / name for name in ("checkpoint.py", "results.py"))
    source = "\n".join(path.read_text(encoding="utf-8") for path in (*files, *programs))
    known = names_in(source) | {*cache, *network.weights, *grads, "dA", "dZ", "dW", "db"}
    files = {"README.md", "training/", *sheet.manifest.SUBMITTED, *sheet.manifest.HANDOUT}
    scope = dict.fromkeys(known) | vars(builtins) | vars(module)
    for span in sorted(sheet.spans):
        if span.startswith(("python ", "--")) or span in ("...", "grad=True"):
            continue
        if span in known | files or (re.fullmatch(r"\w+\.(png|json|pt)", span) and span in source):
            continue
        eval(span.replace("self.", ""), scope)


# --------------------------------------------------------------------------- the two languages


@pairs
def test_both_languages_have_the_same_structure(english, french):
    def structure(sheet):
        levels = [len(line) - len(line.lstrip("#")) for line in sheet.lines]
        return {
            "headings": [level for level in levels if level],
            "rows and columns of tables": [[len(row) for row in table] for table in sheet.tables],
            "items": sum(line.startswith("- ") for line in sheet.lines),
            "lines of sections": [len(section) for section in sheet.sections],
            "links and figures": [
                target
                for line in sheet.lines
                for _, target in LINK.findall(line)
                if not target.endswith(".md")
            ],
        }

    assert structure(english) == structure(french)


@pairs
def test_both_languages_have_the_same_code(english, french):
    assert english.blocks == french.blocks != []


@pairs
def test_both_languages_have_the_same_rows_in_tables(english, french):
    for table, its_table in zip(english.tables[1:], french.tables[1:], strict=True):
        for row, same in zip(table, its_table, strict=True):
            for cell, its in zip(row, same, strict=True):
                assert english.numbers(cell) == french.numbers(its), (cell, its)
                assert SPAN.findall(cell) == SPAN.findall(its)


@pairs
def test_both_languages_have_the_same_numbers_names_and_formulas(english, french):
    lines = [
        [line for line in sheet.lines if not line.startswith("|")] for sheet in (english, french)
    ]
    for line, same in zip(*lines, strict=True):
        for parts in (
            [Counter(sheet.numbers(text)) for sheet, text in ((english, line), (french, same))],
            [Counter(SPAN.findall(text)) for text in (line, same)],
            [Counter(FORMULA.findall(text)) for text in (line, same)],
        ):
            assert parts[0] == parts[1], (line, same)


def test_numbers_are_read_as_they_are_written():
    english, french = SHEETS["cifar10"]
    written = "CIFAR-10: 3,709,194 and 45,000, (B, 64, 32), 0.001, 1.5, 4.2.1, 3x3, ResNet18"
    en = ["3709194", "45000", "64", "32", "0.001", "1.5", "4.2.1", "3"]
    assert english.numbers(written) == en
    written = "CIFAR-10 : 3 709 194 et 45 000, (B, 64, 32), 0,001; 1,5, 4.2.1, 3x3, ResNet18"
    assert french.numbers(written) == en


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_french_has_its_own_typography(name):
    for line in SHEETS[name][1].prose:
        assert not re.search(r"[^\s]:(?=\s|$)", line), f"no space before a colon: {line}"
        assert not re.search(r"\s[;!?]", line), f"a space before ; ! or ?: {line}"
        assert not re.search(r"«(?! )|(?<! )»|\"", line), f"quotation marks: {line}"
        sections = r"[1-4]\.\d(\.\d)?"
        for number in re.findall(r"\d+\.\d[\d.]*\b", line):
            assert re.fullmatch(sections, number), f"{number} has a point: {line}"


# ----------------------------------------------------------------------------------------- PDF


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_pdfs_are_made_of_the_sheets_and_always_the_same(name):
    pytest.importorskip("pypandoc")
    pytest.importorskip("typst")
    manifest = SHEETS[name][0].manifest
    pdfs = sheets.make_pdfs(manifest, ROOT)
    assert list(pdfs) == ["docs/assignment.pdf", "docs/devoir.pdf"]
    assert all(pdf.startswith(b"%PDF-") and len(pdf) > 50_000 for pdf in pdfs.values())
    assert sheets.make_pdfs(manifest, ROOT) == pdfs


def run(command, prelude="pass"):
    program = (
        f"import sys; {prelude}; from grader.__main__ import main; sys.exit(main({command!r}))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_one_command_makes_the_pdfs_and_the_handout_has_them(tmp_path):
    pytest.importorskip("pypandoc")
    pytest.importorskip("typst")
    done = run(["sheets", "regression", "--output", str(tmp_path / "new")])
    paths = [tmp_path / "new" / f"regression-{name}.pdf" for name in ("assignment", "devoir")]
    assert (done.stdout, done.stderr) == ("".join(f"{path}\n" for path in paths), "")
    assert sorted((tmp_path / "new").iterdir()) == paths


@pytest.mark.parametrize("package", ["pypandoc", "typst"])
def test_without_the_packages_the_handout_lacks_the_pdfs_and_one_line_says_so(package, tmp_path):
    absent = f"sys.modules[{package!r}] = None"
    missing = f"{package} is missing: pip install -r grader/requirements.txt\n"
    done = run(["sheets", "regression", "--output", str(tmp_path)], absent)
    assert (done.returncode, done.stdout) == (2, "")
    if package == "typst":
        pytest.importorskip("pypandoc")
    assert done.stderr == f"python -m grader: error: {missing}"
    target = tmp_path / "handout.zip"
    done = run(["handout", "regression", "--output", str(target)], absent)
    assert (done.returncode, done.stdout) == (0, f"{target}\n") and target.exists()
    assert done.stderr == f"python -m grader: the handout has no PDF of the sheets: {missing}"
