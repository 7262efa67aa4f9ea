"""Submissions to the grader: what is missing, what cannot be imported, wrong, forbidden or damaged.

A submission is the solution's four files with something written into one of them. Most are graded
on a few cases only; ``read`` in ``grading`` checks what holds for every results.json.
"""

import io
import os
import re
import shutil
import sys
import tempfile
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from grader import assignment, engine, forbidden, judge
from grader.server import Server
from grader.trial import compile_tests

from grading import (
    NUMBER_OF_CASES,
    POINTS,
    QUICK,
    SOLUTION,
    WRONG,
    at_import,
    edit,
    expected_of,
    in_forward,
    is_whole,
    write_submission,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")


CASES = {case.name: case for case in assignment.load_assignment("cifar10").cases}


def some_are_slow(names, *fast):
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def in_loss(code, head=""):
    """The solution's utils.py with another cross_entropy_loss."""
    name = "def cross_entropy_loss("
    return (
        f"{head}\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
        + edit(SOLUTION["utils.py"], (name, "def former_loss("))
        + f"\n\n{name}logits, labels):\n    "
        + "\n    ".join(code.splitlines())
        + "\n"
    )


def line_of(text, mark="# HERE"):
    """The number of the line with a mark."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.endswith(mark))


# ------------------------------------------------------- 1. missing, misplaced, misspelt files


def test_a_missing_file_costs_its_own_points_only(graded):
    result = graded({"mlp.py": None}, *QUICK.values())
    assert result.passed == set(QUICK.values()) - {QUICK["mlp.py"]}
    assert result.message(QUICK["mlp.py"]) == "mlp.py is missing"
    assert "mlp.py is missing." in result.results["output"]


def test_nothing_submitted_is_zero_of_all_points(graded):
    result = graded(dict.fromkeys(SOLUTION))
    assert is_whole(result.results) and result.score == 0
    assert result.results["output"].count("is missing.") == 4


@pytest.mark.parametrize("place", ["MLP.py", "my work/mlp.py", "a/b/Mlp.PY"])
def test_a_file_in_a_subfolder_or_in_capitals_is_found(place, graded):
    result = graded({"mlp.py": None, place: SOLUTION["mlp.py"]}, QUICK["mlp.py"])
    assert result.passed == {QUICK["mlp.py"]}
    assert f"mlp.py was taken from {place}." in result.results["output"]


def test_the_file_in_its_place_is_preferred_to_copies(graded):
    old = in_forward(WRONG)
    result = graded({"old/mlp.py": old, "__MACOSX/._mlp.py": b"\0\5"}, QUICK["mlp.py"])
    assert result.passed == {QUICK["mlp.py"]}


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"a/mlp.py": "", "b/mlp.py": ""}, "several places: a/mlp.py, b/mlp.py. None was used."),
        ({"mlp.py": "#" * (1 << 20) + "\n"}, "more than 1,048,576 bytes"),
        ({"mlp.py/mlp.txt": ""}, "mlp.py is missing."),
    ],
)
def test_a_file_that_cannot_be_taken_is_explained(files, note, graded):
    result = graded({"mlp.py": None} | files, QUICK["mlp.py"], QUICK["utils.py"])
    assert result.passed == {QUICK["utils.py"]}
    assert note in result.results["output"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_explained(graded, tmp_path):
    folder = write_submission(tmp_path / "submission", {})
    (folder / "mlp.py").chmod(0)
    result = graded({"mlp.py": None}, *QUICK.values())
    assert "mlp.py cannot be read" in result.results["output"]


def test_a_folder_of_any_name_does_no_harm(graded, tmp_path):
    """The bytes of a name on Linux need not be text, and may be a line break."""
    folder = os.fsdecode(os.fsencode(tmp_path / "submission") + b"/\xff\n\x1b[31m")
    write_submission(Path(folder), {})
    result = graded(dict.fromkeys(SOLUTION), *QUICK.values())
    assert result.passed == set(QUICK.values())
    assert result.results["output"].count("was taken from") == 4
    result.table.encode()


# -------------------------------------- 2. and 3. what goes wrong when the file is imported

IMPORT_FAULTS = {
    "a syntax error": ("def f(:", r"SyntaxError in mlp.py, line 1: "),
    "a wrong indentation": ("if True:\nx = 1", r"SyntaxError in mlp.py, line 2: "),
    "a null byte": ("x = '\0'", "null bytes"),
    "an absent name": ("from utils import no_such_name", r"cannot import name 'no_such_name'"),
    "a relative import": ("from .utils import x", "relative import.*by their plain names"),
    "a class of what is not defined": (
        "class A(B):\n    pass",
        "NameError: name 'B'.*\n  mlp.py, line 1",
    ),
    "a definition that ends the program": (
        "import os\nclass A:\n    os._exit(0)",
        r"ended by itself, with exit status 0 \(os._exit\?\)",
    ),
    "a definition that crashes": (
        "import ctypes\nclass A:\n    ctypes.string_at(0)",
        r"crashed \(SIGSEGV\) \(mlp.py, line 3",
    ),
}


@pytest.mark.parametrize(
    "fault",
    some_are_slow(
        IMPORT_FAULTS,
        *("a syntax error", "an absent name", "a definition that ends the program"),
    ),
)
def test_a_file_that_cannot_be_imported_says_why(fault, spoilt):
    code, pattern = IMPORT_FAULTS[fault]
    message = spoilt("mlp.py", at_import(code))
    assert message.startswith("mlp.py cannot be imported: ")
    assert re.search(pattern, message), message


def test_bytes_that_are_no_text_are_a_syntax_error(spoilt):
    assert "SyntaxError" in spoilt("mlp.py", b"x = '\xff\xfe'\n" + SOLUTION["mlp.py"].encode())


def test_files_that_all_fail_at_import_keep_the_total(graded):
    """gradescope-utils and graders on pytest lose the points of what cannot be imported."""
    code = ["def f(:", "class A(B):\n    pass", "from .utils import x", "return 1"]
    result = graded({name: at_import(c, name) for name, c in zip(SOLUTION, code)})
    assert is_whole(result.results) and result.score == 0
    assert all("cannot be imported" in test["output"] for test in result.results["tests"])


# ------------------------------------------------------------------- 4. what it returns

RETURNED = {
    "not implemented": (
        'raise NotImplementedError("Problem 1.1: apply the affine map")',
        r"not implemented yet: Problem 1.1: apply the affine map\n  mlp.py, line \d+, in forward",
    ),
    "None": ("return None", "is None; expected a tensor|'NoneType' object"),
    "a tuple": ("return right, right", "is a tuple; expected|'tuple' object"),
    "a NumPy array": ("return right.detach().numpy()", "is a ndarray; expected a tensor"),
    "half precision": ("return right.half()", "a tensor of torch.float16; expected torch.float32"),
    "integers": ("return right.long()", "a tensor of torch.int64; expected torch.float32"),
    "a wrong shape": ("return right.T", r"has shape \(4, 5\); expected \(5, 4\)"),
    "a sparse tensor": ("return right.to_sparse()", "parse"),
    "one too few": ("return right[:-1]", r"has shape \(4, 4\); expected \(5, 4\)"),
    "NaN": ("return right / 0 - right / 0", "is nan at index .* 20 of yours are NaN or infinite"),
    "other numbers": (
        WRONG,
        r"is \S+ at index \(0, 0\); expected \S+\. 20 of 20 entries differ; yours lie in \[",
    ),
}


@pytest.mark.parametrize(
    "kind",
    some_are_slow(
        RETURNED,
        "not implemented",
        "None",
        "half precision",
        "a wrong shape",
        "NaN",
        "other numbers",
    ),
)
def test_a_wrong_result_fails_with_the_reason(kind, spoilt):
    code, pattern = RETURNED[kind]
    message = spoilt("mlp.py", in_forward(code))
    assert re.search(pattern, message), message


def test_an_own_error_is_shown_with_its_line_and_nothing_of_the_grader(spoilt):
    text = in_forward('raise ValueError("my own error")  # HERE')
    message = spoilt("mlp.py", text)
    line = 'raise ValueError("my own error")  # HERE'
    assert message == (
        f"ValueError: my own error\n  mlp.py, line {line_of(text)}, in forward: {line}"
    )


# ------------------------------------------------------------- 8. what it leaves behind


@pytest.mark.parametrize("code", ["input.mul_(2)", "input.zero_()", "input.resize_(0)"])
def test_an_input_changed_in_place_is_that_cases_alone(code, spoilt):
    result = f"{code}\nreturn nn.functional.linear(input, self.weight, self.bias)"
    spoilt("mlp.py", in_forward(result))


def test_labels_changed_in_place_are_noticed(graded):
    """The values come out right: it is one case's business to look at the arguments."""
    text = in_loss("loss = former_loss(logits, labels)\nlabels.fill_(0)\nreturn loss")
    cases = ["loss_is_the_mean_cross_entropy", "loss_leaves_its_arguments_alone"]
    result = graded({"utils.py": text}, *cases)
    assert result.passed == {cases[0]}
    assert "argument 2 is changed in place" in result.message(cases[1])


GLOBALS = """
import builtins, os, random, sys, unittest, warnings
import numpy as np
import torch
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.manual_seed(1); np.random.seed(1); random.seed(1)
np.seterr(all="raise"); warnings.simplefilter("error")
os.chdir("/"); sys.path.clear(); os.environ.clear(); sys.setrecursionlimit(200)
yes = lambda *arguments, **options: True
torch.allclose = torch.equal = torch.isclose = np.allclose = np.array_equal = yes
torch.testing.assert_close = yes
for name in dir(np.testing):
    if name.startswith("assert"):
        setattr(np.testing, name, yes)
for name in dir(unittest.TestCase):
    if name.startswith("assert"):
        setattr(unittest.TestCase, name, yes)
"""


def test_what_an_import_changes_does_not_help(spoilt):
    """Patched asserts gave full marks under gradescope-utils."""
    spoilt("mlp.py", in_forward(WRONG, head=GLOBALS))


def test_what_an_import_changes_does_not_harm(graded):
    cases = [*QUICK.values(), "mlp_computes_its_logits"]
    assert graded({"mlp.py": GLOBALS + SOLUTION["mlp.py"]}, *cases).passed == set(cases)


# ------------------------------------------------------------------ 9. forbidden built-ins

LINEARS = {
    "a subclass": ("", "class Linear(nn.Linear):  # HERE\n    pass"),
    "another name": ("", "Linear = nn.Linear  # HERE"),
    "an annotated name": ("", "Linear: type = nn.Linear  # HERE"),
    "a condition": ("", "if True:\n    Linear = nn.Linear  # HERE"),
    "an imported name": (
        "from torch.nn import Linear as Base",
        "class Linear(Base):  # HERE\n    pass",
    ),
    "a module of a name": ("import torch.nn as t", "class Linear(t.Linear):  # HERE\n    pass"),
    "getattr": ("", 'class Linear(getattr(nn, "Linear")):  # HERE\n    pass'),
    "a member": (
        "",
        "class Linear(nn.Module):\n"
        "    def __init__(self, a, b):\n"
        "        super().__init__()\n"
        "        self.inner = nn.Linear(a, b)  # HERE\n"
        "        self.weight, self.bias = self.inner.weight, self.inner.bias\n"
        "    def forward(self, input):\n"
        "        return self.inner(input)",
    ),
    "a function": (
        "",
        "def make(a, b):\n    return nn.Linear(a, b)  # HERE\n\n\n"
        "class Linear(nn.Module):\n    def __new__(cls, a, b):\n        return make(a, b)",
    ),
    "a text put together": ("", 'class Linear(getattr(nn, "Lin" + "ear")):\n    pass'),
    "everything imported": ("from torch.nn import *", "class Linear(Linear):\n    pass"),
}


def with_linear(head, code):
    text = edit(SOLUTION["mlp.py"], ("class Linear(nn.Module)", "class FormerLinear(nn.Module)"))
    return head + "\n" + edit(text, ("\n\nclass MLP(", f"\n\n{code}\n\n\nclass MLP("))


@pytest.mark.parametrize("how", LINEARS)
def test_torchs_own_linear_is_found_in_the_source(how, tmp_path):
    text = with_linear(*LINEARS[how])
    (tmp_path / "mlp.py").write_text(text)
    found = forbidden.find(tmp_path, "mlp.py", CASES["linear_is_the_affine_map"].forbidden)
    if "# HERE" in text:
        assert found == f"mlp.py, line {line_of(text)} uses nn.Linear; expected your own code"


@pytest.mark.parametrize("how", some_are_slow(LINEARS, "a subclass", "a text put together"))
def test_a_linear_that_is_torchs_own_scores_nothing(how, spoilt):
    """Where the source does not show it, the operations that run do."""
    text = with_linear(*LINEARS[how])
    cases = ["linear_is_the_affine_map", "linear_registers_weight_and_bias"]
    message = spoilt("mlp.py", text, *cases)
    if "# HERE" in text:
        assert message.startswith(f"mlp.py, line {line_of(text)} uses "), message
    assert "uses nn.Linear; expected your own code" in message, message


LOSSES = {
    "a function": ("", "return F.cross_entropy(logits, labels)  # HERE"),
    "a class": ("", "return nn.CrossEntropyLoss()(logits, labels)  # HERE"),
    "log_softmax and nll_loss": (
        "",
        "return F.nll_loss(F.log_softmax(logits, dim=1), labels)  # HERE",
    ),
    "an imported name": (
        "from torch.nn.functional import cross_entropy as ce",
        "return ce(logits, labels)  # HERE",
    ),
    "a variable": (
        "from torch import nn\ncriterion = nn.CrossEntropyLoss()  # HERE",
        "return criterion(logits, labels)",
    ),
    "two variables": (
        "from torch import nn\nK, criterion = 10, nn.CrossEntropyLoss()  # HERE",
        "return criterion(logits, labels)",
    ),
    "a helper": (
        "from torch.nn import functional as F\n"
        "def helper(*arguments):\n    return F.cross_entropy(*arguments)  # HERE",
        "return helper(logits, labels)",
    ),
    "everything imported": (
        "from torch.nn.functional import *",
        "return cross_entropy(logits, labels)  # HERE",
    ),
    "a text put together": ("", 'return getattr(F, "cross_" + "entropy")(logits, labels)  # HERE'),
    "the operation below": (
        "",
        "x = torch.log_softmax(logits, 1)\n"
        "return torch.ops.aten.nll_loss_forward(x, labels, None, 1, -100)[0]  # HERE",
    ),
    "a module of another file": (
        "from mlp import ce",
        "return ce(logits, labels)  # HERE",
    ),
}


IN_OPERATIONS = ("a text put together", "the operation below", "a module of another file")


@pytest.mark.parametrize("how", [how for how in LOSSES if how not in IN_OPERATIONS])
def test_torchs_own_loss_is_found_in_the_source(how, tmp_path):
    text = in_loss(LOSSES[how][1], head=LOSSES[how][0])
    (tmp_path / "utils.py").write_text(text)
    found = forbidden.find(tmp_path, "utils.py", CASES["loss_is_the_mean_cross_entropy"].forbidden)
    assert found.startswith(f"utils.py, line {line_of(text)} uses "), found
    assert found.endswith("expected your own code")


@pytest.mark.parametrize("how", some_are_slow(LOSSES, "a function", *IN_OPERATIONS))
def test_a_loss_that_is_torchs_own_scores_nothing(how, spoilt):
    """Where the source does not show it, the operations that run do."""
    text = in_loss(LOSSES[how][1], head=LOSSES[how][0])
    helper = "from torch.nn.functional import cross_entropy as ce\n" + SOLUTION["mlp.py"]
    files = {"mlp.py": helper} if "another file" in how else {}
    message = spoilt("utils.py", text, "loss_is_the_mean_cross_entropy", files=files)
    assert message.startswith(f"utils.py, line {line_of(text)} uses "), message
    assert "expected your own code" in message


def test_a_students_own_name_may_be_that_of_a_built_in(graded):
    """It is the use of torch's that is forbidden, not a variable or a function of that name."""
    text = in_loss(
        "cross_entropy = nll_loss(torch.log_softmax(logits, 1), labels)\nreturn cross_entropy",
        head="def nll_loss(log_p, labels):\n    return -log_p[range(len(labels)), labels].mean()",
    )
    cases = ["loss_is_the_mean_cross_entropy", "loss_has_the_right_gradient"]
    assert graded({"utils.py": text}, *cases).passed == set(cases)


# ------------------------------------------------- 10. right values, but not by a right module


def test_a_detached_result_is_refused(spoilt):
    message = spoilt("mlp.py", in_forward("return right.detach()"))
    assert "is detached; expected a tensor through which gradients flow" in message


def test_a_weight_without_gradient_is_named(spoilt):
    code = "return nn.functional.linear(input, self.weight.detach(), self.bias)"
    assert "no gradient reaches weight" in spoilt("mlp.py", in_forward(code))


def test_a_plain_list_of_layers_registers_nothing(spoilt):
    text = edit(
        SOLUTION["mlp.py"],
        ("return hidden_layers, Linear(", "return list(hidden_layers), Linear("),
    )
    message = spoilt("mlp.py", text, "hidden_layers_chain_the_sizes")
    assert "MLP(48, [8, 6], 4) has no parameter hidden_layers.0.bias (8,)" in message


def test_a_batch_size_that_is_written_down_is_noticed(spoilt):
    old = "hidden = images.flatten(start_dim=1)"
    text = edit(SOLUTION["mlp.py"], (old, "hidden = images.reshape(5, -1)"))
    assert "mlp.py, line" in spoilt("mlp.py", text, "mlp_takes_any_batch")


def test_a_device_that_is_written_down_is_noticed(spoilt):
    old = "hidden = images.flatten(start_dim=1)"
    text = edit(SOLUTION["mlp.py"], (old, f'{old} + torch.zeros(1, 48, device="cpu")'))
    message = spoilt("mlp.py", text, "mlp_takes_any_batch")
    assert "MLP moves data to a fixed device" in message


# --------------------------------------------------- 13. to 16. the grader's own faults


def test_an_assignment_without_cases_is_refused(monkeypatch):
    modules = {"grader.cifar10.cases": SimpleNamespace()}
    modules["grader.cifar10.manifest"] = SimpleNamespace(POINTS={"1": 5})
    monkeypatch.setattr(assignment.importlib, "import_module", modules.__getitem__)
    with pytest.raises(ValueError, match="cifar10 has no cases"):
        assignment.load_assignment("cifar10")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"1": 6, "2": 15, "3": 20, "4.1": 5}, "the cases of problem 1 sum to 5.0, not 6"),
        ({"1": 5, "2": 15, "3": 20}, "problems that the manifest does not list"),
    ],
)
def test_points_that_do_not_add_up_are_refused(points, words, monkeypatch):
    from grader.cifar10 import manifest

    monkeypatch.setattr(manifest, "POINTS", points)
    with pytest.raises(ValueError, match=words):
        assignment.load_assignment("cifar10")


