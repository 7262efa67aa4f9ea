"""Right submissions get full marks, however they are written.

Of ``REWRITTEN`` the suite grades a few; with GRADER_VARIANTS=all in the environment, all of them.
"""

import os
import zipfile

import pytest

from grader.engine import load_assignment

from grading import SOLUTION, build_autograder, edit, read, submit, workers, write_submission
from rewritten import REWRITTEN
from variants import STARTER, VARIANTS

CASES = {
    name: [case.name for case in load_assignment("cifar10").cases if case.file == name]
    for name in SOLUTION
}
# What the judge's reading of the source could stumble over, and one of each file.
SAMPLE = [
    *("line ends of Windows and a byte order mark", "tabs", "another encoding", "a main part"),
    *("nn.Sequential", "the shortcut first", "patches by hand", "a loop over the batch"),
    "names like those of the built-ins",
]
CHOSEN = list(REWRITTEN) if os.environ.get("GRADER_VARIANTS") == "all" else SAMPLE


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
    for number, name in enumerate(CHOSEN):
        submission = write_submission(folder / f"rewritten {number}", REWRITTEN[name])
        waiting[name] = submit(str(submission), expected, cases_of(REWRITTEN[name]), worker=number)
    starter = write_submission(folder / "starter", STARTER)
    waiting["starter"] = submit(str(starter), expected, worker=len(VARIANTS))
    return {name: read(future.result()) for name, future in waiting.items()}


def cases_of(files):
    return [case for file in files for case in CASES[file]]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_right_submission_has_full_marks(reports, name):
    report = reports[name]
    assert report.passed == set(CASES[VARIANTS[name][0]]), report.table


@pytest.mark.parametrize("name", CHOSEN)
def test_a_file_written_anew_has_full_marks(reports, name):
    report = reports[name]
    assert report.passed == set(cases_of(REWRITTEN[name])), report.table


def test_a_submission_on_the_course_s_own_template_has_full_marks(reports):
    """It refuses a single hidden layer, ignores drop_path, and draws nothing."""
    assert reports["starter"].score == 45, reports["starter"].table


def test_there_are_twenty_variants_of_all_files():
    assert len(VARIANTS) >= 20 and {file for file, _ in VARIANTS.values()} == set(SOLUTION)
