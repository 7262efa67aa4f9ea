"""Right submissions get full marks, however they are written."""

import zipfile

import pytest

from grader.engine import load_assignment

from grading import SOLUTION, build_autograder, edit, read, submit, workers, write_submission
from variants import STARTER, VARIANTS

CASES = {
    name: [case.name for case in load_assignment("cifar10").cases if case.file == name]
    for name in SOLUTION
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report for each variant, on the cases of its file; two are graded at a time."""
    folder = tmp_path_factory.mktemp("variants")
    workers().submit(build_autograder, str(folder / "autograder.zip")).result()
    with zipfile.ZipFile(folder / "autograder.zip") as archive:
        archive.extractall(folder)
    expected = str(folder / "expected")
    waiting = {}
    for number, (name, (file, changes)) in enumerate(VARIANTS.items()):
        text = edit(SOLUTION[file], *changes)
        submission = write_submission(folder / str(number), {file: text})
        waiting[name] = submit(str(submission), expected, CASES[file], worker=number)
    starter = write_submission(folder / "starter", STARTER)
    waiting["starter"] = submit(str(starter), expected, worker=len(VARIANTS))
    return {name: read(future.result()) for name, future in waiting.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_submission_has_full_marks(reports, name):
    report = reports[name]
    assert report.passed == set(CASES[VARIANTS[name][0]]), report.table


def test_a_submission_on_the_course_s_own_template_has_full_marks(reports):
    """It refuses a single hidden layer, ignores drop_path, and draws nothing."""
    assert reports["starter"].score == 45, reports["starter"].table


def test_there_are_twenty_variants_of_all_files():
    assert len(VARIANTS) >= 20 and {file for file, _ in VARIANTS.values()} == set(SOLUTION)
