"""Tests for Problems 1.1 to 1.6: run them while you write, and before you submit.

    python test.py                      all tests
    python test.py TestMLP              one class
    python test.py TestMLP.test_name    one test, by its name in the report

These tests are basic: those on Gradescope check more. They need PyTorch and NumPy, use no data and
take a few seconds. They run in the order of the problems, so the first message is the one to start
with.

Shapes: B batch, C channels, H, W height and width.
"""

import copy
import math
import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

HERE = Path(__file__).resolve().parent
if not (HERE / "training").is_dir():  # it is beside this file, or one folder above
    sys.path.append(str(HERE.parent))

from training.testing import (
    TOLERANCE,
    Problem,
    Submitted,
    assert_close,
    assert_shape,
    fail,
    pattern,
    run,
    sample,
    select,
)

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
WEIGHTED = (nn.Linear, nn.Conv2d)
BATCH_SIZE = 4

solution = Submitted("solution")


def trace(network, images):
    """Return the linear layers and convolutions in the order in which images pass through them.

    The second list has what each of them receives and, last, the prediction.
    """
    if not isinstance(network, nn.Module):
        fail(f"A {type(network).__name__} was returned; expected an nn.Module")
    layers, received = [], []

    def record(layer, inputs):
        if isinstance(layer, WEIGHTED):
            layers.append(layer)
            received.append(inputs[0])

    hook = register_module_forward_pre_hook(record)  # also of layers that are not registered
    try:
        received.append(network(images))
    except RuntimeError as error:
        where = f"The network fails for images of shape {tuple(images.shape)}: "
        if layers:
            accepted = f"{layers[-1].weight.shape[1]}{', H, W' * (layers[-1].weight.ndim == 4)}"
            where += f"{in_words(layers[-1])} receives numbers of shape "
            where += f"{tuple(received[-1].shape)}; it accepts (B, {accepted}). "
        fail(f"{where}{error}")
    finally:
        hook.remove()
    return layers, received


def in_words(layer):
    if isinstance(layer, nn.Linear):
        words = f"Linear({layer.in_features}, {layer.out_features}"
    else:
        words = f"Conv2d({layer.in_channels}, {layer.out_channels}, {layer.kernel_size}"
        words += f", stride={layer.stride}"
        words += f", padding={layer.padding}" if layer.padding not in ((0, 0), "valid") else ""
    return words + (")" if layer.bias is not None else ", bias=False)")


def assert_layers(network, images, expected, what):
    """Fail at the first layer that differs from those expected."""
    layers = trace(network, images)[0]
    found, wanted = ([in_words(layer) for layer in each] for each in (layers, expected))
    for number, (layer, name) in enumerate(zip(layers, found), start=1):
        if layer not in {*network.modules()}:
            fail(
                f"{what} does not register layer {number}, {name}, and will not train it; "
                "expected an nn.Sequential or nn.ModuleList instead of a Python list"
            )
    if len(found) != len(wanted):
        pair = [f"{len(each)} layers, {', '.join(each)}" for each in (found, wanted)]
        fail(f"{what} has {pair[0]}; expected {pair[1]}")
    for number, (name, other) in enumerate(zip(found, wanted), start=1):
        if name != other:
            flattened = other[0] == "L" and wanted[number - 2][0] == "C"
            note = " (16 numbers per channel, after adaptive pooling)" if flattened else ""
            fail(f"{what}: layer {number} is {name}; expected {other}{note}")
    if len({*layers}) < len(layers):
        fail(f"{what} uses one layer twice; expected {len(layers)} layers with their own weights")
    number = sum(parameter.numel() for parameter in network.parameters())
    total = sum(parameter.numel() for layer in expected for parameter in layer.parameters())
    if number != total:
        fail(f"{what} registers {number:,} parameters; expected {total:,}")


