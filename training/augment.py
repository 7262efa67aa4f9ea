"""Augmentation of training images: flips, crops, Cutout and mixup, each on a batch as one tensor.

Shapes: B images of a batch, C channels, S = 32 pixels, height and width.

Sources:
1. torchvision, ``RandomResizedCrop`` and ``RandomCrop``: the distribution of the crops and the
   resampling.
2. T. DeVries and G. Taylor, "Improved Regularization of Convolutional Neural Networks with
   Cutout", 2017, section 3.
3. H. Zhang, M. Cisse, Y. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
   ICLR 2018, section 2.
"""

import math

import torch
from torch import Tensor

from training.data import SIZE

SCALE = (0.8, 1.0)  # area of a resized crop, as a share of the image
RATIO = (0.9, 1.1)  # its width over its height
PADDING = 4  # pixels around the image of a padded crop


def draw_resized_boxes(number: int, generator: torch.Generator | None = None) -> Tensor:
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


def draw_padded_boxes(number: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw boxes of the size of the image, at a uniform position in the image padded by PADDING.

    Returns:
        (number, 4) int64: top, left, height, width, in pixels; top and left may be negative.
    """
    corners = torch.randint(-PADDING, PADDING + 1, (number, 2), generator=generator)
    return torch.cat([corners, torch.full((number, 2), SIZE)], dim=1)


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


def draw_squares(number: int, side: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the squares that Cutout covers: their centres are uniform in the image (source 2).

    Returns:
        (number, 2) int64: top and left of each, in pixels; a square may reach beyond the image.
    """
    return torch.randint(SIZE, (number, 2), generator=generator) - side // 2


def cut_out(images: Tensor, squares: Tensor, side: int) -> Tensor:
    """Set a square of each image to 0, the mean of normalised images.

    Args:
        images: (B, C, S, S)
        squares: (B, 2) top and left.
        side: of the squares, in pixels.

    Returns:
        (B, C, S, S)
    """
    pixels = torch.arange(SIZE, device=images.device)
    first = squares.unsqueeze(2)  # (B, 2, 1)
    rows, columns = ((pixels >= first) & (pixels < first + side)).unbind(dim=1)  # each (B, S)
    return images.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


def draw_share(alpha: float) -> float:
    """Draw the larger share of a mixture: the distribution is Beta(alpha, alpha) (source 3).

    Either image may have the larger share: the one whose share is returned comes first.
    """
    both = torch.full((2,), alpha, dtype=torch.float64)  # in float32 a small alpha underflows
    return torch.distributions.Dirichlet(both).sample().max().item()


def mix(images: Tensor, share: float) -> Tensor:
    """Mix each image (B, C, S, S) with the one as far from the end of the batch: a shuffled one."""
    return share * images + (1 - share) * images.flip(0)
