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

HERE = Path(__file__).resolve().parent
if not (HERE / "training").is_dir():  # it is beside this file, or one folder above
    sys.path.append(str(HERE.parent))

from training.testing import (
    Problem,
    Submitted,
    assert_number_of_parameters,
    assert_shape,
    fail,
    pattern,
    run,
    sample,
    select,
)

# Largest accepted error, relative to the largest expected number (or to 1). Rounding in float32
# gives 1e-6 here.
TOLERANCE = 1e-4

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}

solution = Submitted("solution")


def is_close(tensor, expected, tolerance=TOLERANCE):
    """Return whether two tensors have the same shape and numbers. NaN differs from everything."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    limit = tolerance * max(1, expected.abs().max())
    same = tensor.shape == expected.shape
    return same and bool(((tensor.detach().double() - expected).abs() <= limit).all())


def assert_close(tensor, expected, what, tolerance=TOLERANCE, mistakes=None):
    """Fail at the entry with the largest error, or with the name of a known mistake.

    `mistakes` maps the words for a mistake to the numbers that it gives.
    """
    expected = torch.as_tensor(expected, dtype=torch.float64)
    for words, numbers in (mistakes or {}).items() if isinstance(tensor, torch.Tensor) else ():
        if is_close(tensor, numbers, tolerance) and not is_close(tensor, expected, tolerance):
            fail(f"{what}: {words}")
    assert_shape(tensor, expected.shape, what)
    if is_close(tensor, expected, tolerance):
        return
    difference = (tensor.detach().double() - expected).abs().nan_to_num(math.inf, math.inf)
    index = tuple(int(i) for i in torch.unravel_index(difference.argmax(), expected.shape))
    place = f" at index {index}" if index else ""
    off = f"(off by {difference[index]:.2g})"
    fail(f"{what} is {tensor[index]:.6g}{place}; expected {expected[index]:.6g} {off}")


def layers_of(network, images):
    """Return the linear layers and convolutions in the order in which images pass through them."""
    if not isinstance(network, nn.Module):
        fail(f"A {type(network).__name__} was returned; expected an nn.Module")
    called = []
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.register_forward_hook(lambda layer, *_: called.append(layer))
    try:
        network(images)
    except RuntimeError as error:
        fail(
            f"The network fails for images of shape {tuple(images.shape)}: {error}. Does it "
            "flatten them, and does each nn.Linear have as many inputs as numbers reach it?"
        )
    return called


def in_words(layer):
    if isinstance(layer, nn.Linear):
        return f"Linear({layer.in_features}, {layer.out_features})"
    sides, steps = layer.kernel_size, layer.stride
    return f"Conv2d({layer.in_channels}, {layer.out_channels}, {sides}, stride={steps})"


def assert_layers(network, images, expected, what):
    found = [in_words(layer) for layer in layers_of(network, images)]
    if found != [in_words(layer) for layer in expected]:
        expected = ", ".join(map(in_words, expected))
        fail(f"{what} has the layers {', '.join(found) or 'none'}; expected {expected}")


def assert_same_as_torch(network, twin, images, what, wrong=None):
    """Compare the outputs and gradients of a network with those of its `twin`, layers of torch.

    Both are given the same parameters. `wrong` maps the words for a mistake to the twin that it
    gives.
    """
    ours, theirs = (layers_of(each, images) for each in (network, twin))
    assert_layers(network, images, theirs, what)
    for number, (layer, other) in enumerate(zip(ours, theirs)):
        for name, parameter in other.named_parameters():
            spread = 0.5 if name == "bias" else math.sqrt(3 / parameter[0].numel())
            numbers = pattern(f"{number} {name}", parameter.shape, spread=spread)
            parameter.data.copy_(numbers)
            getattr(layer, name).data.copy_(numbers)
    output, expected = network(images), twin(images)
    mistakes = {}
    for words, other in (wrong or {}).items():
        layers = [layer for layer in other if isinstance(layer, (nn.Linear, nn.Conv2d))]
        for layer, right in zip(layers, theirs):
            if layer is not right:
                layer.load_state_dict(right.state_dict())
        mistakes[words] = other(images).detach()
    assert_close(output, expected, f"{what}: the prediction", mistakes=mistakes)
    weights = pattern("weights", expected.shape)
    for each in (output, expected):
        (each * weights).sum().backward()
    for number, (layer, other) in enumerate(zip(ours, theirs), start=1):
        for name, parameter in other.named_parameters():
            gradient = f"{what}: the gradient of the {name} of layer {number}"
            assert_close(getattr(layer, name).grad, parameter.grad, gradient, 10 * TOLERANCE)


def assert_not_activated(network, images, what):
    """Check that the prediction is the output of the last layer."""
    last = layers_of(network, images)[-1]
    last.weight.data.zero_()
    last.bias.data.fill_(-3)
    expected = torch.full((len(images), 1), -3.0)
    assert_close(network(images), expected, f"{what} prediction, if the last layer returns -3,")


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

    trainer = Small(lr=lr, batch_size=4)
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
        expected = measure(difference).mean()
        other = (torch.abs if name == "loss" else torch.square)(difference).mean()
        mistakes = {
            "labels (B,) broadcast against predictions (B, 1) to (B, B), every label with every "
            "prediction; reshape one to the shape of the other": measure(across).mean(),
            "it is the sum of the (B, B) differences of labels (B,) and predictions (B, 1), which "
            "broadcast": measure(across).sum(),
            "it is a sum over the batch; expected the mean": expected * size,
            "it is the other error; expected (loss, mae), in this order": other,
            "it is the root of the MSE; expected the MSE": expected.sqrt(),
            "it is half of the MSE; expected the MSE": expected / 2,
            "it lacks the absolute value": difference.mean(),
            "it lacks the absolute value and has the wrong sign": -difference.mean(),
            "it is taken after the mean; expected the mean of it": measure(difference.mean()),
            "it has one error per image; expected their mean": measure(difference),
            "it has one error per image, (B, 1); expected their mean": measure(difference)[:, None],
        }
        found = torch.as_tensor(error)
        assert_close(found, expected, f"The {name} of {what}", 1e-5, mistakes)


def prediction_of(trainer, images):
    """Return the prediction of a trainer's network, computed in double precision."""
    return copy.deepcopy(trainer.network).double()(images.double())


