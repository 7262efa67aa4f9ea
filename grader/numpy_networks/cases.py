"""The checks of Questions 1, 2 and 3.1 to 3.3, with their points.

Whatever the course's notebook allows passes: extra entries in a cache, any precision, loops, a
``loss`` that clips the predictions in place, derivatives of integer or boolean type, any of NumPy's
random generators. No case pools an image that the windows do not fill, or gives ResNet18 an image
of another size than the sheet's.

Every test of the handout's ``test.py`` is part of one of these cases.

Shapes: B batch, C channels, H, W height and width, K classes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

# Imported by optimizers on first use, which takes a second: once here, not in every case.
import torch._dynamo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from grader.forbidden import Forbidden
from grader.trial import MODES, Trial, Wrong, case, compile_tests, describe_call, set_mode

FILE = "solution.py"
TESTS = compile_tests("numpy_networks")
NAMES = ("relu", "sigmoid", "tanh")
FUNCTIONS = tuple(f"NN.{name}" for name in NAMES)
ALL_FUNCTIONS = (*FUNCTIONS, "NN.activation", "NN.softmax")


def _own(part: str) -> Forbidden:
    """Forbid torch in a part of the file."""
    return Forbidden(part, ("torch",))


def _numbers(trial: Trial, *shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Return normal numbers and a 0, in double precision for the submission too."""
    numbers = scale * trial.draw(*shape, seed=seed).double().numpy()
    numbers.flat[0] = 0
    return numbers


def _draw(
    trial: Trial,
    *shape: int,
    scale: float = 1.0,
    change: Callable[[np.ndarray], np.ndarray] = np.array,
) -> Callable[[int], tuple[np.ndarray]]:
    """Return a function of a seed that returns an array, as ``Trial.probe_arrays`` wants it."""
    return lambda seed: (change(_numbers(trial, *shape, seed=seed, scale=scale)),)


def _record_raised(trial: Trial, what: str, call: Callable[[], Any]) -> None:
    """Record whether an error is raised; one of any type is expected."""
    raised = "no error"
    try:
        call()
    except NotImplementedError:
        raise
    except Exception:
        raised = "an error"
    trial.record_text(what, raised)


# ---------------------------------------------------------------- initial weights (1.1 and 2.1)


def _weights(part: Any) -> dict[str, np.ndarray]:
    """Return the weights of an NN or a convolution by name."""
    return part.weights if isinstance(part.weights, dict) else {"weights": part.weights}


def _initialized(part: Any) -> dict[str, np.ndarray]:
    """Initialise the weights of a part and return copies."""
    part.initialize_weights()
    return {name: np.array(weight) for name, weight in _weights(part).items()}


def _record_uniform(trial: Trial, what: str, weight: np.ndarray, width: float) -> None:
    """Record weights that should be uniform over an interval of this width around 0."""
    drawn = torch.from_numpy(weight.astype(np.float64))
    trial.record_drawn(what, drawn, "uniform", width / math.sqrt(12))


def _record_seeds(trial: Trial, what: str, build: Callable[..., Any]) -> dict[str, np.ndarray]:
    """Record how weights follow the seed and what drawing them leaves behind; return some."""
    parts = [build(seed=seed) for seed in (3, 0, 4, None)]
    drawn = [_initialized(part) for part in parts]
    for part, before in zip(parts[:2], drawn):
        words = f"{what}, seed={part.seed}: what"
        for name, weight in _weights(part).items():
            change = weight - before[name]
            trial.record_arrays(f"{words} other instances change in {name}", change, tolerance=0)
            weight *= 0  # a stand-in for training
        np.random.random_sample(3)
        for name, weight in _initialized(part).items():
            change = weight - before[name]
            trial.record_arrays(f"{words} a second call changes in {name}", change, tolerance=0)
    drawn.append(_initialized(parts[3]))
    for name in (name for name, weight in drawn[0].items() if len(weight) > 1):
        for first, second, words in (
            (0, 1, "of seed=3 and seed=0"),
            (0, 2, "of seed=3 and seed=4"),
            (3, 4, "of two calls with seed=None"),
        ):
            _record_different(trial, f"{name}, {words}", drawn[first][name], drawn[second][name])
    trial.record_seeds(f"{what} with seed=None", lambda: _initialized(build(seed=None)))
    return drawn[0]


def _record_different(trial: Trial, what: str, first: np.ndarray, second: np.ndarray) -> None:
    trial.record_different(what, torch.from_numpy(first), torch.from_numpy(second))


# ---------------------------------------------------------------- Question 1: the MLP


def _networks(
    trial: Trial, *calls: tuple[tuple[int, ...], str], scale: float = 1.0, **options: float
) -> list[tuple[str, Any]]:
    """Return NNs with known weights, and their calls as text.

    No bias is zero. All are built before one is used, so that what instances share by mistake
    shows. ``W1`` is divided by the scale of the input.
    """
    networks = []
    for number, (dims, activation) in enumerate(calls):
        model = trial.solution.NN(dims=dims, activation=activation, **options)
        model.weights = {}
        for layer, (size_in, size_out) in enumerate(pairwise(dims), start=1):
            weight = trial.draw(size_in, size_out, seed=10 * number + layer).double().numpy()
            model.weights[f"W{layer}"] = weight / math.sqrt(size_in)
            bias = trial.draw(1, size_out, seed=10 * number + layer + 5).double().numpy()
            model.weights[f"b{layer}"] = 0.3 * bias
        model.weights["W1"] = model.weights["W1"] / scale
        networks.append((f"NN({dims}, {activation!r})", model))
    return networks


SHEET = (((7, 6, 5, 4), "relu"), ((784, 128, 64, 10), "relu"))
OTHERS = tuple(
    (dims, name)
    for name in NAMES
    for dims in ((6, 4), (6, 5, 4), (5, 7, 6, 4, 3), (4, 4, 4, 4), (4,) * 12)
)


