"""The checks of Questions 1, 2 and 3.1 to 3.3, with their points.

Whatever the course's notebook allows passes: extra entries in a cache, any precision, loops, a
``loss`` that clips the predictions in place, derivatives of integer or boolean type, any of NumPy's
random generators. No case pools an image that the windows do not fill, or gives ResNet18 an image
of another size than the sheet's.

Shapes: B batch, C channels, H, W height and width, K classes.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

# Imported by optimizers on first use, which takes a second: once here, not in every case.
import torch._dynamo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from grader.forbidden import Forbidden
from grader.trial import Trial, Wrong, case

FILE = "solution.py"
NAMES = ("relu", "sigmoid", "tanh")
FUNCTIONS = tuple(f"NN.{name}" for name in NAMES)
ALL_FUNCTIONS = (*FUNCTIONS, "NN.activation", "NN.softmax")


def _own(part: str) -> Forbidden:
    """Forbid torch in a part of the file."""
    return Forbidden(part, ("torch",))


def _numbers(trial: Trial, *shape: int, seed: int = 0) -> np.ndarray:
    """Return standard normal numbers, in double precision for the submission too."""
    return trial.draw(*shape, seed=seed).double().numpy()


def _record(trial: Trial, what: str, value: Any, tolerance: float = 1e-4) -> None:
    """Record an array of numbers of any type."""
    if not isinstance(value, np.ndarray):
        name = type(value).__name__
        raise Wrong(f"{what} is {'None' if value is None else f'a {name}'}; expected an array")
    if value.dtype.kind not in "biuf":
        raise Wrong(f"{what} is an array of {value.dtype}; expected numbers")
    trial.record(what, torch.from_numpy(np.array(value, dtype=np.float64)), tolerance)


def _entry(what: str, entries: Any, name: str) -> Any:
    """Return an entry of a dictionary that the submission returned."""
    if not isinstance(entries, dict):
        raise Wrong(f"{what} is a {type(entries).__name__}; expected a dictionary")
    if name not in entries:
        has = ", ".join(map(str, entries)) or "nothing"
        raise Wrong(f"{what} has no entry {name}; it has {has[:200]}")
    return entries[name]


def _record_raised(trial: Trial, what: str, call: Any) -> None:
    """Record whether an error is raised; one of any type is expected."""
    raised = "no error"
    try:
        call()
    except NotImplementedError:
        raise
    except Exception:
        raised = "an error"
    trial.record_text(what, raised)


# ---------------------------------------------------------------- Question 1: the MLP


def _network(trial: Trial, dims: Sequence[int] = (7, 6, 5, 4), seed: int = 0, **options) -> Any:
    """Return an NN with known weights; no bias is zero."""
    model = trial.solution.NN(dims=tuple(dims), **options)
    model.weights = {}
    for layer, (size_in, size_out) in enumerate(pairwise(dims), start=1):
        weight = _numbers(trial, size_in, size_out, seed=10 * seed + layer)
        model.weights[f"W{layer}"] = weight / math.sqrt(size_in)
        model.weights[f"b{layer}"] = 0.3 * _numbers(trial, 1, size_out, seed=10 * seed + layer + 5)
    return model


def _labels(size: int, classes: int) -> np.ndarray:
    """Return one-hot labels (B, K)."""
    return np.eye(classes)[np.arange(size) * 7 % classes]


def _initialized(trial: Trial, dims: tuple[int, ...], **options) -> dict[str, np.ndarray]:
    model = trial.solution.NN(dims=dims, **options)
    with trial.watched():
        model.initialize_weights()
    return model.weights


@case("1.1", 1, FILE, public=True, forbidden=_own("NN.initialize_weights"))
def weights_have_their_shapes(trial: Trial):
    """initialize_weights creates W (in, out) and a row of zeros b (1, out) for every layer."""
    for dims in ((784, 128, 64, 10), (5, 4, 3), (6, 3, 7, 2, 4)):
        weights, what = _initialized(trial, dims), f"NN({dims}): weights"
        for layer in range(1, len(dims)):
            weight = _entry(what, weights, f"W{layer}")
            trial.record_text(f"{what}: the shape of W{layer}", str(np.shape(weight)))
            _record(trial, f"{what}: b{layer}", _entry(what, weights, f"b{layer}"), tolerance=0)


@case("1.1", 1, FILE, public=True, forbidden=_own("NN.initialize_weights"))
def weights_are_uniform(trial: Trial):
    """All weights are uniform in ±1 / sqrt(h0), where h0 is the size of the input."""
    dims = (100, 300, 90, 40)
    weights, what = _initialized(trial, dims), f"NN({dims}): weights"
    for layer in range(1, len(dims)):
        _record_uniform(
            trial, f"{what}: W{layer}", _entry(what, weights, f"W{layer}"), 2 / math.sqrt(dims[0])
        )


def _record_uniform(trial: Trial, what: str, weight: Any, width: float) -> None:
    """Record weights that should be uniform over an interval of this width around 0."""
    if not isinstance(weight, np.ndarray):
        raise Wrong(f"{what} is a {type(weight).__name__}; expected an array")
    numbers = torch.from_numpy(np.array(weight, dtype=np.float64))
    trial.record_drawn(what, numbers, "uniform", width / math.sqrt(12))


@case(
    "1.1",
    1,
    FILE,
    forbidden=_own("NN.initialize_weights"),
    hint="consider the seed, and layers of equal size.",
)
def weights_depend_on_the_seed(trial: Trial):
    """The same seed gives the same weights, another seed or None others; layers differ."""
    dims = (8, 8, 8, 8)
    model = trial.solution.NN(dims=dims, seed=3)
    model.initialize_weights()
    first = {name: np.array(weight) for name, weight in model.weights.items()}
    np.random.random_sample(3)
    model.initialize_weights()
    second, other = model.weights, _initialized(trial, dims, seed=4)
    model = trial.solution.NN(dims=dims, seed=None)
    model.initialize_weights()
    unseeded = np.array(model.weights["W1"])
    model.initialize_weights()
    for layer in range(1, len(dims)):
        name = f"W{layer}"
        what = f"NN({dims}, seed=3): what a second initialize_weights changes in {name}"
        _record(trial, what, np.abs(first[name] - second[name]), tolerance=0)
        _record_different(trial, f"{name} of seed=3 and of seed=4", first[name], other[name])
    _record_different(trial, "W1 and W2, of the same shape,", first["W1"], first["W2"])
    what = "W1 of two calls of initialize_weights with seed=None"
    _record_different(trial, what, unseeded, model.weights["W1"])


def _record_different(trial: Trial, what: str, first: np.ndarray, second: np.ndarray) -> None:
    trial.record_different(what, *(torch.from_numpy(np.array(each)) for each in (first, second)))


def _record_function(trial: Trial, name: str, x: np.ndarray, where: str = "") -> None:
    """Record an activation function and its derivative."""
    function = getattr(_network(trial), name)
    with trial.watched():
        value, slope = function(x.copy()), function(x.copy(), grad=True)
    _record(trial, f"{name}(x){where}", value)
    _record(trial, f"{name}(x, grad=True){where}", slope)


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.relu"))
def relu_and_its_derivative(trial: Trial):
    """relu returns max(x, 0), and with grad=True its derivative."""
    _record_function(trial, "relu", 3 * _numbers(trial, 6, 5))


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.sigmoid"))
def sigmoid_and_its_derivative(trial: Trial):
    """sigmoid returns 1 / (1 + exp(-x)), and with grad=True its derivative."""
    _record_function(trial, "sigmoid", 3 * _numbers(trial, 6, 5))


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.tanh"))
def tanh_and_its_derivative(trial: Trial):
    """tanh returns tanh(x), and with grad=True its derivative."""
    _record_function(trial, "tanh", 2 * _numbers(trial, 6, 5))


@case("1.2", 1, FILE, public=True, forbidden=_own("NN.activation"), stand_ins=FUNCTIONS)
def activation_selects_by_name(trial: Trial):
    """activation applies the function named by activation_str; an unknown name is an error."""
    x = 2 * _numbers(trial, 4, 6)
    for name in NAMES:
        model = _network(trial, activation=name)
        with trial.watched():
            value, slope = model.activation(x.copy()), model.activation(x.copy(), grad=True)
        _record(trial, f"activation(x) with activation_str={name!r}", value)
        _record(trial, f"activation(x, grad=True) with activation_str={name!r}", slope)

    def activate() -> None:
        _network(trial, activation="sine").activation(x)

    _record_raised(trial, "activation(x) with activation_str='sine' raises", activate)


@case("1.2", 1, FILE, hint="consider very large and very small inputs.")
def activations_of_large_inputs(trial: Trial):
    """sigmoid, tanh and their derivatives are correct for inputs of ±20 to ±1,000."""
    for x in (-1000.0, -700.0, -100.0, -20.0, 20.0, 100.0, 700.0, 1000.0):
        for name in ("sigmoid", "tanh"):
            _record_function(trial, name, np.array([[x, 0.5]]), f" for x = [[{x:g}, 0.5]]")


@case("1.2", 1.5, FILE, public=True, forbidden=_own("NN.softmax"))
def softmax_of_each_row(trial: Trial):
    """softmax normalises the exponentials of each row."""
    for shape in ((3, 10), (4, 4), (1, 3), (5, 2)):
        model, x = _network(trial), 2 * _numbers(trial, *shape)
        with trial.watched():
            value = model.softmax(x)
        _record(trial, f"softmax(x) of x of shape {shape}", value)


@case(
    "1.2",
    0.5,
    FILE,
    forbidden=_own("NN.softmax"),
    hint="consider large numbers, and a single row.",
)
def softmax_of_large_numbers(trial: Trial):
    """softmax is correct for numbers of ±100 to ±10,000, and over the last axis of any array."""
    model = _network(trial)
    for scale in (100.0, 1000.0, 10_000.0):
        x = np.array([[scale, -scale, 0], [scale, scale, scale + 1], [-scale, -scale - 1, -scale]])
        _record(trial, f"softmax({x.tolist()})", model.softmax(x.copy()))
    for shape in ((6,), (2, 3, 4)):
        _record(trial, f"softmax(x) of x of shape {shape}", model.softmax(_numbers(trial, *shape)))


def _record_cache(trial: Trial, dims: Sequence[int], batch: int, **options) -> None:
    model, x = _network(trial, dims, seed=batch, **options), _numbers(trial, batch, dims[0])
    with trial.watched():
        cache = model.forward(x.copy())
    text = "".join(f", {value!r}" for value in options.values())
    what = f"NN({tuple(dims)}{text}).forward(x) for B = {batch}"
    _record(trial, f"{what}: Z0", _entry(what, cache, "Z0"))
    for layer in range(1, len(dims)):
        for letter in "AZ":
            name = f"{letter}{layer}"
            _record(trial, f"{what}: {name}", _entry(what, cache, name))


@case("1.3", 3, FILE, public=True, forbidden=_own("NN.forward"), stand_ins=ALL_FUNCTIONS)
def forward_computes_all_layers(trial: Trial):
    """forward returns Z0, A1, Z1, ..., with A before and Z after the activation, softmax last."""
    _record_cache(trial, (7, 6, 5, 4), batch=5)
    _record_cache(trial, (784, 128, 64, 10), batch=3)


@case(
    "1.3",
    2,
    FILE,
    forbidden=_own("NN.forward"),
    stand_ins=ALL_FUNCTIONS,
    hint="consider other networks.",
)
def forward_of_other_networks(trial: Trial):
    """forward works for one and three hidden layers, with each activation."""
    for name in NAMES:
        for dims in ((6, 5, 4), (5, 7, 6, 4, 3), (4, 4, 4, 4)):
            _record_cache(trial, dims, batch=4, activation=name)


@case(
    "1.3",
    1,
    FILE,
    forbidden=_own("NN.forward"),
    stand_ins=ALL_FUNCTIONS,
    hint="consider other batches.",
)
def forward_of_any_batch(trial: Trial):
    """forward works for a batch of one and treats examples independently."""
    for batch in (1, 2, 64):
        _record_cache(trial, (7, 6, 5, 4), batch=batch)


def _record_loss(trial: Trial, what: str, model: Any, prediction: np.ndarray) -> None:
    with trial.watched():
        loss = model.loss(prediction.copy(), _labels(*prediction.shape))
    trial.record_number(what, loss, tolerance=1e-5)


def _probabilities(trial: Trial, size: int, classes: int) -> np.ndarray:
    positive = np.abs(_numbers(trial, size, classes, seed=size)) + 0.05
    return positive / positive.sum(axis=1, keepdims=True)


@case("1.4", 2, FILE, public=True, forbidden=_own("NN.loss"))
def loss_is_the_mean_cross_entropy(trial: Trial):
    """loss is the cross-entropy, averaged over the batch."""
    for size, classes in ((5, 10), (3, 4), (4, 4)):
        what = f"loss of predictions {(size, classes)}"
        _record_loss(trial, what, _network(trial), _probabilities(trial, size, classes))


@case(
    "1.4",
    1,
    FILE,
    forbidden=_own("NN.loss"),
    hint="consider other numbers of examples and classes.",
)
def loss_of_any_batch(trial: Trial):
    """loss works for one example, for many, and for two classes."""
    for size, classes in ((1, 10), (200, 10), (7, 2), (2, 7)):
        what = f"loss of predictions {(size, classes)}"
        _record_loss(trial, what, _network(trial), _probabilities(trial, size, classes))


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
        for epsilon in (1e-6, 0.05):
            model = _network(trial, epsilon=epsilon)
            what = f"loss of predictions {rows} with epsilon={epsilon:g} and labels 0, 1"
            # -log(1 - epsilon) for a confident and correct prediction, 0 without the upper limit.
            prediction = np.array(rows)
            with trial.watched():
                loss = model.loss(prediction.copy(), np.eye(3)[: len(rows)])
            trial.record_number(what, 1 + float(loss), tolerance=1e-5)


def _record_gradients(
    trial: Trial, dims: Sequence[int], batch: int, layers: Sequence[int], **options
) -> None:
    """Record the gradients of some layers, from the cache of the submission's own forward."""
    model, x = _network(trial, dims, seed=batch, **options), _numbers(trial, batch, dims[0])
    labels = _labels(batch, dims[-1])
    with trial.watched():
        grads = model.backward(model.forward(x), labels.copy())
    text = "".join(f", {value!r}" for value in options.values())
    what = f"NN({tuple(dims)}{text}).backward for B = {batch}"
    last = len(dims) - 1
    for layer in layers:
        letters = ("A", "W", "b") if layer == last else ("Z", "A", "W", "b")
        for letter in letters:
            name = f"d{letter}{layer}"
            _record(trial, f"{what}: {name}", _entry(what, grads, name), tolerance=1e-4)


