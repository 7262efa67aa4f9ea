"""The grader as staff run it: the zip file on Gradescope, other users, the command line."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from grader import __main__ as command_line
from grader import engine, sandbox

from grading import (
    GRADER_REPLACED,
    NUMBER_OF_CASES,
    PARENT_KILLED,
    POINTS,
    QUICK,
    ROOT,
    SOLUTION,
    WRONG,
    autograder_of,
    build_autograder,
    in_forward,
    is_whole,
    make_graded,
    read,
    write_submission,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


@pytest.fixture(scope="session")
def autograder(shared):
    return autograder_of(shared)


# ------------------------------------------- 18. other users, and the file for Gradescope


def command(python=sys.executable, prefix=()):
    """The command that grades in a process of its own, and its environment."""
    paths = (str(ROOT), sysconfig.get_path("purelib"))
    return [*prefix, python, str(ROOT / "tests" / "grading.py")], {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def public_python():
    """A Python that every user can read, with torch; this one need not be."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = [f"/usr/bin/python{version}", f"/usr/local/bin/python{version}", sys.executable]
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become other users, by setpriv")
    for python in filter(os.path.exists, found):
        test = [python, "-c", "import os, torch, numpy; print(os.__file__)"]
        places = [
            subprocess.run(
                [*prefix, *test], env=command()[1], cwd="/", capture_output=True, text=True
            ).stdout
            for prefix in ((), AS_A_USER)
        ]
        if places[0] and places[0] == places[1]:
            return python
    pytest.skip(f"no Python {version} here that users other than root can read")


FORK_BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
AS_A_USER = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")


