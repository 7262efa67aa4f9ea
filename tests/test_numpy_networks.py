"""The NumPy networks against finite differences and PyTorch, ResNet-18 against torchvision's."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from grader.handout import make_handout
from grader.numpy_networks import manifest
from numpy_networks import figures, solution
from numpy_networks.solution import NN, Convolution2dLayer, MaxPooling2dLayer

from conftest import ROOT
from oracles import (
    agree,
    agree_forward_and_backward,
    agree_in_distribution,
    count_parameters,
    draw,
    normal_cdf,
    share_weights,
    stir,
    uniform_cdf,
)

SINGLE = {**os.environ, "OMP_NUM_THREADS": "1"}
ACTIVATIONS = ("relu", "sigmoid", "tanh")
NETWORKS = ((6, 5, 4), (6, 5, 7, 4), (6, 5, 7, 3, 4))


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=SINGLE,
        capture_output=True,
        text=True,
        timeout=120,
    )


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def difference(found, expected):
    """Return the largest difference, as a share of the largest expected number."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)


def slopes(function, x, step=1e-5):
    """Return the derivative of a function of an array, by central differences."""
    result = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        kept = x[place]
        x[place] = kept + step
        above = function()
        x[place] = kept - step
        result[place] = (above - function()) / (2 * step)
        x[place] = kept
    return result


# ------------------------------------------------------------------------------ Question 1


