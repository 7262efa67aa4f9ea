"""The grader under attack: cases 1 to 18 of what it has to survive, each by a real submission.

A submission is the solution's four files with something written into one of them. Most are graded
on a few cases only, and the limits on time are shortened; ``Graded`` and ``read`` in ``grading``
check what holds for every results.json.
"""

import csv
import io
import json
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from grader import __main__ as command_line
from grader import engine, judge

from grading import ROOT, SOLUTION, build_autograder, edit, read, submit, workers, write_submission

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")

# A case of each file that takes little time.
QUICK = {
    "mlp.py": "linear_is_the_affine_map",
    "resnet18.py": "block_adds_its_input",
    "mlpmixer.py": "mlp_of_the_mixer_is_two_layers",
    "utils.py": "accuracy_is_a_fraction",
}
NUMBER_OF_CASES = 35
POINTS = 45
SHORT = {"cpu": 1, "wall": 3.0}  # limits for what would go on for ever


# ----------------------------------------------------------------------------------- tools


@pytest.fixture(scope="session")
def autograder(tmp_path_factory):
    """The zip file for Gradescope."""
    path = tmp_path_factory.mktemp("dist") / "autograder.zip"
    workers().submit(build_autograder, str(path)).result()
    return path


@pytest.fixture(scope="session")
def expected(autograder, tmp_path_factory):
    """The folder with what the solution computes."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(autograder) as archive:
        archive.extractall(folder, [n for n in archive.namelist() if n.startswith("expected/")])
    return folder / "expected"


@pytest.fixture
def graded(expected, tmp_path):
    """A function that grades the solution with other files in its place, None for no file."""

    def grade(files, *cases, folder=tmp_path / "submission", expected=expected, **options):
        write_submission(folder, files)
        return read(submit(str(folder), str(expected), cases, **options).result())

    return grade


@pytest.fixture
def spoilt(graded):
    """A function that grades one changed file and checks that another keeps its points.

    By default on the quick case of the changed file, which has to fail.
    """

    def grade(name, text, *cases, files=(), passes=False, others=None, **options):
        others = others or {QUICK["mlp.py" if name == "utils.py" else "utils.py"]}
        cases = cases or (QUICK[name],)
        result = graded({name: text, **dict(files)}, *cases, *others, **options)
        assert result.passed == others | (set(cases) if passes else set()), result.table
        assert not any(verdict["staff"] for verdict in result.verdicts.values())
        return result.message(cases[0])

    return grade


def at_import(code, name="mlp.py"):
    """A file of the solution with some code in front of it."""
    return code.strip() + "\n" + SOLUTION[name]


def in_forward(code, head=""):
    """The solution's mlp.py with other code in Linear.forward, which knows the right result."""
    own = "return nn.functional.linear(input, self.weight, self.bias)"
    lines = ["right = nn.functional.linear(input, self.weight, self.bias)", *code.splitlines()]
    return head + "\n" + edit(SOLUTION["mlp.py"], (own, "\n        ".join(lines)))


WRONG = "return right + 1"


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


def is_whole(results):
    """Whether results.json has every case, and the points of all of them together."""
    tests = results["tests"]
    return len(tests) == NUMBER_OF_CASES and sum(test["max_score"] for test in tests) == POINTS


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
    "an absent package": (
        "import no_such_package",
        r"No module named 'no_such_package'.*\n  mlp.py, line 1, in <module>: import no_such_pack",
    ),
    "an absent name": ("from utils import no_such_name", r"cannot import name 'no_such_name'"),
    "the project's own modules": ("import training.data", "No module named 'training'"),
    "a relative import": ("from .utils import x", "relative import.*by their plain names"),
    "sys.exit": ("import sys\nsys.exit(0)", "the code ends the program.*\n  mlp.py, line 2"),
    "quit": ("quit()", "the code ends the program"),
    "input": ("input('Name? ')", r"nobody to answer input\(\)\n  mlp.py, line 1"),
    "os._exit": ("import os\nos._exit(0)", r"ended by itself, with exit status 0 \(os._exit\?\)"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "training": ("import torch\nx = MLP(2, [2], 2)", "NameError: name 'MLP'.*\n  mlp.py, line 2"),
    "downloading": (
        "from urllib.request import urlopen\nurlopen('http://host.invalid/cifar10.tar.gz')",
        r"URLError.*\n  mlp.py, line 2, in <module>: urlopen",
    ),
    "a crash": ("import ctypes\nctypes.string_at(0)", r"crashed \(SIGSEGV\) \(mlp.py, line 2"),
    "an error without mercy": (
        "class E(Exception):\n    def __str__(self):\n        raise self\nraise E",
        "cannot be imported",
    ),
}


