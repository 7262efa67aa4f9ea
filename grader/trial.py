"""Tools to write cases with; they run in the same process as student code.

A case is a function of a ``Trial``. It builds parts of the submission, fills them with known
numbers and records what they compute. The same function runs on the solution in double precision
and on every submission in single precision; ``judge`` compares the two records in another process.
No expected number is known here.
"""

import importlib
import io
import json
import linecache
import marshal
import os
import random
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from grader.assignment import Case

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


def case(
    problem: str,
    points: float,
    file: str,
    public: bool = False,
    hint: str = "",
    stand_ins: tuple[str, ...] = (),
    forbidden: tuple[str, frozenset[str]] | None = None,
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
    """

    def __init__(self, folder: Path, dtype: torch.dtype, stand_ins: Mapping[str, bytes], file: str):
        self._folder, self._dtype, self._stand_ins, self._file = folder, dtype, stand_ins, file
        self._items: list[tuple[str, dict[str, Any], np.ndarray]] = []
        # The project's folder has files of the same names, which may be imported already.
        here = Path(__file__).resolve().parent.parent
        elsewhere = [p for p in sys.path if p and Path(p).resolve() != here]
        sys.path[:] = [str(folder), *elsewhere]
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__dict__", {}).get("__file__") or ""
            if os.path.dirname(file) == str(here) or name.partition(".")[0] == "training":
                del sys.modules[name]
        self._settle()

    def __getattr__(self, name: str) -> ModuleType:
        if not (self._folder / f"{name}.py").exists():
            raise Wrong(f"{name}.py is missing")
        module = importlib.import_module(name)
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
    def without(self, operations: tuple[str, ...]) -> Iterator[None]:
        """Refuse code that runs operations of torch whose names start with one of these."""
        seen = []
        folder = str(self._folder)

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                name = operation.name().removeprefix("aten::")
                if name.startswith(operations):
                    frames = [f for f in traceback.extract_stack() if f.filename.startswith(folder)]
                    seen.append((name, frames))
                return operation(*args, **(kwargs or {}))

        with Watch():
            yield
        if seen:
            name, frames = seen[0]
            raise Wrong(f"{_place(frames)} runs torch's own {name}; expected your own code")

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
    check: Callable[[Trial], None] | None,
    folder: Path,
    file: str,
    dtype: str = "float32",
    stand_ins: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Run a check of a file or only import it; return "R" and the record, or "E" and a message."""
    trial = Trial(folder, getattr(torch, dtype), stand_ins, file)
    try:
        if check is None:
            getattr(trial, file.removesuffix(".py"))
        else:
            check(trial)
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
    if isinstance(error, Wrong):
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
            f"{type(error).__name__}: {text}. The submitted files, torch, numpy, matplotlib and "
            "the standard library can be imported, by their plain names"
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
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