def altered(steps, activation):
    """Yield what known mistakes do between two layers with weights, after the words for them."""
    whole, nothing = nn.AdaptiveMaxPool2d((4, 4)), nn.Identity()
    others = {
        nn.MaxPool2d: {
            "it is average pooling; expected the maximum": nn.AvgPool2d(2),
            "nn.MaxPool2d has stride=1; expected kernel_size=2 alone": nn.MaxPool2d(2, stride=1),
            "there is adaptive pooling; expected it after the last convolution only": whole,
        },
        nn.AdaptiveMaxPool2d: {
            "it is average pooling; expected the maximum": nn.AdaptiveAvgPool2d((4, 4)),
            "nn.MaxPool2d precedes the adaptive pooling": nn.Sequential(nn.MaxPool2d(2), whole),
        },
        type(activation): {"the activation is ReLU; expected the one that is given": nn.ReLU()},
    }
    if activation not in steps:
        yield "it has passed an activation; expected none", [*steps, activation]
    elif len(steps) > 1:
        words = "pooling precedes the activation; expected convolution, activation, pooling"
        yield words, [steps[1], steps[0], *steps[2:]]
    for index, step in enumerate(steps):
        name = "activation" if step is activation else f"nn.{type(step).__name__}"
        mistakes = {f"the {name} is missing": nothing, **others.get(type(step), {})}
        for words, other in mistakes.items():
            yield words, [*steps[:index], other, *steps[index + 1 :]]


def assert_same_as_torch(network, twin, activation, images, what):
    """Compare a network with `twin`, layers of torch: what reaches each layer, then gradients.

    Both are given the same parameters.
    """
    theirs = [layer for layer in twin if isinstance(layer, WEIGHTED)]
    assert_layers(network, images, theirs, what)
    ours = trace(network, images)[0]
    for number, (layer, other) in enumerate(zip(ours, theirs)):
        for name, parameter in other.named_parameters():
            spread = 0.5 if name == "bias" else math.sqrt(3 / parameter[0].numel())
            numbers = pattern(f"{number} {name}", parameter.shape, spread=spread)
            if other is theirs[-1] and name == "bias":
                numbers -= 9  # outside what an activation returns
            parameter.data.copy_(numbers)
            getattr(layer, name).data.copy_(numbers)
    (_, received), (_, expected) = trace(network, images), trace(nn.Sequential(*twin), images)
    places = [f"the input of layer {n}, {type(each).__name__}" for n, each in enumerate(theirs, 1)]
    compared, steps, before = zip([*places, "the prediction"], received, expected), [], images
    for layer in (*twin, None):
        if layer is not None and layer not in theirs:
            steps.append(layer)
            continue
        place, found, right = next(compared)
        chains = {words: nn.Sequential(*wrong) for words, wrong in altered(steps, activation)}
        mistakes = {words: chain(before).detach() for words, chain in chains.items()}
        assert_close(found, right, f"{what}: {place}", mistakes=mistakes)
        steps, before = [], layer(right) if layer else None
    weights = pattern("weights", right.shape)
    for output in (found, right):
        (output * weights).sum().backward()
    for number, (layer, other) in enumerate(zip(ours, theirs), start=1):
        for name, parameter in other.named_parameters():
            gradient = f"{what}: the gradient of the {name} of layer {number}"
            assert_close(getattr(layer, name).grad, parameter.grad, gradient, 10 * TOLERANCE)


def make_trainer(lr=0.01):
    """Return a trainer for images (B, 1, 2, 2) with a network of the tests."""
    loader = [(sample(4, 1, 2, 2), torch.tensor([3, 9, 0, 5]))]
    chain = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    for name, parameter in chain.named_parameters():
        parameter.data.copy_(pattern(name, parameter.shape))

    class Small(solution.Trainer):
        load_dataset = staticmethod(lambda self: (loader, loader))
        create_activation_function = staticmethod(lambda name: nn.Tanh())
        create_mlp = staticmethod(lambda *_: chain)

    trainer = Small(lr=lr, batch_size=BATCH_SIZE)
    # The tests run on the CPU even if there is a GPU.
    trainer.device = torch.device("cpu")
    trainer.network.cpu()
    return trainer


def batch(size):
    """Return images and labels for the trainer of `make_trainer`."""
    return sample(size, 1, 2, 2), torch.arange(size) * 7 % 10