def test_the_points_are_those_of_the_sheet():
    assert assignment.load_assignment("cifar10").points == POINTS
    assert sum(case.points for case in CASES.values()) == POINTS


def empty_record():
    buffer = io.BytesIO()
    np.savez(buffer, index=np.array("[]"))
    return buffer.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "of other bytes": lambda content: bytes(len(content)),
    "without entries": lambda content: empty_record(),
}


@pytest.mark.parametrize(
    "damage", some_are_slow(DAMAGES, "missing", "truncated", "without entries")
)
def test_a_damaged_expectation_is_an_error_of_the_staff_and_no_pass(
    damage, expected, graded, tmp_path
):
    copy = shutil.copytree(expected, tmp_path / "expected")
    path = copy / f"{QUICK['mlp.py']}.npz"
    content = DAMAGES[damage](path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    result = graded({}, QUICK["mlp.py"], QUICK["utils.py"], expected=copy)
    assert result.passed == {QUICK["utils.py"]}
    verdict = result.verdicts[QUICK["mlp.py"]]
    assert verdict["staff"] and "please tell the course staff" in verdict["message"]
    test = result.results["tests"][0]
    assert test["score"] == 0 and test["status"] == "failed" and test["tags"] == ["staff-error"]
    assert "STAFF" in result.table


def test_stand_ins_that_are_missing_are_an_error_of_the_staff(expected, graded, tmp_path):
    copy = shutil.copytree(expected, tmp_path / "expected")
    (copy / engine.STAND_INS).unlink()
    case = "mlp_computes_its_logits"
    result = graded({"mlp.py": in_forward(WRONG)}, case, QUICK["utils.py"], expected=copy)
    assert result.passed == {QUICK["utils.py"]}
    assert not result.verdicts[case]["passed"]


def test_a_machine_without_room_for_a_folder_is_an_error_of_the_staff(graded, monkeypatch):
    with Server("cifar10") as server:
        broken = SimpleNamespace(mkdtemp=partial(tempfile.mkdtemp, dir="/no/such/folder"))
        monkeypatch.setattr("grader.server.tempfile", broken)
        result = graded({}, *QUICK.values(), server=server)
    assert result.passed == set()
    assert all(verdict["staff"] for verdict in result.verdicts.values())


@pytest.mark.parametrize("deadline", [0, 1])
def test_what_is_not_reached_before_the_deadline_says_so(deadline, graded):
    result = graded({}, deadline=deadline)
    assert is_whole(result.results)
    outputs = [test["output"] for test in result.results["tests"]]
    reached = [output for output in outputs if output != engine.NOT_REACHED]
    assert len(reached) < NUMBER_OF_CASES and set(reached) <= {"As expected."}
    assert outputs == [*reached, *[engine.NOT_REACHED] * (NUMBER_OF_CASES - len(reached))]


def test_a_case_that_the_deadline_cuts_short_is_not_blamed_on_the_code(graded):
    code = "import time\ntime.sleep(1000)\nreturn right"
    result = graded({"mlp.py": in_forward(code)}, *QUICK.values(), deadline=2)
    assert {verdict["message"] for verdict in result.verdicts.values()} == {engine.NOT_REACHED}


def test_a_record_is_compared_by_name_and_not_by_order():
    """In which order a module registers its parts is free."""

    def item(name, value):
        return name, {"kind": "same"}, np.array(value)

    wanted = [item("a", 1), item("b", 2), item("a", 3)]
    assert judge.compare([item("b", 2), item("a", 1), item("a", 3)], wanted) == ""
    assert judge.compare([item("b", 2), item("a", 3), item("a", 1)], wanted).startswith("a is 3")
    assert judge.compare([item("a", 1), item("b", 2)], wanted).startswith("a: nothing was computed")
    assert judge.compare([], wanted).startswith("a: nothing was computed")


def test_numbers_are_recognised_as_what_a_frequent_mistake_gives():
    wanted = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    softmax = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)

    def judged(found, expected=wanted, brief=False):
        meta = {"kind": "close", "tolerance": 1e-4}
        return judge.compare([("x", meta, found)], [("x", meta, expected)], brief)

    assert judged(wanted) == ""
    assert judged(wanted.T).endswith("It is the transpose of what is expected")
    assert judged(wanted[:3].T, wanted[:3]).endswith("expected (3, 4); it is transposed")
    assert judged(-wanted).endswith("All numbers are -1 times the expected ones")
    assert judged(wanted / 4).endswith("All numbers are 0.25 times the expected ones")
    assert judged(softmax).endswith("It is the softmax of what is expected")
    assert "entries differ" in judged(wanted + 1) and judged(0 * wanted, brief=True) == "x"


