"""A run knows the code that made it: which changes of a file count, and which do not."""

import sys
from types import ModuleType

import pytest

from training.source import hash_source

from conftest import ROOT

ROOTS = {
    "mlp.py": "MLP",
    "resnet18.py": "ResNet18",
    "mlpmixer.py": "MLPMixer",
    "utils.py": "cross_entropy_loss",
}
CLASS = "\n\nclass MLP"

# A file, a part of it, and what replaces it. These may change the weights.
CHANGES = {
    "a sign": ("mlp.py", "linear(input, self.weight", "linear(input, -self.weight"),
    "a constant": ("mlp.py", '("relu", "tanh", "sigmoid")', '("relu", "tanh")'),
    "a base class": ("mlp.py", "class MLP(nn.Module)", "class MLP(nn.Sequential)"),
    "a method that is replaced": ("mlp.py", CLASS, f"\n\nLinear.forward = len{CLASS}"),
    "a seed": ("mlp.py", CLASS, f"\n\ntorch.manual_seed(1){CLASS}"),
    "an import": ("mlp.py", "import Tensor, nn", "import Tensor, fx as nn"),
    "an import of everything": ("mlp.py", "import math\n", "import math\nfrom json import *\n"),
    "what forward uses": ("mlp.py", "torch.relu(inputs)", "torch.relu(-inputs)"),
    "what PyTorch calls": ("mlp.py", 'return f"in_features', 'return f"weights'),
    "a function of the file": ("mlpmixer.py", "if size < 1:", "if size < 2:"),
    "a block": ("resnet18.py", "out + self.shortcut(x)", "out - self.shortcut(x)"),
    "the loss": ("utils.py", "log_normalizer - target", "target - log_normalizer"),
    "what the loss uses": ("utils.py", "logits.numel() == 0", "logits.numel() < 2"),
}
DRAWING = '''
    def visualize(self, logdir):
        """Draw the kernels."""
        sheet(self._kernels(), self.forward(None), plt)

    def _kernels(self):
        return self._first().detach()

    def _first(self):
        return self.hidden_layers[0].weight

    def activation_fn'''
PROGRAM = "\n\nif __name__ == '__main__':\n    print(MLP(1, [1], 1))"
NO_CHANGES = {
    "a comment": ("mlp.py", "# One kernel;", "# A single kernel;"),
    "a docstring": ("mlp.py", '"""Map (..., in_features)', '"""Return (..., in_features)'),
    "a docstring less": ("mlp.py", '"""Map (..., in_features) to (..., out_features)."""', ""),
    "quotes": ("mlp.py", '"relu"', "'relu'"),
    "brackets and lines": (
        "mlp.py",
        "= 1 / math.sqrt(in_features)",
        "= (1 /\n math.sqrt(in_features))",
    ),
    "an import for a drawing": ("mlp.py", "import math\n", "import json\nimport math\n"),
    "a drawing": ("mlp.py", "\n    def activation_fn", DRAWING),
    "a function for a drawing": ("mlp.py", CLASS, f"\n\ndef sheet(*a):\n    pass{CLASS}"),
    "a style for a drawing": ("mlp.py", CLASS, f"\n\nplt.rc()\nplt.rcParams['dpi'] = 80{CLASS}"),
    "what runs as a program": ("mlp.py", CLASS, PROGRAM + CLASS),
    "the figure of the mixer": ("mlpmixer.py", "quantile(0.99)", "quantile(0.9)"),
    "the figure of ResNet18": ("resnet18.py", "kernels.abs().max()", "kernels.abs().amax()"),
    "the figures of several runs": ("utils.py", '"epoch"', '"epochs"'),
    "the accuracy": ("utils.py", "logits.argmax(dim=1)", "logits.argmin(dim=1)"),
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """A function that returns the hash of a file with a part of it replaced."""

    def digest_with(name, old="", new=""):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new), encoding="utf-8")
        module = ModuleType("changed")
        module.__file__ = str(tmp_path / name)
        monkeypatch.setitem(sys.modules, "changed", module)
        return hash_source(type(ROOTS[name], (), {"__module__": "changed"}))[name]

    return digest_with


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_may_change_the_weights_changes_the_hash(change, digest):
    name, old, new = CHANGES[change]
    assert digest(name, old, new) != digest(name)


@pytest.mark.parametrize("change", NO_CHANGES)
def test_a_change_that_cannot_change_the_weights_leaves_the_hash_as_it_is(change, digest):
    name, old, new = NO_CHANGES[change]
    assert digest(name, old, new) == digest(name)


def test_the_hash_is_that_of_the_code_that_was_loaded(digest, tmp_path):
    """A notebook keeps a class that it has loaded, whatever is written into its file."""
    path = tmp_path / "mlp.py"
    digest("mlp.py")
    network = type("MLP", (), {"__module__": "changed"})
    before = hash_source(network)
    path.write_text(path.read_text().replace("torch.relu", "torch.tanh"))
    assert hash_source(network) == before
    assert hash_source(type("MLP", (), {"__module__": "changed"})) != before


def test_the_hash_is_the_same_in_every_version_of_python(digest, tmp_path):
    """Syntax trees differ between versions; this one was hashed with Python 3.10, 3.12 and 3.13."""
    digest("mlp.py")
    method = 'def f(self, b=u"x"):\n        return f"{b!r:>5}" "c"'
    (tmp_path / "mlp.py").write_text(f'class MLP:\n    """A text."""\n\n    {method}\n')
    found = hash_source(type("MLP", (), {"__module__": "changed"}))["mlp.py"]
    assert found.startswith("9c190aa2bc2bc3e3")


def test_a_class_of_a_notebook_has_no_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))
    assert hash_source(type("MLP", (), {"__module__": "notebook"})) == {}