def assert_errors(errors, prediction, labels, what):
    """Compare a pair (loss, mae) of tensors or numbers with the errors of a prediction."""
    if not isinstance(errors, (tuple, list)) or len(errors) != 2:
        fail(f"{what} returns a {type(errors).__name__}; expected a pair (loss, mae)")
    prediction, labels = prediction.detach().double().flatten(), labels.double().flatten()
    size, difference = len(labels), prediction - labels
    across = prediction[:, None] - labels[None]
    for name, measure, error in zip(("loss", "MAE"), (torch.square, torch.abs), errors):
        each = measure(difference)
        expected, batches = each.mean(), each.split(BATCH_SIZE)
        other = (torch.abs if name == "loss" else torch.square)(difference).mean()
        mistakes = {
            "the shapes broadcast to (B, B), every prediction minus every label; reshape the "
            "labels like the predictions": measure(across).mean(),
            "it is a sum, and the shapes broadcast to (B, B)": measure(across).sum(),
            "it is a sum over the batch; expected the mean": expected * size,
            "it is the other error; expected (loss, mae), in this order": other,
            "it is the root of the MSE": difference.square().mean().sqrt(),
            "it is half of the MSE; expected the MSE": expected / 2,
            "it lacks the absolute value": difference.mean(),
            "it lacks the absolute value and has the wrong sign": -difference.mean(),
            "it is taken after the mean; expected the mean of it": measure(difference.mean()),
            "it has one error per image; expected their mean": each,
            "it has one error per image, (B, 1); expected their mean": each[:, None],
            "the predictions are rounded": measure(prediction.round() - labels).mean(),
            "the labels lose their decimals": measure(prediction - labels.trunc()).mean(),
            "it is that of the last batch only": batches[-1].mean(),
            "it is the mean of the batches' means; expected that of the images": (
                sum(part.mean() for part in batches) / len(batches)
            ),
        }
        found = torch.as_tensor(error)
        assert_close(found, expected, f"The {name} of {what}", 1e-5, mistakes)


def prediction_of(trainer, images):
    """Return the prediction of a trainer's network, computed in double precision."""
    return copy.deepcopy(trainer.network).double()(images.double())


class TestActivation(Problem):
    """Problem 1.1"""

    def test_activations_equal_those_of_torch(self):
        """Each activation equals that of torch."""
        known = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.GELU)
        for name, expected in ACTIVATIONS.items():
            module = solution.Trainer.create_activation_function(name)
            if not isinstance(module, nn.Module):
                found = getattr(module, "__name__", type(module).__name__)
                fail(f'"{name}" returns {found}; expected an instance of an nn.Module')
            for x in ([-2.0, -0.5, 0.0, 0.5, 2.0, 9.0], [-1000.0, 1000.0]):
                inputs = torch.tensor(x)
                mistakes = {f"it is {other.__name__}": other()(inputs) for other in known}
                what = f'The function for "{name}" at x = {x}'
                assert_close(module(inputs.clone()), expected()(inputs), what, mistakes=mistakes)


class TestMLP(Problem):
    """Problem 1.2"""

    def build(self, input_dim, hiddens, activation):
        config = solution.NetworkConfiguration(dense_hiddens=hiddens)
        return solution.Trainer.create_mlp(input_dim, config, activation)

    def test_layers_chain_the_widths(self):
        """The MLP has an nn.Linear per hidden layer, and one with a single output."""
        for widths in ((12, 8, 1), (12, 7, 9, 5, 1), (12, 6, 6, 6, 1)):
            network = self.build(12, widths[1:-1], nn.ReLU())
            expected = [nn.Linear(*pair) for pair in pairwise(widths)]
            what = f"create_mlp(12, dense_hiddens={widths[1:-1]})"
            assert_layers(network, sample(2, 3, 2, 2), expected, what)

    def test_predictions_have_one_column(self):
        """The MLP maps images (B, C, H, W) to predictions (B, 1)."""
        for size in (1, 5):
            output = self.build(48, (8, 6), nn.ReLU())(sample(size, 3, 4, 4))
            assert_shape(output, (size, 1), f"The prediction for {size} images")

    def test_initial_weights_are_those_of_torch(self):
        """PyTorch draws the initial weights, within 1 / sqrt(inputs), and no seed is set."""
        networks = [self.build(48, (100,), nn.ReLU()) for _ in range(2)]
        first, second = (trace(each, sample(2, 3, 4, 4))[0][0].weight for each in networks)
        if torch.equal(first, second):
            fail("Two MLPs start with the same weights; expected no seed in create_mlp")
        largest, bound = first.abs().max(), 1 / math.sqrt(48)
        if not 0.9 * bound < largest <= bound:
            what = f"The largest weight of a new Linear(48, 100) is {largest:.3g}"
            fail(f"{what}; expected PyTorch's initial weights, within {bound:.3g}")

    def test_mlp_equals_layers_of_torch(self):
        """The MLP equals a chain of torch's layers, with each activation."""
        for name, activation in ACTIVATIONS.items():
            act = activation()
            dense = nn.Linear(48, 8), act, nn.Linear(8, 6), act, nn.Linear(6, 1)
            network, images = self.build(48, (8, 6), activation()), sample(5, 3, 4, 4)
            what = f"The MLP with {name}"
            assert_same_as_torch(network, (nn.Flatten(), *dense), act, images, what)


