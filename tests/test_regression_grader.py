"""The third assignment as students and staff have it: handout, points, right and wrong answers."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache

import pytest

from grader.assignment import load_assignment, read_solution
from grader.handout import make_handout
from grader.mutants import make_mutants
from grader.regression import manifest

from conftest import ROOT
from grading import by_hand, check_mutants, edit, expected_of, grade
from regression_variants import CHECKED_LOSS, MLP, TEMPLATE, VARIANTS

SOLUTION = (ROOT / "regression" / "solution.py").read_text(encoding="utf-8")
GIVEN = {"__init__", "load_dataset", "make_loaders"}
GIVEN |= {"train_loop", "evaluation_loop", "_average"}
PROBLEMS = {"1.1": 1, "1.2": 5, "1.3": 6, "1.4": 4, "1.5": 6, "1.6": 3}
CASES = {problem: set() for problem in PROBLEMS}
for _case in load_assignment("regression").cases:
    CASES[_case.problem].add(_case.name)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
SLOW = pytest.mark.slow

# Mistakes: the problems that lose points. All else is graded as if they were not there.
WRONG = {
    "no activation function": (["1.1"], [("return nn.ReLU()", "return None")]),
    "an MLP with an activation too many": (
        ["1.2"],
        [(MLP, MLP.replace("nn.Linear(widths[-1], 1))", "nn.Linear(widths[-1], 1), activation)"))],
    ),
    "labels that broadcast": (
        ["1.4"],
        [(CHECKED_LOSS, CHECKED_LOSS.replace("y.reshape(prediction.shape).to(prediction)", "y"))],
    ),
    "an exception in the loss": (["1.4"], [(CHECKED_LOSS, "        raise KeyError(X.shape)\n")]),
    "no step": (["1.5"], [("        self.optimizer.step()\n", "")]),
    "a constructor that fails": (
        [],
        [("        if network_type not in NETWORKS:\n", "        if network_type:\n")],
    ),
}

# Of the right and the wrong submissions, those that the default run grades.
FAST = {
    *("named layers, each with a copy of the activation", "losses of torch, kept by the trainer"),
    *("gradients by torch.autograd.grad", "evaluation that stays in its mode"),
    *("activations from their formulas", "labels that broadcast", "a constructor that fails"),
}


def some_are_slow(names, fast):
    return [name if name in fast else pytest.param(name, marks=SLOW) for name in names]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("regression")


@pytest.fixture(scope="module")
def archive(folder):
    return make_handout(manifest, ROOT, folder / "handout.zip")


@pytest.fixture(scope="module")
def handout(folder, archive):
    """The handout as a student has it after unpacking."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder / "regression"


@pytest.fixture(scope="module")
def report(shared, folder, handout):
    """A function that grades one of the submissions, once."""

    @cache
    def graded(name):
        texts = {"the solution": SOLUTION, "the template": TEMPLATE}
        texts["the handout"] = (handout / "solution.py").read_text(encoding="utf-8")
        if name in VARIANTS:
            text = edit(SOLUTION, *VARIANTS[name])
        else:
            text = edit(SOLUTION, *WRONG[name][1]) if name in WRONG else texts[name]
        cases = cases_of(text) if name in VARIANTS else ()
        submission = folder / name
        submission.mkdir()
        (submission / "solution.py").write_text(text, encoding="utf-8")
        expected = expected_of(shared, "regression")
        return grade(str(submission), str(expected), cases, name="regression")

    return graded


def functions_of(source):
    """Return the methods of Trainer by name."""
    trainer = next(n for n in ast.parse(source).body if getattr(n, "name", "") == "Trainer")
    return {node.name: node for node in trainer.body if isinstance(node, ast.FunctionDef)}


