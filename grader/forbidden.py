"""Built-ins that a part of an assignment must not use: found in the text, watched as it runs.

The text shows what is written down, with its line. What shows only when it runs, such as a name
that is put together, PyTorch's dispatcher refuses: every thread goes through it, in any mode.
"""

import ast
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ExecutionTraceObserver

from grader.imports import bound_by, line_of_submission, parse, statements

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EXPECTED = "expected your own code"
# Where operations are implemented: those made of others, the others, and the shapes of the others.
DISPATCH_KEYS = ("CompositeImplicitAutograd", "CPU", "Meta")


@dataclass(frozen=True)
class Forbidden:
    """What a part of a file must not use.

    Attributes:
        part: a function, class or method, such as "Linear" or "Linear.forward".
        names: as on the sheet, such as "nn.Linear" or "F.nll_loss"; "torch" means all of PyTorch.
    """

    part: str
    names: tuple[str, ...]

    def match(self, path: str) -> str:
        """Return the forbidden name that a full path such as "torch.nn.Linear" means, or ""."""
        root, *members = path.split(".")
        for name in self.names if root == "torch" else ():
            owner, _, last = name.rpartition(".")
            if not owner or last in members:
                return name
            # The operations behind F.nll_loss have names such as nll_loss_forward.
            if owner == "F" and any(member.startswith(f"{last}_") for member in members):
                return name
        return ""


# ------------------------------------------------------------------------------ as it runs


@contextmanager
def watch(forbidden: Forbidden, folder: Path) -> Iterator[list[str]]:
    """Refuse forbidden built-ins in all threads, and yield a list that receives what was seen."""
    seen: list[str] = []

    def refusal(name: str) -> Callable[..., Any]:
        def refuse(*arguments: Any, **options: Any) -> Any:
            place = line_of_submission(folder) or "your code"
            seen.append(f"{place} uses {name}; {EXPECTED}")
            raise RuntimeError(seen[-1])

        return refuse

    with ExitStack() as stack:
        for name in forbidden.names:
            owner, _, last = name.rpartition(".")
            if owner == "nn":
                stack.enter_context(_without_class(getattr(nn, last), refusal(name)))
            elif owner == "F":
                stack.enter_context(_without_operations(last, refusal(name)))
            else:
                stack.enter_context(_without_torch(seen))
        yield seen


@contextmanager
def _without_class(module: type[nn.Module], refuse: Callable[..., Any]) -> Iterator[None]:
    """Refuse to build or apply modules of a class."""
    own = {name: vars(module)[name] for name in ("__init__", "forward") if name in vars(module)}
    for name in own:
        setattr(module, name, refuse)
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(module, name, function)


@contextmanager
def _without_operations(prefix: str, refuse: Callable[..., Any]) -> Iterator[None]:
    """Replace the operations whose names start with a prefix."""
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Overriding a previously registered kernel"
            for name in torch._C._dispatch_get_all_op_names():
                if not name.startswith(f"aten::{prefix}"):
                    continue
                for key in DISPATCH_KEYS:
                    if torch._C._dispatch_has_kernel_for_dispatch_key(name, key):
                        library.impl(name.removeprefix("aten::"), refuse, key)
        yield
    finally:
        library._destroy()


@contextmanager
def _without_torch(seen: list[str]) -> Iterator[None]:
    """Note that an operation of PyTorch ran, whichever it is."""
    handle, path = tempfile.mkstemp(suffix=".json")
    os.close(handle)
    observer = ExecutionTraceObserver().register_callback(path)
    observer.start()
    try:
        yield
    finally:
        observer.stop()
        observer.unregister_callback()
        names = re.findall(r'"name": "aten::(\w+)"', Path(path).read_text(encoding="utf-8"))
        os.remove(path)
        if names:
            seen.append(f"your code runs torch's {names[0]}; expected NumPy alone")


def in_graph(output: Tensor, forbidden: Forbidden) -> str:
    """Return the forbidden function in the autograd graph of a tensor, "" if there is none."""
    functions = {
        name.rpartition(".")[2].replace("_", ""): name
        for name in forbidden.names
        if name.startswith("F.")
    }
    waiting, known = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        for function, name in functions.items():
            if node.name().lower().startswith(function):
                return name
        waiting += [following for following, _ in node.next_functions]
    return ""


# ------------------------------------------------------------------------------ in the text


class Scope(NamedTuple):
    """The names that a function binds, those that it declares global, and the function around."""

    own: set[str]
    of_module: set[str]
    parent: "Scope | None"

    def __contains__(self, name: object) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.of_module or name in scope.own:
                return name not in scope.of_module
            scope = scope.parent
        return False


@dataclass
class File:
    """What a submitted file defines and imports.

    Attributes:
        definitions: statements of the top level by the names that they bind; methods as "A.b".
        imports: the full path of what a name stands for, such as "torch.nn.functional".
        stars: modules of which everything is imported.
    """

    definitions: dict[str, list[ast.AST]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)


def find(folder: Path, file: str, forbidden: Forbidden) -> str:
    """Return where the part or anything that it uses has a forbidden name, "" if nowhere.

    What the part uses is followed through all files of the folder. Students may give such a name to
    code of their own.
    """
    search = _Search(folder, forbidden)
    waiting = [(file.removesuffix(".py"), forbidden.part)]
    asked, visited = set(waiting), set()
    while waiting:
        module, name = waiting.pop()
        for definition in search.file(module).definitions.get(name, ()):
            if id(definition) in visited:  # a statement may define thousands of names
                continue
            visited.add(id(definition))
            for line, path in search.paths(module, definition):
                if found := forbidden.match(path):
                    return f"{module}.py, line {line} uses {found}; {EXPECTED}"
                root, _, members = path.partition(".")
                used = (root, members.partition(".")[0])
                if used not in asked:
                    asked.add(used)
                    waiting.append(used)
    return ""