class TestCNN(Problem):
    """Problem 1.3"""

    def build(self, in_channels, *layers, activation=None):
        config = solution.NetworkConfiguration(*layers)
        return solution.Trainer.create_cnn(in_channels, config, activation or nn.ReLU())

    def test_layers_follow_the_configuration(self):
        """The CNN has an nn.Conv2d per entry of n_channels, and nn.Linear layers as in an MLP."""
        network = self.build(3, (16, 32), (4, 5), (1, 2), (256, 128))
        dense = nn.Linear(4 * 4 * 32, 256), nn.Linear(256, 128), nn.Linear(128, 1)
        expected = [nn.Conv2d(3, 16, 4), nn.Conv2d(16, 32, 5, stride=2), *dense]
        what = "create_cnn with kernel_sizes=(4, 5), strides=(1, 2)"
        assert_layers(network, sample(2, 3, 32, 32), expected, what)

    def test_cnn_equals_layers_of_torch(self):
        """The CNN equals a chain of torch's layers, with each activation."""
        for name, activation in ACTIVATIONS.items():
            act = activation()
            first = nn.Conv2d(3, 5, 3), act, nn.MaxPool2d(2)
            second = nn.Conv2d(5, 5, 2), act, nn.AdaptiveMaxPool2d((4, 4)), nn.Flatten()
            twin = *first, *second, nn.Linear(80, 8), act, nn.Linear(8, 1)
            network = self.build(3, (5, 5), (3, 2), (1, 1), (8,), activation=activation())
            assert_same_as_torch(network, twin, act, sample(4, 3, 14, 14), f"The CNN with {name}")

    def test_pooling_follows_the_activation(self):
        """The activation comes before the pooling, which matters for one that is not monotonic."""

        class Wave(nn.Module):
            def forward(self, inputs):
                return torch.sin(3 * inputs)

        act = Wave()
        first = nn.Conv2d(3, 4, 3), act, nn.MaxPool2d(2)
        second = nn.Conv2d(4, 6, 2), act, nn.AdaptiveMaxPool2d((4, 4)), nn.Flatten()
        twin = *first, *second, nn.Linear(96, 8), act, nn.Linear(8, 1)
        network = self.build(3, (4, 6), (3, 2), (1, 1), (8,), activation=act)
        assert_same_as_torch(network, twin, act, sample(4, 3, 14, 14), "The CNN with sin(3 x)")

    def test_one_convolution_is_enough(self):
        """A single convolution is also the last: only adaptive pooling follows it."""
        act = nn.ReLU()
        first = nn.Conv2d(3, 5, 5, stride=2), act, nn.AdaptiveMaxPool2d((4, 4)), nn.Flatten()
        twin = *first, nn.Linear(80, 6), act, nn.Linear(6, 1)
        network = self.build(3, (5,), (5,), (2,), (6,))
        images, what = sample(2, 3, 15, 15), "The CNN with one convolution"
        assert_same_as_torch(network, twin, act, images, what)

    def test_images_may_have_other_sizes(self):
        """The same network accepts images of several sizes and returns predictions (B, 1)."""
        network = self.build(3, (4, 6), (3, 3), (1, 1), (8,))
        for shape in ((1, 3, 32, 32), (2, 3, 48, 40), (3, 3, 12, 12)):
            assert_shape(network(sample(*shape)), (shape[0], 1), f"The prediction for {shape}")


