"""The data sets, the split, and the way from a set to a batch."""

import contextlib
import functools
import gc
import hashlib
import math
import pickle
import shutil
import socket
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from training import data
from training.augment import (
    RATIO,
    SCALE,
    cut_out,
    draw_padded_boxes,
    draw_resized_boxes,
    draw_share,
    draw_squares,
    flip_and_crop,
)
from training.batches import MEAN, STD, Batches, normalize
from training.data import Split, load_data, split_indices
from training.shapes import CLASSES, draw_shapes

from processes import processes

transforms = pytest.importorskip("torchvision.transforms")
functional = pytest.importorskip("torchvision.transforms.v2.functional")


def random_images(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)


def numbered_split(number):
    """Images whose every pixel is their index, modulo 256, and whose label is the index."""
    index = torch.arange(number)
    return Split((index % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32), index)


# ---------------------------------------------------------------------------------- the split


def test_training_and_validation_images_are_disjoint_and_together_all_images():
    train, val = split_indices(50_000)
    assert (len(train), len(val)) == (45_000, 5_000)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(50_000))


def test_the_split_is_the_same_in_every_run_version_and_machine():
    _, val = split_indices(50_000)
    digest = hashlib.sha256(val.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("6bc58f8926f80f0b")


def test_no_validation_image_is_trained_on(small_npz):
    dataset = load_data(str(small_npz))
    trained_on = {image.numpy().tobytes() for image in dataset.train.images}
    assert not any(image.numpy().tobytes() in trained_on for image in dataset.val.images)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (270, 30, 50)


# --------------------------------------------------------------------------------- the batches


def test_an_epoch_visits_every_image_once_and_ends_with_a_smaller_batch():
    batches = Batches(numbered_split(300), batch_size=128, training=True)
    sizes = [len(labels) for _, labels in batches]
    seen = torch.cat([labels for _, labels in batches])
    assert sizes == [128, 128, 44] and len(batches) == 3
    assert torch.equal(seen.sort().values, torch.arange(300))


def test_the_label_stays_with_its_image():
    split = numbered_split(250)
    for images, labels in Batches(split, batch_size=64, training=True):
        # A constant image is the same after any flip and crop.
        assert torch.allclose(images, normalize(split.images[labels].float()), atol=1e-5)


def test_a_batch_depends_on_the_seed_and_the_epoch_alone():
    split = Split(random_images(100), torch.arange(100))

    def epoch(seed, number, before=()):
        batches = Batches(split, batch_size=40, training=True, seed=seed)
        for earlier in before:
            batches.set_epoch(earlier)
            list(batches)
        batches.set_epoch(number)
        return [torch.cat(parts) for parts in zip(*batches, strict=True)]

    images, labels = epoch(seed=1, number=3)
    torch.manual_seed(99)  # the global random numbers have no say
    again_images, again_labels = epoch(seed=1, number=3, before=(1, 2))
    assert torch.equal(images, again_images) and torch.equal(labels, again_labels)
    for other in (epoch(seed=1, number=4), epoch(seed=2, number=3), epoch(seed=2, number=2)):
        assert not torch.equal(labels, other[1])


def test_evaluation_goes_through_the_images_in_order_and_only_normalises():
    split = Split(random_images(100), torch.arange(100))
    images, labels = (torch.cat(part) for part in zip(*Batches(split, 40), strict=True))
    to_floats = transforms.Normalize(MEAN, STD)
    assert torch.equal(labels, split.labels)
    torch.testing.assert_close(images, to_floats(split.images / 255), rtol=0, atol=1e-6)


def test_half_of_the_images_are_flipped():
    """The share of 10,000 lies within 5 deviations of one half; false alarms: 6e-7."""
    ramp = torch.arange(32, dtype=torch.uint8).view(1, 1, 1, 32).expand(10_000, 3, 32, 32)
    batches = Batches(Split(ramp, torch.zeros(10_000, dtype=torch.int64)), 1000, training=True)
    flipped = sum((images[:, 0, 0, 0] > images[:, 0, 0, -1]).sum().item() for images, _ in batches)
    assert abs(flipped - 5000) < 5 * math.sqrt(10_000 / 4)


# ---------------------------------------------------------------------------- flips and crops


def test_a_crop_of_the_whole_image_is_the_image_or_its_mirror_image():
    images = random_images(2)
    boxes = torch.tensor([[0, 0, 32, 32]]).expand(2, 4)
    out = flip_and_crop(images, torch.tensor([False, True]), boxes)
    expected = torch.stack([images[0], images[1].flip(-1)]).float()
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-3)  # of 255


