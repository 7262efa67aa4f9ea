"""The grader of the NumPy networks: right submissions have full marks, wrong ones lose points once.

A sample of the mutants only; ``python -m grader mutants numpy_networks`` grades all of them.
"""

import ast
import re
import sys
import zipfile
from functools import cache

import pytest

from grader.assignment import load_assignment
from grader.forbidden import Forbidden, find
from grader.handout import make_handout
from grader.mutants import make_mutants
from grader.numpy_networks import manifest

from conftest import ROOT
from grading import by_hand, check_mutants, expected_of, grade
from numpy_networks_variants import VARIANTS, rewrite

NAME = manifest.NAME
SOLUTION = (ROOT / "numpy_networks" / "solution.py").read_text(encoding="utf-8")
BLANKS = manifest.BLANKS["solution.py"]
CASES = {case.name: case for case in load_assignment(NAME).cases}

# Mistakes in parts that others build on, and their problems.
SAMPLE = {
    "tanh by torch": "1.2",
    "A and Z are swapped": "1.3",
    "the residual connection is forgotten": "3.1",
}

SOFTMAX = "exponentials / exponentials.sum(axis=-1, keepdims=True)"

SLOW = pytest.mark.slow
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


def questions_of(functions):
    """Return the questions, "1" to "3", that functions belong to."""
    return {BLANKS[function][0][0] for function in functions if function in BLANKS}


def merge(variants):
    """Put variants of different functions into one submission, so that there are few to grade."""
    merged: list[tuple[list[str], dict[str, str], list[str]]] = []
    for name, (bodies, end) in variants.items():
        free = [entry for entry in merged if not entry[1].keys() & bodies.keys()]
        if not free:
            merged.append(([], {}, []))
        names, taken, ends = (free or merged[-1:])[0]
        names.append(name)
        taken.update(bodies)
        ends.append(end)
    return [(names, bodies, "".join(ends)) for names, bodies, ends in merged]


@pytest.fixture(scope="module")
def mutants():
    return make_mutants(load_assignment(NAME))


MERGED = merge(VARIANTS)


@pytest.fixture(scope="module")
def report(shared, tmp_path_factory):
    """A function that grades one of the submissions, once."""
    folder = tmp_path_factory.mktemp("numpy_networks")

    @cache
    def graded(kind, key, step=1):
        submission, cases = folder / f"{kind} {key} {step}", list(CASES)
        submission.mkdir()
        if kind == "variants":
            _, bodies, end = MERGED[key]
            text = rewrite(SOLUTION, bodies, end)
            cases = cases_of(questions_of(bodies))
        elif kind == "mutant":
            text = by_hand(NAME)[SAMPLE[key], key]
            # Of Question 3 the models only; its loops do not use them.
            cases = cases_of({"1": ("1.",), "3": ("3.1", "3.2")}[SAMPLE[key][0]])
        else:
            with zipfile.ZipFile(make_handout(manifest, ROOT, folder / "handout.zip")) as archive:
                text = archive.read(f"{NAME}/solution.py").decode()
        (submission / "solution.py").write_text(text, encoding="utf-8")
        return grade(str(submission), str(expected_of(shared, NAME)), cases[::step], name=NAME)

    return graded


def cases_of(problems):
    """Return the cases of problems, by the beginnings of their numbers."""
    return [name for name, case in CASES.items() if case.problem.startswith(tuple(problems))]


# The default run grades a part of the cases.
all_or_some_cases = pytest.mark.parametrize("step", [4, pytest.param(1, marks=SLOW)])


@on_linux
@all_or_some_cases
def test_the_handout_has_no_points_and_every_case_says_what_is_missing(report, step):
    graded = report("handout", "", step)
    assert graded.score == 0 and [*graded.verdicts] == [*CASES][::step]
    for name, verdict in graded.verdicts.items():
        said = re.match(r"not implemented yet: Problem (\d)\.\d: ", verdict["message"])
        assert said and said[1] == CASES[name].problem[0], f"{name}: {verdict['message']}"


