"""The baseline of the benchmarks: training on CIFAR-10 as course code and tutorials write it.

Every image is a PIL image, which transforms flip, crop, resize and normalise one at a time in
Python, in worker processes if there are any. Everything is float32, the optimizer is PyTorch's
default, and loss and accuracy are read back after every step.

Shapes: N images, B images of a batch, S = 32 pixels.
"""

from collections.abc import Iterable

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from training.augment import RATIO, SCALE
from training.batches import MEAN, STD
from training.data import SIZE


class Images(Dataset):
    """Images and labels, one at a time, as in torchvision's ``CIFAR10``."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: transforms.Compose):
        self.images = images  # (N, S, S, 3) uint8
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that only the baseline needs."""
    return {"torchvision": torchvision.__version__, "Pillow": PIL.__version__}


def make_transform(training: bool) -> transforms.Compose:
    """Return the transform from a PIL image to (3, S, S) float32."""
    augmentation = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomResizedCrop((SIZE, SIZE), scale=SCALE, ratio=RATIO),
    ]
    always = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose(augmentation + always if training else always)


def make_loader(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    training: bool,
    workers: int,
    device: torch.device,
    batch_size: int = 128,
) -> DataLoader:
    """Return a loader of batches (B, 3, S, S) float32 and (B,), in ``workers`` processes.

    The workers persist between epochs. Most code starts them for every epoch, which takes a tenth
    of a second or more: too much for the short epochs of a benchmark.
    """
    return DataLoader(
        Images(images, labels, make_transform(training)),
        batch_size=batch_size,
        shuffle=training,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )


def make_optimizer(model: nn.Module) -> Optimizer:
    """Return the optimizer with the settings of ``main.py``."""
    return AdamW(model.parameters(), lr=1e-3, weight_decay=5e-4)


def train(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    device: torch.device,
) -> tuple[float, float]:
    """Train for one epoch and return mean loss and accuracy over the images."""
    # PyTorch's defaults, which ours changes in this process.
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    torch.backends.cudnn.benchmark = False
    model.train()
    total_loss, total_accuracy, seen = 0.0, 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        total_loss += loss.item() * len(labels)
        total_accuracy += accuracy.item() * len(labels)
        seen += len(labels)
    return total_loss / seen, total_accuracy / seen


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> tuple[float, float]:
    """Return mean loss and accuracy over the images."""
    model.eval()
    total_loss, total_accuracy, seen = 0.0, 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        total_loss += F.cross_entropy(logits, labels).item() * len(labels)
        total_accuracy += accuracy.item() * len(labels)
        seen += len(labels)
    return total_loss / seen, total_accuracy / seen