def test_flipped_and_cropped_pixels_equal_those_of_torchvision():
    """On float pixels in [0, 1], to 1e-5; every image has its own box and flip."""
    images = random_images(300) / 255
    generator = torch.Generator().manual_seed(5)
    boxes = draw_resized_boxes(300, generator)
    # And some that the training never draws: small, long, in the corners.
    boxes[:4] = torch.tensor([[0, 0, 1, 1], [31, 31, 1, 1], [0, 30, 32, 2], [5, 0, 3, 32]])
    flips = torch.rand(300, generator=generator) < 0.5
    ours = flip_and_crop(images, flips, boxes)
    for image, flip, box, out in zip(images, flips, boxes.tolist(), ours, strict=True):
        mirrored = functional.hflip(image) if flip else image
        expected = functional.resized_crop(mirrored, *box, [32, 32], antialias=True)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_pixels_equal_those_of_the_usual_pipeline_on_pil_images_to_its_rounding():
    """PIL rounds to whole grey levels, twice: after the rows and after the columns."""
    images = random_images(100)
    boxes = draw_resized_boxes(100, torch.Generator().manual_seed(6))
    ours = flip_and_crop(images, torch.zeros(100, dtype=torch.bool), boxes)
    for image, box, out in zip(images, boxes.tolist(), ours, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        cropped = np.asarray(transforms.functional.resized_crop(picture, *box, [32, 32]))
        assert np.abs(cropped - out.permute(1, 2, 0).numpy()).max() <= 1.01


def chi_square(ours, theirs):
    """Return the two-sample statistic over the values that occur, rare ones merged, and a bound.

    The bound is the quantile of 1 - 1e-6 (Wilson and Hilferty 1931).
    """
    values, index = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    counts = np.stack(
        [np.bincount(part, minlength=len(values)) for part in np.split(index, [len(ours)])]
    )
    rare = counts.sum(axis=0) < 20
    counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    counts = counts[:, counts.sum(axis=0) > 0]
    statistic = ((counts[0] - counts[1]) ** 2 / counts.sum(axis=0)).sum()
    freedom = counts.shape[1] - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic, quantile


def test_the_boxes_have_the_distribution_of_torchvision():
    """Two samples of 20,000 boxes: their sizes, their positions. False alarms: 3e-6 in all."""
    number = 20_000
    ours = draw_resized_boxes(number, torch.Generator().manual_seed(7)).numpy()
    torch.manual_seed(8)  # get_params draws from the global generator
    image = torch.empty(3, 32, 32)
    theirs = np.array(
        [transforms.RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(number)]
    )
    code = np.array([64**3, 64**2, 64, 1])
    for columns in ([2, 3], [0, 2], [1, 3]):  # height and width, top and height, left and width
        statistic, bound = chi_square(
            ours[:, columns] @ code[columns], theirs[:, columns] @ code[columns]
        )
        assert statistic < bound


def test_padded_crops_equal_those_of_torchvision():
    """RandomCrop(32, padding=4) on the mirrored image: the padding is black."""
    images = random_images(200) / 255
    generator = torch.Generator().manual_seed(5)
    boxes = draw_padded_boxes(200, generator)
    boxes[:2] = torch.tensor([[-4, 4, 32, 32], [4, -4, 32, 32]])
    flips = torch.rand(200, generator=generator) < 0.5
    ours = flip_and_crop(images, flips, boxes)
    for image, flip, (top, left, *size), out in zip(
        images, flips, boxes.tolist(), ours, strict=True
    ):
        padded = functional.pad(functional.hflip(image) if flip else image, [4])
        expected = functional.crop(padded, top + 4, left + 4, *size)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_the_padded_boxes_have_the_distribution_of_torchvision():
    """Two samples of 20,000 positions. False alarms: 1e-6."""
    number = 20_000
    top, left, *size = draw_padded_boxes(number, torch.Generator().manual_seed(7)).T.numpy()
    torch.manual_seed(8)  # get_params draws from the global generator
    image = torch.empty(3, 40, 40)
    theirs = np.array(
        [transforms.RandomCrop.get_params(image, (32, 32))[:2] for _ in range(number)]
    )
    statistic, bound = chi_square(9 * (top + 4) + left + 4, theirs @ np.array([9, 1]))
    assert statistic < bound and (np.array(size) == 32).all()


def test_every_box_lies_in_the_image():
    top, left, height, width = draw_resized_boxes(100_000).unbind(dim=1)
    assert min(top.min(), left.min()) == 0 and min(height.min(), width.min()) > 0
    assert (top + height).max() == 32 and (left + width).max() == 32


# ------------------------------------------------------------------------------ Cutout, mixup


@pytest.mark.parametrize("side", [1, 8, 16])
def test_cutout_covers_the_square_of_the_paper_and_nothing_else(side):
    """Its code, in a loop: a square around a centre, clipped at the edge of the image."""
    images = random_images(300).float() + 1
    squares = draw_squares(300, side, torch.Generator().manual_seed(3))
    expected = images.clone()
    for image, corner in zip(expected, squares.numpy(), strict=True):
        y, x = corner + side // 2
        assert min(x, y) >= 0 and max(x, y) < 32
        end = side - side // 2
        image[:, max(y - side // 2, 0) : y + end, max(x - side // 2, 0) : x + end] = 0
    assert torch.equal(cut_out(images, squares, side), expected)


def test_the_centres_of_the_squares_are_uniform():
    """Two samples of 20,000 centres. False alarms: 1e-6."""
    ours = draw_squares(20_000, 8, torch.Generator().manual_seed(7)).numpy() + 4
    theirs = np.random.default_rng(8).integers(0, 32, (20_000, 2))
    for code in (np.array([32, 1]) // 4, np.array([0, 1]), np.array([1, 0])):
        statistic, bound = chi_square(ours @ code, theirs @ code)
        assert statistic < bound


def test_cutout_sets_pixels_to_the_mean_in_training_alone():
    split = Split(torch.full((64, 3, 32, 32), 255, dtype=torch.uint8), torch.arange(64))
    (trained,) = (images for images, _ in Batches(split, 64, training=True, cutout=8))
    (evaluated,) = (images for images, _ in Batches(split, 64, cutout=8))
    covered = (trained == 0).all(dim=1).sum(dim=(1, 2))
    assert covered.max() == 64 and covered.min() >= 16 and (evaluated != 0).all()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0])
def test_the_share_of_mixup_is_the_larger_part_of_a_beta_distribution(alpha):
    """Two samples of 4000, in ten bins. False alarms: 1e-6 each."""
    torch.manual_seed(1)
    ours = np.array([draw_share(alpha) for _ in range(4000)])
    theirs = np.random.default_rng(2).beta(alpha, alpha, 4000)
    bins = (np.floor(20 * np.minimum(x, 0.9999)) for x in (ours, np.maximum(theirs, 1 - theirs)))
    statistic, bound = chi_square(*bins)
    assert statistic < bound and ours.min() >= 0.5


# --------------------------------------------------------------------------------- the sources


def test_the_drawn_data_set_is_the_same_every_time_and_has_a_tenth_of_each_class():
    first, second = draw_shapes(), draw_shapes()
    for name, array in first.items():
        assert np.array_equal(array, second[name])
    for part, number in (("train", 10_000), ("test", 2_000)):
        assert first[f"{part}_images"].shape == (number, 32, 32, 3)
        assert (np.bincount(first[f"{part}_labels"]) == number // len(CLASSES)).all()


def test_no_drawn_test_image_is_among_the_training_images():
    dataset = load_data("shapes")
    train = {image.numpy().tobytes() for image in dataset.train.images}
    assert not any(image.numpy().tobytes() in train for image in dataset.test.images)


def valid_arrays(**changes):
    images = np.zeros((20, 32, 32, 3), np.uint8)
    labels = np.arange(20) % 10
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:5],
        "test_labels": labels[:5],
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def test_a_file_in_the_layout_of_medmnist_keeps_its_own_validation_images(tmp_path):
    path = tmp_path / "medmnist.npz"
    labels = np.arange(20).reshape(20, 1).astype(np.uint8) % 7
    arrays = valid_arrays(
        train_labels=labels, test_labels=labels[:5], val_labels=labels[:8],
        val_images=np.full((8, 32, 32, 3), 9, np.uint8),
    )  # fmt: skip
    np.savez(path, **arrays)
    dataset = load_data(str(path))
    assert (dataset.name, dataset.num_classes, dataset.split) == ("medmnist", 7, "as in the file")
    assert len(dataset.train) == 20 and (dataset.val.images == 9).all()
    assert dataset.train.labels.tolist() == (np.arange(20) % 7).tolist()


def test_a_file_may_name_its_classes(tmp_path):
    """The names do not change the hash; a class without one has its number."""
    np.savez(tmp_path / "plain.npz", **valid_arrays())
    np.savez(tmp_path / "named.npz", **valid_arrays(class_names=np.array(["chat", "forêt"])))
    plain, named = (load_data(str(tmp_path / f"{name}.npz")) for name in ("plain", "named"))
    assert [plain.name_of(label) for label in (0, 1, 9)] == ["0", "1", "9"]
    assert [named.name_of(label) for label in (0, 1, 9)] == ["chat", "forêt", "9"]
    assert (plain.sha256, plain.num_classes) == (named.sha256, named.num_classes)


def test_the_name_of_a_data_set_may_have_capitals():
    assert load_data("Shapes").sha256 == load_data("shapes").sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "has no array train_images"),
        ({"val_labels": np.zeros(3, np.int64)}, "has no array val_images"),
        ({"test_images": np.zeros((5, 28, 28, 3), np.uint8)}, r"test_images is uint8 \(5, 28, 28"),
        ({"train_images": np.zeros((20, 32, 32, 3))}, "train_images is float64"),
        ({"train_images": np.uint8(3)}, r"train_images is uint8 \(\)"),
        ({"train_labels": np.arange(19)}, r"train_labels is int64 \(19,\)"),
        ({"train_labels": np.zeros((20, 10), int)}, r"train_labels is int64 \(20, 10\)"),
        ({"test_labels": np.zeros(5)}, "test_labels is float64"),
        ({"test_labels": np.array([0, 1, 2, -1, 3])}, "test_labels holds -1"),
        ({"test_images": np.zeros((0, 32, 32, 3), np.uint8), "test_labels": np.zeros(0, int)},
         "test_images has 0 images"),
        ({"train_labels": np.array(["cat"] * 20, dtype=object)}, "not a readable .npz"),
        ({"class_names": np.arange(10)}, r"class_names is int64 \(10,\)"),
        ({"class_names": np.array([["cat"]])}, r"class_names is <U3 \(1, 1\)"),
    ],
)  # fmt: skip
def test_a_file_with_a_mistake_is_refused_with_its_name_and_the_array(tmp_path, changes, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, **valid_arrays(**changes))
    with pytest.raises(ValueError, match=message) as caught:
        load_data(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 5000, -30])
