"""Ten classes of shapes: a data set that is drawn, not downloaded.

A shape is the set of points whose signed distance to its outline is negative. Position, size,
rotation and colours are random and the background is textured, so that single pixels say little
about the class: a network has to find the outline, which favours convolutions over a plain MLP.

Shapes: N images, S = 32 pixels.

Source: I. Quilez, "2D distance functions", the formulas of the triangle, the star and the box.
"""

import math

import numpy as np

SIZE = 32  # pixels
CLASSES = (
    "disc", "ring", "half disc", "crescent", "triangle", "square", "bar", "cross", "star", "tee",
)  # fmt: skip
NUM_TRAIN = 10_000
NUM_TEST = 2_000


def draw_shapes() -> dict[str, np.ndarray]:
    """Draw the data set, the same one every time.

    Returns:
        train_images (10000, S, S, 3) uint8, train_labels (10000,) int64, test_images and
        test_labels with 2,000 images. Each class has a tenth of each part.
    """
    random = np.random.RandomState(0)  # NumPy promises to keep its stream, of no other generator
    number = NUM_TRAIN + NUM_TEST
    labels = np.arange(number) % len(CLASSES)
    images = np.empty((number, SIZE, SIZE, 3), np.uint8)
    for label in range(len(CLASSES)):
        rows = np.flatnonzero(labels == label)
        images[rows] = _draw(label, len(rows), random)
    return {
        "train_images": images[:NUM_TRAIN],
        "train_labels": labels[:NUM_TRAIN],
        "test_images": images[NUM_TRAIN:],
        "test_labels": labels[NUM_TRAIN:],
    }


def _draw(label: int, number: int, random: np.random.RandomState) -> np.ndarray:
    """Draw ``number`` images of one class: (number, S, S, 3) uint8."""

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return random.uniform(low, high, (number, *shape)).astype(np.float32)

    # Coordinates of the pixels in the frame of the shape, in units of its radius.
    pixel = np.arange(SIZE, dtype=np.float32)
    radius = uniform(7, 12, 1, 1)  # pixels
    x = (pixel[None, None, :] - uniform(10, 21, 1, 1)) / radius
    y = (pixel[None, :, None] - uniform(10, 21, 1, 1)) / radius
    angle = uniform(-math.pi, math.pi, 1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = cos * x - sin * y, sin * x + cos * y  # (number, S, S)
    distance = _signed_distance(CLASSES[label], x, y) * radius  # pixels
    cover = np.clip(0.5 - distance, 0, 1)[..., None]  # share of the pixel inside the shape

    # The background is a plane wave, which has edges of its own; noise covers the whole image.
    frequency = uniform(-1.2, 1.2, 2, 1, 1)  # radians per pixel
    wave = np.sin(
        frequency[:, 0] * pixel[None, None, :]
        + frequency[:, 1] * pixel[None, :, None]
        + uniform(-math.pi, math.pi, 1, 1)
    )[..., None]
    back = uniform(30, 140, 1, 1, 3)
    # Brighter than the background in every channel: an MLP has to learn each position and rotation
    # separately, and would otherwise learn next to nothing.
    fore = back + uniform(60, 110, 1, 1, 3)
    image = back + uniform(5, 35, 1, 1, 3) * wave
    image = image + cover * (fore - image)
    noise = np.frombuffer(random.bytes(image.size), np.uint8).reshape(image.shape)
    image += (noise - np.float32(127.5)) / 6  # ±21
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _signed_distance(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance of the points to the outline of a shape of radius 1, negative inside."""
    disc = np.hypot(x, y) - 1
    if name == "disc":
        return disc + 0.15
    if name == "ring":
        return np.abs(disc + 0.25) - 0.25
    if name == "half disc":
        return np.maximum(disc, -y - 0.1)
    if name == "crescent":
        return np.maximum(disc, 0.85 - np.hypot(x - 0.5, y))
    if name == "triangle":
        return _polygon(x, y, corners=3, inner=None)
    if name == "square":
        return _box(x, y, 0.72, 0.72)
    if name == "bar":
        return _box(x, y, 1.0, 0.3)
    if name == "cross":
        return np.minimum(_box(x, y, 1.0, 0.28), _box(x, y, 0.28, 1.0))
    if name == "star":
        return _polygon(x, y, corners=5, inner=0.42)
    return np.minimum(_box(x, y + 0.65, 0.85, 0.25), _box(x, y - 0.1, 0.25, 0.9))  # tee


def _box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Return the signed distance to a box around the origin."""
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0)


def _polygon(x: np.ndarray, y: np.ndarray, corners: int, inner: float | None) -> np.ndarray:
    """Return the signed distance to the lines of a regular polygon, or of a star.

    By symmetry one sector is enough: every point is rotated and mirrored into the sector between a
    corner, at angle 0 and radius 1, and the middle of the next side (or the inner corner of a
    star, at radius ``inner``).
    """
    sector = math.pi / corners
    angle = np.abs((np.arctan2(y, x) + sector) % (2 * sector) - sector)
    radius = np.hypot(x, y)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    end = math.cos(sector) if inner is None else inner
    side_x, side_y = end * math.cos(sector) - 1, end * math.sin(sector)
    length = math.hypot(side_x, side_y)
    return ((x - 1) * side_y - y * side_x) / length