def _labels(size: int, classes: int, seed: int = 0) -> np.ndarray:
    """Return one-hot labels (B, K)."""
    return np.eye(classes)[(np.arange(size) * 7 + seed) % classes]


@case("1.1", 1, FILE, public=True, forbidden=_own("NN.initialize_weights"))
def weights_have_their_shapes(trial: Trial):
    """initialize_weights creates W (in, out) and a row of zeros b (1, out) for every layer."""
    for dims in ((784, 128, 64, 10), (5, 4, 3), (6, 3, 7, 2, 4), (4, 2), (3,) * 12):
        with trial.watched():
            weights = _initialized(trial.solution.NN(dims=dims))
        names = [f"{letter}{layer}" for layer in range(1, len(dims)) for letter in "Wb"]
        zeros = {name: weight * (name[0] == "b") for name, weight in weights.items()}
        trial.record_arrays(f"NN({dims}): the shapes and biases of weights", zeros, names, 0)
    trial.run_tests(TESTS, "TestInitializeWeights.test_every_layer_has_weights_and_biases")


@case("1.1", 1, FILE, public=True, forbidden=_own("NN.initialize_weights"))
def weights_are_uniform(trial: Trial):
    """All weights are uniform in ±1 / sqrt(h0), where h0 is the size of the input."""
    for dims in ((100, 300, 90, 40), (4, 900, 30)):
        with trial.watched():
            weights = _initialized(trial.solution.NN(dims=dims))
        for layer in range(1, len(dims)):
            what = f"NN({dims}): W{layer}"
            _record_uniform(trial, what, weights[f"W{layer}"], 2 / math.sqrt(dims[0]))
    trial.run_tests(TESTS, "TestInitializeWeights.test_weights_are_uniform")


@case(
    "1.1",
    1,
    FILE,
    forbidden=_own("NN.initialize_weights"),
    hint="consider the seed, a second call, and layers of equal size.",
)
def weights_depend_on_the_seed(trial: Trial):
    """The same seed gives the same weights, another seed or None others; layers differ."""
    dims = (8, 8, 8, 8)
    weights = _record_seeds(trial, f"NN({dims})", partial(trial.solution.NN, dims=dims))
    for first, second in (("W1", "W2"), ("W2", "W3"), ("W1", "W3")):
        what = f"{first} and {second}, of the same shape,"
        _record_different(trial, what, weights[first], weights[second])
    trial.run_tests(TESTS, "TestInitializeWeights.test_weights_depend_on_the_seed")


def _probe_function(
    trial: Trial, what: str, function: Callable[..., Any], *shapes: tuple[int, ...]
) -> None:
    """Probe an activation function and its derivative."""
    for shape in shapes or ((6, 5), (1, 4), (2, 3), (200, 7)):
        for options in ({}, {"grad": True}):
            text = f"{what}(x{', grad=True' if options else ''}) for x of shape {shape}"
            trial.probe_arrays(text, partial(function, **options), _draw(trial, *shape, scale=3))


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.relu"))
def relu_and_its_derivative(trial: Trial):
    """relu returns max(x, 0), and with grad=True its derivative."""
    _probe_function(trial, "relu", _networks(trial, *SHEET)[0][1].relu)
    trial.run_tests(TESTS, "TestActivations.test_relu")


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.sigmoid"))
def sigmoid_and_its_derivative(trial: Trial):
    """sigmoid returns 1 / (1 + exp(-x)), and with grad=True its derivative."""
    _probe_function(trial, "sigmoid", _networks(trial, *SHEET)[0][1].sigmoid)
    trial.run_tests(TESTS, "TestActivations.test_sigmoid")


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.tanh"))
def tanh_and_its_derivative(trial: Trial):
    """tanh returns tanh(x), and with grad=True its derivative."""
    _probe_function(trial, "tanh", _networks(trial, *SHEET)[0][1].tanh)
    trial.run_tests(TESTS, "TestActivations.test_tanh")


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.activation"), stand_ins=FUNCTIONS)
def activation_selects_by_name(trial: Trial):
    """activation applies the function named by activation_str; an unknown name is an error."""
    for what, model in _networks(trial, *(((5, 4, 3), name) for name in NAMES)):
        _probe_function(trial, f"activation of {what}", model.activation, (4, 6), (1, 1))
    ((_, model),) = _networks(trial, ((5, 4, 3), "sine"))
    for grad in (False, True):
        call = partial(model.activation, np.ones((2, 3)), grad)
        _record_raised(trial, f"activation(x, {grad}) with activation_str='sine' raises", call)
    trial.run_tests(TESTS, "TestActivations.test_activation_selects_by_name")


@case("1.2", 1, FILE, hint="consider very large and very small inputs.")
def activations_of_large_inputs(trial: Trial):
    """relu, sigmoid, tanh and their derivatives are correct for inputs of ±20 to ±1,000."""
    ((_, model),) = _networks(trial, SHEET[0])
    for size in (20.0, 100.0, 700.0, 1000.0):
        for x in (-size, size):
            for name in NAMES:
                for grad in (False, True):
                    value = getattr(model, name)(np.array([[x, 0.5]]), grad=grad)
                    trial.record_arrays(f"{name}([[{x:g}, 0.5]], grad={grad})", value)
    trial.run_tests(TESTS, "TestActivations.test_large_numbers")


@case("1.2", 1.5, FILE, public=True, forbidden=_own("NN.softmax"))
def softmax_of_each_row(trial: Trial):
    """softmax normalises the exponentials of each row."""
    ((_, model),) = _networks(trial, SHEET[0])
    for shape in ((3, 10), (4, 4), (1, 3), (5, 2), (200, 10)):
        what = f"softmax(x) of x of shape {shape}"
        trial.probe_arrays(what, model.softmax, _draw(trial, *shape, scale=2))
    trial.run_tests(TESTS, "TestActivations.test_softmax_equals_that_of_torch")


