"""An MLP and convolutional layers in NumPy, and ResNet-18 in PyTorch (Questions 1, 2 and 3).

Shapes: B batch, C channels, H, W height and width, F filter size, U units, K classes.

Sources:
1. X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
   networks", AISTATS 2010: Xavier initialisation.
2. K. He, X. Zhang, S. Ren and J. Sun, "Delving Deep into Rectifiers", ICCV 2015: Kaiming's.
3. K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016:
   the residual block and the network, here with a 3x3 stem of stride 1 for small images.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_convert

BATCH_SIZE = 128


# ---------------------------------------------------------------- Question 1: an MLP in NumPy


class NN:
    """A multilayer perceptron with a softmax, its loss and its backward pass, in NumPy.

    Many textbooks call pre-activations Z and activations A. Here it is the other way round:
    ``A{i}`` is the affine output of layer i and ``Z{i}`` its activation. ``Z0`` is the input and
    the last ``Z`` the softmax. All functions are correct for large numbers too.

    Args:
        dims: sizes of the input, of each hidden layer and of the output.
        activation: of the hidden layers, "relu", "sigmoid" or "tanh".
        epsilon: the loss clips probabilities to [epsilon, 1 - epsilon].
        lr: learning rate of ``update``.
        seed: of ``initialize_weights``; None leaves NumPy's random state as it is.

    Attributes:
        dims, activation_str, epsilon, lr, seed: the arguments.
        n_hidden: number of hidden layers.
        weights: ``W1``, ``b1``, ``W2``, ``b2`` and so on; set by ``initialize_weights``.
    """

    def __init__(
        self,
        dims: Sequence[int] = (784, 128, 64, 10),
        activation: str = "relu",
        epsilon: float = 1e-6,
        lr: float = 0.01,
        seed: int | None = 0,
    ):
        self.dims = dims
        self.n_hidden = len(dims) - 2
        self.activation_str = activation
        self.epsilon = epsilon
        self.lr = lr
        self.seed = seed

    def initialize_weights(self) -> None:
        """Seed ``np.random`` unless ``seed`` is None, and set ``weights`` (Question 1.1).

        For each layer i = 1, 2, ...: ``W{i}`` (dims[i - 1], dims[i]), uniform between
        -1 / sqrt(dims[0]) and 1 / sqrt(dims[0]), and ``b{i}`` (1, dims[i]), zeros.
        """
        if self.seed is not None:
            np.random.seed(self.seed)
        bound = 1 / np.sqrt(self.dims[0])
        self.weights = {}
        for layer, (size_in, size_out) in enumerate(pairwise(self.dims), start=1):
            self.weights[f"W{layer}"] = np.random.uniform(-bound, bound, size=(size_in, size_out))
            self.weights[f"b{layer}"] = np.zeros((1, size_out))

    def relu(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return max(x, 0) elementwise; with ``grad``, its derivative, 0 at 0 (Question 1.2)."""
        if grad:
            return np.where(x > 0, 1.0, 0.0)
        return np.maximum(x, 0)

    def sigmoid(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return 1 / (1 + exp(-x)) elementwise; with ``grad``, its derivative (Question 1.2)."""
        # The argument of exp is never positive: exp(-x) would overflow for x = -1,000.
        small = np.exp(-np.abs(x))
        if grad:
            return small / (1 + small) ** 2
        return np.where(x > 0, 1, small) / (1 + small)

    def tanh(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Return tanh(x) elementwise; with ``grad``, its derivative (Question 1.2)."""
        if grad:
            return 1 - np.tanh(x) ** 2
        return np.tanh(x)

    def activation(self, x: np.ndarray, grad: bool = False) -> np.ndarray:
        """Apply the function named by ``activation_str``, or its derivative (Question 1.2).

        An unknown name raises ``Exception("Invalid activation")``.
        """
        if self.activation_str == "relu":
            return self.relu(x, grad)
        if self.activation_str == "sigmoid":
            return self.sigmoid(x, grad)
        if self.activation_str == "tanh":
            return self.tanh(x, grad)
        raise Exception("Invalid activation")

    def softmax(self, x: np.ndarray) -> np.ndarray:
        """Return the softmax of x (..., K) over the last axis (Question 1.2)."""
        exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the cache of a batch x (B, dims[0]) (Question 1.3).

        It holds ``Z0``, ``A1``, ``Z1``, ..., ``Am``, ``Zm``: the input, then the pre-activation
        ``A{i}`` and the activation ``Z{i}`` of each layer i, both (B, dims[i]). The activation of
        the last layer m is the softmax.
        """
        cache = {"Z0": x}
        last = self.n_hidden + 1
        for layer in range(1, last + 1):
            affine = cache[f"Z{layer - 1}"] @ self.weights[f"W{layer}"] + self.weights[f"b{layer}"]
            cache[f"A{layer}"] = affine
            cache[f"Z{layer}"] = self.activation(affine) if layer < last else self.softmax(affine)
        return cache

    def loss(self, prediction: np.ndarray, labels: np.ndarray) -> float:
        """Return the cross-entropy, averaged over the batch (Question 1.4).

        The labels (B, K) are one-hot. The prediction (B, K), probabilities, is clipped to
        [``epsilon``, 1 - ``epsilon``] first.
        """
        probabilities = np.clip(prediction, self.epsilon, 1 - self.epsilon)
        return -(labels * np.log(probabilities)).sum(axis=1).mean()

    def backward(self, cache: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of the loss for one-hot labels (B, K) (Question 1.5).

        These are ``dAm``, ``dWm``, ``dbm``, ``dZ(m-1)``, ``dA(m-1)``, ``dW(m-1)``, ``db(m-1)``,
        ..., ``dA1``, ``dW1``, ``db1``. ``dA{i}`` and ``dZ{i}`` (B, dims[i]) are gradients of each
        example's own loss, not divided by B; ``dW{i}`` (dims[i - 1], dims[i]) and ``db{i}``
        (1, dims[i]) are means over the batch. They ignore the clipping in ``loss``, so that
        confidently wrong examples have a gradient too.
        """
        last = self.n_hidden + 1
        grads = {f"dA{last}": cache[f"Z{last}"] - labels}
        for layer in range(last, 0, -1):
            gradient = grads[f"dA{layer}"]
            grads[f"dW{layer}"] = cache[f"Z{layer - 1}"].T @ gradient / len(labels)
            grads[f"db{layer}"] = gradient.mean(axis=0, keepdims=True)
            if layer > 1:
                below = gradient @ self.weights[f"W{layer}"].T
                grads[f"dZ{layer - 1}"] = below
                slope = self.activation(cache[f"A{layer - 1}"], grad=True)
                grads[f"dA{layer - 1}"] = below * slope
        return grads

    def update(self, grads: dict[str, np.ndarray]) -> None:
        """Take a step of gradient descent with ``dW{i}`` and ``db{i}`` (Question 1.6)."""
        for name in self.weights:
            self.weights[name] = self.weights[name] - self.lr * grads[f"d{name}"]


def one_hot(y: np.ndarray, n_classes: int = 10) -> np.ndarray:
    """Return labels (B,), integers in [0, n_classes), as one-hot rows (B, n_classes)."""
    return np.eye(n_classes)[y]


# ---------------------------------------------------------------- Question 2: layers in NumPy


class Convolution2dLayer:
    """A cross-correlation of one channel with U filters, without bias or padding, in NumPy.

    Args:
        filter_size: F, height and width of a filter.
        stride: pixels from one position of the filter to the next, in both directions.
        n_units: U, number of filters.
        seed: of ``initialize_weights``; None leaves NumPy's random state as it is.

    Attributes:
        filter_size, stride, n_units, seed: the arguments.
        weights: (U, F, F); set by ``initialize_weights``.
    """

    def __init__(
        self, filter_size: int = 3, stride: int = 1, n_units: int = 64, seed: int | None = 0
    ):
        self.filter_size = filter_size
        self.stride = stride
        self.n_units = n_units
        self.seed = seed

    def initialize_weights(self) -> None:
        """Seed as ``NN`` does, and draw ``weights`` uniformly from [0, 1) (Question 2.1)."""
        if self.seed is not None:
            np.random.seed(self.seed)
        shape = (self.n_units, self.filter_size, self.filter_size)
        self.weights = np.random.uniform(0, 1, size=shape)

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Apply every filter at every position of x (B, 1, H, W) (Question 2.1).

        Returns ``x``, and ``out`` (B, U, H', W') with H' = (H - F) // stride + 1 and W' likewise.
        """
        height, width = ((size - self.filter_size) // self.stride + 1 for size in x.shape[2:])
        columns = _columns(x, self.filter_size, self.stride)
        out = self.weights.reshape(self.n_units, self.filter_size**2) @ columns  # (B, U, H' W')
        return {"x": x, "out": out.reshape(len(x), self.n_units, height, width)}

    def backward(self, cache: dict[str, np.ndarray], grad_output: np.ndarray) -> np.ndarray:
        """Return the gradient of the loss with respect to the weights, (U, F, F) (Question 2.2).

        It is the sum over all images and positions. ``cache`` is from ``forward``, and
        ``grad_output`` (B, U, H', W') the gradient with respect to its ``out``.
        """
        columns = _columns(cache["x"], self.filter_size, self.stride)
        flat = grad_output.reshape(len(columns), self.n_units, columns.shape[2])  # (B, U, H' W')
        return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)


class MaxPooling2dLayer:
    """Max pooling over windows of F x F pixels that do not overlap, in NumPy.

    As in PyTorch, rows and columns at the lower and right edge that do not fill a window are
    dropped: their gradient is zero.

    Args:
        filter_size: F, height and width of a window; kept as ``filter_size`` and ``stride``.
    """

    def __init__(self, filter_size: int = 2):
        self.filter_size = filter_size
        self.stride = filter_size

    def forward(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``x`` (B, C, H, W) and maxima ``out`` (B, C, H // F, W // F) (Question 2.3)."""
        return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=0)}

    def backward(self, cache: dict[str, np.ndarray], grad_output: np.ndarray) -> np.ndarray:
        """Return the gradient of the loss with respect to ``x``, (B, C, H, W) (Question 2.4).

        ``cache`` is from ``forward``, and ``grad_output`` (B, C, H // F, W // F) the gradient with
        respect to its ``out``. Each maximum of a window receives the whole gradient of that
        window, also where several pixels are equal; in PyTorch only the first of them does.
        """
        gradient = np.zeros(cache["x"].shape, grad_output.dtype)
        # Image by image, which is faster: an image fits into the processor's cache.
        for image, maxima, grad, target in zip(cache["x"], cache["out"], grad_output, gradient):
            places = zip(_pixels(image, self.filter_size), _pixels(target, self.filter_size))
            for pixels, view in places:
                view[...] = grad * (pixels == maxima)  # writes into the gradient
        return gradient