@pytest.fixture
def open_folder():
    """A folder that belongs to another user, unlike pytest's, which only this one can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def grade_apart(python, prefix, folder, expected, submissions, **options):
    """Grade submissions under another Python and perhaps another user."""
    own = shutil.copytree(expected, folder / "expected")
    own.chmod(0o700)
    requests = [
        {
            "submission": str(write_submission(folder / str(number), files)),
            "expected": str(own),
            "cases": [*QUICK.values()],
            **options,
        }
        for number, files in enumerate(submissions)
    ]
    if prefix:
        for path in (own, *own.iterdir()):
            os.chown(path, 1234, 1234)
    line, environment = command(python, prefix)
    (folder / "requests.json").write_text(json.dumps(requests))
    run = subprocess.run(
        [*line, folder / "requests.json"], env=environment, cwd="/", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [read(answer) for answer in json.loads(run.stdout)]


@pytest.mark.slow
def test_as_root_a_submission_reads_nothing_of_the_grader(public_python, expected, open_folder):
    secret = open_folder / "expected" / f"{QUICK['mlp.py']}.npz"
    stand_ins = open_folder / "expected" / engine.STAND_INS
    aims = [
        f"open({str(secret)!r}, 'rb')",
        f"open({str(stand_ins)!r})",
        f"os.listdir({str(secret.parent)!r})",
        f"os.rename({str(secret.parent)!r}, '/tmp/elsewhere')",
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
        "open(f'/proc/{os.getppid()}/environ')",
        "os.listdir(f'/proc/{os.getppid()}/fd')",
        f"open({str(ROOT / 'mlp.py')!r}, 'a')",
        "os.setuid(0)",
        "open('/etc/passwd', 'a')",
        "open(__file__, 'a')",
    ]
    lines = ["import os", "answers = []"]
    for aim in aims:
        lines += ["try:", f"    {aim}", "    answers.append('no')"]
        lines += ["except OSError:", "    answers.append('denied')"]
    lines += ["raise ValueError(' '.join(answers))"]
    [attack, right] = grade_apart(
        public_python, (), open_folder, expected, [{"mlp.py": in_forward("\n".join(lines))}, {}]
    )
    assert " ".join(["denied"] * len(aims)) in attack.message(QUICK["mlp.py"])
    assert attack.passed == set(QUICK.values()) - {QUICK["mlp.py"]}
    assert right.passed == set(QUICK.values())
    assert not any("files" in gap for gap in right.results["extra_data"]["not_isolated"])


def test_an_ordinary_user_removes_folders_without_permissions(open_folder):
    inner = open_folder / "run" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for path in (inner / "file", inner, inner.parent, inner.parent.parent):
        path.chmod(0)
    uid = 1234 if os.geteuid() == 0 else os.geteuid()
    if os.geteuid() == 0:
        for path in (open_folder, *open_folder.rglob("*")):
            os.chown(path, uid, uid)
    pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        sandbox.remove(open_folder / "run")
        os._exit(0)
    os.waitpid(pid, 0)
    assert not os.path.lexists(open_folder / "run")


@pytest.mark.slow
def test_an_ordinary_user_can_grade_what_attacks_the_grader(public_python, expected, open_folder):
    submissions = [
        {},
        {"mlp.py": in_forward(f"{PARENT_KILLED.strip()}\n{WRONG}")},
        {"mlp.py": in_forward(FORK_BOMB)},
        {"mlp.py": in_forward(GRADER_REPLACED.strip() + "\n" + WRONG)},
    ]
    results = grade_apart(
        public_python, AS_A_USER, open_folder, expected, submissions, cpu=1, wall=3.0
    )
    assert results[0].passed == set(QUICK.values())
    for result in results[1:]:
        assert result.passed == set(QUICK.values()) - {QUICK["mlp.py"]}


@pytest.fixture
def gradescope(autograder, open_folder):
    """The folder as Gradescope lays it out, with a submission of the solution."""
    with zipfile.ZipFile(autograder) as archive:
        archive.extractall(open_folder / "source")
    shutil.copy(open_folder / "source" / "run_autograder", open_folder)
    write_submission(open_folder / "submission", {})
    (open_folder / "results").mkdir()
    (open_folder / "submission_metadata.json").write_text("{}")
    return open_folder


def run_autograder(folder, python, prefix=()):
    """Run it as Gradescope does, and return results.json and what is printed.

    Meanwhile, check that results.json is whole at every moment.
    """
    programs = folder / "bin"
    programs.mkdir()
    wrapper = programs / "python3"
    paths = sysconfig.get_path("purelib")
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={paths} OMP_NUM_THREADS=1 exec {python} "$@"\n')
    wrapper.chmod(0o755)
    if prefix:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 1234, 1234)
    path = folder / "results" / "results.json"
    scores = []
    with subprocess.Popen(
        [*prefix, "bash", "run_autograder"],
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while process.poll() is None:
            time.sleep(0.02)
            if path.exists():
                results = json.loads(path.read_text())
                assert is_whole(results)
                scores.append(sum(test["score"] for test in results["tests"]))
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert scores[0] < POINTS and scores == sorted(scores)
    return json.loads(path.read_text()), output


def check_full_marks(results):
    """Check the keys that Gradescope documents, and 45 of 45."""
    assert is_whole(results)
    assert set(results) == {
        *("tests", "output", "output_format", "visibility", "stdout_visibility"),
        *("execution_time", "extra_data"),
    }
    for test in results["tests"]:
        assert set(test) == {
            *("name", "number", "score", "max_score", "status", "output", "output_format"),
            *("visibility", "tags"),
        }
        assert test["score"] == test["max_score"] and test["status"] == "passed", test
        assert test["visibility"] in ("visible", "after_published")
    assert len({test["number"] for test in results["tests"]}) == NUMBER_OF_CASES
    assert results["output"] == ""
    assert isinstance(results["execution_time"], int)


def test_the_solution_has_full_marks_in_a_table_of_80_columns(expected, tmp_path):
    """In the process of the tests; slow tests run the zip file and the command."""
    result = make_graded(expected, tmp_path)({})
    check_full_marks(result.results)
    assert result.table.count(" ok ") == NUMBER_OF_CASES
    assert "45 of 45 points" in result.table
    assert max(map(len, result.table.splitlines())) == 80  # the rule below the cases


@pytest.mark.slow
def test_the_zip_grades_as_root(gradescope):
    if os.geteuid() != 0:
        pytest.skip("this user is not root")
    results, output = run_autograder(gradescope, sys.executable)
    check_full_marks(results)
    assert "45 of 45 points" in output
    for name in ("source", "submission_metadata.json"):
        assert (gradescope / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_the_zip_grades_as_an_ordinary_user(gradescope, request):
    if os.geteuid() == 0:
        python, prefix = request.getfixturevalue("public_python"), AS_A_USER
    else:
        python, prefix = sys.executable, ()
    check_full_marks(run_autograder(gradescope, python, prefix)[0])


def test_the_zip_holds_no_solution_and_its_scripts_are_sound(autograder, tmp_path):
    with zipfile.ZipFile(autograder) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
        archive.extractall(tmp_path)
    assert not {Path(name).name for name in names} & set(SOLUTION)
    assert {"setup.sh", "run_autograder", "requirements.txt", "grader/__main__.py"} <= names
    assert sum(name.endswith(".npz") for name in names) == NUMBER_OF_CASES
    for script in ("setup.sh", "run_autograder"):
        assert modes[script] == 0o755
        text = (tmp_path / script).read_text()
        assert "ASSIGNMENT" not in text and "\r" not in text
        subprocess.run(["bash", "-n", tmp_path / script], check=True)


@pytest.mark.parametrize("version", ["Python 3.9.18", "Python 3.6.9"])
def test_an_image_with_an_old_python_is_refused_in_words(version, tmp_path):
    """Before anything is installed; the stand-in for Python is old, whatever it is asked."""
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f"""#!/bin/sh
case "$*" in
    *sys.version_info*) exit 1 ;;
    --version) echo {version} ;;
    "-m venv --help"|"-c import ensurepip") ;;
    *) echo "it goes on: $*"; touch {tmp_path}/changed ;;
