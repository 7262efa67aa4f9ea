"""The Trainer of the third assignment: its networks, its errors, its steps, its data."""

import copy
import hashlib
import itertools
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from regression.solution import Images, NetworkConfiguration, Trainer
from training.program import read_data

from conftest import ROOT
from oracles import count_parameters, few_examples

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
COURSE_CNN = NetworkConfiguration((16, 32, 45), (3, 3, 3), (1, 1, 1), (128,))
DEEP_CNN = NetworkConfiguration((8, 16, 32, 64), (1, 1, 1, 1), (1, 1, 1, 1), (128,))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Also where there is a GPU; the test of that asks for it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def trainer(small_npz):
    return make_trainer(small_npz)


def make_trainer(source, network="mlp", config=None, **options):
    """Return a trainer with a small network and batches of 64: 300 images train, 50 test."""
    config = config or NetworkConfiguration((4, 6), (3, 3), (1, 1), (8,))
    options = {"batch_size": 64, "seed": 0, **options}
    if source == "cifar10":
        return Trainer(network, config, **options)
    data, train = read_data(str(source), "data")

    class OnData(Trainer):
        @staticmethod
        def load_dataset(self):
            parts = (Images(part.images, part.labels) for part in (train, data.test))
            return self.make_loaders(*parts)

    return OnData(network, config, **options)


def batch(size, dtype=torch.int64, shape=None):
    generator = torch.Generator().manual_seed(size)
    images = 2 * torch.rand(size, 3, 32, 32, generator=generator) - 1
    labels = torch.randint(10, (size,), generator=generator).to(dtype)
    return images, labels if shape is None else labels.reshape(shape)


def errors_of(network, images, labels):
    """Return MSE and MAE in double precision, by NumPy."""
    with torch.no_grad():
        prediction = copy.deepcopy(network).double()(images.double()).numpy().ravel()
    difference = prediction - labels.double().numpy().ravel()
    return np.square(difference).mean(), np.abs(difference).mean()


