"""Tests for Problems 1.1 to 1.6: run them while you write, and before you submit.

    python test.py                      all tests
    python test.py TestMLP              one class
    python test.py TestMLP.test_name    one test, by the name after FAIL or ERROR

These tests are basic: those on Gradescope check more. They need PyTorch, NumPy and Matplotlib, use
no data and take a few seconds.

Shapes: B batch, C channels, H, W height and width.
"""

import copy
import importlib
import math
import unittest
import zlib
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

# unittest omits the frames of a module with this name from its tracebacks. What remains is the
# message of a failed check, or the lines of your own code that raised an error.
__unittest = True

# Largest accepted error, relative to the largest expected number (or to 1). Rounding in float32
# gives 1e-6 here.
TOLERANCE = 1e-4

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


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


def pattern(name, shape, spread=1.0):
    """Return pseudorandom numbers in ±spread that depend only on name and shape."""
    prime = 1_000_003
    index = torch.arange(math.prod(shape))
    phase = zlib.crc32(name.encode()) % prime
    # Integers, so that every machine computes exactly the same numbers.
    residue = (48_271 * index * index + phase * (index + 1)) % prime
    return (spread * (2 * residue.double() / prime - 1)).float().reshape(shape)


def sample(*shape):
    """Return a batch of images that differ in contrast."""
    contrast = torch.linspace(2, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return contrast * pattern("sample", shape)


def fail(message):
    raise AssertionError(message)


def assert_shape(tensor, shape, what):
    if not isinstance(tensor, torch.Tensor):
        fail(f"{what} is a {type(tensor).__name__}; expected a tensor of shape {tuple(shape)}")
    if tensor.shape != torch.Size(shape):
        fail(f"{what} has shape {tuple(tensor.shape)}; expected {tuple(shape)}")


def assert_close(tensor, expected, what, tolerance=TOLERANCE):
    """Fail at the entry with the largest error. NaN differs from everything."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert_shape(tensor, expected.shape, what)
    difference = (tensor.detach().double() - expected).abs().nan_to_num(math.inf, math.inf)
    index = tuple(int(i) for i in torch.unravel_index(difference.argmax(), expected.shape))
    if difference[index] > tolerance * max(1, expected.abs().max()):
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
    network(images)
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


def assert_number_of_parameters(network, expected, what):
    number = sum(parameter.numel() for parameter in network.parameters())
    if number != expected:
        fail(f"{what} registers {number:,} parameters; expected {expected:,}")


def assert_same_as_torch(network, twin, images, what):
    """Compare the outputs and gradients of a network with those of its `twin`, layers of torch.

    Both are given the same parameters.
    """
    ours, theirs = (layers_of(each, images) for each in (network, twin))
    assert_layers(network, images, theirs, what)
    for number, (layer, other) in enumerate(zip(ours, theirs)):
        for name, parameter in other.named_parameters():
            spread = 0.5 if name == "bias" else math.sqrt(3 / parameter[0].numel())
            numbers = pattern(f"{number} {name}", parameter.shape, spread)
            parameter.data.copy_(numbers)
            getattr(layer, name).data.copy_(numbers)
    output, expected = network(images), twin(images)
    assert_close(output, expected, f"{what}: the prediction")
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


def assert_errors(errors, expected, what):
    """Compare a pair (loss, mae) of tensors or numbers with the expected one."""
    if not isinstance(errors, (tuple, list)) or len(errors) != 2:
        fail(f"{what} returns a {type(errors).__name__}; expected a pair (loss, mae)")
    for name, error, number in zip(("loss", "MAE"), errors, expected):
        assert_close(torch.as_tensor(error), number.detach(), f"The {name} of {what}", 1e-5)


def errors_of(trainer, images, labels):
    """Return the loss and MAE computed by torch in double precision."""
    network = copy.deepcopy(trainer.network).double()
    prediction, labels = network(images.double()).flatten(), labels.double().flatten()
    return F.mse_loss(prediction, labels), F.l1_loss(prediction, labels)


class Problem(unittest.TestCase):
    """A test case whose random numbers are the same in every run."""

    def setUp(self):
        torch.manual_seed(0)

    def __str__(self):
        return f"{type(self).__name__}.{self._testMethodName}"  # as in `python test.py NAME`


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
            twin = nn.Sequential(nn.Flatten(), *twin)
            assert_same_as_torch(network, twin, sample(5, 3, 4, 4), what)

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
            twin = nn.Sequential(*first, *second, nn.Linear(96, 8), act, nn.Linear(8, 1))
            layers = (4, 6), (3, 2), (1, 1), (8,)
            network = self.build(3, *layers, activation=activation())
            assert_same_as_torch(network, twin, sample(4, 3, 14, 14), f"The CNN with {name}")

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

    def test_loss_and_mae_of_a_constant_prediction(self):
        """Predictions of 4 for the labels 4, 5, 6 have the absolute errors 0, 1 and 2."""
        trainer = make_trainer()
        trainer.network[3].weight.data.zero_()
        trainer.network[3].bias.data.fill_(4)
        errors = trainer.compute_loss_and_mae(sample(3, 1, 2, 2), torch.tensor([4, 5, 6]))
        expected = torch.tensor(5 / 3), torch.tensor(1.0)
        assert_errors(errors, expected, "predictions 4 for the labels 4, 5, 6")

    def test_loss_and_mae_equal_those_of_torch(self):
        """Both are 0-dim tensors, means over the batch."""
        trainer = make_trainer()
        for size in (1, 4, 128):
            errors = trainer.compute_loss_and_mae(*batch(size))
            assert_errors(errors, errors_of(trainer, *batch(size)), f"a batch of {size}")

    def test_labels_may_be_a_column(self):
        """Labels (B,) and (B, 1) give the same errors."""
        trainer, (images, labels) = make_trainer(), batch(6)
        errors = trainer.compute_loss_and_mae(images, labels.unsqueeze(1))
        assert_errors(errors, errors_of(trainer, images, labels), "labels of shape (6, 1)")

    def test_labels_may_have_any_type(self):
        """Labels may be int64, float32 or float64."""
        trainer, (images, labels) = make_trainer(), batch(6)
        for dtype in (torch.int64, torch.float32, torch.float64):
            errors = trainer.compute_loss_and_mae(images, labels.to(dtype))
            assert_errors(errors, errors_of(trainer, images, labels), f"labels of {dtype}")

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
                assert_close(parameter.grad, other.grad, f"A gradient of the {name}")


class TestTrainingStep(Problem):
    """Problem 1.5"""

    def test_steps_equal_those_of_adam(self):
        """Three steps equal those of Adam on a copy; gradients do not accumulate."""
        trainer = make_trainer()
        twin = copy.deepcopy(trainer.network)
        adam = torch.optim.Adam(twin.parameters(), lr=0.01)
        for number, size in enumerate((6, 4, 9), start=1):
            images, labels = batch(size)
            trainer.training_step(images, labels)
            adam.zero_grad()
            F.mse_loss(twin(images).flatten(), labels.float()).backward()
            adam.step()
            for parameter, other in zip(trainer.network.parameters(), twin.parameters()):
                assert_close(parameter, other, f"A parameter after step {number}")

    def test_errors_are_those_before_the_step(self):
        """The step returns the loss and MAE of its batch before the parameters change."""
        trainer = make_trainer()
        for number in (1, 2):
            expected = errors_of(trainer, *batch(6))
            errors = trainer.training_step(*batch(6))
            assert_errors(errors, expected, f"training_step {number}")

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
            errors = trainer.evaluate(*batch(size))
            assert_errors(errors, errors_of(trainer, *batch(size)), f"evaluate for {size} images")

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
        loss, mae = errors_of(trainer, *trainer.test[0])
        for name, expected in (("test_loss", loss), ("test_mae", mae)):
            found = torch.tensor(trainer.train_logs[name])
            assert_close(found, expected.detach().reshape(1), f'train_logs["{name}"]', 1e-5)


if __name__ == "__main__":
    unittest.main()