@case(
    "1.2", 0.5, FILE, forbidden=_own("NN.softmax"), hint="consider large numbers, and a single row."
)
def softmax_of_large_numbers(trial: Trial):
    """softmax is correct for numbers of ±100 to ±10,000, and over the last axis of any array."""
    ((_, model),) = _networks(trial, SHEET[0])
    for scale in (100.0, 1000.0, 10_000.0):
        x = np.array([[scale, -scale, 0], [scale, scale, scale + 1], [-scale, -scale - 1, -scale]])
        trial.record_arrays(f"softmax({x.tolist()})", model.softmax(x.copy()))
    for shape in ((6,), (2, 3, 4)):
        what = f"softmax(x) of x of shape {shape}"
        trial.probe_arrays(what, model.softmax, _draw(trial, *shape))


def _probe_forward(trial: Trial, what: str, model: Any, batch: int, scale: float = 1.0) -> None:
    names = [f"{letter}{layer}" for layer in range(1, len(model.dims)) for letter in "AZ"]
    what = f"{what}.forward(x) for B = {batch}, x near {scale:g}"
    draw = _draw(trial, batch, model.dims[0], scale=scale)
    trial.probe_arrays(what, model.forward, draw, model, ["Z0", *names])


@case("1.3", 3, FILE, public=True, forbidden=_own("NN.forward"), stand_ins=ALL_FUNCTIONS)
def forward_computes_all_layers(trial: Trial):
    """forward returns Z0, A1, Z1, ..., with A before and Z after the activation, softmax last."""
    for what, model in _networks(trial, *SHEET):
        _probe_forward(trial, what, model, batch=5)
    trial.run_tests(TESTS, "TestForward.test_forward_returns_all_layers")


@case(
    "1.3",
    2,
    FILE,
    forbidden=_own("NN.forward"),
    stand_ins=ALL_FUNCTIONS,
    hint="consider other networks.",
)
def forward_of_other_networks(trial: Trial):
    """forward works for any number of hidden layers, from none to ten, with each activation."""
    for what, model in _networks(trial, *OTHERS):
        _probe_forward(trial, what, model, batch=4)


@case(
    "1.3",
    1,
    FILE,
    forbidden=_own("NN.forward"),
    stand_ins=ALL_FUNCTIONS,
    hint="consider other batches, and large numbers.",
)
def forward_of_any_batch(trial: Trial):
    """forward works for a batch of one and for many, and for large numbers."""
    ((what, model),) = _networks(trial, SHEET[0])
    for batch, scale in ((1, 1), (2, 1), (64, 1), (3, 1e4)):
        _probe_forward(trial, what, model, batch, scale)


def _probe_loss(trial: Trial, size: int, classes: int) -> None:
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        positive = np.abs(_numbers(trial, size, classes, seed=size + seed)) + 0.05
        return positive / positive.sum(axis=1, keepdims=True), _labels(size, classes, seed)

    ((_, model),) = _networks(trial, SHEET[0])
    what = f"loss of predictions {(size, classes)}"
    trial.probe_arrays(what, model.loss, draw, tolerance=1e-5, overwritten=1)


@case("1.4", 2, FILE, public=True, forbidden=_own("NN.loss"))
def loss_is_the_mean_cross_entropy(trial: Trial):
    """loss is the cross-entropy, averaged over the batch."""
    for size, classes in ((5, 10), (3, 4), (4, 4)):
        _probe_loss(trial, size, classes)
    trial.run_tests(TESTS, "TestLoss.test_loss_is_the_mean_cross_entropy")


@case(
    "1.4",
    1,
    FILE,
    forbidden=_own("NN.loss"),
    hint="consider other numbers of examples and classes.",
)
def loss_of_any_batch(trial: Trial):
    """loss works for one example, for many, and for two classes."""
    for size, classes in ((1, 10), (200, 10), (7, 2), (2, 7), (3, 100)):
        _probe_loss(trial, size, classes)


@case(
    "1.4",
    1,
    FILE,
    forbidden=_own("NN.loss"),
    hint="consider probabilities near 0 and 1, and epsilon.",
)
def loss_keeps_away_from_zero_and_one(trial: Trial):
    """loss clips probabilities to [epsilon, 1 - epsilon]."""
    for rows in ([[1.0, 0, 0]], [[0.0, 1, 0]], [[0.98, 0.01, 0.01], [0.99, 0.005, 0.005]]):
        for epsilon in (1e-6, 1e-3, 0.05):
            ((_, model),) = _networks(trial, SHEET[0], epsilon=epsilon)
            with trial.watched():
                loss = model.loss(np.array(rows), np.eye(3)[: len(rows)])
            # -log(1 - epsilon) for a confident and correct prediction, 0 without the upper limit.
            what = f"1 + loss of predictions {rows} with epsilon={epsilon:g} and labels 0, 1"
            trial.record_arrays(what, 1 + loss, tolerance=1e-5)
    trial.run_tests(TESTS, "TestLoss.test_probabilities_are_clipped_on_both_sides")


def _probe_backward(
    trial: Trial, what: str, model: Any, batch: int, layers: Sequence[int], scale: float = 1.0
) -> None:
    """Probe the gradients of some layers, from the cache of the submission's own forward."""
    last = len(model.dims) - 1
    names = [f"d{letter}{layer}" for layer in layers for letter in "ZAWb"]

    def draw(seed: int) -> tuple[Any, np.ndarray]:
        x = _numbers(trial, batch, model.dims[0], seed=seed, scale=scale)
        return model.forward(x), _labels(batch, model.dims[-1], seed)

    what = f"{what}.backward for B = {batch}, x near {scale:g}"
    wanted = [name for name in names if name != f"dZ{last}"]
    trial.probe_arrays(what, model.backward, draw, model, wanted)