def matches(pattern, text):
    return re.search(pattern, text)


@pytest.mark.parametrize("fault", IMPORT_FAULTS)
def test_a_file_that_cannot_be_imported_says_why(fault, spoilt):
    code, pattern = IMPORT_FAULTS[fault]
    message = spoilt("mlp.py", at_import(code))
    assert message.startswith("mlp.py cannot be imported: ")
    assert matches(pattern, message), message


@pytest.mark.parametrize("package", ["scipy", "torchvision"])
def test_a_package_that_is_not_on_gradescope_is_named(package, spoilt):
    if package in {path.name for path in Path(sysconfig.get_path("purelib")).iterdir()}:
        pytest.skip(f"{package} is installed here")
    message = spoilt("utils.py", at_import(f"import {package}", "utils.py"))
    assert f"No module named '{package}'" in message
    assert "torch, numpy, matplotlib and the standard library can be imported" in message


def test_bytes_that_are_no_text_are_a_syntax_error(spoilt):
    assert "SyntaxError" in spoilt("mlp.py", b"x = '\xff\xfe'\n" + SOLUTION["mlp.py"].encode())


def test_files_that_all_fail_at_import_keep_the_total(graded):
    """gradescope-utils and graders on pytest lose the points of what cannot be imported."""
    code = ["def f(:", "import os\nos._exit(0)", "import sys\nsys.exit()", "1 / 0"]
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


@pytest.mark.parametrize("kind", RETURNED)
def test_a_wrong_result_is_told_from_the_right_one(kind, spoilt):
    code, pattern = RETURNED[kind]
    message = spoilt("mlp.py", in_forward(code))
    assert matches(pattern, message), message


def test_an_own_error_is_shown_with_its_line_and_nothing_of_the_grader(spoilt):
    text = in_forward('raise ValueError("my own error")  # HERE')
    message = spoilt("mlp.py", text)
    line = 'raise ValueError("my own error")  # HERE'
    assert message == (
        f"ValueError: my own error\n  mlp.py, line {line_of(text)}, in forward: {line}"
    )


# ------------------------------------------------------- 5. loops, hanging calls, crashes