def test_a_truncated_file_is_refused_with_its_name(tmp_path, keep):
    path = tmp_path / "truncated.npz"
    np.savez(path, **valid_arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"truncated\.npz is not a readable \.npz"):
        load_data(str(path))


def test_a_single_array_under_the_name_of_an_npz_is_refused(tmp_path):
    path = tmp_path / "array.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npz is not a readable .* a single array"):
        load_data(str(path))


def test_the_real_cifar10_has_the_classes_the_mean_and_the_deviation_that_are_published(
    cifar10_npz,
):
    dataset = load_data(str(cifar10_npz))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (45_000, 5_000, 10_000)
    labels = torch.cat([dataset.train.labels, dataset.val.labels])
    assert labels.bincount().tolist() == [5000] * 10
    pixels = torch.cat([dataset.train.images, dataset.val.images]).transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(pixels.mean(dim=1), torch.tensor(MEAN), rtol=0, atol=1e-4)
    torch.testing.assert_close(pixels.std(dim=1), torch.tensor(STD), rtol=0, atol=1e-4)


# ------------------------------------------------------------- CIFAR-10 as torchvision keeps it


@pytest.fixture
def official_archive(tmp_path, monkeypatch):
    """A small archive in the official layout, whose checksums torchvision is told to expect.

    The address to download from is one that refuses.
    """
    from torchvision.datasets import CIFAR10

    random = np.random.default_rng(0)
    folder = tmp_path / "made" / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch():
        return {"data": random.integers(0, 256, (10, 3072), np.uint8), "labels": list(range(10))}

    train_list = [list(write(f"data_batch_{i}", batch())) for i in range(1, 6)]
    test_list = [list(write("test_batch", batch()))]
    name, digest = write("batches.meta", {"label_names": list("abcdefghij")})
    archive = tmp_path / "made" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "train_list", train_list)
    monkeypatch.setattr(CIFAR10, "test_list", test_list)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "filename": name, "md5": digest})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:9/{CIFAR10.filename}")
    return archive