FORWARD = (*ALL_FUNCTIONS, "NN.forward")


@case("1.5", 2, FILE, public=True, forbidden=_own("NN.backward"), stand_ins=FORWARD)
def backward_of_the_last_layer(trial: Trial):
    """backward returns dA of the last layer per example, and dW and db as means over the batch."""
    for what, model in _networks(trial, *SHEET):
        _probe_backward(trial, what, model, batch=3, layers=[3])


@case("1.5", 2.5, FILE, public=True, forbidden=_own("NN.backward"), stand_ins=FORWARD)
def backward_of_the_hidden_layers(trial: Trial):
    """backward returns dZ, dA, dW and db of the hidden layers, with ReLU."""
    for what, model in _networks(trial, *SHEET):
        _probe_backward(trial, what, model, batch=3, layers=[2, 1])
    trial.run_tests(TESTS, "TestBackward.test_gradients_equal_those_of_torch")


@case(
    "1.5",
    1.5,
    FILE,
    forbidden=_own("NN.backward"),
    stand_ins=FORWARD,
    hint="consider other networks.",
)
def backward_of_other_networks(trial: Trial):
    """backward works for any number of hidden layers, from none to ten, with each activation."""
    for what, model in _networks(trial, *OTHERS):
        _probe_backward(trial, what, model, batch=4, layers=range(len(model.dims) - 1, 0, -1))


@case(
    "1.5",
    1,
    FILE,
    forbidden=_own("NN.backward"),
    stand_ins=FORWARD,
    hint="consider other batches, confident mistakes, and large gradients.",
)
def backward_of_any_batch(trial: Trial):
    """backward works for a batch of one and for many; dA and dZ are not divided by B."""
    ((what, model),) = _networks(trial, SHEET[0])
    for batch, scale in ((1, 1), (2, 1), (64, 1), (8, 20)):
        _probe_backward(trial, what, model, batch, [3, 2, 1], scale)
    ((what, model),) = _networks(trial, SHEET[0], scale=1e6)
    _probe_backward(trial, what, model, 3, [3, 2, 1], scale=1e6)


def _probe_update(trial: Trial, scale: float, lr: float, *calls: tuple[tuple[int, ...], str]):
    for what, model in _networks(trial, *calls, lr=lr):

        def draw(seed: int, model: Any = model) -> tuple[dict[str, np.ndarray]]:
            shapes = {f"d{name}": weight.shape for name, weight in model.weights.items()}
            shapes |= {f"d{a}{n}": (3, size) for n, size in enumerate(model.dims) for a in "AZ"}
            grads = {
                name: _numbers(trial, *shape, seed=100 * seed + number, scale=scale)
                for number, (name, shape) in enumerate(shapes.items())
            }
            return (grads,)

        def update(grads: dict[str, np.ndarray], model: Any = model) -> dict[str, np.ndarray]:
            model.update(grads)
            return {name: np.array(weight) for name, weight in model.weights.items()}

        what = f"The weights of {what}, lr={lr:g}, after update of gradients near {scale:g}"
        trial.probe_arrays(what, update, draw, model, list(model.weights), tolerance=1e-5)


@case("1.6", 2, FILE, public=True, forbidden=_own("NN.update"))
def update_takes_a_step(trial: Trial):
    """update changes each weight and bias by -lr times its gradient."""
    _probe_update(trial, 1, 0.01, *SHEET)
    _probe_update(trial, 1, 0.5, SHEET[0])
    trial.run_tests(TESTS, "TestUpdate.test_update_steps_against_the_gradient")


@case(
    "1.6",
    1,
    FILE,
    forbidden=_own("NN.update"),
    hint="consider other networks, a second step, and large gradients.",
)
def update_of_other_networks(trial: Trial):
    """update works for other networks, again after a first step, and for large gradients."""
    _probe_update(trial, 1, 0.3, *OTHERS[:5])
    _probe_update(trial, 1e6, 0.1, SHEET[0])


# ---------------------------------------------------------------- Question 2: NumPy layers

# Filter size, stride and units, and the shape of the images.
CONVOLUTIONS = (((3, 1, 4), (3, 1, 6, 6)), ((3, 1, 64), (1, 1, 32, 32)))
OTHER_CONVOLUTIONS = (
    ((1, 1, 2), (2, 1, 4, 4)),
    ((2, 1, 3), (3, 1, 5, 7)),
    ((5, 1, 2), (1, 1, 9, 8)),
    ((3, 2, 4), (2, 1, 9, 9)),
    ((3, 2, 1), (2, 1, 8, 10)),
    ((2, 3, 2), (2, 1, 11, 9)),
    ((4, 1, 3), (2, 1, 4, 4)),
    ((3, 1, 2), (40, 1, 5, 5)),
)


