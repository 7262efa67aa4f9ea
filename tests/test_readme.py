"""What the README promises."""

import argparse
import re

import experiments.__main__
import grader.__main__
import main

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_installs_and_tests_with_the_commands_of_the_readme():
    """Word for word, but for CI's quieter output."""
    (command,) = re.findall(r"^python3 -m venv .*pytest$", README, re.MULTILINE)
    install, test = command.rsplit(" && ", 1)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("install -q", "install")
    assert install in ci and test in ci


def options_of(parser):
    """Return the flags of a command line and of its commands."""
    options = set()
    for action in parser._actions:
        options |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            options |= {option for inner in action.choices.values() for option in options_of(inner)}
    return options


def test_every_flag_in_the_readme_exists():
    programs = main, grader.__main__, experiments.__main__
    options = set().union(*(options_of(program.make_parser()) for program in programs))
    flags = set(re.findall(r"(?<![-\w])--[a-z_]+", README))
    assert flags and flags <= options


def test_every_file_in_the_readme_exists():
    names = set(re.findall(r"`([a-z0-9_/]+\.(?:py|txt|json))`", README))
    names -= {"results.json", "manifest.py"}  # of a run, and of an assignment
    missing = [name for name in names if not (ROOT / name).exists()]
    assert names and missing == []