def state_of(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


# ------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_module_of_its_name(name):
    assert type(Trainer.create_activation_function(name)) is ACTIVATIONS[name]


def described(network):
    """Return type and arguments of each layer of a flat nn.Sequential."""
    assert type(network) is nn.Sequential
    return [str(layer) for layer in network]


def expected_dense(width, hiddens, activation):
    widths = [width, *hiddens]
    chain = [(nn.Linear(a, b), activation) for a, b in itertools.pairwise(widths)]
    return [*itertools.chain(*chain), nn.Linear(widths[-1], 1)]


@given(
    hiddens=st.lists(st.integers(1, 300), max_size=5),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    name=st.sampled_from(list(ACTIVATIONS)),
)
@few_examples
def test_the_layers_of_an_mlp_are_those_of_the_sheet(hiddens, shape, name):
    activation = ACTIVATIONS[name]()
    config = NetworkConfiguration(dense_hiddens=tuple(hiddens))
    network = Trainer.create_mlp(math.prod(shape), config, activation)
    expected = [nn.Flatten(), *expected_dense(math.prod(shape), hiddens, activation)]
    assert described(network) == [str(layer) for layer in expected]
    assert network(torch.randn(2, *shape)).shape == (2, 1)


CONVOLUTION = st.tuples(st.integers(1, 8), st.integers(1, 32), st.integers(1, 5))


@given(
    convolutions=st.lists(CONVOLUTION, min_size=1, max_size=4),
    hiddens=st.lists(st.integers(1, 40), max_size=3),
    in_channels=st.integers(1, 4),
    more=st.integers(0, 7),
    name=st.sampled_from(list(ACTIVATIONS)),
)
@few_examples
def test_the_layers_of_a_cnn_are_those_of_the_sheet(convolutions, hiddens, in_channels, more, name):
    """One to four convolutions, kernels to 32, any strides, on images just large enough."""
    activation = ACTIVATIONS[name]()
    config = NetworkConfiguration(*zip(*convolutions), tuple(hiddens))
    network = Trainer.create_cnn(in_channels, config, activation)
    expected, channels = [], in_channels
    for out_channels, kernel_size, stride in convolutions:
        expected.append(nn.Conv2d(channels, out_channels, kernel_size, stride))
        expected += [activation, nn.MaxPool2d(kernel_size=2)]
        channels = out_channels
    expected[-1] = nn.AdaptiveMaxPool2d((4, 4))
    expected += [nn.Flatten(), *expected_dense(16 * channels, hiddens, activation)]
    assert described(network) == [str(layer) for layer in expected]

    # The smallest image that leaves one pixel, from the last convolution backwards.
    size = 1
    for number, (_, kernel_size, stride) in enumerate(reversed(convolutions)):
        size = ((2 * size if number else size) - 1) * stride + kernel_size
    if size > 120:
        return
    images = torch.randn(2, in_channels, size + more, size)
    assert network(images).shape == (2, 1)
    torch.testing.assert_close(network(images), by_functions(network, images, convolutions, name))


def by_functions(network, images, convolutions, name):
    """Compute what the sheet describes, with the parameters of the network in their order."""
    parameters = iter(list(network.parameters()))
    activate = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[name]
    for number, (_, _, stride) in enumerate(convolutions, start=1):
        images = activate(F.conv2d(images, next(parameters), next(parameters), stride))
        if number < len(convolutions):
            images = F.max_pool2d(images, 2)
    hidden = F.adaptive_max_pool2d(images, 4).flatten(1)
    rest = list(parameters)
    for weight, bias in zip(rest[:-2:2], rest[1:-2:2]):
        hidden = activate(hidden @ weight.T + bias)
    return hidden @ rest[-2].T + rest[-1]


def test_the_networks_of_the_experiments_have_their_numbers_of_parameters():
    mlp = Trainer.create_mlp(3072, NetworkConfiguration(dense_hiddens=(128, 128)), nn.ReLU())
    assert count_parameters(mlp) == 409_985
    assert count_parameters(Trainer.create_cnn(3, COURSE_CNN, nn.ReLU())) == 110_510
    assert count_parameters(Trainer.create_cnn(3, DEEP_CNN, nn.ReLU())) == 134_161
    for filters in (1, 21, 26, 100):
        shallow = NetworkConfiguration((filters,), (32,), (1,), (128,))
        network = Trainer.create_cnn(3, shallow, nn.ReLU())
        assert count_parameters(network) == 5_121 * filters + 257


def test_the_defaults_are_those_of_the_course():
    layers = NetworkConfiguration()
    assert layers == ((16, 32, 48), (3, 3, 3), (1, 1, 1), (256, 256))
    assert Trainer.__init__.__defaults__ == ("mlp", layers, 0.001, 128, "relu", 197331)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("rnn", {}, "^Network type not supported$"),
        ("mlp", {"activation_name": "gelu"}, "activation_name is 'gelu'; choose from relu"),
    ],
)
def test_an_unknown_name_is_an_error(network, options, message, small_npz):
    with pytest.raises(ValueError, match=message):
        make_trainer(small_npz, network, **options)


# ------------------------------------------------------------------------------------- the trainer


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_losses_equal_those_in_double_precision(network, column, dtype, small_npz):
    trainer = make_trainer(small_npz, network)
    for size in (1, 2, 7, 64):
        images, labels = batch(size, dtype, (size, 1) if column else None)
        if dtype != torch.int64:
            labels = labels / 3
        errors = trainer.compute_loss_and_mae(images, labels)
        for error, expected in zip(errors, errors_of(trainer.network, images, labels), strict=True):
            assert error.shape == () and error.requires_grad and error.dtype == torch.float32
            assert error.item() == pytest.approx(expected, rel=1e-6)