def _columns(x: np.ndarray, filter_size: int, stride: int) -> np.ndarray:
    """Return the pixels of x (B, 1, H, W) under a filter at each position, (B, F F, H' W').

    They turn a convolution into a matrix product (K. Chellapilla et al., "High Performance
    Convolutional Neural Networks for Document Processing", 2006).
    """
    windows = sliding_window_view(x[:, 0], (filter_size, filter_size), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]  # (B, H', W', F, F)
    return windows.transpose(0, 3, 4, 1, 2).reshape(len(x), filter_size**2, -1)


def _pixels(x: np.ndarray, size: int) -> list[np.ndarray]:
    """Return, for each pixel of a window, a view of x (..., H, W): this pixel of all windows."""
    height, width = x.shape[-2] // size * size, x.shape[-1] // size * size
    return [
        x[..., row:height:size, column:width:size] for row in range(size) for column in range(size)
    ]


# ---------------------------------------------------------------- Question 3: ResNet-18 in PyTorch


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a residual connection around them (source 3, figure 2).

    Args:
        in_channels, channels: of the input and of the output.
        conv_stride: stride of the first convolution and of the residual connection.
        activation_str: "relu" or "tanh".
        initialization: of the two convolutions, "xavier_normal", "xavier_uniform" or
            "kaiming_normal". That of the residual connection keeps PyTorch's default.

    Attributes:
        conv1, bn1, conv2, bn2: the layers; the convolutions have no bias.
        residual_connection: the layers from ``residual``.

    Raises:
        Exception: "Invalid initialization", for an unknown name.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        conv_stride: int = 1,
        activation_str: str = "relu",
        initialization: str = "xavier_normal",
    ):
        super().__init__()
        self.activation_str = activation_str
        self.conv1 = nn.Conv2d(
            in_channels, channels, kernel_size=3, stride=conv_stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.residual_connection = self.residual(in_channels, channels, conv_stride)
        for convolution in (self.conv1, self.conv2):
            if initialization == "xavier_normal":
                nn.init.xavier_normal_(convolution.weight)
            elif initialization == "xavier_uniform":
                nn.init.xavier_uniform_(convolution.weight)
            elif initialization == "kaiming_normal":
                nn.init.kaiming_normal_(convolution.weight)
            else:
                raise Exception("Invalid initialization")

    def activation(self, input: Tensor) -> Tensor:
        """Apply the function named by ``activation_str`` to each element (Question 3.1).

        An unknown name raises ``Exception("Invalid activation")``.
        """
        if self.activation_str == "relu":
            return torch.relu(input)
        if self.activation_str == "tanh":
            return torch.tanh(input)
        raise Exception("Invalid activation")

    def residual(self, in_channels: int, channels: int, conv_stride: int = 1) -> nn.Sequential:
        """Return the residual connection (Question 3.1).

        If the block changes the shape, it is a 1x1 convolution with the block's stride, without
        padding or bias, and a batch norm; otherwise it is an empty ``nn.Sequential``.
        """
        if conv_stride == 1 and in_channels == channels:
            return nn.Sequential()
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H', W'), H' = ceil(H / conv_stride).

        A batch norm follows each convolution. The first activation is between the two
        convolutions, the second after the residual connection is added (Question 3.1).
        """
        out = self.activation(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.activation(out + self.residual_connection(x))


class ResNet18(nn.Module):
    """A stem, four layers of two residual blocks, global average pooling, a linear classifier.

    Args:
        activation_str, initialization: as in ``ResidualBlock``; the latter is of the blocks only.

    Attributes:
        n_classes: K, 10.
        conv1, bn1: the stem, 3 to 64 channels, 3x3.
        layer1, layer2, layer3, layer4: of 64, 128, 256 and 512 channels and strides 1, 2, 2, 2.
        avgpool, linear: the classifier.
    """

    def __init__(self, activation_str: str = "relu", initialization: str = "xavier_normal"):
        super().__init__()
        self.n_classes = 10
        self.activation_str = activation_str
        self.initialization = initialization
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._create_layer(64, 64, conv_stride=1)
        self.layer2 = self._create_layer(64, 128, conv_stride=2)
        self.layer3 = self._create_layer(128, 256, conv_stride=2)
        self.layer4 = self._create_layer(256, 512, conv_stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512, self.n_classes)

    def activation(self, input: Tensor) -> Tensor:
        """Apply the activation of the blocks to each element."""
        return self.layer1[0].activation(input)

    def _create_layer(self, in_channels: int, channels: int, conv_stride: int = 1) -> nn.Sequential:
        """Return two residual blocks (Question 3.2).

        The first block changes the channels and has the stride. Both have the activation and
        initialization of the network.
        """
        options = {"activation_str": self.activation_str, "initialization": self.initialization}
        return nn.Sequential(
            ResidualBlock(in_channels, channels, conv_stride, **options),
            ResidualBlock(channels, channels, **options),
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, 10), without a softmax (Question 3.2)."""
        out = self.activation(self.bn1(self.conv1(input)))  # (B, 64, 32, 32)
        out = self.layer1(out)
        out = self.layer2(out)  # (B, 128, 16, 16)
        out = self.layer3(out)  # (B, 256, 8, 8)
        out = self.layer4(out)  # (B, 512, 4, 4)
        out = self.avgpool(out).flatten(start_dim=1)  # (B, 512)
        return self.linear(out)

    def get_first_conv_layer_filters(self) -> np.ndarray:
        """Return a copy of the filters of ``conv1``, (64, 3, 3, 3)."""
        return self.conv1.weight.detach().cpu().numpy().copy()

    def get_last_conv_layer_filters(self) -> np.ndarray:
        """Return a copy of the filters of ``layer4[1].conv2``, (512, 512, 3, 3)."""
        return self.layer4[1].conv2.weight.detach().cpu().numpy().copy()


