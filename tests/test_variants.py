"""Right submissions get full marks, however they are written.

The default run grades a few and a slow test others, which change with the commit; with
GRADER_VARIANTS=all in the environment, the slow tests grade all.
"""

import os
import sys

import pytest

from grader.assignment import load_assignment

from grading import POINTS, SOLUTION, edit, expected_of, make_graded, sample
from rewritten import REWRITTEN
from variants import STARTER, VARIANTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")

CASES = {
    name: [case.name for case in load_assignment("cifar10").cases if case.file == name]
    for name in SOLUTION
}
SUBMISSIONS = REWRITTEN | {
    f"the solution, {name}": {file: edit(SOLUTION[file], *changes)}
    for name, (file, changes) in VARIANTS.items()
}
# What the judge's reading of the source could stumble over, and one of each file.
FAST = [
    *("line ends of Windows and a byte order mark", "tabs", "another encoding", "a main part"),
    *("nn.Sequential", "the shortcut first", "patches by hand", "a loop over the batch"),
    "names like those of the built-ins",
]
OTHERS = [name for name in SUBMISSIONS if name not in FAST]
SLOW = OTHERS if os.environ.get("GRADER_VARIANTS") == "all" else sample(OTHERS, 14)


@pytest.fixture
def graded(shared, tmp_path):
    return make_graded(expected_of(shared), tmp_path)


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_a_right_submission_has_full_marks(name, graded):
    """On the cases of the files that differ from the solution's."""
    cases = [case for file in SUBMISSIONS[name] for case in CASES[file]]
    report = graded(SUBMISSIONS[name], *cases)
    assert report.passed == set(cases), report.table


@pytest.mark.slow
def test_a_submission_on_the_course_s_own_template_has_full_marks(graded):
    """It refuses a single hidden layer, ignores drop_path, and draws nothing.

    Two of its files are among the fast ones, with tabs.
    """
    report = graded(STARTER)
    assert report.score == POINTS, report.table
