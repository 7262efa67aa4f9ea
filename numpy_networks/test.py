"""Tests for Questions 1, 2 and 3.1 to 3.3: run them while you write, and before you submit.

    python test.py                      all tests
    python test.py TestForward          one class
    python test.py TestLoss.test_name   one test, by its name in the report

These tests are basic: those on Gradescope check more. They need NumPy and PyTorch, use no data and
take a few seconds. PyTorch computes the expected numbers of Questions 1 and 2. They run in the
order of the problems, so the first message is the one to start with.

Shapes: B batch, C channels, H, W height and width, K classes.
"""

import inspect
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).resolve().parent
if not (HERE / "training").is_dir():  # it is beside this file, or one folder above
    sys.path.append(str(HERE.parent))

from training.testing import (
    TOLERANCE,
    Problem,
    Submitted,
    assert_close,
    assert_parameters,
    constant,
    fail,
    filled,
    is_close,
    pattern,
    run,
    sample,
    select,
)

# Outputs of correct models and gradients with respect to their inputs, as `summary` returns them,
# for the parameters of `filled` and the inputs of `sample`. They were computed in float64, agree
# with torchvision's network and are rounded to 5 decimals.
STORED = {
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
}


solution = Submitted("solution")


def array(name, *shape):
    """Return the numbers of `pattern` as a NumPy array, in double precision."""
    return pattern(name, shape).double().numpy()


def summary(tensor):
    """Sum feature maps over their positions, or the logits of neighbouring classes."""
    return tensor.sum((2, 3)) if tensor.ndim == 4 else tensor.reshape(-1, 5, 2).sum(2)


def assert_entries(found, names, what):
    """Check that a dictionary has all of these entries; it may have more."""
    if not isinstance(found, dict):
        fail(f"{what} is a {type(found).__name__}; expected a dictionary")
    missing = [name for name in names if name not in found]
    if missing:
        fail(f"{what}: no {', '.join(missing)}; it has {', '.join(found) or 'nothing'}")


def assert_uniform(weights, low, high, what, mistakes=None):
    """Fail if numbers were not drawn uniformly from [low, high).

    Compares the empirical distribution function with the expected one. The limit is that of
    Dvoretzky, Kiefer, Wolfowitz and Massart: independent draws from the expected distribution
    exceed it with a probability of at most 1e-8. `mistakes` maps words to the limits of another
    interval.
    """
    drawn = np.sort(np.asarray(weights, dtype=float), axis=None)
    share = np.arange(len(drawn) + 1) / len(drawn)
    limit = math.sqrt(math.log(2 / 1e-8) / (2 * len(drawn)))
    for words, (lower, upper) in {"": (low, high), **(mistakes or {})}.items():
        expected = np.clip((drawn - lower) / (upper - lower), 0, 1)
        if max((share[1:] - expected).max(), (expected - share[:-1]).max()) <= limit:
            return fail(f"{what}: {words}") if words else None
    fail(
        f"{what} lie between {drawn[0]:.3g} and {drawn[-1]:.3g}, with mean {drawn.mean():.2g}; "
        f"expected uniform numbers between {low:.3g} and {high:.3g}"
    )


def assert_numpy_only(part):
    """Fail if a function of Questions 1 and 2, such as "NN.relu", names something of torch."""
    owner, name = part.split(".")
    function = inspect.unwrap(getattr(getattr(solution, owner), name))
    codes = [function.__code__] if inspect.isfunction(function) else []
    for code in codes:
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
        for used in code.co_names:
            found = function.__globals__.get(used)
            home = found.__name__ if inspect.ismodule(found) else getattr(found, "__module__", None)
            if str(home).partition(".")[0] == "torch":
                fail(f"{part} uses torch ({used}); expected NumPy only")


