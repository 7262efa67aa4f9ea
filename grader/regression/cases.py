"""The checks of Questions 1 to 6, with their points.

Networks may be an ``nn.Sequential`` or other modules: layers are found in the order in which images
pass through them, and graded by what they compute. A trainer is built by its own constructor, but
with a network and data from this file, so that each question is graded separately.
``load_dataset``, the loops and the errors for invalid arguments are given and not graded.

Shapes: B batch, C channels, H, W height and width.
"""

import math
from typing import Any

import torch

# Imported by optimizers on first use, which takes a second: once here, not in every case.
import torch._dynamo
from torch import Tensor, nn

from grader.trial import GRADIENT_TOLERANCE, Trial, Wrong, case

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
    for name in ACTIVATIONS:
        what = f'create_activation_function("{name}")'
        module = _solution(trial).Trainer.create_activation_function(name)
        if not isinstance(module, nn.Module):
            kind = "the class" if isinstance(module, type) else "a"
            name = getattr(module, "__name__", type(module).__name__)
            raise Wrong(f"{what} is {kind} {name}; expected an instance of an nn.Module")
        trial.differentiate(what, module, 3 * trial.draw(6, 5))


# ---------------------------------------------------------------- networks

Layer = nn.Linear | nn.Conv2d


def _layers(trial: Trial, what: str, network: Any, images: Tensor) -> list[Layer]:
    """Record linear layers and convolutions in the order in which images pass through them."""
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
    layers = list(dict.fromkeys([*called, *registered]))
    trial.record_text(f"The layers of {what}", ", ".join(map(_in_words, layers)) or "none")
    number = sum(parameter.numel() for parameter in network.parameters())
    trial.record_number(f"The number of parameters of {what}", number)
    return layers


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


def _fill(trial: Trial, layers: list[Layer]) -> None:
    """Set parameters to known numbers that depend on the position of the layer; no bias is zero."""
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                numbers = trial.draw(*parameter.shape, seed=2 * number + (name == "bias"))
                scale = 0.5 if name == "bias" else 1 / math.sqrt(parameter[0].numel())
                parameter.copy_(scale * numbers)


def _predict(trial: Trial, what: str, network: Any, *shapes: tuple[int, ...]) -> list[Layer]:
    """Record the predictions of a network with known parameters for images of these shapes."""
    layers = _layers(trial, what, network, trial.draw(*shapes[0]))
    _fill(trial, layers)
    for shape in shapes:
        images = trial.draw(*shape, seed=sum(shape))
        trial.call(f"{what} of images of shape {shape}", network, images)
    return layers


def _differentiate(trial: Trial, what: str, network: Any, *shape: int) -> None:
    """Record the gradients of a network with respect to the images and its layers' parameters."""
    layers = _predict(trial, what, network, shape)
    network.zero_grad()
    trial.differentiate(what, lambda images: network(images), trial.draw(*shape, seed=1))
    for number, layer in enumerate(layers, start=1):
        for name, parameter in layer.named_parameters():
            if parameter.grad is None:
                raise Wrong(f"{what}: no gradient reaches the {name} of layer {number}")
            text = f"{what}: the gradient of the {name} of layer {number}"
            trial.record(text, parameter.grad, GRADIENT_TOLERANCE)


# ---------------------------------------------------------------- Question 2: the MLP


def _mlp(
    trial: Trial, input_dim: int, hiddens: tuple[int, ...], activation: nn.Module
) -> tuple[str, Any]:
    solution = _solution(trial)
    config = solution.NetworkConfiguration(dense_hiddens=hiddens)
    what = f"create_mlp({input_dim}, dense_hiddens={hiddens}, {type(activation).__name__}())"
    return what, solution.Trainer.create_mlp(input_dim, config, activation)


@case("1.2", 1.5, "solution.py", public=True)
def mlp_has_the_right_layers(trial: Trial):
    """create_mlp creates one nn.Linear per hidden layer and one with a single output."""
    for shape, hiddens in (
        ((2, 3, 32, 32), (256, 256)),
        ((2, 3, 32, 32), (128, 128)),
        ((3, 3, 4, 4), (8,)),
        ((3, 1, 3, 5), (7, 9, 5)),
        ((2, 2, 2, 2), (3, 3, 3, 3)),
    ):
        what, network = _mlp(trial, math.prod(shape[1:]), hiddens, nn.ReLU())
        _layers(trial, what, network, trial.draw(*shape))


