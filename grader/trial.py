"""Tools to write cases with; they run in the same process as student code.

A case is a function of a ``Trial``. It builds parts of the submission, fills them with known
numbers and records what they compute. The same function runs on the solution in double precision
and on every submission in single precision; ``judge`` compares the two records in another process.
No expected number is known here.
"""

import ast
import io
import json
import linecache
import marshal
import os
import random
import re
import sys
import traceback
import unittest
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from grader import forbidden
from grader.assignment import Case
from grader.forbidden import Forbidden
from grader.imports import Importer, LeftOut, Missing, StandIn

# Largest accepted error, relative to the largest expected number. Rounding to float32 and another
# order of summation give up to 5e-6 here; the smallest known mistake, the tanh approximation of
# GELU, gives 4e-4.
TOLERANCE = 1e-4
# Some gradients jump because rounding crosses the kink of a ReLU.
GRADIENT_TOLERANCE = 1e-3
SKETCH = 16  # sums recorded of a gradient with more than SMALL entries
SMALL = 4096
MODES = ("training", "evaluation")

M = TypeVar("M", bound=nn.Module)


class Wrong(Exception):
    """A result of the submission cannot be compared; the message is for the student."""


def case(
    problem: str,
    points: float,
    file: str,
    public: bool = False,
    hint: str = "",
    stand_ins: tuple[str, ...] = (),
    forbidden: Forbidden | None = None,
) -> Callable[[Callable[["Trial"], None]], Case]:
    """Decorate a function to make it a case; the arguments are those of ``Case``."""

    def make(check: Callable[["Trial"], None]) -> Case:
        title = (check.__doc__ or check.__name__).strip().splitlines()[0]
        return Case(
            check.__name__, title, problem, points, file, public, hint, stand_ins, check, forbidden
        )

    return make


