"""What the students' tests share: known numbers, comparisons of modules, and the runner."""

import ast
import difflib
import importlib
import linecache
import math
import sys
import textwrap
import traceback
import unittest
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

# Largest accepted error, relative to the largest expected number (or to 1). Rounding in float32
# gives 1e-6; the smallest known mistake, the tanh approximation of GELU, gives 4e-4.
TOLERANCE = 1e-4
NOT_YOURS = {"__main__", "test", "training", "importlib", "numpy", "torch", "unittest"}


class Problem(unittest.TestCase):
    """A test case whose random numbers are the same in every run.

    The docstring of a subclass starts with its problem: "Problem 1.1".
    """

    def setUp(self) -> None:
        torch.manual_seed(0)

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._testMethodName}"  # as in `python test.py NAME`

    @property
    def number(self) -> str:
        """The number of the problem, such as "1.1"."""
        return (type(self).__doc__ or "").split()[1].rstrip(",")


class Submitted:
    """One of your files, imported when a test first uses it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            module = importlib.import_module(self.name)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and error.name == self.name:
                fail(f"{self.name}.py is missing: it must be in the folder of test.py")
            fail("\n".join([f"{self.name}.py cannot be imported:", *explain(error)]))
        return getattr(module, attribute)


def pattern(name: str, shape: tuple[int, ...], mean: float = 0.0, spread: float = 1.0) -> Tensor:
    """Return pseudorandom numbers in mean ± spread that depend only on name and shape."""
    prime = 1_000_003
    index = torch.arange(math.prod(shape))
    phase = zlib.crc32(name.encode()) % prime
    # Integers, so that every machine computes exactly the same numbers.
    residue = (48_271 * index * index + phase * (index + 1)) % prime
    return (mean + spread * (2 * residue.double() / prime - 1)).float().reshape(shape)


def pattern_for(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the numbers of `filled` for a parameter or a running statistic of batch norm."""
    if len(shape) > 1:  # variance 1 / fan_in keeps the outputs of all layers near 1
        return pattern(name, shape, spread=math.sqrt(3 / math.prod(shape[1:])))
    return pattern(name, shape, mean=float(name.endswith(("weight", "running_var"))), spread=0.5)


def filled(model: nn.Module) -> nn.Module:
    """Set the parameters to known numbers; no bias is zero."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(pattern_for(name, tensor.shape))
    return model


def constant(layer: Any, value: float) -> None:
    """Make a linear layer or a batch norm return a constant."""
    layer.weight.data.zero_()
    layer.bias.data.fill_(value)


def sample(*shape: int) -> Tensor:
    """Return a batch of examples that differ in contrast."""
    contrast = torch.linspace(3, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return contrast * pattern("sample", shape)


def fail(message: str) -> NoReturn:
    raise AssertionError(message)


def assert_shape(tensor: Any, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(tensor, Tensor):
        fail(f"{what} is a {type(tensor).__name__}; expected a tensor of shape {tuple(shape)}")
    if tensor.shape != torch.Size(shape):
        fail(f"{what} has shape {tuple(tensor.shape)}; expected {tuple(shape)}")


def is_close(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Return whether two arrays have the same shape and numbers. NaN differs from everything."""
    found, expected = _numbers(found), _numbers(expected)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    return bool((abs(found - expected) <= tolerance * max(1, np.abs(expected).max())).all())


def assert_close(
    found: Any,
    expected: Any,
    what: str,
    tolerance: float = TOLERANCE,
    mistakes: Mapping[str, Any] | None = None,
) -> None:
    """Fail with the name of a known mistake, or at the entry with the largest error.

    `mistakes` maps the words for a mistake to the numbers that it gives.
    """
    if not isinstance(found, Tensor | np.ndarray | np.number | float | int):
        fail(f"{what} is a {type(found).__name__}; expected numbers")
    array, wanted = _numbers(found), _numbers(expected)
    if is_close(array, wanted, tolerance):
        return
    for words, numbers in (mistakes or {}).items():
        if is_close(array, numbers, tolerance):
            fail(f"{what}: {words}")
    if array.shape != wanted.shape:
        fail(f"{what} has shape {array.shape}; expected {wanted.shape}")
    if is_close(array, -wanted, tolerance):
        fail(f"{what} has the wrong sign")
    difference = np.nan_to_num(np.abs(array - wanted), nan=np.inf)
    index = np.unravel_index(difference.argmax(), wanted.shape)
    place = f" at index {tuple(map(int, index))}" if index else ""
    pair = [f"{number:.6g}" for number in (array[index], wanted[index])]
    if pair[0] == pair[1]:
        pair = [f"{number:.10g}" for number in (array[index], wanted[index])]
    sizes = np.abs(wanted).max(), np.abs(array).max()
    factor = np.copysign(sizes[1] / max(sizes[0], 1e-12), (array * wanted).sum())
    note = f"off by {difference[index]:.2g}" if np.isfinite(array[index]) else "does exp overflow?"
    if wanted.size > 1 and is_close(array, factor * wanted, tolerance):
        note = f"all numbers are {factor:.4g} times the expected ones"
    elif is_close(np.sort(array, axis=None), np.sort(wanted, axis=None), tolerance):
        note = "right numbers, wrong order"
    fail(f"{what} is {pair[0]}{place}; expected {pair[1]} ({note})")


