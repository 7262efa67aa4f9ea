"""What the README and the pages of docs/ promise: every command is run, and every name exists."""

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress

import pytest

import benchmarks.__main__
import experiments.__main__
import grader.__main__
from benchmarks import reproduce
from training import arguments, mistakes

from conftest import ROOT

NAMES = (
    "training",
    "experiments",
    "grading",
    "gradescope",
    "benchmarks",
    "extending",
    "staff/rubric",
)
PAGES = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES))
}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
PROGRAMS = {
    "main.py": arguments,
    "-m training.mistakes": mistakes,
    "-m experiments": experiments.__main__,
    "-m grader": grader.__main__,
}
OF_OTHERS = {"--gres", "--time", "--signal", "--wrap", "--dist"}  # of SLURM and of pytest-xdist
# What makes a command small. The last value of a flag is the one that counts.
SMALLER = {
    "main.py": "--data bands.npz --epochs 1 --device cpu --precision float32",
    "-m experiments run": "--preset quick --data bands.npz --seeds 1 --device cpu",
    "-m grader mutants": "--sample 2 --jobs 2",
    "-m benchmarks training": "--data bands.npz --images 256 --repeats 1 --models mlp --workers 0",
    "-m benchmarks growth": "--images 256 --repeats 1",
    "-m benchmarks accuracy": "--data bands.npz --epochs 1 --seeds 1",
    "-m benchmarks numpy_layers": "--repeats 1",
    "-m benchmarks reproduce": "--data bands.npz --only mlp --results fresh",
}
OTHERS = {"test.py", "-m experiments list", "-m experiments report", "-m grader handout"} | {
    "-m experiments rubric",
    "-m grader sheets",
    "-m grader build",
    "-m grader grade",
    "-m training.mistakes",
}


def name_of(command):
    """The program of a command, and its own command if it has one."""
    found = re.match(r"python (-m [\w.]+(?: [a-z_]+(?= |$))?|\w+\.py)", command)
    return found and found[1]


def test_ci_installs_and_tests_with_the_commands_of_the_readme():
    """Word for word, but for CI's quieter output."""
    (command,) = [command for command in COMMANDS if " -m pytest" in command]
    install, test = command.rsplit(" && ", 1)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("install -q", "install")
    assert {install, test} <= {line.strip() for line in ci.splitlines()}


@pytest.fixture(scope="module")
def project(tmp_path_factory, small_npz):
    """A copy of the project, with data for it and the submissions that the page describes."""
    folder = tmp_path_factory.mktemp("fresh") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git repository, and nothing says which files are the project's")
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(small_npz, folder / "bands.npz")
    for name in ("ada", "dan", "bo"):
        submission = folder / "submissions" / name
        submission.mkdir(parents=True)
        for file in ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py"):
            shutil.copy(ROOT / file, submission)
    loss = submission / "utils.py"
    wrong = loss.read_text().replace(
        "_mean(log_normalizer - target,", "_mean(target - log_normalizer,"
    )
    loss.write_text(wrong)
    dan = folder / "submissions" / "dan"
    (dan / "utils.py").rename(dan / "utils (1).py")
    archive = folder / "submissions" / "eve.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(ROOT / "mlp.py", "mlp.py")
    archive.write_bytes(archive.read_bytes().replace(b"PK\1\2", b"PK\0\0"))
    return folder


