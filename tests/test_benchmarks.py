"""The benchmarks: that they measure what they say. How fast anything is, no test asks."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image

from benchmarks import accuracy, common, growth, hardware
from benchmarks.__main__ import BENCHMARKS, main
from training.batches import MEAN, RATIO, SCALE, STD, Batches, flip_and_crop
from training.config import build_model, default_path, read_config
from training.data import Split, load_data

from conftest import ROOT

transforms = pytest.importorskip("torchvision.transforms")
usual = pytest.importorskip("benchmarks.usual")

CPU = torch.device("cpu")
ON_CPU = ("--device", "cpu", "--precision", "float32")


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def random_split(number):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(number) % 10)


def usual_loader(split, workers=0, batch_size=128, training=True):
    return usual.make_loader(
        *common.to_arrays(split),
        training=training,
        workers=workers,
        device=CPU,
        batch_size=batch_size,
    )


def standardise(images):
    """Images (B, 3, S, S) in [0, 255], by the definition."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images / 255 - mean) / std


def assert_fits_into_80_columns(text):
    for line in text.splitlines():
        assert len(line) <= 80, line


def assert_all_positive(numbers):
    assert numbers and all(number > 0 and math.isfinite(number) for number in numbers)


# ---------------------------------------------------------------------------- whole benchmarks


@pytest.fixture(scope="module")
def training_done(tmp_path_factory):
    """Two models on one batch of 8 images; returns the output, the results and the figure."""
    folder = tmp_path_factory.mktemp("training")
    done = run(
        *("-m", "benchmarks", "training", "--models", "mlp", "resnet18", "--images", 8),
        *("--workers", 0, 1, "--repeats", 2, "--threads", 1, *ON_CPU),
        *("--json", folder / "t.json", "--figure", folder / "t.png"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "t.json").read_text()), imread(folder / "t.png")


def test_the_training_benchmark_measures_all_ways_of_all_models(training_done):
    _, results, _ = training_done
    assert [row["model"] for row in results["models"]] == ["mlp", "resnet18"]
    for row in results["models"]:
        assert list(row["epoch"]) == ["A, 0 workers", "A, 1 worker", "B"]
        assert list(row["step"]) == ["A", "B"]
        assert (row["images"], row["batch"], row["steps"]) == (8, 8, 1)
        for seconds in (*row["epoch"].values(), *row["step"].values()):
            assert len(seconds) == 2
            assert_all_positive(seconds)
    assert list(results["pipeline"]["seconds"]) == ["A, 0 workers", "A, 1 worker", "B"]
    assert results["threads"] == 1 and results["precision"] == "float32"
    assert list(results["limits"]) == ["float32"]
    assert_all_positive([limit["rate"] for limit in results["limits"].values()])


def test_the_memory_of_training_holds_the_weights_and_the_state_of_the_optimizer(training_done):
    """Weights, gradients and two moments: four float32 numbers a parameter, with either way."""
    _, results, _ = training_done
    for row in results["models"]:
        for peak in row["memory"].values():
            if peak["peak"] == 0:
                pytest.skip("this system does not tell how much memory a process has had")
            assert 4 * 4 * row["parameters"] < peak["peak"] - peak["before"] < 2**31


def test_the_table_fits_into_80_columns_and_gives_the_medians_of_the_ratios(training_done):
    text, results, _ = training_done
    assert_fits_into_80_columns(text)
    for row in results["models"]:
        for name in ("A, 0 workers", "A, 1 worker"):
            median = np.median(np.divide(row["epoch"][name], row["epoch"]["B"]))
            (found,) = re.findall(
                rf"^{row['model']} +8 {name} .* (\S+) \(\S+-\S+\)$", text, re.MULTILINE
            )
            assert float(found.replace(",", "")) == pytest.approx(median, rel=0.01)
        speed = 8 / np.median(row["epoch"]["B"])
        assert re.search(rf"^{row['model']} +8 B .* {speed:,.0f}$", text, re.MULTILINE)


def test_the_share_of_the_limit_follows_from_the_other_figures(training_done):
    text, results, _ = training_done
    row = results["models"][1]
    multiply_adds = 3 * sum(RESNET_LAYERS) - RESNET_LAYERS[0]
    rate = multiply_adds * 8 / np.median(row["epoch"]["B"])
    share = rate / results["limits"]["float32"]["rate"]
    expected = f"resnet18 {multiply_adds / 1e6:,.1f} B {rate / 1e9:,.1f} {share:.1%} "
    assert expected in re.sub(" +", " ", text)


def test_the_figure_has_a_white_background_and_bars(training_done):
    _, _, pixels = training_done
    assert pixels.shape[0] > 500 and (pixels[0, 0] == 1).all()
    blue = (np.abs(pixels[..., :3] - [0.122, 0.467, 0.706]) < 0.02).all(axis=2)
    grey = (np.abs(pixels[..., :3] - 0.69) < 0.02).all(axis=2)
    assert blue.mean() > 0.01 and grey.mean() > 0.01


