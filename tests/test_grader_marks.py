"""Many submissions: the CSV file, its rows, interrupted and resumed gradings, gaps, clean-up."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from grader import sandbox, submissions
from grader.engine import NOT_REACHED, STAFF, Report, Verdict
from grader.marks import Marks, Work, make_row, make_setup
from grader.results import to_gradescope, to_line

from grading import POINTS, ROOT, SOLUTION, offset, server_of, write_submission
from test_submissions import DAMAGES, FILES, archive_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


@pytest.fixture(scope="module")
def assignment():
    return server_of().assignment


def report_of(assignment, path, **verdict):
    """A report as the grader would make it of a submission, without running anything."""
    report = Report(assignment, [Verdict(**verdict) for _ in assignment.cases])
    files, report.notes = submissions.collect(path, assignment.manifest.SUBMITTED)
    report.digest = submissions.digest(files, report.notes)
    return report


def rows_of(path):
    """The rows of a CSV file without the time that they took."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


# ------------------------------------------------------------------------- the file


@pytest.fixture
def graded_class(assignment, tmp_path):
    """The work on three submissions, and their marks."""
    paths = [tmp_path / name for name in ("carl", "anna", os.fsdecode(b"b\xff\n"))]
    work = Work("cifar10", tuple(paths), tmp_path / "expected", 480.0, False, "a setup")
    rows = Marks(tmp_path / "marks.csv", assignment)
    for path in paths:
        write_submission(path, {})
        rows.add(make_row(path, report_of(assignment, path, passed=True, message=""), work.setup))
    return work, rows


@pytest.mark.usefixtures("graded_class")
def test_the_file_is_sorted_and_is_read_as_it_was_written(assignment, tmp_path):
    path = tmp_path / "marks.csv"
    names = [Path(row["submission"]).name for row in rows_of(path)]
    assert names == ["anna", r"b\udcff\n", "carl"]
    before = path.read_bytes()
    again = Marks(path, assignment)
    again.add(again.rows[str(tmp_path / "carl")])
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["anna", os.fsdecode(b"b\xff\n"), "carl", path.name]
    )


def test_a_row_is_valid_for_the_same_content_and_setup_only(graded_class, assignment, tmp_path):
    work, _ = graded_class
    rows = Marks(tmp_path / "marks.csv", assignment)
    carl, anna, other = work.submissions
    assert all(rows.find(path, work) for path in work.submissions)
    assert not any(rows.find(path, replace(work, setup="another")) for path in work.submissions)
    (carl / "utils.py").write_text("x = 1")
    (anna / "utils.py").rename(anna / "Utils.py")  # taken nevertheless, with a note
    (other / "report.pdf").write_text("")  # not read
    assert [bool(rows.find(path, work)) for path in work.submissions] == [False, False, True]
    assert rows.find(tmp_path / "dora", work) is None