class TestActivation(Problem):
    """Problem 1.1"""

    def test_an_instance_of_a_module_is_returned(self):
        """create_activation_function returns an instance of an nn.Module."""
        for name in ACTIVATIONS:
            module = solution.Trainer.create_activation_function(name)
            if not isinstance(module, nn.Module):
                found = getattr(module, "__name__", type(module).__name__)
                fail(f'"{name}" returns {found}; expected an instance of an nn.Module')

    def test_activations_equal_those_of_torch(self):
        """Each activation equals that of torch."""
        inputs = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 2.0]])
        for name, expected in ACTIVATIONS.items():
            outputs = solution.Trainer.create_activation_function(name)(inputs.clone())
            assert_close(outputs, expected()(inputs), f'The function for "{name}"')


def altered(*dense):
    """Yield fully-connected layers with a known mistake, after the words for it."""
    linear = [layer for layer in dense if isinstance(layer, nn.Linear)]
    relu = [layer if layer in linear else nn.ReLU() for layer in dense]
    yield "it has no activation between its nn.Linear", linear
    yield "an activation follows the last nn.Linear; expected none", (*dense, dense[1])
    yield "its activation is always ReLU; expected the argument", relu
    yield "no activation precedes the last nn.Linear", (*dense[:-2], dense[-1])
    yield "an activation precedes the first nn.Linear; expected none", (dense[1], *dense)