def _numbers(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    return np.asarray(values, dtype=float)


def assert_parameters(module: nn.Module, listed: str, what: str) -> None:
    """Compare the registered parameters with a list such as "weight 4x7, bias 4"; any order."""
    expected = listed.split(", ")
    found = [f"{name} {'x'.join(map(str, p.shape))}" for name, p in module.named_parameters()]
    for parameter in (*expected, *found):
        if parameter not in found or parameter not in expected:
            fault = "lacks the parameter" if parameter in expected else "has the extra parameter"
            fail(f"{what} {fault} {parameter}; it registers {', '.join(found) or 'none'}")


def assert_number_of_parameters(model: nn.Module, expected: int, what: str) -> None:
    number = sum(parameter.numel() for parameter in model.parameters())
    if number != expected:
        fail(f"{what} registers {number:,} parameters; expected {expected:,}")


def explain(error: BaseException) -> list[str]:
    """Return the lines of your code that led to an error, then its message."""
    places: list[str] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] in NOT_YOURS:
            continue
        path, code = frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, line)
        places.append(f"{Path(path).name}, line {line}, in {frame.f_code.co_name}")
        if code.strip().startswith("raise "):
            continue  # the message follows
        places[-1] += f": {code.strip()}"
        if placeholder := find_placeholder(path, line):
            return [f"A `...` is left in {Path(path).name}, line {placeholder}"]
    if isinstance(error, AssertionError) and not places:
        return [str(error)]
    return [*places[-4:], "".join(traceback.format_exception_only(error)).strip()]


def find_placeholder(path: str, line: int) -> int | None:
    """Return the line of a `...` that is an argument in the function around a line.

    A layer takes some of them and fails later, so the constructor of the class is searched too.
    """
    tree = ast.parse("".join(linecache.getlines(path)))
    for top in (node for node in tree.body if _is_around(node, line)):
        for function in ast.walk(top):
            if not isinstance(function, ast.FunctionDef):
                continue
            if not _is_around(function, line) and function.name != "__init__":
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
                        if isinstance(value, ast.Constant) and value.value is ...:
                            return value.lineno
    return None


def _is_around(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or line)


def select(names: list[str]) -> list[Problem]:
    """Return the tests with these names, or all, in the order of the problems."""
    classes = {case.__name__: case for case in Problem.__subclasses__()}
    tests = [
        case(name)
        for case in classes.values()
        for owner in case.__mro__  # a class's own tests come before those that it inherits
        for name in vars(owner)
        if name.startswith("test_")
    ]
    known = [*classes, *map(str, tests)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known) or list(classes)
            sys.exit("\n    ".join([f"There is no {name}; did you mean one of these?", *near]))
    return [test for test in tests if not names or {type(test).__name__, str(test)} & {*names}]


def run(tests: list[Problem]) -> NoReturn:
    """Run tests; print each cause of a failure once, and how many tests of each problem pass."""
    causes: dict[str, tuple[list[str], list[Problem]]] = {}
    problems: dict[str, list[bool]] = {}
    for test in tests:
        results = problems.setdefault(test.number, [])
        try:
            test.debug()
            results.append(True)
        except (Exception, SystemExit) as error:
            results.append(False)
            lines = explain(error)
            # Errors at the same line of your code, the last but one in `lines`, have one cause.
            causes.setdefault(lines[-2:][0], (lines, []))[1].append(test)
        finally:
            test.doCleanups()
        print("." if results[-1] else "F", end="", flush=True)
    print("\n")
    for lines, (test, *others) in causes.values():
        more = f" and {len(others)} more" if others else ""
        print(textwrap.fill(f"Problem {test.number}: {test}{more}", 79, subsequent_indent="    "))
        for line in [*"\n".join(lines).splitlines(), test.shortDescription() or ""]:
            print(textwrap.indent(textwrap.fill(line, 75, break_long_words=False), "    "))
        print()
    for problem, outcomes in problems.items():
        print(f"{problem}: {sum(outcomes)} of {len(outcomes)} tests pass")
    sys.exit(len(causes) > 0)