def test_a_step_is_one_of_adam_on_the_squared_error_and_nothing_accumulates(small_npz):
    trainer = make_trainer(small_npz, "cnn", lr=0.01)
    twin = copy.deepcopy(trainer.network)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    for size in (8, 3, 1):
        images, labels = batch(size)
        expected = errors_of(trainer.network, images, labels)
        sum(trainer.compute_loss_and_mae(images, labels)).backward()  # what is left lying about
        loss, mae = trainer.training_step(images, labels)
        assert (float(loss), float(mae)) == pytest.approx(expected, rel=1e-6)
        assert not loss.requires_grad and not mae.requires_grad
        adam.zero_grad()
        F.mse_loss(twin(images), labels.float().unsqueeze(1)).backward()
        adam.step()
        for ours, theirs in zip(trainer.network.parameters(), twin.parameters()):
            torch.testing.assert_close(ours.grad, theirs.grad)
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_changes_nothing(training, trainer):
    trainer.training_step(*batch(6))
    # Dropout and batch norm would change the result, the random state and their statistics.
    trainer.network.append(nn.Dropout(0.5)).insert(2, nn.BatchNorm1d(8))
    trainer.network.train(training)
    state = copy.deepcopy(trainer.network.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in trainer.network.parameters()]
    random, images_before = torch.get_rng_state(), batch(6)[0]
    images, labels = batch(6)
    errors = trainer.evaluate(images, labels)
    expected = errors_of(copy.deepcopy(trainer.network).eval(), images, labels)
    assert tuple(map(float, errors)) == pytest.approx(expected, rel=1e-6)
    assert not any(error.requires_grad for error in errors)
    assert all(module.training is training for module in trainer.network.modules())
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(images, images_before)
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    for parameter, gradient in zip(trainer.network.parameters(), gradients):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)


def test_logs_are_plain_floats_averaged_over_images_not_batches(trainer):
    """300 images in batches of 64: the last one has 44, and 50 in the test set."""
    logs = trainer.train_loop(2)
    assert logs is trainer.train_logs
    assert all(len(values) == 2 for values in logs.values())
    assert {type(value) for values in logs.values() for value in values} == {float}

    images, labels = trainer.test.dataset[list(range(50))]
    expected = errors_of(trainer.network, images, labels)
    assert (logs["test_loss"][-1], logs["test_mae"][-1]) == pytest.approx(expected, rel=1e-5)

    sizes = []

    def attached(images, labels):
        sizes.append(len(images))
        return trainer.compute_loss_and_mae(images, labels)

    trainer.training_step = attached  # as in many a submission, and trains nothing
    trainer.train_loop(1)
    images, labels = trainer.train.dataset[list(range(300))]
    expected = errors_of(trainer.network, images, labels)
    assert sizes == [64, 64, 64, 64, 44]
    assert (logs["train_loss"][-1], logs["train_mae"][-1]) == pytest.approx(expected, rel=1e-5)


def test_an_epoch_three_times_is_three_epochs(small_npz):
    at_once, one_by_one = (make_trainer(small_npz) for _ in range(2))
    torch.manual_seed(1)
    expected = at_once.train_loop(3)
    torch.manual_seed(1)
    for _ in range(3):
        one_by_one.train_loop(1)
    assert one_by_one.train_logs == expected


def test_a_constant_prediction_has_a_mean_absolute_error_of_two_and_a_half(trainer):
    for parameter in trainer.network.parameters():
        parameter.data.zero_()
    trainer.network[-1].bias.data.fill_(4.5)
    trainer.evaluation_loop()
    assert trainer.train_logs["test_mae"] == [2.5]


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_training_learns_where_the_bands_are(network, small_npz):
    """Half of the error of a constant; six seeds gave 0.11 to 0.14 (MLP) and 0.23 to 0.87 (CNN)."""
    trainer = make_trainer(small_npz, network, lr=0.005)
    assert trainer.train_loop(20)["test_mae"][-1] < 1.25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_network_and_images_are_on_the_gpu_if_there_is_one(small_npz, monkeypatch):
    monkeypatch.undo()
    trainer = make_trainer(small_npz, "cnn")
    images, labels = next(iter(trainer.train))
    assert {images.device.type, labels.device.type, trainer.device.type} == {"cuda"}
    assert all(parameter.is_cuda for parameter in trainer.network.parameters())
    assert all(math.isfinite(values[0]) for values in trainer.train_loop(1).values())


# ------------------------------------------------------------------------------------------ data


