"""ResNet18 for 32x32 images (Problem 2).

The ImageNet network of He et al. with the usual stem for CIFAR-10: one 3x3 convolution of stride 1
instead of the 7x7 convolution of stride 2 and the max pooling.

Shapes: B batch, C channels, H, W height and width, K classes.

Source: K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
CVPR 2016: figure 5 (left) the block, table 1 (18-layer) the network, section 3.3 the shortcut.
"""

from os import PathLike
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them.

    Args:
        in_planes: channels of the input.
        planes: channels of the output.
        stride: stride of the first convolution and of the shortcut.
    """

    def __init__(self, in_planes: int, planes: int, stride: int = 1):
        super().__init__()
        # Batch norm subtracts the mean, so a bias before it would have no effect.
        self.conv1 = nn.Conv2d(
            in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(planes),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_planes, H, W) to (B, planes, ceil(H / stride), ceil(W / stride))."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    """A stem, four layers of two blocks each, global average pooling and a linear classifier.

    Args:
        num_classes: K, number of logits, at least 1.

    Raises:
        ValueError: num_classes is smaller than 1.
    """

    def __init__(self, num_classes: int = 10):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._make_layer(64, 64, stride=1)
        self.layer2 = self._make_layer(64, 128, stride=2)
        self.layer3 = self._make_layer(128, 256, stride=2)
        self.layer4 = self._make_layer(256, 512, stride=2)
        self.linear = nn.Linear(512, num_classes)

    def _make_layer(self, in_planes: int, planes: int, stride: int) -> nn.Sequential:
        """Return two blocks; the first changes the channels and the resolution."""
        return nn.Sequential(
            BasicBlock(in_planes, planes, stride), BasicBlock(planes, planes, stride=1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, K)."""
        out = torch.relu(self.bn1(self.conv1(images)))  # (B, 64, H, W)
        out = self.layer1(out)
        out = self.layer2(out)  # (B, 128, H/2, W/2)
        out = self.layer3(out)  # (B, 256, H/4, W/4)
        out = self.layer4(out)  # (B, 512, H/8, W/8)
        out = out.mean(dim=(2, 3))  # (B, 512)
        return self.linear(out)

    def visualize(self, logdir: str | PathLike[str]) -> Path:
        """Draw the 64 kernels of ``conv1`` in colour.

        A weight w of channel c is shown as the brightness (w / largest + 1) / 2 of that channel:
        0 is mid-grey, and the scale is the same for all kernels.

        Args:
            logdir: folder of the figure; made if it does not exist.

        Returns:
            The path of the figure, ``logdir/conv1_kernels.png``.
        """
        kernels = self.conv1.weight.detach().float().cpu()
        largest = kernels.abs().max().clamp(min=1e-12)
        figure = Figure(figsize=(6, 6.5))
        figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.9)
        figure.suptitle(
            f"ResNet18: the kernels of the first convolution, 3 x 3 pixels\n"
            f"brightness of a channel: (weight / {largest:.3f} + 1) / 2"
        )
        for ax, kernel in zip(figure.subplots(8, 8).flat, (kernels / largest + 1) / 2):
            ax.imshow(kernel.permute(1, 2, 0).numpy())
            ax.set_axis_off()
        path = Path(logdir) / "conv1_kernels.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        return path