def network(dims, activation="relu", **options):
    """Return a network, a batch of 5 examples and its one-hot labels; no bias is zero."""
    model = NN(dims, activation, **options)
    model.initialize_weights()
    for number, name in enumerate(model.weights):
        model.weights[name] = numbers(*model.weights[name].shape, seed=number) / 2
    labels = np.arange(5) % dims[-1]
    return model, numbers(5, dims[0], seed=9), labels


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dims", NETWORKS, ids=["1 hidden", "2 hidden", "3 hidden"])
def test_gradients_of_the_mlp_equal_finite_differences(dims, activation):
    model, x, labels = network(dims, activation, epsilon=1e-12)
    one_hot = solution.one_hot(labels, dims[-1])
    grads = model.backward(model.forward(x), one_hot)

    def loss():
        return model.loss(model.forward(x)[f"Z{len(dims) - 1}"], one_hot)

    for name, weight in model.weights.items():
        assert difference(grads[f"d{name}"], slopes(loss, weight)) < 1e-7, name


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dims", NETWORKS, ids=["1 hidden", "2 hidden", "3 hidden"])
def test_the_mlp_equals_pytorch_in_caches_losses_and_all_gradients(dims, activation):
    model, x, labels = network(dims, activation)
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in model.weights.items()}
    last = len(dims) - 1
    expected = {"Z0": torch.tensor(x)}
    for layer in range(1, last + 1):
        affine = expected[f"Z{layer - 1}"] @ weights[f"W{layer}"] + weights[f"b{layer}"]
        hidden = affine.softmax(dim=1) if layer == last else getattr(torch, activation)(affine)
        expected |= {f"A{layer}": affine, f"Z{layer}": hidden}
    found = model.forward(x)
    assert list(found) == list(expected)
    for name in expected:
        assert difference(found[name], expected[name].detach().numpy()) < 1e-12, name

    loss = F.cross_entropy(expected[f"A{last}"], torch.tensor(labels))
    one_hot = solution.one_hot(labels, dims[-1])
    assert abs(model.loss(found[f"Z{last}"], one_hot) - loss.item()) < 1e-12

    grads = model.backward(found, one_hot)
    order = [f"d{letter}{i}" for i in range(last, 0, -1) for letter in "ZAWb"][1:]
    assert list(grads) == order
    inner = {name: value for name, value in expected.items() if name not in ("Z0", f"Z{last}")}
    by_torch = torch.autograd.grad(loss, [*weights.values(), *inner.values()])
    for name, gradient in zip([*weights, *inner], by_torch, strict=True):
        # dA and dZ are not divided by B.
        scale = 1 if name in weights else len(x)
        assert difference(grads[f"d{name}"], scale * gradient.numpy()) < 1e-12, name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_saturated_inputs_give_neither_warnings_nor_nan(name):
    x = np.array([[-1000.0, -700, -40, 0, 40, 700, 1000]])
    leaf = torch.tensor(x, requires_grad=True)
    expected = getattr(torch, name)(leaf)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    model = NN(activation=name)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.activation(x), expected.detach(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(model.activation(x, grad=True), slope, rtol=1e-12, atol=1e-15)
        probabilities = model.softmax(1e4 * x)
        assert model.loss(probabilities, np.eye(7)[:1]) == pytest.approx(-np.log(1e-6))
    assert probabilities.sum() == 1


def test_a_network_of_saturated_examples_has_finite_gradients():
    for activation in ACTIVATIONS:
        model, x, labels = network((6, 5, 7, 4), activation)
        with np.errstate(all="raise", under="ignore"):
            cache = model.forward(1000 * x)
            grads = model.backward(cache, solution.one_hot(labels, 4))
        assert all(np.isfinite(value).all() for value in (*cache.values(), *grads.values()))


def test_weights_are_drawn_in_order_from_one_seed():
    model = NN((9, 8, 5), seed=7)
    model.initialize_weights()
    draws = np.random.RandomState(7)
    for name, shape in (("W1", (9, 8)), ("W2", (8, 5))):
        assert np.array_equal(model.weights[name], draws.uniform(-1 / 3, 1 / 3, shape))
    assert list(model.weights) == ["W1", "b1", "W2", "b2"]
    assert model.weights["b2"].shape == (1, 5) and not model.weights["b2"].any()


def test_without_a_seed_numpys_own_state_decides():
    model = NN((4, 3), seed=None)
    np.random.seed(5)
    model.initialize_weights()
    assert np.array_equal(model.weights["W1"], np.random.RandomState(5).uniform(-0.5, 0.5, (4, 3)))


def test_update_equals_a_step_of_sgd():
    model, x, labels = network((6, 5, 4), lr=0.3)
    parameters = {n: torch.tensor(w, requires_grad=True) for n, w in model.weights.items()}
    grads = model.backward(model.forward(x), solution.one_hot(labels, 4))
    for name, parameter in parameters.items():
        parameter.grad = torch.tensor(grads[f"d{name}"])
    torch.optim.SGD(parameters.values(), lr=0.3).step()
    model.update(grads)
    for name, parameter in parameters.items():
        assert difference(model.weights[name], parameter.detach().numpy()) < 1e-15


def test_the_mlp_learns():
    """Labels of a random linear map are fitted; the seed is fixed, so there is no false alarm."""
    model = NN((8, 32, 3), "tanh", lr=0.5)
    model.initialize_weights()
    x = numbers(60, 8)
    labels = solution.one_hot((x @ numbers(8, 3, seed=1)).argmax(axis=1), 3)
    first = model.loss(model.forward(x)["Z2"], labels)
    for _ in range(300):
        model.update(model.backward(model.forward(x), labels))
    assert model.loss(model.forward(x)["Z2"], labels) < first / 10


# ------------------------------------------------------------------------------ Question 2


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("filter_size", range(1, 8))
def test_the_convolution_equals_conv2d_and_finite_differences(filter_size, stride):
    layer = Convolution2dLayer(filter_size, stride, n_units=3)
    layer.weights = numbers(3, filter_size, filter_size)
    x = numbers(2, 1, 9, 11, seed=1)
    weights = torch.tensor(layer.weights[:, None], requires_grad=True)
    expected = F.conv2d(torch.tensor(x), weights, stride=stride)
    cache = layer.forward(x)
    assert cache["x"] is x
    assert difference(cache["out"], expected.detach().numpy()) < 1e-12
    grad_output = numbers(*expected.shape, seed=2)
    gradient = layer.backward(cache, grad_output)
    (by_torch,) = torch.autograd.grad(expected, weights, torch.tensor(grad_output))
    assert difference(gradient, by_torch[:, 0].numpy()) < 1e-12
    by_steps = slopes(lambda: (layer.forward(x)["out"] * grad_output).sum(), layer.weights)
    assert difference(gradient, by_steps) < 1e-8


def test_filters_are_one_seeded_draw():
    layer = Convolution2dLayer(5, n_units=7, seed=3)
    layer.initialize_weights()
    assert np.array_equal(layer.weights, np.random.RandomState(3).uniform(0, 1, (7, 5, 5)))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (1, 2, 9, 7), (2, 1, 4, 5)])
