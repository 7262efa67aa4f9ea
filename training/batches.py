"""Batches: shuffled, augmented and normalised on the device of the images.

A whole split stays on the training device as one uint8 tensor. A batch is cut out of it by index,
then augmented and normalised as one tensor; every image has its own random numbers.

Shapes: N images of a split, B images of a batch, S = 32 pixels, height and width.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from training.augment import (
    cut_out,
    draw_padded_boxes,
    draw_resized_boxes,
    draw_squares,
    flip_and_crop,
)
from training.data import Split

MEAN = (0.49139968, 0.48215841, 0.44653091)  # of CIFAR-10's red, green and blue, in [0, 1]
STD = (0.24703223, 0.24348513, 0.26158784)
DRAW_BOXES = {"resized": draw_resized_boxes, "padded": draw_padded_boxes}  # by --crop


class Batches:
    """Iterates over a split in batches: images (B, 3, S, S) float32 normalised, labels (B,).

    The last batch may be smaller. Evaluation keeps the order of the images. Training shuffles and
    augments them with random numbers that depend only on ``seed`` and the epoch, not on the
    device: ``set_epoch`` sets the epoch of the next iteration, and the batch to start with.

    Args:
        split: the images, on the device of the model.
        batch_size: B, images per batch.
        training: shuffle, flip and crop.
        seed: of the random numbers of training.
        crop: in training, "resized" or "padded".
        cutout: in training, side in pixels of the square that Cutout covers; 0 for none.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        training: bool = False,
        seed: int = 0,
        crop: str = "resized",
        cutout: int = 0,
    ):
        self.split = split
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.crop = crop
        self.cutout = cutout
        self.epoch = 0
        self.first = 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Set the epoch of the next iteration, and its first batch."""
        self.epoch = epoch
        self.first = first

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.split.images, self.split.labels
        # Drawn once per epoch, on the CPU, and sent to the device in one piece.
        if self.training:
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
            order = torch.randperm(len(images), generator=generator).to(images.device)
            boxes = DRAW_BOXES[self.crop](len(images), generator).to(images.device)
            flips = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            squares = draw_squares(len(images), self.cutout, generator).to(images.device)
        for start in range(self.first * self.batch_size, len(images), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            if self.training:
                index = order[chosen]
                batch = normalize(flip_and_crop(images[index], flips[chosen], boxes[chosen]))
                if self.cutout > 0:
                    batch = cut_out(batch, squares[chosen], self.cutout)
                yield batch, labels[index]
            else:
                yield normalize(images[chosen].float()), labels[chosen]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed in [0, 2**32) for one epoch; seeds of neighbouring runs do not overlap."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def normalize(images: Tensor) -> Tensor:
    """Map images (B, 3, S, S) in [0, 255] to about mean 0 and standard deviation 1 per channel."""
    mean, std = _channel_statistics(images.device, images.dtype)
    return (images - mean) / std


@functools.cache
def _channel_statistics(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, each (3, 1, 1), sent only once: a GPU waits for it."""
    mean, std = (torch.tensor(values, dtype=dtype, device=device) * 255 for values in (MEAN, STD))
    return mean.view(3, 1, 1), std.view(3, 1, 1)
