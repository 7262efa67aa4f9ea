"""Tools to write cases with; they run in the same process as student code.

A case is a function of a ``Trial``. It builds parts of the submission, fills them with known
numbers and records what they compute. The same function runs on the solution in double precision
and on every submission in single precision; ``judge`` compares the two records in another process.
No expected number is known here.
"""

import io
import json
import linecache
import os
import random
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from grader import forbidden
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

M = TypeVar("M", bound=nn.Module)


class Wrong(Exception):
    """A result of the submission cannot be compared; the message is for the student."""


@dataclass(frozen=True)
class Case:
    """A check and its points.

    Attributes:
        check: records what the submission computes. The first line of its docstring is the title.
        problem: number in the assignment, such as "1.1".
        points: all or nothing.
        file: the submitted file that it tests.
        public: whether students see the result before the grades are published.
        hint: what students see before that if a hidden case fails.
        stand_ins: parts of the file from other problems, such as "Linear" or "MLP._build_layers".
            If the case fails with the student's own parts, it runs again with the solution's, so
            that one mistake costs points once.
        forbidden: what a part of the file must not use.
    """

    check: Callable[["Trial"], None]
    problem: str
    points: float
    file: str
    public: bool
    hint: str
    stand_ins: tuple[str, ...]
    forbidden: Forbidden | None

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def title(self) -> str:
        return (self.check.__doc__ or self.name).strip().splitlines()[0]


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
    return lambda check: Case(check, problem, points, file, public, hint, stand_ins, forbidden)


class Trial:
    """The code under test and the record of what it computes.

    The submitted files are attributes, ``trial.mlp`` for ``mlp.py``, imported on first use.

    Args:
        folder: with the submitted files.
        dtype: of the computation.
        stand_ins: by file and name, the source of parts of the solution.
        left_out: what the import of the files leaves out.
        forbidden: what ``watched`` refuses.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        stand_ins: Mapping[str, Mapping[str, str]],
        left_out: LeftOut,
        forbidden: Forbidden | None,
    ):
        self._forbidden = forbidden
        self._folder, self._dtype, self._stand_ins = folder, dtype, stand_ins
        self._items: list[tuple[str, dict[str, Any], np.ndarray]] = []
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

    def __getattr__(self, name: str) -> ModuleType:
        if not (self._folder / f"{name}.py").exists():
            raise Wrong(f"{name}.py is missing")
        module = self.importer.load(name)
        setattr(self, name, module)
        for part, source in self._stand_ins.get(f"{name}.py", {}).items():
            definitions = {"__name__": f"solution_{name}"}
            exec(source, definitions)
            owner, _, method = part.partition(".")
            if method:
                setattr(getattr(module, owner), method, vars(definitions[owner])[method])
            else:
                setattr(module, part, definitions[part])
        self._settle()  # the import may have changed any of this
        return module

    def _settle(self) -> None:
        """Set all state that results may depend on."""
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(True)
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)

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
        if not isinstance(value, Tensor):
            raise Wrong(f"{what} is {_in_words(value)}; expected a tensor")
        if value.dtype not in (torch.float32, torch.float64):
            raise Wrong(f"{what} is a tensor of {value.dtype}; expected {torch.float32}")
        if self._forbidden and (name := forbidden.in_graph(value, self._forbidden)):
            raise Wrong(f"{what} comes from {name}; {forbidden.EXPECTED}")
        numbers = value.detach().cpu().numpy()
        self._add(what, numbers, kind="close", tolerance=tolerance, absolute=absolute)

    def record_number(self, what: str, value: Any, tolerance: float = 0.0) -> None:
        """Record a single number, whatever its type."""
        try:
            number = np.array(float(value))
            self._add(what, number, kind="close", tolerance=tolerance, absolute=0.0)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Wrong(f"{what} is {_in_words(value)}; expected a number") from error

    def record_text(self, what: str, text: str) -> None:
        """Record a text; the same one is expected."""
        self._add(what, np.array(text), kind="same")

    def record_parameters(self, what: str, module: Any) -> None:
        """Record the names and shapes of all registered parameters."""
        if not isinstance(module, nn.Module):
            raise Wrong(f"{what} is {_in_words(module)}; expected an nn.Module")
        names = [f"{name} {tuple(p.shape)}" for name, p in module.named_parameters()]
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

    def call(self, what: str, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Call a part of the submission and record what it returns."""
        output = function(*inputs)
        self.record(what, output)
        return output

    def differentiate(self, what: str, function: Any, *inputs: Tensor, seed: int = 0) -> None:
        """Record the output, and the gradients with respect to the first input and all parameters.

        They are gradients of a weighted sum of the output. A large gradient is recorded as a few
        sums of its entries with random signs.
        """
        leaf = inputs[0].clone().requires_grad_()
        # Not the leaf itself, on which in-place operations are errors.
        output = function(leaf * 1, *inputs[1:])
        self.record(what, output)
        if not output.requires_grad:
            raise Wrong(f"{what} is detached; expected a tensor through which gradients flow")
        # The same weights for any shape: the judge reports a wrong one.
        weights = self.draw(max(output.numel(), 1), seed=seed + 1)[: output.numel()]
        (output * weights.reshape(output.shape)).sum().backward()
        parameters = function.named_parameters() if isinstance(function, nn.Module) else ()
        for name, tensor in (("the input", leaf), *parameters):
            gradient = tensor.grad
            if gradient is None:
                raise Wrong(f"{what}: no gradient reaches {name}")
            if gradient.numel() > SMALL:
                gradient = self._sketch(gradient)
            self.record(f"{what}: the gradient of {name}", gradient, GRADIENT_TOLERANCE)

    def _sketch(self, gradient: Tensor) -> Tensor:
        """Return sums of the entries with random signs; an error in any entry shows."""
        signs = np.random.RandomState(0).randint(0, 2, gradient.numel()).astype(np.float32) * 2 - 1
        signed = gradient.flatten() * torch.from_numpy(signs).to(gradient.dtype)
        return torch.stack([part.sum() for part in signed.tensor_split(SKETCH)])

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
    dtype: torch.dtype = torch.float32,
    stand_ins: Mapping[str, Mapping[str, str]] | None = None,
    file: str = "",
    left_out: LeftOut | None = None,
) -> bytes:
    """Run a case or only import a file.

    Returns:
        "R" and the record, or what ``imports.read_answer`` reads; or "E" and a message.
    """
    not_allowed = case.forbidden if case else None
    trial = Trial(folder, dtype, stand_ins or {}, left_out or {}, not_allowed)
    try:
        if case is None:
            getattr(trial, file.removesuffix(".py"))
            return b"R" + trial.importer.answer()
        if not_allowed:  # before any code of the submission runs
            found = forbidden.find(folder, case.file, not_allowed)
            if found:
                raise Wrong(found)
            getattr(trial, case.file.removesuffix(".py"))  # what it does itself is not watched
        case.check(trial)
        return b"R" + trial.to_bytes()
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        return b"E" + explain(error, folder).encode(errors="replace")


def explain(error: BaseException, folder: Path) -> str:
    """Return a student's error with its line in their file, without the grader's stack."""
    # The folder and memory addresses differ from run to run.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error).replace(f"{folder}/", ""))[:400]
    text = text or "no message"
    if isinstance(error, Wrong | Missing):
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


def _in_words(value: Any) -> str:
    if isinstance(value, StandIn):
        value.fail()
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
