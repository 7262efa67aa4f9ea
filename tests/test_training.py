"""Training, evaluation, and what a run leaves behind."""

import argparse
import copy
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

import main
import training.run
from main import evaluate, fit, parse_args, setup, train
from mlp import MLP
from mlpmixer import MLPMixer
from resnet18 import ResNet18
from training.augment import draw_share
from training.batches import Batches
from training.config import MODELS
from training.data import Split, load_data
from training.precision import Precision, pick_precision
from training.progress import Diverged, Progress
from training.run import build_optimizer
from utils import cross_entropy_loss

from conftest import ROOT, without_times


class NotebookArguments:
    """All that a student's own object has to have."""

    device = "cpu"
    print_every = 1


def plain_loader(number=10, batch_size=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, 3, 32, 32, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(number) % 10), batch_size=batch_size)


def small_model():
    torch.manual_seed(0)
    return MLP(3072, [16], 10)


def run_with(arguments, *more):
    return setup(parse_args([*arguments, *more]))


# ----------------------------------------------------------------------------- train, evaluate


def test_a_notebook_can_train_with_a_plain_loader_and_its_own_arguments():
    model, loader = small_model(), plain_loader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = train(0, model, loader, optimizer, NotebookArguments())
    for epoch in range(1, 15):
        last = train(epoch, model, loader, optimizer, NotebookArguments())
    loss, accuracy, seconds = evaluate(15, model, loader, NotebookArguments())
    assert all(type(value) is float for value in (*last, loss, accuracy, seconds))
    assert last[0] < first[0] / 2 and accuracy == 1.0 and seconds > 0


def test_an_epoch_takes_the_steps_of_a_loop_written_by_hand():
    """The oracle uses torch's own loss and an optimizer that is not fused."""
    model, loader = small_model(), plain_loader()
    oracle = copy.deepcopy(model)
    train(1, model, loader, torch.optim.AdamW(model.parameters(), fused=True), NotebookArguments())
    optimizer = torch.optim.AdamW(oracle.parameters(), fused=False)
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(oracle(images), labels).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_mixup_takes_the_steps_of_a_loop_written_by_hand():
    """The oracle mixes one-hot targets, as the paper does, and has torch's own loss."""
    model, loader, args = small_model(), plain_loader(), NotebookArguments()
    args.mixup, args.label_smoothing = 0.5, 0.1
    oracle = copy.deepcopy(model)
    torch.manual_seed(3)
    train(1, model, loader, torch.optim.SGD(model.parameters(), lr=0.1), args)
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.1)
    torch.manual_seed(3)
    for images, labels in loader:
        share = draw_share(0.5)
        pairs = list(zip(range(len(labels)), reversed(range(len(labels))), strict=True))
        mixed = torch.stack([share * images[i] + (1 - share) * images[j] for i, j in pairs])
        hot = torch.eye(10)[labels]
        target = torch.stack([share * hot[i] + (1 - share) * hot[j] for i, j in pairs])
        optimizer.zero_grad()
        nn.functional.cross_entropy(oracle(mixed), target, label_smoothing=0.1).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_mean_of_an_epoch_weighs_images_not_batches():
    """Ten images in batches of 4, 4 and 2 against all ten at once; the weights stand still."""
    model = small_model()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    images, labels = plain_loader().dataset.tensors
    loss = cross_entropy_loss(model(images), labels).item()
    accuracy = (model(images).argmax(dim=1) == labels).sum().item() / 10
    for measured in (
        train(1, model, plain_loader(), still, NotebookArguments()),
        evaluate(1, model, plain_loader(), NotebookArguments()),
    ):
        assert measured[:2] == pytest.approx((loss, accuracy), rel=1e-6)


def test_evaluation_changes_nothing_but_the_mode():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(10))
    model(torch.zeros(2, 3, 32, 32))
    before = copy.deepcopy(model.state_dict())
    evaluate(1, model, plain_loader(), NotebookArguments())
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_epoch_of_the_projects_own_batches_has_an_order_of_its_own(small_npz):
    batches = Batches(load_data(str(small_npz)).train, 64, training=True)
    seen = []

    class Recorder(MLP):
        def forward(self, images):
            seen.append(images.sum().item())
            return super().forward(images)

    model = Recorder(3072, [4], 10)
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in (1, 2, 1):
        train(epoch, model, batches, still, NotebookArguments())
    first, second, again = seen[: len(batches)], seen[len(batches) : -len(batches)], seen[-5:]
    assert first == again and first != second


