"""The benchmarks measure what they report. No test depends on how fast anything is."""

import contextlib
import json
import math
import os
import re
import statistics
from unittest import mock

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from benchmarks import accuracy, baseline, common, growth, hardware, memory, reproduce
from benchmarks import training as benchmark
from benchmarks.__main__ import BENCHMARKS, main, make_parser
from training.arguments import parse_args
from training.augment import RATIO, SCALE, flip_and_crop
from training.batches import MEAN, STD, Batches
from training.config import MODELS, build_model, default_path, read_config
from training.data import Split, load_data

CPU = torch.device("cpu")
ON_CPU = ("--device", "cpu", "--precision", "float32")


@contextlib.contextmanager
def threads_restored():
    """Undo what ``--threads`` changes for the whole process."""
    threads = torch.get_num_threads()
    with mock.patch.dict(os.environ):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def threads_of_each_test():
    with threads_restored():
        yield


def random_split(number):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(number) % 10)


def make_loader(split, workers=0, batch_size=128, training=True):
    """A loader of the baseline."""
    return baseline.make_loader(
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
def trained(small_npz, tmp_path_factory):
    """The folder of the results of two models on two images, with small matrix products.

    The memory is not measured: that starts processes, and has a test of its own.
    """
    folder = tmp_path_factory.mktemp("training")
    arguments = [
        *("training", "--models", "mlp", "resnet18", "--images", "2", "--workers", "0", "1"),
        *("--repeats", "2", "--threads", "1", "--data", str(small_npz), *ON_CPU),
        *("--json", str(folder / "t.json"), "--figure", str(folder / "t.png")),
    ]
    peaks = [{"peak": n * 10**9, "before": 10**9} for n in (6, 3, 5, 2)]
    with (
        threads_restored(),
        mock.patch.object(memory, "measure_peak", side_effect=peaks),
        mock.patch.dict(hardware.SIDES, cpu=(64,)),
    ):
        assert main(arguments) == 0
    return folder


@pytest.fixture
def results(trained):
    return json.loads((trained / "t.json").read_text())


@pytest.fixture
def text(results):
    return benchmark.to_table(results)


def test_the_training_benchmark_measures_all_loaders_and_all_models(results):
    names = ["baseline, 0 workers", "baseline, 1 worker", "ours"]
    assert [row["model"] for row in results["models"]] == ["mlp", "resnet18"]
    for row in results["models"]:
        assert list(row["epoch"]) == names
        assert list(row["step"]) == ["baseline", "ours"]
        assert (row["images"], row["batch"], row["steps"]) == (2, 2, 1)
        for seconds in (*row["epoch"].values(), *row["step"].values()):
            assert len(seconds) == 2
            assert_all_positive(seconds)
    assert list(results["pipeline"]["seconds"]) == names
    assert results["threads"] == 1 and results["precision"] == "float32"
    assert list(results["limits"]) == ["float32"]
    assert_all_positive([limit["rate"] for limit in results["limits"].values()])


def test_the_table_fits_into_80_columns_and_has_the_medians_of_the_ratios(results, text):
    assert_fits_into_80_columns(text)
    for row in results["models"]:
        for name in ("baseline, 0 workers", "baseline, 1 worker"):
            median = np.median(np.divide(row["epoch"][name], row["epoch"]["ours"]))
            (found,) = re.findall(
                rf"^{row['model']} +{name} .* (\S+) \(\S+-\S+\)$", text, re.MULTILINE
            )
            assert float(found.replace(",", "")) == pytest.approx(median, rel=0.01)
        speed = 2 / np.median(row["epoch"]["ours"])
        assert re.search(rf"^{row['model']} +ours .* {speed:,.0f}$", text, re.MULTILINE)


def test_the_share_of_the_limit_follows_from_the_other_numbers(results, text):
    row = results["models"][1]
    multiply_adds = 3 * sum(RESNET_LAYERS) - RESNET_LAYERS[0]
    rate = multiply_adds * 2 / np.median(row["epoch"]["ours"])
    share = rate / results["limits"]["float32"]["rate"]
    expected = f"resnet18 {multiply_adds / 1e6:,.1f} ours {rate / 1e9:,.1f} {share:.1%} "
    assert expected in re.sub(" +", " ", text)


def test_the_table_has_the_memory_of_both_and_their_ratio(text):
    lines = re.sub(" +", " ", text).splitlines()
    assert "mlp 6,000 3,000 2.00 1,000" in lines and "resnet18 5,000 2,000 2.50 1,000" in lines


def test_the_bars_of_the_figure_are_medians_scaled_to_an_epoch_of_cifar10(trained, results):
    pixels = imread(trained / "t.png")
    assert pixels.shape[1] > 900 and (pixels[0, 0] == 1).all()
    axes = benchmark.draw(results).axes
    for ax, row in zip(axes, results["models"], strict=True):
        medians = [np.median(seconds) for seconds in row["epoch"].values()]
        heights = [bar.get_height() for bar in ax.patches]
        assert heights == pytest.approx(45_000 / 2 * np.array(medians))


@pytest.mark.slow
def test_the_memory_of_training_holds_the_weights_and_the_state_of_the_optimizer(
    small_npz, tmp_path
):
    """Weights, gradients and two moments: four float32 numbers per parameter."""
    common.write_images(str(small_npz), "data", 10, tmp_path / "images.npz")
    parameters = 3_709_194
    for way in ("baseline", "ours"):
        peak = memory.measure_peak(way, "mlp", tmp_path / "images.npz", "cpu", "float32")
        if peak["peak"] == 0:
            pytest.skip("this system does not report the peak memory of a process")
        assert 4 * 4 * parameters < peak["peak"] - peak["before"] < 2**31


def test_the_growth_benchmark_measures_epochs_of_each_size(small_npz, tmp_path, capsys):
    arguments = ["--images", "200", "50", "--batch_sizes", "40", "--repeats", "2", *ON_CPU]
    path = tmp_path / "g.json"
    assert main(["growth", "--data", str(small_npz), *arguments, "--json", str(path)]) == 0
    text, results = capsys.readouterr().out, json.loads(path.read_text())
    assert_fits_into_80_columns(text)
    sizes = [(row["images"], row["batch_size"]) for row in results["images"]]
    assert sizes == [(50, 128), (200, 128)]
    assert [(row["images"], row["batch_size"]) for row in results["batch_sizes"]] == [(200, 40)]
    for row in results["images"] + results["batch_sizes"]:
        assert len(row["seconds"]) == 2
        assert_all_positive(row["seconds"])
    assert re.search(r"^ +200 +40 ", text, re.M) and "seconds grow as images ** " in text


def test_the_exponent_of_quadratic_growth_is_2():
    rows = [{"images": n, "seconds": [3e-6 * n**2, 0.0, 9e9]} for n in (1_000, 5_000, 20_000)]
    assert growth.exponent(rows) == pytest.approx(2)


def test_the_baseline_and_ours_learn_what_can_be_learnt(small_npz, tmp_path, capsys):
    """Three epochs on bright bands, whose chance level is 0.1."""
    path = tmp_path / "a.json"
    arguments = ["--epochs", "3", "--seeds", "2", "--workers", "0", *ON_CPU]
    assert main(["accuracy", "--data", str(small_npz), *arguments, "--json", str(path)]) == 0
    text, results = capsys.readouterr().out, json.loads(path.read_text())
    assert_fits_into_80_columns(text)
    assert results["split"] == [270, 30, 50]
    for way in ("baseline", "ours"):
        runs = [entry[way] for entry in results["runs"]]
        assert len(runs) == 2 and all(len(entry["valid_accs"]) == 3 for entry in runs)
        assert_all_positive([entry["seconds"] for entry in runs])
        scores = [100 * entry["test_acc"] for entry in runs]
        assert min(scores) > 50
        expected = f"{np.mean(scores):.2f} ± {np.std(scores, ddof=1):.2f}"
        assert re.search(rf"^{way} +{expected} ", text, re.M)


# --------------------------------------------------------------------------------- the baseline


@pytest.mark.slow
def test_reproduce_trains_every_run_once_and_its_table_has_means_over_the_seeds(
    small_npz, tmp_path, capsys
):
    arguments = ["reproduce", "--only", "mlp", "--data", str(small_npz), *ON_CPU]
    arguments += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "mlp, seed 43: 15 of 15 epochs, about 0 min\n" in printed
    runs = [json.loads((tmp_path / "results" / f"mlp-{s}.json").read_text()) for s in (42, 43, 44)]
    accs = [run["test_acc"] for run in runs]
    cells = [cell.strip() for cell in printed.splitlines()[-3].strip("|").split("|")]
    assert cells[:4] == ["MLP", "default", "15", "3"]
    assert cells[5] == f"{statistics.mean(accs):.3f} ± {statistics.stdev(accs):.3f}"
    assert printed.endswith("python main.py --model mlp --seed 42\n")
    for run in runs:
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?|unknown", run["commit"])
        args = vars(parse_args(run["command"].split()[2:]))
        assert args.keys() - run["args"].keys() == {"data", "data_dir", "logdir"}
        differing = {key for key, value in run["args"].items() if value != args[key]}
        assert differing <= {"device", "precision", "resume"}
    # Again: nothing is left to train.
    for again in (arguments, [*arguments, "--table"]):
        assert main(again) == 0
        assert "train loss" not in (output := capsys.readouterr().out)
        assert output.endswith(printed[-300:])
    figure = reproduce.draw(
        reproduce.measure(make_parser("reproduce", reproduce).parse_args(again))
    )
    left, right = figure.axes
    for line, run in zip(left.lines, runs, strict=True):
        assert line.get_ydata().tolist() == pytest.approx([100 * x for x in run["valid_accs"]])
    assert not right.lines


def test_a_run_of_reproduce_that_cannot_resume_ends_it_with_one_line(small_npz, tmp_path, capsys):
    damaged = tmp_path / "runs" / "mlp-42" / "checkpoint.pt"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("no checkpoint")
    arguments = ["reproduce", "--only", "mlp", "--data", str(small_npz), *ON_CPU]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--results", str(tmp_path), "--runs", str(tmp_path / "runs")])
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and "is damaged" in errors


def test_every_command_of_reproduce_is_one_of_main():
    for training in reproduce.TRAININGS:
        args = parse_args(training.command(7).split()[2:])
        assert args.seed == 7 and training.name.startswith(args.model)


def test_pixels_of_the_baseline_equal_ours_to_the_rounding_of_pil():
    """With the same flips and boxes; PIL rounds to whole grey levels, twice."""
    transform = baseline.make_transform(training=True)
    flipped = 0
    for seed, image in enumerate(random_split(100).images):
        picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        torch.manual_seed(seed)
        found = transform(picture)
        torch.manual_seed(seed)  # the draws of the transforms, in their order
        flip = torch.rand(1) < 0.5
        box = RandomResizedCrop.get_params(picture, list(SCALE), list(RATIO))
        ours = flip_and_crop(image.unsqueeze(0), flip, torch.tensor([box]))[0]
        grey_levels = (found - standardise(ours)).abs() * torch.tensor(STD).view(3, 1, 1) * 255
        assert grey_levels.max() <= 1.01
        flipped += flip.item()
    assert 20 < flipped < 80


def test_evaluation_images_of_the_baseline_equal_ours():
    split = random_split(300)
    ours = Batches(split, batch_size=128)
    theirs = make_loader(split, training=False)
    assert len(ours) == len(theirs) == 3
    for (images, labels), (their_images, their_labels) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(images, their_images, rtol=0, atol=1e-5)
        assert torch.equal(labels, their_labels) and labels.dtype == their_labels.dtype


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_of_the_baseline_has_every_image_once_in_a_new_order(workers):
    """A crop keeps the colour of an image of one colour, which identifies the image."""
    index = torch.arange(250)
    images = index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    loader = make_loader(Split(images, index), workers=workers, batch_size=100)
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


def test_the_same_batches_lead_the_baseline_and_ours_to_the_same_weights(small_npz, tmp_path):
    """The loss, the optimizer and its settings are equal; only pipeline and speed differ.

    AdamW divides a gradient by its magnitude. If a gradient is near zero, rounding decides the sign
    of a step of 1e-3: few weights may differ, by at most three steps in opposite directions.
    """
    ours = common.setup(
        *("mlp", small_npz, tmp_path / "run"), device="cpu", precision="float32", seed=3
    )
    theirs = accuracy.build_network("mlp", seed=3)
    for first, second in zip(ours.model.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(first, second)
    start = [parameter.detach().clone() for parameter in theirs.parameters()]
    batches = list(ours.train_batches)[:2] + list(ours.val_batches)
    loss, fraction = baseline.train(theirs, batches, baseline.make_optimizer(theirs), CPU)
    assert 1.5 < loss < 5 and 0 <= fraction < 0.5
    common.train(ours, batches)
    first, second, before = (
        torch.cat([parameter.flatten() for parameter in parameters])
        for parameters in (ours.model.parameters(), theirs.parameters(), start)
    )
    assert ((first - second).abs() > 1e-5).float().mean() < 0.01
    assert (first - second).abs().max() < 6e-3
    assert ((first - before).abs() > 1e-3).float().mean() > 0.5


def test_the_baseline_evaluates_as_ours(small_npz, tmp_path):
    run_of_ours = common.setup(
        *("mlp", small_npz, tmp_path / "run"), device="cpu", precision="float32", batch_size=16
    )
    split = load_data(str(small_npz)).val
    assert len(split) == 30  # a batch of 16 and one of 14
    loss, fraction = baseline.evaluate(
        run_of_ours.model, make_loader(split, batch_size=16, training=False), CPU
    )
    ours = common.main.evaluate(1, run_of_ours.model, run_of_ours.val_batches, run_of_ours.args)
    assert (loss, fraction) == pytest.approx(ours[:2], rel=1e-5)


# ------------------------------------------------------------------------------ what is counted


def network(model):
    return build_model(default_path(model), MODELS[model], read_config(default_path(model), model))


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
    """Backward has a product for the weights and one for the input, except for the image."""
    assert hardware.count_multiply_adds(network(model)) == {
        "forward": sum(layers),
        "backward": 2 * sum(layers) - layers[0],
    }


def test_images_are_repeated_if_there_are_too_few(small_npz, tmp_path):
    path = tmp_path / "images.npz"
    assert common.write_images(str(small_npz), "data", 600, path) == "bands"
    images, labels = common.read_images(path)
    expected, expected_labels = common.to_arrays(load_data(str(small_npz)).train)  # 270 images
    assert (len(images), len(labels)) == (600, 600)
    assert np.array_equal(images[270:540], expected) and np.array_equal(images[:270], expected)
    assert np.array_equal(labels[540:], expected_labels[:60])
    assert len(load_data(str(path)).train) == 600  # validation has its own image


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
    assert re.match(r"python -m benchmarks( [a-z_]+)?: error: ", output.err) and words in output.err


def test_the_number_of_threads_is_that_of_pytorch_and_of_the_libraries_of_numpy():
    """The benchmark ends before it computes anything: float16 needs a GPU."""
    assert main(["growth", "--threads", "3", "--device", "cpu", "--precision", "float16"]) == 2
    assert torch.get_num_threads() == 3
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "3"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_help_of_a_benchmark_states_each_default_once_and_ends_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    example = " ".join(text.partition("example: python -m benchmarks ")[2].split())
    assert example.startswith(name)
    assert "None" not in text
    flags = re.split(r"\n  -", text.partition("example: ")[0])[2:]  # after the usage and -h
    assert all(flag.count("default: ") <= 1 for flag in flags)