def assert_same_as_stored(model, inputs, what):
    """Compare output and gradient of a filled model with the numbers stored under its name."""
    inputs = inputs.clone().requires_grad_()
    output = model(inputs)
    if not getattr(output, "requires_grad", False):
        fail(f"{what} returns a {type(output).__name__}; expected a tensor with a gradient")
    (output * pattern("weights", output.shape)).sum().backward()
    assert_close(summary(output), STORED[what][0], f"{what}: the output for stored parameters")
    wide = 10 * TOLERANCE  # gradients jump where rounding crosses the kink of a ReLU
    gradient = summary(inputs.grad)
    assert_close(gradient, STORED[what][1], f"{what}: the gradient of the input", wide)


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
                fail(f"W{layer} has shape {found}; expected (in, out), {(size_in, size_out)}")
            assert_close(model.weights[f"b{layer}"], np.zeros((1, size_out)), f"b{layer}", 0)
        assert_numpy_only("NN.initialize_weights")

    def test_weights_are_uniform(self):
        """All weights are uniform in the same interval, which depends on the size of the input."""
        model = solution.NN(dims=(100, 200, 80))
        model.initialize_weights()
        for name, size_in, size_out in (("W1", 100, 200), ("W2", 200, 80)):
            own, glorot = 1 / math.sqrt(size_in), math.sqrt(6 / (size_in + size_out))
            mistakes = {
                "its bound comes from its own inputs; expected 1 / sqrt(h0) in all layers": own,
                "its bound is 1 / h0; expected 1 / sqrt(h0)": 0.01,
                "its bound is that of Glorot; expected 1 / sqrt(h0)": glorot,
                "its bound is sqrt(h0); expected 1 / sqrt(h0)": 10,
            }
            mistakes = {words: (-bound, bound) for words, bound in mistakes.items()}
            mistakes["it has positive numbers only; expected both signs"] = (0, 0.1)
            weight, what = model.weights[name], f"NN((100, 200, 80)): {name}"
            assert_uniform(weight, -0.1, 0.1, what, mistakes)

    def test_weights_depend_on_the_seed(self):
        """The same seed gives the same weights, another seed others, and None seeds nothing."""
        found, following = [], []
        for seed in (0, 0, 1, None, None):
            model = solution.NN(dims=(9, 8, 5), seed=seed)
            if seed is None:
                np.random.seed(3)
            model.initialize_weights()
            found.append(model.weights["W1"])
            following.append(np.random.random())
        if not np.array_equal(found[0], found[1]):
            fail("W1 differs between two calls with seed=0; expected np.random.seed(0) before it")
        if np.array_equal(found[0], found[2]):
            fail("W1 is the same for seed=0 and seed=1; expected different numbers")
        if following[3] != following[4]:
            fail("initialize_weights seeds NumPy although seed is None; expected no seed then")


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
        x[0, 0] = 0
        value, slope = value_and_slope(name, x)
        given = x.copy()
        found = getattr(network(), name)(given)
        assert_close(given, x, f"x after {name}(x), which must not change it,", 0)
        assert_close(found, value, f"{name}(x)")
        mistakes = {
            f"it is {name}(x); expected its derivative": value,
            "it is 1 at x = 0; expected 0": np.where(x == 0, 1, slope),
            f"it uses x where the formula needs {name}(x)": {
                "sigmoid": x * (1 - x),
                "tanh": 1 - x**2,
            }.get(name, slope),
        }
        found = getattr(network(), name)(x.copy(), grad=True)
        assert_close(found, slope, f"{name}(x, grad=True)", mistakes=mistakes)
        assert_numpy_only(f"NN.{name}")

    def test_large_numbers(self):
        """The activations and their derivatives are correct where exponentials overflow."""
        x = np.array([-1000.0, -20, 20, 1000])
        for name in ("relu", "sigmoid", "tanh"):
            for grad, expected in zip((False, True), value_and_slope(name, x)):
                with np.errstate(all="ignore"):
                    found = getattr(network(), name)(x.copy(), grad=grad)
                assert_close(found, expected, f"{name}(x, grad={grad}) at x = {x.tolist()}")

    def test_activation_selects_by_name(self):
        """activation applies the function named by activation_str, or its derivative."""
        x = 4 * array("x", 6, 5)
        for name in ("relu", "sigmoid", "tanh"):
            model, (value, slope) = network(activation=name), value_and_slope(name, x)
            assert_close(model.activation(x.copy()), value, f"activation(x) for {name!r}")
            what = f"activation(x, grad=True) for {name!r}"
            mistakes = {"it ignores `grad`: it is activation(x)": value}
            assert_close(model.activation(x.copy(), grad=True), slope, what, mistakes=mistakes)
        assert_numpy_only("NN.activation")

    def test_softmax_equals_that_of_torch(self):
        """softmax normalises each row, even of large numbers."""
        for scale in (1, 1000):
            x = scale * array("x", 4, 6)
            what = f"softmax(x) for x of ±{scale}"
            with np.errstate(all="ignore"):
                found = network().softmax(x.copy())
            if not np.isfinite(np.asarray(found, dtype=float)).all():
                fail(f"{what} is not finite: subtract the maximum of each row before exp")
            mistakes = {
                "its columns sum to 1; expected the rows: axis=-1": softmax(x, 0),
                "its numbers sum to 1 all together; expected each row: axis=-1": softmax(x, None),
                "its rows do not sum to 1: is it divided by their sums?": (
                    np.exp(x - x.max(axis=-1, keepdims=True))
                ),
            }
            assert_close(found, softmax(x, -1), what, mistakes=mistakes)
        assert_numpy_only("NN.softmax")