@on_linux
@all_or_some_cases
def test_variants_of_all_questions_have_full_marks(report, step):
    names, bodies, _ = MERGED[0]
    assert cases_of(questions_of(bodies)) == list(CASES)
    graded = report("variants", 0, step)
    assert graded.passed == {*[*CASES][::step]}, f"{names}: {graded.table}"


@on_linux
@SLOW
@pytest.mark.parametrize("number", range(1, len(MERGED)))
def test_variants_of_some_questions_have_full_marks(report, number):
    names, bodies, _ = MERGED[number]
    graded = report("variants", number)
    assert graded.passed == set(cases_of(questions_of(bodies))), f"{names}: {graded.table}"


def test_the_variants_differ_from_the_solution():
    for bodies, end in VARIANTS.values():
        assert ast.dump(ast.parse(rewrite(SOLUTION, bodies, end))) != ast.dump(ast.parse(SOLUTION))


@on_linux
def test_the_message_is_that_of_the_mistake_in_the_part_itself(shared, tmp_path):
    """The softmax is wrong too, but not to blame for the backward pass."""
    text = SOLUTION.replace(SOFTMAX, "1.0 * x")
    right = 'cache[f"Z{last}"] - labels}'
    assert right in text
    text = text.replace(right, f"({right[:-1]}) / len(labels)}}")
    (tmp_path / "solution.py").write_text(text, encoding="utf-8")
    expected = str(expected_of(shared, NAME))
    graded = grade(str(tmp_path), expected, ["backward_of_any_batch"], name=NAME)
    message = graded.verdicts["backward_of_any_batch"]["message"]
    assert re.match(r"NN\(.*\)\.backward for B = 2, x near 1: dA3: wrong even with a", message)


# ------------------------------------------------------------------------------ NumPy only

HEAD = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import relu as rectify