def test_pooling_equals_max_pool2d_and_finite_differences(size, shape):
    """Also where rows and columns are left over."""
    layer, x = MaxPooling2dLayer(size), numbers(*shape)
    leaf = torch.tensor(x, requires_grad=True)
    expected = F.max_pool2d(leaf, size)
    cache = layer.forward(x)
    assert np.array_equal(cache["out"], expected.detach().numpy())
    grad_output = numbers(*expected.shape, seed=1)
    gradient = layer.backward(cache, grad_output)
    (by_torch,) = torch.autograd.grad(expected, leaf, torch.tensor(grad_output))
    assert np.array_equal(gradient, by_torch.numpy())
    by_steps = slopes(lambda: (layer.forward(x)["out"] * grad_output).sum(), x)
    assert difference(gradient, by_steps) < 1e-8


def test_every_maximum_of_a_window_receives_the_gradient():
    """Against PyTorch, whose amax shares it evenly among equals: times their number."""
    x = np.rint(numbers(3, 2, 8, 8))
    layer = MaxPooling2dLayer(2)
    cache = layer.forward(x)
    grad_output = numbers(*cache["out"].shape, seed=1)
    leaf = torch.tensor(x, requires_grad=True)
    windows = leaf.unfold(2, 2, 2).unfold(3, 2, 2)  # (B, C, H', W', 2, 2)
    largest = windows.amax(dim=(4, 5))
    equals = (windows == largest[..., None, None]).sum(dim=(4, 5))
    assert (equals > 1).any()
    (shared,) = torch.autograd.grad(largest, leaf, torch.tensor(grad_output) * equals)
    assert difference(layer.backward(cache, grad_output), shared.numpy()) < 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layers_keep_the_precision_of_their_arguments(dtype):
    layer, pooling = Convolution2dLayer(), MaxPooling2dLayer()
    layer.weights = numbers(64, 3, 3).astype(dtype)
    cache = layer.forward(numbers(1, 1, 8, 8).astype(dtype))
    pooled = pooling.forward(cache["out"])
    back = pooling.backward(pooled, np.ones(pooled["out"].shape, dtype))
    found = (cache["out"], pooled["out"], back, layer.backward(cache, back))
    assert {array.dtype for array in found} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NN(activation="sine").activation(numbers(2, 3)), "^Invalid activation$"),
        (lambda: solution.ResidualBlock(2, 2, 1, "sine").activation(None), "^Invalid activation$"),
        (lambda: solution.ResNet18("sine").activation(None), "^Invalid activation$"),
        (lambda: solution.ResidualBlock(2, 2, 1, "relu", "ones"), "^Invalid initialization$"),
    ],
)
def test_unknown_names_are_the_errors_of_the_sheet(call, message):
    with pytest.raises(Exception, match=message) as raised:
        call()
    assert type(raised.value) is Exception


# ------------------------------------------------------------------------------ Question 3


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_resnet18_equals_torchvision_in_outputs_and_gradients(training):
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    model = stir(solution.ResNet18())
    reference = models.resnet18(weights=None, num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    names = share_weights(model, reference, residual_connection="downsample", linear="fc")
    agree_forward_and_backward(
        model.train(training), reference.train(training), draw(3, 3, 32, 32), names
    )


def test_resnet18_with_tanh_equals_its_formula():
    """Written out with functional calls, from the weights by their names."""
    torch.manual_seed(0)
    model = stir(solution.ResNet18("tanh")).eval()
    w = model.state_dict()

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(w[f"{name}.{key}"] for key in keys))

    images = draw(2, 3, 32, 32)
    x = norm(F.conv2d(images, w["conv1.weight"], padding=1), "bn1").tanh()
    for layer, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        for block in (0, 1):
            name, step = f"layer{layer}.{block}", stride if block == 0 else 1
            y = F.conv2d(x, w[f"{name}.conv1.weight"], stride=step, padding=1)
            y = F.conv2d(norm(y, f"{name}.bn1").tanh(), w[f"{name}.conv2.weight"], padding=1)
            y = norm(y, f"{name}.bn2")
            if f"{name}.residual_connection.0.weight" in w:
                x = F.conv2d(x, w[f"{name}.residual_connection.0.weight"], stride=step)
                x = norm(x, f"{name}.residual_connection.1")
            x = (x + y).tanh()
    expected = F.linear(x.mean(dim=(2, 3)), w["linear.weight"], w["linear.bias"])
    agree(model(images), expected, "logits")


