"""The students' version: it asks for everything, works when written, and gives nothing away."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
import zipfile
from types import SimpleNamespace

import pytest

from grader.cifar10 import manifest
from grader.handout import Blank, make_handout, stub

from conftest import ROOT

FUNCTIONS = [(file, function) for file in manifest.BLANKS for function in manifest.BLANKS[file]]

# What students are given of the files that they submit. Whoever writes a new function there decides
# whether it is given, here, or blanked, in the manifest.
GIVEN_FUNCTIONS = {
    "mlp.py": {"Linear.extra_repr", "MLP.__init__"},
    "resnet18.py": {"ResNet18._make_layer"},
    "mlpmixer.py": {
        "Mlp.__init__",
        "MixerBlock._skip_at_random",
        "MLPMixer.init_weights",
        "_check_positive",
        "_check_probability",
    },
    "utils.py": {
        "compute_accuracy",
        "seed_experiment",
        "to_device",
        "generate_plots",
        "_read_results",
        "_check_logits_and_labels",
    },
}

# The lines that stay in the constructors to fill in: they have no argument to find. No other line
# of such a constructor may be in the handout.
GIVEN_LINES = {
    "BasicBlock.__init__": """
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
        self.shortcut = nn.Sequential(
    """,
    "ResNet18.__init__": """
        if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    """,
    "PatchEmbed.__init__": """
        _check_positive(img_size=img_size)
        if patch_size < 1 or img_size % patch_size != 0:
        divisors = [size for size in range(1, img_size + 1) if img_size % size == 0]
        f"patch_size is {patch_size}; it must divide img_size, {img_size}: "
        f"choose from {', '.join(map(str, divisors))}"
        _check_positive(in_chans=in_chans, embed_dim=embed_dim)
        self.img_size = img_size
        self.patch_size = patch_size
        self.grid_size = img_size // patch_size
        self.num_patches = self.grid_size**2
    """,
    "MixerBlock.__init__": """
        if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        _check_positive(dim=dim, seq_len=seq_len)
        _check_probability(drop_path=drop_path)
        if len(mlp_ratio) != 2:
        raise ValueError(f"mlp_ratio is {mlp_ratio}; it must hold two numbers")
        tokens_dim, channels_dim = (int(ratio * dim) for ratio in mlp_ratio)
        if tokens_mlp_dim is not None:
        tokens_dim = tokens_mlp_dim
        if channels_mlp_dim is not None:
        channels_dim = channels_mlp_dim
        _check_positive(tokens_mlp_dim=tokens_dim, channels_mlp_dim=channels_dim)
        act_layer = ACTIVATIONS[activation]
        self.drop_path = drop_path
    """,
    "MLPMixer.__init__": """
        _check_positive(num_classes=num_classes, num_blocks=num_blocks)
        _check_probability(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        self.num_classes = num_classes
        self.blocks = nn.Sequential(
        MixerBlock(
        drop_path=drop_path_rate * index / max(num_blocks - 1, 1),
        tokens_mlp_dim=tokens_mlp_dim,
        channels_mlp_dim=channels_mlp_dim,
        for index in range(num_blocks)
        self.apply(self.init_weights)
    """,
}
# Lines that reveal nothing: brackets, the first line of a constructor, the beginning of an error,
# and what every drawing needs.
EMPTY = re.compile(
    r"\W*|super\(\)\.__init__\(\)|raise ValueError\("
    r"|ax\.set_axis_off\(\)|path\.parent\.mkdir\(.*\)|return path"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_handout(manifest, ROOT, tmp_path_factory.mktemp("dist") / "new" / "handout.zip")


@pytest.fixture(scope="module")
def handout(archive):
    """The handout as a student has it after unpacking."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(archive.parent)
    return archive.parent / "cifar10"


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def functions_of(source):
    """Return the functions of a module by qualified name."""
    tree = ast.parse(source)
    blocks = [("", tree), *((f"{c.name}.", c) for c in tree.body if isinstance(c, ast.ClassDef))]
    return {
        prefix + node.name: node
        for prefix, block in blocks
        for node in block.body
        if isinstance(node, ast.FunctionDef)
    }


def lines_of(source, function):
    """Return the lines after the docstring of a function, comments included."""
    documented = ast.get_docstring(function) is not None
    before = function.body[0].end_lineno if documented else function.body[0].lineno - 1
    lines = source.splitlines()
    while not documented and lines[before - 1].lstrip().startswith("#"):
        before -= 1
    return {line.strip() for line in lines[before : function.end_lineno]}


# ------------------------------------------------------------------------------ what students see


def summary(output):
    """Return the last lines of test.py: the tests passed and the tests run of each problem."""
    lines = re.findall(r"^(\d\.\d): (\d+) of (\d+) tests pass$", output, re.M)
    assert output.endswith("\n".join(f"{p}: {a} of {b} tests pass" for p, a, b in lines) + "\n")
    return {problem: (int(passed), int(number)) for problem, passed, number in lines}


def reports(output):
    """Return the causes that test.py names: the first test, the other tests, the text."""
    found = re.findall(
        r"^Problem [\d.]+: (Test\w+\.\w+)(?:\s+and\s+(\d+)\s+more)?\n((?: +\S.*\n)+)", output, re.M
    )
    assert max(map(len, output.split("\n"))) < 80
    return [(test, int(more or 0), " ".join(text.split())) for test, more, text in found]


def test_in_the_handout_each_problem_has_one_message_in_their_order(handout):
    ended = run(handout, "test.py")
    assert (ended.returncode, ended.stderr) == (1, "")
    passed = summary(ended.stdout)
    assert list(passed) == sorted({problem for problem, _ in blanked() if not problem > "4.1"})
    assert {number for number, _ in passed.values()} == {0}
    causes = reports(ended.stdout)
    assert sum(1 + more for _, more, _ in causes) == sum(number for _, number in passed.values())
    problems = [
        re.search(r"NotImplementedError: Problem (\d\.\d): \w", text)[1] for *_, text in causes
    ]
    # The tests of 1.3 need the layers of 1.2; those of 3.2 need three constructors.
    assert problems == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2", "3.2", "3.2", "4.1"]


def blanked():
    return [(entry[0], name) for part in manifest.BLANKS.values() for name, entry in part.items()]


@pytest.fixture
def solution(tmp_path):
    """The tests, what they import, and the four files of the solution."""
    (tmp_path / "training").mkdir()
    for name in ("test.py", "training/testing.py", *manifest.SUBMITTED):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_with_the_four_files_of_the_solution_every_test_passes(solution):
    ended = run(solution, "test.py")
    assert ended.returncode == 0 and reports(ended.stdout) == []
    assert all(passed == number > 0 for passed, number in summary(ended.stdout).values())


def test_each_file_with_a_fault_has_a_message_that_names_it(solution):
    change(solution / "mlp.py", "input, self.weight, self.bias", "input, self.weight.T, self.bias")
    change(solution / "resnet18.py", "stride=stride, padding=1", "stride=stride, padding=...")
    change(solution / "mlpmixer.py", "self.head = nn.Linear(", "self.head = nn.Linear((")
    (solution / "utils.py").unlink()
    lines = (solution / "resnet18.py").read_text(encoding="utf-8").split("\n")
    number = 1 + next(i for i, line in enumerate(lines) if "padding=..." in line)

    names = "TestLinear", "TestMLP", "TestBasicBlock", "TestPatchEmbed", "TestCrossEntropyLoss"
    ended = run(solution, "test.py", *reversed(names))
    assert ended.returncode == 1
    linear, block, mixer, loss = reports(ended.stdout)
    assert linear[0] == "TestLinear.test_linear_equals_the_layer_of_torch" and linear[1] > 2
    assert re.search(r"mlp\.py, line \d+, in forward: return nn.* RuntimeError: ", linear[2])
    assert "torch/" not in ended.stdout
    assert block[2].startswith(f"A `...` is left in resnet18.py, line {number}")
    assert "mlpmixer.py cannot be imported:" in mixer[2] and "SyntaxError: " in mixer[2]
    assert loss[2].startswith("utils.py is missing: it must be in the folder of test.py")
    passed = summary(ended.stdout)
    assert list(passed) == ["1.1", "1.3", "2.1", "3.1", "4.1"]
    assert passed["3.1"] == (0, 1 + mixer[1]) and passed["4.1"] == (0, 1 + loss[1])


def test_right_numbers_in_the_wrong_order_are_recognised_and_float32_is_precise_enough(solution):
    change(solution / "mlpmixer.py", "(start_dim=2).transpose(1, 2)", "(2).mT.flip(1)")
    change(solution / "utils.py", "lowest = ", "logits = logits.float()\n    lowest = ")
    ended = run(solution, "test.py", "TestPatchEmbed", "TestCrossEntropyLoss")
    ((test, more, text),) = reports(ended.stdout)
    assert (test, more) == ("TestPatchEmbed.test_each_patch_goes_through_one_linear_map", 0)
    assert "(right numbers, wrong order)" in text
    assert summary(ended.stdout) == {"3.1": (1, 2), "4.1": (5, 5)}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("torch.nn.CrossEntropyLoss()(logits, labels)", "torch's own cross_entropy is used"),
        ("logits.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]", "has shape (1,)"),
        ("torch.tensor(1.0)", "returns a detached tensor"),
    ],
)
def test_a_loss_that_is_not_ones_own_or_not_a_mean_is_refused(loss, message, solution):
    (solution / "utils.py").write_text(
        f"import torch\ndef cross_entropy_loss(logits, labels):\n    return {loss}\n"
    )
    assert message in " ".join(run(solution, "test.py", "TestCrossEntropyLoss").stdout.split())


def test_a_name_that_is_no_test_is_answered_with_the_nearest_ones(solution):
    ended = run(solution, "test.py", "TestMpl")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "There is no TestMpl; did you mean one of these?\n    TestMLP\n"
    classes = re.findall(r"^    (Test\w+)$", run(solution, "test.py", "nothing").stderr, re.M)
    assert classes[0] == "TestLinear" and classes[-1] == "TestCrossEntropyLoss"


def test_every_module_of_the_handout_can_be_imported_and_main_has_help(handout):
    files = sorted(path.relative_to(handout) for path in handout.rglob("*.py"))
    modules = [".".join(path.with_suffix("").parts) for path in files]
    code = f"import {', '.join(modules)}; main.main(['--help'])"
    ended = run(handout, "-c", code)
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout.startswith("usage: ")


def test_the_program_says_in_one_line_what_is_not_written_yet(handout):
    ended = run(handout, "main.py", "--data", "shapes", "--device", "cpu")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"main\.py: error: Problem 1\.2: .*\n", ended.stderr)


@pytest.mark.parametrize("file", manifest.BLANKS)
def test_signatures_and_docstrings_are_those_of_the_solution(file, handout):
    solution = functions_of((ROOT / file).read_text(encoding="utf-8"))
    students = functions_of((handout / file).read_text(encoding="utf-8"))
    for name in manifest.BLANKS[file]:
        ours, theirs = solution[name], students[name]
        assert ast.get_docstring(ours) == ast.get_docstring(theirs)
        assert ast.unparse(ours.args) == ast.unparse(theirs.args)
        assert ast.dump(ours.returns or ast.Pass()) == ast.dump(theirs.returns or ast.Pass())


def test_the_handout_passes_the_linter_and_the_formatter(handout):
    """But for F401: what most solutions need is imported already."""
    shutil.copy(ROOT / "pyproject.toml", handout)
    files = list(manifest.SUBMITTED)
    for command in (["check", "--extend-ignore", "F401", *files], ["format", "--check", *files]):
        ended = run(handout, "-m", "ruff", *command)
        assert ended.returncode == 0, ended.stdout


def test_the_readme_names_every_function_with_its_problem_and_the_points():
    readme = (ROOT / "grader" / "cifar10" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\.\d) \|[^|]*\| `(.*)` \| (.*) \|[^|]*\|$", readme, re.M)
    named = {
        (problem, file, function)
        for problem, file, functions in rows
        for function in re.findall(r"`(.*?)`", functions)
    }
    assert named == {(manifest.BLANKS[file][name][0], file, name) for file, name in FUNCTIONS}
    points = dict(re.findall(r"Problem (\S+): (\d+) \|", readme))
    assert {problem: int(number) for problem, number in points.items()} == manifest.POINTS


# ------------------------------------------------------------------------------ what they do not


def secrets():
    """Return the lines that students write, and those of the helpers that only these lines need.

    Without those that are also in a function that is given, such as the error of an activation.
    """
    hidden, given = set(), set()
    for file in manifest.BLANKS:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name, function in functions_of(source).items():
            lines = lines_of(source, function)
            stays = {line.strip() for line in GIVEN_LINES.get(name, "").split("\n") if line.strip()}
            assert stays <= lines, f"{name} no longer has {stays - lines}"
            given |= lines if name in GIVEN_FUNCTIONS[file] else stays
            hidden |= lines
    return {line for line in hidden - given if not EMPTY.fullmatch(line)}


def test_no_line_of_the_solution_is_in_the_handout(archive):
    hidden = secrets()
    assert "return torch.relu(out + self.shortcut(x))" in hidden
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            lines = {line.strip() for line in opened.read(name).decode().splitlines()}
            assert lines & hidden == set(), name


def test_no_comment_of_the_solution_is_in_the_handout(archive):
    """Not even the end of a line or half a sentence of it."""
    with zipfile.ZipFile(archive) as opened:
        students = {name: opened.read(f"cifar10/{name}").decode() for name in manifest.BLANKS}
    for file, text in students.items():
        source = (ROOT / file).read_text(encoding="utf-8")
        kept = [functions_of(source)[name] for name in GIVEN_FUNCTIONS[file]]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        for token in tokens:
            given = any(node.lineno <= token.start[0] <= node.end_lineno for node in kept)
            if token.type == tokenize.COMMENT and token.start[1] > 0 and not given:
                assert token.string not in text, file


@pytest.mark.parametrize("file", manifest.BLANKS)
def test_whatever_is_not_blanked_is_given_on_purpose(file, handout):
    students = functions_of((handout / file).read_text(encoding="utf-8"))
    assert students.keys() == GIVEN_FUNCTIONS[file] | manifest.BLANKS[file].keys()


def test_the_handout_holds_what_the_manifest_lists_and_nothing_else(archive):
    expected = {"README.md", *manifest.SUBMITTED, *manifest.HANDOUT}
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        assert all(member.external_attr >> 16 == 0o100644 for member in opened.infolist())
    assert names == sorted(f"cifar10/{name}" for name in expected)
    assert not re.search(r"/(tests|grader|results|shared|dist|exps)/", "\n".join(names))


# ------------------------------------------------------------------------------ how it is made


def test_the_handout_has_every_file_of_training():
    files = {f"training/{path.name}" for path in (ROOT / "training").glob("*.py")}
    files -= {"training/program.py"}  # of the sibling assignments
    assert files == {name for name in manifest.HANDOUT if name.startswith("training/")}


def test_the_same_files_make_the_same_bytes(archive, tmp_path):
    again = make_handout(manifest, ROOT, tmp_path / "again.zip")
    assert again.read_bytes() == archive.read_bytes()


def changed_manifest(**changes):
    return SimpleNamespace(**{**vars(manifest), **changes})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"Linear.backward": ("1.1", "go back")}, "Linear.backward"),
        ({"Linea.forward": ("1.1", "fill in")}, "Linea.forward"),
        ({"Linear": ("1.1", "a class")}, "Linear does not name"),
        ({"Linear.forward": ("1.1", "fill in", ("nn.Conv2d",))}, "Linear.forward .* nn.Conv2d"),
    ],
)
def test_a_manifest_that_does_not_fit_the_solution_is_an_error(entries, message, tmp_path):
    wrong = changed_manifest(BLANKS={**manifest.BLANKS, "mlp.py": entries})
    with pytest.raises(ValueError, match=message):
        make_handout(wrong, ROOT, tmp_path / "handout.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_submitted_file_without_blanks_is_an_error(tmp_path):
    wrong = changed_manifest(BLANKS={"mlp.py": manifest.BLANKS["mlp.py"]})
    with pytest.raises(ValueError, match="handed out whole"):
        make_handout(wrong, ROOT, tmp_path / "handout.zip")


def test_a_file_of_the_manifest_that_is_missing_is_an_error(tmp_path):
    wrong = changed_manifest(HANDOUT=(*manifest.HANDOUT, "no_such_file.py"))
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        make_handout(wrong, ROOT, tmp_path / "handout.zip")


SOLUTION = '''"""A module — with a dash."""

from math import pi, tau

import numpy as np

_TABLE = (1, 2)


# What the way is
# called.
def _way(x):
    return _detour(x) + sum(_TABLE)


def _detour(x):
    return _detour(x - 1) if x else np.zeros(1)


@decorated(pi)
def answer(x: int = 3) -> int:  # 42
    # It is the way.
    return "é", _way(x)  # of course
    # That was it.


class Net:
    def __init__(self, width):
        self.a = Layer(
            width, 2 * width, bias=False
        )
        # Twice.
        self.b = Chain(
            Layer(tau, "é", bias=True),  # é
            Layer(
                Layer(1),
                size=(2, 3),
            ),
        )
'''
STUB = '''"""A module — with a dash."""

from math import pi


@decorated(pi)
def answer(x: int = 3) -> int:
    raise NotImplementedError("Problem 1: think")


class Net:
    def __init__(self, width):
        raise NotImplementedError("Problem 2: fill in")
        self.a = Layer(..., ..., bias=False)
        self.b = Chain(
            Layer(..., ..., bias=True),
            Layer(
                ...,
                size=...,
            ),
        )
'''


def test_a_stub_keeps_the_layout_and_loses_comments_helpers_and_imports():
    blanks = {
        "answer": Blank("1", "think"),
        "Net.__init__": Blank("2", "fill in", ("Layer",), ("bias",)),
    }
    assert stub(SOLUTION, blanks) == STUB
