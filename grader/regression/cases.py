"""The checks of Questions 1 to 6, with their points.

Networks may be an ``nn.Sequential`` or other modules: layers are found in the order in which images
pass through them, and graded by what they compute. A trainer is built by its own constructor, but
with a network and data from this file, so that each question is graded separately.
``load_dataset``, the loops and the errors for invalid arguments are given and not graded, nor is
whether ``training_step`` and ``evaluate`` return detached tensors, attached ones or numbers.

Every test of the handout's ``test.py`` is part of one of these cases.

Shapes: B batch, C channels, H, W height and width.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

# Imported by optimizers on first use, which takes a second: once here, not in every case.
import torch._dynamo
from torch import Tensor, nn

from grader.trial import GRADIENT_TOLERANCE, MODES, Trial, Wrong, case, compile_tests, set_mode

TESTS = compile_tests("regression")
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
CLOSE = 1e-5  # tolerance for losses, which are sums of a few numbers


class Wave(nn.Module):
    """A fourth activation; it is not monotonic, so its order with max pooling matters."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sin(3 * inputs)


def _solution(trial: Trial) -> Any:
    # On a machine with a GPU, the code would use it; the cases stay on the CPU.
    torch.cuda.is_available = lambda: False
    return trial.solution


# ---------------------------------------------------------------- Question 1: the activations


@case("1.1", 1, "solution.py", public=True)
def activation_functions_are_modules(trial: Trial):
    """create_activation_function returns modules for "relu", "tanh" and "sigmoid"."""
    create = _solution(trial).Trainer.create_activation_function
    modules = {name: create(name) for name in ACTIVATIONS}
    for name, module in modules.items():
        what = f'create_activation_function("{name}")'
        if not isinstance(module, nn.Module):
            kind = "the class" if isinstance(module, type) else "a"
            name = getattr(module, "__name__", type(module).__name__)
            raise Wrong(f"{what} is {kind} {name}; expected an instance of an nn.Module")
        trial.record_parameters(what, module)
        for mode in MODES:
            for shape in ((6, 5), (1, 4), (2, 3, 4, 4), (200, 7)):
                words = f"{what} in {mode}, inputs of shape {shape}"
                trial.differentiate(words, set_mode(module, mode), 3 * trial.draw(*shape))
        for x in (-1000.0, -100.0, -20.0, 0.0, 20.0, 100.0, 1000.0):
            trial.call(f"{what} of {x:g}", module, x + torch.zeros_like(trial.draw(1)))
        trial.record_seeds(what, partial(create, name))
    _test(trial, "Activation", "activations_equal_those_of_torch")


# ---------------------------------------------------------------- networks

Layer = nn.Linear | nn.Conv2d


def _test(trial: Trial, owner: str, *names: str) -> None:
    trial.run_tests(TESTS, *(f"Test{owner}.test_{name}" for name in names))


class Ordered(nn.Module):
    """A network whose layers are named by their order, whatever the submission calls them."""

    def __init__(self, network: nn.Module, layers: list[Layer]):
        super().__init__()
        self.layer = nn.ModuleList(layers)
        self._others = (network,)  # in a tuple, which registers nothing

    def forward(self, images: Tensor) -> Tensor:
        return self._others[0](images)

    def train(self, mode: bool = True) -> "Ordered":
        self._others[0].train(mode)
        return super().train(mode)


def _find_layers(what: str, network: Any, images: Tensor) -> list[Layer]:
    """Return linear layers and convolutions in the order in which images pass through them."""
    if not isinstance(network, nn.Module):
        kind = "None" if network is None else f"a {type(network).__name__}"
        raise Wrong(f"{what} is {kind}; expected an nn.Module")
    called: list[Layer] = []
    registered = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in registered]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys([*called, *registered]))