def _convolutions(trial: Trial, *settings: tuple) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Return convolutions with known weights of both signs: call, layer and shape of the images."""
    layers = []
    for number, ((filter_size, stride, units), shape) in enumerate(settings):
        layer = trial.solution.Convolution2dLayer(filter_size, stride, units)
        layer.weights = _numbers(trial, units, filter_size, filter_size, seed=number)
        layers.append((f"Convolution2dLayer{(filter_size, stride, units)}", layer, shape))
    return layers


def _probe_cache(
    trial: Trial, what: str, layer: Any, draw: Callable[[int], tuple], part: Any = None
) -> None:
    trial.probe_arrays(f"{what}.forward", layer.forward, draw, part, ("x", "out"))


@case("2.1", 1.5, FILE, public=True, forbidden=_own("Convolution2dLayer.initialize_weights"))
def filters_are_uniform(trial: Trial):
    """initialize_weights creates one filter per unit, uniform between 0 and 1."""
    for arguments in ((3, 1, 64), (5, 1, 1000)):
        layer = trial.solution.Convolution2dLayer(*arguments)
        with trial.watched():
            weights = _initialized(layer)["weights"]
        what = f"Convolution2dLayer{arguments}: weights minus 0.5"
        _record_uniform(trial, what, weights - 0.5, 1.0)
    trial.run_tests(TESTS, "TestConvolution.test_filters_are_uniform")


@case(
    "2.1",
    0.5,
    FILE,
    forbidden=_own("Convolution2dLayer.initialize_weights"),
    hint="consider the seed, and a second call.",
)
def filters_depend_on_the_seed(trial: Trial):
    """The same seed gives the same filters, another seed or None others; filters differ."""
    filters = _record_seeds(trial, "Convolution2dLayer()", trial.solution.Convolution2dLayer)
    _record_different(trial, "The first two filters", *filters["weights"][:2])


@case("2.1", 2.5, FILE, public=True, forbidden=_own("Convolution2dLayer.forward"))
def convolution_of_the_sheet(trial: Trial):
    """forward applies filters of 3 x 3 pixels with stride 1 at every position."""
    for what, layer, shape in _convolutions(trial, *CONVOLUTIONS):
        _probe_cache(trial, f"{what}, x {shape}", layer, _draw(trial, *shape), layer)
    trial.run_tests(TESTS, "TestConvolution.test_forward_equals_conv2d")


@case(
    "2.1",
    2.5,
    FILE,
    forbidden=_own("Convolution2dLayer.forward"),
    hint="consider other filter sizes and strides.",
)
def convolution_of_any_filter(trial: Trial):
    """forward works for other filter sizes, strides and images that are not square."""
    for what, layer, shape in _convolutions(trial, *OTHER_CONVOLUTIONS):
        for scale in (1, 1e4):
            draw = _draw(trial, *shape, scale=scale)
            _probe_cache(trial, f"{what}, x {shape} near {scale:g}", layer, draw, layer)


def _probe_gradient(
    trial: Trial, what: str, layer: Any, x: Callable[[int], tuple], scale: float, part: Any = None
) -> None:
    """Probe the backward pass of a layer, from the cache of the submission's own forward."""

    def draw(seed: int) -> tuple[Any, np.ndarray]:
        images, *_ = x(seed)
        cache = layer.forward(images)
        return cache, _numbers(trial, *np.shape(cache["out"]), seed=seed + 2, scale=scale)

    what = f"{what}.backward of gradients near {scale:g}"
    trial.probe_arrays(what, layer.backward, draw, part)


CONVOLVE = ("Convolution2dLayer.forward",)


@case(
    "2.2", 3, FILE, public=True, forbidden=_own("Convolution2dLayer.backward"), stand_ins=CONVOLVE
)
def convolution_gradient_of_the_sheet(trial: Trial):
    """backward returns the gradient of the weights, summed over images and positions."""
    for what, layer, shape in _convolutions(trial, *CONVOLUTIONS):
        _probe_gradient(trial, f"{what}, x {shape}", layer, _draw(trial, *shape), 1, layer)
    trial.run_tests(TESTS, "TestConvolutionBackward.test_gradient_equals_that_of_conv2d")


@case(
    "2.2",
    2,
    FILE,
    forbidden=_own("Convolution2dLayer.backward"),
    stand_ins=CONVOLVE,
    hint="consider other filter sizes and strides, and large gradients.",
)
def convolution_gradient_of_any_filter(trial: Trial):
    """backward works for other filter sizes, strides and images that are not square."""
    for what, layer, shape in _convolutions(trial, *OTHER_CONVOLUTIONS):
        for scale in (1, 1e6):
            _probe_gradient(trial, f"{what}, x {shape}", layer, _draw(trial, *shape), scale, layer)


# Size of the windows and shape of the images.
POOLINGS = ((2, (3, 4, 6, 6)), (2, (1, 64, 30, 30)))
OTHER_POOLINGS = (
    *((3, (2, 3, 6, 9)), (1, (2, 1, 3, 3)), (4, (1, 2, 8, 4))),
    *((2, (2, 3, 4, 8)), (2, (40, 1, 4, 2))),
)