class TestMLP(Problem):
    """Problem 1.2"""

    def build(self, input_dim, hiddens, activation):
        config = solution.NetworkConfiguration(dense_hiddens=hiddens)
        return solution.Trainer.create_mlp(input_dim, config, activation)

    def test_layers_chain_the_widths(self):
        """The MLP has an nn.Linear per hidden layer, and one with a single output."""
        for widths in ((12, 8, 1), (12, 7, 9, 5, 1), (12, 256, 256, 1)):
            network = self.build(12, widths[1:-1], nn.ReLU())
            expected = [nn.Linear(*pair) for pair in pairwise(widths)]
            what = f"create_mlp(12, dense_hiddens={widths[1:-1]})"
            assert_layers(network, sample(2, 3, 2, 2), expected, what)

    def test_number_of_parameters(self):
        """The MLP of the experiments has 409,985 parameters."""
        network = self.build(3 * 32 * 32, (128, 128), nn.ReLU())
        assert_number_of_parameters(network, 409_985, "The MLP with two layers of 128")

    def test_predictions_have_one_column(self):
        """The MLP maps images (B, C, H, W) to predictions (B, 1)."""
        for size in (1, 5):
            output = self.build(48, (8, 6), nn.ReLU())(sample(size, 3, 4, 4))
            assert_shape(output, (size, 1), f"The prediction for {size} images")

    def test_mlp_equals_layers_of_torch(self):
        """The MLP equals a chain of torch's layers, with each activation."""
        for name, activation in ACTIVATIONS.items():
            act = activation()
            twin = (nn.Linear(48, 8), act, nn.Linear(8, 6), act, nn.Linear(6, 1))
            network, what = self.build(48, (8, 6), activation()), f"The MLP with {name}"
            wrong = {words: nn.Sequential(nn.Flatten(), *chain) for words, chain in altered(*twin)}
            twin = nn.Sequential(nn.Flatten(), *twin)
            assert_same_as_torch(network, twin, sample(5, 3, 4, 4), what, wrong)

    def test_predictions_are_not_activated(self):
        """No activation follows the last layer of the MLP."""
        for activation in (nn.ReLU(), nn.Sigmoid()):
            network = self.build(48, (8, 6), activation)
            assert_not_activated(network, sample(2, 3, 4, 4), "The MLP's")


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
        assert_layers(network, sample(2, 3, 32, 32), expected, "create_cnn(3, ...)")

    def test_number_of_parameters(self):
        """The three CNNs of the experiments have the correct number of parameters."""
        for layers, number in (
            (((16, 32, 45), (3, 3, 3), (1, 1, 1), (128,)), 110_510),
            (((8, 16, 32, 64), (1, 1, 1, 1), (1, 1, 1, 1), (128,)), 134_161),
            (((20,), (32,), (1,), (128,)), 5_121 * 20 + 257),
        ):
            what = "The CNN with n_channels={}, kernel_sizes={}".format(*layers)
            network = self.build(3, *layers)
            network(sample(1, 3, 32, 32))  # lazy layers have no parameters before
            assert_number_of_parameters(network, number, what)

    def test_cnn_equals_layers_of_torch(self):
        """The CNN equals a chain of torch's layers, with each activation."""
        for name, activation in ACTIVATIONS.items():
            act = activation()
            first = nn.Conv2d(3, 4, 3), act, nn.MaxPool2d(2)
            second = nn.Conv2d(4, 6, 2), act, nn.AdaptiveMaxPool2d((4, 4)), nn.Flatten()
            dense = nn.Linear(96, 8), act, nn.Linear(8, 1)
            wrong = {words: nn.Sequential(*first, *second, *end) for words, end in altered(*dense)}
            twin = nn.Sequential(*first, *second, *dense)
            layers = (4, 6), (3, 2), (1, 1), (8,)
            network = self.build(3, *layers, activation=activation())
            images, what = sample(4, 3, 14, 14), f"The CNN with {name}"
            assert_same_as_torch(network, twin, images, what, wrong)

    def test_pooling_follows_the_activation(self):
        """The activation comes before the pooling, which matters for one that is not monotonic."""

        class Wave(nn.Module):
            def forward(self, inputs):
                return torch.sin(3 * inputs)

        act, pool, adaptive = Wave(), nn.MaxPool2d(2), nn.AdaptiveMaxPool2d((4, 4))

        def chain(*order):
            first = [nn.Conv2d(3, 4, 3), *(order[0])]
            second = [nn.Conv2d(4, 6, 2), *(order[1]), nn.Flatten()]
            return nn.Sequential(*first, *second, nn.Linear(96, 8), act, nn.Linear(8, 1))

        words = "pooling precedes the activation; expected convolution, activation, pooling"
        wrong = {
            words: chain((pool, act), (adaptive, act)),
            f"once, {words}": chain((pool, act), (act, adaptive)),
            f"at the last convolution, {words}": chain((act, pool), (adaptive, act)),
        }
        network = self.build(3, (4, 6), (3, 2), (1, 1), (8,), activation=act)
        twin, images = chain((act, pool), (act, adaptive)), sample(4, 3, 14, 14)
        assert_same_as_torch(network, twin, images, "The CNN with sin(3 x)", wrong)

    def test_one_convolution_is_enough(self):
        """A single convolution is also the last: only adaptive pooling follows it."""
        first = nn.Conv2d(3, 5, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d((4, 4)), nn.Flatten()
        twin = nn.Sequential(*first, nn.Linear(80, 6), nn.ReLU(), nn.Linear(6, 1))
        network = self.build(3, (5,), (5,), (2,), (6,))
        assert_same_as_torch(network, twin, sample(2, 3, 15, 15), "The CNN with one convolution")

    def test_images_may_have_other_sizes(self):
        """The same network accepts images of several sizes and returns predictions (B, 1)."""
        network = self.build(3, (4, 6), (3, 3), (1, 1), (8,))
        for shape in ((1, 3, 32, 32), (2, 3, 48, 40), (3, 3, 12, 12)):
            assert_shape(network(sample(*shape)), (shape[0], 1), f"The prediction for {shape}")

    def test_predictions_are_not_activated(self):
        """No activation follows the last layer of the CNN."""
        network = self.build(3, (4, 6), (3, 3), (1, 1), (8,), activation=nn.Sigmoid())
        assert_not_activated(network, sample(2, 3, 14, 14), "The CNN's")


class TestLoss(Problem):
    """Problem 1.4"""

    def test_loss_and_mae_of_three_predictions(self):
        """Predictions 4, 5, 8 for the labels 4, 7, 5 have the absolute errors 0, 2 and 3."""
        trainer, images = make_trainer(), torch.tensor([4.0, 5, 8]).reshape(3, 1, 1, 1)
        trainer.network = nn.Flatten()  # the prediction is the image
        errors = trainer.compute_loss_and_mae(images, torch.tensor([4, 7, 5]))
        what = "predictions 4, 5, 8 for the labels 4, 7, 5"
        assert_errors(errors, images, torch.tensor([4, 7, 5]), what)

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
        for dtype in (torch.int64, torch.float32, torch.float64):
            errors = trainer.compute_loss_and_mae(images, labels.to(dtype))
            assert_errors(errors, prediction_of(trainer, images), labels, f"labels of {dtype}")

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


class TestTrainingStep(Problem):
    """Problem 1.5"""

    def test_steps_equal_those_of_adam(self):
        """Three steps equal those of Adam on a copy; gradients do not accumulate."""
        trainer = make_trainer()
        right, summed, both = (copy.deepcopy(trainer.network) for _ in range(3))
        twins = [
            (twin, torch.optim.Adam(twin.parameters(), lr=0.01)) for twin in (right, summed, both)
        ]
        for number, size in enumerate((6, 4, 9), start=1):
            images, labels = batch(size)
            before = copy.deepcopy(trainer.network)
            trainer.training_step(images, labels)
            for twin, adam in twins:
                if twin is not summed:
                    adam.zero_grad()
                total = F.mse_loss(twin(images).flatten(), labels.float())
                if twin is both:
                    total = total + F.l1_loss(twin(images).flatten(), labels.float())
                total.backward()
                adam.step()
            parameters = (network.parameters() for network in (before, right, summed, both))
            for parameter, *others in zip(trainer.network.parameters(), *parameters):
                before, expected, accumulated, of_both = others
                mistakes = {
                    "it has not changed: does backward() precede optimizer.step()?": before,
                    "gradients add up over steps: call zero_grad before backward": accumulated,
                    "the step minimises loss + MAE; expected the loss alone": of_both,
                }
                what = f"A parameter after step {number}"
                assert_close(parameter, expected, what, 1e-5, mistakes)

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
        losses = trainer.train_loop(50)["train_loss"]
        if len(losses) != 50 or not losses[-1] < 0.1 * losses[0]:
            fail(f"The loss goes from {losses[0]:.3g} to {losses[-1]:.3g}; expected a tenth")


class TestEvaluate(Problem):
    """Problem 1.6"""

    def test_errors_are_averages_over_the_images(self):
        """evaluate returns the loss and MAE of one image, of a batch and of more images."""
        trainer = make_trainer()
        for size in (1, 4, 11):
            images, labels = batch(size)
            errors, prediction = trainer.evaluate(images, labels), prediction_of(trainer, images)
            assert_errors(errors, prediction, labels, f"evaluate for {size} images")

    def test_nothing_is_trained(self):
        """evaluate changes no parameters and leaves no gradients."""
        trainer, twin = make_trainer(), make_trainer()
        trainer.evaluate(*batch(6))
        for parameter, other in zip(trainer.network.parameters(), twin.network.parameters()):
            assert_close(parameter, other, "A parameter after evaluate", 0)
            if parameter.grad is not None and parameter.grad.any():
                fail("A parameter has a gradient after evaluate; expected none")

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