LOOP = "while True:\n    try:\n        1 / 0\n    except BaseException:\n        pass"
STOPPED = "stopped after 1 s of CPU time or 3 s in total"
ENDS = {
    "an endless loop": (LOOP, STOPPED),
    "a loop deaf to signals": (
        "import signal\nfor number in range(1, 65):\n    try:\n        "
        "signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n"
        "        pass\n" + LOOP,
        STOPPED,
    ),
    "a native call that hangs": ("import ctypes\nctypes.CDLL(None).pause()", STOPPED),
    "sleep": ("import time\ntime.sleep(1000)", STOPPED),
    "a lock": ("import threading\nthreading.Semaphore(0).acquire()", STOPPED),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", r"crashed \(SIGSEGV\)"),
    "abort": ("import os\nos.abort()", r"crashed \(SIGABRT\)"),
    "os._exit": ("import os\nos._exit(0)", "ended by itself, with exit status 0"),
    "a kill": ("import os\nos.kill(os.getpid(), 9)", "was killed; it may have used too much memo"),
    "sys.exit": ("import sys\nsys.exit(0)", "the code ends the program"),
    "input": ("__builtins__['input']()", "nobody to answer input()"),
    "a recursion": ("return self.forward(input)", "RecursionError"),
    "a bottomless recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\nreturn self(input)",
        "crashed|killed|stopped|Recursion|memory",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_code_that_does_not_come_to_its_end_costs_its_own_points_only(end, spoilt):
    code, pattern = ENDS[end]
    text = in_forward(code)
    message = spoilt("mlp.py", text, **SHORT)
    assert matches(pattern, message) or pattern in message, message
    if end not in ("a loop deaf to signals", "os._exit", "a kill", "a bottomless recursion"):
        assert matches(r"mlp.py, line \d+,? in forward", message), message


def test_an_endless_loop_at_import_is_stopped(spoilt):
    message = spoilt("mlp.py", at_import(LOOP), **SHORT)
    assert STOPPED in message and matches(r"\(mlp.py, line [1-5]", message), message


def test_a_loop_in_every_file_keeps_the_total(graded):
    result = graded({name: at_import(LOOP, name) for name in SOLUTION}, cpu=1, wall=2.0)
    assert is_whole(result.results) and result.score == 0


# ------------------------------------------------------- 6. memory, processes, orphans


@pytest.mark.parametrize(
    "code", ["torch.ones(2 << 30)", "bytearray(8 << 30)", "[0] * (1 << 30)", "np.ones(1 << 30)"]
)
def test_eight_gigabytes_are_refused(code, spoilt):
    message = spoilt("mlp.py", in_forward(f"import numpy as np\n{code}\n{WRONG}"))
    assert "memory" in message.lower() or "allocate" in message, message
    assert "mlp.py, line" in message


def processes_of(session):
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(path.parent.name)
    return found


@pytest.fixture
def notebook():
    """A file that any submission can write to."""
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    os.chmod(name, 0o666)
    yield Path(name)
    os.unlink(name)


def test_a_fork_bomb_goes_off_in_its_own_corner(spoilt, notebook):
    code = (
        f"import os\nopen({str(notebook)!r}, 'w').write(str(os.getsid(0)))\n"
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    )
    began = time.monotonic()
    spoilt("mlp.py", in_forward(code), cpu=1, wall=2.0)
    assert time.monotonic() - began < 30
    assert processes_of(int(notebook.read_text())) == []


def test_a_thousand_threads_are_refused(spoilt):
    code = (
        "import threading, time\nfor _ in range(1000):\n"
        f"    threading.Thread(target=time.sleep, args=(60,)).start()\n{WRONG}"
    )
    assert "can't start new thread" in spoilt("mlp.py", in_forward(code), **SHORT)


def test_an_orphan_in_its_own_session_is_gone_afterwards(spoilt, notebook):
    code = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        open({str(notebook)!r}, 'w').write(str(os.getpid()))\n"
        "        while True:\n            time.sleep(1)\n    os._exit(0)\n"
        f"while not os.path.getsize({str(notebook)!r}):\n    time.sleep(0.01)\nreturn right"
    )
    spoilt("mlp.py", in_forward(code), passes=True)
    assert not Path("/proc", notebook.read_text()).exists()


# ----------------------------------------------------------------------------- 7. output


def test_megabytes_of_output_are_read_and_dropped(spoilt):
    code = (
        "import os, sys\nfor _ in range(30):\n    print('\\x1b[31m' * 100_000)\n"
        "    os.write(2, bytes(range(256)) * 1000)\nsys.stdout.flush()\nreturn right"
    )
    spoilt("mlp.py", in_forward(code), passes=True)


def test_an_error_message_is_short_and_printable(spoilt):
    code = "raise ValueError('\\x1b[31m\\x00\\x07\\udcff\\u202e' + 'x' * 10**7)"
    message = spoilt("mlp.py", in_forward(code))
    assert len(message) < 1000 and all(c.isprintable() or c == "\n" for c in message)
    assert "mlp.py, line" in message


def test_a_result_of_many_megabytes_is_refused(spoilt):
    message = spoilt("mlp.py", in_forward("return right.sum() + right.new_zeros(5, 4 << 20)"))
    assert "returned more than 32 MB" in message or "memory" in message


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
    assert "The labels after cross_entropy_loss" in result.message(cases[1])


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
def test_a_linear_that_is_torchs_own_scores_nothing(how, spoilt):
    text = with_linear(*LINEARS[how])
    cases = ["linear_is_the_affine_map", "linear_registers_weight_and_bias"]
    message = spoilt("mlp.py", text, *cases)
    if "# HERE" in text:
        assert message.startswith(f"mlp.py, line {line_of(text)} uses "), message
    assert "Linear" in message and "expected your own" in message


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


@pytest.mark.parametrize("how", LOSSES)
def test_a_loss_that_is_torchs_own_scores_nothing(how, spoilt):
    text = in_loss(LOSSES[how][1], head=LOSSES[how][0])
    helper = "from torch.nn.functional import cross_entropy as ce\n" + SOLUTION["mlp.py"]
    files = {"mlp.py": helper} if "another file" in how else {}
    message = spoilt("utils.py", text, "loss_is_the_mean_cross_entropy", files=files)
    line = line_of(helper) if "# HERE" in helper else line_of(text)
    assert message.startswith(f"utils.py, line {line}"), message
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