def _poolings(trial: Trial, *settings: tuple) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Return the call of each layer, the layer, and the shape of the images."""
    new = trial.solution.MaxPooling2dLayer
    return [(f"MaxPooling2dLayer({size}), x {shape}", new(size), shape) for size, shape in settings]


@case("2.3", 2.5, FILE, public=True, forbidden=_own("MaxPooling2dLayer.forward"))
def pooling_of_the_sheet(trial: Trial):
    """forward returns the maximum of each window of 2 x 2 pixels, in each channel."""
    for what, layer, shape in _poolings(trial, *POOLINGS):
        _probe_cache(trial, what, layer, _draw(trial, *shape))
    trial.run_tests(TESTS, "TestMaxPooling.test_forward_equals_max_pool2d")


@case(
    "2.3",
    1.5,
    FILE,
    forbidden=_own("MaxPooling2dLayer.forward"),
    hint="consider other windows and images, and large negative numbers.",
)
def pooling_of_any_window(trial: Trial):
    """forward works for other windows, negative numbers, and images that are not square."""
    for what, layer, shape in _poolings(trial, *OTHER_POOLINGS):
        _probe_cache(trial, what, layer, _draw(trial, *shape))
        for change in (lambda x: -1 - np.abs(x), lambda x: -1e6 - x**2):
            _probe_cache(trial, f"{what} below 0", layer, _draw(trial, *shape, change=change))


POOL = ("MaxPooling2dLayer.forward",)


@case("2.4", 2.5, FILE, public=True, forbidden=_own("MaxPooling2dLayer.backward"), stand_ins=POOL)
def pooling_gradient_of_the_sheet(trial: Trial):
    """backward returns the gradient at the maximum of each window, and zero elsewhere."""
    for what, layer, shape in _poolings(trial, *POOLINGS):
        _probe_gradient(trial, what, layer, _draw(trial, *shape), 1)
    trial.run_tests(
        TESTS,
        "TestMaxPoolingBackward.test_gradient_equals_that_of_max_pool2d",
        "TestMaxPoolingBackward.test_all_maxima_of_a_window_receive_the_gradient",
    )


@case(
    "2.4",
    1.5,
    FILE,
    forbidden=_own("MaxPooling2dLayer.backward"),
    stand_ins=POOL,
    hint="consider other windows, windows with several maxima, and large gradients.",
)
def pooling_gradient_of_any_window(trial: Trial):
    """backward works for other windows; each of several maxima receives the whole gradient."""
    for what, layer, shape in _poolings(trial, *OTHER_POOLINGS):
        for scale in (1, 1e6):
            _probe_gradient(trial, what, layer, _draw(trial, *shape), scale)
        _probe_gradient(trial, f"{what}, x near 1e-9", layer, _draw(trial, *shape, scale=1e-9), 1)
        for scale in (0.3, 1):
            draw = _draw(trial, *shape, scale=scale, change=np.rint)
            _probe_gradient(trial, f"{what}, whole numbers near {scale}", layer, draw, 1)


# ---------------------------------------------------------------- Question 3: ResNet-18


def _blocks(trial: Trial, *calls: tuple[int, ...], **options: str) -> list[tuple[str, Any]]:
    """Return blocks filled with known numbers, and their calls; all are built before one is used"""
    build = trial.solution.ResidualBlock
    texts = [describe_call("ResidualBlock", *arguments, **options) for arguments in calls]
    return [(w, trial.fill(w, build(*arguments, **options))) for w, arguments in zip(texts, calls)]


def _resnet18(trial: Trial, *arguments: str) -> Any:
    return trial.fill(describe_call("ResNet18", *arguments), trial.solution.ResNet18(*arguments))


@case("3.1", 1.5, FILE, public=True)
def block_has_the_layers_of_the_figure(trial: Trial):
    """ResidualBlock has the layers of Figure 1, and a residual connection if the shape changes."""
    for what, block in _blocks(trial, (4, 4), (4, 4, 1), (4, 8), (4, 4, 2), (4, 2, 2)):
        shape = block(trial.draw(2, 4, 8, 8)).shape
        trial.record_text(f"{what}: the shape of the output", str(tuple(shape)))
    ((_, block),) = _blocks(trial, (4, 4))
    for arguments in ((5, 7, 3), (5, 5, 2), (5, 7), (5, 5, 1)):
        what = describe_call("residual", *arguments)
        layers = set_mode(trial.fill(what, block.residual(*arguments)), "evaluation")
        trial.call(f"{what} of maps", layers, trial.draw(2, 5, 7, 7))
    trial.run_tests(
        TESTS,
        "TestResidualBlock.test_parameters",
        "TestResidualBlock.test_output_has_the_right_shape",
    )


@case("3.1", 2, FILE, public=True)
def block_adds_its_input(trial: Trial):
    """ResidualBlock that keeps the shape returns the correct output and gradients in evaluation."""
    for what, block in _blocks(trial, (5, 5), (3, 3, 1)):
        for batch, scale in ((3, 1), (1, 1), (2, 1000)):
            maps = scale * trial.draw(batch, block.conv1.in_channels, 7, 7, seed=batch)
            words = f"{what} in evaluation, batch of {batch}, maps near {scale}"
            trial.differentiate(words, set_mode(block, "evaluation"), maps)
    trial.run_tests(
        TESTS,
        "TestResidualBlock.test_last_activation_follows_the_sum",
        "TestResidualBlock.test_first_activation_follows_the_first_batch_norm",
        "TestResidualBlock.test_output_equals_stored_numbers",
    )


@case("3.1", 1.5, FILE, hint="consider blocks that change the channels or the resolution.")
def block_projects_its_input(trial: Trial):
    """ResidualBlock that changes the shape returns the correct output and gradients."""
    for what, block in _blocks(trial, (4, 6), (4, 4, 2), (4, 6, 2), (4, 2, 3)):
        for size in (8, 7):
            words = f"{what} in evaluation, {size} x {size} pixels"
            maps = trial.draw(2, 4, size, size)
            trial.differentiate(words, set_mode(block, "evaluation"), maps)


@case("3.1", 1, FILE, hint="consider training, evaluation, and what a call leaves behind.")
def block_normalises_by_the_batch(trial: Trial):
    """ResidualBlock in training normalises by batch statistics and updates the running ones."""
    for what, block in _blocks(trial, (4, 4), (4, 6, 2)):
        for batch in (4, 1, 40):
            for mode in MODES:
                maps = trial.draw(batch, 4, 8, 8)
                trial.probe(f"{what} in {mode}, batch of {batch}", set_mode(block, mode), maps)


@case("3.1", 1, FILE, hint="consider tanh, and unknown names.")
def block_knows_two_activations(trial: Trial):
    """ResidualBlock applies "relu" or "tanh"; an unknown activation is an error."""
    maps = trial.draw(2, 4, 6, 6)
    for name in ("relu", "tanh"):
        for what, block in _blocks(trial, (4, 6, 2), (4, 4), activation_str=name):
            for mode in MODES:
                trial.differentiate(f"{what} in {mode}", set_mode(block, mode), maps)
            for scale in (1, 1000):
                words = f"activation of {what}, maps near {scale}"
                trial.differentiate(words, block.activation, scale * maps)

    def activate() -> None:
        trial.solution.ResidualBlock(4, 4, activation_str="sine").activation(maps)

    _record_raised(trial, "ResidualBlock with the activation 'sine' raises", activate)
    trial.run_tests(TESTS, "TestResidualBlock.test_unknown_names_are_errors")


@case("3.1", 1, FILE, hint="consider the initialisation of the convolutions.")
def block_knows_three_initializations(trial: Trial):
    """A new ResidualBlock has the distributions named by initialization, and follows the seed."""
    for name in ("xavier_normal", "xavier_uniform", "kaiming_normal"):
        build = partial(trial.solution.ResidualBlock, 16, 48, 2, initialization=name)
        what = f"ResidualBlock(16, 48, 2, initialization={name!r})"
        block = build()
        _record_initial(trial, what, block, name)
        for part, parameter in block.named_parameters():
            if parameter.ndim == 1:
                trial.record(f"{what}: the initial {part}", parameter, tolerance=0)
        # PyTorch's default: uniform in ±1 / sqrt(fan_in).
        weight, std = block.residual_connection[0].weight, 1 / math.sqrt(3 * 16)
        trial.record_drawn(f"{what}: the residual convolution", weight, "uniform", std)
        trial.construct(what, build)
    _record_initial(
        trial, "ResidualBlock(16, 48)", trial.solution.ResidualBlock(16, 48), "xavier_normal"
    )
    for name in ("zeros", "xavier", "kaiming_uniform"):
        build = partial(trial.solution.ResidualBlock, 4, 4, initialization=name)
        _record_raised(trial, f"ResidualBlock with the initialization {name!r} raises", build)
    trial.run_tests(TESTS, "TestResidualBlock.test_initialization_reaches_both_convolutions")


def _record_initial(trial: Trial, what: str, block: nn.Module, initialization: str) -> None:
    """Record initial convolutions, which should have the standard deviation of the papers."""
    for name in ("conv1", "conv2"):
        weight = getattr(block, name).weight
        fan_out, fan_in = 9 * weight.shape[0], 9 * weight.shape[1]
        fans = fan_in if initialization == "kaiming_normal" else fan_in + fan_out
        distribution = initialization.partition("_")[2]
        some = weight[:, :16]  # of all filters; a record of all weights would be too large
        trial.record_drawn(f"{what}: the initial {name}", some, distribution, math.sqrt(2 / fans))


BLOCK = ("ResidualBlock",)


@case("3.2", 2, FILE, public=True, stand_ins=BLOCK)
def resnet18_has_the_layers_of_the_figure(trial: Trial):
    """ResNet18 has 11,173,962 parameters; each layer returns maps of the correct shape."""
    model: Any = set_mode(_resnet18(trial), "evaluation")
    number = sum(parameter.numel() for parameter in model.parameters())
    trial.record_number("ResNet18(): the number of parameters", number)
    maps = trial.draw(1, 3, 32, 32)
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
        maps = getattr(model, name)(maps)
        trial.record_text(f"ResNet18: the shape of the output of {name}", str(tuple(maps.shape)))
    for arguments in ((8, 16, 2), (8, 16, 1), (8, 8, 2), (8, 8)):
        what = describe_call("_create_layer", *arguments)
        layer = set_mode(trial.fill(what, model._create_layer(*arguments)), "evaluation")
        trial.call(f"{what} of maps (1, 8, 6, 6)", layer, trial.draw(1, 8, 6, 6))
    trial.run_tests(TESTS, "TestResNet18.test_number_of_parameters")


@case("3.2", 2.5, FILE, public=True, stand_ins=BLOCK)
def resnet18_computes_its_logits(trial: Trial):
    """ResNet18 returns the correct logits in evaluation, for one image and for more."""
    model = set_mode(_resnet18(trial), "evaluation")
    for batch, scale in ((1, 1), (5, 1), (2, 1000)):
        images = scale * trial.draw(batch, 3, 32, 32, seed=batch)
        trial.call(f"ResNet18() in evaluation, {batch} images near {scale}", model, images)
    trial.run_tests(TESTS, "TestResNet18.test_output_equals_stored_numbers")


@case("3.2", 1.5, FILE, stand_ins=BLOCK, hint="consider training and the backward pass.")
def resnet18_trains(trial: Trial):
    """ResNet18 has correct gradients and normalises by batch statistics in training only."""
    model = _resnet18(trial)
    for mode in MODES:
        trial.probe(f"ResNet18() in {mode}", set_mode(model, mode), trial.draw(2, 3, 32, 32))
    trial.call("ResNet18() in training, one image", model.train(), trial.draw(1, 3, 32, 32))
    trial.record_settings("solution")


@case("3.2", 1, FILE, stand_ins=BLOCK, hint="consider its two arguments, and its initial weights.")
def resnet18_passes_its_arguments_on(trial: Trial):
    """ResNet18 uses its activation everywhere, and its initialization in all blocks."""
    arguments = ("tanh", "kaiming_normal")
    model = trial.solution.ResNet18(*arguments)
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        for number in (0, 1):
            what = f"{describe_call('ResNet18', *arguments)}.{layer}[{number}]"
            _record_initial(trial, what, getattr(model, layer)[number], "kaiming_normal")
    trial.construct("ResNet18()", trial.solution.ResNet18)
    model = trial.fill(describe_call("ResNet18", *arguments), model)
    for mode in MODES:
        trial.call(f"ResNet18('tanh') in {mode}", set_mode(model, mode), trial.draw(2, 3, 32, 32))
    for name in ("relu", "tanh"):
        model = model if name == "tanh" else trial.solution.ResNet18(name)
        trial.call(f"activation of ResNet18({name!r})", model.activation, 3 * trial.draw(4, 5))

    def activate() -> None:
        trial.solution.ResNet18("sine").activation(trial.draw(3))

    _record_raised(trial, "ResNet18 with the activation 'sine' raises", activate)
    trial.run_tests(TESTS, "TestResNet18.test_arguments_reach_the_blocks")
    build = partial(trial.solution.ResNet18, "relu", "zeros")
    _record_raised(trial, "ResNet18 with the initialization 'zeros' raises", build)


# ---------------------------------------------------------------- Question 3.3: the loops


def _classifier(trial: Trial, norm: Callable[[int], nn.Module] = nn.BatchNorm1d) -> nn.Module:
    """Return a small network that behaves differently in training and evaluation."""
    layers = (nn.Flatten(), nn.Linear(12, 8), norm(8), nn.ReLU(), nn.Linear(8, 3))
    return trial.fill("a network of the test", nn.Sequential(*layers))


def _loader(trial: Trial, number: int, batch_size: int, seed: int = 0) -> DataLoader:
    images = trial.draw(number, 3, 2, 2, seed=seed)
    labels = (images.flatten(1) @ trial.draw(12, 3, seed=9)).argmax(dim=1)
    labels[::3] = (labels[::3] + 1) % 3  # some are wrong, so that no accuracy is 0 or 1
    return DataLoader(TensorDataset(images, labels), batch_size)


def _record_pair(what: str, trial: Trial, returned: Any) -> None:
    try:
        accuracy, loss = returned
    except (TypeError, ValueError) as error:
        raise Wrong(f"{what} returns {returned!r:.80}; expected (accuracy, loss)") from error
    trial.record_number(f"{what}: the accuracy", accuracy, tolerance=1e-5)
    trial.record_number(f"{what}: the loss", loss, tolerance=1e-4)


def _times(factor: float) -> Callable[..., torch.Tensor]:
    """Return a criterion: the cross-entropy times a factor."""
    return lambda logits, labels: factor * nn.functional.cross_entropy(logits, labels)


def _train(
    trial: Trial, model: nn.Module, loader: DataLoader, epochs: int = 1, factor: float = 1.0
) -> list[Any]:
    # With this rate, the factor changes the loss and its gradients but not the steps.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 / factor, momentum=0.9)
    returned = []
    for epoch in range(1, epochs + 1):
        model.eval()  # as valid_loop leaves it
        returned.append(trial.solution.train_loop(epoch, model, loader, _times(factor), optimizer))
    return returned


def _record_state(trial: Trial, what: str, model: nn.Module, tolerance: float = 1e-3) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            trial.record(f"{what}: {name}", tensor, tolerance)


@case("3.3", 2, FILE, public=True)
def train_loop_takes_the_steps(trial: Trial):
    """train_loop takes one optimizer step per batch, in training mode, however large the loss."""
    for factor in (1, 1e5):
        model = set_mode(_classifier(trial), "evaluation")
        _train(trial, model, _loader(trial, 24, 6), 2, factor)
        _record_state(trial, f"After 2 epochs of 4 steps, a loss near {factor:g}", model)
    trial.run_tests(TESTS, "TestLoops.test_train_loop_takes_one_step_per_batch")


@case("3.3", 1, FILE, public=True)
def train_loop_returns_accuracy_and_loss(trial: Trial):
    """train_loop returns (accuracy, loss), with the accuracy as a fraction."""
    for factor in (1, 1e5):
        returned = _train(trial, _classifier(trial), _loader(trial, 24, 6), 2, factor)
        for epoch, pair in enumerate(returned, start=1):
            what = f"train_loop of 24 images, epoch {epoch}, a loss near {factor:g}"
            _record_pair(what, trial, pair)
    name = "test_train_loop_returns_means_over_batches_of_equal_size"
    trial.run_tests(TESTS, f"TestLoops.{name}")


@case("3.3", 1.5, FILE, public=True)
def valid_loop_measures_and_changes_nothing(trial: Trial):
    """valid_loop returns (accuracy, loss) in evaluation mode and changes nothing."""
    model = set_mode(_classifier(trial), "training")
    for seed, factor in ((0, 1), (1, 1e5)):
        loader = _loader(trial, 20, 5, seed)
        returned = trial.solution.valid_loop(1, model, loader, _times(factor))
        _record_pair(f"valid_loop of 20 images, a loss near {factor:g}", trial, returned)
    _record_state(trial, "After valid_loop", model, tolerance=1e-6)
    for name, parameter in model.named_parameters():
        trains = parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
        text = "as before" if trains else "changed"
        trial.record_text(f"requires_grad and gradient of {name} after valid_loop", text)
    trial.run_tests(TESTS, "TestLoops.test_valid_loop_only_measures")


@case("3.3", 0.5, FILE, hint="consider a smaller last batch, and what the loops leave behind.")
def loops_count_every_image_the_same(trial: Trial):
    """train_loop and valid_loop return means over images, even if the last batch is smaller."""
    for batch_size, norm in ((9, nn.BatchNorm1d), (20, nn.BatchNorm1d), (1, nn.LayerNorm)):
        loader = _loader(trial, 11, batch_size)
        train = partial(_train, trial, _classifier(trial, norm), loader)
        _record_pair(f"train_loop of 11 images in batches of {batch_size}", trial, train()[0])
        model, criterion = _classifier(trial, norm), nn.CrossEntropyLoss()
        validate = partial(trial.solution.valid_loop, 1, model, loader, criterion)
        _record_pair(f"valid_loop of 11 images in batches of {batch_size}", trial, validate())
    for name, loop in (("train_loop", train), ("valid_loop", validate)):
        trial.record_seeds(name, loop)
    trial.run_tests(TESTS, "TestLoops.test_every_image_counts_the_same")
