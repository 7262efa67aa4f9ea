"""Build the students' version of an assignment from its solution.

The manifest lists the functions that students write. Each keeps its signature and docstring; its
body becomes a ``NotImplementedError`` with the problem's number. Helpers and imports used by these
bodies only are removed. All other text is unchanged.
"""

import ast
import io
import json
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grader.archive import write_zip
from grader.notebook import fill_notebook

LINE_LENGTH = 100
# Imports that most solutions need: kept even if the handout does not use them.
KEPT_IMPORTS = {"math", "nn", "torch", "Tensor"}


class Blank(NamedTuple):
    """A function that students write.

    Attributes:
        problem: number on the assignment sheet, such as "1.2".
        task: what to do, in a few words.
        calls: functions as the solution writes them, such as "nn.Conv2d". If there are any, the
            body is kept below the error, and each argument of these calls becomes ``...``.
        given: keyword arguments that keep their values.
    """

    problem: str
    task: str
    calls: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


def make_handout(
    manifest: Any, root: Path, target: Path, pdfs: Mapping[str, bytes] | None = None
) -> Path:
    """Write the zip that students receive; the same files give the same bytes.

    Args:
        manifest: ``manifest.py`` of an assignment.
        root: folder of the project.
        target: the zip; its folder is created if needed.
        pdfs: the sheets as PDF by name, which need packages of their own; see ``make_pdfs``.

    Returns:
        ``target``.

    Raises:
        ValueError: a submitted file has no blanks, or the solution lacks a function or call that
            should be blanked.
        FileNotFoundError: the manifest lists a missing file.
    """
    if set(manifest.BLANKS) != set(manifest.SUBMITTED):
        raise ValueError(
            f"BLANKS has {', '.join(manifest.BLANKS)} and SUBMITTED {', '.join(manifest.SUBMITTED)}"
            "; they must list the same files, or a solution would be handed out whole"
        )
    solution = root / manifest.SOLUTION
    # Files from above the solution's folder move into the handout's folder.
    files = {name.removeprefix("../"): (solution / name).read_bytes() for name in manifest.HANDOUT}
    files["README.md"] = (root / "grader" / manifest.NAME / "README.md").read_bytes()
    for name, entries in manifest.BLANKS.items():
        blanks = {function: Blank(*entry) for function, entry in entries.items()}
        files[name] = stub((solution / name).read_text(encoding="utf-8"), blanks).encode()
    for name in manifest.HANDOUT:
        if name.endswith(".ipynb"):
            files[name] = fill_notebook(files[name], files)
    files |= pdfs or {}

    return write_zip(target, {f"{manifest.NAME}/{name}": text for name, text in files.items()})


def stub(source: str, blanks: Mapping[str, Blank]) -> str:
    """Return the source of a module with the students' functions blanked.

    Args:
        source: the solution.
        blanks: by qualified name, such as "MLP.forward".

    Raises:
        ValueError: the source lacks a function, or a function lacks a call.
    """
    for name, blank in blanks.items():
        source = _blank(source, name, blank)
    return _drop_unused_imports(_drop_unused_helpers(source))


def _blank(source: str, name: str, blank: Blank) -> str:
    """Insert the error into one function, instead of its body or above it."""
    source = _drop_comments(source, _find(source, name))
    function = _find(source, name)
    documented = ast.get_docstring(function) is not None
    start, _ = _span(source, function.body[1 if documented else 0])
    _, end = _span(source, function)
    margin = " " * (function.col_offset + 4)
    error = _error(f"Problem {blank.problem}: {blank.task}", margin)
    if not blank.calls:
        return source[:start] + error + source[end:]

    calls = list(_outermost_calls(function, blank.calls))
    missing = set(blank.calls) - {ast.unparse(call.func) for call in calls}
    if missing:
        raise ValueError(f"{name} does not call {', '.join(sorted(missing))}")
    edits = [(*_span(source, call), _fill_in(source, call, blank.given)) for call in calls]
    return _replace(source, [(start, start, f"{error}\n{margin}"), *edits])


def _find(source: str, name: str) -> ast.FunctionDef:
    """Return the one function with this qualified name."""
    nodes: list[Any] = [ast.parse(source)]
    for part in name.split("."):
        inner = [child for node in nodes for child in getattr(node, "body", ())]
        nodes = [node for node in inner if getattr(node, "name", None) == part]
    if len(nodes) != 1 or not isinstance(nodes[0], ast.FunctionDef):
        raise ValueError(f"{name} does not name exactly one function of the solution")
    return nodes[0]


