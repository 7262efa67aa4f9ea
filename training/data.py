"""The data sets: CIFAR-10, the drawn shapes and ``.npz`` files, each in three splits.

Shapes: N images of a split, S = 32 pixels, height and width.

Sources:
1. A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009: CIFAR-10.
2. J. Yang et al., "MedMNIST v2", Scientific Data 2023: the layout of the ``.npz`` files.
"""

import hashlib
import http.client
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.shapes import CLASSES as SHAPES
from training.shapes import draw_shapes

SIZE = 32  # pixels
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
PATIENCE = 60.0  # seconds without a byte, after which a host counts as down
SPLIT = "a tenth of the training images, drawn once with numpy.random.RandomState(0), validates"


@dataclass(frozen=True)
class Split:
    """Images (N, 3, S, S) uint8 and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """Return the split on another device."""
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, number: int) -> "Split":
        """Return the first ``number`` images."""
        return Split(self.images[:number], self.labels[:number])


@dataclass(frozen=True)
class DataSet:
    """The three splits of a data set.

    Attributes:
        name: for titles and results.
        train, val, test: disjoint splits.
        num_classes: labels are smaller than this.
        class_names: of the labels, in their order; empty for an ``.npz`` file without them.
        sha256: of all images and labels; two sets with the same one are the same.
        split: in words, how train and val were separated.
    """

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    sha256: str
    split: str

    def name_of(self, label: int) -> str:
        """Return the name of a label, the number itself where there is no name."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def load_data(source: str, data_dir: str | Path = "data") -> DataSet:
    """Load a data set.

    Args:
        source: "cifar10", "shapes", in upper or lower case, or the path of an ``.npz`` file.
        data_dir: folder into which CIFAR-10 is downloaded.

    Raises:
        ValueError: unknown source, or a file whose content is not what it should be.
        OSError: a file that cannot be read, or CIFAR-10 that cannot be downloaded.
    """
    if source.lower() == "cifar10":
        return _data_set("CIFAR-10", read_cifar10(Path(data_dir)), 10, CIFAR10_CLASSES)
    if source.lower() == "shapes":
        return _data_set("shapes", draw_shapes(), 10, SHAPES)
    if source.endswith(".npz"):
        arrays = read_npz(Path(source))
        class_names = tuple(arrays.pop("class_names", np.array([])).tolist())
        num_classes = 1 + max(
            int(labels.max()) for name, labels in arrays.items() if name.endswith("labels")
        )
        return _data_set(Path(source).stem, arrays, num_classes, class_names)
    raise ValueError(f"{source!r} is no data set; choose cifar10, shapes or the path of an .npz")


