"""The grader on wrong solutions: each of them loses points, in the right problem.

A sample only, which changes with the commit; ``python -m grader mutants cifar10`` grades all.
"""

import ast
import sys

import pytest

from grader import __main__ as command_line
from grader.assignment import load_assignment, read_solution
from grader.mutants import Mutant, judge, make_mutants, run_mutants

from grading import check_mutants, edit, server_of


@pytest.fixture(scope="module")
def assignment():
    return load_assignment("cifar10")


@pytest.fixture(scope="module")
def mutants(assignment):
    return make_mutants(assignment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_a_sample_of_the_mutants_is_caught():
    check_mutants("cifar10", 10)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_a_mutant_with_a_mistake_is_caught_and_one_without_is_missed(
    assignment, monkeypatch, capsys
):
    source = read_solution(assignment)["utils.py"].decode()
    wrong = edit(source, ("log_normalizer - target", "log_normalizer + target"))
    two = [
        Mutant("utils.py", wrong, "the wrong sign", "4.1"),
        Mutant("utils.py", source, "no mistake", "4.1"),
    ]
    monkeypatch.setattr("grader.mutants.make_mutants", lambda _: two)
    assert run_mutants(assignment, server_of("cifar10")) == 1
    output = capsys.readouterr().out
    assert "missed: 4.1 utils.py, no mistake. It loses no points." in output
    table = {line.split()[0]: line.split()[1:] for line in output.splitlines()}
    assert table["problem"] == ["caught", "equivalent", "missed"]
    assert table["all"] == ["1", "0", "1"]
    assert all(len(line) <= 80 for line in output.splitlines())


def test_every_mutant_differs_from_the_solution_and_from_the_others(assignment, mutants):
    solution = read_solution(assignment)
    seen = {ast.unparse(ast.parse(source)): name for name, source in solution.items()}
    for mutant in mutants:
        compile(mutant.source, mutant.file, "exec")
        code = ast.unparse(ast.parse(mutant.source))
        assert code not in seen, f"{mutant.what}: the same as {seen[code]}"
        seen[code] = mutant.what


def test_there_are_mutants_of_every_graded_function(assignment, mutants):
    for file, blanks in assignment.manifest.BLANKS.items():
        for function in blanks:
            if not function.endswith("visualize"):
                generated = [m for m in mutants if m.what.startswith(f"{function}: ")]
                assert generated, f"{file}: none of {function}"
    problems = {case.problem for case in assignment.cases}
    assert {mutant.problem for mutant in mutants if mutant.by_hand} == problems


@pytest.mark.slow
def test_the_mutants_are_the_same_every_time(assignment, mutants):
    assert make_mutants(assignment) == mutants


@pytest.mark.parametrize(
    "lost, verdict, reason",
    [
        ({"1.2"}, "caught", ""),
        ({"1.2", "1.3"}, "caught", ""),
        (set(), "missed", "It loses no points."),
        ({"1.3"}, "missed", "It loses points in 1.3 only."),
        ({"1.1", "1.2"}, "missed", "It loses points in 1.1 too."),
    ],
)
def test_a_mutant_is_caught_in_its_own_problem_only(lost, verdict, reason):
    mutant = Mutant("mlp.py", "", "a mistake", "1.2", also=("1.3",))
    assert judge(mutant, lost) == (verdict, reason)


def test_a_mutant_that_loses_points_is_not_equivalent():
    mutant = Mutant("mlp.py", "", "no mistake", "1.2", equivalent="It is right.")
    assert judge(mutant, set()) == ("equivalent", "It is right.")
    verdict, reason = judge(mutant, {"1.2"})
    assert verdict == "missed"
    assert "loses points in 1.2" in reason


@pytest.mark.parametrize("option", ["--sample", "--jobs"])
def test_numbers_of_mutants_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(["mutants", "cifar10", option, "0"])
    assert ended.value.code == 2
    assert f"{option}: '0' is not a whole number of 1 or more" in capsys.readouterr().err
