"""Imports the files of a submission, whatever else they import and do.

A module that is not on the grader, such as scipy or the handout's ``data``, is replaced by a
stand-in: it can be imported, called and drawn with, and is an error only where its value counts.
Exported notebooks are imported too: what fails at the top level of a file, or trains, is left out.
"""

import __future__

import ast
import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, Literal

# Statements of the top level that start at these lines are not run; "all": only what defines.
LeftOut = Mapping[str, Sequence[int] | Literal["all"]]

# A statement that takes longer trains. CPU time, so that the load of the machine does not count.
LONG, SHORT, WAITING = 2.0, 0.2, 10.0  # seconds: of the first, of those after it, of sleeping

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of a statement
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# A notebook's commands: !pip install, %matplotlib inline, files = !ls, torch.nn?
COMMAND = re.compile(r"\s*(([\w, ]+=\s*)?[!%]|\?|[\w.]+\?+\s*$)")
# Needs widgets; the grader has the same for a terminal.
ALIASES = {"tqdm.notebook": "tqdm.std", "tqdm.auto": "tqdm.std"}
# What students' own files usually pass on to those who import everything from them.
USUAL_NAMES = {
    "np": "numpy",
    "nn": "torch.nn",
    "F": "torch.nn.functional",
    "optim": "torch.optim",
    "plt": "matplotlib.pyplot",
}
CATCHES_IMPORTS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


class Missing(Exception):
    """The value of a stand-in counts; the message is for the student."""


class _TooSlow(BaseException):
    """Ends a statement that takes too long."""


class StandIn:
    """Anything of a module that cannot be imported.

    Its members, what it returns and its items are stand-ins too. As a decorator it returns the
    function or class itself.

    Args:
        folder: of the submission.
        module: as in the message, such as "scipy".
        reason: why it cannot be imported.
        line: of the function that called it, "" if none did.
    """

    def __init__(self, folder: Path, module: str, reason: str, line: str = ""):
        self._stand_in = (folder, module, reason, line)

    def _called(self) -> "StandIn":
        folder, module, reason, line = self._stand_in
        return StandIn(folder, module, reason, line_of_submission(folder, functions=True) or line)

    def fail(self, *arguments: Any, **options: Any) -> Any:
        """Raise Missing, with the line that uses the module."""
        folder, module, reason, line = self._stand_in
        place = line or line_of_submission(folder) or "the code"
        raise Missing(f"{place} uses {module}, which {reason}")

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("__") or name == "_stand_in":
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if len(arguments) == 1 and not options and isinstance(arguments[0], FunctionType | type):
            return arguments[0]
        return self._called()

    def __getitem__(self, key: Any) -> "StandIn":
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __or__(self, other: Any) -> "StandIn":  # in annotations
        return self

    def __repr__(self) -> str:
        return f"<{self._stand_in[1]}, which {self._stand_in[2]}>"

    def __format__(self, how: str) -> str:
        return repr(self)

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        folder, module, reason, _ = self._stand_in
        base = StandIn(folder, module, reason, line_of_submission(folder))

        def refuse(cls: type, *arguments: Any, **options: Any) -> Any:
            base.fail()

        return (type("StandIn", (), {"__new__": refuse}),)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        for value in (*arguments, *(options or {}).values()):
            if isinstance(value, StandIn):
                value.fail()
        raise Missing(f"the code passes what is not on the grader to {function.__name__}")

    __ror__ = __or__
    __hash__ = object.__hash__
    __bool__ = __iter__ = __len__ = __contains__ = __float__ = __int__ = __index__ = fail
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = fail
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = fail
    __pow__ = __rpow__ = __neg__ = __array__ = fail
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = fail


def line_of_submission(folder: Path, functions: bool = False) -> str:
    """Return the innermost line of the submission that is running, such as "mlp.py, line 3".

    Args:
        folder: of the submission.
        functions: "" for a line outside functions.
    """
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    for first in (sys._getframe(1), main):  # a thread may run nothing of the submission itself
        frame: FrameType | None = first
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.parent == folder:
                outside = functions and frame.f_code.co_name == "<module>"
                return "" if outside else f"{path.name}, line {frame.f_lineno}"
            frame = frame.f_back
    return ""


