"""Forbidden built-ins: what is found in the text, and what is refused as it runs.

The operations run in this process: a watch leaves nothing behind.
"""

import sys
import threading
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from grader.cifar10.cases import OWN_LINEAR, OWN_LOSS
from grader.forbidden import Forbidden, find, in_graph, watch

from grading import SOLUTION, edit

LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]], requires_grad=True)
LABELS = torch.tensor([1, 0])
HERE = Path(__file__).parent


def one_hot():
    return F.one_hot(LABELS, 3).float()


def in_a_thread():
    thread = threading.Thread(target=F.cross_entropy, args=(LOGITS, LABELS))
    thread.start()
    thread.join()


def without_modes():
    with _disable_current_modes():
        F.cross_entropy(LOGITS, one_hot())


class FromModule(nn.CrossEntropyLoss):
    def __init__(self):
        nn.Module.__init__(self)


LOSSES = {
    "cross_entropy": lambda: F.cross_entropy(LOGITS, LABELS),
    "one-hot targets": lambda: F.cross_entropy(LOGITS, one_hot()),
    "a composed name": lambda: getattr(F, "cross_" + "entropy")(LOGITS, LABELS),
    "a name kept in __dict__": lambda: F.__dict__["nll" + "_loss"](LOGITS, LABELS),
    "a class": lambda: nn.CrossEntropyLoss(),
    "the operation of a class": lambda: torch.ops.aten.cross_entropy_loss(LOGITS, LABELS),
    "the operation below it": lambda: torch.ops.aten.nll_loss_forward(
        LOGITS, LABELS, None, 1, -100
    ),
    "images": lambda: F.nll_loss(LOGITS[:, :, None, None], LABELS[:, None, None]),
    "another thread": in_a_thread,
    "modes disabled": without_modes,
    "the device meta": lambda: F.cross_entropy(LOGITS.to("meta"), LABELS.to("meta")),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("how", LOSSES)
def test_torchs_own_loss_is_refused_as_it_runs(how):
    with watch(OWN_LOSS, HERE) as seen:
        caught = nullcontext() if how == "another thread" else pytest.raises(RuntimeError)
        with caught:
            LOSSES[how]()
    assert seen and seen[0].startswith("test_forbidden.py, line ")
    assert seen[0].endswith("; expected your own code")
    assert any(f" uses {name};" in seen[0] for name in OWN_LOSS.names)


def test_a_refusal_that_the_code_catches_is_seen_all_the_same():
    with watch(OWN_LOSS, HERE) as seen, suppress(RuntimeError):
        F.nll_loss(LOGITS, LABELS)
    assert "uses F.nll_loss" in seen[0]


@pytest.mark.parametrize("build", [nn.Linear, nn.LazyLinear, getattr(nn, "Lin" + "ear")])
def test_torchs_own_linear_is_refused_as_it_is_built(build):
    with watch(OWN_LINEAR, HERE) as seen, pytest.raises(RuntimeError):
        build(*(3, 2)[build is nn.LazyLinear :])
    assert " uses nn.L" in seen[0]


def test_a_layer_built_before_is_refused_as_it_is_applied():
    layer = nn.Linear(3, 2)
    with watch(OWN_LINEAR, HERE) as seen, pytest.raises(RuntimeError):
        layer(LOGITS)
    assert "uses nn.Linear" in seen[0]


def test_what_the_sheet_allows_is_not_refused():
    with watch(OWN_LOSS, HERE) as seen:
        loss = -(F.log_softmax(LOGITS, 1) * one_hot()).sum(1).mean()
        loss = loss + (torch.logsumexp(LOGITS, 1) - LOGITS[[0, 1], LABELS]).mean()
        loss.backward()
    with watch(OWN_LINEAR, HERE) as more:
        F.linear(LOGITS, torch.ones(2, 3), torch.ones(2))
        nn.init.xavier_normal_(nn.Parameter(torch.empty(2, 3)))
    assert seen == more == []


def test_nothing_is_refused_after_the_watch():
    before = F.cross_entropy(LOGITS, LABELS)
    for _ in range(3):
        for forbidden in (OWN_LOSS, OWN_LINEAR, Forbidden("f", ("torch",))):
            with watch(forbidden, HERE):
                pass
    assert torch.equal(F.cross_entropy(LOGITS, LABELS), before)
    assert nn.CrossEntropyLoss()(LOGITS, LABELS) == before
    assert nn.Linear(3, 2)(LOGITS).shape == (2, 2)


@pytest.mark.parametrize("compute", [lambda: LOGITS + 1, in_a_thread, without_modes])
def test_every_operation_of_torch_is_seen_in_every_thread(compute):
    with watch(Forbidden("f", ("torch",)), HERE) as seen:
        compute()
    assert len(seen) == 1 and seen[0].endswith("; expected NumPy alone")


def test_numpy_is_not_torch():
    array = LOGITS.detach().numpy()
    with watch(Forbidden("f", ("torch",)), HERE) as seen:
        (array @ array.T).sum()
    assert seen == []


def test_the_graph_of_a_loss_shows_what_computed_it():
    loss = 2 * F.cross_entropy(LOGITS, LABELS) + 1
    assert in_graph(loss, OWN_LOSS) == "F.nll_loss"
    assert in_graph(-F.log_softmax(LOGITS, 1)[0, 1], OWN_LOSS) == ""
    assert in_graph(loss.detach(), OWN_LOSS) == ""


# ------------------------------------------------------------------------------ in the text


@pytest.fixture
def search(tmp_path):
    """A function that searches the loss of a submission."""

    def search(text, forbidden=OWN_LOSS, **others):
        for name, content in {"utils": text, **others}.items():
            (tmp_path / f"{name}.py").write_text(content)
        return find(tmp_path, "utils.py", forbidden)

    return search


HEAD = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
LOSS = "def cross_entropy_loss(logits, labels):\n    return "


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (
            "from mlp import helper\n" + LOSS + "helper(logits)",
            "def helper(x):\n    return F.nll_loss(x)",
        ),
        ("import mlp\n" + LOSS + "mlp.helper(logits)", "def helper(x):\n    return F.nll_loss(x)"),
        ("import mlp as m\n" + LOSS + "m.helper(1)", "helper = lambda x: F.nll_loss(x)"),
        (
            "from mlp import *\n" + LOSS + "helper(logits)",
            "def helper(x):\n    return F.nll_loss(x)",
        ),
    ],
)
def test_a_helper_in_another_file_is_followed(search, own, other):
    found = search(own, mlp=HEAD + other)
    assert found.startswith("mlp.py, line ") and "uses F.nll_loss" in found


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (
            "from mlp import ce\n" + LOSS + "ce(logits)",
            "from torch.nn.functional import nll_loss as ce",
        ),
        ("import mlp\n" + LOSS + "mlp.F.nll_loss(logits)", ""),
        ("from mlp import F as G\n" + LOSS + "G.nll_loss(logits)", ""),
    ],
)
def test_a_name_that_another_file_imports_is_followed(search, own, other):
    assert (
        search(own, mlp=HEAD + other) == "utils.py, line 3 uses F.nll_loss; expected your own code"
    )