def test_the_growth_benchmark_measures_epochs_of_each_size(small_npz, tmp_path, capsys):
    arguments = ["--images", "400", "100", "--batch_sizes", "50", "--repeats", "2", *ON_CPU]
    path = tmp_path / "g.json"
    assert main(["growth", "--data", str(small_npz), *arguments, "--json", str(path)]) == 0
    text, results = capsys.readouterr().out, json.loads(path.read_text())
    assert_fits_into_80_columns(text)
    sizes = [(row["images"], row["batch_size"]) for row in results["images"]]
    assert sizes == [(100, 128), (400, 128)]
    assert [(row["images"], row["batch_size"]) for row in results["batch_sizes"]] == [(400, 50)]
    for row in results["images"] + results["batch_sizes"]:
        assert len(row["seconds"]) == 2
        assert_all_positive(row["seconds"])
    assert re.search(r"^ +400 +50 ", text, re.M) and "seconds grow as images ** " in text


def test_the_exponent_of_what_grows_with_the_square_is_2():
    rows = [{"images": n, "seconds": [3e-6 * n**2, 0.0, 9e9]} for n in (1_000, 5_000, 20_000)]
    assert growth.exponent(rows) == pytest.approx(2)


def test_both_ways_learn_what_is_to_be_learnt(small_npz, tmp_path, capsys):
    """Five epochs on bright bands, of which a guess gets a tenth right."""
    path = tmp_path / "a.json"
    arguments = ["--epochs", "5", "--seeds", "2", "--workers", "0", *ON_CPU]
    assert main(["accuracy", "--data", str(small_npz), *arguments, "--json", str(path)]) == 0
    text, results = capsys.readouterr().out, json.loads(path.read_text())
    assert_fits_into_80_columns(text)
    assert results["split"] == [270, 30, 50]
    for way in ("A", "B"):
        runs = [entry[way] for entry in results["runs"]]
        assert len(runs) == 2 and all(len(entry["valid_accs"]) == 5 for entry in runs)
        assert_all_positive([entry["seconds"] for entry in runs])
        scores = [100 * entry["test_acc"] for entry in runs]
        assert min(scores) > 50
        expected = f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}"
        assert re.search(rf"^{way} +{expected} ", text, re.M)


# -------------------------------------------------------------------------------- the usual way


def test_pixels_of_the_usual_way_are_those_of_this_project_to_the_rounding_of_pil():
    """With the same flips and boxes. PIL rounds to whole grey levels, twice."""
    transform = usual.make_transform(training=True)
    flipped = 0
    for seed, image in enumerate(random_split(100).images):
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        torch.manual_seed(seed)
        found = transform(picture)
        torch.manual_seed(seed)  # the draws of the transforms, in their order
        flip = torch.rand(1) < 0.5
        box = transforms.RandomResizedCrop.get_params(picture, list(SCALE), list(RATIO))
        ours = flip_and_crop(image.unsqueeze(0), flip, torch.tensor([box]))[0]
        grey_levels = (found - standardise(ours)).abs() * torch.tensor(STD).view(3, 1, 1) * 255
        assert grey_levels.max() <= 1.01
        flipped += flip.item()
    assert 20 < flipped < 80


def test_evaluation_images_of_both_ways_are_equal():
    split = random_split(300)
    ours = Batches(split, batch_size=128)
    theirs = usual_loader(split, training=False)
    assert len(ours) == len(theirs) == 3
    for (images, labels), (their_images, their_labels) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(images, their_images, rtol=0, atol=1e-5)
        assert torch.equal(labels, their_labels) and labels.dtype == their_labels.dtype


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_the_usual_way_has_each_image_once_in_an_order_of_its_own(workers):
    """Images of one colour keep it however they are cropped: it says which image it is."""
    index = torch.arange(250)
    images = index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    loader = usual_loader(Split(images, index), workers=workers, batch_size=100)
    orders = []
    for _ in range(2):
        batches = list(loader)
        assert [tuple(batch.shape) for batch, _ in batches] == [
            (100, 3, 32, 32),
            (100, 3, 32, 32),
            (50, 3, 32, 32),
        ]
        for batch, labels in batches:
            expected = standardise(labels.view(-1, 1, 1, 1).expand(-1, 3, 32, 32).float())
            torch.testing.assert_close(batch, expected, rtol=0, atol=1e-5)
        orders.append(torch.cat([labels for _, labels in batches]))
        assert torch.equal(orders[-1].sort().values, index)
    assert not torch.equal(*orders) and not torch.equal(orders[0], index)