class Transfers(TorchDispatchMode):
    """Notes operations that bring something from the CPU to a device, with the step they are in."""

    def __init__(self, progress):
        super().__init__()
        self.progress, self.seen = progress, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        # lift_fresh: a tensor of numbers that stand in the program.
        if len(devices) > 1 or (func is torch.ops.aten.lift_fresh.default and devices != {"cpu"}):
            self.seen.append((self.progress.steps, func))
        return result


@pytest.mark.parametrize(
    "model",
    [
        lambda: MLP(3072, [16], 10),
        lambda: ResNet18(),
        lambda: MLPMixer(10, 32, 8, 16, 2, drop_rate=0.1, drop_path_rate=0.1),
    ],
    ids=["mlp", "resnet18", "mlpmixer"],
)
@pytest.mark.parametrize("print_every", [4, 1000])
def test_no_step_waits_for_the_device_before_the_log_line(model, print_every):
    """On the device "meta", whose tensors have a shape and no numbers: whoever reads one fails.

    What is sent there would be noticed only by its slowness: a GPU has to end all of its work
    before it takes pageable memory. The first batch may send what every epoch sends once.
    """
    images = torch.zeros(640, 3, 32, 32, dtype=torch.uint8, device="meta")
    labels = torch.zeros(640, dtype=torch.long, device="meta")
    batches = Batches(Split(images, labels), 64, training=True, crop="padded", cutout=8)
    network = model().to("meta")
    args = NotebookArguments()
    args.device, args.print_every, args.mixup = "meta", print_every, 0.2
    progress = Progress()
    # The optimizer that is not fused: the fused one has no meta either.
    optimizer = torch.optim.AdamW(network.parameters(), fused=False)
    with Transfers(progress) as transfers, pytest.raises(NotImplementedError, match="no data"):
        train(1, network, batches, optimizer, args, progress=progress)
    assert progress.steps == min(print_every, len(batches))
    assert [(step, func) for step, func in transfers.seen if step > 0] == []


def test_a_loss_that_is_not_finite_stops_at_the_next_log_line_and_names_the_place():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(Diverged, match=r"nan .epoch 7, step [23], lr 1e\+30"):
        train(7, model, plain_loader(), optimizer, NotebookArguments())


