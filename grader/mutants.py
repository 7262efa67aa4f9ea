"""Test the graders by mutation: does every wrong solution lose points in the right problem?

A mutant is the solution with one mistake. The assignment's ``mutants.py`` lists typical mistakes of
students; further mutants are generated here by changing one node in the syntax tree of a function
that students write.
"""

import ast
import collections
import dataclasses
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tqdm import tqdm

from grader.assignment import Assignment, read_solution
from grader.engine import grade, prepare_expected
from grader.server import Server

WIDTH = 80  # columns of the output
VERDICTS = ("caught", "equivalent", "missed")
# What an assignment's list of mutants may leave out.
OPTIONAL: dict[str, Any] = {"ALSO": {}, "EQUIVALENT": {}, "NOT_GRADED": frozenset()}

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.In: ast.NotIn,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ATTRIBUTES = {
    "amax": "amin",
    "argmax": "argmin",
    "bn1": "bn2",
    "bn2": "bn1",
    "conv1": "conv2",
    "conv2": "conv1",
    "exp": "expm1",
    "fc1": "fc2",
    "fc2": "fc1",
    "grid_size": "num_patches",
    "layer2": "layer3",
    "layer3": "layer2",
    "log": "log2",
    "maximum": "minimum",
    "mean": "sum",
    "mlp_channels": "mlp_tokens",
    "mlp_tokens": "mlp_channels",
    "norm1": "norm2",
    "norm2": "norm1",
    "num_patches": "grid_size",
    "relu": "tanh",
    "sigmoid": "tanh",
    "sum": "mean",
    "tanh": "sigmoid",
    "xavier_normal_": "xavier_uniform_",
    "zeros_": "ones_",
}
SYMMETRIC = ("transpose", "maximum")  # the order of their first two arguments has no effect
MODULES = ("math", "nn", "np", "torch")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """The solution with one mistake.

    Attributes:
        file: the changed file.
        source: its text with the mistake.
        what: the mistake in a few words.
        problem: part of the assignment that must lose points.
        also: parts that may lose points too, because they depend on it.
        by_hand: whether the assignment's ``mutants.py`` lists it.
        equivalent: why it loses no points, "" if it must lose some.
    """

    file: str
    source: str
    what: str
    problem: str
    also: tuple[str, ...] = ()
    by_hand: bool = False
    equivalent: str = ""