def read_cifar10(data_dir: Path) -> dict[str, np.ndarray]:
    """Read CIFAR-10 from ``data_dir`` with torchvision, which downloads and verifies it.

    Returns:
        train_images (50000, S, S, 3) uint8, train_labels (50000,), and test_ of both.

    Raises:
        OSError: it is incomplete and cannot be downloaded.
    """
    alternatives = "--data shapes, or --data FILE.npz"
    try:
        # Here, because only this source needs torchvision.
        from torchvision.datasets import CIFAR10
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise OSError(
            f"CIFAR-10 is read with torchvision, which cannot be imported ({error}). "
            f"Either run pip install -r requirements.txt, or use other data: {alternatives}"
        ) from error
    try:
        try:
            train = CIFAR10(data_dir, train=True)  # the folder may be read-only
        except RuntimeError:
            _fetch_cifar10(data_dir)
            train = CIFAR10(data_dir, train=True)
        test = CIFAR10(data_dir, train=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = str(error).strip()  # some end with a line that the host sent
        raise OSError(
            f"CIFAR-10 is not complete in {data_dir} and could not be downloaded ({reason}). "
            f"Either put cifar-10-python.tar.gz (md5 {CIFAR10.tgz_md5}) into {data_dir}, "
            f"or use other data: {alternatives}"
        ) from error
    return {
        "train_images": train.data,
        "train_labels": np.asarray(train.targets),
        "test_images": test.data,
        "test_labels": np.asarray(test.targets),
    }


def _fetch_cifar10(data_dir: Path) -> None:
    """Put the files of CIFAR-10 into ``data_dir``, from the archive there or from its host.

    They are extracted into a temporary folder, verified, and then renamed one by one. Two processes
    may do this at once: both put the same files there, and neither sees half a file. A damaged
    archive is kept.

    Raises:
        OSError, RuntimeError, HTTPException: as torchvision.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    data_dir.mkdir(parents=True, exist_ok=True)
    archive = data_dir / CIFAR10.filename
    patience = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(prefix=".cifar10-", dir=data_dir) as temporary:
        if check_integrity(archive, CIFAR10.tgz_md5):
            extract_archive(archive, temporary)
        socket.setdefaulttimeout(PATIENCE)  # torchvision would wait forever
        try:
            CIFAR10(temporary, download=True)  # verifies, and downloads if nothing was extracted
        finally:
            socket.setdefaulttimeout(patience)
        complete = data_dir / CIFAR10.base_folder
        complete.mkdir(exist_ok=True)
        for file in Path(temporary, CIFAR10.base_folder).iterdir():
            os.replace(file, complete / file.name)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read an ``.npz`` file in the layout of MedMNIST (source 2) and check it.

    It holds train_images (N, S, S, 3) uint8, train_labels (N,) or (N, 1), test_images and
    test_labels, and may hold val_images and val_labels, and class_names (K,), strings.

    Returns:
        The arrays by name, labels (N,).

    Raises:
        ValueError: the file is damaged, or an array is missing or has the wrong shape or values.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:  # NumPy does not close a file that it cannot read
        try:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds a single array, as an .npy file does")
            known = (*_ARRAYS, "class_names")
            arrays = {name: archive[name] for name in archive.files if name in known}
        except Exception as error:  # NumPy raises all kinds for damaged bytes, also OSError
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path} is not a readable .npz file: {first_line}") from error
    for name in _ARRAYS:
        optional = name.startswith("val_") and not any(key.startswith("val_") for key in arrays)
        if name not in arrays and not optional:
            raise ValueError(f"{path} has no array {name}; it needs {', '.join(_ARRAYS)}")
    for part in ("train", "val", "test"):
        if f"{part}_images" in arrays:
            arrays[f"{part}_labels"] = _check_part(path, part, arrays)
    names = arrays.get("class_names", np.array([""]))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{path}: class_names is {names.dtype} {names.shape}; it must be strings, (K,)"
        )
    return arrays


_ARRAYS = (
    "train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels",
)  # fmt: skip


def _check_part(path: Path, part: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Check the images and labels of one part and return the labels, (N,)."""
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.shape[1:] != (SIZE, SIZE, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {part}_images is {images.dtype} {images.shape}; "
            f"it must be uint8 (N, {SIZE}, {SIZE}, 3)"
        )
    if labels.shape not in {(len(images),), (len(images), 1)} or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: {part}_labels is {labels.dtype} {labels.shape}; "
            f"it must be integers ({len(images)},), one for each image"
        )
    minimum = 10 if part == "train" else 1  # with fewer, a tenth of them would be no image
    if len(images) < minimum:
        raise ValueError(f"{path}: {part}_images has {len(images)} images; it needs {minimum}")
    if labels.min() < 0:
        raise ValueError(f"{path}: {part}_labels holds {labels.min()}; labels start at 0")
    return labels.reshape(-1)


def _data_set(
    name: str, arrays: dict[str, np.ndarray], num_classes: int, class_names: tuple[str, ...] = ()
) -> DataSet:
    """Build the three splits from arrays (N, S, S, 3) and (N,)."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        values = arrays[key] if key.endswith("images") else arrays[key].astype("<i8")
        digest.update(np.ascontiguousarray(values).data)
    splits = {
        part: Split(
            torch.from_numpy(arrays[f"{part}_images"]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(arrays[f"{part}_labels"].astype(np.int64)),
        )
        for part in ("train", "val", "test")
        if f"{part}_images" in arrays
    }
    split = "as in the file"
    if "val" not in splits:
        train, val = split_indices(len(splits["train"]))
        images, labels = splits["train"].images, splits["train"].labels
        splits["train"] = Split(images[train], labels[train])
        splits["val"] = Split(images[val], labels[val])
        split = SPLIT
    return DataSet(
        name=name,
        num_classes=num_classes,
        class_names=class_names,
        sha256=digest.hexdigest(),
        split=split,
        **splits,
    )


def split_indices(number: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the validation images, in a fixed random order.

    Both come from one permutation, so they are disjoint. NumPy promises that the stream of
    ``RandomState`` never changes, so they are the same in every run, version and machine.
    """
    permutation = torch.from_numpy(np.random.RandomState(0).permutation(number))
    return permutation[number // 10 :], permutation[: number // 10]