@functools.cache
def run(command, project):
    """Run a command once, as a shell does, with this Python; return its status and its output."""
    environment = os.environ | {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    }
    done = subprocess.run(
        command, shell=True, cwd=project, capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout + done.stderr


RUN = [command for command in COMMANDS if name_of(command)]


def smaller(command):
    """The command as it is run here."""
    name = name_of(command)
    assert name in SMALLER or name in OTHERS, "no rule says how to run this command in a test"
    return f"{command} {SMALLER.get(name, '')}"


def page_of(command):
    """Return the first page with a command."""
    return next(page for page, text in PAGES.items() if f"\n{command}\n" in text)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_every_command_of_the_readme_does_what_it_says(command, project):
    for earlier in RUN[: RUN.index(command)]:  # which may leave what this one uses
        if page_of(earlier) == page_of(command):
            run(smaller(earlier), project)
    status, printed = run(smaller(command), project)
    expected = 1 if "-m grader grade" in command else 0  # one of the submissions is wrong
    assert status == expected, printed
    assert "Traceback" not in printed
    for line in re.findall(r"^\S+\.(?:zip|pdf|md|png)$", printed, re.MULTILINE):
        assert (project / line).exists()


@pytest.mark.slow
def test_the_first_training_works_as_the_first_screen_says_it(project):
    """Without the installation, which CI does with the same words."""
    (command,) = [command for command in COMMANDS if command.endswith("--data shapes")]
    install, train = command.rsplit(" && ", 1)
    assert install == "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
    train = train.replace(".venv/bin/", "")
    (colab,) = [line for _, block in BLOCKS for line in block.splitlines() if line.startswith("!")]
    assert colab == f"!pip install -q -r requirements.txt && {train}"  # Colab needs no environment
    status, printed = run(f"{train} --epochs 1 --logdir exps/shapes", project)
    assert status == 0 and "shapes: 9,000 images train" in printed, printed


def test_no_command_is_left_out():
    """Those that install are run by CI, that of SLURM by test_cluster.py."""
    assert [command for command in COMMANDS if command not in RUN] == [
        next(command for command in COMMANDS if command.endswith("main.py --data shapes")),
        next(command for command in COMMANDS if " -m pytest" in command),
        next(command for command in COMMANDS if command.startswith("sbatch ")),
    ]


def without_numbers(text):
    """What is printed, but for its numbers, the hardware and white space."""
    text = re.sub(r"\(.*?threads?\)", "(HARDWARE)", text.removesuffix("  *"))
    return re.sub(r"\s+", " ", re.sub(r"[\d,.]*\d", "N", text)).strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, commands",
    [
        ("mlp: 3,709,194", ["python main.py --model mlp --visualize"]),
        ("dist/cifar10-handout.zip", [c for c in RUN if re.search("handout|build|grade c", c)]),
    ],
    ids=["training", "grading"],
)
def test_what_the_readme_shows_is_what_is_printed(first, commands, project):
    """Every line of it, but for the numbers, the hardware and the stars of the best epochs."""
    (shown,) = [block for language, block in BLOCKS if not language and block.startswith(first)]
    printed = "".join(run(smaller(command), project)[1] for command in commands)
    printed = printed.replace("bands:", "CIFAR-10:")
    found = {without_numbers(line) for line in printed.splitlines()}
    lines = [without_numbers(line) for line in shown.splitlines() if line != "..."]
    assert lines and [line for line in lines if line not in found] == []


def parsers():
    """Return the parser of each program; a benchmark has one of its own."""
    found = {name: program.make_parser() for name, program in PROGRAMS.items()}
    for name in benchmarks.__main__.BENCHMARKS:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        found[f"-m benchmarks {name}"] = benchmarks.__main__.make_parser(name, benchmark)
    return found


def test_every_flag_in_the_readme_exists(capsys):
    options = set()

    def read_help(parser, *command):
        with suppress(SystemExit):
            parser.parse_args([*command, "--help"])
        found = capsys.readouterr().out
        options.update(re.findall(r"(?<![-\w])--[a-z_]+", found))
        return found

    for parser in parsers().values():
        for name in re.findall(r"^ {4}([a-z]+) ", read_help(parser), re.MULTILINE):
            read_help(parser, name)
    flags = set(re.findall(r"(?<![-\w])--[a-z_]+", TEXT))
    assert flags and flags <= options | OF_OTHERS


def commands_to_read():
    """All commands of our programs: in blocks, inside a line of text or a table, given to SLURM."""
    found = [
        *RUN,
        *re.findall(r"`(python [^`]+)`", TEXT),
        *re.findall(r'"exec (python .*?)"', TEXT),
    ]
    return sorted({command for command in found if name_of(command) not in (None, "test.py")})


@pytest.mark.parametrize("command", commands_to_read())
def test_every_command_can_be_read_by_its_program(command):
    program, parser = max(
        (item for item in parsers().items() if command.startswith(f"python {item[0]} ")),
        key=lambda item: len(item[0]),
    )
    words = shlex.split(command.removeprefix(f"python {program} "))
    if "benchmarks" in program:
        words = [program.split()[-1], *words]
    try:
        parser.parse_args(words)
    except SystemExit as end:
        assert end.code == 0  # of --help
    configs = [word for word in words if word.startswith("model_configs/")]
    assert all((ROOT / name).exists() for name in configs if "NAME" not in name)


def test_every_file_in_the_readme_exists():
    names = set(re.findall(r"`([a-zA-Z0-9_/]+\.(?:py|txt|json|ipynb|md))`", TEXT))
    names -= {"results.json", "model_configs/NAME.json", "exps/report.md"}
    paths = {ROOT / name for name in names}
    for page, text in PAGES.items():
        paths |= {page.parent / link for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert paths and [path for path in paths if not path.exists()] == []


def test_the_table_of_the_readme_is_made_from_the_results():
    """A row that is missing in results/ is missing here; the commands are in benchmarks.md."""
    parser = benchmarks.__main__.make_parser("reproduce", reproduce)
    args = parser.parse_args(["reproduce", "--table", "--results", str(ROOT / "results")])
    results = reproduce.measure(args)
    assert reproduce.to_markdown(results) in PAGES[ROOT / "README.md"]
    assert reproduce.to_commands(results) in PAGES[ROOT / "docs" / "benchmarks.md"]