class TestLoss(Problem):
    """Problem 1.4"""

    def test_loss_and_mae_of_three_predictions(self):
        """Predictions 4, 5, 8 for the labels 4, 7, 5 have the absolute errors 0, 2 and 3."""
        trainer, images = make_trainer(), torch.tensor([4.0, 5, 8]).reshape(3, 1, 1, 1)
        trainer.network = nn.Flatten()  # the prediction is the image
        labels = torch.tensor([4, 7, 5])
        errors = trainer.compute_loss_and_mae(images, labels)
        assert_shape(labels, (3,), "y after compute_loss_and_mae, which must not change it,")
        assert_errors(errors, images, labels, "predictions 4, 5, 8 for the labels 4, 7, 5")

    def test_loss_and_mae_equal_those_of_torch(self):
        """Both are 0-dim tensors, means over the batch."""
        trainer = make_trainer()
        for size in (4, 1, 128):
            images, labels = batch(size)
            errors = trainer.compute_loss_and_mae(images, labels)
            what = f"a batch of {size}, with labels ({size},)"
            assert_errors(errors, prediction_of(trainer, images), labels, what)

    def test_labels_may_be_a_column(self):
        """Labels (B,) and (B, 1) give the same errors."""
        trainer, (images, labels) = make_trainer(), batch(6)
        errors = trainer.compute_loss_and_mae(images, labels.unsqueeze(1))
        assert_errors(errors, prediction_of(trainer, images), labels, "labels of shape (6, 1)")

    def test_labels_may_have_any_type(self):
        """Labels may be int64, float32 or float64."""
        trainer, (images, labels) = make_trainer(), batch(6)
        prediction = prediction_of(trainer, images)
        for dtype in (torch.int64, torch.float32, torch.float64):
            y = labels if dtype == torch.int64 else labels.to(dtype) + 0.75
            errors = trainer.compute_loss_and_mae(images, y.clone())
            assert_errors(errors, prediction, y, f"labels of {dtype}")

    def test_gradients_flow_from_both(self):
        """Gradients flow from the loss and from the MAE to every parameter."""
        for index, name in enumerate(("loss", "MAE")):
            trainer, twin = make_trainer(), make_trainer()
            error = trainer.compute_loss_and_mae(*batch(6))[index]
            if not getattr(error, "requires_grad", False):
                fail(f"The {name} is detached; expected a tensor through which gradients flow")
            error.backward()
            images, labels = batch(6)
            difference = twin.network(images).flatten() - labels
            (difference.square() if name == "loss" else difference.abs()).mean().backward()
            for parameter, other in zip(trainer.network.parameters(), twin.network.parameters()):
                if parameter.grad is None:
                    fail(f"The {name} has no gradient with respect to the network")
                assert_close(parameter.grad, other.grad, f"A gradient of the {name}")


def adam_steps(network, batches, error=F.mse_loss, zero=True, new=False):
    """Return the parameters of a copy of a network after a step of Adam on each batch."""
    twin, states = copy.deepcopy(network), []
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    for images, labels in batches:
        if new:
            adam = torch.optim.Adam(twin.parameters(), lr=0.01)
        if zero:
            adam.zero_grad()
        error(twin(images).flatten(), labels.float()).backward()
        adam.step()
        states.append([parameter.detach().clone() for parameter in twin.parameters()])
    return states


WRONG_STEPS = {
    "gradients add up over steps: call zero_grad before backward": {"zero": False},
    "each step has a new optimizer; expected self.optimizer": {"new": True},
    "the step minimises the MAE; expected the loss": {"error": F.l1_loss},
    "the step minimises loss + MAE; expected the loss alone": {
        "error": lambda *pair: F.mse_loss(*pair) + F.l1_loss(*pair)
    },
}