def run_mutants(
    assignment: Assignment, server: Server, jobs: int = 1, sample: int | None = None
) -> int:
    """Grade all mutants, or ``sample`` of them, and print the verdicts.

    Args:
        assignment: the assignment.
        server: of the assignment.
        jobs: mutants graded in parallel.
        sample: number of mutants, evenly spread.

    Returns:
        The exit status: 0 if none is missed.

    Raises:
        ValueError: the list of mutants does not match the solution.
    """
    mutants = make_mutants(assignment)
    if sample is not None and sample < len(mutants):
        mutants = [mutants[index * len(mutants) // sample] for index in range(sample)]
    verdicts = []
    for mutant, verdict, reason in grade_mutants(assignment, mutants, server, jobs):
        verdicts.append((mutant, verdict))
        if verdict != "caught":
            text = f"{verdict}: {mutant.problem} {mutant.file}, {mutant.what}. {reason}"
            tqdm.write(textwrap.fill(text, WIDTH, subsequent_indent="    "))
    print(_table(verdicts))
    return 1 if any(verdict == "missed" for _, verdict in verdicts) else 0


def make_mutants(assignment: Assignment) -> list[Mutant]:
    """Return all mutants, handwritten ones first.

    Raises:
        ValueError: there is no list, or it does not match the solution.
    """
    if find_spec(f"grader.{assignment.name}.mutants") is None:
        raise ValueError(f"{assignment.name} has no list of mutants")
    module = import_module(f"grader.{assignment.name}.mutants")
    lists = SimpleNamespace(**OPTIONAL | vars(module))
    sources = {name: text.decode() for name, text in read_solution(assignment).items()}
    made = list(_by_hand(lists, sources))
    known = {ast.unparse(ast.parse(mutant.source)) for mutant in made}
    for mutant in _generated(assignment.manifest, lists, sources):
        if mutant.source not in known:
            known.add(mutant.source)
            made.append(mutant)
    listed = {what for whats in lists.EQUIVALENT.values() for what in whats}
    unknown = listed - {mutant.what for mutant in made}
    if unknown:
        raise ValueError(f"EQUIVALENT lists an unknown mutant: {min(unknown)}")
    return made


def _by_hand(lists: SimpleNamespace, sources: Mapping[str, str]) -> Iterator[Mutant]:
    for file, problems in lists.BY_HAND.items():
        for parts, texts in problems.items():
            problem, *also = parts.split()
            for old, mistakes in texts.items():
                number = sources[file].count(old)
                if number != 1:
                    raise ValueError(f"{file}: this text occurs {number} times, not once: {old}")
                for what, new in mistakes.items():
                    source = sources[file].replace(old, new)
                    yield Mutant(file, source, what, problem, tuple(also), by_hand=True)


def _generated(
    manifest: ModuleType, lists: SimpleNamespace, sources: Mapping[str, str]
) -> Iterator[Mutant]:
    reasons = {what: reason for reason, whats in lists.EQUIVALENT.items() for what in whats}
    for file, blanks in manifest.BLANKS.items():
        tree = ast.parse(sources[file])
        for name, (problem, *_) in blanks.items():
            if name in lists.NOT_GRADED:
                continue
            function = _find(tree, name)
            taken: collections.Counter[str] = collections.Counter()
            for what, old, new in _changes(function, lists.NOT_GRADED):
                _Swap(old, new).visit(function)
                source = ast.unparse(tree)
                _Swap(new, old).visit(function)
                what = f"{name}: {what}"
                taken[what] += 1
                if taken[what] > 1:
                    what += f" (no. {taken[what]})"
                also = lists.ALSO.get(name, ())
                yield Mutant(file, source, what, problem, also, equivalent=reasons.get(what, ""))


class _Swap(ast.NodeTransformer):
    """Replaces one node by another."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _find(tree: ast.Module, name: str) -> ast.FunctionDef:
    node: Any = tree
    for part in name.split("."):
        node = next(inner for inner in node.body if getattr(inner, "name", None) == part)
    return node


def _changes(
    function: ast.FunctionDef, not_graded: frozenset[str]
) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Yield single changes of a function: a description, the old node and the new node."""
    arguments = collections.defaultdict(list)
    for argument in function.args.args:
        if argument.annotation is not None and argument.arg not in not_graded:
            arguments[ast.unparse(argument.annotation)].append(argument.arg)
    # Each argument is replaced by the next one of the same type.
    mixed: dict[str, str] = {}
    for names in arguments.values():
        if len(names) > 1:
            mixed.update(zip(names, [*names[1:], names[0]]))
    for node in _graded_nodes(function, not_graded):
        if isinstance(node, ast.stmt):
            if not isinstance(node, ast.Pass):
                yield f"{_text(node)} dropped", node, ast.Pass()
            continue
        for new in _variants(node, mixed, not_graded):
            yield _in_words(node, new), node, new


def _graded_nodes(function: ast.FunctionDef, not_graded: frozenset[str]) -> Iterator[ast.AST]:
    """Yield the nodes of a function that may be changed, from top to bottom."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Raise) or _only_checks(node) or _names(node) & not_graded:
            continue
        yield node
        waiting += list(ast.iter_child_nodes(node))[::-1]  # the first child is popped first


def _only_checks(node: ast.AST) -> bool:
    """Return whether a statement is a docstring or has no effect on valid arguments."""
    if isinstance(node, ast.If):
        return not node.orelse and isinstance(node.body[-1], ast.Raise)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func).startswith("_check_")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _names(node: ast.AST) -> set[str]:
    """Return the names that decide whether a statement or keyword argument is graded."""
    if isinstance(node, ast.keyword):
        return {node.arg} if node.arg else set()  # None for **options
    if isinstance(node, ast.If):
        return {inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name)}
    if isinstance(node, ast.Assign):
        return {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
    return set()


def _variants(
    node: ast.AST, mixed: Mapping[str, str], not_graded: frozenset[str]
) -> Iterator[ast.AST]:
    """Yield wrong versions of an expression."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        yield _with(node, ops=[OPERATORS[type(node.ops[0])]()])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant):
        for value in _other_values(node.value):
            yield ast.Constant(value)
    elif isinstance(node, ast.Name) and node.id in mixed and isinstance(node.ctx, ast.Load):
        yield ast.Name(mixed[node.id], ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
        yield _with(node, attr=ATTRIBUTES[node.attr])
    elif isinstance(node, ast.Call):
        yield from _other_calls(node, not_graded)


def _other_values(value: object) -> tuple:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1) if value < 3 else (value + 1,)
    if isinstance(value, float):
        return (float(f"{10 * value:g}"),) if value else (0.5,)
    return ("",) if value else ()


def _other_calls(node: ast.Call, not_graded: frozenset[str]) -> Iterator[ast.AST]:
    """Yield a call without its function, with two arguments swapped, without each keyword."""
    first, called = node.args[:2], ast.unparse(node.func)
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    plain = isinstance(owner, ast.Name) and owner.id in (*MODULES, "self")
    if owner is not None and not plain and not called.startswith(("super()", "nn.init")):
        yield owner
    elif len(node.args) == 1 and not node.keywords and not isinstance(first[0], ast.Starred):
        yield first[0]
    symmetric = called.rpartition(".")[2] in SYMMETRIC
    if len(first) == 2 and not symmetric and _text(first[0]) != _text(first[1]):
        yield _with(node, args=[first[1], first[0], *node.args[2:]])
    for keyword in node.keywords:
        if keyword.arg not in not_graded:
            yield _with(node, keywords=[other for other in node.keywords if other is not keyword])


def _with(node: ast.AST, **changes) -> ast.AST:
    """Return a shallow copy of a node with some fields replaced."""
    return type(node)(**{**dict(ast.iter_fields(node)), **changes})


def _in_words(old: ast.AST, new: ast.AST) -> str:
    if isinstance(old, ast.Call) and isinstance(new, ast.Call):
        left_out = [_text(keyword) for keyword in old.keywords if keyword not in new.keywords]
        if left_out:
            return f"{_text(old.func)} without {left_out[0]}"
    return f"{_text(old)} -> {_text(new)}"


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def grade_mutants(
    assignment: Assignment, mutants: list[Mutant], server: Server, jobs: int = 1
) -> Iterator[tuple[Mutant, str, str]]:
    """Grade mutants and yield each with its verdict and the reason, in order."""
    with tempfile.TemporaryDirectory(prefix="grader-expected-") as temporary:
        expected = Path(temporary)
        files = {mutant.file for mutant in mutants}
        cases = tuple(case for case in assignment.cases if case.file in files)
        prepare_expected(dataclasses.replace(assignment, cases=cases), expected, server)
        with ThreadPoolExecutor(jobs) as pool:
            done = pool.map(partial(_grade_one, assignment, expected, server), mutants)
            try:
                yield from tqdm(done, total=len(mutants), disable=None, leave=False)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                server.close()
                raise


def _grade_one(
    assignment: Assignment, expected: Path, server: Server, mutant: Mutant
) -> tuple[Mutant, str, str]:
    """Grade one mutant on the cases of its file."""
    cases = tuple(case for case in assignment.cases if case.file == mutant.file)
    assignment = dataclasses.replace(assignment, cases=cases)
    with tempfile.TemporaryDirectory(prefix="grader-mutant-") as temporary:
        # A case imports one file only.
        (Path(temporary) / mutant.file).write_text(mutant.source, encoding="utf-8")
        report = grade(assignment, Path(temporary), expected, server)
    failed = [(case, v) for case, v in zip(cases, report.verdicts) if not v.passed]
    for case, verdict in failed:
        if verdict.staff:
            return mutant, "missed", f"The grader failed in {case.name}: {verdict.message}"
    return mutant, *judge(mutant, {case.problem for case, _ in failed})


def judge(mutant: Mutant, lost: set[str]) -> tuple[str, str]:
    """Return the verdict on a mutant and its reason.

    Args:
        mutant: the mutant.
        lost: parts of the assignment in which it lost points.
    """
    if mutant.equivalent:
        if lost:
            return "missed", f"Listed as equivalent, but it loses points in {_list(lost)}."
        return "equivalent", mutant.equivalent
    if not lost:
        return "missed", "It loses no points."
    if mutant.problem not in lost:
        return "missed", f"It loses points in {_list(lost)} only."
    unrelated = lost - {mutant.problem, *mutant.also}
    if unrelated:
        return "missed", f"It loses points in {_list(unrelated)} too."
    return "caught", ""


def _list(problems: set[str]) -> str:
    return ", ".join(sorted(problems))


def _table(verdicts: list[tuple[Mutant, str]]) -> str:
    """Return a table of the number of mutants per problem and verdict."""
    numbers: collections.Counter[tuple[str, str]] = collections.Counter()
    for mutant, verdict in verdicts:
        for row in (mutant.problem, "all", "by hand" if mutant.by_hand else "generated"):
            numbers[row, verdict] += 1
    rows = sorted({mutant.problem for mutant, _ in verdicts})
    lines = [f"{'problem':<10}" + "".join(f"{verdict:>12}" for verdict in VERDICTS)]
    for row in (*rows, "by hand", "generated", "all"):
        lines.append(f"{row:<10}" + "".join(f"{numbers[row, v]:>12}" for v in VERDICTS))
    return "\n".join(lines)
