"""A multilayer perceptron for images, from the linear layer up (Problem 1).

Shapes: B batch, K classes.

Source: X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward
neural networks", AISTATS 2010: the initialisation, section 4.2.1.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS = ("relu", "tanh", "sigmoid")


class Linear(nn.Module):
    """The affine map ``input @ weight.T + bias``.

    Args:
        in_features: size of the last dimension of the input, at least 1.
        out_features: size of the last dimension of the output, at least 1.

    Attributes:
        weight: (out_features, in_features)
        bias: (out_features,)

    Raises:
        ValueError: a size is smaller than 1.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        if in_features < 1:
            raise ValueError(f"in_features is {in_features}; it must be at least 1")
        if out_features < 1:
            raise ValueError(f"out_features is {out_features}; it must be at least 1")
        self.in_features = in_features
        self.out_features = out_features
        # The range of torch.nn.Linear: the layer is usable before MLP initialises it.
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        # One kernel; and under autocast the bias is in the lower precision too.
        return nn.functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}"


class MLP(nn.Module):
    """Linear layers with a non-linearity after each except the last.

    Args:
        input_size: numbers in one flattened image, 3072 for CIFAR-10.
        hidden_sizes: width of each hidden layer, one layer or more.
        num_classes: K, number of logits.
        activation: "relu", "tanh" or "sigmoid".

    Raises:
        ValueError: no hidden layer, a size smaller than 1, or an unknown activation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        num_classes: int,
        activation: str = "relu",
    ):
        super().__init__()
        if len(hidden_sizes) == 0:
            raise ValueError("hidden_sizes is empty; it must name one hidden layer or more")
        for name, size in (
            ("input_size", input_size),
            *(("hidden_sizes", size) for size in hidden_sizes),
            ("num_classes", num_classes),
        ):
            if size < 1:
                raise ValueError(f"{name} has the value {size}; every size must be at least 1")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        self.input_size = input_size
        self.hidden_sizes = hidden_sizes
        self.num_classes = num_classes
        self.activation = activation
        self.hidden_layers, self.output_layer = self._build_layers(
            input_size, hidden_sizes, num_classes
        )
        for layer in (*self.hidden_layers, self.output_layer):
            self._initialize_linear_layer(layer)

    def _build_layers(
        self, input_size: int, hidden_sizes: Sequence[int], num_classes: int
    ) -> tuple[nn.ModuleList, Linear]:
        """Return the hidden layers, from input to output, and the layer that returns the logits."""
        widths = [input_size, *hidden_sizes]
        hidden_layers = nn.ModuleList(
            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)
        )
        return hidden_layers, Linear(widths[-1], num_classes)

    def _initialize_linear_layer(self, module: nn.Module) -> None:
        """Set the bias to zero and draw the weight from Glorot's normal distribution.

        The weight has mean 0 and variance 2 / (in_features + out_features).
        """
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)

    def activation_fn(self, activation: str, inputs: Tensor) -> Tensor:
        """Apply the non-linearity called ``activation`` to each element.

        Raises:
            ValueError: unknown activation.
        """
        if activation == "relu":
            return torch.relu(inputs)
        if activation == "tanh":
            return torch.tanh(inputs)
        if activation == "sigmoid":
            return torch.sigmoid(inputs)
        raise ValueError(f"activation is {activation!r}; choose from {', '.join(ACTIVATIONS)}")

    def forward(self, images: Tensor) -> Tensor:
        """Flatten images (B, ...) to (B, input_size) and return the logits (B, K).

        Raises:
            ValueError: an image does not hold ``input_size`` numbers.
        """
        hidden = images.flatten(start_dim=1)
        if hidden.shape[1] != self.input_size:
            raise ValueError(
                f"images of shape {tuple(images.shape)} hold {hidden.shape[1]} numbers each; "
                f"input_size is {self.input_size}"
            )
        for layer in self.hidden_layers:
            hidden = self.activation_fn(self.activation, layer(hidden))
        return self.output_layer(hidden)
