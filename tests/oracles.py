"""What the tests of the three models share: drawing, comparing, copying weights.

The comparisons run in float64, where two correct implementations differ by rounding alone:
``agree`` asks for nine equal digits. Weights are drawn so that no bias and no shift is zero, or a
forgotten one would not show.

Tests of random numbers state how often a correct program would fail under a fresh seed. The seeds
are fixed, so the tests give the same answer every time.
"""

import json
import math

import torch
from hypothesis import settings
from torch import Tensor, nn

from mlp import MLP
from mlpmixer import MLPMixer
from resnet18 import ResNet18

from conftest import ROOT

MODELS = {"mlp": MLP, "resnet18": ResNet18, "mlpmixer": MLPMixer}
PARAMETERS = {"mlp": 3_709_194, "resnet18": 11_173_962, "mlpmixer": 2_188_298}
LINEAR = ("weight", "bias")
SMALL = dict(num_classes=10, img_size=32, patch_size=8, embed_dim=16, num_blocks=2)
few_examples = settings(max_examples=30, deadline=None, derandomize=True)


def configured(name: str) -> nn.Module:
    """Build the model of model_configs/."""
    torch.manual_seed(0)
    config = json.loads((ROOT / "model_configs" / f"{name}.json").read_text(encoding="utf-8"))
    return MODELS[name](**config)


def mixer(**changes) -> MLPMixer:
    """Build a small mixer, with some arguments changed."""
    return MLPMixer(**{**SMALL, **changes})


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def stir(model: nn.Module) -> nn.Module:
    """Move to float64 and draw every bias, scale, shift and running statistic."""
    generator = torch.Generator().manual_seed(1)
    model.double()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 1:
            tensor.data.uniform_(0.5, 1.5, generator=generator)
    return model


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def agree(actual: Tensor, expected: Tensor, what: str) -> None:
    """Compare to nine digits of the largest element."""
    assert actual.shape == expected.shape, what
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error < 1e-9, f"{what}: relative error {error:.1e}"


def agree_forward_and_backward(
    model: nn.Module, reference: nn.Module, inputs: Tensor, names: dict[str, str]
) -> None:
    """Compare outputs, the gradient of the input and the gradient of every parameter.

    ``names`` maps a parameter's name in the model to its name in the reference.
    """
    mine, theirs = (inputs.clone().requires_grad_() for _ in range(2))
    output, expected = model(mine), reference(theirs)
    agree(output, expected, "output")
    cotangent = draw(*output.shape, seed=2)
    output.backward(cotangent)
    expected.backward(cotangent)
    agree(mine.grad, theirs.grad, "gradient of the input")
    references = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} received no gradient"
        agree(parameter.grad, references[names[name]].grad, f"gradient of {name}")


def share_weights(model: nn.Module, reference: nn.Module, **renamed: str) -> dict[str, str]:
    """Copy every weight and buffer into the reference and return the map of names."""

    def rename(name: str) -> str:
        for old, new in renamed.items():
            name = name.replace(f"{old}.", f"{new}.")
        return name

    names = {name: rename(name) for name in model.state_dict()}
    reference.double().load_state_dict(
        {names[name]: tensor.clone() for name, tensor in model.state_dict().items()}
    )
    return names


def agree_in_distribution(sample: Tensor, cdf) -> None:
    """Compare a sample with a distribution function: Kolmogorov's distance.

    By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart a sample of n from that very
    distribution is further away than the limit with probability 1e-9 at most.
    """
    ordered = sample.detach().double().flatten().sort().values
    number = len(ordered)
    limit = math.sqrt(math.log(2e9) / (2 * number))
    assert limit < 0.05, "too few numbers to tell distributions apart"
    empirical = torch.arange(number + 1, dtype=torch.float64) / number
    theory = cdf(ordered)
    distance = max((empirical[1:] - theory).max(), (theory - empirical[:-1]).max())
    assert distance <= limit, f"distance {distance:.4f}, limit {limit:.4f}"


def normal_cdf(variance: float):
    return lambda x: torch.special.ndtr(x / math.sqrt(variance))


def uniform_cdf(variance: float):
    bound = math.sqrt(3 * variance)
    return lambda x: ((x / bound + 1) / 2).clamp(0, 1)