def _error(message: str, margin: str) -> str:
    """Return the raise statement; its first line is not indented."""
    text = json.dumps(message, ensure_ascii=False)
    line = f"raise NotImplementedError({text})"
    if len(margin + line) <= LINE_LENGTH:
        return line
    return f"raise NotImplementedError(\n{margin}    {text}\n{margin})"


def _outermost_calls(node: ast.AST, names: tuple[str, ...]) -> Iterator[ast.Call]:
    """Yield the calls of these functions in a node, without those nested in another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func) in names:
            yield child
        else:
            yield from _outermost_calls(child, names)


def _fill_in(source: str, call: ast.Call, given: tuple[str, ...]) -> str:
    """Return a call with ``...`` for its arguments, on one line if a formatter would join it."""
    hidden = call.args + [word.value for word in call.keywords if word.arg not in given]
    start, end = _span(source, call)
    spans = [_span(source, argument) for argument in hidden]
    text = _replace(source[start:end], [(a - start, b - start, "...") for a, b in spans])
    # A trailing comma keeps one argument per line; without it, formatters join lines that fit.
    if text.removesuffix(")").rstrip().endswith(","):
        return text
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def _drop_unused_helpers(source: str) -> str:
    """Remove unused private functions and constants, then those that only they used."""
    tree = ast.parse(source)
    for node in tree.body:
        private = any(name.startswith("_") for name in _defined(node))
        elsewhere = {name for other in tree.body if other is not node for name in _used(other)}
        if private and not _defined(node) & elsewhere:
            return _drop_unused_helpers(_drop_lines(source, *_helper_lines(source, node)))
    return source


def _drop_unused_imports(source: str) -> str:
    """Remove unused imports, except KEPT_IMPORTS."""
    tree = ast.parse(source)
    wanted = _used(tree) | KEPT_IMPORTS
    for node in reversed(tree.body):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [each for each in node.names if (each.asname or each.name.split(".")[0]) in wanted]
        if not names:
            source = _drop_lines(source, node.lineno, _end(node)[0])
        elif names != node.names:
            node.names = names
            source = _replace(source, [(*_span(source, node), ast.unparse(node))])
    return source


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a module-level statement defines; imports do not count."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _used(node: ast.AST) -> set[str]:
    """Return the names that a node reads."""
    return {
        name.id
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)
    }


# ------------------------------------------------------------------------------------------ text


def _end(node: ast.stmt | ast.expr) -> tuple[int, int]:
    """Return the last line of a node and the column after it, which the parser always sets."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _span(source: str, node: ast.stmt | ast.expr) -> tuple[int, int]:
    """Return the start and end of a node as indices into the source."""
    lines = source.encode().split(b"\n")

    def index(line: int, column: int) -> int:  # ast counts the columns in bytes
        return len(b"\n".join([*lines[: line - 1], lines[line - 1][:column]]).decode())

    return index(node.lineno, node.col_offset), index(*_end(node))


def _replace(text: str, edits: list[tuple[int, int, str]]) -> str:
    """Replace the text between pairs of indices, which must not overlap."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _drop_lines(source: str, first: int, last: int) -> str:
    """Remove lines ``first``, which is at least 2, to ``last``, counting from 1.

    If the lines above and below are both empty, the upper one is removed too.
    """
    lines = source.split("\n")
    if lines[first - 2] == "" == lines[last]:
        first -= 1
    return "\n".join(lines[: first - 1] + lines[last:])


def _last_line(source: str, node: ast.stmt) -> int:
    """Return the last line of a statement, including comments after it in its block."""
    lines = source.split("\n")
    last, _ = _end(node)
    for number, line in enumerate(lines[last:], start=last + 1):
        indent = len(line) - len(line.lstrip())
        if line.strip() and (indent <= node.col_offset or not line.lstrip().startswith("#")):
            break
        if line.strip():
            last = number
    return last


def _helper_lines(source: str, node: ast.stmt) -> tuple[int, int]:
    """Return the first and last line of a definition, with the comment and empty lines above."""
    lines = source.split("\n")
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    while first > 1 and not lines[first - 2].strip():
        first -= 1
    return first, _last_line(source, node)


def _drop_comments(source: str, function: ast.FunctionDef) -> str:
    """Remove the comments of a function: they explain code that is no longer there."""
    lines = source.split("\n")
    last = _last_line(source, function)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        row, column = token.start
        if token.type == tokenize.COMMENT and function.lineno <= row <= last:
            lines[row - 1 : row] = [code] if (code := lines[row - 1][:column].rstrip()) else []
    return "\n".join(lines)