def _record_layers(trial: Trial, what: str, network: Any, images: Tensor) -> Ordered:
    layers = _find_layers(what, network, images)
    trial.record_text(f"The layers of {what}", ", ".join(map(_in_words, layers)) or "none")
    number = sum(parameter.numel() for parameter in network.parameters())
    trial.record_number(f"The number of parameters of {what}", number)
    return Ordered(network, layers)


def _in_words(layer: Layer) -> str:
    if isinstance(layer, nn.Linear):
        text = f"Linear({layer.in_features}, {layer.out_features})"
    else:
        kernel_size, stride = (
            str(pair[0]) if len(set(pair)) == 1 else str(pair)
            for pair in (layer.kernel_size, layer.stride)
        )
        text = f"Conv2d({layer.in_channels}, {layer.out_channels}, {kernel_size}, stride={stride})"
    return text if layer.bias is not None else f"{text} without bias"


def _probe(
    trial: Trial,
    networks: list[tuple[str, Any]],
    *shapes: tuple[int, ...],
    modes: Any = MODES,
    scale: float = 1,
) -> None:
    """Record networks for images of these shapes; all are built before one is used."""
    for what, network in networks:
        network = _record_layers(trial, what, network, trial.draw(*shapes[0]))
        network = trial.fill(f"The layers of {what} in order:", network)
        for shape in shapes:
            for mode in modes:
                words = f"{what} in {mode}, images of shape {shape}"
                words += f" and standard deviation {scale:g}" if scale != 1 else ""
                images = scale * trial.draw(*shape, seed=sum(shape))
                trial.probe(words, set_mode(network, mode), images)


def _construct(trial: Trial, what: str, build: Callable[[], Any], *shape: int) -> None:
    """Record how the layers of a network start, and what building it leaves behind.

    Their weights are expected to be those of PyTorch: uniform over ±1 / sqrt(fan-in).
    """
    images = trial.draw(*shape)
    for number, layer in enumerate(_find_layers(what, build(), images)):
        std = 1 / math.sqrt(3 * layer.weight[0].numel())
        words = f"{what}: the initial weight of layer {number}"
        trial.record_drawn(words, layer.weight, "uniform", std)

    def build_in_order() -> Ordered:
        network = build()
        return Ordered(network, _find_layers(what, network, images))

    trial.construct(what, build_in_order)


# ---------------------------------------------------------------- Question 2: the MLP


def _mlps(
    trial: Trial, input_dim: int, hiddens: Any, *activations: nn.Module
) -> list[tuple[str, Any]]:
    """Return an MLP for each activation and each tuple of widths, and its call as text."""
    solution, networks = _solution(trial), []
    for activation in activations:
        for widths in hiddens:
            config = solution.NetworkConfiguration(dense_hiddens=widths)
            name = f"create_mlp({input_dim}, dense_hiddens={widths}, {type(activation).__name__}())"
            networks.append((name, solution.Trainer.create_mlp(input_dim, config, activation)))
    return networks


@case("1.2", 1.5, "solution.py", public=True)
def mlp_has_the_right_layers(trial: Trial):
    """create_mlp creates one nn.Linear per hidden layer and one with a single output."""
    for shape, hiddens in (
        ((2, 3, 32, 32), (256, 256)),
        ((2, 3, 32, 32), (128, 128)),
        ((3, 3, 4, 4), (8,)),
        ((3, 1, 3, 5), (7, 9, 5)),
        ((2, 2, 2, 2), (3, 3, 3, 3)),
        ((2, 3, 2, 2), (5, 4, 5, 4, 5, 4)),
    ):
        ((what, network),) = _mlps(trial, math.prod(shape[1:]), [hiddens], nn.ReLU())
        _record_layers(trial, what, network, trial.draw(*shape))
    _test(trial, "MLP", "layers_chain_the_widths")


