"""What holds for all three models, and for the four files that students submit."""

import ast
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from mlp import MLP, Linear
from mlpmixer import MixerBlock, Mlp, PatchEmbed
from resnet18 import ResNet18

from oracles import (
    LINEAR,
    MODELS,
    PARAMETERS,
    ROOT,
    agree,
    configured,
    count_parameters,
    draw,
    mixer,
)


@pytest.mark.parametrize("name", MODELS)
def test_the_configured_model_has_the_published_number_of_parameters(name):
    assert count_parameters(configured(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_receives_a_gradient(name):
    model = configured(name)
    images = draw(4, 3, 32, 32, dtype=torch.float32)
    nn.functional.cross_entropy(model(images), torch.tensor([0, 3, 5, 9])).backward()
    without = [
        parameter
        for parameter, tensor in model.named_parameters()
        if tensor.grad is None or not tensor.grad.any() or not tensor.grad.isfinite().all()
    ]
    assert without == []


@pytest.mark.parametrize("name", MODELS)
def test_logits_have_one_row_an_image_and_images_do_not_mix_in_evaluation(name):
    model = configured(name).double().eval()
    images = draw(3, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (3, 10) and logits.dtype == torch.float64
        for index in range(3):
            agree(model(images[index : index + 1]), logits[index : index + 1], f"image {index}")


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_memory_gives_the_same_logits(name):
    model = configured(name).double().eval()
    images = draw(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        images = images.to(memory_format=torch.channels_last)
        agree(model(images), expected, "channels_last images")
        model.to(memory_format=torch.channels_last)
        agree(model(images), expected, "channels_last images and weights")


@pytest.mark.parametrize("name", MODELS)
def test_forward_leaves_the_images_unchanged(name):
    images = draw(2, 3, 32, 32, dtype=torch.float32)
    before = images.clone()
    configured(name)(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", MODELS)
def test_float32_and_float64_give_the_same_logits(name):
    """The float32 logits carry rounding of about 1e-6; 1e-4 leaves room for 20 layers."""
    model = configured(name).eval()
    images = draw(2, 3, 32, 32)
    with torch.no_grad():
        single = model(images.float())
        double = model.double()(images)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_builds_the_same_model(name):
    first, second = configured(name).state_dict(), configured(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


NORM = (*LINEAR, "running_mean", "running_var", "num_batches_tracked")


def keys_of(name: str) -> set[str]:
    """Return the state dict keys that follow from the names in the public interface."""
    if name == "mlp":
        layers = [*(f"hidden_layers.{index}" for index in range(4)), "output_layer"]
        return {f"{layer}.{tensor}" for layer in layers for tensor in LINEAR}
    if name == "resnet18":
        keys = {"conv1.weight", *(f"bn1.{tensor}" for tensor in NORM)}
        keys |= {f"linear.{tensor}" for tensor in LINEAR}
        for layer in (f"layer{number}.{block}" for number in (1, 2, 3, 4) for block in (0, 1)):
            for number in (1, 2):
                keys |= {f"{layer}.conv{number}.weight"}
                keys |= {f"{layer}.bn{number}.{tensor}" for tensor in NORM}
        for layer in ("layer2.0", "layer3.0", "layer4.0"):
            keys |= {f"{layer}.shortcut.0.weight"}
            keys |= {f"{layer}.shortcut.1.{tensor}" for tensor in NORM}
        return keys
    parts = ("norm1", "mlp_tokens.fc1", "mlp_tokens.fc2")
    parts += ("norm2", "mlp_channels.fc1", "mlp_channels.fc2")
    layers = [f"blocks.{index}.{part}" for index in range(4) for part in parts]
    return {f"{layer}.{t}" for layer in ("patchemb.proj", "norm", "head", *layers) for t in LINEAR}


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_keys_are_those_of_the_public_interface(name):
    assert set(configured(name).state_dict()) == keys_of(name)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Linear(0, 3), ["in_features is 0", "at least 1"]),
        (lambda: Linear(3, -1), ["out_features is -1", "at least 1"]),
        (lambda: MLP(12, [], 10), ["hidden_sizes is empty", "one hidden layer or more"]),
        (lambda: MLP(0, [4], 10), ["input_size", "value 0", "at least 1"]),
        (lambda: MLP(12, [4, 0], 10), ["hidden_sizes", "value 0", "at least 1"]),
        (lambda: MLP(12, [4], 0), ["num_classes", "value 0", "at least 1"]),
        (lambda: MLP(12, [4], 10, "gelu"), ["activation is 'gelu'", "relu, tanh, sigmoid"]),
        (
            lambda: MLP(12, [4], 10).activation_fn("elu", torch.zeros(1)),
            ["activation is 'elu'", "relu, tanh, sigmoid"],
        ),
        (lambda: ResNet18(0), ["num_classes is 0", "at least 1"]),
        (lambda: PatchEmbed(32, 5), ["patch_size is 5", "img_size, 32", "from 1, 2, 4, 8, 16, 32"]),
        (lambda: PatchEmbed(32, 0), ["patch_size is 0", "img_size, 32", "1, 2, 4, 8, 16, 32"]),
        (lambda: PatchEmbed(32, 64), ["patch_size is 64", "img_size, 32", "1, 2, 4, 8, 16, 32"]),
        (lambda: PatchEmbed(0, 4), ["img_size is 0", "at least 1"]),
        (lambda: PatchEmbed(32, 4, in_chans=0), ["in_chans is 0", "at least 1"]),
        (lambda: PatchEmbed(32, 4, embed_dim=0), ["embed_dim is 0", "at least 1"]),
        (lambda: Mlp(0, 4), ["in_features is 0", "at least 1"]),
        (lambda: Mlp(4, 0), ["hidden_features is 0", "at least 1"]),
        (lambda: Mlp(4, 4, drop=1.0), ["drop is 1.0", "at least 0 and less than 1"]),
        (lambda: MixerBlock(0, 4), ["dim is 0", "at least 1"]),
        (lambda: MixerBlock(4, 0), ["seq_len is 0", "at least 1"]),
        (lambda: MixerBlock(4, 4, activation="tanh"), ["activation is 'tanh'", "gelu, relu"]),
        (lambda: MixerBlock(4, 4, drop_path=1.0), ["drop_path is 1.0", "less than 1"]),
        (lambda: MixerBlock(4, 4, drop_path=math.nan), ["drop_path is nan", "less than 1"]),
        (lambda: MixerBlock(4, 4, drop=-0.1), ["drop is -0.1", "at least 0"]),
        (lambda: MixerBlock(1, 4), ["tokens_mlp_dim is 0", "at least 1"]),
        (lambda: MixerBlock(4, 4, mlp_ratio=(0.5, 0.1)), ["channels_mlp_dim is 0", "at least 1"]),
        (lambda: mixer(patch_size=5), ["patch_size is 5", "img_size, 32", "1, 2, 4, 8, 16, 32"]),
        (lambda: mixer(activation="swish"), ["activation is 'swish'", "gelu, relu"]),
        (lambda: mixer(num_classes=0), ["num_classes is 0", "at least 1"]),
        (lambda: mixer(img_size=0), ["img_size is 0", "at least 1"]),
        (lambda: mixer(embed_dim=0), ["embed_dim is 0", "at least 1"]),
        (lambda: mixer(num_blocks=0), ["num_blocks is 0", "at least 1"]),
        (lambda: mixer(tokens_mlp_dim=0), ["tokens_mlp_dim is 0", "at least 1"]),
        (lambda: mixer(channels_mlp_dim=-3), ["channels_mlp_dim is -3", "at least 1"]),
        (lambda: mixer(drop_rate=1.0), ["drop_rate is 1.0", "at least 0 and less than 1"]),
        (lambda: mixer(drop_rate=-0.5), ["drop_rate is -0.5", "at least 0 and less than 1"]),
        (lambda: mixer(drop_path_rate=1.5), ["drop_path_rate is 1.5", "less than 1"]),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_is_allowed(build, words):
    with pytest.raises(ValueError) as caught:
        build()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("build", "shape", "words"),
    [
        (
            lambda: MLP(3072, [4], 10),
            (2, 3, 16, 16),
            ["(2, 3, 16, 16)", "768", "input_size is 3072"],
        ),
        (mixer, (2, 3, 16, 16), ["16 x 16", "img_size is 32"]),
        (mixer, (2, 3, 64, 64), ["64 x 64", "img_size is 32"]),
        (mixer, (2, 3, 32, 16), ["32 x 16", "img_size is 32"]),
        (mixer, (2, 3, 16, 32), ["16 x 32", "img_size is 32"]),
    ],
    ids=["mlp", "mixer-small", "mixer-large", "mixer-narrow", "mixer-flat"],
)
def test_an_image_of_the_wrong_size_is_refused_in_forward(build, shape, words):
    model = build()
    with pytest.raises(ValueError) as caught:
        model(torch.zeros(shape))
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


SUBMITTED = ("mlp", "resnet18", "mlpmixer", "utils")
IMPORT_AND_WATCH = """
import importlib, random, sys
import numpy, torch, matplotlib
def state():
    # Reading the backend from rcParams would make matplotlib choose one.
    settings = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
    draws = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return settings, draws, torch.get_default_dtype(), torch.is_grad_enabled()
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert state() == before, f"importing {name} changed a global state"
    assert "matplotlib.pyplot" not in sys.modules, f"{name} imports pyplot: it may open windows"
    assert "torchvision" not in sys.modules, f"{name} imports torchvision"
    others = {"mlp", "resnet18", "mlpmixer", "utils", "data", "config", "main"} - {name}
    assert not others & sys.modules.keys(), f"{name} imports another file of the project"
    del sys.modules[name]
"""


def test_importing_a_file_in_a_fresh_interpreter_does_nothing_visible(tmp_path):
    """One interpreter for all four, as starting one takes seconds; the message names the file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_WATCH, *SUBMITTED],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", SUBMITTED)
def test_a_file_imports_only_torch_numpy_matplotlib_and_the_standard_library(module):
    """Import statements anywhere in the file, also in functions."""
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            imported.add(node.module)
    allowed = {"torch", "numpy", "matplotlib", *sys.stdlib_module_names}
    assert {name for name in imported if name.split(".")[0] not in allowed} == set()
    assert "matplotlib.pyplot" not in imported