def test_loaders_give_batches_of_scaled_images_and_their_labels(trainer, small_npz):
    with np.load(small_npz) as arrays:
        train, test = arrays["train_images"], arrays["test_images"]
    assert (len(trainer.train), len(trainer.test)) == (5, 1)
    assert (len(trainer.train.dataset), len(trainer.test.dataset)) == (300, 50)
    for loader, stored in ((trainer.train, train), (trainer.test, test)):
        batches = list(loader)
        images = torch.cat([images for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.shape == (len(stored), 3, 32, 32) and labels.shape == (len(stored),)
        assert images.min() >= -1 and images.max() <= 1
        # Each image once, whatever the order: by their sums, which differ.
        sums = np.sort(stored.reshape(len(stored), -1).sum(axis=1, dtype=np.int64))
        found = ((images.double() + 1) * 127.5).round().flatten(1).sum(dim=1).long().sort().values
        assert found.tolist() == sums.tolist()


def test_training_images_are_shuffled_anew_each_epoch_and_test_images_are_not(trainer):
    """Of 300! orders, two are the same with probability 0 for all purposes."""
    first, second = (torch.cat([y for _, y in trainer.train]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)
    (first, labels), (second, _) = (next(iter(trainer.test)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(labels, torch.arange(50) % 10)


def test_one_image_of_a_data_set_is_that_of_the_batch(trainer):
    images, labels = next(iter(trainer.test))
    image, label = trainer.test.dataset[7]
    assert torch.equal(image, images[7]) and label == labels[7]


@pytest.fixture
def official_cifar10(tmp_path, monkeypatch):
    """Small files in the layout of CIFAR-10, whose checksums torchvision is told to expect."""
    from torchvision.datasets import CIFAR10

    random = np.random.default_rng(0)
    folder = tmp_path / "data" / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def part():
        pixels = random.integers(0, 256, (20, 3072), np.uint8)
        return {"data": pixels, "labels": random.integers(0, 10, 20).tolist()}

    train = [list(write(f"data_batch_{number}", part())) for number in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [list(write("test_batch", part()))])
    name, digest = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "filename": name, "md5": digest})
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:9/{CIFAR10.filename}")  # it refuses
    monkeypatch.chdir(tmp_path)
    return CIFAR10


def test_cifar10_has_the_values_of_the_pipeline_of_torchvision(official_cifar10):
    from torchvision import transforms

    scale = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pipeline = transforms.Compose([transforms.ToTensor(), scale])
    trainer = make_trainer("cifar10", batch_size=7)
    for loader, train in ((trainer.train, True), (trainer.test, False)):
        theirs = official_cifar10("data", train=train, transform=pipeline)
        images, labels = loader.dataset[list(range(len(theirs)))]
        assert torch.equal(images, torch.stack([image for image, _ in theirs]))
        assert labels.tolist() == [label for _, label in theirs] and labels.dtype == torch.int64
    ours = torch.cat([images for images, _ in trainer.test])
    expected = torch.utils.data.DataLoader(theirs, batch_size=7, shuffle=False)
    assert torch.equal(ours, torch.cat([images for images, _ in expected]))


# -------------------------------------------------------------------------------------- the file


def test_importing_seeds_and_does_nothing_else():
    """It needs no torchvision, prints nothing, and leaves the path as it was."""
    code = (
        "import sys; sys.modules['torchvision'] = None; path = list(sys.path)\n"
        "import regression.solution, random, numpy, torch\n"
        "assert sys.path == path and 'training' not in sys.modules\n"
        "print(random.random(), numpy.random.rand(), torch.rand(1).item())\n"
    )
    ended = run("-c", code)
    state = random_numbers()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [float(word) for word in ended.stdout.split()] == state


def random_numbers():
    import random

    random.seed(197331)
    numpy_state = np.random.RandomState(197331)
    torch_state = torch.Generator().manual_seed(197331)
    return [random.random(), numpy_state.rand(), torch.rand(1, generator=torch_state).item()]


def test_the_students_tests_pass_on_the_solution():
    ended = run("regression/test.py")
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert re.search(r"^1\.6: 3 of 3 tests pass$", ended.stdout, re.M)
