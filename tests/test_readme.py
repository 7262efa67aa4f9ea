"""What the README promises."""

import re

import main

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_installs_and_tests_with_the_commands_of_the_readme():
    """Word for word, but for CI's quieter output."""
    (command,) = re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)
    install, test = command.rsplit(" && ", 1)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("install -q", "install")
    assert install in ci and test in ci


def test_every_flag_in_the_readme_exists():
    options = {option for action in main.make_parser()._actions for option in action.option_strings}
    flags = set(re.findall(r"(?<![-\w])--[a-z_]+", README))
    assert flags and flags <= options


def test_every_file_in_the_readme_exists():
    names = set(re.findall(r"`([a-z0-9_/]+\.(?:py|txt|json))`", README)) - {"results.json"}
    missing = [name for name in names if not (ROOT / name).exists()]
    assert names and missing == []