@case("1.2", 2, "solution.py", public=True)
def mlp_computes_its_predictions(trial: Trial):
    """The MLP returns the correct predictions (B, 1), with each activation."""
    hiddens = ((8, 6), (7, 9, 5), (5,), (6, 6, 6, 6))
    networks = _mlps(trial, 48, hiddens, *(make() for make in ACTIVATIONS.values()))
    _probe(trial, networks, (5, 3, 4, 4), modes=["evaluation"])
    _test(trial, "MLP", "mlp_equals_layers_of_torch")


@case("1.2", 0.5, "solution.py", hint="consider the last argument.")
def mlp_applies_the_activation_that_it_is_given(trial: Trial):
    """The MLP applies any activation that it is given, and none to its predictions."""
    _probe(trial, _mlps(trial, 48, [(8, 6)], nn.ELU(), Wave()), (5, 3, 4, 4))
    _probe(trial, _mlps(trial, 48, [(8, 6)], nn.ELU()), (5, 3, 4, 4), scale=1e4)


@case("1.2", 1, "solution.py", hint="consider other batches, training, and the initial weights.")
def mlp_takes_any_batch(trial: Trial):
    """The MLP accepts batches of any size, computes the same in both modes and starts at random."""
    shapes = ((1, 3, 4, 4), (2, 3, 4, 4), (6, 3, 4, 4), (4, 1, 2, 24), (200, 3, 4, 4))
    _probe(trial, _mlps(trial, 48, [(8, 6)], nn.Tanh()), *shapes)
    build = lambda: _mlps(trial, 192, [(90, 90, 60)], nn.ReLU())[0][1]  # noqa: E731
    _construct(trial, "create_mlp(192, dense_hiddens=(90, 90, 60), ReLU())", build, 2, 3, 8, 8)
    _test(trial, "MLP", "predictions_have_one_column", "initial_weights_are_those_of_torch")


# ---------------------------------------------------------------- Question 3: the CNN

# Image: n_channels, kernel_sizes, strides, dense_hiddens.
SMALL = {
    (3, 14, 14): ((4, 6), (3, 2), (1, 1), (8,)),
    (2, 16, 16): ((3, 5), (2, 3), (1, 1), (7, 5)),
}
DEEP = {
    (3, 12, 12): ((5,), (3,), (1,), (6,)),
    (3, 25, 25): ((3, 4, 5), (3, 2, 1), (1, 1, 1), (6,)),
    (3, 33, 33): ((3, 4, 5, 6), (1, 2, 1, 1), (1, 1, 1, 1), (8,)),
    (1, 30, 30): ((4, 3), (4, 5), (1, 2), (6, 6)),
    (2, 31, 31): ((4, 6), (5, 3), (3, 1), (6,)),
    (4, 26, 34): ((4, 4, 4), (2, 2, 2), (1, 1, 1), (8, 8, 8)),
    (3, 32, 32): ((4, 4, 5), (3, 2, 3), (1, 2, 1), (6, 6)),  # equal widths, other kernels
}


def _cnns(
    trial: Trial, calls: dict[Any, tuple], *activations: nn.Module
) -> dict[Any, list[tuple[str, Any]]]:
    """Return the CNNs of each image, one for each activation, and their calls as text."""
    solution = _solution(trial)
    text = "create_cnn({}, n_channels={}, kernel_sizes={}, strides={}, dense_hiddens={}, {}())"
    return {
        image: [
            (
                text.format(image[0], *layers, type(activation).__name__),
                solution.Trainer.create_cnn(
                    image[0], solution.NetworkConfiguration(*layers), activation
                ),
            )
            for activation in activations
        ]
        for image, layers in calls.items()
    }