def line_of_error(error: BaseException, folder: Path) -> str:
    """Return the type of an error and the innermost line of the submission that it comes from."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{kind} in {Path(error.filename or '').name}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).parent == folder:
            return f"{kind} in {Path(frame.filename).name}, line {frame.lineno}"
    return kind


def parse(path: Path) -> tuple[ast.Module, list[int]]:
    """Parse a file; return its tree and the lines with a notebook's commands, which are left out.

    Raises:
        SyntaxError, ValueError: it is not Python even without them.
    """
    content = path.read_bytes()
    dropped: list[int] = []
    try:
        tree = ast.parse(content, str(path))
    except SyntaxError:
        lines = importlib.util.decode_source(content).split("\n")
        for index, line in enumerate(lines):
            if COMMAND.match(line):
                lines[index] = line[: len(line) - len(line.lstrip())] + "pass"
                dropped.append(index + 1)
        if not dropped:
            raise
        tree = ast.parse("\n".join(lines), str(path))
    tree.body = [inner for node in tree.body for inner in _unpack(node)]
    return tree, dropped


def _unpack(node: ast.stmt) -> list[ast.stmt]:
    """Return the statements of a cell that an exported notebook passes as text, as %%time has."""
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "attr", "") == "run_cell_magic"
        and isinstance(node.value.args[-1], ast.Constant)
    ):
        with suppress(SyntaxError, ValueError):
            cell = ast.parse(str(node.value.args[-1].value))
            for inner in ast.walk(cell):
                if isinstance(inner, ast.stmt | ast.expr):
                    inner.lineno = inner.end_lineno = node.lineno
            return cell.body
    return [node]


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the files of a folder.

    Args:
        folder: of the submission.
        left_out: what earlier runs found to fail or to take too long, by file.

    Attributes:
        notes: for the student.
        left_out: the same and what this run has found.
    """

    def __init__(self, folder: Path, left_out: LeftOut):
        self._folder = folder
        self._guarded: set[tuple[str, int]] = set()  # file, line: in "try ... except ImportError"
        self._absent: dict[str, list[str]] = {}  # file: modules that it imports
        self._reasons: dict[str, list[str]] = {}  # file: why statements were left out
        self._trees: dict[str, ast.Module] = {}
        self._commands: dict[str, list[int]] = {}
        self._slow = False
        self.left_out = {
            name: lines if lines == "all" else list(lines) for name, lines in left_out.items()
        }
        sys.meta_path.insert(0, self)

    def load(self, name: str) -> ModuleType:
        """Import a file by its name without ".py"."""
        return importlib.import_module(name)

    # ------------------------------------------------------------ files of the submission

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self._folder / f"{fullname}.py"
        if path is not None or not file.is_file():
            return None
        return importlib.util.spec_from_file_location(fullname, file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        path = Path(module.__file__ or "")
        tree, self._commands[path.name] = parse(path)
        self._trees[path.name] = tree
        self._guarded |= {(path.name, line) for line in _guarded(tree)}
        names = vars(module)
        names["__builtins__"] = vars(builtins) | {
            "__import__": self._import,
            "display": lambda *arguments, **options: None,
            "get_ipython": lambda: StandIn(self._folder, "IPython", "is not on the grader"),
        }
        lines = self.left_out.setdefault(path.name, [])
        body = tree.body if lines != "all" else _needed(tree.body)
        flags = 0
        for node in body:
            if lines != "all" and node.lineno in lines:
                continue
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                for alias in node.names:
                    flags |= getattr(__future__, alias.name).compiler_flag
            # One by one: a file is usable without a statement that draws or trains.
            code = compile(ast.Module([node], []), str(path), "exec", flags, dont_inherit=True)
            if isinstance(node, DEFINITIONS):
                exec(code, names)
                continue
            try:
                with _limited(SHORT if self._slow else LONG):
                    exec(code, names)
            except BaseException as error:  # SystemExit too
                self._leave_out(path.name, node.lineno, error)

    def _leave_out(self, file: str, line: int, error: BaseException) -> None:
        reason = type(error).__name__
        with suppress(Exception):  # an exception's own __str__ may fail
            reason += f": {error}".splitlines()[0][:100].rstrip(": ")
        if isinstance(error, _TooSlow):
            self._slow = True
            reason = "takes too long"
        elif isinstance(error, Missing):
            reason = "uses " + reason.partition(" uses ")[2].partition(",")[0]
        lines = self.left_out[file]
        if lines != "all":
            lines.append(line)
        self._reasons.setdefault(file, []).append(f"line {line} ({reason})")

    # ------------------------------------------------------------ everything else

    def _import(
        self,
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Import like ``__import__``, with a stand-in for what is absent or broken."""
        frame = sys._getframe(1)
        file = Path(frame.f_code.co_filename).name
        name = ALIASES.get(name, name)
        try:
            module = builtins.__import__(name, globals, locals, fromlist or (), level)
        except Exception as error:
            if level or (file, frame.f_lineno) in self._guarded:
                raise
            module = self._replace(name, bool(fromlist), file, error)
        if fromlist and "*" in fromlist and isinstance(module, StandIn):
            return self._everything(module, file, globals or {})
        absent = [
            member
            for member in fromlist or ()
            if member != "*" and isinstance(module, ModuleType) and not hasattr(module, member)
        ]
        if not absent or self._is_own(name) or (file, frame.f_lineno) in self._guarded:
            return module
        for member in absent:
            self._note(file, f"{name}.{member}")
        have = {member: getattr(module, member, None) for member in fromlist or ()}
        have |= {m: self._stand_in(f"{name}.{m}") for m in absent}
        return SimpleNamespace(**have)

    def _is_own(self, name: str) -> bool:
        return (self._folder / f"{name.partition('.')[0]}.py").is_file()

    def _stand_in(self, module: str, reason: str = "is not on the grader") -> StandIn:
        return StandIn(self._folder, module, reason)

    def _note(self, file: str, module: str) -> None:
        modules = self._absent.setdefault(file, [])
        if module not in modules:
            modules.append(module)

    def _replace(self, name: str, members: bool, file: str, error: Exception) -> Any:
        """Return what ``import name`` or, with members, ``from name import`` binds instead."""
        root, *path = name.split(".")
        if self._is_own(root):
            place = line_of_error(error, self._folder)
            return self._stand_in(root, f"cannot be imported ({place})")
        try:
            parent: Any = importlib.import_module(root)
        except Exception:
            self._note(file, root)
            return self._stand_in(root)
        self._note(file, name)
        if members:
            return self._stand_in(name)
        for number, member in enumerate(path, start=1):  # "import torch.utils.absent" binds torch
            if not hasattr(parent, member):
                setattr(parent, member, self._stand_in(".".join([root, *path[:number]])))
                break
            parent = getattr(parent, member)
        return sys.modules[root]

    def _everything(self, module: StandIn, file: str, names: Mapping[str, Any]) -> SimpleNamespace:
        """Return what ``from module import *`` binds: the names that the file lacks."""
        found: dict[str, Any] = {}
        tree = self._trees.get(file, ast.Module([], []))
        bound = {name for statement in statements(tree.body) for name in bound_by(statement)}
        for name in used_in(tree) - bound - set(names) - set(dir(builtins)):
            found[name] = module
            if name in USUAL_NAMES or name in ("torch", *sys.stdlib_module_names):
                with suppress(ImportError):
                    found[name] = importlib.import_module(USUAL_NAMES.get(name, name))
        return SimpleNamespace(__all__=list(found), **found)

    # ------------------------------------------------------------ the answer

    @property
    def notes(self) -> list[str]:
        notes = []
        for file, modules in self._absent.items():
            are = "are" if len(modules) > 1 else "is"
            notes.append(
                f"{file} imports {_listed(modules)}, which {are} not on the grader. "
                "This costs nothing unless a graded function uses it."
            )
        for file, lines in self._commands.items():
            if lines:
                numbers = _listed([str(line) for line in lines])
                notes.append(f"{file}: the notebook's commands were left out, lines {numbers}.")
        notes += [
            f"{file}: what is neither a definition nor needed by one was left out, because the "
            "import of the whole file does not end."
            for file, lines in self.left_out.items()
            if lines == "all"
        ]
        for file, reasons in self._reasons.items():
            notes.append(
                f"{file}: code outside functions that fails here or takes too long was left out: "
                f"{_listed(reasons)}."
            )
        return notes

    def answer(self) -> bytes:
        """Return the notes and what is left out, for ``read_answer`` in another process."""
        return json.dumps({"notes": self.notes, "left_out": self.left_out}).encode()


def read_answer(answer: bytes) -> tuple[list[str], dict[str, Any]]:
    """Return the notes and what is left out; nothing of what is not such an answer."""
    try:
        content = json.loads(answer)
        notes = [str(note)[:500] for note in content["notes"]][:20]
        left_out = {
            str(file): "all" if lines == "all" else [int(line) for line in lines]
            for file, lines in content["left_out"].items()
        }
    except Exception:  # forged bytes may raise anything, such as OverflowError for 1e999
        return [], {}
    return notes, left_out


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise _TooSlow after some seconds of CPU time, or of a longer time in all."""

    def stop(number: int, frame: Any) -> None:
        raise _TooSlow

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    handlers = {number: signal.signal(number, stop) for number in timers.values()}
    # Again and again, because the code may catch what is raised.
    before = [
        (timer, signal.setitimer(timer, limit, 0.1))
        for timer, limit in zip(timers, (seconds, WAITING))
    ]
    try:
        yield
    finally:
        for timer, rest in before:
            signal.setitimer(timer, *rest)  # a file may be imported while another is
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _guarded(tree: ast.Module) -> set[int]:
    """Return the lines of imports whose failure the file handles itself."""
    lines = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Try):
            continue
        for handler in node.handlers:
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if not CATCHES_IMPORTS.isdisjoint(getattr(k, "id", "Exception") for k in kinds):
                inner = statements(node.body)
                lines |= {s.lineno for s in inner if isinstance(s, ast.Import | ast.ImportFrom)}
    return lines


def _needed(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the imports and definitions of a file, and the assignments that these need."""
    binds: dict[str, list[ast.stmt]] = {}
    kept: set[ast.stmt] = set()
    for node in body:
        inner = list(statements([node]))
        if any(isinstance(each, DEFINITIONS) for each in inner):
            kept.add(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.If | ast.Try):
            for name in {name for each in inner for name in bound_by(each)}:
                binds.setdefault(name, []).append(node)
    waiting = list(kept)
    while waiting:
        for name in used_in(waiting.pop()):
            for node in binds.pop(name, []):
                if node not in kept:
                    kept.add(node)
                    waiting.append(node)
    return [node for node in body if node in kept]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a block and of the blocks in it, but not of functions and classes."""
    waiting = body[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, DEFINITIONS):
            parts: list[Any] = [part for name in BLOCKS for part in getattr(node, name, ())]
            inner = [s for p in parts for s in ([p] if isinstance(p, ast.stmt) else p.body)]
            waiting += inner[::-1]


def bound_by(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds or changes itself, not in the blocks in it."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    names = set()
    fields = [value for name, value in ast.iter_fields(node) if name not in BLOCKS]
    waiting = [v for value in fields for v in (value if isinstance(value, list) else [value])]
    while waiting:
        inner = waiting.pop()
        if isinstance(getattr(inner, "ctx", None), ast.Store):
            while isinstance(inner, ast.Attribute | ast.Subscript):  # MLP.forward = forward
                inner = inner.value
            if isinstance(inner, ast.Name):
                names.add(inner.id)
        if isinstance(inner, ast.AST):
            waiting += ast.iter_child_nodes(inner)
    return names


def used_in(tree: ast.AST) -> set[str]:
    """Return the names that are read anywhere in a tree."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _listed(words: Sequence[str]) -> str:
    *rest, last = words[:4] if len(words) <= 4 else [*words[:3], f"{len(words) - 3} more"]
    return f"{', '.join(rest)} and {last}" if rest else last