def test_an_archive_that_was_put_into_the_folder_is_unpacked_without_a_network(
    official_archive, tmp_path
):
    data_dir = tmp_path / "with space and é"
    data_dir.mkdir()
    official_archive.rename(data_dir / official_archive.name)
    for _ in range(2):  # the second time the archive is no longer looked at
        arrays = data.read_cifar10(data_dir)
        assert arrays["train_images"].shape == (50, 32, 32, 3)
        assert arrays["test_labels"].tolist() == list(range(10))
        (data_dir / official_archive.name).unlink(missing_ok=True)


@pytest.mark.parametrize("content", ["nothing", "half an archive", "half a folder"])
def test_cifar10_that_is_not_available_gives_one_error_with_two_alternatives(
    official_archive, tmp_path, content
):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if content == "half an archive":
        half = official_archive.read_bytes()[: official_archive.stat().st_size // 2]
        (data_dir / official_archive.name).write_bytes(half)
    if content == "half a folder":
        shutil.unpack_archive(official_archive, data_dir)
        next(data_dir.rglob("data_batch_3")).write_bytes(b"cut off")
    with pytest.raises(OSError) as caught:
        load_data("cifar10", data_dir)
    message = str(caught.value)
    for part in (str(data_dir), official_archive.name, "md5", "--data shapes", "--data FILE.npz"):
        assert part in message
    assert "\n" not in message


def test_a_damaged_archive_is_not_deleted_and_nothing_is_left_beside_it(official_archive, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    archive = data_dir / official_archive.name
    archive.write_bytes(official_archive.read_bytes()[:-100])
    before = archive.read_bytes()
    with pytest.raises(OSError, match="could not be downloaded"):
        load_data("cifar10", data_dir)
    assert archive.read_bytes() == before and list(data_dir.iterdir()) == [archive]


def test_a_complete_folder_may_be_read_only_and_an_empty_one_is_named(
    official_archive, tmp_path, mount, read_only
):
    full, empty = mount(tmp_path / "full", "20m"), mount(tmp_path / "empty", "1m")
    shutil.unpack_archive(official_archive, full)
    read_only(full)
    read_only(empty)
    assert data.read_cifar10(full)["train_images"].shape == (50, 32, 32, 3)
    with pytest.raises(OSError, match=f"not complete in {empty} .*Read-only file system"):
        data.read_cifar10(empty)


@pytest.fixture
def host(monkeypatch):
    """A host that answers each request for CIFAR-10 with the same bytes, and then hangs up."""
    from torchvision.datasets import CIFAR10

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/{CIFAR10.filename}"
        monkeypatch.setattr(CIFAR10, "url", address)

        def answer_with(reply):
            def serve():
                with contextlib.suppress(OSError):  # the server is closed at the end of the test
                    while True:
                        client, _ = server.accept()
                        with client:
                            client.recv(10_000)
                            client.sendall(reply)
                            if not reply:
                                client.recv(1)  # silence, until the other side gives up

            threading.Thread(target=serve, daemon=True).start()

        yield answer_with


def ok(content, length=None):
    header = f"HTTP/1.0 200 OK\r\nContent-Length: {length or len(content)}\r\n\r\n"
    return header.encode() + content


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib's socket
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.0 503 Down\r\n\r\n",
        ok(b"<html>Log in to use this network</html>"),
        ok(b"\x1f\x8b" + bytes(5000), length=170_498_071),
        b"220 not the web\r\n",
        b"",
    ],
    ids=["down", "another page", "breaks off", "nonsense", "silence"],
)
def test_a_host_that_does_not_deliver_is_one_error_and_leaves_nothing_behind(
    official_archive, host, tmp_path, monkeypatch, reply
):
    monkeypatch.setattr(data, "PATIENCE", 0.5)
    host(reply)
    data_dir = tmp_path / "data"
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        load_data("cifar10", data_dir)
    assert "\n" not in str(caught.value) and list(data_dir.iterdir()) == []
    del caught  # which holds the socket
    gc.collect()  # here, where the warning of it is ignored


def download(settings, data_dir, both_ready, shapes):
    """Be a process that downloads CIFAR-10 and sends the shape of the images."""
    from torchvision.datasets import CIFAR10

    for name, value in settings.items():
        setattr(CIFAR10, name, value)
    both_ready.wait(60)
    shapes.put(data.read_cifar10(data_dir)["train_images"].shape)


def test_two_processes_that_download_at_once_both_get_the_data(official_archive, tmp_path):
    from torchvision.datasets import CIFAR10

    names = ("train_list", "test_list", "meta", "tgz_md5")
    settings = {name: getattr(CIFAR10, name) for name in names}
    serve = functools.partial(SimpleHTTPRequestHandler, directory=official_archive.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings["url"] = f"http://127.0.0.1:{server.server_port}/{official_archive.name}"
        both_ready, shapes = processes.Barrier(2), processes.SimpleQueue()
        arguments = (settings, tmp_path / "data", both_ready, shapes)
        both = [processes.Process(target=download, args=arguments) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        server.shutdown()
    assert [process.exitcode for process in both] == [0, 0]
    assert [shapes.get() for _ in both] == [(50, 32, 32, 3)] * 2