@case("1.3", 1.5, "solution.py", public=True)
def cnn_has_the_right_layers(trial: Trial):
    """create_cnn creates the nn.Conv2d and nn.Linear layers of its configuration."""
    for image, layers in (
        ((3, 32, 32), ((16, 32, 45), (3, 3, 3), (1, 1, 1), (128,))),
        ((3, 32, 32), ((8, 16, 32, 64), (1, 1, 1, 1), (1, 1, 1, 1), (128,))),
        ((3, 40, 40), ((16, 32), (4, 5), (1, 2), (256, 256))),
        ((1, 12, 12), ((4,), (3,), (2,), (6, 5, 7))),
        ((3, 32, 32), ((20,), (32,), (1,), (128,))),
    ):
        ((what, network),) = _cnns(trial, {image: layers}, nn.ReLU())[image]
        _record_layers(trial, what, network, trial.draw(2, *image))
    _test(trial, "CNN", "layers_follow_the_configuration")


@case("1.3", 2, "solution.py", public=True)
def cnn_computes_its_predictions(trial: Trial):
    """The CNN returns the correct predictions (B, 1), with each activation."""
    networks = _cnns(trial, SMALL, *(make() for make in ACTIVATIONS.values()))
    for image, built in networks.items():
        _probe(trial, built, (4, *image), modes=["evaluation"])
    _test(trial, "CNN", "cnn_equals_layers_of_torch")


@case("1.3", 1, "solution.py", hint="consider one and four convolutions, and strides.")
def cnn_has_any_depth(trial: Trial):
    """The CNN is correct with one to four convolutions and any kernels and strides."""
    for image, built in _cnns(trial, DEEP, nn.Tanh()).items():
        _probe(trial, built, (2, *image))
    _test(trial, "CNN", "one_convolution_is_enough")


@case("1.3", 0.5, "solution.py", hint="consider larger and very small images.")
def cnn_takes_images_of_any_size(trial: Trial):
    """The same CNN accepts images of several sizes, and batches of any size."""
    image = (3, 14, 14)
    (built,) = _cnns(trial, {image: SMALL[image]}, nn.ReLU()).values()
    _probe(
        trial,
        built,
        *(
            (b, 3, h, w)
            for b, h, w in ((3, 14, 14), (1, 32, 32), (2, 19, 30), (2, 6, 6), (40, 8, 8))
        ),
    )
    whole = {(3, 9, 9): ((6,), (9,), (1,), (5,))}  # the convolution leaves a single pixel
    (built,) = _cnns(trial, whole, nn.ReLU()).values()
    _probe(trial, built, (2, 3, 9, 9))
    _test(trial, "CNN", "images_may_have_other_sizes")


@case("1.3", 0.5, "solution.py", hint="consider the order of activation and pooling.")
def cnn_pools_after_the_activation(trial: Trial):
    """The CNN applies any activation that it is given, and pools the result."""
    for image, built in _cnns(trial, SMALL, nn.ELU(), Wave()).items():
        _probe(trial, built, (4, *image))
        _probe(trial, built[:1], (4, *image), scale=1e4)
    _test(trial, "CNN", "pooling_follows_the_activation")


@case("1.3", 0.5, "solution.py", hint="consider training, and the initial weights.")
def cnn_has_the_right_gradients(trial: Trial):
    """The CNN passes the correct gradients, computes the same in both modes, starts at random."""
    for image, built in _cnns(trial, SMALL, nn.Tanh(), nn.Sigmoid()).items():
        _probe(trial, built, (1, *image), (3, *image))
    calls = {(4, 26, 34): DEEP[4, 26, 34]}
    build = lambda: _cnns(trial, calls, nn.ReLU())[4, 26, 34][0][1]  # noqa: E731
    _construct(trial, "A CNN of equal widths", build, 1, 4, 26, 34)


# ---------------------------------------------------------------- the trainer


# Stand-ins of questions 4 to 6, in case the student has changed the constructor.
GIVEN = ("Trainer.__init__",)
LOSS = (*GIVEN, "Trainer.compute_loss_and_mae")


