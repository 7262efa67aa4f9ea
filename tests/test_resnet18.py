"""ResNet18 against torchvision's, which has another stem."""

import copy

import pytest
import torch
from torch import nn

from resnet18 import BasicBlock, ResNet18

from oracles import (
    agree,
    agree_forward_and_backward,
    draw,
    share_weights,
    stir,
)


def resnet_and_reference(num_classes: int = 10) -> tuple[ResNet18, nn.Module, dict[str, str]]:
    """Return the model, torchvision's with the same stem and weights, and the map of names."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    model = stir(ResNet18(num_classes))
    reference = models.resnet18(weights=None, num_classes=num_classes)
    reference.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    return model, reference, share_weights(model, reference, shortcut="downsample", linear="fc")


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_resnet18_equals_torchvision_in_outputs_and_gradients(training):
    model, reference, names = resnet_and_reference()
    agree_forward_and_backward(
        model.train(training), reference.train(training), draw(3, 3, 16, 16), names
    )


def test_resnet18_equals_torchvision_after_a_training_step():
    """Weights, running means, running variances and the number of batches."""
    model, reference, names = resnet_and_reference()
    images, labels = draw(4, 3, 32, 32), torch.tensor([1, 9, 4, 4])
    before = copy.deepcopy(model.state_dict())
    for network in (model, reference):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        nn.functional.cross_entropy(network.train()(images), labels).backward()
        optimizer.step()
    expected = reference.state_dict()
    for name, tensor in model.state_dict().items():
        assert not torch.equal(tensor, before[name]), f"{name} did not change"
        agree(tensor.double(), expected[names[name]].double(), name)


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (1, 1), (40, 24)])
def test_resnet18_takes_images_of_other_sizes(size):
    model, reference, _ = resnet_and_reference()
    images = draw(2, 3, *size)
    with torch.no_grad():
        agree(model.eval()(images), reference.eval()(images), "logits")


def test_resnet18_takes_another_number_of_classes():
    model, reference, _ = resnet_and_reference(num_classes=7)
    images = draw(2, 3, 16, 16)
    with torch.no_grad():
        agree(model.eval()(images), reference.eval()(images), "logits")
    assert model.linear.weight.shape == (7, 512)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("planes", [4, 6])
def test_basic_block_has_a_convolution_in_its_shortcut_only_where_the_shape_changes(planes, stride):
    block = BasicBlock(4, planes, stride)
    changes = planes != 4 or stride != 1
    assert [type(m) for m in block.shortcut] == [nn.Conv2d, nn.BatchNorm2d] * changes
    assert block(torch.zeros(2, 4, 9, 9)).shape == (2, planes, *[9 if stride == 1 else 5] * 2)


def test_basic_block_with_silent_convolutions_passes_the_positive_part_of_its_input():
    block = BasicBlock(4, 4)
    nn.init.zeros_(block.bn2.weight)
    x = draw(2, 4, 5, 5, dtype=torch.float32)
    assert torch.equal(block(x), x.relu())


def test_no_convolution_of_resnet18_has_a_bias():
    convolutions = [m for m in ResNet18().modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 20
    assert all(convolution.bias is None for convolution in convolutions)


def test_make_layer_strides_in_its_first_block_only():
    layer = ResNet18()._make_layer(4, 8, stride=2)
    assert [block.conv1.stride for block in layer] == [(2, 2), (1, 1)]
    assert layer(torch.zeros(1, 4, 8, 8)).shape == (1, 8, 4, 4)
