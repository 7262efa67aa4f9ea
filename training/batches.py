"""Batches: shuffled, augmented and normalised on the device of the images.

A whole split stays on the training device as one uint8 tensor. A batch is cut out of it by index,
then flipped, cropped and normalised as one tensor; every image has its own random numbers.

Shapes: N images of a split, B images of a batch, S = 32 pixels, height and width.

Source: torchvision's ``RandomResizedCrop``, the distribution of the crops and the resampling.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from training.data import SIZE, Split

MEAN = (0.49139968, 0.48215841, 0.44653091)  # of CIFAR-10's red, green and blue, in [0, 1]
STD = (0.24703223, 0.24348513, 0.26158784)
SCALE = (0.8, 1.0)  # area of a crop, as a share of the image
RATIO = (0.9, 1.1)  # width of a crop over its height


class Batches:
    """Iterates over a split in batches: images (B, 3, S, S) float32 normalised, labels (B,).

    The last batch may be smaller. Evaluation keeps the order of the images. Training shuffles,
    flips and crops them with random numbers that depend only on ``seed`` and the epoch, not on the
    device: ``set_epoch`` sets the epoch of the next iteration, and the batch to start with.

    Args:
        split: the images, on the device of the model.
        batch_size: B, images per batch.
        training: shuffle, flip and crop.
        seed: of the random numbers of training.
    """

    def __init__(self, split: Split, batch_size: int, training: bool = False, seed: int = 0):
        self.split = split
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
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
            boxes = draw_crop_boxes(len(images), generator).to(images.device)
            flips = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        for start in range(self.first * self.batch_size, len(images), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            if self.training:
                index = order[chosen]
                batch = flip_and_crop(images[index], flips[chosen], boxes[chosen])
                yield normalize(batch), labels[index]
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


def draw_crop_boxes(number: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the boxes of ``number`` crops, as ``RandomResizedCrop`` does.

    The area is uniform in SCALE, the ratio log-uniform in RATIO, both sides are rounded to whole
    pixels, and the position is uniform. A box larger than the image is drawn again, at most ten
    times; after that it is the whole image.

    Returns:
        (number, 4) int64: top, left, height, width, in pixels.
    """
    tries = 10
    uniform = torch.rand(2, number, tries, generator=generator)
    area = SIZE**2 * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniform[0])
    log_ratio = math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * uniform[1]
    ratio = log_ratio.exp()
    height = (area / ratio).sqrt().round().long()  # (number, tries)
    width = (area * ratio).sqrt().round().long()
    fits = (height <= SIZE) & (width <= SIZE)
    first = fits.int().argmax(dim=1, keepdim=True)
    whole = ~fits.any(dim=1)
    height = height.gather(1, first).squeeze(1).masked_fill(whole, SIZE)
    width = width.gather(1, first).squeeze(1).masked_fill(whole, SIZE)
    position = torch.rand(2, number, generator=generator)
    top = (position[0] * (SIZE - height + 1)).long()
    left = (position[1] * (SIZE - width + 1)).long()
    return torch.stack([top, left, height, width], dim=1)


def flip_and_crop(images: Tensor, flips: Tensor, boxes: Tensor) -> Tensor:
    """Flip some images, cut a box out of each and resize it, bilinearly, to the full size.

    The pixels equal those of torchvision's ``hflip`` and ``resized_crop`` on float tensors.

    Args:
        images: (B, C, S, S), any dtype.
        flips: (B,) bool, which images to mirror first.
        boxes: (B, 4) top, left, height, width of a box in the mirrored image.

    Returns:
        (B, C, S, S) float32, in the range of the images.
    """
    top, left, height, width = boxes.float().unsqueeze(2).unbind(dim=1)  # each (B, 1)
    target = torch.arange(SIZE, device=images.device) + 0.5
    # Where each pixel of the result lies in the image, clamped to the box.
    y = top + (target * height / SIZE - 0.5).clamp(min=0).minimum(height - 1)  # (B, S)
    x = left + (target * width / SIZE - 0.5).clamp(min=0).minimum(width - 1)
    x = torch.where(flips.unsqueeze(1), SIZE - 1 - x, x)
    # grid_sample counts from -1, the centre of the first pixel, to 1, the centre of the last.
    x, y = (2 * coordinate / (SIZE - 1) - 1 for coordinate in (x, y))
    grid = torch.stack(
        [x.unsqueeze(1).expand(-1, SIZE, -1), y.unsqueeze(2).expand(-1, -1, SIZE)], dim=3
    )  # (B, S, S, 2)
    return torch.nn.functional.grid_sample(
        images.float(), grid, mode="bilinear", align_corners=True
    )