class TestTrainingStep(Problem):
    """Problem 1.5"""

    def test_steps_equal_those_of_adam(self):
        """Three steps equal those of Adam on a copy; gradients do not accumulate."""
        trainer, batches = make_trainer(), [batch(size) for size in (6, 4, 9)]
        right = adam_steps(trainer.network, batches)
        wrong = {
            words: adam_steps(trainer.network, batches, **how) for words, how in WRONG_STEPS.items()
        }
        words = "it has not changed: is backward() followed by step(), with no zero_grad() between?"
        wrong[words] = [[each.detach().clone() for each in trainer.network.parameters()], *right]
        for number, (images, labels) in enumerate(batches):
            trainer.training_step(images, labels)
            for index, parameter in enumerate(trainer.network.parameters()):
                mistakes = {words: states[number][index] for words, states in wrong.items()}
                what = f"A parameter after training_step {number + 1}"
                assert_close(parameter, right[number][index], what, 1e-5, mistakes)

    def test_errors_are_those_before_the_step(self):
        """The step returns the loss and MAE of its batch before the parameters change."""
        trainer, (images, labels) = make_trainer(), batch(6)
        for number in (1, 2):
            prediction = prediction_of(trainer, images)
            errors = trainer.training_step(images, labels)
            try:
                after = prediction_of(trainer, images)
                assert_errors(errors, after, labels, "")
            except AssertionError:
                assert_errors(errors, prediction, labels, f"training_step {number}")
            else:
                fail(f"training_step {number} returns the errors after the step; expected before")

    def test_training_lowers_the_loss(self):
        """After 50 epochs on four images, the loss is below a tenth of the first."""
        trainer = make_trainer(lr=0.1)
        trainer.evaluation_loop = lambda: None  # that is Problem 1.6
        losses = trainer.train_loop(50)["train_loss"]
        if len(losses) != 50 or not losses[-1] < 0.1 * losses[0]:
            fail(f"The loss goes from {losses[0]:.3g} to {losses[-1]:.3g}; expected a tenth")


class TestEvaluate(Problem):
    """Problem 1.6"""

    def test_nothing_is_trained(self):
        """evaluate changes no parameters, gradients, logs or settings."""
        trainer, twin = make_trainer(), make_trainer()
        for each in (trainer, twin):
            each.network(batch(6)[0]).sum().backward()
        network = trainer.network
        trainer.evaluate(*batch(6))
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
            fail("evaluate leaves gradients switched off; expected `with torch.no_grad():`")
        if trainer.network is not network:
            fail("evaluate replaces self.network, whose parameters self.optimizer has")
        if any(trainer.train_logs.values()):
            fail("evaluate appends to train_logs; expected that of evaluation_loop only")
        for parameter, other in zip(network.parameters(), twin.network.parameters()):
            assert_close(parameter, other, "A parameter after evaluate, which must not train,", 0)
            if parameter.grad is None:
                fail("evaluate clears the gradients; expected them as before")
            assert_close(parameter.grad, other.grad, "A gradient after evaluate", 0)

    def test_errors_are_averages_over_the_images(self):
        """evaluate returns the loss and MAE of one image, of a batch and of more images."""
        trainer = make_trainer()
        for size in (1, 4, 11):
            images, labels = batch(size)
            errors, prediction = trainer.evaluate(images, labels), prediction_of(trainer, images)
            assert_errors(errors, prediction, labels, f"evaluate for {size} images")

    def test_evaluation_fills_the_logs(self):
        """evaluation_loop appends the errors on the test images to train_logs."""
        trainer = make_trainer()
        trainer.evaluation_loop()
        images, labels = trainer.test[0]
        found = [torch.tensor(trainer.train_logs[name]) for name in ("test_loss", "test_mae")]
        for name, numbers in zip(("test_loss", "test_mae"), found):
            assert_shape(numbers, (1,), f'train_logs["{name}"]')
        errors = [numbers[0] for numbers in found]
        assert_errors(errors, prediction_of(trainer, images), labels, "evaluation_loop")


if __name__ == "__main__":
    run(select(sys.argv[1:]))