class Images(Dataset):
    """Images (N, 3, 32, 32) uint8, scaled to [0, 1] batch by batch, and labels (N,) int64."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images, self.labels = images.contiguous(), labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | list[int]) -> tuple[Tensor, Tensor]:
        """Return one image and its label, or a batch of them."""
        return self.images[index].float() / 255, self.labels[index]

    __getitems__ = __getitem__  # what DataLoader calls with the indices of a batch


def make_loaders(train: Images, val: Images) -> tuple[DataLoader, DataLoader]:
    """Return loaders of 128 images per batch; that of the training images shuffles them."""
    # Images returns whole batches; default_convert leaves them as they are.
    options = {"batch_size": BATCH_SIZE, "collate_fn": default_convert}
    return DataLoader(train, shuffle=True, **options), DataLoader(val, **options)


def get_cifar10(data_dir: str = "data") -> tuple[DataLoader, DataLoader]:
    """Return loaders of the training and validation images of CIFAR-10 and their labels.

    As on the sheet, the validation images are the test split. torchvision downloads both to
    ``data_dir`` on first use.
    """
    from torchvision.datasets import CIFAR10  # here: Questions 1 and 2 do not need torchvision

    def read(train: bool) -> Images:
        part = CIFAR10(data_dir, train=train, download=True)
        return Images(torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))

    return make_loaders(read(train=True), read(train=False))


def train_loop(
    epoch: int,
    model: nn.Module,
    train_loader: DataLoader,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> tuple[float, float]:
    """Train for one epoch, in training mode (Question 3.3).

    Args:
        epoch: number of the epoch, for messages.
        model: maps images to logits; batches are moved to its device.
        train_loader: yields images and labels.
        criterion: maps logits and labels to the mean loss of a batch.
        optimizer: of the model's parameters.

    Returns:
        Accuracy, a fraction, and loss: means over all images, measured before the step of their
        batch. The images of a smaller last batch count as much as the others.
    """
    device = next(model.parameters()).device
    model.train()
    # Two of these sums become tensors. They are read at the end only: reading waits for the GPU.
    correct = total_loss = number = 0
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += loss.detach() * len(labels)
        number += len(labels)
    return float(correct) / number, float(total_loss) / number


@torch.no_grad()
def valid_loop(
    epoch: int, model: nn.Module, val_loader: DataLoader, criterion: nn.Module
) -> tuple[float, float]:
    """Return accuracy and loss as ``train_loop`` does, in evaluation mode (Question 3.3).

    The model does not change.
    """
    device = next(model.parameters()).device
    model.eval()
    correct = total_loss = number = 0
    for images, labels in val_loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += criterion(logits, labels) * len(labels)
        number += len(labels)
    return float(correct) / number, float(total_loss) / number