FORWARD = (*ALL_FUNCTIONS, "NN.forward")


@case("1.5", 2, FILE, public=True, forbidden=_own("NN.backward"), stand_ins=FORWARD)
def backward_of_the_last_layer(trial: Trial):
    """backward returns dA of the last layer per example, and dW and db as means over the batch."""
    for dims, batch in (((7, 6, 5, 4), 3), ((784, 128, 64, 10), 2)):
        _record_gradients(trial, dims, batch, layers=[3])


@case("1.5", 2.5, FILE, public=True, forbidden=_own("NN.backward"), stand_ins=FORWARD)
def backward_of_the_hidden_layers(trial: Trial):
    """backward returns dZ, dA, dW and db of the hidden layers, with ReLU."""
    for dims, batch in (((7, 6, 5, 4), 3), ((784, 128, 64, 10), 2)):
        _record_gradients(trial, dims, batch, layers=[2, 1])


@case(
    "1.5",
    1.5,
    FILE,
    forbidden=_own("NN.backward"),
    stand_ins=FORWARD,
    hint="consider other networks.",
)
def backward_of_other_networks(trial: Trial):
    """backward works for one and three hidden layers, with each activation."""
    for name in NAMES:
        for dims in ((6, 5, 4), (5, 7, 6, 4, 3), (4, 4, 4, 4)):
            layers = range(len(dims) - 1, 0, -1)
            _record_gradients(trial, dims, batch=4, layers=layers, activation=name)