def _trainer(trial: Trial, lr: float = 0.01, bias: float = 0.0) -> Any:
    """Return a trainer with a small network of known parameters, and batches of four.

    The bias is added to all predictions.
    """
    Trainer = _solution(trial).Trainer
    layers = nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)
    network = trial.fill("The network of these tests", nn.Sequential(nn.Flatten(), *layers))
    layers[2].bias.data += bias
    loader = [_batch(trial, 4)]
    Trainer.load_dataset = staticmethod(lambda *_, **__: (loader, loader))
    Trainer.create_activation_function = staticmethod(lambda *_, **__: nn.Tanh())
    Trainer.create_mlp = staticmethod(lambda *_, **__: network)
    return Trainer(lr=lr, batch_size=4)


def _batch(trial: Trial, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, 2, 2) and labels (B,) from 0 to 9, int64."""
    labels = (torch.arange(size) * 7 + 3 * seed + 2) % 10
    return trial.draw(size, 3, 2, 2, seed=seed + size), labels


def _pair(what: str, value: Any) -> tuple:
    if not isinstance(value, tuple | list) or len(value) != 2:
        kind = "None" if value is None else f"a {type(value).__name__}"
        raise Wrong(f"{what} returns {kind}; expected two tensors, (loss, mae)")
    return tuple(value)


ERRORS = ("loss", "MAE")


class Errors(nn.Module):
    """One of the two errors of ``compute_loss_and_mae``, as a function of images and labels."""

    def __init__(self, trainer: Any, index: int):
        super().__init__()
        self.network = trainer.network
        self._compute, self._index = trainer.compute_loss_and_mae, index

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        errors = _pair("compute_loss_and_mae", self._compute(images, labels))
        if not isinstance(errors[self._index], Tensor):
            kind = type(errors[self._index]).__name__
            raise Wrong(
                f"The {ERRORS[self._index]} of compute_loss_and_mae is a {kind}; expected a tensor"
            )
        return errors[self._index]


def _record_errors(trial: Trial, what: str, trainer: Any, images: Tensor, labels: Tensor) -> None:
    errors = _pair("compute_loss_and_mae", trainer.compute_loss_and_mae(images, labels))
    for name, error in zip(ERRORS, errors):
        trial.record(f"The {name} of compute_loss_and_mae, {what}", error, CLOSE)


# ---------------------------------------------------------------- Question 4: the loss


@case("1.4", 1.5, "solution.py", public=True, stand_ins=GIVEN)
def loss_and_mae_are_means_over_the_batch(trial: Trial):
    """compute_loss_and_mae returns the means of the squared and of the absolute errors."""
    trainer = _trainer(trial)
    for size in (4, 1, 2, 7, 128):
        _record_errors(trial, f"{size} images, labels ({size},)", trainer, *_batch(trial, size))
    for bias in (-1e4, 30.0, 1e4):
        trainer = _trainer(trial, bias=bias)
        _record_errors(trial, f"predictions near {bias:g}", trainer, *_batch(trial, 6))
    _test(trial, "Loss", "loss_and_mae_of_three_predictions", "loss_and_mae_equal_those_of_torch")


@case("1.4", 1, "solution.py", stand_ins=GIVEN, hint="which shapes may y have?")
def loss_takes_labels_in_a_column(trial: Trial):
    """compute_loss_and_mae returns the same for labels (B,) and (B, 1)."""
    trainer = _trainer(trial)
    for size in (4, 7, 1):
        images, labels = _batch(trial, size)
        what = f"{size} images, labels ({size}, 1)"
        _record_errors(trial, what, trainer, images, labels.unsqueeze(1))
    _test(trial, "Loss", "labels_may_be_a_column")


@case("1.4", 0.5, "solution.py", stand_ins=GIVEN, hint="which types may y have?")
def loss_takes_labels_of_any_type(trial: Trial):
    """compute_loss_and_mae accepts labels of integer and floating-point types."""
    trainer = _trainer(trial)
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64):
        images, labels = _batch(trial, 6)
        labels = labels.to(dtype) / 4 if dtype.is_floating_point else labels.to(dtype)
        _record_errors(trial, f"labels {dtype}", trainer, images, labels.to(dtype))
        _record_errors(trial, f"{dtype} in a column", trainer, images, labels.to(dtype)[:, None])
    labels = trainer.network(images).detach().squeeze(1)  # no error, where sqrt has no gradient
    errors = trainer.compute_loss_and_mae(X=images, y=labels)
    loss, mae = _pair("compute_loss_and_mae", errors)
    trainer.network.zero_grad()
    (loss + mae).backward()
    for number, parameter in enumerate(trainer.network.parameters()):
        what = f"The gradient of both for parameter {number} if all predictions are exact"
        trial.record(what, parameter.grad)
    _test(trial, "Loss", "labels_may_have_any_type")


@case("1.4", 1, "solution.py", public=True, stand_ins=GIVEN)
def loss_and_mae_have_gradients(trial: Trial):
    """Gradients flow from the loss and from the MAE; a call leaves nothing else behind."""
    for bias in (0.0, 1e3):
        for index, name in enumerate(ERRORS):
            part = Errors(_trainer(trial, bias=bias), index)
            for size in (6, 1):
                images, labels = _batch(trial, size)
                for mode in MODES:
                    what = (
                        f"The {name} of compute_loss_and_mae in {mode}, predictions near {bias:g}"
                    )
                    words = f"{what}, {size} images, labels"
                    trial.probe(f"{words} ({size},)", set_mode(part, mode), images, labels)
                    column = labels.unsqueeze(1)
                    trial.probe(f"{words} ({size}, 1)", set_mode(part, mode), images, column)
    _test(trial, "Loss", "gradients_flow_from_both")


# ---------------------------------------------------------------- Question 5: a step


def _weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.network.parameters()])


def _record_step(trial: Trial, what: str, trainer: Any, batch: tuple[Tensor, Tensor]) -> None:
    """Record how much a step changes the parameters, and that it does not change the batch."""
    before, given = _weights(trainer), [tensor.clone() for tensor in batch]
    trainer.training_step(*batch)
    # Where lr = 0.01 changes a weight near 1, rounding gives a relative error of 1e-5.
    trial.record(what, _weights(trainer) - before, GRADIENT_TOLERANCE)
    same = all(map(torch.equal, batch, given))
    trial.record_text(f"{what}: the batch afterwards", "unchanged" if same else "changed in place")


@case("1.5", 2, "solution.py", public=True, stand_ins=(*LOSS, "Trainer.evaluate"))
def training_step_is_one_step_of_adam(trial: Trial):
    """training_step changes the parameters like one step of Adam, with the correct lr."""
    for lr in (0.01, 0.1):
        trainer = _trainer(trial, lr)
        _record_step(trial, f"The change of the parameters, lr={lr}", trainer, _batch(trial, 6))
    _test(trial, "TrainingStep", "steps_equal_those_of_adam", "training_lowers_the_loss")


@case("1.5", 2, "solution.py", stand_ins=LOSS, hint="consider what an earlier step leaves behind.")
def training_steps_follow_each_other(trial: Trial):
    """Several steps on different batches equal those of Adam: gradients do not accumulate."""
    trainers = [_trainer(trial), _trainer(trial)]
    for number, size in enumerate((6, 4, 1, 8, 2, 130), start=1):
        for trainer, words in zip(trainers, ("", " of a second trainer")):
            batch = _batch(trial, size, seed=number)
            what = f"The change of the parameters{words} in step {number}"
            _record_step(trial, what, trainer, batch)
    trial.record_seeds("training_step", lambda: trainers[0].training_step(*batch))


@case("1.5", 1, "solution.py", public=True, stand_ins=LOSS)
def training_step_returns_the_errors_before_it(trial: Trial):
    """training_step returns the loss and the MAE of the batch before the parameters change."""
    for bias in (0.0, 1e4):
        trainer = _trainer(trial, bias=bias)
        for number, size in enumerate((6, 6, 1, 130), start=1):
            errors = _pair("training_step", trainer.training_step(*_batch(trial, size, number)))
            for name, error in zip(ERRORS, errors):
                what = f"The {name} of training_step {number}, predictions near {bias:g}"
                trial.record_number(what, error, CLOSE)
    _test(trial, "TrainingStep", "errors_are_those_before_the_step")


@case("1.5", 1, "solution.py", stand_ins=LOSS, hint="what is minimised, and by which optimizer?")
def training_step_minimises_the_loss_alone(trial: Trial):
    """training_step follows the gradient of the MSE, with any self.optimizer, however large."""
    for bias, lr in ((0.0, 0.01), (1e4, 1e-3)):
        trainer = _trainer(trial, bias=bias)
        trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), lr=lr, momentum=0.5)
        for number in (1, 2, 3):
            what = f"The change in step {number} with SGD, predictions near {bias:g}"
            _record_step(trial, what, trainer, _batch(trial, 6, seed=number))


# ---------------------------------------------------------------- Question 6: the evaluation


def _record_evaluation(trial: Trial, what: str, trainer: Any, size: int) -> None:
    errors = _pair("evaluate", trainer.evaluate(*_batch(trial, size)))
    for name, error in zip(ERRORS, errors):
        trial.record_number(f"The {name} of evaluate, {what}", error, CLOSE)


@case("1.6", 1.5, "solution.py", public=True, stand_ins=LOSS)
def evaluate_returns_loss_and_mae(trial: Trial):
    """evaluate returns the loss and the MAE of its images."""
    for bias in (0.0, 1e4):
        trainer = _trainer(trial, bias=bias)
        for size in (4, 1, 8, 4):
            _record_evaluation(trial, f"{size} images, predictions near {bias:g}", trainer, size)
    _test(trial, "Evaluate", "errors_are_averages_over_the_images")


@case("1.6", 0.5, "solution.py", stand_ins=LOSS, hint="consider more images than one batch.")
def evaluate_averages_over_images(trial: Trial):
    """evaluate counts every image once, however many there are."""
    trainer = _trainer(trial)
    for size in (5, 11, 130, 1001):
        _record_evaluation(trial, f"{size} images where batch_size is 4", trainer, size)
    images, labels = _batch(trial, 11)
    errors = _pair("evaluate", trainer.evaluate(X=images, y=labels.unsqueeze(1)))
    for name, error in zip(ERRORS, errors):
        trial.record_number(f"The {name} of evaluate, labels (11, 1)", error, CLOSE)
    _test(trial, "Evaluate", "evaluation_fills_the_logs")


@case("1.6", 1, "solution.py", stand_ins=LOSS, hint="consider what must not change.")
def evaluate_trains_nothing(trial: Trial):
    """evaluate changes no parameter, gradient, argument, log or setting."""
    trainer = _trainer(trial)
    batch, given = _batch(trial, 6), _batch(trial, 6)
    for gradient in (None, 1.0):
        for parameter in trainer.network.parameters():
            parameter.grad = gradient and torch.full_like(parameter, gradient)
        before = _weights(trainer)
        trainer.evaluate(*batch)
        trial.record("The change of the parameters by evaluate", _weights(trainer) - before, 0)
        for number, parameter in enumerate(trainer.network.parameters()):
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            trial.record(f"The gradient of parameter {number} after evaluate", found, 0)
            text = str(parameter.requires_grad)
            trial.record_text(f"requires_grad of parameter {number} after evaluate", text)
    same = all(map(torch.equal, batch, given))
    trial.record_text("The arguments of evaluate", "unchanged" if same else "changed in place")
    number = sum(len(values) for values in trainer.train_logs.values())
    trial.record_number("The number of entries of train_logs after evaluate", number)
    trial.record_seeds("evaluate", lambda: trainer.evaluate(*batch))
    _test(trial, "Evaluate", "nothing_is_trained")
