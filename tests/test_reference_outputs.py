"""The numbers stored in test.py are right: implementations by other people give them too.

None of our four modules is imported. torchvision has the residual blocks, timm the mixer, and NumPy
is enough for the MLP. All of it runs in float64.
"""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.testing import pattern, pattern_for, sample

# By its path: `import test` may find the tests of Python itself.
SPEC = importlib.util.spec_from_file_location(
    "student_tests", Path(__file__).parent.parent / "test.py"
)
student_tests = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(student_tests)

# The stored numbers have 5 decimals.
HALF_A_UNIT = 0.5000001e-5


def filled(model, renamed):
    """Fill a model of another library as test.py fills a student's, who uses other names."""
    for name, tensor in model.state_dict().items():
        for theirs, ours in renamed.items():
            name = name.replace(theirs, ours)
        if tensor.is_floating_point():
            tensor.copy_(pattern_for(name, tensor.shape))
    return model.double()


def output_and_gradient(model, inputs):
    """Return the output and the derivative of the weighted sum, as NumPy arrays in full."""
    inputs = inputs.double().requires_grad_()
    output = model(inputs)
    weights = pattern("weights", output.shape).double()
    (gradient,) = torch.autograd.grad((output * weights).sum(), inputs)
    return output.detach().numpy(), gradient.numpy()


def mlp_case():
    """Run a ReLU network forwards and backwards with NumPy."""
    widths = [3072, 1024, 512, 64, 64, 4]
    names = [*(f"hidden_layers.{i}" for i in range(4)), "output_layer"]
    layers = [
        (parameter(f"{name}.weight", (out, into)), parameter(f"{name}.bias", (out,)))
        for name, into, out in zip(names, widths, widths[1:], strict=False)
    ]
    images = sample(2, 3, 32, 32).double().numpy()
    hidden, masks = images.reshape(2, 3072), []
    for weight, bias in layers[:-1]:
        hidden = hidden @ weight.T + bias
        masks.append(hidden > 0)
        hidden = np.maximum(hidden, 0)
    weight, bias = layers[-1]
    output = hidden @ weight.T + bias
    gradient = pattern("weights", output.shape).double().numpy() @ weight
    for (weight, _), mask in zip(reversed(layers[:-1]), reversed(masks), strict=True):
        gradient = (gradient * mask) @ weight
    return output, gradient.reshape(images.shape)


def parameter(name, shape):
    return pattern_for(name, shape).double().numpy()


def block_case(training):
    resnet = pytest.importorskip("torchvision.models.resnet")
    downsample = nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=1, stride=2, bias=False), nn.BatchNorm2d(4)
    )
    block = filled(resnet.BasicBlock(3, 4, 2, downsample), {"downsample": "shortcut"})
    return output_and_gradient(block.train(training), sample(2, 3, 6, 6))


def resnet_case():
    resnet = pytest.importorskip("torchvision.models.resnet")
    model = resnet.resnet18(num_classes=4)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model = filled(model, {"downsample": "shortcut", "fc.": "linear."})
    return output_and_gradient(model.eval(), sample(2, 3, 32, 32))


def mixer_block_case():
    mixer = pytest.importorskip("timm.models.mlp_mixer")
    block = filled(mixer.MixerBlock(dim=4, seq_len=6), {})
    return output_and_gradient(block, 0.01 * sample(2, 6, 4))


def mixer_case():
    mixer = pytest.importorskip("timm.models.mlp_mixer")
    model = mixer.MlpMixer(num_classes=4, img_size=32, patch_size=4, num_blocks=4, embed_dim=256)
    return output_and_gradient(filled(model, {"stem.": "patchemb."}), sample(2, 3, 32, 32))


CASES = {
    "MLP": mlp_case,
    "BasicBlock in evaluation": partial(block_case, training=False),
    "BasicBlock in training": partial(block_case, training=True),
    "ResNet18": resnet_case,
    "MixerBlock": mixer_block_case,
    "MLPMixer": mixer_case,
}


def reduce(array):
    """Sum feature maps over their positions; take the first patch of each image."""
    return array.sum(axis=(2, 3)) if array.ndim == 4 else array[:, 0] if array.ndim == 3 else array


@pytest.mark.parametrize("name", CASES)
def test_stored_outputs_and_gradients_are_right(name):
    for stored, array in zip(student_tests.STORED[name], CASES[name](), strict=True):
        np.testing.assert_allclose(stored, reduce(array), rtol=0, atol=HALF_A_UNIT)


def test_every_stored_number_is_checked_here():
    assert set(student_tests.STORED) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_stored_numbers_are_of_order_one_and_differ(name):
    """Otherwise a wrong model could come within the tolerance that test.py grants."""
    output, gradient = map(np.array, student_tests.STORED[name])
    limit = 100 * student_tests.TOLERANCE * max(1, np.abs(output).max())
    assert np.abs(output).max() > 0.3
    assert np.abs(gradient).max() > 0.03
    assert np.ptp(output, axis=0).max() > limit, "the images give the same outputs"
    assert np.ptp(output, axis=1).min() > limit, "the classes have the same outputs"
