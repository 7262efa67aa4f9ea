"""The MLP against a chain of torch's own layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mlp import MLP, Linear

from oracles import (
    LINEAR,
    agree,
    agree_forward_and_backward,
    agree_in_distribution,
    draw,
    few_examples,
    normal_cdf,
    stir,
    uniform_cdf,
)

TORCH_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def agree_with_sequential(model: MLP, images: Tensor) -> None:
    """Compare an MLP with torch.nn.Sequential of nn.Linear that has the same weights."""
    layers = {
        **{f"hidden_layers.{index}": layer for index, layer in enumerate(model.hidden_layers)},
        "output_layer": model.output_layer,
    }
    modules: list[nn.Module] = [nn.Flatten()]
    names = {}
    for name, layer in layers.items():
        for tensor in LINEAR:
            names[f"{name}.{tensor}"] = f"{len(modules)}.{tensor}"
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0]).double()
        linear.load_state_dict(layer.state_dict())
        modules += [linear, TORCH_ACTIVATIONS[model.activation]()]
    agree_forward_and_backward(model, nn.Sequential(*modules[:-1]), images, names)


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
@pytest.mark.parametrize("hidden_sizes", [[16], [16, 12], [16, 12, 12], [7, 16, 12, 5]])
def test_mlp_equals_a_sequential_of_torch_layers(hidden_sizes, activation):
    model = stir(MLP(3 * 8 * 8, hidden_sizes, 10, activation))
    agree_with_sequential(model, draw(6, 3, 8, 8))


@few_examples
@given(
    hidden_sizes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    shape=st.sampled_from([(12,), (3, 4), (3, 2, 2), (1, 12, 1), (3, 1, 2, 2)]),
    batch=st.integers(1, 4),
    classes=st.integers(1, 5),
)
def test_mlp_flattens_images_of_any_shape(hidden_sizes, shape, batch, classes):
    """Tanh: with relu so small a network may be dead, and all gradients zero."""
    agree_with_sequential(stir(MLP(12, hidden_sizes, classes, "tanh")), draw(batch, *shape))


@few_examples
@given(
    leading=st.lists(st.integers(1, 3), max_size=3),
    in_features=st.integers(1, 6),
    out_features=st.integers(1, 6),
)
def test_linear_equals_the_functional_form_for_any_leading_shape(
    leading, in_features, out_features
):
    layer = Linear(in_features, out_features).double()
    inputs = draw(*leading, in_features)
    expected = nn.functional.linear(inputs, layer.weight, layer.bias)
    agree(layer(inputs), expected, "output")


def test_linear_is_initialised_on_its_own():
    """The range of torch.nn.Linear: ±1/sqrt(in_features), for both. False alarm: 1e-9 at most."""
    torch.manual_seed(0)
    layer = Linear(100, 3000)
    variance = 1 / (3 * 100)
    agree_in_distribution(layer.weight, uniform_cdf(variance))
    assert 0 < layer.bias.abs().max() <= 0.1


def test_mlp_layers_are_the_projects_own_linear_layers():
    model = MLP(12, [8, 4], 3)
    assert isinstance(model.hidden_layers, nn.ModuleList)
    assert all(type(layer) is Linear for layer in (*model.hidden_layers, model.output_layer))
    assert [tuple(layer.weight.shape) for layer in model.hidden_layers] == [(8, 12), (4, 8)]
    assert model.output_layer.weight.shape == (3, 4)


def test_mlp_keeps_its_arguments_and_uses_relu_by_default():
    model = MLP(12, [8, 4], 3)
    assert (model.input_size, model.num_classes, model.activation) == (12, 3, "relu")
    assert list(model.hidden_sizes) == [8, 4]


def test_build_layers_returns_hidden_and_output_layers():
    hidden, output = MLP(12, [8], 3)._build_layers(6, [5, 4], 2)
    assert [tuple(layer.weight.shape) for layer in hidden] == [(5, 6), (4, 5)]
    assert output.weight.shape == (2, 4)


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS)
def test_activation_fn_applies_the_activation_it_is_given(activation):
    """Not the one the model was built with."""
    inputs = draw(2, 3, 4)
    for built_with in TORCH_ACTIVATIONS:
        result = MLP(4, [3], 2, built_with).activation_fn(activation, inputs)
        assert torch.equal(result, TORCH_ACTIVATIONS[activation]()(inputs))


def test_mlp_weights_are_glorot_normal_and_biases_zero():
    """False alarm: 3e-9 at most, three samples."""
    torch.manual_seed(0)
    model = MLP(300, [200, 150], 100)
    for layer in (*model.hidden_layers, model.output_layer):
        variance = 2 / sum(layer.weight.shape)
        agree_in_distribution(layer.weight, normal_cdf(variance))
        assert not layer.bias.any()


def test_initialize_linear_layer_sets_a_layer_anew():
    """False alarm: 1e-9 at most."""
    torch.manual_seed(0)
    layer = Linear(300, 200)
    with torch.no_grad():
        layer.weight.fill_(7)
        layer.bias.fill_(7)
    assert MLP(4, [3], 2)._initialize_linear_layer(layer) is None
    agree_in_distribution(layer.weight, normal_cdf(2 / 500))
    assert not layer.bias.any()