@case(
    "1.5", 1, FILE, forbidden=_own("NN.backward"), stand_ins=FORWARD, hint="consider other batches."
)
def backward_of_any_batch(trial: Trial):
    """backward works for a batch of one and for many; dA and dZ are not divided by B."""
    for batch in (1, 2, 64):
        _record_gradients(trial, (7, 6, 5, 4), batch, layers=[3, 2, 1])


def _record_update(trial: Trial, dims: Sequence[int], steps: int, lr: float) -> None:
    model = _network(trial, dims, lr=lr)
    what = f"NN({tuple(dims)}, lr={lr:g}) after {steps} update(grads)"
    for step in range(steps):
        grads = {}
        for number, (name, weight) in enumerate(model.weights.items()):
            grads[f"d{name}"] = _numbers(trial, *weight.shape, seed=100 * step + number)
        with trial.watched():
            model.update(grads)
    for layer in range(1, len(dims)):
        for name in (f"W{layer}", f"b{layer}"):
            _record(trial, f"{what}: {name}", _entry("weights", model.weights, name), 1e-5)


@case("1.6", 2, FILE, public=True, forbidden=_own("NN.update"))
def update_takes_a_step(trial: Trial):
    """update changes each weight and bias by -lr times its gradient."""
    _record_update(trial, (7, 6, 5, 4), steps=1, lr=0.01)
    _record_update(trial, (7, 6, 5, 4), steps=1, lr=0.5)