def cases_of(text):
    """Return the cases that another solution may change: those of the functions that differ."""
    theirs = functions_of(text)
    changed = {
        name
        for name, function in functions_of(SOLUTION).items()
        if ast.dump(function) != ast.dump(theirs[name])
    }
    problems = {
        problem
        for name, (problem, _) in manifest.BLANKS["solution.py"].items()
        if name.removeprefix("Trainer.") in changed
    }
    if "1.4" in problems:  # the step and the evaluation call it
        problems |= {"1.5", "1.6"}
    return sorted(set().union(*(CASES[problem] for problem in problems)))


# ------------------------------------------------------------------------------------- the points


def test_the_points_are_those_of_the_sheet():
    assignment = load_assignment("regression")
    assert manifest.POINTS == PROBLEMS and assignment.points == 25
    for problem, points in PROBLEMS.items():
        cases = [case for case in assignment.cases if case.problem == problem]
        assert sum(case.points for case in cases) == points
        assert sum(case.points for case in cases if case.public) >= points / 2
    assert all(case.public or case.hint for case in assignment.cases)


@LINUX
@pytest.mark.parametrize("name", ["the solution", pytest.param("the template", marks=SLOW)])
def test_a_right_submission_has_full_marks(report, name):
    assert report(name).score == 25, report(name).table


@LINUX
@pytest.mark.parametrize("name", some_are_slow(VARIANTS, FAST))
def test_a_right_answer_written_differently_has_full_marks(report, name):
    """On the cases of what differs from the solution; the others are as for the solution."""
    graded = report(name)
    assert graded.verdicts and graded.passed == graded.verdicts.keys(), graded.table


def test_the_variants_differ_from_the_solution_and_from_each_other():
    texts = {ast.dump(ast.parse(edit(SOLUTION, *pairs))) for pairs in VARIANTS.values()}
    assert len(texts) == len(VARIANTS) and ast.dump(ast.parse(SOLUTION)) not in texts


@LINUX
def test_the_handout_has_no_points_and_each_case_says_what_is_not_written(report):
    graded = report("the handout")
    assert graded.score == 0
    for problem, names in CASES.items():
        for name in names:
            message = graded.message(name)
            assert message.startswith(f"not implemented yet: Problem {problem}: "), message


@LINUX
@pytest.mark.parametrize("name", some_are_slow(WRONG, FAST))
def test_a_mistake_costs_points_in_its_own_problem_only(report, name):
    """A loss that fails leaves the steps and the evaluation gradable, and so on."""
    lost = {problem for problem in PROBLEMS if not CASES[problem] <= report(name).passed}
    assert lost == set(WRONG[name][0]), report(name).table


@LINUX
def test_the_message_of_a_broadcast_names_the_numbers(report):
    message = report("labels that broadcast").message("loss_and_mae_are_means_over_the_batch")
    assert re.match(
        r"The loss of compute_loss_and_mae, 4 images, labels \(4,\) is \S+; exp", message
    )


# ------------------------------------------------------------------------------------- the mutants


@pytest.fixture(scope="module")
def mutants():
    return make_mutants(load_assignment("regression"))


def test_every_mistake_by_hand_changes_the_solution_and_differs_from_the_others():
    sources = by_hand("regression")
    assert len({*sources.values(), SOLUTION}) == len(sources) + 1
    for (_, what), source in sources.items():
        compile(source, what, "exec")
    assert {problem for problem, _ in sources} == set(PROBLEMS)


@SLOW
def test_there_are_mutants_of_every_function(mutants):
    for function in manifest.BLANKS["solution.py"]:
        assert any(mutant.what.startswith(f"{function}: ") for mutant in mutants), function


@SLOW
def test_every_mutant_differs_from_the_solution_and_from_the_others(mutants):
    source = read_solution(load_assignment("regression"))["solution.py"].decode()
    seen = {ast.unparse(ast.parse(source)): "the solution"}
    for mutant in mutants:
        code = ast.unparse(ast.parse(mutant.source))
        assert code not in seen, f"{mutant.what}: the same as {seen[code]}"
        seen[code] = mutant.what


@SLOW
@LINUX
def test_a_sample_of_the_mutants_is_caught():
    """``python -m grader mutants regression`` grades all of them."""
    check_mutants("regression", 5)