@case("1.2", 2, "solution.py", public=True)
def mlp_computes_its_predictions(trial: Trial):
    """The MLP returns the correct predictions (B, 1), with each activation."""
    for activation in ACTIVATIONS.values():
        for hiddens in ((8, 6), (7, 9, 5), (5,)):
            what, network = _mlp(trial, 48, hiddens, activation())
            _predict(trial, what, network, (5, 3, 4, 4))


@case("1.2", 0.5, "solution.py", hint="consider the last argument.")
def mlp_applies_the_activation_that_it_is_given(trial: Trial):
    """The MLP applies any activation that it is given."""
    for activation in (nn.ELU(), Wave()):
        _predict(trial, *_mlp(trial, 48, (8, 6), activation), (5, 3, 4, 4))


@case("1.2", 1, "solution.py", hint="consider other batches, and the backward pass.")
def mlp_takes_any_batch(trial: Trial):
    """The MLP accepts batches of any size and passes the correct gradients."""
    for shape in ((1, 3, 4, 4), (6, 3, 4, 4), (4, 1, 2, 24)):
        _differentiate(trial, *_mlp(trial, 48, (8, 6), nn.Tanh()), *shape)


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
}


def _cnn(trial: Trial, in_channels: int, layers: tuple, activation: nn.Module) -> tuple[str, Any]:
    solution = _solution(trial)
    network = solution.Trainer.create_cnn(
        in_channels, solution.NetworkConfiguration(*layers), activation
    )
    name = type(activation).__name__
    text = "n_channels={}, kernel_sizes={}, strides={}, dense_hiddens={}".format(*layers)
    return f"create_cnn({in_channels}, {text}, {name}())", network


@case("1.3", 1.5, "solution.py", public=True)
def cnn_has_the_right_layers(trial: Trial):
    """create_cnn creates the nn.Conv2d and nn.Linear layers of its configuration."""
    for shape, layers in (
        ((1, 3, 32, 32), ((16, 32, 45), (3, 3, 3), (1, 1, 1), (128,))),
        ((1, 3, 32, 32), ((8, 16, 32, 64), (1, 1, 1, 1), (1, 1, 1, 1), (128,))),
        ((2, 3, 40, 40), ((16, 32), (4, 5), (1, 2), (256, 256))),
        ((2, 1, 12, 12), ((4,), (3,), (2,), (6, 5, 7))),
    ):
        _layers(trial, *_cnn(trial, shape[1], layers, nn.ReLU()), trial.draw(*shape))


@case("1.3", 2, "solution.py", public=True)
def cnn_computes_its_predictions(trial: Trial):
    """The CNN returns the correct predictions (B, 1), with each activation."""
    for activation in ACTIVATIONS.values():
        for image, layers in SMALL.items():
            _predict(trial, *_cnn(trial, image[0], layers, activation()), (4, *image))


@case("1.3", 1, "solution.py", hint="consider one and four convolutions, and strides.")
def cnn_has_any_depth(trial: Trial):
    """The CNN is correct with one to four convolutions and any kernels and strides."""
    for image, layers in DEEP.items():
        _predict(trial, *_cnn(trial, image[0], layers, nn.Tanh()), (2, *image))


@case("1.3", 0.5, "solution.py", hint="consider larger and very small images.")
def cnn_takes_images_of_any_size(trial: Trial):
    """The same CNN accepts images of several sizes, and batches of one."""
    shapes = ((3, 3, 14, 14), (1, 3, 32, 32), (2, 3, 19, 30), (2, 3, 6, 6))
    _predict(trial, *_cnn(trial, 3, SMALL[3, 14, 14], nn.ReLU()), *shapes)
    whole = ((6,), (9,), (1,), (5,))  # the convolution leaves a single pixel
    _predict(trial, *_cnn(trial, 3, whole, nn.ReLU()), (2, 3, 9, 9))