shortcut = F.relu
"""


@pytest.fixture
def find_torch(tmp_path):
    """A function that says where a part of a source uses torch."""

    def find_torch(source, part):
        (tmp_path / "solution.py").write_text(source)
        return find(tmp_path, "solution.py", Forbidden(part, ("torch",)))

    return find_torch


@pytest.mark.parametrize(
    "body",
    [
        "return torch.tanh(x)",
        "return F.tanh(x)",
        "return rectify(x)",
        "return shortcut(x)",
        "return helper(x)",
        "import torch as t; return t.tanh(x)",
        "return __import__('torch').tanh(x)",
        "return [shortcut(y) for y in x] + [shortcut for shortcut in x]",
        "return (lambda shortcut: 0)(1) or shortcut(x)",
        "global shortcut; shortcut = shortcut; return shortcut(x)",
    ],
)
def test_torch_is_found_by_any_name(body, find_torch):
    source = f"{HEAD}\ndef helper(x):\n    return torch.tanh(x)\n"
    source += f"\nclass NN:\n    def tanh(self, x):\n        {body}\n"
    source += "\n    def relu(self, x):\n        return x\n"
    for part in ("NN", "NN.tanh"):
        found = find_torch(source, part)
        assert found.endswith("uses torch; expected your own code")
    assert find_torch(source, "NN.relu") == ""


def test_torch_is_found_in_a_default_argument(find_torch):
    source = f"{HEAD}\nclass NN:\n    def tanh(self, x, shortcut=shortcut):\n        return x\n"
    assert "uses torch" in find_torch(source, "NN")


def test_torch_is_found_at_the_end_of_a_very_long_sum(find_torch):
    source = f"{HEAD}\nclass NN:\n    def tanh(self, x):\n        return F.tanh(x){' + 1' * 1500}\n"
    assert "uses torch" in find_torch(source, "NN.tanh")


def test_what_is_forbidden_is_found_in_a_coroutine_too(find_torch):
    source = (
        "import asyncio, torch\n"
        "async def hidden(x):\n    return torch.relu(x)\n"
        "class NN:\n    def relu(self, x):\n        return asyncio.run(hidden(x))\n"
        "    async def tanh(self, x):\n        return torch.tanh(x)\n"
    )
    for part in ("NN", "NN.relu", "NN.tanh"):
        assert "uses torch" in find_torch(source, part)


def test_variables_of_a_function_are_not_those_of_the_module(find_torch):
    source = HEAD + (
        "x = loss = torch.ones(3)\n"
        "class NN:\n"
        "    def tanh(self, x):\n"
        "        loss = np.tanh(x)\n"
        "        return loss\n"
    )
    assert find_torch(source, "NN") == ""


# ------------------------------------------------------------------------------ what there is


def test_the_readme_names_every_function_with_its_problem_and_the_points():
    readme = (ROOT / "grader" / NAME / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\.\d) \| (\d+) \| (.*) \| `(\w+)` \|$", readme, re.M)
    named = {(p, f) for p, _, functions, _ in rows for f in re.findall(r"`(.*?)`", functions)}
    assert named == {(entry[0], function) for function, entry in BLANKS.items()}
    points = {problem: int(number) for problem, number, _, _ in rows}
    for problem, number in points.items():
        assert number == sum(c.points for c in CASES.values() if c.problem == problem), problem
    for problem, number in manifest.POINTS.items():
        assert number == sum(n for p, n in points.items() if p.startswith(problem)), problem
    tests = (ROOT / "numpy_networks" / "test.py").read_text(encoding="utf-8")
    assert all(f"class {test}(Problem)" in tests for *_, test in rows)


def test_hidden_cases_have_hints_and_stand_ins_are_parts_of_the_solution():
    for case in CASES.values():
        assert case.public or case.hint, case.name
        assert {*case.stand_ins} <= {*BLANKS, "ResidualBlock"}, case.name


def test_whatever_is_not_blanked_is_given_on_purpose():
    """Whoever writes a new function there decides whether it is given, here, or blanked."""
    tree = ast.parse(SOLUTION)
    blocks = [("", tree), *((f"{c.name}.", c) for c in tree.body if isinstance(c, ast.ClassDef))]
    functions = {
        prefix + node.name
        for prefix, block in blocks
        for node in block.body
        if isinstance(node, ast.FunctionDef)
    }
    helpers = {"_columns", "_pixels"}  # these go with what uses them
    assert functions - BLANKS.keys() - helpers == {
        *("NN.__init__", "one_hot", "Convolution2dLayer.__init__", "MaxPooling2dLayer.__init__"),
        *("ResNet18.activation", "ResNet18.get_first_conv_layer_filters"),
        *("ResNet18.get_last_conv_layer_filters", "Images.__init__", "Images.__len__"),
        *("Images.__getitem__", "make_loaders", "get_cifar10"),
    }


# ------------------------------------------------------------------------------ mutants


def test_every_mistake_by_hand_changes_the_solution_and_differs_from_the_others():
    sources = by_hand(NAME)
    assert len({*sources.values(), SOLUTION}) == len(sources) + 1
    for (_, what), source in sources.items():
        compile(source, what, "exec")
    assert {problem for problem, _ in sources} == {case.problem for case in CASES.values()}


@SLOW
def test_there_are_mutants_of_every_function(mutants):
    for function in BLANKS:
        assert any(mutant.what.startswith(f"{function}: ") for mutant in mutants), function


@SLOW
def test_every_mutant_differs_from_the_solution_and_from_the_others(mutants):
    """Those that are generated are unparsed code, as is the second text of the solution here."""
    seen = {SOLUTION, ast.unparse(ast.parse(SOLUTION))}
    for mutant in mutants:
        assert mutant.source not in seen, mutant.what
        seen.add(mutant.source)


@on_linux
@pytest.mark.parametrize(
    "what", ["tanh by torch", *(pytest.param(what, marks=SLOW) for what in list(SAMPLE)[1:])]
)
def test_a_mistake_costs_points_in_its_own_part_only(report, what):
    graded = report("mutant", what)
    lost = {CASES[name].problem for name in graded.verdicts.keys() - graded.passed}
    assert lost == {SAMPLE[what]}


@on_linux
@SLOW
def test_a_sample_of_the_mutants_is_caught():
    check_mutants(NAME, 4)