def test_an_empty_loader_is_an_error_in_words():
    with pytest.raises(ValueError, match="dataloader is empty"):
        evaluate(1, small_model(), [], NotebookArguments())


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_every_optimizer_follows_its_arguments(name):
    """One step on a known gradient, written out: w = 1, g = 0.5, lr = 0.1, decay = 0.2."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    args = argparse.Namespace(optimizer=name, lr=0.1, momentum=0.9, weight_decay=0.2)
    optimizer = build_optimizer(model, args, torch.device("cpu"))
    for _ in range(2):
        model.weight.grad = torch.full((1, 1), 0.5)
        optimizer.step()

    weight, velocity, mean, square = 1.0, 0.0, 0.0, 0.0
    for step in (1, 2):
        gradient = 0.5 + (0.2 * weight if name != "adamw" else 0)
        velocity = 0.9 * velocity + gradient
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        adam = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
        decay = 0.2 * weight if name == "adamw" else 0
        weight -= 0.1 * {"sgd": gradient, "momentum": velocity}.get(name, adam + decay)
    assert model.weight.item() == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("constant", [1e-3, 1e-3, 1e-3, 1e-3]),
        ("cosine", [1e-3, 8.5355e-4, 5e-4, 1.4645e-4]),
        ("onecycle", [4e-5, 8.1175e-4, 2.8306e-4, 4e-9]),
    ],
)
def test_the_schedule_spans_all_steps_of_the_run(small_run, scheduler, expected):
    """With one step an epoch, the learning rate of every step is in the results."""
    run = run_with(small_run, "--scheduler", scheduler, "--batch_size", "300", "--epochs", "4")
    assert fit(run)["learning_rates"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_the_schedule_leaves_the_momentum_alone(small_run, optimizer):
    run = run_with(small_run, "--scheduler", "onecycle", "--optimizer", optimizer)
    keys = ("momentum", "betas")
    before = [run.optimizer.param_groups[0].get(key) for key in keys]
    fit(run)
    assert [run.optimizer.param_groups[0].get(key) for key in keys] == before


# ------------------------------------------------------------------------------------ the run


def test_a_run_learns_and_leaves_its_results_and_its_best_weights(small_run):
    run = run_with(small_run, "--epochs", "6")
    fit(run)
    results = json.loads((run.logdir / "results.json").read_text())
    for key in ("train_losses", "valid_losses", "train_accs", "valid_accs", "train_seconds"):
        assert len(results[key]) == 6
    assert results["valid_accs"][-1] > 0.5 > results["train_accs"][0]
    assert results["data"] | {"sha256": None} == {
        "name": "bands",
        "sha256": None,
        "split": "a tenth of the training images, drawn once with numpy.random.RandomState(0), "
        "validates",
        "train_images": 270,
        "valid_images": 30,
        "test_images": 50,
    }
    assert (results["seed"], results["parameters"]) == (42, 3072 * 16 + 16 + 16 * 10 + 10)
    assert results["versions"]["torch"] == torch.__version__

    # The file of the best weights is a plain state dict: a student's three lines.
    model = MLP(**results["model_config"])
    model.load_state_dict(torch.load(run.logdir / "best_model.pt", weights_only=True))
    best = results["best_epoch"] - 1
    assert best == results["valid_accs"].index(max(results["valid_accs"]))
    for batches, loss, accuracy in (
        (run.val_batches, results["valid_losses"][best], results["valid_accs"][best]),
        (run.test_batches, results["test_loss"], results["test_acc"]),
    ):
        assert evaluate(0, model, batches, run.args)[:2] == pytest.approx((loss, accuracy))


def test_the_results_are_on_disk_after_every_epoch(small_run, monkeypatch):
    run = run_with(small_run)
    on_disk = []

    def look_and_train(*arguments, **keywords):
        path = run.logdir / "results.json"
        on_disk.append(len(json.loads(path.read_text())["valid_accs"]) if path.exists() else 0)
        return train(*arguments, **keywords)

    monkeypatch.setattr(main, "train", look_and_train)
    fit(run)
    assert on_disk == [0, 1, 2]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(small_run, tmp_path):
    first = fit(run_with(small_run))
    second = fit(run_with(small_run, "--logdir", str(tmp_path / "second")))
    other = fit(run_with(small_run, "--logdir", str(tmp_path / "other"), "--seed", "43"))
    assert without_times(first) == without_times(second)
    assert first["train_losses"] != other["train_losses"]
    assert first["data"] == other["data"]


def test_training_on_a_subset_is_said_in_the_results(small_run):
    run = run_with(small_run, "--subset", "100", "--batch_size", "1000")
    assert fit(run)["data"]["name"] == "bands, 100 training images"
    assert len(run.train_batches.split) == 100


def test_label_smoothing_reaches_the_loss(small_run, tmp_path):
    plain = fit(run_with(small_run, "--lr", "1e-12"))
    arguments = ("--lr", "1e-12", "--label_smoothing", "0.9", "--logdir", str(tmp_path / "smooth"))
    smooth = fit(run_with(small_run, *arguments))
    assert plain["train_losses"] != smooth["train_losses"]
    assert plain["valid_losses"] == pytest.approx(smooth["valid_losses"])


@pytest.mark.parametrize("flags", [("--crop", "padded"), ("--cutout", "8"), ("--mixup", "0.2")])
def test_augmentation_reaches_the_training_images_alone(small_run, tmp_path, flags):
    plain = fit(run_with(small_run, "--lr", "1e-12"))
    more = fit(run_with(small_run, "--lr", "1e-12", *flags, "--logdir", str(tmp_path / "more")))
    assert plain["train_losses"] != more["train_losses"]
    assert plain["valid_losses"] == pytest.approx(more["valid_losses"])


@pytest.mark.parametrize("model", ["resnet18", "mlpmixer"])
def test_every_model_runs_with_the_configuration_that_comes_with_it(model, small_npz, tmp_path):
    arguments = ["--model", model, "--data", str(small_npz), "--epochs", "1", "--subset", "9"]
    where = ["--batch_size", "8", "--device", "cpu", "--logdir", str(tmp_path / "é è")]
    assert main.main([*arguments, *where, "--visualize"]) == 0
    figure = {"resnet18": "conv1_kernels.png", "mlpmixer": "token_mixing_units.png"}[model]
    names = {path.name for path in (tmp_path / "é è").iterdir()}
    assert names >= {figure, "train_accs.png", "valid_losses.png", "results.json"}
    assert (model == "mlpmixer") == ("token_mixing_pairs.pdf" in names)
    assert not [name for name in names if name.endswith(".tmp")]


def test_a_drawing_that_is_not_written_yet_does_not_spoil_the_training(
    small_run, tmp_path, capsys, monkeypatch
):
    def visualize(model, logdir):
        raise NotImplementedError("Problem 4.5: draw the kernels")

    monkeypatch.setattr(MLP, "visualize", visualize, raising=False)
    assert main.main([*small_run, "--visualize"]) == 0
    assert "the first layer is not drawn: Problem 4.5: draw the kernels" in capsys.readouterr().out
    assert len(list((tmp_path / "run").glob("*.png"))) == 6


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_is_that_of_the_products_and_the_weights_stay_in_float32(
    small_run, precision, monkeypatch
):
    try:
        pick_precision(precision, torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))
    dtypes = set()
    monkeypatch.setattr(
        main,
        "cross_entropy_loss",
        lambda logits, *rest: (dtypes.add(logits.dtype), cross_entropy_loss(logits, *rest))[1],
    )
    run = run_with(small_run, "--precision", precision)
    results = fit(run)
    assert dtypes == {getattr(torch, precision)} and results["precision"] == precision
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}


def test_float16_scales_the_loss_and_learns_like_float32(small_run, tmp_path, float16):
    half = fit(run_with(small_run, "--epochs", "6", "--precision", "float16"))
    whole = fit(run_with(small_run, "--epochs", "6", "--logdir", str(tmp_path / "float32")))
    assert (half["precision"], whole["precision"]) == ("float16", "float32")
    assert half["train_losses"] != whole["train_losses"]
    assert half["train_losses"] == pytest.approx(whole["train_losses"], abs=0.02)


def test_a_gradient_that_overflows_in_float16_skips_the_step_and_halves_the_scale():
    """Brightness 1e4 times the scale 65,536 is beyond 65,504; the next images are plain ones."""
    model, precision = small_model(), Precision("float16", "cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    images, labels = plain_loader().dataset.tensors
    bright = DataLoader(TensorDataset(1e4 * images, labels), batch_size=len(images))
    train(1, model, bright, optimizer, NotebookArguments(), precision=precision)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert precision.scaler.get_scale() == 65_536 / 2
    train(1, model, plain_loader(), optimizer, NotebookArguments(), precision=precision)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_resumed_run_in_float16_equals_an_uninterrupted_one(small_run, tmp_path, float16):
    """The scale is part of the state: it starts so high that the first steps overflow."""
    float16.append(2.0**40)
    for epochs in ("1", "3"):
        fit(run_with(small_run, "--epochs", epochs, "--resume", "auto", "--precision", "float16"))
    whole = [*small_run, "--logdir", str(tmp_path / "whole"), "--precision", "float16"]
    fit(run_with(whole, "--epochs", "3"))
    resumed, at_once = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["state"]
        for name in ("run", "whole")
    )
    assert 1 < resumed["scaler"]["scale"] < 2.0**40
    for key in ("model", "optimizer", "scaler", "history"):
        assert_same(resumed[key], at_once[key], key)


@pytest.fixture
def float16(monkeypatch):
    """Let --precision float16 run on the CPU, where only its speed is missing.

    A number that is appended to the list is the first scale.
    """
    scales = []

    def pick(name, device, previous=None):
        precision = Precision(name, device)
        if scales and precision.scaler.is_enabled():
            precision.scaler = torch.amp.GradScaler("cpu", init_scale=scales[0])
        return precision

    monkeypatch.setattr(training.run, "pick_precision", pick)
    return scales


# --------------------------------------------------------------------------------- resuming


@pytest.mark.slow  # fast: test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened
def test_a_killed_run_resumes_and_ends_as_if_nothing_had_happened(demanding_run, tmp_path):
    """Bit for bit: the weights, the state of the optimizer and the schedule, the history."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(logdir, *more):
        command = [sys.executable, ROOT / "main.py", *demanding_run, "--logdir", logdir, *more]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    uninterrupted = start(whole)
    victim = start(killed)
    deadline = time.monotonic() + 100
    while not (killed / "results.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    done = len(json.loads((killed / "results.json").read_text())["valid_accs"])
    assert 1 <= done < 12, "the run was to be killed on its way"
    assert start(killed, "--resume").wait() == 0 and uninterrupted.wait() == 0

    results = [json.loads((folder / "results.json").read_text()) for folder in (whole, killed)]
    assert without_times(results[0]) == without_times(results[1])
    for name in ("best_model.pt", "checkpoint.pt"):
        assert_same(*(torch.load(folder / name, weights_only=True) for folder in (whole, killed)))


def assert_same(one, other, key=""):
    """Compare nested structures bit for bit, except for the seconds."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), key
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            if name not in ("train_seconds", "valid_seconds"):
                assert_same(one[name], other[name], f"{key}.{name}")
    else:
        assert one == other, key


def test_a_finished_run_can_be_trained_further_with_a_constant_learning_rate(small_run, tmp_path):
    fit(run_with(small_run, "--epochs", "1"))
    longer = fit(run_with(small_run, "--resume"))
    assert without_times(longer) == without_times(
        fit(run_with(small_run, "--logdir", str(tmp_path / "at once")))
    )


def test_the_best_weights_are_written_again_if_the_run_ended_before_that(small_run):
    run = run_with(small_run, "--epochs", "1")
    results = fit(run)
    (run.logdir / "best_model.pt").unlink()
    again = fit(run_with(small_run, "--epochs", "1", "--resume"))
    assert again["test_acc"] == results["test_acc"]


@pytest.mark.parametrize("flag", [["--resume"], ["--resume", "auto"]])
def test_a_finished_run_is_loaded_and_not_tested_again(small_run, flag, monkeypatch, capsys):
    first = fit(run_with(small_run))
    path = Path(run_with(small_run, *flag).logdir, "results.json")
    written = path.read_bytes(), path.stat().st_mtime_ns

    def refuse(batches):
        raise AssertionError("a split is read")

    monkeypatch.setattr(Batches, "__iter__", refuse)
    capsys.readouterr()
    assert main.main([*small_run, *flag, "--visualize"]) == 0
    printed = capsys.readouterr().out
    assert "trained to the end: its results are loaded" in printed
    assert f"test accuracy of its weights {first['test_acc']:.4f}" in printed
    assert (path.read_bytes(), path.stat().st_mtime_ns) == written
    assert fit(run_with(small_run, *flag)) == first


@pytest.mark.parametrize("content", ["{", json.dumps({"train_seconds": []})])
def test_a_finished_run_whose_results_are_lost_is_tested_again(small_run, content):
    run = run_with(small_run)
    first = fit(run)
    (run.logdir / "results.json").write_text(content)
    assert without_times(fit(run_with(small_run, "--resume"))) == without_times(first)


@pytest.fixture
def student(tmp_path, monkeypatch):
    """A function that loads mlp.py or utils.py with parts replaced; main.py then uses it."""

    def load(name, *changes):
        path = tmp_path / "student" / name
        path.parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(f"student_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(module)
        if name == "mlp.py":
            monkeypatch.setitem(MODELS, "mlp", module.MLP)
        else:
            for user in (main, training.run):
                monkeypatch.setattr(user, "cross_entropy_loss", module.cross_entropy_loss)

    return load


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mlp.py", "linear(input, self.weight", "linear(input, -self.weight"),
        ("utils.py", "_mean(log_normalizer - target", "2 * _mean(log_normalizer - target"),
    ],
)
def test_other_code_than_that_of_the_run_in_the_folder_is_refused_with_both_ways_on(
    small_run, tmp_path, student, capsys, name, old, new
):
    """The corrected sign would give the old weights another accuracy, without a training."""
    student(name, (old, new))
    assert main.main(small_run) == 0
    student(name, (old, new))  # loaded again, the same
    assert main.main([*small_run, "--resume"]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    first = json.loads(before["results.json"])

    student(name)
    capsys.readouterr()
    assert main.main([*small_run, "--resume", "auto"]) == 2
    assert capsys.readouterr().err == (
        f"main.py: error: the code of {name} has changed since {tmp_path / 'run/checkpoint.pt'} "
        "was written: replace the run (--overwrite), or choose another --logdir\n"
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    for flags in (["--overwrite"], ["--logdir", str(tmp_path / "another")]):
        assert main.main([*small_run, *flags]) == 0
    for folder in ("run", "another"):
        results = json.loads((tmp_path / folder / "results.json").read_text())
        assert results["train_losses"] != first["train_losses"]


def test_a_drawing_that_is_written_after_the_training_costs_no_training(
    small_run, tmp_path, student, capsys
):
    student("mlp.py")
    assert main.main(small_run) == 0
    drawing = "    def visualize(self, logdir):\n        Path(logdir, 'drawn').touch()\n\n"
    student(
        "mlp.py",
        ("import math\n", "import math\nfrom pathlib import Path\n"),
        ("    def activation_fn", f"{drawing}    def activation_fn"),
    )
    capsys.readouterr()
    assert main.main([*small_run, "--resume", "--visualize"]) == 0
    assert "its results are loaded" in capsys.readouterr().out
    assert (tmp_path / "run" / "drawn").exists()


def test_a_run_of_an_earlier_version_resumes_although_it_does_not_know_its_code_and_all_flags(
    small_run, tmp_path, capsys
):
    assert main.main([*small_run, "--epochs", "1"]) == 0
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for key in ("source_sha256", "crop", "cutout", "mixup"):
        del content["identity"][key]
    torch.save(content, path)
    assert main.main([*small_run, "--resume", "--cutout", "8"]) == 2
    assert "cutout is 8, was 0" in capsys.readouterr().err
    assert main.main([*small_run, "--resume"]) == 0


def test_a_folder_with_a_run_in_it_is_not_overwritten_in_silence(small_run):
    run = run_with(small_run)
    fit(run)
    kept = (run.logdir / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run: .*--resume.*--overwrite.*--logdir"):
        run_with(small_run)
    assert (run.logdir / "results.json").read_bytes() == kept
    assert run_with(small_run, "--overwrite").epoch == 0


def test_results_without_a_checkpoint_are_not_overwritten_in_silence_either(small_run):
    run = run_with(small_run)
    fit(run)
    for path in run.logdir.glob("*checkpoint.pt"):
        path.unlink()
    with pytest.raises(ValueError, match="already holds a run"):
        run_with(small_run, "--resume", "auto")
    assert (run.logdir / "results.json").exists() and (run.logdir / "best_model.pt").exists()


def test_resume_wants_a_checkpoint_and_resume_auto_takes_what_there_is(small_run):
    with pytest.raises(ValueError, match=r"--resume: there is no .*checkpoint\.pt"):
        run_with(small_run, "--resume")
    fit(run_with(small_run, "--resume", "auto"))
    assert run_with(small_run, "--resume", "auto").epoch == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--lr", "0.5"), "lr is 0.5, was 0.001"),
        (("--seed", "1", "--batch_size", "8"), "batch_size is 8, was 64; seed is 1, was 42"),
        (("--data", "shapes"), "data_sha256 is"),
        (("--model_config", str(ROOT / "model_configs/mlp.json")), "model_config is .*1024, 512"),
        (("--epochs", "2"), "has 3 epochs, more than --epochs 2"),
        (("--scheduler", "cosine"), "scheduler is 'cosine', was 'constant'; epochs is 3, was None"),
    ],
)
def test_another_run_than_the_one_in_the_folder_is_refused_and_the_difference_named(
    small_run, change, message
):
    run = run_with(small_run)
    fit(run)
    with pytest.raises(ValueError, match=message) as caught:
        run_with(small_run, "--resume", *change)
    assert str(run.logdir / "checkpoint.pt") in str(caught.value)