@pytest.mark.parametrize("first", "=+-@")
def test_no_name_is_a_formula_to_a_spreadsheet(first, assignment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_submission(Path(f"{first}HYPERLINK(1)"), {})
    work = Work("cifar10", (path,), tmp_path / "expected", 480.0, False, "a setup")
    rows = Marks(tmp_path / "marks.csv", assignment)
    rows.add(make_row(path, report_of(assignment, path), work.setup))
    [row] = rows_of(tmp_path / "marks.csv")
    assert row["submission"] == f"./{first}HYPERLINK(1)"
    assert Marks(tmp_path / "marks.csv", assignment).find(path, work)


def test_errors_of_the_grader_are_graded_again(graded_class, assignment):
    work, rows = graded_class
    report = report_of(assignment, work.submissions[0], message=STAFF, staff=True)
    rows.add(row := make_row(work.submissions[0], report, work.setup))
    assert row["notes"] == STAFF and int(row["staff errors"]) == len(assignment.cases)
    assert [bool(rows.find(path, work)) for path in work.submissions] == [False, True, True]


def test_a_row_with_a_gap_is_not_valid_where_none_is_allowed(graded_class, assignment):
    work, rows = graded_class
    report = report_of(assignment, work.submissions[0])
    report.gaps = ["submissions can use the network", "other submissions can be read"]
    rows.add(row := make_row(work.submissions[0], report, work.setup))
    assert row["not isolated"] == "submissions can use the network; other submissions can be read"
    assert rows.find(work.submissions[0], work)
    assert rows.find(work.submissions[0], replace(work, isolated=True)) is None


@pytest.mark.parametrize("content", [b"name,mark\nada,5\n", b"\xff\xfe\0", b"", b'"'])
def test_another_file_is_not_overwritten(content, assignment, tmp_path):
    path = tmp_path / "marks.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"marks\.csv (has other columns|is not a CSV file)"):
        Marks(path, assignment)
    assert path.read_bytes() == content


def test_the_setup_depends_on_the_solution_the_records_and_the_time_limit(assignment, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "case.npz").write_bytes(name.encode())
    arguments = [(None, 480.0), (None, 60.0), (tmp_path / "a", 480.0), (tmp_path / "b", 480.0)]
    setups = [make_setup(assignment, *some) for some in arguments]
    assert len(set(setups)) == 4
    assert setups == [make_setup(assignment, *some) for some in arguments]


# -------------------------------------------------------------------- what is reported


def hints_of(assignment, messages):
    """The text above the cases, where each hidden case fails with the message of its file."""
    verdicts = [
        Verdict(message=messages[case.file]) if case.file in messages else Verdict(True, "")
        for case in assignment.cases
    ]
    return to_gradescope(Report(assignment, verdicts))["output"].splitlines()


def test_one_line_says_why_all_hidden_tests_of_a_file_fail(assignment):
    """Advice about large logits would mislead."""
    assert hints_of(assignment, {"utils.py": "utils.py is missing"}) == []  # the notes say so
    for message, hint in {
        "utils.py cannot be imported: SyntaxError": "utils.py cannot be imported, so that all of "
        "its tests fail.",
        NOT_REACHED: "Some hidden tests were not reached: the grader ran out of time.",
        "not implemented yet: Problem 4.1": "A hidden test of Problem 4.1 fails: not implemented "
        "yet.",
    }.items():
        assert hints_of(assignment, {"utils.py": message}) == [hint]
    hidden = [case for case in assignment.cases if case.file == "utils.py" and not case.public]
    assert hints_of(assignment, {"utils.py": "the loss is nan"}) == list(
        dict.fromkeys(f"A hidden test of Problem 4.1 fails: {case.hint}" for case in hidden)
    )


def test_a_line_of_the_output_fits_80_columns(assignment, tmp_path):
    path = tmp_path / ("name" * 30)
    path.mkdir()
    for report in (
        report_of(assignment, path),
        report_of(assignment, path, passed=True, message=""),
        report_of(assignment, path, message=STAFF, staff=True),
    ):
        lines = to_line(make_row(path, report, ""), POINTS).splitlines()
        assert max(map(len, lines)) <= 80
        assert "namename" in lines[0]
        assert (len(lines) > 1) == (report.score == 0)


# ------------------------------------------------------------- the command, and its end


def command(*arguments):
    return [sys.executable, "-m", "grader", "grade", "cifar10", *map(str, arguments)]


@pytest.fixture
def temporary(tmp_path):
    """The environment of a command whose temporary files all lie in one folder, and that folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    folder.chmod(0o711)
    return os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}, folder


@pytest.mark.slow
def test_a_class_that_is_killed_resumes_and_ends_as_if_it_had_not_been(
    expected, temporary, tmp_path
):
    environment, _ = temporary
    room = tmp_path / "class"
    for number in range(8):
        text = SOLUTION["utils.py"] if number % 2 else "raise SystemExit"
        write_submission(room / f"{number}", dict.fromkeys(SOLUTION) | {"utils.py": text})
    for name, (damage, _) in list(DAMAGES.items())[:4]:
        (room / f"{name}.zip").write_bytes(damage(archive_of(FILES)))
    options = ("--jobs", 2, "--expected", expected, "--csv")
    arguments = [*sorted(room.iterdir()), *options]
    killed, whole = tmp_path / "killed.csv", tmp_path / "whole.csv"
    rows = 0
    for wanted in (1 + offset() % 3, 4 + offset() % 5):
        process = subprocess.Popen(command(*arguments, killed), cwd=ROOT, env=environment)
        while rows < wanted:  # the file can be read at any moment
            assert process.poll() is None
            rows = len(rows_of(killed)) if killed.exists() else 0
            time.sleep(0.01)
        process.kill()
        process.wait()
    resumed = subprocess.run(
        command(*arguments, killed), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert resumed.returncode == 1
    already = int(resumed.stdout.split()[0])
    assert f"{already} of 12 submissions are graded already" in resumed.stdout
    assert already >= wanted and resumed.stdout.count(" of 45  ") == 12 - already
    subprocess.run(command(*arguments, whole), cwd=ROOT, env=environment, capture_output=True)
    assert rows_of(killed) == rows_of(whole)
    assert [float(row["score"]) for row in rows_of(whole)] == [0.0, 5.0] * 4 + [0.0] * 4
    assert {row["staff errors"] for row in rows_of(whole)} == {"0"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_grading_leaves_nothing_but_its_rows(number, expected, temporary, tmp_path):
    environment, folder = temporary
    for name in "abc":
        files = {"utils.py": "import time\ntime.sleep(30)"} if name > "a" else {}
        write_submission(tmp_path / name, dict.fromkeys(SOLUTION) | files)
    path = tmp_path / "marks.csv"
    arguments = [*(tmp_path / name for name in "abc"), "--expected", expected, "--csv", path]
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.send_signal(number)  # the impatient press it twice
    error = process.communicate()[1]
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert error.splitlines()[-1:] == [
        f"python -m grader: stopped by {name}; the same command grades what is left"
    ]
    assert process.returncode == 128 + number
    assert len(rows_of(path)) == 1
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="for root")
def test_gaps_are_printed_written_and_refused(expected, temporary, tmp_path):
    """Root without the capability that namespaces need, as in a container of Docker."""
    environment, folder = temporary
    for name in "ab":
        (tmp_path / name).mkdir()
    path = tmp_path / "marks.csv"
    line = ["setpriv", "--bounding-set=-sys_admin"]
    line += command(tmp_path / "a", tmp_path / "b", "--expected", expected, "--csv", path)
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    refused = subprocess.run([*line, "--require-isolation"], **options)
    if refused.returncode == 1:
        pytest.skip("this machine isolates submissions without the capability too")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith("python -m grader: error: --require-isolation: ")
    assert refused.stderr.count("\n") == 1
    assert not path.exists() and list(folder.iterdir()) == []
    graded = subprocess.run(line, **options)
    gaps = refused.stderr.strip().partition("--require-isolation: ")[2].split("; ")
    printed = " ".join(graded.stdout.split())
    assert all(f"not isolated: {gap}" in printed for gap in gaps)
    assert max(map(len, graded.stdout.splitlines())) <= 80
    assert {row["not isolated"] for row in rows_of(path)} == {"; ".join(gaps)}


STARTED_AND_KILLED = """
import os, signal
from grader.server import Server
server = Server("regression")
server.assignment
os.kill(server._process.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_grader_is_removed_by_the_next(temporary):
    environment, folder = temporary
    killed = subprocess.run([sys.executable, "-c", STARTED_AND_KILLED], cwd=ROOT, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 1
    elsewhere, alive, unmarked = (folder / name for name in ("other", "grader-a", "grader-b"))
    for path in (elsewhere, alive, unmarked):
        path.mkdir()
    (folder / "grader-link").symlink_to(elsewhere)  # an abandoned folder cannot be elsewhere
    (folder / "grader-c").mkdir()
    os.mkfifo(folder / "grader-c" / "lock")  # whose opening would wait for a writer
    sandbox.hold(elsewhere).close()
    with sandbox.hold(alive):
        sandbox.remove_abandoned(folder)
    names = {path.name for path in folder.iterdir()}
    assert (
        names == {"other", "grader-a", "grader-b", "grader-link"} and (elsewhere / "lock").exists()
    )