@case("1.3", 0.5, "solution.py", hint="consider the order of activation and pooling.")
def cnn_pools_after_the_activation(trial: Trial):
    """The CNN applies any activation that it is given, and pools the result."""
    for activation in (nn.ELU(), Wave()):
        _predict(trial, *_cnn(trial, 3, SMALL[3, 14, 14], activation), (4, 3, 14, 14))


@case("1.3", 0.5, "solution.py", hint="consider the backward pass.")
def cnn_has_the_right_gradients(trial: Trial):
    """The CNN passes the correct gradients to the images and to every layer."""
    for activation in (nn.Tanh(), nn.Sigmoid()):
        _differentiate(trial, *_cnn(trial, 3, SMALL[3, 14, 14], activation), 3, 3, 14, 14)


# ---------------------------------------------------------------- the trainer


# Stand-ins of questions 4 to 6, in case the student has changed the constructor.
GIVEN = ("Trainer.__init__",)
LOSS = (*GIVEN, "Trainer.compute_loss_and_mae")


def _trainer(trial: Trial, lr: float = 0.01) -> Any:
    """Return a trainer with a small network of known parameters, and batches of four."""
    Trainer = _solution(trial).Trainer
    layers = nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)
    network = trial.fill("The network of these tests", nn.Sequential(nn.Flatten(), *layers))
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


def _record_errors(trial: Trial, what: str, trainer: Any, images: Tensor, labels: Tensor) -> None:
    errors = _pair("compute_loss_and_mae", trainer.compute_loss_and_mae(images, labels))
    for name, error in zip(("loss", "MAE"), errors):
        trial.record(f"The {name} of compute_loss_and_mae, {what}", error, CLOSE)


# ---------------------------------------------------------------- Question 4: the loss


@case("1.4", 1.5, "solution.py", public=True, stand_ins=GIVEN)
def loss_and_mae_are_means_over_the_batch(trial: Trial):
    """compute_loss_and_mae returns the means of the squared and of the absolute errors."""
    trainer = _trainer(trial)
    for size in (4, 1, 7, 128):
        _record_errors(trial, f"{size} images, labels ({size},)", trainer, *_batch(trial, size))


@case("1.4", 1, "solution.py", stand_ins=GIVEN, hint="which shapes may y have?")
def loss_takes_labels_in_a_column(trial: Trial):
    """compute_loss_and_mae returns the same for labels (B,) and (B, 1)."""
    trainer = _trainer(trial)
    for size in (4, 7, 1):
        images, labels = _batch(trial, size)
        what = f"{size} images, labels ({size}, 1)"
        _record_errors(trial, what, trainer, images, labels.unsqueeze(1))


@case("1.4", 0.5, "solution.py", stand_ins=GIVEN, hint="which types may y have?")
def loss_takes_labels_of_any_type(trial: Trial):
    """compute_loss_and_mae accepts labels of integer and floating-point types."""
    trainer = _trainer(trial)
    for dtype in (torch.int64, torch.int32, torch.float32, torch.float64):
        images, labels = _batch(trial, 6)
        labels = labels.to(dtype) if dtype in (torch.int64, torch.int32) else labels.to(dtype) / 4
        _record_errors(trial, f"labels {dtype}", trainer, images, labels)
    loss, mae = _pair("compute_loss_and_mae", trainer.compute_loss_and_mae(images, labels))
    trainer.network.zero_grad()
    (loss + mae).backward()


@case("1.4", 1, "solution.py", public=True, stand_ins=GIVEN)
def loss_and_mae_have_gradients(trial: Trial):
    """Gradients flow from the loss and from the MAE to the parameters of the network."""
    for index, name in enumerate(("loss", "MAE")):
        trainer = _trainer(trial)
        errors = trainer.compute_loss_and_mae(*_batch(trial, 6))
        error = _pair("compute_loss_and_mae", errors)[index]
        if not getattr(error, "requires_grad", False):
            kind = "detached" if isinstance(error, Tensor) else f"a {type(error).__name__}"
            raise Wrong(f"The {name} of compute_loss_and_mae is {kind}; expected one with a graph")
        trainer.network.zero_grad()
        error.backward()
        for number, parameter in enumerate(trainer.network.parameters()):
            what = f"The gradient of the {name} for parameter {number}"
            if parameter.grad is None:
                raise Wrong(f"{what} is None; expected numbers")
            trial.record(what, parameter.grad, GRADIENT_TOLERANCE)