def test_on_the_same_batches_both_ways_come_to_the_same_weights(small_npz, tmp_path):
    """Same loss, same optimizer, same settings: the pipeline and the speed are the difference.

    AdamW divides a gradient by its size, so that of a gradient near zero the rounding decides the
    direction of a step, 1e-3 long: few weights may differ, by three steps at most,
    in opposite directions.
    """
    ours = common.prepare(
        *("mlp", small_npz, tmp_path / "run"), device="cpu", precision="float32", seed=3
    )
    theirs = accuracy.build_network("mlp", seed=3)
    for first, second in zip(ours.model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(first, second)
    start = [parameter.detach().clone() for parameter in theirs.parameters()]
    batches = list(ours.train_batches)[:2] + list(ours.val_batches)
    loss, accuracy_of_usual = usual.train(theirs, batches, usual.make_optimizer(theirs), CPU)
    assert 1.5 < loss < 5 and 0 <= accuracy_of_usual < 0.5
    common.train_on(ours, batches)
    first, second, before = (
        torch.cat([parameter.flatten() for parameter in parameters])
        for parameters in (ours.model.parameters(), theirs.parameters(), start)
    )
    assert ((first - second).abs() > 1e-5).float().mean() < 0.01
    assert (first - second).abs().max() < 6e-3
    assert ((first - before).abs() > 1e-3).float().mean() > 0.5


def test_the_usual_evaluation_is_that_of_this_project(small_npz, tmp_path):
    run_of_ours = common.prepare(
        *("mlp", small_npz, tmp_path / "run"), device="cpu", precision="float32", batch_size=16
    )
    split = load_data(str(small_npz)).val
    assert len(split) == 30  # a batch of 16 and one of 14
    loss, fraction = usual.evaluate(
        run_of_ours.model, usual_loader(split, batch_size=16, training=False), CPU
    )
    ours = common.main.evaluate(1, run_of_ours.model, run_of_ours.val_batches, run_of_ours.args)
    assert (loss, fraction) == pytest.approx(ours[:2], rel=1e-5)


# ------------------------------------------------------------------------------ what is counted


def network(model):
    return build_model(default_path(model), model, read_config(default_path(model), model))


def convolution(channels_in, channels_out, side, kernel=3):
    return channels_in * channels_out * kernel**2 * side**2


MLP_LAYERS = [3072 * 1024, 1024 * 512, 512 * 64, 64 * 64, 64 * 10]
RESNET_LAYERS = [
    convolution(3, 64, 32),
    *[convolution(64, 64, 32)] * 4,
    convolution(64, 128, 16),
    convolution(64, 128, 16, kernel=1),
    *[convolution(128, 128, 16)] * 3,
    convolution(128, 256, 8),
    convolution(128, 256, 8, kernel=1),
    *[convolution(256, 256, 8)] * 3,
    convolution(256, 512, 4),
    convolution(256, 512, 4, kernel=1),
    *[convolution(512, 512, 4)] * 3,
    512 * 10,
]
MIXER_LAYERS = [
    64 * (3 * 4 * 4) * 256,  # 64 patches of 4 x 4 pixels
    *[256 * (64 * 128 + 128 * 64), 64 * (256 * 1024 + 1024 * 256)] * 4,
    256 * 10,
]


@pytest.mark.parametrize(
    "model, layers",
    [("mlp", MLP_LAYERS), ("resnet18", RESNET_LAYERS), ("mlpmixer", MIXER_LAYERS)],
)
def test_multiply_adds_equal_a_count_by_hand(model, layers):
    """Backward is a product for the weights and one for the input, but of the image none."""
    assert hardware.count_multiply_adds(network(model)) == {
        "forward": sum(layers),
        "backward": 2 * sum(layers) - layers[0],
    }


def test_images_are_repeated_where_there_are_too_few(small_npz, tmp_path):
    path = tmp_path / "images.npz"
    assert common.write_images(str(small_npz), "data", 600, path) == "bands"
    images, labels = common.read_images(path)
    expected, expected_labels = common.to_arrays(load_data(str(small_npz)).train)  # 270 images
    assert (len(images), len(labels)) == (600, 600)
    assert np.array_equal(images[270:540], expected) and np.array_equal(images[:270], expected)
    assert np.array_equal(labels[540:], expected_labels[:60])
    assert len(load_data(str(path)).train) == 600  # none is set aside for validation


# ----------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "BENCHMARK"),
        (["speed"], "'speed'"),
        (["training", "--models", "lenet"], "lenet"),
        (["training", "--images", "0"], "--images"),
        (["training", "--workers", "-1"], "--workers"),
        (["training", "--repeats", "1.5"], "--repeats"),
        (["training", "--threads", "many"], "--threads"),
        (["training", "--device", "tpu"], "tpu"),
        (["training", "--data", "imagenet"], "imagenet"),
        (["training", "--data", "missing.npz"], "missing.npz"),
        (["training", "--json", "no/such/folder.json"], "no/such"),
        (["training", "--json", "."], "--json"),
        (["training", "--figure", "figure.xyz"], ".png"),
        (["growth", "--figure", "figure.png"], "--figure"),
        (["growth", "--batch_sizes", "0"], "--batch_sizes"),
        (["growth", "--device", "cpu", "--precision", "float16"], "float16"),
        (["accuracy", "--seeds", "0"], "--seeds"),
        (["accuracy", "--data", "imagenet"], "imagenet"),
        (["numpy_layers", "--workers", "2"], "--workers"),
    ],
)
def test_a_mistake_on_the_command_line_ends_in_one_line(arguments, words, capsys):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    output = capsys.readouterr()
    assert (status, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("benchmarks: error: ") and words in output.err


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_of_a_benchmark_ends_with_an_example_that_can_be_read(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    example = " ".join(text.partition("example: python -m benchmarks ")[2].split())
    assert example.startswith(name)
    assert "default: None" not in text