def value_and_slope(name, x):
    """Return an activation and its derivative, computed by PyTorch."""
    leaf = torch.tensor(x, requires_grad=True)
    value = getattr(torch, name)(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach().numpy(), slope.numpy()


def softmax(x, axis):
    """Return the softmax over an axis, or over all numbers, computed by PyTorch."""
    x = torch.tensor(x)
    return (x.softmax(axis) if axis is not None else x.flatten().softmax(0).view_as(x)).numpy()


NETWORKS = (((7, 6, 5, 4), "relu"), ((5, 3, 4), "tanh"), ((4, 6, 5, 7, 3), "sigmoid"))


class TestForward(Problem):
    """Problem 1.3"""

    def test_forward_returns_all_layers(self):
        """A and Z of each layer equal those of torch, for several networks."""
        for dims, name in NETWORKS:
            model, x = network(dims, activation=name), array("x", 5, dims[0])
            labels, _ = labels_of(5, dims[-1])
            found, (expected, _) = model.forward(x.copy()), torch_network(model, x, labels)
            assert_entries(found, expected, f"The cache of NN({dims})")
            kept = dict(found)
            model.forward(-x)
            if any(found[key] is not kept[key] for key in expected):
                fail("forward changes the cache that it returned before; expected a new dictionary")
            last = f"Z{len(dims) - 1}"
            for key, value in expected.items():
                layer, mistakes = key[1:], {}
                if key[0] == "A":
                    before = expected[f"Z{int(layer) - 1}"]
                    mistakes["it has no bias"] = before @ model.weights[f"W{layer}"]
                    words = "it is the activation; A is before the activation, Z after it"
                    mistakes[words] = expected[f"Z{layer}"]
                elif layer != "0":
                    before = expected[f"A{layer}"]
                    hidden = value_and_slope(name, before)[0]
                    words = "it is the pre-activation; Z is after the activation, A before it"
                    mistakes[words if key != last else "it lacks the softmax"] = before
                    if key == last:
                        words = f"it is a {name}; expected a softmax in the last layer"
                        mistakes[words] = hidden
                        mistakes[f"a {name} precedes the softmax"] = softmax(hidden, 1)
                        words = "the softmax runs over the batch; expected the classes"
                        mistakes[words] = softmax(before, 0)
                    words = f"it is relu; activation_str is {name!r}"
                    mistakes[words] = np.maximum(before, 0)
                what = f"NN({dims}, {name!r}): {key}"
                assert_close(found[key], value, what, mistakes=mistakes)
        assert_numpy_only("NN.forward")


class TestLoss(Problem):
    """Problem 1.4"""

    def test_loss_is_the_mean_cross_entropy(self):
        """The loss equals that of torch."""
        for batch, classes in ((1, 10), (5, 4), (3, 3)):
            logits = 2 * array("logits", batch, classes)
            _, one_hot = labels_of(batch, classes)
            prediction = torch.tensor(logits).softmax(1).numpy()
            what = f"The loss of predictions {(batch, classes)}"
            found = network().loss(prediction.copy(), one_hot.copy())
            self.check(found, prediction, one_hot, 1e-6, what)
        assert_numpy_only("NN.loss")

    def test_probabilities_are_clipped_on_both_sides(self):
        """A probability of 0 counts as epsilon, a probability of 1 as 1 - epsilon."""
        rows = np.array([[1.0, 0, 0], [1.0, 0, 0], [0.2, 0.7, 0.1]])
        for what, prediction, one_hot in (
            ("0", rows[:1], np.eye(3)[[1]]),
            ("1 and 0.7", rows[1:], np.eye(3)[:2]),
        ):
            for epsilon in (0.05, 1e-3):
                with np.errstate(all="ignore"):
                    found = network(epsilon=epsilon).loss(prediction.copy(), one_hot.copy())
                words = f"The loss of probabilities {what}, with epsilon={epsilon}"
                self.check(found, prediction, one_hot, epsilon, words)

    def check(self, found, prediction, one_hot, epsilon, what):
        """Compare a loss with the mean cross-entropy of clipped probabilities."""
        right, classes = prediction[one_hot == 1], one_hot.shape[1]
        losses = -np.log(np.clip(right, epsilon, 1 - epsilon))
        with np.errstate(all="ignore"):
            mistakes = {
                "it is the sum over the batch; expected the mean": losses.sum(),
                "it has one loss per example; expected their mean": losses,
                "it is divided by the number of classes, too": losses.mean() / classes,
                "it is log(p + epsilon); expected clipping": -np.log(right + epsilon).mean(),
                "it clips below only": -np.log(np.maximum(right, epsilon)).mean(),
                "its epsilon is 1e-6; expected self.epsilon": (
                    -np.log(np.clip(right, 1e-6, 1 - 1e-6)).mean()
                ),
                "it does not clip; expected [epsilon, 1 - epsilon]": -np.log(right).mean(),
                "it uses log2; expected the natural logarithm": losses.mean() / math.log(2),
            }
        if not np.isfinite(np.asarray(found, dtype=float)).all():
            fail(f"{what} is {found}: clip the probabilities to [epsilon, 1 - epsilon] before log")
        assert_close(found, losses.mean(), what, 1e-7, mistakes)


class TestBackward(Problem):
    """Problem 1.5, with the cache of 1.3"""

    def test_gradients_equal_those_of_torch(self):
        """All gradients equal those of torch; dW and db are means over the batch."""
        for dims, name in NETWORKS:
            model, x = network(dims, activation=name), array("x", 5, dims[0])
            labels, one_hot = labels_of(5, dims[-1])
            if name == "tanh":
                model.weights["W2"] *= 100  # the loss clips such confident predictions
            cache, expected = torch_network(model, x, labels)
            # Your cache may have more entries.
            found = model.backward({**model.forward(x.copy()), **cache}, one_hot)
            what = f"NN({dims}, {name!r})"
            assert_entries(found, expected, f"The gradients of {what}")
            for key in backward_order(len(dims) - 1):
                layer = int(key[2:])
                if key[:2] == "dA" and layer < len(dims) - 1:
                    slope = value_and_slope(name, cache[f"A{layer}"])[1]
                    yours = model.activation(cache[f"A{layer}"].copy(), grad=True)
                    words = "activation(x, grad=True), Problem 1.2, is wrong, and backward uses it"
                    assert_close(yours, slope, words)
                mistakes = self.mistakes(key, name, cache, expected, one_hot)
                assert_close(found[key], expected[key], f"{what}: {key}", mistakes=mistakes)
        assert_numpy_only("NN.backward")

    def mistakes(self, key, name, cache, expected, one_hot):
        """Return the numbers that known mistakes give for a gradient, by words for the mistakes."""
        kind, layer, batch = key[:2], int(key[2:]), len(one_hot)
        wanted = expected[key]
        if kind in ("dW", "db"):
            before = expected[f"dA{layer}"]
            mistakes = {
                "it is the sum over the batch; expected the mean": wanted * batch,
                "it is divided by the batch size twice": wanted / batch,
                "it is the sum over the batch with the wrong sign": -wanted * batch,
            }
            if kind == "db":
                mistakes["it lacks a dimension; expected (1, out): keepdims=True"] = wanted[0]
                mistakes["it is a mean over axis 1; expected axis 0, the batch"] = before.mean(
                    axis=1, keepdims=True
                )
            else:
                mistakes["it is transposed; expected (in, out)"] = wanted.T
                if layer > 1:
                    words = "it uses A of the layer before; expected Z, the activation"
                    mistakes[words] = cache[f"A{layer - 1}"].T @ before / batch
            return mistakes
        words = "it is divided by the batch size; expected the gradient of each example's own loss"
        mistakes = {words: wanted / batch}
        if kind == "dA" and f"dZ{layer}" in expected:
            after, affine = expected[f"dZ{layer}"], cache[f"A{layer}"]
            mistakes["it lacks the derivative of the activation"] = after
            words = "it uses activation(A); expected the derivative, grad=True"
            mistakes[words] = after * value_and_slope(name, affine)[0]
            words = "it uses the derivative at Z; expected the derivative at A"
            mistakes[words] = after * value_and_slope(name, cache[f"Z{layer}"])[1]
        elif kind == "dA":
            mistakes["it is labels - prediction; expected prediction - labels"] = -wanted
            words = "it is the gradient with respect to the softmax; expected that of the logits"
            mistakes[words] = -one_hot / np.maximum(cache[f"Z{layer}"], 1e-300)
            right = (cache[f"Z{layer}"] * one_hot).sum(axis=1, keepdims=True)
            words = "it is 0 where the loss clips; expected prediction - labels there, too"
            mistakes[words] = wanted * (abs(right - 0.5) < 0.5 - 1e-6)
        else:
            words = f"it equals dA{layer}: is dZ{layer} multiplied in place, by `*=`?"
            mistakes[words] = expected[f"dA{layer}"]
        return mistakes


def backward_order(last):
    """Return the gradients in the order of their computation."""
    for layer in range(last, 0, -1):
        yield from (f"dZ{layer}",) if layer < last else ()
        yield from (f"dA{layer}", f"dW{layer}", f"db{layer}")


class TestUpdate(Problem):
    """Problem 1.6"""

    def test_update_steps_against_the_gradient(self):
        """Each weight and bias changes by -lr times its gradient."""
        model = network(lr=0.1)
        before = {name: weight.copy() for name, weight in model.weights.items()}
        grads = {f"d{name}": array(f"d{name}", *weight.shape) for name, weight in before.items()}
        given = {name: gradient.copy() for name, gradient in grads.items()}
        model.update(given)
        for name, weight in before.items():
            gradient = grads[f"d{name}"]
            changed = f"d{name} after update, which must not change it,"
            assert_close(given[f"d{name}"], gradient, changed, 0)
            mistakes = {
                "it has not changed": weight,
                "it moves along the gradient; expected against it": weight + 0.1 * gradient,
                "the learning rate is missing": weight - gradient,
                "the learning rate is 0.01; expected self.lr": weight - 0.01 * gradient,
                "it is the step itself; expected the weight minus the step": -0.1 * gradient,
                "the learning rate divides the gradient": weight - gradient / 0.1,
            }
            what = f"After update, {name}"
            assert_close(model.weights[name], weight - 0.1 * gradient, what, 1e-6, mistakes)
        assert_numpy_only("NN.update")


# ---------------------------------------------------------------- Question 2


def convolution(filter_size=3, stride=1, n_units=4):
    layer = solution.Convolution2dLayer(filter_size, stride, n_units)
    layer.weights = array("filters", n_units, filter_size, filter_size)
    return layer


UNSTRIDED = "its windows start at x[i, j]; expected x[s i, s j], with stride s"
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
            images, weights = torch.tensor(x), torch.tensor(layer.weights)[:, None]
            size, stride, _ = arguments
            expected, dense = (F.conv2d(images, weights, stride=s) for s in (stride, 1))
            found = layer.forward(x.copy())
            assert_entries(found, ("x", "out"), "The cache")
            height, width = expected.shape[2:]
            mistakes = {
                "the filters are flipped; expected a cross-correlation": (
                    F.conv2d(images, weights.flip(2, 3), stride=stride)
                ),
                "the filters are transposed": F.conv2d(images, weights.mT, stride=stride),
                "the stride is ignored": dense,
                UNSTRIDED: dense[:, :, :height, :width],
                "it lacks the last row and column": expected[:, :, :-1, :-1],
                "the images are padded": F.conv2d(images, weights, stride=stride, padding=1),
                "it is a mean; expected the sum": expected / size**2,
            }
            what = f"Convolution2dLayer{arguments}: out"
            assert_close(found["out"], expected, what, mistakes=mistakes)
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
            cache = layer.forward(x.copy())
            layer.backward(cache, grad_output.copy())
            found = layer.backward(cache, grad_output.copy())
            expected, positions = expected[:, 0], math.prod(out.shape[2:])
            height, width = (number + arguments[0] - 1 for number in out.shape[2:])
            dense = F.conv2d(torch.tensor(x)[:, :, :height, :width], weights)
            (wrong,) = torch.autograd.grad(dense, weights, torch.tensor(grad_output))
            mistakes = {
                "it is the mean over the images; expected the sum": expected / shape[0],
                "it is the mean over the positions; expected the sum": expected / positions,
                UNSTRIDED: wrong[:, 0],
                "the second call adds to the first; expected each call alone": 2 * expected,
                "it is flipped": expected.flip(1, 2),
                "it is transposed": expected.transpose(1, 2),
            }
            what = f"Convolution2dLayer{arguments}: the gradient"
            assert_close(found, expected, what, mistakes=mistakes)
        assert_numpy_only("Convolution2dLayer.backward")


class TestMaxPooling(Problem):
    """Problem 2.3"""

    def test_forward_equals_max_pool2d(self):
        """The output equals that of torch, for several windows."""
        for size, shape in ((2, (3, 4, 6, 6)), (3, (2, 2, 6, 9)), (2, (1, 64, 30, 30))):
            x = array("x", *shape) - 2
            found = solution.MaxPooling2dLayer(size).forward(x.copy())
            assert_entries(found, ("x", "out"), "The cache")
            images = torch.tensor(x)
            expected = F.max_pool2d(images, size)
            channels = expected.amax(1, keepdim=True).expand_as(expected)
            mistakes = {
                "it is the mean of a window; expected the maximum": F.avg_pool2d(images, size),
                "it is 0 where all numbers of a window are negative": expected.clamp(min=0),
                "it is the maximum over all channels; expected that of each": channels,
            }
            for stride in (1, 2):
                overlapping = F.max_pool2d(images, size, stride)
                words = f"the windows start every {stride} pixels; expected every {size}"
                mistakes[words] = overlapping[:, :, : expected.shape[2], : expected.shape[3]]
            assert_close(found["out"], expected, f"MaxPooling2dLayer({size}): out", 1e-4, mistakes)
        assert_numpy_only("MaxPooling2dLayer.forward")


def pooling_gradient(x, size, grad_output):
    """Return the gradient with respect to the input of max pooling, computed by PyTorch."""
    leaf = torch.tensor(x, requires_grad=True)
    F.max_pool2d(leaf, size).backward(torch.tensor(grad_output))
    return leaf.grad


class TestMaxPoolingBackward(Problem):
    """Problem 2.4, with the cache of 2.3"""

    def test_gradient_equals_that_of_max_pool2d(self):
        """The gradient of the input equals that of torch if each window has one maximum."""
        for size, shape in ((2, (3, 4, 6, 6)), (3, (2, 2, 6, 9)), (2, (1, 64, 30, 30))):
            x = array("x", *shape)
            out = F.max_pool2d(torch.tensor(x), size)
            grad_output = array("grad_output", *out.shape)
            expected, other = (pooling_gradient(each, size, grad_output) for each in (x, -x))
            layer = solution.MaxPooling2dLayer(size)
            cache = layer.forward(x.copy())
            layer.forward(-x)
            found = layer.backward(cache, grad_output.copy())
            everywhere = F.interpolate(torch.tensor(grad_output), scale_factor=size)
            mistakes = {
                "it is the mask of the maxima; expected it times grad_output": (expected != 0),
                "every pixel of a window receives it; expected the maxima only": everywhere,
                "it uses the last images of forward; expected those of `cache`": other,
            }
            what = f"MaxPooling2dLayer({size}): the gradient"
            assert_close(found, expected, what, mistakes=mistakes)
        assert_numpy_only("MaxPooling2dLayer.backward")

    def test_all_maxima_of_a_window_receive_the_gradient(self):
        """If two pixels are maximal, each receives the whole gradient."""
        x = np.array([[[[1.0, 3], [3, 0]]]])
        layer = solution.MaxPooling2dLayer(2)
        found = layer.backward(layer.forward(x), np.array([[[[0.5]]]]))
        mistakes = {
            "only the first receives it; expected both": [[[[0, 0.5], [0, 0]]]],
            "they share it; expected the whole gradient for each": [[[[0, 0.25], [0.25, 0]]]],
        }
        what = "The gradient of two maxima"
        assert_close(found, [[[[0, 0.5], [0.5, 0]]]], what, mistakes=mistakes)


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
        for arguments in ((4, 6), (6, 6, 2)):
            expected = expected.replace("6x4x", f"6x{arguments[0]}x")
            what = f"ResidualBlock{arguments}"
            assert_parameters(solution.ResidualBlock(*arguments), expected, what)

    def test_output_has_the_right_shape(self):
        """The stride divides height and width, rounding up."""
        for arguments, size in (((4, 4), 5), ((4, 6), 5), ((4, 6, 2), 3), ((4, 4, 2), 3)):
            found = tuple(solution.ResidualBlock(*arguments)(sample(2, 4, 5, 5)).shape)
            expected = (2, arguments[1], size, size)
            if found != expected:
                what = f"ResidualBlock{arguments}: the output for images of 5 x 5 pixels"
                fail(f"{what} has shape {found}; expected {expected}")

    def test_last_activation_follows_the_sum(self):
        """The residual connection is added to the branch before the last activation."""
        inputs = sample(2, 4, 6, 6)
        for name, act in (("relu", torch.relu), ("tanh", torch.tanh)):
            what, rectified = f"ResidualBlock(4, 4, 1, {name!r})", {"it is ReLU": inputs.relu()}
            block = filled(solution.ResidualBlock(4, 4, 1, name))
            found = block.activation(inputs.clone())
            assert_close(found, act(inputs), f"{what}.activation(x)", mistakes=rectified)
            before = block(inputs).detach()
            constant(block.bn2, -0.5)
            branch = torch.full_like(inputs, -0.5)
            mistakes = {
                "the activation precedes the sum, and none follows it": act(branch) + inputs,
                "an activation precedes the sum, too": act(act(branch) + inputs),
                "it lacks the last activation": branch + inputs,
                "it lacks the residual connection": act(branch),
                "the last activation is ReLU; expected self.activation": (branch + inputs).relu(),
                "it does not depend on bn2; does bn1 follow conv2, too?": before,
            }
            what = f"{what} output if bn2 returns -0.5"
            assert_close(block(inputs), act(branch + inputs), what, mistakes=mistakes)

    def test_first_activation_follows_the_first_batch_norm(self):
        """If bn1 returns negative numbers, conv2 receives zeros."""
        block, inputs = filled(solution.ResidualBlock(4, 4)), sample(2, 4, 6, 6)
        constant(block.bn1, -1)
        before = block(inputs)
        block.conv2.weight.data.neg_()
        if not is_close(block(inputs).detach(), before.detach()):
            fail(
                "ResidualBlock: conv2 does not receive activation(bn1(conv1(x))): is bn1 missing, "
                "or the activation after it?"
            )

    def test_initialization_reaches_both_convolutions(self):
        """conv1 and conv2 have the standard deviation of the three initialisations."""
        for name in INITIALIZATIONS:
            assert_initialised(
                solution.ResidualBlock(32, 48, 1, "relu", name), name, "ResidualBlock"
            )

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


INITIALIZATIONS = ("xavier_normal", "xavier_uniform", "kaiming_normal")


def assert_initialised(block, name, what):
    """Fail if a convolution of a block does not have the spread of an initialisation."""
    for part in ("conv1", "conv2"):
        weight = getattr(block, part).weight.detach()
        fan_out, fan_in = 9 * weight.shape[0], 9 * weight.shape[1]
        fans = fan_in if name == "kaiming_normal" else fan_in + fan_out
        std, uniform = math.sqrt(2 / fans), weight.abs().max() < 1.8 * weight.std()
        if not 0.95 * std < weight.std() < 1.05 * std or uniform != name.endswith("uniform"):
            fail(
                f"{what}, initialization={name!r}: {part} has standard deviation "
                f"{weight.std():.3g} and maximum {weight.max():.3g}; expected that of {name}, "
                f"with standard deviation {std:.3g}"
            )


BLOCKS = {
    "ResidualBlock(3, 4, 2)": (3, 4, 2),
    "ResidualBlock(3, 4, 1, 'tanh')": (3, 4, 1, "tanh"),
}


class TestResNet18(Problem):
    """Problem 3.2"""

    def test_arguments_reach_the_blocks(self):
        """Every block has the activation and the initialization of the network."""
        model = solution.ResNet18("tanh", "kaiming_normal")
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            for number, block in enumerate(getattr(model, layer)):
                what = f"ResNet18('tanh', 'kaiming_normal'): {layer}[{number}]"
                stride = 1 if number or layer == "layer1" else 2
                if block.conv1.stride[0] != stride:
                    fail(f"{what} has the stride {block.conv1.stride[0]}; expected {stride}")
                assert_initialised(block, "kaiming_normal", what)
                x = torch.tensor([-1.0, 2])
                assert_close(block.activation(x.clone()), x.tanh(), f"{what}.activation(x)")

    def test_number_of_parameters(self):
        """The network has 11,173,962 parameters."""
        number = sum(parameter.numel() for parameter in solution.ResNet18().parameters())
        if number != 11_173_962:
            fail(f"ResNet18() registers {number:,} parameters; expected 11,173,962")

    def test_output_equals_stored_numbers(self):
        """With stored parameters, the network returns stored logits and gradients."""
        for name, low, high in (("tanh", -1, 1), ("relu", 0, math.inf)):
            model, stem = filled(solution.ResNet18(name)).eval(), []
            model.layer1.register_forward_pre_hook(lambda _, inputs, stem=stem: stem.extend(inputs))
            output, what = model(sample(1, 3, 32, 32)), f"ResNet18({name!r})"
            if output.shape != (1, 10):
                fail(f"{what} of one image returns {tuple(output.shape)}; expected (1, 10)")
            if is_close(output.sum().item(), 1):
                fail(f"{what}: the output sums to 1; expected logits, without a softmax")
            if any((each < low).any() or (each > high).any() for each in stem):
                fail(f"{what}: layer1 does not receive activation(bn1(conv1(x)))")
        assert_same_as_stored(model, sample(2, 3, 32, 32), what)


def small_model():
    layers = (nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return filled(nn.Sequential(*layers))


def small_loader(number=20, batch_size=5):
    images = sample(number, 3, 2, 2)
    return DataLoader(TensorDataset(images, torch.arange(number) % 3), batch_size)


def an_epoch(model, batch_size=5, zero=True, again=False):
    """Train a small model by SGD; return its parameters and statistics, and what it measures."""
    optimizer, batches = torch.optim.SGD(model.parameters(), lr=0.1), []
    for images, labels in small_loader(batch_size=batch_size):
        if zero:
            optimizer.zero_grad()
        logits = model(images)
        batches.append(measure(logits, labels))
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        if again:
            model(images)
    return model.state_dict(), batches


class TestLoops(Problem):
    """Problem 3.3"""

    def test_train_loop_takes_one_step_per_batch(self):
        """The weights after an epoch equal those of an explicit loop, in training mode."""
        model, start = small_model().eval(), small_model().state_dict()
        self.train(model, small_loader())
        if torch.initial_seed() != 0:  # that of setUp
            fail("train_loop sets a seed; expected none")
        right, _ = an_epoch(small_model())
        mistakes = {
            "it is as before: is a step taken, after backward()?": start,
            "the model is in evaluation mode; expected model.train()": (
                an_epoch(small_model().eval())[0]
            ),
            "gradients add up over batches: call zero_grad before backward": (
                an_epoch(small_model(), zero=False)[0]
            ),
            "the model is called twice per batch; expected once, for the accuracy too": (
                an_epoch(small_model(), again=True)[0]
            ),
        }
        for name, tensor in model.state_dict().items():
            wrong = {words: state[name] for words, state in mistakes.items()}
            assert_close(tensor, right[name], f"After train_loop: {name}", mistakes=wrong)

    def test_train_loop_returns_means_over_batches_of_equal_size(self):
        """train_loop returns (accuracy, loss), measured before each step."""
        self.check_train_loop(5)

    def test_valid_loop_only_measures(self):
        """Accuracy and loss are those of evaluation mode, and the model does not change."""
        model, twin = small_model().train(), small_model().eval()
        self.check_valid_loop(model, twin, 5)
        for name, tensor in model.state_dict().items():
            assert_close(tensor, twin.state_dict()[name], f"After valid_loop: {name}", 1e-6)

    def test_every_image_counts_the_same(self):
        """A smaller last batch has less weight: both loops return means over the images."""
        self.check_train_loop(6)
        self.check_valid_loop(small_model().train(), small_model().eval(), 6)

    def train(self, model, loader):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return solution.train_loop(1, model, loader, nn.CrossEntropyLoss(), optimizer)

    def check_train_loop(self, batch_size):
        _, batches = an_epoch(small_model(), batch_size)
        found = self.train(small_model(), small_loader(batch_size=batch_size))
        self.compare(found, batches, "train")

    def check_valid_loop(self, model, twin, batch_size):
        loader = small_loader(batch_size=batch_size)
        with torch.no_grad():
            batches = [measure(twin(images), labels) for images, labels in loader]
        found = solution.valid_loop(1, model, loader, nn.CrossEntropyLoss())
        with torch.no_grad():
            other = [measure(small_model().train()(images), labels) for images, labels in loader]
        try:
            self.compare(found, other, "valid")
        except AssertionError:
            pass
        else:
            fail("valid_loop measures in training mode; expected model.eval()")
        self.compare(found, batches, "valid")

    def compare(self, found, batches, name):
        """Compare what a loop returns with the accuracies and losses of its batches."""
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            fail(f"{name}_loop returns a {type(found).__name__}; expected (accuracy, loss)")
        sizes, *measured = (np.array(numbers) for numbers in zip(*batches))
        accuracy, loss = ((sizes * numbers).sum() / sizes.sum() for numbers in measured)
        if is_close(float(found[0]), loss) and is_close(float(found[1]), accuracy):
            fail(f"{name}_loop returns (loss, accuracy); expected (accuracy, loss)")
        for kind, number, numbers, mean in zip(
            ("accuracy", "loss"), found, measured, (accuracy, loss)
        ):
            mistakes = {
                "it is the mean of the batches' means; expected that of the images": numbers.mean(),
                "it is in percent; expected a fraction": 100 * mean,
                "it is a sum over the batches; expected the mean over the images": numbers.sum(),
                "it is a sum over the images; expected the mean": mean * sizes.sum(),
                "it is that of the last batch; expected the mean over all images": numbers[-1],
                "it is divided by the number of images once too often": mean / sizes.sum(),
            }
            assert_close(float(number), mean, f"The {kind} of {name}_loop", mistakes=mistakes)


def measure(logits, labels):
    """Return the size, the accuracy and the loss of a batch."""
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    return len(labels), accuracy, F.cross_entropy(logits, labels).item()


if __name__ == "__main__":
    run(select(sys.argv[1:]))