class Trial:
    """The code under test and the record of what it computes.

    The submitted files are attributes, ``trial.mlp`` for ``mlp.py``, imported on first use.

    Args:
        folder: with the submitted files.
        dtype: of the computation.
        stand_ins: compiled parts of the solution for ``file``, by name.
        file: the submitted file under test.
        left_out: what the import of the files leaves out.
        forbidden: what ``watched`` refuses.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        stand_ins: Mapping[str, bytes],
        file: str,
        left_out: LeftOut = MappingProxyType({}),
        forbidden: Forbidden | None = None,
    ):
        self._folder, self._dtype, self._stand_ins, self._file = folder, dtype, stand_ins, file
        self._forbidden = forbidden
        self._items: list[tuple[str, dict[str, Any], np.ndarray]] = []
        self._settings: dict[str, str] = {}  # after the import of each file
        # The project's folder has files of the same names, which may be imported already.
        here = Path(__file__).resolve().parent.parent
        elsewhere = [p for p in sys.path if p and Path(p).resolve() != here]
        sys.path[:] = [str(folder), *elsewhere]
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__") or ""
            if os.path.dirname(file) == str(here) or name.partition(".")[0] == "training":
                del sys.modules[name]
        self.importer = Importer(folder, left_out)
        self._settle()
        self._initial = _global_settings()

    def __getattr__(self, name: str) -> ModuleType:
        if not (self._folder / f"{name}.py").exists():
            raise Wrong(f"{name}.py is missing")
        module = self.importer.load(name)
        self._settings[name] = self._describe_settings()
        setattr(self, name, module)
        for part, code in self._stand_ins.items() if f"{name}.py" == self._file else ():
            definitions = {"__name__": f"solution_{name}"}
            exec(marshal.loads(code), definitions)
            owner, _, method = part.partition(".")
            if method:
                setattr(getattr(module, owner), method, vars(definitions[owner])[method])
            else:
                setattr(module, part, definitions[part])
        self._settle()  # the import may have changed any of this
        return module

    def _settle(self, seed: int = 0) -> None:
        """Set all state that results may depend on."""
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(True)
        torch.use_deterministic_algorithms(False)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)

    def draw(self, *shape: int, seed: int = 0) -> Tensor:
        """Return standard normal numbers, the same on every machine and in each precision."""
        numbers = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
        return torch.from_numpy(numbers).to(self._dtype)

    def fill(self, what: str, module: M, seed: int = 0) -> M:
        """Record a module's parameters, then set them and its running statistics to known numbers.

        No bias is zero and no scale is one, so that a missing one shows. The numbers depend on the
        names, not on the order in which a module registers its parts.
        """
        self.record_parameters(what, module)
        with torch.no_grad():
            for name, tensor in module.state_dict().items():
                if not tensor.is_floating_point():
                    continue
                draws = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
                numbers = 2 * draws.random_sample(tuple(tensor.shape)) - 1
                if tensor.ndim > 1:  # variance 1 / fan_in keeps the outputs of all layers near 1
                    numbers *= np.sqrt(3 / np.prod(tensor.shape[1:]))
                else:
                    scale = name.endswith(("weight", "running_var"))
                    numbers = 0.5 * numbers + (1 if scale else 0)
                tensor.copy_(torch.from_numpy(numbers.astype(np.float32)))
        return module

    def record(
        self, what: str, value: Any, tolerance: float = TOLERANCE, absolute: float = 0.0
    ) -> None:
        """Record a tensor of numbers.

        The largest accepted error is ``tolerance`` times the largest expected number, or
        ``absolute`` if that is more.
        """
        if type(value) not in (Tensor, nn.Parameter):  # a subclass could report anything
            raise Wrong(f"{what} is {_in_words(value)}; expected a tensor")
        if value.dtype not in (torch.float32, torch.float64):
            raise Wrong(f"{what} is a tensor of {value.dtype}; expected {torch.float32}")
        if self._forbidden and (name := forbidden.in_graph(value, self._forbidden)):
            raise Wrong(f"{what} comes from {name}; {forbidden.EXPECTED}")
        numbers = value.detach().cpu().numpy()
        self._add(what, numbers, kind="close", tolerance=tolerance, absolute=absolute)

    def record_number(
        self, what: str, value: Any, tolerance: float = 0.0, absolute: float = 0.0
    ) -> None:
        """Record a single number, whatever its type; the tolerances are those of ``record``."""
        try:
            number = np.array(float(value))
            self._add(what, number, kind="close", tolerance=tolerance, absolute=absolute)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Wrong(f"{what} is {_in_words(value)}; expected a number") from error

    def record_text(self, what: str, text: str) -> None:
        """Record a text; the same one is expected."""
        self._add(what, np.array(text), kind="same")

    def record_parameters(self, what: str, module: Any) -> None:
        """Record the names and shapes of all registered parameters."""
        if not isinstance(module, nn.Module):
            raise Wrong(f"{what} is {_in_words(module)}; expected an nn.Module")
        for kind in {kind for part in module.modules() for kind in type(part).__mro__}:
            if kind.__module__.partition(".")[0] == "torchvision":
                raise Wrong(f"{what} uses torchvision's {kind.__name__}; expected your own code")
        names = [
            f"{name} {tuple(p.shape)}{'' if p.requires_grad else ', which is frozen'}"
            for name, p in module.named_parameters()
        ]
        self._add(what, np.array("\n".join(sorted(names))), kind="parameters")

    def record_drawn(self, what: str, weight: Any, distribution: str, std: float) -> None:
        """Record a random weight; a "normal" or "uniform" distribution of mean 0 is expected."""
        if not isinstance(weight, Tensor):
            raise Wrong(f"{what} is {_in_words(weight)}; expected a tensor")
        numbers = weight.detach().cpu().numpy().astype(np.float32)
        self._add(what, numbers, kind="drawn", distribution=distribution, std=std)

    def record_different(self, what: str, first: Tensor, second: Tensor) -> None:
        """Record two tensors, which are expected to differ."""
        pair = np.stack([first.detach().cpu().numpy(), second.detach().cpu().numpy()])
        self._add(what, pair, kind="different")

    def construct(self, what: str, build: Callable[[], nn.Module]) -> None:
        """Record how a part starts and what its constructor leaves behind.

        The part is built with the same seed twice and with another one. Its matrices and kernels
        are expected to be random and to follow the seed; two instances share nothing.
        """

        def build_filled() -> nn.Module:
            torch.use_deterministic_algorithms(True)  # torch.empty returns NaN, not old memory
            module = build()
            torch.use_deterministic_algorithms(False)
            return module

        build()
        self._record_settings(what)
        built = self.record_seeds(what, build_filled)
        first, second, other = (dict(module.named_parameters()) for module in built)
        for name, parameter in first.items():
            if parameter.ndim > 1:
                draws = [_summary(p[name]) for p in (first, second, other) if name in p]
                self._add(f"{what}: the initial {name}", np.stack(draws), kind="random")
        shared = [n for n in first if n in second and first[n].data_ptr() == second[n].data_ptr()]
        text = ", ".join(shared) or "none"
        self.record_text(f"{what}: the parameters that two instances share", text)

    def call(
        self,
        what: str,
        function: Callable[..., Any],
        *inputs: Tensor,
        tolerance: float = TOLERANCE,
        absolute: float = 0.0,
    ) -> Any:
        """Call a part of the submission and record what it returns, as ``record`` does."""
        with self.watched():
            output = function(*inputs)
        self.record(what, output, tolerance, absolute)
        return output

    def differentiate(
        self, what: str, function: Any, *inputs: Tensor, seed: int = 0, scale: float = 1.0
    ) -> None:
        """Record the output, and the gradients with respect to the first input and all parameters.

        They are gradients of a sum of the output with random weights, times ``scale``. A large
        gradient is recorded as a few sums of its entries with random signs.
        """
        leaf = inputs[0].clone().requires_grad_()
        argument = leaf * 1  # not the leaf itself, on which in-place operations are errors
        with self.watched():
            output = function(argument, *inputs[1:])
        self.record(what, output)
        if not output.requires_grad:
            raise Wrong(f"{what} is detached; expected a tensor through which gradients flow")
        # The same weights for any shape: the judge reports a wrong one.
        weights = scale * self.draw(max(output.numel(), 1), seed=seed + 1)[: output.numel()]
        parameters = list(function.named_parameters() if isinstance(function, nn.Module) else ())
        for _, parameter in parameters:
            parameter.grad = None
        total = (output * weights.reshape(output.shape)).sum()
        with self.watched():
            total.backward()
        for name, tensor in (("the input", leaf), *parameters):
            gradient = tensor.grad
            if gradient is None:
                raise Wrong(f"{what}: no gradient reaches {name}")
            if gradient.numel() > SMALL:
                gradient = self._sketch(gradient)
            # Some gradients are 0 but for rounding.
            absolute = 1e-6 * scale
            self.record(f"{what}: the gradient of {name}", gradient, GRADIENT_TOLERANCE, absolute)

    def probe(
        self, what: str, part: Any, *inputs: Tensor, seed: int = 0, in_place: bool = False
    ) -> None:
        """Record all that calls of a part show, and what they leave behind.

        The part is called four times with the same inputs: without gradients; with the signs of all
        parameters reversed; with gradients; and with gradients that are 10,000 times as large and
        another random seed. Outputs, gradients, buffers, the arguments, the random state and global
        settings are recorded.

        Args:
            what: the part in words.
            part: the part.
            inputs: its arguments.
            seed: of the weights of ``differentiate``.
            in_place: whether the part may change its arguments.
        """
        copies = [tensor.clone() for tensor in inputs]
        with torch.no_grad():
            self.call(f"{what}, without gradients", part, *copies)
            for number, (tensor, copy) in enumerate(zip(inputs, copies), start=1):
                if not in_place and not torch.equal(tensor, copy):
                    raise Wrong(f"{what}: argument {number} is changed in place")
            _negate(part)
            copies = [tensor.clone() for tensor in inputs]
            self.call(
                f"{what}, called again with the signs of all parameters reversed", part, *copies
            )
            _negate(part)
        afterwards = []
        for number, (words, scale) in enumerate((("", 1.0), (", called again", 1e4))):
            self._settle(number)
            copies = [tensor.clone() for tensor in inputs]
            self.differentiate(f"{what}{words}", part, *copies, seed=seed, scale=scale)
            afterwards.append(_next_random_numbers())
        self._record_seeding(what, *afterwards)
        self.record_buffers(what, part)
        self._record_settings(what)

    def probe_arrays(
        self,
        what: str,
        function: Callable[..., Any],
        draw: Callable[[int], tuple],
        part: Any = None,
        entries: Sequence[str] = (),
        tolerance: float = TOLERANCE,
        overwritten: int = 0,
    ) -> None:
        """Record what ``probe`` does, of a function of NumPy arrays or dictionaries of arrays.

        The function is called with two sets of arguments, then with the signs of all weights
        reversed. The first result is recorded again after the second call, so that an array or a
        dictionary that two calls share shows.

        Args:
            what: the call in words.
            function: the function.
            draw: returns the arguments; 0 and 1 give different ones of the same shapes.
            part: the object whose ``weights``, an array or a dictionary, the function uses.
            entries: to record, if the function returns a dictionary; it may have more.
            tolerance: as in ``record``.
            overwritten: number of leading arguments that the function may change.
        """
        results, following = [], []
        for number, arguments in enumerate([draw(0), draw(1)]):
            given = deepcopy(arguments)
            self._settle(number)
            with self.watched():
                results.append(function(*given))
            following.append(_next_random_numbers())
            words = what if not number else f"{what}, for other numbers"
            self.record_arrays(words, results[-1], entries, tolerance)
            same = all(map(_is_same, arguments[overwritten:], given[overwritten:]))
            text = "unchanged" if same else "changed in place"
            self.record_text(f"The arguments of {words}, afterwards", text)
        words = f"The first result of {what}, after a second call"
        self.record_arrays(words, results[0], entries, tolerance)
        self._record_seeding(what, *following)
        self._record_settings(what)
        if part is not None:
            weights = part.weights
            part.weights = _reverse(weights)
            arguments = draw(0)
            with self.watched():
                result = function(*arguments)
            part.weights = weights
            words = f"{what}, with the signs of all weights reversed"
            self.record_arrays(words, result, entries, tolerance)

    def record_arrays(
        self, what: str, value: Any, entries: Sequence[str] = (), tolerance: float = TOLERANCE
    ) -> None:
        """Record a NumPy array or a number, of any numeric type, or entries of a dictionary."""
        if entries and not isinstance(value, dict):
            raise Wrong(f"{what} is {_in_words(value)}; expected a dictionary")
        for name in entries:
            if name not in value:
                has = ", ".join(map(str, value)) or "nothing"
                raise Wrong(f"{what} has no entry {name}; it has {has[:200]}")
        arrays = {f"{what}: {name}": value[name] for name in entries} or {what: value}
        for words, array in arrays.items():
            if not isinstance(array, np.ndarray | np.generic | float | int):
                raise Wrong(f"{words} is {_in_words(array)}; expected an array")
            array = np.asarray(array)
            if array.dtype.kind not in "biuf":
                raise Wrong(f"{words} is an array of {array.dtype}; expected numbers")
            self._add(words, array.astype(np.float64), kind="close", tolerance=tolerance)

    def record_buffers(self, what: str, part: Any) -> None:
        """Record the buffers of a module, such as the running statistics of batch norm."""
        for name, buffer in part.named_buffers() if isinstance(part, nn.Module) else ():
            self.record(f"{what}: {name} afterwards", buffer.to(self._dtype))

    def _record_seeding(self, what: str, first: list[float], second: list[float]) -> None:
        """Record the next random numbers after two calls with different seeds."""
        for name, *pair in zip(("torch", "NumPy", "random"), first, second):
            words = f"The next random numbers of {name} after {what}, with two seeds,"
            self._add(words, np.array(pair), kind="different")

    def record_seeds(self, what: str, call: Callable[[], Any]) -> list[Any]:
        """Record what a call does to the random generators and to global settings.

        Returns:
            What it returned for the seeds 0, 0 and 1.
        """
        returned, following = [], []
        for seed in (0, 0, 1):
            self._settle(seed)
            returned.append(call())
            following.append(_next_random_numbers())
            self._record_settings(what)
        same = "the same" if following[0] == following[1] else "different"
        self.record_text(f"The next random numbers after {what}, twice with the same seed", same)
        self._record_seeding(what, *following[1:])
        return returned

    def record_settings(self, file: str) -> None:
        """Record what importing a submitted file, such as "mlp", does to global settings."""
        getattr(self, file)
        self.record_text(f"The state of torch's settings after import {file}", self._settings[file])

    def _record_settings(self, what: str) -> None:
        self.record_text(f"The state of torch's settings after {what}", self._describe_settings())

    def _describe_settings(self) -> str:
        """Return which global settings are no longer those of the trial."""
        changed = [
            name for name, value in _global_settings().items() if value != self._initial[name]
        ]
        return f"changed ({', '.join(changed)})" if changed else "unchanged"

    def _sketch(self, gradient: Tensor) -> Tensor:
        """Return sums of the entries with random signs; an error in any entry shows."""
        signs = np.random.RandomState(0).randint(0, 2, gradient.numel()).astype(np.float32) * 2 - 1
        signed = gradient.flatten() * torch.from_numpy(signs).to(gradient.dtype)
        return torch.stack([part.sum() for part in signed.tensor_split(SKETCH)])

    def run_tests(self, tests: CodeType, *names: str) -> None:
        """Record whether tests of the handout's ``test.py`` pass, such as "TestMLP.test_x"."""
        torch.set_default_dtype(torch.float32)
        module = ModuleType("public_tests")
        exec(tests, vars(module))
        for name in names:
            owner, _, method = name.partition(".")
            result = _FirstError()
            getattr(module, owner)(method).run(result)
            text = explain(result.error, self._folder) if result.error else "passes"
            self._add(f"{name} in test.py", np.array(text), kind="test")
        self._settle()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Refuse what the case forbids, in all threads, while the part under test runs."""
        if self._forbidden is None:
            yield
            return
        seen: list[str] = []
        try:
            with forbidden.watch(self._forbidden, self._folder) as seen:
                yield
        finally:  # the code may have caught the error
            if seen:
                raise Wrong(seen[0])

    def _add(self, what: str, array: np.ndarray, **meta: Any) -> None:
        self._items.append((what, meta, array))

    def to_bytes(self) -> bytes:
        """Return the record as an .npz file."""
        buffer = io.BytesIO()
        index = json.dumps([[what, meta] for what, meta, _ in self._items])
        arrays: dict[str, Any] = {
            str(number): array for number, (_, _, array) in enumerate(self._items)
        }
        np.savez(buffer, index=np.array(index), **arrays)
        return buffer.getvalue()


def conduct(
    case: Case | None,
    folder: Path,
    file: str,
    dtype: str = "float32",
    stand_ins: Mapping[str, bytes] = MappingProxyType({}),
    left_out: LeftOut = MappingProxyType({}),
) -> bytes:
    """Run a case or only import its file.

    Returns:
        "R" and the record, or what ``imports.read_answer`` reads; or "E" and a message.
    """
    refused = case.forbidden if case else None
    trial = Trial(folder, getattr(torch, dtype), stand_ins, file, left_out, refused)
    try:
        if refused and (found := forbidden.find(folder, file, refused)):
            raise Wrong(found)  # before any code of the submission runs
        getattr(trial, file.removesuffix(".py"))  # what it does itself is not watched
        if case is None or case.check is None:
            return b"R" + trial.importer.answer()
        case.check(trial)
        return b"R" + trial.to_bytes()
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        return b"E" + explain(error, folder).encode(errors="replace")


def explain(error: BaseException, folder: Path) -> str:
    """Return a student's error with its line in their file, without the grader's stack."""
    try:
        text = str(error)
    except BaseException:  # of the error's own __str__
        text = "its message cannot be shown, because its __str__ fails"
    # The folder and memory addresses differ from run to run.
    text = re.sub(r" at 0x[0-9a-f]+", "", text.replace(f"{folder}/", ""))[:400]
    text = text or "no message"
    if isinstance(
        error, Wrong | Missing | AssertionError
    ):  # also of test.py, whose messages are sentences
        return text
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(folder))
    ]
    if isinstance(error, NotImplementedError):
        return f"not implemented yet: {text}\n  {_place(frames).partition(': ')[0]}"
    elif isinstance(error, SyntaxError):
        place = f" in {Path(error.filename).name}, line {error.lineno}" if error.filename else ""
        return f"SyntaxError{place}: {error.msg}"
    elif isinstance(error, SystemExit):
        text = "the code ends the program (sys.exit or quit)"
    elif isinstance(error, EOFError):
        text = f"{type(error).__name__}: {text}; there is nobody to answer input()"
    elif isinstance(error, MemoryError) or "can't allocate memory" in text:
        text = f"out of memory: {text}"
    elif isinstance(error, ImportError):
        text = (
            f"{type(error).__name__}: {text}. What is graded may use the submitted files, torch, "
            "numpy and the standard library, by their plain names"
        )
    else:
        text = f"{type(error).__name__}: {text}"
    return f"{text}\n  {_place(frames)}" if frames else text


def _place(frames: list[traceback.FrameSummary]) -> str:
    """Return file, line, function and text of the innermost frame in student code."""
    if not frames:
        return "your code"
    last = frames[-1]
    line = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    return f"{Path(last.filename).name}, line {last.lineno}, in {last.name}: {line[:120]}"


class _FirstError(unittest.TestResult):
    """Keeps the first error of a test."""

    error: BaseException | None = None

    def addError(self, test, err):
        self.error = self.error or err[1]

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addError(test, err)


def describe_call(part: str, *arguments: Any, **options: Any) -> str:
    """Return a call in words: "Linear(7, 4)"."""
    texts = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items())]
    return f"{part}({', '.join(texts)})"


def set_mode(module: M, mode: str) -> M:
    """Switch a module to "training" or "evaluation" and return it."""
    module.train(mode == "training")
    return module


def compile_tests(folder: str) -> CodeType:
    """Compile the ``test.py`` of a solution's folder, given from the root of the project.

    What it imports from ``training/testing.py`` becomes part of it: where submissions run, the
    project cannot be read.
    """
    root, statements = Path(__file__).resolve().parent.parent, []
    for name in ("training/testing.py", f"{folder}/test.py"):
        for statement in ast.parse((root / name).read_text(encoding="utf-8")).body:
            imported = isinstance(statement, ast.ImportFrom) and statement.module
            names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if imported != "training.testing" and not names & {"__file__", "HERE"}:
                statements.append(statement)
    return compile(ast.Module(statements, type_ignores=[]), "test.py", "exec")


def _is_same(first: Any, second: Any) -> bool:
    """Return whether two arrays, or the arrays of two dictionaries, are equal."""
    if isinstance(first, dict):
        return all(name in second and _is_same(first[name], second[name]) for name in first)
    return not isinstance(first, np.ndarray) or np.array_equal(first, second, equal_nan=True)


def _reverse(weights: Any) -> Any:
    """Return an array, or a dictionary of arrays, with the signs reversed."""
    return {k: -w for k, w in weights.items()} if isinstance(weights, dict) else -weights


def _negate(part: Any) -> None:
    """Reverse the signs of all parameters of a module in place."""
    for parameter in part.parameters() if isinstance(part, nn.Module) else ():
        parameter.neg_()


def _global_settings() -> dict[str, Any]:
    """Return the settings of PyTorch that hold for a whole process, by name."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "matrix product precision": torch.get_float32_matmul_precision(),
    }


def _next_random_numbers() -> list[float]:
    """Return a number from each global random generator: torch, NumPy, random."""
    return [torch.rand(()).item(), np.random.random(), random.random()]


def _summary(tensor: Tensor) -> np.ndarray:
    """Return the first entries of a tensor, the mean and the standard deviation of all."""
    flat = tensor.detach().double().flatten()
    return torch.cat([flat[:64], flat.mean()[None], flat.std(correction=0)[None]]).numpy()


def _in_words(value: Any) -> str:
    if isinstance(value, StandIn):
        value.fail()
    if type(value) in (Tensor, nn.Parameter):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