@pytest.mark.parametrize(
    "text",
    [
        LOSS + "self_made(logits)\n\ndef unrelated(x, y):\n    return F.cross_entropy(x, y)\n",
        "class Own:\n    def cross_entropy(self, x):\n        return x\n\n"
        + LOSS
        + "Own().cross_entropy(1)",
        LOSS + "logits.nll_loss\n",
        "def nll_loss(x):\n    return x\n\n" + LOSS + "nll_loss(logits)",
        LOSS + "'F.cross_entropy is not used'",
        "import utils\n" + LOSS + "utils.nll_loss(logits)",
        LOSS + "F.log_softmax(logits, 1), F.one_hot(labels), torch.logsumexp(logits, 1)",
    ],
)
def test_what_the_loss_does_not_use_or_students_named_costs_nothing(search, text):
    assert search(HEAD + text) == ""


def test_a_layer_of_another_model_costs_nothing(search):
    text = HEAD + "class Linear(nn.Module):\n    pass\n\nclass Net:\n    layer = nn.Linear(2, 2)\n"
    assert search(text, OWN_LINEAR) == ""


def test_files_that_import_each_other_are_searched_once(search):
    found = search(
        "from mlp import *\nfrom mlp import a\n" + LOSS + "a(1), b(2)",
        mlp="from utils import *\nfrom utils import a",
    )
    assert found == ""


def test_each_statement_is_visited_once(search, monkeypatch):
    """12,000 lambdas under one "if" took 159 s when each name led through all of them."""
    visits = []
    from grader import forbidden

    walk = forbidden._walk
    monkeypatch.setattr(forbidden, "_walk", lambda tree: (visits.append(1), walk(tree))[1])
    lambdas = "".join(f"    f{i} = lambda x: f{i + 1}(x)\n" for i in range(300))
    search("if True:\n" + lambdas + LOSS + "f0(logits)")
    assert len(visits) == 301


# ------------------------------------------------------------------------------ graded

HIDDEN = {
    "a thread": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def cross_entropy_loss(logits, labels):\n"
        "    with ThreadPoolExecutor(1) as pool:\n"
        '        return pool.submit(getattr(F, "cross_" + "entropy"), logits, labels).result()'
    ),
    "a tensor that computes later": (
        "def cross_entropy_loss(logits, labels):\n"
        "    class Later(torch.Tensor):\n"
        "        pass\n"
        '    name = "nll_" + "loss"\n'
        "    return getattr(F, name)(F.log_softmax(logits, 1), labels).as_subclass(Later)"
    ),
    "a part of another file": (
        "import mlp\n"
        "def cross_entropy_loss(logits, labels):\n"
        '    return vars(mlp)["kept"](logits, F.one_hot(labels, logits.shape[1]).to(logits))'
    ),
    "modes disabled": (
        "from torch.utils._python_dispatch import _disable_current_modes\n"
        "def cross_entropy_loss(logits, labels):\n"
        "    with _disable_current_modes():\n"
        '        return getattr(torch.ops.aten, "cross_entropy" + "_loss")(logits, labels)'
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
@pytest.mark.parametrize("how", HIDDEN)
def test_a_hidden_use_of_torchs_own_loss_scores_nothing(how, spoilt):
    text = edit(SOLUTION["utils.py"], ("def cross_entropy_loss(", "def former("))
    kept = 'import torch\nkept = getattr(torch.nn.functional, "cross_" + "entropy")\n'
    files = {"mlp.py": SOLUTION["mlp.py"] + kept}
    message = spoilt(
        "utils.py", f"{text}\n{HEAD}{HIDDEN[how]}\n", "loss_has_the_right_gradient", files=files
    )
    assert message.startswith("utils.py, line ") and message.endswith("; expected your own code")


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")
def test_torchs_own_functions_elsewhere_cost_nothing(graded):
    unrelated = (
        f"{HEAD}layer = nn.Linear(2, 2)\n"
        "history = F.cross_entropy(torch.ones(2, 2), torch.ones(2).long())\n"
    )
    unrelated += "def unrelated(x, y):\n    return nn.CrossEntropyLoss()(layer(x), y)\n"
    cases = {"loss_has_the_right_gradient", "linear_is_the_affine_map"}
    files = {name: f"{SOLUTION[name]}\n{unrelated}" for name in ("utils.py", "mlp.py")}
    assert graded(files, *cases).passed == cases