# ---------------------------------------------------------------- Question 5: a step


def _weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.network.parameters()])


def _record_step(trial: Trial, what: str, trainer: Any, batch: tuple[Tensor, Tensor]) -> None:
    """Record how much a step changes the parameters."""
    before = _weights(trainer)
    trainer.training_step(*batch)
    # Where lr = 0.01 changes a weight near 1, rounding gives a relative error of 1e-5.
    trial.record(what, _weights(trainer) - before, GRADIENT_TOLERANCE)


@case("1.5", 2, "solution.py", public=True, stand_ins=LOSS)
def training_step_is_one_step_of_adam(trial: Trial):
    """training_step changes the parameters like one step of Adam, with the correct lr."""
    for lr in (0.01, 0.1):
        trainer = _trainer(trial, lr)
        _record_step(trial, f"The change of the parameters, lr={lr}", trainer, _batch(trial, 6))


@case("1.5", 2, "solution.py", stand_ins=LOSS, hint="consider what an earlier step leaves behind.")
def training_steps_follow_each_other(trial: Trial):
    """Several steps on different batches equal those of Adam: gradients do not accumulate."""
    trainer = _trainer(trial)
    for number, size in enumerate((6, 4, 1, 8), start=1):
        batch = _batch(trial, size, seed=number)
        _record_step(trial, f"The change of the parameters in step {number}", trainer, batch)


@case("1.5", 1, "solution.py", public=True, stand_ins=LOSS)
def training_step_returns_the_errors_before_it(trial: Trial):
    """training_step returns the loss and the MAE of the batch before the parameters change."""
    trainer = _trainer(trial)
    for number in (1, 2):
        errors = _pair("training_step", trainer.training_step(*_batch(trial, 6, seed=number)))
        for name, error in zip(("loss", "MAE"), errors):
            trial.record_number(f"The {name} of training_step {number}", error, CLOSE)


@case("1.5", 1, "solution.py", stand_ins=LOSS, hint="what is minimised, and by which optimizer?")
def training_step_minimises_the_loss_alone(trial: Trial):
    """training_step follows the gradient of the MSE, with any self.optimizer."""
    trainer = _trainer(trial)
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), lr=0.01, momentum=0.5)
    for number in (1, 2):
        batch = _batch(trial, 6, seed=number)
        _record_step(trial, f"The change in step {number} with SGD", trainer, batch)


# ---------------------------------------------------------------- Question 6: the evaluation


def _record_evaluation(trial: Trial, what: str, trainer: Any, size: int) -> None:
    errors = _pair("evaluate", trainer.evaluate(*_batch(trial, size)))
    for name, error in zip(("loss", "MAE"), errors):
        trial.record_number(f"The {name} of evaluate, {what}", error, CLOSE)


@case("1.6", 1.5, "solution.py", public=True, stand_ins=LOSS)
def evaluate_returns_loss_and_mae(trial: Trial):
    """evaluate returns the loss and the MAE of its images."""
    trainer = _trainer(trial)
    for size in (4, 1, 8):
        _record_evaluation(trial, f"{size} images", trainer, size)


@case("1.6", 0.5, "solution.py", stand_ins=LOSS, hint="consider more images than one batch.")
def evaluate_averages_over_images(trial: Trial):
    """evaluate counts every image once, however many there are."""
    trainer = _trainer(trial)
    for size in (5, 11, 130):
        _record_evaluation(trial, f"{size} images where batch_size is 4", trainer, size)


@case("1.6", 1, "solution.py", stand_ins=LOSS, hint="consider what must not change.")
def evaluate_trains_nothing(trial: Trial):
    """evaluate changes no parameter and leaves no gradient."""
    trainer = _trainer(trial)
    trainer.network.zero_grad(set_to_none=True)
    before = _weights(trainer)
    _record_evaluation(trial, "6 images", trainer, 6)
    trial.record("The change of the parameters by evaluate", _weights(trainer) - before, 0)
    for number, parameter in enumerate(trainer.network.parameters()):
        what = f"The gradient of parameter {number} after evaluate"
        none = torch.zeros_like(parameter)
        trial.record(what, none if parameter.grad is None else parameter.grad, 0)