def test_resnet18_has_its_parameters_and_filters():
    model = solution.ResNet18()
    assert count_parameters(model) == 11_173_962
    first, last = model.get_first_conv_layer_filters(), model.get_last_conv_layer_filters()
    assert np.array_equal(first, model.conv1.weight.detach().numpy())
    assert np.array_equal(last, model.layer4[1].conv2.weight.detach().numpy())
    assert (first.shape, last.shape) == ((64, 3, 3, 3), (512, 512, 3, 3))
    first[:] = 0
    assert model.conv1.weight.any()


@pytest.mark.parametrize("name", ["xavier_normal", "xavier_uniform", "kaiming_normal"])
def test_blocks_are_initialised_by_the_distribution_of_the_papers(name):
    """A correct program fails once in 1e9 fresh seeds for each of four weights."""
    torch.manual_seed(0)
    model = solution.ResNet18("relu", name)
    cdf = uniform_cdf if name == "xavier_uniform" else normal_cdf
    for block, fan_in, fan_out in ((model.layer1[1], 576, 576), (model.layer2[0], 576, 1152)):
        for convolution, ins in ((block.conv1, fan_in), (block.conv2, fan_out)):
            fans = ins if name == "kaiming_normal" else ins + fan_out
            agree_in_distribution(convolution.weight, cdf(2 / fans))


