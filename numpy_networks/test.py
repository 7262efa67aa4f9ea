"""Tests for Questions 1, 2 and 3.1 to 3.3: run them while you write, and before you submit.

    python test.py                      all tests
    python test.py TestForward          one class
    python test.py TestLoss.test_name   one test, by the name after FAIL or ERROR

These tests are basic: those on Gradescope check more. They need NumPy and PyTorch, use no data and
take a few seconds. PyTorch computes the expected numbers of Questions 1 and 2.

Shapes: B batch, C channels, H, W height and width, K classes.
"""

import ast
import importlib
import inspect
import math
import unittest
import zlib
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

# unittest omits the frames of a module with this name from its tracebacks. What remains is the
# message of a failed check, or the lines of your own code that raised an error.
__unittest = True

# Largest accepted error, relative to the largest expected number (or to 1). Rounding in float32
# gives 1e-6 here.
TOLERANCE = 1e-4

# Outputs of correct models and gradients with respect to their inputs, as `summary` returns them,
# for the parameters of `filled` and the inputs of `sample`. They were computed in float64, agree
# with torchvision's network and are rounded to 5 decimals.
STORED = {
    "ResidualBlock(3, 3)": (
        [[13.81918, 31.39148, 27.73271], [4.37644, 12.827, 8.46867]],
        [[-3.3104, -1.97218, -1.98776], [-1.74062, 3.08009, -4.26791]],
    ),
    "ResidualBlock(3, 4, 2)": (
        [[1.12893, 5.1113, 7.54053, 2.1526], [0.01834, 4.59671, 4.01361, 1.11273]],
        [[-0.5073, -0.02415, 1.59144], [0.30844, 0.87057, -0.25617]],
    ),
    "ResidualBlock(3, 4, 1, 'tanh')": (
        [[-8.97274, 5.2825, 5.58956, -1.13162], [-9.02706, 12.44266, 6.22668, -1.52537]],
        [[-2.62252, -2.31858, 2.35937], [2.36302, -0.78595, -2.56897]],
    ),
    "ResNet18('relu')": (
        [
            [-3.74532, -5.53949, 3.07731, 1.47513, 6.14528],
            [-2.84185, -2.96599, 1.93829, -0.10543, 3.1286],
        ],
        [[-0.35697, -0.40791, -0.43627], [-0.06347, -0.17654, 0.839]],
    ),
    "ResNet18('tanh')": (
        [
            [0.42767, 1.37039, 0.38443, -1.73305, 0.18381],
            [0.62193, 1.34151, 0.45734, -1.92221, 0.27032],
        ],
        [[0.0465, 0.01686, 0.03232], [-0.56121, -0.04068, 0.23104]],
    ),
}


class Submitted:
    """Your file, imported when a test first uses it."""

    def __getattr__(self, attribute):
        try:
            module = importlib.import_module("solution")
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise AssertionError(f"solution.py cannot be imported: {reason}") from None
        return getattr(module, attribute)


solution = Submitted()


def pattern(name, shape, mean=0.0, spread=1.0):
    """Return pseudorandom numbers in mean ± spread that depend only on name and shape."""
    prime = 1_000_003
    index = torch.arange(math.prod(shape))
    phase = zlib.crc32(name.encode()) % prime
    # Integers, so that every machine computes exactly the same numbers.
    residue = (48_271 * index * index + phase * (index + 1)) % prime
    return (mean + spread * (2 * residue.double() / prime - 1)).float().reshape(shape)


def array(name, *shape):
    """Return the numbers of `pattern` as a NumPy array, in double precision."""
    return pattern(name, shape).double().numpy()


