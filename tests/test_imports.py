"""Submissions that import what the grader does not have, and exported notebooks."""

import json
import subprocess
import sys

import pytest

from grader.imports import read_answer

from grading import ROOT, SOLUTION, at_import

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no timers")

# Imports a file and calls its function f, in a process of its own.
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from grader.imports import Importer
importer = Importer(Path(sys.argv[2]), json.loads(sys.argv[3]))
module = importer.load("solution")
try:
    said = repr(module.f()) if hasattr(module, "f") else ""
except Exception as error:
    said = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps([said, importer.notes, importer.left_out]))
"""


@pytest.fixture
def run(tmp_path):
    """A function that imports solution.py and returns what f says, the notes, what is left out."""

    def run(text, left_out=(), **others):
        for name, content in {"solution": text, **others}.items():
            (tmp_path / f"{name}.py").write_text(content)
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            str(ROOT),
            str(tmp_path),
            json.dumps(dict(left_out)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


ABSENT = """
import absent_a, absent_a.sub, absent_b.sub as b
from absent_c import x, y
from absent_c.sub import *
from absent_d import Base, decorate
import google.absent
import training.data, config
absent_a.set_theme(style="dark")
absent_a.options.width = 3
b.table["a"]["b"] = b.table["c"]
run = absent_a.init(project="x")
with absent_a.session() as session:
    session.log({})
@decorate
def one():
    return 1
@decorate(jit=True)
def two():
    return 2
class Mine(Base, dict):
    pass
def annotated(x: absent_a.Frame | None = None, y: list[absent_a.Frame] = ()):
    return isinstance(x, absent_a.Frame)