def test_detached_results_are_told(spoilt):
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


# ---------------------------------------------------------------------------- 11. forgery

GRADER_REPLACED = """
import gc, sys
def forge(*arguments, **options):
    return ""
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "grader":
        for attribute in ("compare", "find_forbidden", "_close", "_examine", "conduct"):
            if hasattr(module, attribute):
                setattr(module, attribute, forge)
        if hasattr(module, "_COMPARE"):
            module._COMPARE.update(dict.fromkeys(module._COMPARE, forge))
for thing in gc.get_objects():
    if type(thing).__name__ in ("Trial", "Case", "Verdict", "Report"):
        for attribute in ("record", "call", "differentiate", "_add"):
            setattr(type(thing), attribute, forge)
        if type(thing).__name__ == "Verdict":
            thing.passed = True
"""
RESULTS_WRITTEN = """
import atexit, json, os, signal
def write(*arguments):
    text = json.dumps({"score": 45, "tests": [{"name": "all", "score": 45, "max_score": 45}]})
    for folder in (".", "..", "../..", "/autograder/results", "RESULTS"):
        try:
            with open(os.path.join(folder, "results.json"), "w") as file:
                file.write(text)
        except OSError:
            pass
atexit.register(write)
for number in range(1, 65):
    try:
        signal.signal(number, write)
    except (OSError, ValueError):
        pass
write()
"""
PARENT_KILLED = """
import os, signal
for aim in (lambda: os.kill(os.getppid(), signal.SIGKILL),
            lambda: os.killpg(os.getpgid(os.getppid()), signal.SIGKILL),
            lambda: os.kill(os.getppid(), signal.SIGSTOP)):
    try:
        aim()
    except OSError:
        pass
"""
RECORD_SENT = """
import io, json, os, struct
import numpy as np
buffer = io.BytesIO()
np.savez(buffer, index=np.array(json.dumps(ITEMS)), **{"0": np.zeros((5, 4), np.float32)})
content = b"R" + buffer.getvalue()
os.write(3, struct.pack("<Q", len(content)) + content)
os._exit(0)
"""
FORGERIES = {
    "the grader's functions replaced": GRADER_REPLACED,
    "results.json written at exit and by signals": RESULTS_WRITTEN,
    "a record of its own sent": RECORD_SENT.replace("ITEMS", "[]"),
    "a record of zeros sent": RECORD_SENT.replace(
        "ITEMS", '[["Linear(7, 4)", {"kind": "same", "tolerance": 1e9}]]'
    ),
    "a record of nonsense sent": RECORD_SENT.replace("ITEMS", "{'a': [None]}"),
    "a result of nonsense sent": "import os\nos.write(3, bytes(8)); os._exit(0)",
    "a damaged archive sent": (
        "import os, struct\nos.write(3, struct.pack('<Q', 9) + b'RPK\\3\\4abcd'); os._exit(0)"
    ),
    "much too long a length sent": (
        "import os, struct\nos.write(3, struct.pack('<Q', 2**63) + b'R'); os._exit(0)"
    ),
    "an archive that grows without end sent": (
        "import io, os, struct, zipfile\nbuffer = io.BytesIO()\n"
        "with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:\n"
        "    archive.writestr('index.npy', b'\\x93NUMPY\\1\\0\\x76\\0' + (\"{'descr': '|u1', "
        "'fortran_order': False, 'shape': (1099511627776,)}\".ljust(117) + '\\n').encode())\n"
        "content = b'R' + buffer.getvalue()\n"
        "os.write(3, struct.pack('<Q', len(content)) + content); os._exit(0)"
    ),
    "a pickle sent": (
        "import io, os, struct\nimport numpy as np\nbuffer = io.BytesIO()\n"
        "np.savez(buffer, index=np.array([print], dtype=object))\n"
        "content = b'R' + buffer.getvalue()\n"
        "os.write(3, struct.pack('<Q', len(content)) + content); os._exit(0)"
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_scores_nothing(forgery, spoilt, tmp_path):
    code = FORGERIES[forgery].replace("RESULTS", str(tmp_path)).strip()
    spoilt("mlp.py", in_forward(f"{code}\n{WRONG}"))
    assert not list(tmp_path.rglob("results.json"))


def test_a_forgery_at_import_scores_nothing(spoilt, tmp_path):
    code = (GRADER_REPLACED + RESULTS_WRITTEN).replace("RESULTS", str(tmp_path))
    spoilt("mlp.py", in_forward(WRONG, head=code))
    assert not list(tmp_path.rglob("results.json"))


def test_killing_the_parent_scores_nothing_and_stops_nothing(spoilt):
    spoilt("mlp.py", in_forward(f"{PARENT_KILLED.strip()}\n{WRONG}"), **SHORT)


def test_a_file_left_for_the_next_case_is_of_no_use(graded):
    """What one case writes into its folder, the next one does not find."""
    code = (
        "import os\npath, own = os.path.expanduser('~/left'), str(os.getpid())\n"
        "if os.path.exists(path) and open(path).read() != own:\n    return right + 1\n"
        "open(path, 'w').write(own)\nreturn right"
    )
    cases = ["linear_is_the_affine_map", "mlp_computes_its_logits", "mlp_takes_any_batch"]
    assert graded({"mlp.py": in_forward(code)}, *cases).passed == set(cases)


# ------------------------------------------------------- 12. files that it brings along


@pytest.mark.parametrize("correct", [True, False])
def test_files_beside_the_four_are_not_imported(correct, graded):
    boom = "raise RuntimeError('imported')\n"
    names = ("torch.py", "numpy/__init__.py", "conftest.py", "sitecustomize.py", "test.py")
    names += ("usercustomize.py", "grader/__init__.py", "io.py", "json.py", "mlp.pth")
    text = SOLUTION["mlp.py"] if correct else in_forward(WRONG)
    result = graded({"mlp.py": text} | dict.fromkeys(names, boom), *QUICK.values())
    assert result.passed == set(QUICK.values()) - (set() if correct else {QUICK["mlp.py"]})


def test_a_link_is_not_followed(graded, tmp_path):
    """A link to a solution that lies on the same machine would be the whole score."""
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "mlp.py").symlink_to(ROOT / "mlp.py")
    (folder / "sub").symlink_to(ROOT)
    result = graded({"mlp.py": None, "resnet18.py": None}, *QUICK.values())
    assert result.passed == {QUICK["mlpmixer.py"], QUICK["utils.py"]}
    assert "mlp.py is a link; submit the file itself." in result.results["output"]
    assert "resnet18.py is missing." in result.results["output"]


def test_compiled_code_beside_a_file_is_not_used(graded, tmp_path):
    """A .pyc in __pycache__ with the right time stamp would run in place of the source."""
    source = tmp_path / "other.py"
    source.write_text("raise RuntimeError")
    py_compile.compile(str(source), str(tmp_path / "other.pyc"))
    compiled = (tmp_path / "other.pyc").read_bytes()
    cached = f"__pycache__/mlp.{sys.implementation.cache_tag}.pyc"
    assert graded({cached: compiled, "mlp.pyc": compiled}, QUICK["mlp.py"]).score > 0


def test_no_member_of_an_archive_leaves_its_folder(autograder):
    """Gradescope unpacks what students submit; what staff unpack is ours, and stays inside."""
    for name in zipfile.ZipFile(autograder).namelist():
        assert not name.startswith("/") and ".." not in Path(name).parts


# --------------------------------------------------- 13. to 16. the grader's own faults


def test_an_assignment_without_cases_is_refused(monkeypatch):
    modules = {"grader.cifar10.cases": SimpleNamespace()}
    modules["grader.cifar10.manifest"] = SimpleNamespace(POINTS={"1": 5})
    monkeypatch.setattr(engine.importlib, "import_module", modules.__getitem__)
    with pytest.raises(ValueError, match="cifar10 has no cases"):
        engine.load_assignment("cifar10")


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
        engine.load_assignment("cifar10")


def test_the_points_are_those_of_the_sheet():
    assignment = engine.load_assignment("cifar10")
    assert assignment.points == POINTS and len(assignment.cases) == NUMBER_OF_CASES
    assert sum(case.points for case in assignment.cases) == POINTS


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


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_expectation_is_an_error_of_the_staff_and_no_pass(
    damage, expected, graded, tmp_path
):
    copy = shutil.copytree(expected, tmp_path / "expected")
    path = copy / f"{QUICK['mlp.py']}.npz"
    content = DAMAGES[damage](path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    result = graded({}, *QUICK.values(), expected=copy)
    assert result.passed == set(QUICK.values()) - {QUICK["mlp.py"]}
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


def test_a_machine_without_room_for_a_folder_is_an_error_of_the_staff(graded):
    result = graded({}, *QUICK.values(), scratch="/no/such/folder")
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
    code = "import time\ntime.sleep(30)\nreturn right"
    began = time.monotonic()
    result = graded({"mlp.py": in_forward(code)}, *QUICK.values(), deadline=2)
    assert time.monotonic() - began < 20
    assert {verdict["message"] for verdict in result.verdicts.values()} == {engine.NOT_REACHED}


def test_a_record_is_compared_by_name_and_not_by_order():
    """In which order a module registers its parts is free."""

    def item(name, value):
        return name, {"kind": "same"}, np.array(value)

    wanted = [item("a", 1), item("b", 2), item("a", 3)]
    assert judge.compare([item("b", 2), item("a", 1), item("a", 3)], wanted) == ""
    assert judge.compare([item("b", 2), item("a", 3), item("a", 1)], wanted).startswith("a is 3")
    assert judge.compare([item("a", 1), item("b", 2)], wanted).startswith("a was not recorded")
    assert judge.compare([], wanted).startswith("a was not recorded")


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
            ("return (logits.argmax(dim=1) == labels)", "return torch.rand(5).mean() + (labels)"),
        ),
    }
    first = graded(files, *QUICK.values())
    second = graded(files, *QUICK.values())
    assert first.score == second.score == 0
    assert [first.message(case) for case in first.verdicts] == [
        second.message(case) for case in second.verdicts
    ]