@case(
    "1.6",
    1,
    FILE,
    forbidden=_own("NN.update"),
    hint="consider other networks, and a second step.",
)
def update_of_other_networks(trial: Trial):
    """update works for one and three hidden layers, and again after a first step."""
    _record_update(trial, (6, 5, 4), steps=2, lr=0.3)
    _record_update(trial, (5, 7, 6, 4, 3), steps=3, lr=0.1)


# ---------------------------------------------------------------- Question 2: NumPy layers


def _convolution(trial: Trial, filter_size: int, stride: int, units: int) -> Any:
    """Return a convolution with known weights of both signs."""
    layer = trial.solution.Convolution2dLayer(filter_size, stride, units)
    layer.weights = _numbers(trial, units, filter_size, filter_size, seed=filter_size)
    return layer


def _record_convolution(
    trial: Trial, arguments: tuple[int, int, int], shape: tuple[int, ...]
) -> None:
    layer, x = _convolution(trial, *arguments), _numbers(trial, *shape)
    with trial.watched():
        cache = layer.forward(x.copy())
    what = f"Convolution2dLayer{arguments}.forward(x) for x of shape {shape}"
    _record(trial, f"{what}: out", _entry(what, cache, "out"))
    _record(trial, f"{what}: x", _entry(what, cache, "x"))