def filled(model):
    """Set the parameters to known numbers; no bias is zero."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:  # variance 1 / fan_in keeps the outputs of all layers near 1
            spread = math.sqrt(3 / math.prod(tensor.shape[1:]))
            tensor.copy_(pattern(name, tensor.shape, spread=spread))
        else:
            scale = float(name.endswith(("weight", "running_var")))
            tensor.copy_(pattern(name, tensor.shape, mean=scale, spread=0.5))
    return model


def sample(*shape):
    """Return a batch of examples that differ in contrast."""
    contrast = torch.linspace(3, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return contrast * pattern("sample", shape)


def summary(tensor):
    """Sum feature maps over their positions, or the logits of neighbouring classes."""
    return tensor.sum((2, 3)) if tensor.ndim == 4 else tensor.reshape(-1, 5, 2).sum(2)


def fail(message):
    raise AssertionError(message)


def assert_close(found, expected, what, tolerance=TOLERANCE):
    """Fail at the entry with the largest error. NaN differs from everything."""
    if isinstance(found, torch.Tensor):
        found = found.detach().numpy()
    if not isinstance(found, (np.ndarray, float, int, np.number)):
        fail(f"{what} is a {type(found).__name__}; expected numbers")
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    if found.shape != expected.shape:
        fail(f"{what} has shape {found.shape}; expected {expected.shape}")
    difference = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    index = np.unravel_index(difference.argmax(), expected.shape)
    if difference[index] > tolerance * max(1, np.abs(expected).max()):
        place = f" at index {tuple(map(int, index))}" if index else ""
        off = f"(off by {difference[index]:.2g})"
        fail(f"{what} is {found[index]:.6g}{place}; expected {expected[index]:.6g} {off}")


def assert_entries(found, names, what):
    """Check that a dictionary has all of these entries; it may have more."""
    if not isinstance(found, dict):
        fail(f"{what} is a {type(found).__name__}; expected a dictionary")
    missing = [name for name in names if name not in found]
    if missing:
        fail(f"{what} lacks {', '.join(missing)}; it has {', '.join(found) or 'nothing'}")


def assert_uniform(weights, low, high, what):
    """Fail if numbers were not drawn uniformly from [low, high).

    Compares the empirical distribution function with the expected one. The limit is that of
    Dvoretzky, Kiefer, Wolfowitz and Massart: independent draws from the expected distribution
    exceed it with a probability of at most 1e-8.
    """
    drawn = np.sort(np.asarray(weights, dtype=float), axis=None)
    expected = np.clip((drawn - low) / (high - low), 0, 1)
    share = np.arange(len(drawn) + 1) / len(drawn)
    gap = max((share[1:] - expected).max(), (expected - share[:-1]).max())
    if not gap <= math.sqrt(math.log(2 / 1e-8) / (2 * len(drawn))):
        fail(
            f"{what} lie between {drawn[0]:.3g} and {drawn[-1]:.3g}, with mean {drawn.mean():.2g}; "
            f"expected uniform numbers between {low:.3g} and {high:.3g}"
        )


def assert_parameters(module, expected, what):
    """Compare the registered parameters with a list such as "weight 4x7, bias 4"; any order."""
    expected = expected.split(", ")
    found = [f"{name} {'x'.join(map(str, p.shape))}" for name, p in module.named_parameters()]
    for parameter in (*expected, *found):
        if parameter not in found or parameter not in expected:
            fault = "lacks the parameter" if parameter in expected else "has the extra parameter"
            fail(f"{what} {fault} {parameter}; it registers {', '.join(found) or 'none'}")


def assert_numpy_only(part):
    """Fail if a function of Questions 1 and 2, such as "NN.relu", names torch."""
    owner, name = part.split(".")
    lines = inspect.getsource(getattr(solution, owner))
    functions = [node for node in ast.walk(ast.parse(lines)) if getattr(node, "name", "") == name]
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Name) and node.id == "torch":
            fail(f"{part} uses torch, in line {node.lineno} of {owner}; expected NumPy only")


def assert_same_as_stored(model, inputs, what):
    """Compare output and gradient of a filled model with the numbers stored under its name."""
    inputs = inputs.clone().requires_grad_()
    output = model(inputs)
    if not getattr(output, "requires_grad", False):
        fail(f"{what} returns a {type(output).__name__}; expected a tensor with a gradient")
    if what.startswith("ResNet18") and output.shape != (2, 10):
        fail(f"{what} of 2 images returns the shape {tuple(output.shape)}; expected (2, 10)")
    (output * pattern("weights", output.shape)).sum().backward()
    assert_close(summary(output), STORED[what][0], f"{what}: the output for stored parameters")
    wide = 10 * TOLERANCE  # gradients jump where rounding crosses the kink of a ReLU
    gradient = summary(inputs.grad)
    assert_close(gradient, STORED[what][1], f"{what}: the gradient of the input", wide)


class Problem(unittest.TestCase):
    """A test case whose random numbers are the same in every run."""

    def setUp(self):
        torch.manual_seed(0)

    def __str__(self):
        return f"{type(self).__name__}.{self._testMethodName}"  # as in `python test.py NAME`


# ---------------------------------------------------------------- Question 1


def network(dims=(7, 6, 5, 4), **options):
    """Return an NN with known weights; no bias is zero."""
    model = solution.NN(dims=dims, **options)
    model.weights = {}
    for layer, (size_in, size_out) in enumerate(pairwise(dims), start=1):
        model.weights[f"W{layer}"] = array(f"W{layer}", size_in, size_out)
        model.weights[f"b{layer}"] = 0.5 * array(f"b{layer}", 1, size_out)
    return model


def labels_of(batch, classes):
    """Return class indices, and the same labels as one-hot rows."""
    labels = torch.arange(batch) * 3 % classes
    return labels, F.one_hot(labels, classes).double().numpy()


def torch_network(model, x, labels):
    """Return the cache and gradients of a network, computed by PyTorch."""
    weights = {n: torch.tensor(w, requires_grad=True) for n, w in model.weights.items()}
    cache, last = {"Z0": torch.tensor(x)}, model.n_hidden + 1
    for layer in range(1, last + 1):
        affine = cache[f"Z{layer - 1}"] @ weights[f"W{layer}"] + weights[f"b{layer}"]
        hidden = getattr(torch, model.activation_str)(affine)
        cache |= {f"A{layer}": affine, f"Z{layer}": hidden if layer < last else affine.softmax(1)}
    # With the sum, each example has the gradient of its own loss.
    wanted = [name for name in cache if name not in ("Z0", f"Z{last}")]
    loss = F.cross_entropy(cache[f"A{last}"], labels, reduction="sum")
    inputs = [*weights.values(), *(cache[name] for name in wanted)]
    found = torch.autograd.grad(loss, inputs)
    grads = {f"d{name}": g.numpy() for name, g in zip([*weights, *wanted], found)}
    for name in weights:
        grads[f"d{name}"] = grads[f"d{name}"] / len(x)
    return {name: value.detach().numpy() for name, value in cache.items()}, grads


class TestInitializeWeights(Problem):
    """Problem 1.1"""

    def test_every_layer_has_weights_and_biases(self):
        """W is (in, out), b is a row of zeros (1, out)."""
        model = solution.NN(dims=(9, 8, 5, 3))
        model.initialize_weights()
        for layer, (size_in, size_out) in enumerate(((9, 8), (8, 5), (5, 3)), start=1):
            assert_entries(model.weights, (f"W{layer}", f"b{layer}"), "weights")
            found = np.shape(model.weights[f"W{layer}"])
            if found != (size_in, size_out):
                fail(f"W{layer} has shape {found}; expected {(size_in, size_out)}")
            assert_close(model.weights[f"b{layer}"], np.zeros((1, size_out)), f"b{layer}", 0)
        assert_numpy_only("NN.initialize_weights")

    def test_weights_are_uniform(self):
        """All weights are uniform in the same interval, which depends on the size of the input."""
        model = solution.NN(dims=(100, 200, 80))
        model.initialize_weights()
        for name in ("W1", "W2"):
            assert_uniform(model.weights[name], -0.1, 0.1, f"NN((100, 200, 80)): {name}")

    def test_weights_depend_on_the_seed(self):
        """The same seed gives the same weights, another seed gives others."""
        found = []
        for seed in (1, 1, 2):
            model = solution.NN(dims=(9, 8, 5), seed=seed)
            model.initialize_weights()
            found.append(model.weights["W1"])
        assert_close(found[0], found[1], "W1 of the same seed", 0)
        if np.array_equal(found[0], found[2]):
            fail("W1 is the same for seed=1 and seed=2; expected different numbers")


class TestActivations(Problem):
    """Problem 1.2"""

    def test_relu(self):
        """relu and its derivative equal those of torch."""
        self.check("relu")

    def test_sigmoid(self):
        """sigmoid and its derivative equal those of torch."""
        self.check("sigmoid")

    def test_tanh(self):
        """tanh and its derivative equal those of torch."""
        self.check("tanh")

    def check(self, name):
        x = 4 * array("x", 6, 5)
        leaf = torch.tensor(x, requires_grad=True)
        expected = getattr(torch, name)(leaf)
        (slope,) = torch.autograd.grad(expected.sum(), leaf)
        assert_close(getattr(network(), name)(x.copy()), expected.detach(), f"{name}(x)")
        assert_close(getattr(network(), name)(x.copy(), grad=True), slope, f"{name}(x, grad=True)")
        assert_numpy_only(f"NN.{name}")

    def test_activation_selects_by_name(self):
        """activation applies the function named by activation_str."""
        x = 4 * array("x", 6, 5)
        for name in ("relu", "sigmoid", "tanh"):
            model, expected = network(activation=name), getattr(torch, name)(torch.tensor(x))
            assert_close(model.activation(x.copy()), expected, f"activation(x) for {name!r}")
        assert_numpy_only("NN.activation")

    def test_softmax_equals_that_of_torch(self):
        """softmax normalises each row, even of large numbers."""
        for scale in (1, 1000):
            x = scale * array("x", 4, 6)
            expected = torch.tensor(x).softmax(dim=-1)
            assert_close(network().softmax(x.copy()), expected, f"softmax(x) for x of ±{scale}")
        assert_numpy_only("NN.softmax")


class TestForward(Problem):
    """Problem 1.3"""

    def test_forward_returns_all_layers(self):
        """A and Z of each layer equal those of torch, for several networks."""
        for dims, name in (
            ((7, 6, 5, 4), "relu"),
            ((5, 3, 4), "tanh"),
            ((4, 6, 5, 7, 3), "sigmoid"),
        ):
            model, x = network(dims, activation=name), array("x", 5, dims[0])
            labels, _ = labels_of(5, dims[-1])
            found, (expected, _) = model.forward(x.copy()), torch_network(model, x, labels)
            assert_entries(found, expected, f"The cache of NN({dims})")
            for key, value in expected.items():
                assert_close(found[key], value, f"NN({dims}, {name!r}): {key}")
        assert_numpy_only("NN.forward")


class TestLoss(Problem):
    """Problem 1.4"""

    def test_loss_is_the_mean_cross_entropy(self):
        """The loss equals that of torch."""
        for batch, classes in ((1, 10), (5, 4), (3, 3)):
            logits = 2 * array("logits", batch, classes)
            labels, one_hot = labels_of(batch, classes)
            expected = F.cross_entropy(torch.tensor(logits), labels)
            prediction = torch.tensor(logits).softmax(1).numpy()
            found = network().loss(prediction, one_hot)
            assert_close(found, expected, f"The loss of predictions {(batch, classes)}", 1e-6)
        assert_numpy_only("NN.loss")

    def test_loss_of_a_confident_mistake_is_finite(self):
        """A probability of 0 counts as epsilon."""
        found = network(epsilon=1e-4).loss(np.array([[1.0, 0, 0]]), np.array([[0.0, 1, 0]]))
        assert_close(found, -math.log(1e-4), "The loss of a probability of 0", 1e-6)


class TestBackward(Problem):
    """Problem 1.5, with the cache of 1.3"""

    def test_gradients_equal_those_of_torch(self):
        """All gradients equal those of torch; dW and db are means over the batch."""
        for dims, name in (
            ((7, 6, 5, 4), "relu"),
            ((5, 3, 4), "tanh"),
            ((4, 6, 5, 7, 3), "sigmoid"),
        ):
            model, x = network(dims, activation=name), array("x", 5, dims[0])
            labels, one_hot = labels_of(5, dims[-1])
            cache, expected = torch_network(model, x, labels)
            # Your cache may have more entries.
            found = model.backward({**model.forward(x.copy()), **cache}, one_hot)
            assert_entries(found, expected, f"The gradients of NN({dims})")
            for key, value in expected.items():
                assert_close(found[key], value, f"NN({dims}, {name!r}): {key}")
        assert_numpy_only("NN.backward")


class TestUpdate(Problem):
    """Problem 1.6"""

    def test_update_steps_against_the_gradient(self):
        """Each weight and bias changes by -lr times its gradient."""
        model = network(lr=0.1)
        before = {name: weight.copy() for name, weight in model.weights.items()}
        grads = {f"d{name}": array(f"d{name}", *weight.shape) for name, weight in before.items()}
        model.update(grads)
        for name, weight in before.items():
            assert_close(model.weights[name], weight - 0.1 * grads[f"d{name}"], name, 1e-6)
        assert_numpy_only("NN.update")


# ---------------------------------------------------------------- Question 2


def convolution(filter_size=3, stride=1, n_units=4):
    layer = solution.Convolution2dLayer(filter_size, stride, n_units)
    layer.weights = array("filters", n_units, filter_size, filter_size)
    return layer


SETTINGS = (((3, 1, 4), (3, 1, 6, 6)), ((3, 1, 64), (1, 1, 32, 32)), ((2, 2, 3), (2, 1, 7, 8)))


class TestConvolution(Problem):
    """Problem 2.1"""

    def test_filters_are_uniform(self):
        """initialize_weights draws uniform numbers in [0, 1), equal for equal seeds."""
        layer = solution.Convolution2dLayer()
        layer.initialize_weights()
        if np.shape(layer.weights) != (64, 3, 3):
            fail(f"weights have shape {np.shape(layer.weights)}; expected (64, 3, 3)")
        assert_uniform(layer.weights, 0, 1, "The weights of Convolution2dLayer()")
        first = np.array(layer.weights)
        layer.initialize_weights()
        assert_close(layer.weights, first, "The weights drawn again with the same seed", 0)
        assert_numpy_only("Convolution2dLayer.initialize_weights")

    def test_forward_equals_conv2d(self):
        """The output equals that of torch, for several filters and strides."""
        for arguments, shape in SETTINGS:
            layer, x = convolution(*arguments), array("x", *shape)
            weights = torch.tensor(layer.weights)[:, None]
            expected = F.conv2d(torch.tensor(x), weights, stride=arguments[1])
            found = layer.forward(x.copy())
            assert_entries(found, ("x", "out"), "The cache")
            assert_close(found["out"], expected, f"Convolution2dLayer{arguments}: out")
            assert_close(found["x"], x, f"Convolution2dLayer{arguments}: x")
        assert_numpy_only("Convolution2dLayer.forward")


class TestConvolutionBackward(Problem):
    """Problem 2.2, with the cache of 2.1"""

    def test_gradient_equals_that_of_conv2d(self):
        """The gradient of the weights equals that of torch, for several filters and strides."""
        for arguments, shape in SETTINGS:
            layer, x = convolution(*arguments), array("x", *shape)
            weights = torch.tensor(layer.weights[:, None], requires_grad=True)
            out = F.conv2d(torch.tensor(x), weights, stride=arguments[1])
            grad_output = array("grad_output", *out.shape)
            (expected,) = torch.autograd.grad(out, weights, torch.tensor(grad_output))
            found = layer.backward(layer.forward(x), grad_output)
            assert_close(found, expected[:, 0], f"Convolution2dLayer{arguments}: the gradient")
        assert_numpy_only("Convolution2dLayer.backward")


class TestMaxPooling(Problem):
    """Problem 2.3"""

    def test_forward_equals_max_pool2d(self):
        """The output equals that of torch, for several windows."""
        for size, shape in ((2, (3, 4, 6, 6)), (3, (2, 2, 6, 9)), (2, (1, 64, 30, 30))):
            x = array("x", *shape) - 2
            found = solution.MaxPooling2dLayer(size).forward(x.copy())
            assert_entries(found, ("x", "out"), "The cache")
            expected = F.max_pool2d(torch.tensor(x), size)
            assert_close(found["out"], expected, f"MaxPooling2dLayer({size}): out")
        assert_numpy_only("MaxPooling2dLayer.forward")


class TestMaxPoolingBackward(Problem):
    """Problem 2.4, with the cache of 2.3"""

    def test_gradient_equals_that_of_max_pool2d(self):
        """The gradient of the input equals that of torch if each window has one maximum."""
        for size, shape in ((2, (3, 4, 6, 6)), (3, (2, 2, 6, 9)), (2, (1, 64, 30, 30))):
            x = array("x", *shape)
            leaf = torch.tensor(x, requires_grad=True)
            out = F.max_pool2d(leaf, size)
            grad_output = array("grad_output", *out.shape)
            (expected,) = torch.autograd.grad(out, leaf, torch.tensor(grad_output))
            layer = solution.MaxPooling2dLayer(size)
            found = layer.backward(layer.forward(x), grad_output)
            assert_close(found, expected, f"MaxPooling2dLayer({size}): the gradient")
        assert_numpy_only("MaxPooling2dLayer.backward")

    def test_all_maxima_of_a_window_receive_the_gradient(self):
        """If two pixels are maximal, each receives the whole gradient."""
        x = np.array([[[[1.0, 3], [3, 0]]]])
        layer = solution.MaxPooling2dLayer(2)
        found = layer.backward(layer.forward(x), np.array([[[[0.5]]]]))
        assert_close(found, [[[[0, 0.5], [0.5, 0]]]], "The gradient of two maxima")


# ---------------------------------------------------------------- Question 3


class TestResidualBlock(Problem):
    """Problem 3.1"""

    def test_parameters(self):
        """A block has the parameters of Figure 1."""
        norms = "bn1.weight 6, bn1.bias 6, bn2.weight 6, bn2.bias 6"
        expected = f"conv1.weight 6x6x3x3, conv2.weight 6x6x3x3, {norms}"
        assert_parameters(solution.ResidualBlock(6, 6), expected, "ResidualBlock(6, 6)")
        expected = (
            f"conv1.weight 6x4x3x3, conv2.weight 6x6x3x3, {norms}, residual_connection.0.weight "
            "6x4x1x1, residual_connection.1.weight 6, residual_connection.1.bias 6"
        )
        assert_parameters(solution.ResidualBlock(4, 6, 2), expected, "ResidualBlock(4, 6, 2)")

    def test_output_equals_stored_numbers(self):
        """With stored parameters, blocks return stored outputs and gradients."""
        for what, arguments in BLOCKS.items():
            block = filled(solution.ResidualBlock(*arguments))
            assert_same_as_stored(block.eval(), sample(2, arguments[0], 6, 6), what)

    def test_unknown_names_are_errors(self):
        """An unknown activation or initialization raises an exception."""
        block = solution.ResidualBlock(3, 3, activation_str="sine")
        for call in (
            lambda: block.activation(torch.zeros(1)),
            lambda: solution.ResidualBlock(3, 3, initialization="zeros"),
        ):
            with self.assertRaises(Exception) as raised:
                call()
            if isinstance(raised.exception, NotImplementedError):
                raise raised.exception


BLOCKS = {
    "ResidualBlock(3, 3)": (3, 3),
    "ResidualBlock(3, 4, 2)": (3, 4, 2),
    "ResidualBlock(3, 4, 1, 'tanh')": (3, 4, 1, "tanh"),
}


class TestResNet18(Problem):
    """Problem 3.2"""

    def test_number_of_parameters(self):
        """The network has 11,173,962 parameters."""
        number = sum(parameter.numel() for parameter in solution.ResNet18().parameters())
        if number != 11_173_962:
            fail(f"ResNet18() registers {number:,} parameters; expected 11,173,962")

    def test_output_equals_stored_numbers(self):
        """With stored parameters, the network returns stored logits and gradients."""
        for activation in ("relu", "tanh"):
            model = filled(solution.ResNet18(activation)).eval()
            assert_same_as_stored(model, sample(2, 3, 32, 32), f"ResNet18({activation!r})")


def small_model():
    layers = (nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return filled(nn.Sequential(*layers))


def small_loader(number=20, batch_size=5):
    images = sample(number, 3, 2, 2)
    return DataLoader(TensorDataset(images, torch.arange(number) % 3), batch_size)


class TestLoops(Problem):
    """Problem 3.3"""

    def test_train_loop_takes_one_step_per_batch(self):
        """Weights, accuracy and loss equal those of an explicit loop."""
        model, twin = small_model().eval(), small_model().train()
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
        correct, losses = 0, []
        for images, labels in small_loader():
            optimizer.zero_grad()
            logits = twin(images)
            losses.append(F.cross_entropy(logits, labels))
            correct += (logits.argmax(dim=1) == labels).sum().item()
            losses[-1].backward()
            optimizer.step()
        accuracy, loss = solution.train_loop(
            1,
            model,
            small_loader(),
            nn.CrossEntropyLoss(),
            torch.optim.SGD(model.parameters(), lr=0.1),
        )
        for (name, found), expected in zip(model.named_parameters(), twin.parameters()):
            assert_close(found, expected.detach(), f"After train_loop: {name}")
        assert_close(float(accuracy), correct / 20, "The accuracy of train_loop")
        assert_close(float(loss), torch.stack(losses).mean().item(), "The loss of train_loop")

    def test_valid_loop_only_measures(self):
        """Accuracy and loss are those of evaluation mode, and the model does not change."""
        model, twin = small_model().train(), small_model().eval()
        images, labels = small_loader().dataset.tensors
        with torch.no_grad():
            logits = twin(images)
        accuracy, loss = solution.valid_loop(1, model, small_loader(), nn.CrossEntropyLoss())
        right = (logits.argmax(dim=1) == labels).double().mean().item()
        assert_close(float(accuracy), right, "The accuracy of valid_loop")
        expected = F.cross_entropy(logits, labels).item()
        assert_close(float(loss), expected, "The loss of valid_loop")
        for name, tensor in model.state_dict().items():
            assert_close(tensor, twin.state_dict()[name], f"After valid_loop: {name}", 1e-6)


if __name__ == "__main__":
    unittest.main()