# ------------------------------------------- 18. other users, and the file for Gradescope


def command(python=sys.executable, prefix=()):
    """The command that grades in a process of its own, and its environment."""
    paths = (str(ROOT), sysconfig.get_path("purelib"))
    return [*prefix, python, str(ROOT / "tests" / "grading.py")], {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def public_python():
    """A Python that every user can read, with torch; this one need not be."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = [f"/usr/bin/python{version}", f"/usr/local/bin/python{version}", sys.executable]
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become other users, by setpriv")
    for python in filter(os.path.exists, found):
        test = [python, "-c", "import os, torch, numpy; print(os.__file__)"]
        places = [
            subprocess.run(
                [*prefix, *test], env=command()[1], cwd="/", capture_output=True, text=True
            ).stdout
            for prefix in ((), AS_A_USER)
        ]
        if places[0] and places[0] == places[1]:
            return python
    pytest.skip(f"no Python {version} here that users other than root can read")


FORK_BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
AS_A_USER = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")


@pytest.fixture
def open_folder():
    """A folder that belongs to another user, unlike pytest's, which only this one can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def grade_apart(python, prefix, folder, expected, submissions, **options):
    """Grade submissions under another Python and perhaps another user."""
    own = shutil.copytree(expected, folder / "expected")
    own.chmod(0o700)
    requests = [
        {
            "submission": str(write_submission(folder / str(number), files)),
            "expected": str(own),
            "cases": [*QUICK.values()],
            **options,
        }
        for number, files in enumerate(submissions)
    ]
    if prefix:
        for path in (own, *own.iterdir()):
            os.chown(path, 1234, 1234)
    line, environment = command(python, prefix)
    run = subprocess.run(
        [*line, json.dumps(requests)], env=environment, cwd="/", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [read(answer) for answer in json.loads(run.stdout)]


def test_as_root_a_submission_reads_and_kills_nothing_of_the_grader(
    public_python, expected, open_folder, notebook
):
    secret = open_folder / "expected" / f"{QUICK['mlp.py']}.npz"
    stand_ins = open_folder / "expected" / engine.STAND_INS
    aims = [
        f"open({str(secret)!r}, 'rb')",
        f"open({str(stand_ins)!r})",
        f"os.listdir({str(secret.parent)!r})",
        f"os.rename({str(secret.parent)!r}, '/tmp/elsewhere')",
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
        "open(f'/proc/{os.getppid()}/environ')",
        "os.listdir(f'/proc/{os.getppid()}/fd')",
        "os.kill(os.getppid(), 9)",
        "os.killpg(os.getpgid(os.getppid()), 9)",
        f"open({str(ROOT / 'mlp.py')!r}, 'a')",
        "os.setuid(0)",
        "open('/etc/passwd', 'a')",
        "open(__file__, 'a')",
    ]
    lines = ["import os", "answers = []"]
    for aim in aims:
        lines += ["try:", f"    {aim}", "    answers.append('no')"]
        lines += ["except PermissionError:", "    answers.append('denied')"]
    lines += ["raise ValueError(' '.join(answers))"]
    [attack, right] = grade_apart(
        public_python, (), open_folder, expected, [{"mlp.py": in_forward("\n".join(lines))}, {}]
    )
    assert " ".join(["denied"] * len(aims)) in attack.message(QUICK["mlp.py"])
    assert attack.passed == set(QUICK.values()) - {QUICK["mlp.py"]}
    assert right.passed == set(QUICK.values())
    assert not any("files" in gap for gap in right.results["extra_data"]["not_isolated"])


def test_an_ordinary_user_can_grade_and_reads_what_is_not_isolated(
    public_python, expected, open_folder
):
    submissions = [
        {},
        {"mlp.py": in_forward(f"{PARENT_KILLED.strip()}\n{WRONG}")},
        {"mlp.py": in_forward(FORK_BOMB)},
        {"mlp.py": in_forward(GRADER_REPLACED.strip() + "\n" + WRONG)},
    ]
    results = grade_apart(public_python, AS_A_USER, open_folder, expected, submissions, **SHORT)
    assert results[0].passed == set(QUICK.values())
    gaps = results[0].results["extra_data"]["not_isolated"]
    assert "submissions run as you: they can read your files and stop the grader" in gaps
    assert "run as you" in results[0].table
    for result in results[1:]:
        assert result.passed == set(QUICK.values()) - {QUICK["mlp.py"]}
    assert "was killed from within" in results[1].message(QUICK["mlp.py"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_explained(graded, tmp_path):
    folder = write_submission(tmp_path / "submission", {})
    (folder / "mlp.py").chmod(0)
    result = graded({"mlp.py": None}, *QUICK.values())
    assert "mlp.py cannot be read" in result.results["output"]


@pytest.fixture
def gradescope(autograder, open_folder):
    """The folder as Gradescope lays it out, with a submission of the solution."""
    with zipfile.ZipFile(autograder) as archive:
        archive.extractall(open_folder / "source")
    shutil.copy(open_folder / "source" / "run_autograder", open_folder)
    write_submission(open_folder / "submission", {})
    (open_folder / "results").mkdir()
    return open_folder


def run_autograder(folder, python, prefix=()):
    """Run it as Gradescope does, and return results.json and the seconds that it took.

    Read all the while: it is whole at every moment.
    """
    programs = folder / "bin"
    programs.mkdir()
    wrapper = programs / "python3"
    paths = sysconfig.get_path("purelib")
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={paths} OMP_NUM_THREADS=1 exec {python} "$@"\n')
    wrapper.chmod(0o755)
    if prefix:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 1234, 1234)
    path = folder / "results" / "results.json"
    scores = []
    with subprocess.Popen(
        [*prefix, "bash", "run_autograder"],
        cwd=folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while process.poll() is None:
            time.sleep(0.02)
            if path.exists():
                results = json.loads(path.read_text())
                assert is_whole(results)
                scores.append(sum(test["score"] for test in results["tests"]))
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert scores[0] < POINTS and scores == sorted(scores)
    return json.loads(path.read_text()), output


def check_full_marks(results):
    """Check the keys that Gradescope documents, and 45 of 45."""
    assert is_whole(results)
    assert set(results) == {
        *("tests", "output", "output_format", "visibility", "stdout_visibility"),
        *("execution_time", "extra_data"),
    }
    for test in results["tests"]:
        assert set(test) == {
            *("name", "number", "score", "max_score", "status", "output", "output_format"),
            *("visibility", "tags"),
        }
        assert test["score"] == test["max_score"] and test["status"] == "passed", test
        assert test["visibility"] in ("visible", "after_published")
    assert len({test["number"] for test in results["tests"]}) == NUMBER_OF_CASES
    assert results["output"] == ""
    assert isinstance(results["execution_time"], int)


def test_the_zip_grades_as_root(gradescope):
    if os.geteuid() != 0:
        pytest.skip("this user is not root")
    results, output = run_autograder(gradescope, sys.executable)
    check_full_marks(results)
    assert "45 of 45 points" in output
    assert (gradescope / "source").stat().st_mode & 0o077 == 0


def test_the_zip_grades_as_an_ordinary_user(gradescope, request):
    if os.geteuid() == 0:
        python, prefix = request.getfixturevalue("public_python"), AS_A_USER
    else:
        python, prefix = sys.executable, ()
    check_full_marks(run_autograder(gradescope, python, prefix)[0])


def test_the_zip_holds_no_solution_and_its_scripts_are_sound(autograder, tmp_path):
    with zipfile.ZipFile(autograder) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
        archive.extractall(tmp_path)
    assert not {Path(name).name for name in names} & set(SOLUTION)
    assert {"setup.sh", "run_autograder", "requirements.txt", "grader/__main__.py"} <= names
    assert sum(name.endswith(".npz") for name in names) == NUMBER_OF_CASES
    for script in ("setup.sh", "run_autograder"):
        assert modes[script] == 0o755
        text = (tmp_path / script).read_text()
        assert "ASSIGNMENT" not in text and "\r" not in text
        subprocess.run(["bash", "-n", tmp_path / script], check=True)


def test_the_zip_is_the_same_twice(tmp_path):
    cases = ("linear_is_the_affine_map", "new_mlp_is_glorot_normal")
    for name in ("a.zip", "b.zip"):
        workers().submit(build_autograder, str(tmp_path / name), cases).result()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


# ----------------------------------------------------------------------- the command line


def run_grader(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "grader", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("grade cifar100 .", "there is no assignment 'cifar100'; choose from cifar10"),
        ("grade cifar10 no/such/folder", "no/such/folder is neither a folder nor a zip archive"),
        ("grade cifar10 mlp.py", "mlp.py is neither a folder nor a zip archive"),
        ("grade cifar10 . --jobs 0", "--jobs: '0' is not a whole number of 1 or more"),
        ("grade cifar10 . . --results r.json", "--results is for one submission"),
        ("grade cifar10 . --expected no/such", "--expected: no/such is not a folder"),
        ("grade cifar10 . --csv no/such/marks.csv", "--csv: no/such is not a folder"),
        ("grade cifar10", "SUBMISSION"),
        ("grade cifar10 . --points 3", "--points"),
        ("", "COMMAND"),
        ("marks cifar10", "'marks'"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line_and_status_2(arguments, words, capsys):
    try:
        status = command_line.main(arguments.split())
    except SystemExit as exit:  # argparse ends the program itself
        status = exit.code
    output = capsys.readouterr()
    assert status == 2 and output.out == ""
    assert output.err.startswith("python -m grader") and output.err.count("\n") == 1
    assert words in output.err


def test_full_marks_are_status_0_and_the_table_is_80_columns_wide(expected, tmp_path):
    write_submission(tmp_path / "right", {})
    run = run_grader("grade", "cifar10", tmp_path / "right", "--expected", expected)
    assert run.returncode == 0, run.stdout
    assert run.stdout.count(" ok ") == NUMBER_OF_CASES
    assert "45 of 45 points" in run.stdout
    assert max(map(len, run.stdout.splitlines())) == 80  # the rule below the cases


def test_many_folders_become_a_csv_file_and_status_1(expected, tmp_path):
    for name in ("anna", "börje", "carl", "dora"):
        write_submission(tmp_path / name, dict.fromkeys(SOLUTION))
    (tmp_path / "börje" / "mlp.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "carl" / "utils.py").write_text(SOLUTION["utils.py"])
    folders = [tmp_path / name for name in ("dora", "carl", "börje", "anna")]
    path = tmp_path / "marks.csv"
    options = ("--jobs", 2, "--csv", path, "--expected", expected)
    run = run_grader("grade", "cifar10", *folders, *options)
    assert run.returncode == 1, run.stderr
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["submission"]).name for row in rows] == ["anna", "börje", "carl", "dora"]
    assert [float(row["score"]) for row in rows] == [0, 0, 5, 0]
    assert [float(row["problem 4.1"]) for row in rows] == [0, 0, 5, 0]
    assert {row["staff errors"] for row in rows} == {"0"}
    assert "mlp.py is missing." in rows[0]["notes"]
    assert sum(" " in key and key[0].isdigit() for key in rows[0]) == NUMBER_OF_CASES


def test_a_grader_that_is_killed_leaves_a_whole_file(expected, tmp_path):
    write_submission(tmp_path / "right", {})
    path = tmp_path / "results.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "grader", "grade", "cifar10", tmp_path / "right"),
            *("--expected", expected, "--results", path),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not path.exists() or '"status": "passed"' not in path.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    results = json.loads(path.read_text())
    assert is_whole(results)
    assert 0 < sum(test["score"] for test in results["tests"]) < POINTS