# Filter size, stride and units, and the shape of the images.
OTHER_CONVOLUTIONS = (
    ((1, 1, 2), (2, 1, 4, 4)),
    ((2, 1, 3), (3, 1, 5, 7)),
    ((5, 1, 2), (1, 1, 9, 8)),
    ((3, 2, 4), (2, 1, 9, 9)),
    ((3, 2, 1), (2, 1, 8, 10)),
    ((2, 3, 2), (2, 1, 11, 9)),
    ((4, 1, 3), (2, 1, 4, 4)),
)


@case("2.1", 1.5, FILE, public=True, forbidden=_own("Convolution2dLayer.initialize_weights"))
def filters_are_uniform(trial: Trial):
    """initialize_weights creates one filter per unit, uniform between 0 and 1."""
    for arguments in ((3, 1, 64), (5, 1, 1000)):
        layer = trial.solution.Convolution2dLayer(*arguments)
        with trial.watched():
            layer.initialize_weights()
        what = f"Convolution2dLayer{arguments}: weights minus 0.5"
        if not isinstance(layer.weights, np.ndarray):
            raise Wrong(f"{what} are a {type(layer.weights).__name__}; expected an array")
        _record_uniform(trial, what, layer.weights - 0.5, 1.0)


@case(
    "2.1",
    0.5,
    FILE,
    forbidden=_own("Convolution2dLayer.initialize_weights"),
    hint="consider the seed.",
)
def filters_depend_on_the_seed(trial: Trial):
    """The same seed gives the same filters, another seed or None others; filters differ."""
    layer = trial.solution.Convolution2dLayer(seed=3)
    layer.initialize_weights()
    first = np.array(layer.weights)
    np.random.random_sample(3)
    layer.initialize_weights()
    what = "Convolution2dLayer(seed=3): what a second initialize_weights changes"
    _record(trial, what, np.abs(first - layer.weights), tolerance=0)
    other = trial.solution.Convolution2dLayer(seed=4)
    other.initialize_weights()
    _record_different(trial, "The weights of seed=3 and of seed=4", first, other.weights)
    _record_different(trial, "The first two filters", first[0], first[1])
    layer = trial.solution.Convolution2dLayer(seed=None)
    layer.initialize_weights()
    unseeded = np.array(layer.weights)
    layer.initialize_weights()
    what = "The weights of two calls of initialize_weights with seed=None"
    _record_different(trial, what, unseeded, layer.weights)


@case("2.1", 2.5, FILE, public=True, forbidden=_own("Convolution2dLayer.forward"))
def convolution_of_the_sheet(trial: Trial):
    """forward applies filters of 3 x 3 pixels with stride 1 at every position."""
    _record_convolution(trial, (3, 1, 4), (3, 1, 6, 6))
    _record_convolution(trial, (3, 1, 64), (1, 1, 32, 32))


@case(
    "2.1",
    2.5,
    FILE,
    forbidden=_own("Convolution2dLayer.forward"),
    hint="consider other filter sizes and strides.",
)
def convolution_of_any_filter(trial: Trial):
    """forward works for other filter sizes, strides and images that are not square."""
    for arguments, shape in OTHER_CONVOLUTIONS:
        _record_convolution(trial, arguments, shape)