class _Search:
    """The files of a submission and what the names in them stand for."""

    def __init__(self, folder: Path, forbidden: Forbidden):
        self._folder, self._forbidden = folder, forbidden
        self._files: dict[str, File] = {}

    def file(self, module: str) -> File:
        """Return a file of the submission, an empty one if there is none that can be read."""
        if module not in self._files:
            self._files[module] = File()
            path = self._folder / f"{module}.py"
            if path.is_file():
                with suppress(SyntaxError, ValueError):  # its import fails likewise
                    self._read(module, parse(path)[0])
        return self._files[module]

    def _read(self, module: str, tree: ast.Module) -> None:
        file = self._files[module]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    full = alias.name if alias.asname else alias.name.partition(".")[0]
                    file.imports[alias.asname or full] = full
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                for alias in node.names:
                    if alias.name == "*":
                        file.stars.append(origin)
                    else:
                        file.imports[alias.asname or alias.name] = f"{origin}.{alias.name}"
        for statement in statements(tree.body):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            for name in bound_by(statement):
                file.definitions.setdefault(name, []).append(statement)
            if isinstance(statement, ast.ClassDef):
                for inner in statement.body:
                    if isinstance(inner, FUNCTIONS):
                        method = f"{statement.name}.{inner.name}"
                        file.definitions.setdefault(method, []).append(inner)
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                path = self._path(module, statement.value, None)[0]
                if path.partition(".")[0] == "torch":
                    file.imports.setdefault(statement.targets[0].id, path)

    def paths(self, module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
        """Yield the line and the full path of everything that a definition uses, in order."""
        inside: set[int] = set()  # parts of a longer path
        for node, scope in _walk(tree):
            if isinstance(node, ast.expr) and id(node) not in inside:
                path, parts = self._path(module, node, scope)
                inside.update(parts)
                if path:
                    yield node.lineno, path

    def _path(self, module: str, node: ast.AST, scope: Scope | None) -> tuple[str, list[int]]:
        """Return the full path of an expression, "" if it is not one, and the ids of its parts."""
        members: list[str] = []
        parts: list[int] = []
        while not isinstance(node, ast.Name):
            following, member = _step(node)
            if member is not None:
                members.append(member)
            if following is None:
                # __import__("torch") and the like
                return (".".join(reversed(members)), parts) if members and member else ("", [])
            node = following
            parts.append(id(node))
        if scope is not None and node.id in scope:
            return "", []
        return self._full(module, [node.id, *reversed(members)]), parts

    def _full(self, module: str, members: list[str]) -> str:
        """Return the path of a name of a file, through the files that import it from another."""
        for _ in range(10):  # files may import each other in a circle
            file = self.file(module)
            name, *rest = members
            if name in file.imports:
                members = [*file.imports[name].split("."), *rest]
            elif name not in file.definitions and file.stars:
                stars = [star for star in file.stars if name in self.file(star).definitions]
                origin = next((s for s in (*stars, *file.stars) if s), "")
                members = [*origin.split("."), *members]
            else:
                return ".".join([module, *members])
            if not (self._folder / f"{members[0]}.py").is_file() or len(members) == 1:
                return ".".join(members)
            module, *members = members
        return ".".join([module, *members])


def _step(node: ast.AST) -> tuple[ast.AST | None, str | None]:
    """Return what a member is taken of, and its name; (None, name) for an import by a function."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.value, str(node.slice.value)  # vars(nn)["Linear"]
    if isinstance(node, ast.Call) and node.args:
        function, first, last = node.func, node.args[0], node.args[-1]
        name = getattr(function, "id", getattr(function, "attr", ""))
        if name == "vars":
            return first, None
        if name == "getattr" and len(node.args) == 2 and isinstance(last, ast.Constant):
            return first, str(last.value)
        if name in ("__import__", "import_module") and isinstance(first, ast.Constant):
            return None, str(first.value)
    return None, None


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, Scope | None]]:
    """Yield the nodes of a tree from top to bottom, each with the scope of the functions around."""
    waiting: list[tuple[ast.AST, Scope | None]] = [(tree, None)]
    while waiting:  # not recursive: a student's expression may be nested to any depth
        node, scope = waiting.pop()
        yield node, scope
        inside = _scope(node, scope) if isinstance(node, FUNCTIONS) else scope
        children = []
        for name, value in ast.iter_fields(node):
            # Decorators, annotations and defaults are evaluated outside the function.
            around = inside if name == "body" else scope
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    children.append((child, around))
        waiting += children[::-1]


def _scope(function: ast.FunctionDef | ast.AsyncFunctionDef, parent: Scope | None) -> Scope:
    """Return the scope of a function.

    Names bound in inner scopes, such as comprehensions, do not count: outside of these, the same
    name may be the module's.
    """
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    scopes = (*FUNCTIONS, ast.ClassDef, ast.Lambda, *comprehensions)
    own = {node.arg for node in ast.iter_child_nodes(function.args) if isinstance(node, ast.arg)}
    of_module: set[str] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            of_module |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        if not isinstance(node, scopes):
            waiting += ast.iter_child_nodes(node)
    return Scope(own, of_module, parent)