"""


def test_what_is_absent_can_be_imported_called_and_subclassed(run):
    said, notes, left_out = run(ABSENT + "def f():\n    return one() + two(), annotated()")
    assert said == "(3, False)"
    assert left_out == {"solution.py": []}
    (note,) = notes
    assert note.startswith("solution.py imports absent_a, absent_b, absent_c and ")
    assert note.endswith("This costs nothing unless a graded function uses it.")


def test_an_import_inside_a_function_and_a_call_without_a_result_cost_nothing(run):
    body = "import absent, absent.sub as s\n    from absent import x\n    x.log(1)\n    s.draw()"
    said, _, _ = run(f"def f():\n    {body}\n    return 1")
    assert said == "1"


@pytest.mark.parametrize(
    "use",
    [
        "absent.x(3) + 1",
        "1 * absent.x(3)",
        "[y for y in absent.x]",
        "float(absent.x())",
        "len(absent.x())",
        "1 if absent.x else 2",
        "absent.x(1) == 3",
        "range(absent.x)",
        "sub.deep.x(1) - 1",
        "name(1)[0].x / 2",
        "Mine()",
    ],
)
def test_a_value_of_what_is_absent_names_the_line(run, use):
    head = "import absent\nimport absent.sub as sub\nfrom absent import name\n"
    text = f"{head}class Mine(absent.Base): pass\ndef f():\n    return {use}\n"
    line = 4 if use == "Mine()" else 6
    said, _, _ = run(text)
    assert said == f"Missing: solution.py, line {line} uses absent, which is not on the grader"


def test_the_line_is_that_of_the_call_not_of_what_is_done_with_the_result(run):
    said, _, _ = run("import absent\ndef f():\n    y = absent.x(3)\n    z = 1\n    return y + z\n")
    assert "line 3 uses absent" in said


@pytest.mark.parametrize(
    "use",
    [
        "torch.ones(2) * absent.x(1)",
        "torch.relu(absent.x(1))",
        "torch.tensor(absent.x(1))",
        "torch.ones(2)[absent.x(1)]",
        "np.ones(2) + absent.x(1)",
        "np.exp(absent.x(1))",
        "np.asarray(absent.x(1))",
    ],
)
def test_torch_and_numpy_name_the_line_too(run, use):
    said, _, _ = run(f"import numpy as np, torch\nimport absent\ndef f():\n    return {use}\n")
    assert said == "Missing: solution.py, line 4 uses absent, which is not on the grader"


def test_an_import_that_the_file_guards_itself_fails(run):
    text = "try:\n    import absent\nexcept ImportError:\n    absent = None\n"
    text += "def f():\n    try:\n        from absent import x\n"
    text += "    except Exception:\n        return absent\n"
    assert run(text)[0] == "None"


def test_everything_imported_from_a_file_of_the_handout_has_the_names_that_are_used(run):
    text = "import math\nfrom data import *\ndef g(np): return np\n"
    text += "def f():\n    return np.ones(1).sum() + json.loads('1') + math.pi + g(1)\n"
    assert run(text)[0].startswith("np.float64(6.14") or run(text)[0].startswith("6.14")
    said, _, _ = run("from data import *\ndef f():\n    return load(1) + 1\n")
    assert said == "Missing: solution.py, line 3 uses data, which is not on the grader"


def test_an_own_file_of_the_submission_is_imported(run):
    said, notes, _ = run("from helper import g\nf = g\n", helper="def g():\n    return 5\n")
    assert (said, notes) == ("5", [])


def test_an_own_file_that_is_broken_costs_only_what_uses_it(run):
    said, _, _ = run("import helper\ndef f():\n    return 1\n", helper="def g(:\n")
    assert said == "1"
    said, _, _ = run("from helper import g\ndef f():\n    return g() + 1\n", helper="def g(:\n")
    assert said.endswith("uses helper, which cannot be imported (SyntaxError in helper.py, line 1)")


def test_a_name_that_a_package_lacks_is_missing_only_where_it_is_used(run):
    head = "from json import loads, absent\nimport json.absent\n"
    assert run(head + "def f():\n    return loads('1')\n")[0] == "1"
    said, _, _ = run(head + "def f():\n    return absent(1) + 1\n")
    assert said == "Missing: solution.py, line 4 uses json.absent, which is not on the grader"
    said, _, _ = run(head + "def f():\n    return json.absent.x(1) + json.loads('1')\n")
    assert "uses json.absent" in said


def test_a_library_still_sees_that_a_package_is_absent(run):
    """Stand-ins are for the submission: libraries ask for optional packages themselves."""
    text = "import absent, sys, importlib\n"
    text += "def f():\n    try:\n        importlib.import_module('absent')\n"
    text += "    except ImportError:\n        return 'absent' in sys.modules\n"
    assert run(text)[0] == "False"


def test_tqdm_in_a_notebook_is_that_of_a_terminal(run):
    text = "from tqdm.notebook import tqdm, trange\n"
    assert run(text + "def f():\n    return sum(tqdm([1, 2])) + len(trange(3))\n")[0] == "6"


# ------------------------------------------------------------------------------ notebooks

NOTEBOOK = '''# -*- coding: utf-8 -*-
"""Homework, exported."""
from __future__ import annotations
!pip install absent
%matplotlib inline
files = !ls
torch.nn?
get_ipython().system("pip install absent")
get_ipython().run_line_magic("matplotlib", "inline")
get_ipython().run_cell_magic("time", "", "def from_cell():\\n    return 7\\n")
print("hello")
STEP = 3
def g(x: Undefined) -> int:
    return STEP * x
display(g(1))
open("no such file.csv")
rows = undefined + 1
input("Name? ")
for epoch in range(3):
    train(epoch)
raise SystemExit(1)
while True:
    epoch += 1
def f():
    return g(2), from_cell(), __doc__
'''


def test_a_notebook_is_graded_by_its_functions(run):
    said, notes, left_out = run(NOTEBOOK)
    assert said == "(6, 7, 'Homework, exported.')"
    assert left_out == {"solution.py": [16, 17, 18, 19, 21, 22]}
    commands, rest = notes
    assert commands == "solution.py: the notebook's commands were left out, lines 4, 5, 6 and 7."
    assert rest.startswith("solution.py: code outside functions that fails here or takes too long ")
    assert "line 16 (FileNotFoundError: " in rest and rest.endswith(" and 3 more.")


def test_what_is_left_out_once_is_not_tried_again(run):
    said, notes, left_out = run("x = 1\nx = 2\ndef f():\n    return x\n", {"solution.py": [2]})
    assert (said, notes, left_out) == ("1", [], {"solution.py": [2]})


def test_training_that_swallows_every_error_is_left_out(run):
    """It never ends by itself; the next run leaves out all that no definition needs."""
    text = (
        "import os\nDEPTH = 2\nwidth = DEPTH + 1\nunused = os._exit\n"
        "def helper():\n    return width\n"
        "size = helper()\nclass A:\n    size = size\nA.more = 1\n"
        "if DEPTH:\n    size += 1\n"
        "try:\n    import absent\nexcept ImportError:\n    absent = 4\n"
        "os._exit(3)\n[os._exit(3) for _ in range(3)]\nwhile True:\n    os._exit(4)\n"
        "def f():\n    return A.size, A.more, size, absent\n"
    )
    said, notes, _ = run(text, {"solution.py": "all"})
    assert said == "(3, 1, 4, 4)"
    assert "neither a definition nor needed by one" in notes[0]


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"[]", b"{}", b"\xff", b"[" * 100_000),
        b'{"notes": 3, "left_out": {}}',
        b'{"notes": [], "left_out": [1]}',
        b'{"notes": [], "left_out": {"a": 3}}',
        b'{"notes": [], "left_out": {"a": [[]]}}',
    ],
)
def test_an_answer_that_student_code_has_forged_says_nothing(answer):
    assert read_answer(answer) == ([], {})


# ------------------------------------------------------------------------------ graded

IMPORTS = """
import torchvision, scipy, seaborn as sns, pandas as pd, wandb
import torchvision.transforms as T, scipy.special as special
from torchvision.utils import make_grid
from tqdm import tqdm
from tqdm.notebook import trange
from torch.utils.tensorboard import SummaryWriter
from sklearn.metrics import confusion_matrix
from einops import rearrange
from data import *
from config import Config
import main, training, training.data
import matplotlib.pyplot as plt
sns.set_theme(); tqdm.pandas(); wandb.init(project="x"); plt.style.use("seaborn"); plt.show()
transform = T.Compose([T.ToTensor()])
frame = pd.DataFrame({"a": [1]})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_imports_for_drawings_cost_nothing(graded):
    files = {name: at_import(IMPORTS, name) for name in SOLUTION}
    inside = "import scipy, seaborn, pandas\n        from data import get_loaders\n        "
    for name in ("mlp.py", "resnet18.py", "mlpmixer.py"):
        files[name] = files[name].replace(
            "        super().__init__()\n", f"        {inside}super().__init__()\n"
        )
    cases = (
        "linear_is_the_affine_map",
        "mlp_computes_its_logits",
        "block_adds_its_input",
        "mixer_has_the_right_gradients",
        "loss_has_the_right_gradient",
    )
    result = graded(files, *cases)
    assert result.passed == set(cases), result.table
    for name in SOLUTION:
        assert f"{name} imports " in result.results["output"]


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
@pytest.mark.parametrize(
    "end",
    [
        "import os\nos._exit(0)",
        "import ctypes\nctypes.string_at(0)",
        "import sys\nsys.exit(0)",
        "quit()",
        "input()",
        "raise KeyboardInterrupt",
        "class E(Exception):\n    def __str__(self):\n        raise self\nraise E",
        "while True:\n    pass",
    ],
)
def test_what_ends_or_stops_an_import_is_left_out(end, graded):
    result = graded({"mlp.py": SOLUTION["mlp.py"] + "\n" + end}, "linear_is_the_affine_map")
    assert result.passed == {"linear_is_the_affine_map"}
    assert "mlp.py: " in result.results["output"]


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_a_graded_function_that_needs_an_absent_package_names_the_line(spoilt):
    own = "return nn.functional.linear(input, self.weight, self.bias)"
    other = "return absent.linear(input, self.weight)"
    text = "import absent\n" + SOLUTION["mlp.py"].replace(own, other)
    line = next(n for n, row in enumerate(text.splitlines(), 1) if "absent.linear" in row)
    assert spoilt("mlp.py", text) == f"mlp.py, line {line} uses absent, which is not on the grader"