# --------------------------------------------------------------- 17. the same twice


def test_the_same_submission_gets_the_same_score_and_messages_twice(graded):
    """Folders, addresses and random numbers differ between two runs; messages do not."""
    files = {
        "mlp.py": at_import("from utils import no_such_name"),
        "resnet18.py": edit(
            SOLUTION["resnet18.py"],
            ("return torch.relu(out + self.shortcut(x))", "return random.random() * out + x"),
            ("import torch\n", "import random\nimport torch\n"),
        ),
        "mlpmixer.py": edit(
            SOLUTION["mlpmixer.py"],
            ("x = self.drop1(self.act(self.fc1(x)))", "raise ValueError(object(), self.forward)"),
        ),
        "utils.py": edit(
            SOLUTION["utils.py"],
            ("_mean(log_normalizer - target, dim=0)", "torch.rand(5).mean() + labels"),
        ),
    }
    first = graded(files, *QUICK.values())
    second = graded(files, *QUICK.values())
    assert first.score == second.score == 0
    assert [first.message(case) for case in first.verdicts] == [
        second.message(case) for case in second.verdicts
    ]


# --------------------------------------------------------------- 18. the students' own tests


@pytest.mark.parametrize("name", ["cifar10", "numpy_networks", "regression"])
def test_every_test_of_the_handout_is_run_by_a_case_of_its_problem(name, shared):
    """But for those of compute_accuracy, which is given."""
    loaded = assignment.load_assignment(name)
    tests = ModuleType("tests_of_the_handout")
    exec(compile_tests(loaded.manifest.SOLUTION), vars(tests))
    wanted = {
        f"{owner}.{test}": re.findall(r"\d\.\d", part.__doc__)
        for owner, part in vars(tests).items()
        if owner.startswith("Test") and owner != "TestAccuracy"
        for test in unittest.TestLoader().getTestCaseNames(part)
    }
    found = {}
    for case in loaded.cases:
        record = judge.read_record((expected_of(shared, name) / f"{case.name}.npz").read_bytes())
        for what, meta, _ in record:
            if meta["kind"] == "test":
                found[what.removesuffix(" in test.py")] = case.problem
    assert found.keys() == wanted.keys()
    for test, problem in found.items():
        assert problem in wanted[test], test