def small_problem(number=22):
    images, labels = draw(number, 3, 2, 2, dtype=torch.float32), torch.arange(number) % 3
    torch.manual_seed(1)
    layers = (nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
    return nn.Sequential(*layers), images, labels


def test_loops_return_means_over_the_images_of_batches_of_unequal_size():
    model, images, labels = small_problem()
    batches = list(zip(images.split(8), labels.split(8)))
    accuracy, loss = solution.valid_loop(1, model, batches, nn.CrossEntropyLoss())
    logits = model.eval()(images)
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    optimizer = torch.optim.SGD(model.parameters(), lr=0)  # so that the order has no effect
    model[3].p = 0.0
    before = [F.cross_entropy(model.train()(x), y).item() * len(y) for x, y in batches]
    _, loss = solution.train_loop(1, model, batches, nn.CrossEntropyLoss(), optimizer)
    assert loss == pytest.approx(sum(before) / len(images), rel=1e-6)


def test_valid_loop_changes_nothing_and_train_loop_learns():
    model, images, labels = small_problem()
    batches = list(zip(images.split(11), labels.split(11)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, first = solution.valid_loop(1, model, batches, nn.CrossEntropyLoss())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for epoch in range(30):
        solution.train_loop(epoch, model, batches, nn.CrossEntropyLoss(), optimizer)
    accuracy, last = solution.valid_loop(1, model, batches, nn.CrossEntropyLoss())
    assert last < first / 2 and accuracy > 0.7


def test_loaders_have_pixels_in_0_to_1_and_only_training_images_are_shuffled():
    images = torch.arange(300).remainder(256).to(torch.uint8).reshape(300, 1, 1, 1)
    data = solution.Images(images.expand(300, 3, 4, 4), torch.arange(300))
    train, val = solution.make_loaders(data, data)
    found, labels = next(iter(val))
    assert labels.tolist() == list(range(128))
    assert torch.equal(found, images[:128].expand(128, 3, 4, 4) / 255)
    first, second = ([labels.tolist() for _, labels in train] for _ in range(2))
    assert [len(batch) for batch in first] == [128, 128, 44] and first != second
    assert sorted(label for batch in first for label in batch) == list(range(300))


def test_torchvision_brings_cifar10(monkeypatch):
    """Torchvision's class is replaced by one with its attributes: the real one downloads."""
    datasets = pytest.importorskip("torchvision").datasets
    asked = []

    class Few:
        def __init__(self, root, train, download):
            asked.append((str(root), train, download))
            self.data = np.full((6, 32, 32, 3), 255 if train else 51, np.uint8)
            self.targets = [0, 1, 2, 3, 4, 9]

    monkeypatch.setattr(datasets, "CIFAR10", Few)
    train, val = solution.get_cifar10()
    assert asked == [("data", True, True), ("data", False, True)]
    assert next(iter(train))[0].unique().tolist() == [1.0]
    assert next(iter(val))[0].unique().tolist() == [np.float32(0.2)]


# ------------------------------------------------------------------------------ figures, import


def test_feature_maps_are_the_outputs_of_both_convolutions():
    torch.manual_seed(0)
    model, image = solution.ResNet18().eval(), torch.rand(3, 32, 32)
    first, last = figures.feature_maps(model.train(), image)
    agree(torch.from_numpy(first), model.conv1(image[None])[0], "first")
    block, maps = model.eval().layer4[1], None
    with torch.no_grad():
        maps = torch.relu(model.bn1(model.conv1(image[None])))
        maps = model.layer4[0](model.layer3(model.layer2(model.layer1(maps))))
        maps = block.conv2(torch.relu(block.bn1(block.conv1(maps))))[0]
    assert difference(last, maps.numpy()) < 1e-5 and last.shape == (512, 4, 4)
    assert not model.conv1._forward_hooks
    with pytest.raises(ValueError, match=r"vis_image has shape \(1, 3, 32, 32\)"):
        figures.feature_maps(model, image[None])


def test_importing_the_file_is_silent_and_needs_neither_torchvision_nor_the_project(tmp_path):
    shutil.copy(ROOT / "numpy_networks" / "solution.py", tmp_path)
    code = (
        "import sys; sys.modules['torchvision'] = None; import solution; "
        "print([n for n in ('grader', 'training', 'matplotlib') if n in sys.modules])"
    )
    done = run(tmp_path, "-W", "error", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


# ------------------------------------------------------------------------------ students' tests


@pytest.fixture(scope="module")
def handout(tmp_path_factory):
    """The handout as a student has it after unpacking."""
    archive = make_handout(manifest, ROOT, tmp_path_factory.mktemp("dist") / "handout.zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(archive.parent)
    return archive.parent / manifest.NAME


def test_the_students_tests_pass_on_the_solution():
    done = run(ROOT / "numpy_networks", "test.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^3\.3: 4 of 4 tests pass$", done.stdout, re.M)


def test_in_the_handout_every_test_fails_with_the_message_of_its_own_problem(handout):
    done = run(handout, "test.py")
    reports = re.findall(
        r"^Problem (\d\.\d): (Test.*?)\n(?=Problem|\d\.\d: )", done.stdout, re.M | re.S
    )
    assert done.returncode == 1 and [*dict(reports)] == sorted(dict(reports))
    for problem, report in reports:
        raised = re.search(r"NotImplementedError: Problem (\d\.\d):", report)
        assert raised and raised[1] <= problem, report
    assert re.findall(r"^(\d\.\d): 0 of \d+ tests pass$", done.stdout, re.M) == sorted(
        {blank[0] for blank in manifest.BLANKS["solution.py"].values()}
    )


def test_the_handout_is_complete_and_clean(handout):
    names = {name.removeprefix("../") for name in manifest.HANDOUT} | {"README.md", "solution.py"}
    assert "figures.py" in names and "training/program.py" in names
    files = (path.relative_to(handout) for path in handout.rglob("*") if path.is_file())
    assert {path.as_posix() for path in files if "__pycache__" not in path.parts} == names
    shutil.copy(ROOT / "pyproject.toml", handout)
    for command in (["check", "--extend-ignore", "F401,F841,B007"], ["format", "--check"]):
        done = run(handout, "-m", "ruff", *command, "--exclude", "*.ipynb", ".")
        assert done.returncode == 0, done.stdout
    done = run(handout, "train.py", "--data", "shapes", "--device", "cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"train\.py: error: Problem 3\.2: .*\n", done.stderr), done.stderr


def test_nothing_that_students_write_is_in_the_handout(handout):
    text = (handout / "solution.py").read_text(encoding="utf-8")
    for secret in (
        *("sliding_window_view", "np.clip", "_columns", "_pixels", "-bound, bound"),
        *("exponentials", "optimizer.step", "np.maximum", "keepdims", "loss.backward", ".T @"),
        *("kernel_size=3", "conv_stride=2", "nn.BatchNorm2d(channels)"),
    ):
        assert secret not in text, secret
    assert text.count("raise NotImplementedError(") == len(manifest.BLANKS["solution.py"])


@pytest.mark.slow
def test_the_benchmark_prints_a_table_and_writes_json(tmp_path):
    done = run(
        ROOT, "-m", "benchmarks", "numpy_layers", "--repeats", "1", "--json", tmp_path / "b.json"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^convolution +float64 +both .* \d+\.\d\d$", done.stdout, re.M)
    results = json.loads((tmp_path / "b.json").read_text())
    assert results["rows"] and results["loops"]
    done = run(ROOT, "-m", "benchmarks", "numpy_layers", "--repeats", "0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