# ------------------------------------------------------------------------------------- the handout


def test_signatures_and_docstrings_are_those_of_the_solution(handout):
    ours = functions_of(SOLUTION)
    theirs = functions_of((handout / "solution.py").read_text(encoding="utf-8"))
    blanked = {name.removeprefix("Trainer.") for name in manifest.BLANKS["solution.py"]}
    assert ours.keys() == theirs.keys() == blanked | GIVEN
    for name, function in ours.items():
        if name in GIVEN:
            assert ast.dump(function) == ast.dump(theirs[name])
            continue
        _, error = theirs[name].body
        assert ast.get_docstring(function) == ast.get_docstring(theirs[name])
        assert isinstance(error, ast.Raise) and "NotImplementedError" in ast.unparse(error)
        assert ast.unparse(function.args) == ast.unparse(theirs[name].args)
        assert ast.unparse(function.returns) == ast.unparse(theirs[name].returns)


def test_no_line_of_the_solution_is_in_the_handout(archive):
    lines = [line.strip() for line in SOLUTION.splitlines()]
    hidden = set()
    for name, function in functions_of(SOLUTION).items():
        if name not in GIVEN:
            hidden |= set(range(function.body[0].end_lineno, function.end_lineno))
    given = {line for number, line in enumerate(lines) if number not in hidden}
    # But for brackets and words that any code has.
    secret = {
        lines[number] for number in hidden if re.search(r"\w.*\W\w.*[^(]$", lines[number])
    } - given
    assert "self.optimizer.zero_grad()" in secret
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            text = opened.read(name).decode()
            assert {line.strip() for line in text.splitlines()} & secret == set(), name
            assert "not 2 x 2 after" not in text and "earlier gradients" not in text


def test_the_handout_holds_what_the_manifest_lists_and_nothing_else(archive):
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    expected = [name.removeprefix("../") for name in (*manifest.HANDOUT, "README.md")]
    expected.append("solution.py")
    assert sorted(names) == sorted(f"regression/{name}" for name in expected)


def test_the_handout_passes_the_linter_and_the_formatter(handout):
    """But for F401: what most solutions need is imported already."""
    shutil.copy(ROOT / "pyproject.toml", handout)
    for command in (["check", "--extend-ignore", "F401"], ["format", "--check"]):
        ended = run(handout, "-m", "ruff", *command, "--exclude", "*.ipynb", ".")
        assert ended.returncode == 0, ended.stdout


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_in_the_handout_every_test_fails_with_the_message_of_its_own_problem(handout):
    output = run(handout, "test.py").stdout
    reports = re.findall(r"^Problem (\d\.\d): (Test.*?)\n(?=Problem|\d\.\d: )", output, re.M | re.S)
    assert [problem for problem, _ in reports] == list(PROBLEMS)
    for problem, report in reports:
        assert f"NotImplementedError: Problem {problem}:" in report
    assert re.findall(r"^(\d\.\d): 0 of \d+ tests pass$", output, re.M) == list(PROBLEMS)


def test_the_program_of_the_handout_says_in_one_line_what_is_not_written_yet(handout):
    ended = run(handout, "train.py", "--data", "shapes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"train\.py: error: Problem 1\.1: .*\n", ended.stderr)


def test_the_readme_names_every_function_with_its_problem_points_and_tests():
    readme = (ROOT / "grader" / "regression" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\.\d) \| (\d+) \| `(.*)` \| `(.*)` \|$", readme, re.M)
    assert {problem: int(points) for problem, points, *_ in rows} == PROBLEMS
    named = {function: problem for problem, _, function, _ in rows}
    assert named == {name: blank[0] for name, blank in manifest.BLANKS["solution.py"].items()}
    students = (ROOT / "regression" / "test.py").read_text(encoding="utf-8")
    for problem, _, _, test in rows:
        assert f'class {test}(Problem):\n    """Problem {problem}"""' in students
