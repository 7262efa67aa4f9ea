"""The source code that the weights of a run depend on, as one hash per file.

What cannot change the weights does not count: comments, docstrings, formatting, ``visualize``, and
what only it uses.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

DRAWING = "visualize"  # written after the training


# Cached: in a notebook a file may change, and the code that was loaded still runs.
@functools.cache
def hash_source(*roots: Callable) -> dict[str, str]:
    """Return the hash of each class or function, and of all that it uses in its file.

    Args:
        roots: one from each file; one that was defined in a notebook has no file and is left out.

    Returns:
        Hexadecimal SHA-256, by the name of the file.

    Raises:
        OSError: a file cannot be read.
    """
    files = [(getattr(sys.modules[root.__module__], "__file__", None), root) for root in roots]
    return {
        Path(file).name: _hash(Path(file).read_text(encoding="utf-8"), root.__name__)
        for file, root in files
        if file is not None
    }


def _hash(text: str, root: str) -> str:
    """Return the hash of a definition in the text of a file, and of all that it uses there."""
    tree = ast.parse(text)
    _drop_drawing(tree)
    names, used = {root, "*"}, set()  # "*": an import of all that another file defines
    while more := {node for node in tree.body if node not in used and _effects(node) & names}:
        used |= more
        names = names.union(*map(_names, more))
    plain = [_plain(node) for node in tree.body if node in used]
    return hashlib.sha256(repr(plain).encode()).hexdigest()


def _drop_drawing(tree: ast.Module) -> None:
    """Delete ``visualize`` from all classes, and the methods that are mentioned nowhere else."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    drawing, mentioned = {DRAWING}, set[str]()
    while drawing:
        for node in classes:
            dropped = [part for part in node.body if getattr(part, "name", "") in drawing]
            node.body = [part for part in node.body if part not in dropped]
            mentioned |= _attributes(*dropped)
        # PyTorch calls forward and others that no line mentions.
        drawing = mentioned - _attributes(tree) - set(dir(nn.Module))
        drawing &= {getattr(part, "name", "") for node in classes for part in node.body}


def _attributes(*nodes: ast.AST) -> set[str]:
    """Return all x that stand after a dot, as in ``self.x``."""
    parts = (part for node in nodes for part in ast.walk(node))
    return {part.attr for part in parts if isinstance(part, ast.Attribute)}


def _names(node: ast.AST) -> set[str]:
    """Return the names in a statement or expression."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.alias):
            found.add(part.asname or part.name.partition(".")[0])
    return found


def _effects(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a file defines, or may do something with."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.If) and "__name__" in _names(node.test):  # only when run as a program
        return set()
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(isinstance(target, (ast.Name, ast.Tuple)) for target in targets):
            return set().union(*(_names(target) for target in targets))
    return _names(node)


def _plain(node: Any) -> Any:
    """Return a syntax tree as nested tuples without docstrings, the same in all Python versions."""
    if isinstance(node, ast.AST):
        fields = ((name, _plain(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return type(node).__name__, *(field for field in fields if field[1] not in (None, []))
    if isinstance(node, list):
        return [_plain(part) for part in node if not _is_text(part)]
    return node


def _is_text(node: Any) -> bool:
    """Return whether a statement is a docstring or another constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