esac
""")
    python.chmod(0o755)
    run = subprocess.run(
        ["bash", ROOT / "grader" / "gradescope" / "setup.sh"],
        env={"PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stdout == "" and not (tmp_path / "changed").exists()
    assert run.stderr.splitlines() == [
        f"The grader needs Python 3.10 or later; this image has {version}.",
        "Choose Ubuntu 22.04 or later as the base image, then build again.",
    ]


def test_no_member_of_an_archive_leaves_its_folder(autograder):
    """Gradescope unpacks what students submit; what staff unpack is ours, and stays inside."""
    for name in zipfile.ZipFile(autograder).namelist():
        assert not name.startswith("/") and ".." not in Path(name).parts


def test_the_zip_is_the_same_twice(tmp_path):
    cases = ("linear_is_the_affine_map", "new_mlp_is_glorot_normal")
    for name in ("a.zip", "b.zip"):
        build_autograder(str(tmp_path / name), cases)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


# ----------------------------------------------------------------------- the command line


def run_grader(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "grader", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("grade cifar100 .", "there is no assignment 'cifar100'; choose from cifar10"),
        ("grade cifar10 no/such/folder", "no/such/folder does not exist"),
        ("grade cifar10 . --jobs 0", "--jobs: '0' is not a whole number of 1 or more"),
        ("grade cifar10 . docs --results r.json", "--results is for one submission"),
        ("grade cifar10 . --expected no/such", "--expected: no/such is not a folder"),
        ("grade cifar10 . --csv no/such/marks.csv", "--csv: no/such is not a folder"),
        ("grade cifar10 . --cluster slurm", "--cluster needs --csv"),
        ("grade cifar10", "SUBMISSION"),
        ("grade cifar10 . --points 3", "--points"),
        ("", "COMMAND"),
        ("marks cifar10", "'marks'"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_status_2(arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        status = command_line.main(arguments.split())
    except SystemExit as exit:  # argparse ends the program itself
        status = exit.code
    output = capsys.readouterr()
    assert status == 2 and output.out == ""
    assert output.err.startswith("python -m grader") and output.err.count("\n") == 1
    assert words in output.err


@pytest.mark.slow
def test_full_marks_are_status_0(expected, tmp_path):
    write_submission(tmp_path / "right", {})
    run = run_grader("grade", "cifar10", tmp_path / "right", "--expected", expected)
    assert run.returncode == 0, run.stdout
    assert "45 of 45 points" in run.stdout


@pytest.mark.slow
def test_many_folders_become_a_csv_file_and_status_1(expected, tmp_path):
    for name in ("anna", "börje", "carl", "dora"):
        write_submission(tmp_path / name, dict.fromkeys(SOLUTION))
    (tmp_path / "börje" / "mlp.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "carl" / "utils.py").write_text(SOLUTION["utils.py"])
    folders = [tmp_path / name for name in ("dora", "carl", "börje", "anna")]
    path = tmp_path / "marks.csv"
    options = ("--jobs", 2, "--csv", path, "--expected", expected)
    run = run_grader("grade", "cifar10", *folders, *options)
    assert run.returncode == 1, run.stderr
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["submission"]).name for row in rows] == ["anna", "börje", "carl", "dora"]
    assert [float(row["score"]) for row in rows] == [0, 0, 5, 0]
    assert [float(row["problem 4.1"]) for row in rows] == [0, 0, 5, 0]
    assert {row["staff errors"] for row in rows} == {"0"}
    assert "mlp.py is missing." in rows[0]["notes"]
    assert sum(" " in key and key[0].isdigit() for key in rows[0]) == NUMBER_OF_CASES


@pytest.mark.slow
def test_a_grader_that_is_killed_leaves_a_whole_file(expected, tmp_path):
    write_submission(tmp_path / "right", {})
    path = tmp_path / "results.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "grader", "grade", "cifar10", tmp_path / "right"),
            *("--expected", expected, "--results", path),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not path.exists() or '"status": "passed"' not in path.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    results = json.loads(path.read_text())
    assert is_whole(results)
    assert 0 < sum(test["score"] for test in results["tests"]) < POINTS