def _record_weight_gradient(
    trial: Trial, arguments: tuple[int, int, int], shape: tuple[int, ...]
) -> None:
    layer, x = _convolution(trial, *arguments), _numbers(trial, *shape)
    size, stride, units = arguments
    positions = [(pixels - size) // stride + 1 for pixels in shape[2:]]
    grad_output = _numbers(trial, shape[0], units, *positions, seed=1)
    with trial.watched():
        gradient = layer.backward(layer.forward(x), grad_output.copy())
    what = f"Convolution2dLayer{arguments}.backward for x of shape {shape}"
    _record(trial, what, gradient)


CONVOLVE = ("Convolution2dLayer.forward",)


@case(
    "2.2", 3, FILE, public=True, forbidden=_own("Convolution2dLayer.backward"), stand_ins=CONVOLVE
)
def convolution_gradient_of_the_sheet(trial: Trial):
    """backward returns the gradient of the weights, summed over images and positions."""
    _record_weight_gradient(trial, (3, 1, 4), (3, 1, 6, 6))
    _record_weight_gradient(trial, (3, 1, 64), (1, 1, 32, 32))


@case(
    "2.2",
    2,
    FILE,
    forbidden=_own("Convolution2dLayer.backward"),
    stand_ins=CONVOLVE,
    hint="consider other filter sizes and strides.",
)
def convolution_gradient_of_any_filter(trial: Trial):
    """backward works for other filter sizes, strides and images that are not square."""
    for arguments, shape in OTHER_CONVOLUTIONS:
        _record_weight_gradient(trial, arguments, shape)


def _record_maxima(trial: Trial, filter_size: int, x: np.ndarray) -> None:
    layer = trial.solution.MaxPooling2dLayer(filter_size)
    with trial.watched():
        cache = layer.forward(x.copy())
    what = f"MaxPooling2dLayer({filter_size}).forward(x) for x of shape {x.shape}"
    _record(trial, f"{what}: out", _entry(what, cache, "out"))
    _record(trial, f"{what}: x", _entry(what, cache, "x"))


@case("2.3", 2.5, FILE, public=True, forbidden=_own("MaxPooling2dLayer.forward"))
def pooling_of_the_sheet(trial: Trial):
    """forward returns the maximum of each window of 2 x 2 pixels, in each channel."""
    _record_maxima(trial, 2, _numbers(trial, 3, 4, 6, 6))
    _record_maxima(trial, 2, _numbers(trial, 1, 64, 30, 30))


@case(
    "2.3",
    1.5,
    FILE,
    forbidden=_own("MaxPooling2dLayer.forward"),
    hint="consider other windows and images.",
)
def pooling_of_any_window(trial: Trial):
    """forward works for other windows, negative numbers, and images that are not square."""
    for size, shape in ((3, (2, 3, 6, 9)), (1, (2, 1, 3, 3)), (4, (1, 2, 8, 4)), (2, (2, 3, 4, 8))):
        _record_maxima(trial, size, _numbers(trial, *shape))
    _record_maxima(trial, 2, -1 - np.abs(_numbers(trial, 2, 3, 4, 4)))


def _record_input_gradient(trial: Trial, filter_size: int, x: np.ndarray) -> None:
    layer = trial.solution.MaxPooling2dLayer(filter_size)
    batch, channels, *pixels = x.shape
    grad_output = _numbers(trial, batch, channels, *(p // filter_size for p in pixels), seed=1)
    with trial.watched():
        gradient = layer.backward(layer.forward(x), grad_output.copy())
    what = f"MaxPooling2dLayer({filter_size}).backward for x of shape {x.shape}"
    _record(trial, what, gradient)


POOL = ("MaxPooling2dLayer.forward",)


@case("2.4", 2.5, FILE, public=True, forbidden=_own("MaxPooling2dLayer.backward"), stand_ins=POOL)
def pooling_gradient_of_the_sheet(trial: Trial):
    """backward returns the gradient at the maximum of each window, and zero elsewhere."""
    _record_input_gradient(trial, 2, _numbers(trial, 3, 4, 6, 6))
    _record_input_gradient(trial, 2, _numbers(trial, 1, 64, 30, 30))


@case(
    "2.4",
    1.5,
    FILE,
    forbidden=_own("MaxPooling2dLayer.backward"),
    stand_ins=POOL,
    hint="consider other windows, and windows with several maxima.",
)
def pooling_gradient_of_any_window(trial: Trial):
    """backward works for other windows; each of several maxima receives the whole gradient."""
    for size, shape in ((3, (2, 3, 6, 9)), (1, (2, 1, 3, 3)), (4, (1, 2, 8, 4)), (2, (2, 3, 4, 8))):
        _record_input_gradient(trial, size, _numbers(trial, *shape))
    _record_input_gradient(trial, 2, np.rint(_numbers(trial, 2, 3, 8, 8)))


# ---------------------------------------------------------------- Question 3: ResNet-18


def _block(trial: Trial, *arguments: int, seed: int = 0, **options: str) -> Any:
    text = ", ".join([*map(str, arguments), *(f"{k}={v!r}" for k, v in options.items())])
    block = trial.solution.ResidualBlock(*arguments, **options)
    return trial.fill(f"ResidualBlock({text})", block, seed=seed)


@case("3.1", 1.5, FILE, public=True)
def block_has_the_layers_of_the_figure(trial: Trial):
    """ResidualBlock has the layers of Figure 1, and a residual connection if the shape changes."""
    for arguments in ((4, 4), (4, 4, 1), (4, 8), (4, 4, 2), (6, 3, 2)):
        block = _block(trial, *arguments)
        output = block(trial.draw(2, arguments[0], 8, 8))
        what = f"ResidualBlock{arguments}: the shape of the output"
        trial.record_text(what, str(tuple(output.shape)))
    layer = _block(trial, 4, 4).residual(5, 7, 3)
    trial.record_parameters("residual(5, 7, 3)", layer)
    trial.record_parameters("residual(5, 5, 1)", _block(trial, 4, 4).residual(5, 5, 1))
    trial.call("residual(5, 7, 3) of maps", trial.fill("it", layer).eval(), trial.draw(2, 5, 7, 7))


@case("3.1", 2, FILE, public=True)
def block_adds_its_input(trial: Trial):
    """ResidualBlock that keeps the shape returns the correct output and gradients in evaluation."""
    for seed in (0, 1, 2):
        block = _block(trial, 5, 5, seed=seed).eval()
        what = "ResidualBlock(5, 5) in evaluation"
        trial.differentiate(what, block, trial.draw(3, 5, 7, 7, seed=seed))


@case("3.1", 1.5, FILE, hint="consider blocks that change the channels or the resolution.")
def block_projects_its_input(trial: Trial):
    """ResidualBlock that changes the shape returns the correct output and gradients."""
    for arguments in ((4, 6), (4, 4, 2), (3, 6, 2), (6, 3, 2)):
        for size in (8, 7):
            block = _block(trial, *arguments).eval()
            what = f"ResidualBlock{arguments} in evaluation, {size} x {size} pixels"
            trial.differentiate(what, block, trial.draw(2, arguments[0], size, size))


@case("3.1", 1, FILE, hint="consider the difference between training and evaluation.")
def block_normalises_by_the_batch(trial: Trial):
    """ResidualBlock in training normalises by batch statistics and updates the running ones."""
    for arguments in ((4, 4), (4, 6, 2)):
        block = _block(trial, *arguments).train()
        what = f"ResidualBlock{arguments} in training"
        trial.differentiate(what, block, trial.draw(4, 4, 8, 8))
        _record_statistics(trial, what, block)


@case("3.1", 1, FILE, hint="consider tanh, and unknown names.")
def block_knows_two_activations(trial: Trial):
    """ResidualBlock applies "relu" or "tanh"; an unknown activation is an error."""
    maps = trial.draw(2, 4, 6, 6)
    for name in ("relu", "tanh"):
        block = _block(trial, 4, 6, 2, activation_str=name).eval()
        trial.differentiate(f"ResidualBlock(4, 6, 2, {name!r}) in evaluation", block, maps)
        trial.call(f"activation(maps) of ResidualBlock with {name!r}", block.activation, 1 * maps)

    def activate() -> None:
        trial.solution.ResidualBlock(4, 4, activation_str="sine").activation(maps)

    _record_raised(trial, "ResidualBlock with the activation 'sine' raises", activate)


@case("3.1", 1, FILE, hint="consider the initialisation of the convolutions.")
def block_knows_three_initializations(trial: Trial):
    """Both convolutions of a new ResidualBlock have the distribution named by initialization."""
    for name in ("xavier_normal", "xavier_uniform", "kaiming_normal"):
        block = trial.solution.ResidualBlock(16, 48, 2, initialization=name)
        _record_initial(trial, f"ResidualBlock(16, 48, 2, initialization={name!r})", block, name)
    _record_initial(
        trial, "ResidualBlock(16, 48)", trial.solution.ResidualBlock(16, 48), "xavier_normal"
    )

    def build() -> None:
        trial.solution.ResidualBlock(4, 4, initialization="zeros")

    _record_raised(trial, "ResidualBlock with the initialization 'zeros' raises", build)


def _record_initial(trial: Trial, what: str, block: nn.Module, initialization: str) -> None:
    """Record initial convolutions, which should have the standard deviation of the papers."""
    for name in ("conv1", "conv2"):
        weight = getattr(block, name).weight
        fan_out, fan_in = 9 * weight.shape[0], 9 * weight.shape[1]
        fans = fan_in if initialization == "kaiming_normal" else fan_in + fan_out
        distribution = initialization.partition("_")[2]
        some = weight[:, :16]  # of all filters; a record of all weights would be too large
        trial.record_drawn(f"{what}: the initial {name}", some, distribution, math.sqrt(2 / fans))


def _record_statistics(trial: Trial, what: str, model: nn.Module) -> None:
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            trial.record(f"{what}: {name} after one batch", buffer)


BLOCK = ("ResidualBlock",)


@case("3.2", 2, FILE, public=True, stand_ins=BLOCK)
def resnet18_has_the_layers_of_the_figure(trial: Trial):
    """ResNet18 has 11,173,962 parameters; each layer returns maps of the correct shape."""
    model = trial.fill("ResNet18()", trial.solution.ResNet18()).eval()
    number = sum(parameter.numel() for parameter in model.parameters())
    trial.record_number("ResNet18(): the number of parameters", number)
    maps = trial.draw(1, 3, 32, 32)
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
        maps = getattr(model, name)(maps)
        trial.record_text(f"ResNet18: the shape of the output of {name}", str(tuple(maps.shape)))
    layer = trial.fill("_create_layer(8, 16, 2)", model._create_layer(8, 16, 2)).eval()
    trial.call("_create_layer(8, 16, 2) of maps (1, 8, 6, 6)", layer, trial.draw(1, 8, 6, 6))


@case("3.2", 2.5, FILE, public=True, stand_ins=BLOCK)
def resnet18_computes_its_logits(trial: Trial):
    """ResNet18 returns the correct logits in evaluation, for one image and for more."""
    model = trial.fill("ResNet18()", trial.solution.ResNet18()).eval()
    for batch in (1, 3):
        what = f"ResNet18() in evaluation, {batch} images"
        trial.call(what, model, trial.draw(batch, 3, 32, 32, seed=batch))


@case("3.2", 1.5, FILE, stand_ins=BLOCK, hint="consider training and the backward pass.")
def resnet18_trains(trial: Trial):
    """ResNet18 normalises by batch statistics in training and has correct gradients."""
    model = trial.fill("ResNet18()", trial.solution.ResNet18()).eval()
    trial.differentiate("ResNet18() in evaluation", model, trial.draw(1, 3, 32, 32))
    trial.call("ResNet18() in training", model.train(), trial.draw(2, 3, 32, 32))
    _record_statistics(trial, "ResNet18() in training", model)


@case("3.2", 1, FILE, stand_ins=BLOCK, hint="consider its two arguments.")
def resnet18_passes_its_arguments_on(trial: Trial):
    """ResNet18 uses its activation everywhere, and its initialization in all blocks."""
    model = trial.solution.ResNet18("tanh", "kaiming_normal")
    for layer in ("layer1", "layer3", "layer4"):
        for number in (0, 1):
            what = f"ResNet18('tanh', 'kaiming_normal').{layer}[{number}]"
            _record_initial(trial, what, getattr(model, layer)[number], "kaiming_normal")
    model = trial.fill("ResNet18('tanh', 'kaiming_normal')", model).eval()
    trial.call("ResNet18('tanh') in evaluation", model, trial.draw(2, 3, 32, 32))


def _classifier(trial: Trial) -> nn.Module:
    """Return a small network that behaves differently in training and evaluation."""
    layers = (nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
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


def _train(trial: Trial, model: nn.Module, loader: DataLoader, epochs: int = 1) -> list[Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    return [
        trial.solution.train_loop(epoch, model, loader, criterion, optimizer)
        for epoch in range(1, epochs + 1)
    ]


@case("3.3", 2, FILE, public=True)
def train_loop_takes_the_steps(trial: Trial):
    """train_loop takes one optimizer step per batch, in training mode."""
    model = _classifier(trial).eval()
    _train(trial, model, _loader(trial, 24, 6), epochs=2)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            trial.record(f"After 2 epochs of 4 steps: {name}", tensor, 1e-3)


@case("3.3", 1, FILE, public=True)
def train_loop_returns_accuracy_and_loss(trial: Trial):
    """train_loop returns (accuracy, loss), with the accuracy as a fraction."""
    returned = _train(trial, _classifier(trial), _loader(trial, 24, 6), epochs=2)
    for epoch, pair in enumerate(returned, start=1):
        _record_pair(f"train_loop of 24 images, epoch {epoch}", trial, pair)


@case("3.3", 1.5, FILE, public=True)
def valid_loop_measures_and_changes_nothing(trial: Trial):
    """valid_loop returns (accuracy, loss) in evaluation mode and changes nothing."""
    model, criterion = _classifier(trial).train(), nn.CrossEntropyLoss()
    for seed in (0, 1):
        returned = trial.solution.valid_loop(1, model, _loader(trial, 20, 5, seed), criterion)
        _record_pair(f"valid_loop of 20 images, seed {seed}", trial, returned)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            trial.record(f"After valid_loop: {name}", tensor, tolerance=1e-6)


@case("3.3", 0.5, FILE, hint="consider a smaller last batch.")
def loops_count_every_image_the_same(trial: Trial):
    """train_loop and valid_loop return means over images, even if the last batch is smaller."""
    for batch_size in (9, 20):
        loader = _loader(trial, 11, batch_size)
        (pair,) = _train(trial, _classifier(trial), loader)
        _record_pair(f"train_loop of 11 images in batches of {batch_size}", trial, pair)
        pair = trial.solution.valid_loop(1, _classifier(trial), loader, nn.CrossEntropyLoss())
        _record_pair(f"valid_loop of 11 images in batches of {batch_size}", trial, pair)
