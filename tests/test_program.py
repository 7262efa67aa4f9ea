"""The programs of the sibling assignments, and what they leave however they end."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from training import checkpoint

from conftest import ROOT

FIGURES = ["curves", "features_first", "features_last", "filters_first", "filters_last"]
SINGLE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def regression(program, small_npz):
    """A function that trains a small MLP of the regression assignment, and returns the status."""
    train = program("regression")

    def run(*arguments, epochs=2):
        words = ["--data", small_npz, "--dense_hiddens", 4, "--epochs", epochs, *arguments]
        return train.main([str(word) for word in words])

    run.module = train
    return run


@pytest.fixture
def classifier(program, small_npz):
    """The same for Question 3.8 of the NumPy networks: an own network instead of the ResNet-18."""
    train = program("numpy_networks")

    def run(*arguments, epochs=2):
        words = ["--data", small_npz, "--epochs", epochs, "--device", "cpu", *arguments]
        build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))  # noqa: E731
        return train.main([str(word) for word in words], build=build, name="My MLP")

    run.module = train
    return run


@pytest.fixture(params=["regression", "classifier"])
def either(request):
    """Each of the two."""
    return request.getfixturevalue(request.param)


def results_of(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def state_of(folder):
    return checkpoint.load_checkpoint(folder / "checkpoint.pt", {})


def assert_same(first, second):
    """Two runs have the same weights, numbers and figures, bit by bit."""
    states = state_of(first), state_of(second)
    for name, tensor in states[0]["network"].items():
        assert torch.equal(tensor, states[1]["network"][name]), name
    for name in states[0]["history"].keys() - {"train_seconds"}:
        assert states[0]["history"][name] == states[1]["history"][name], name
    figures = [{path.name: path.read_bytes() for path in d.glob("*.png")} for d in (first, second)]
    assert figures[0] and figures[0] == figures[1]


def test_a_resnet18_is_trained_drawn_and_kept(program, small_npz, tmp_path, capsys):
    train, folder = program("numpy_networks"), tmp_path / "a run é"
    words = "--subset 8 --epochs 1 --device cpu --seed 0 --image 3 --activation tanh"
    arguments = [*words.split(), "--data", str(small_npz), "--logdir", str(folder)]
    assert train.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "ResNet-18: 11,173,962 parameters on cpu\nbands: 8 images train, 8 validate" in printed
    assert re.search(
        r"^ResNet-18: 11,173,962 parameters, 1 epochs, \d+ s of training$", printed, re.M
    )
    assert re.search(
        r"^best epoch, 1: validation loss \d\.\d{4}, accuracy \d\.\d{4}$", printed, re.M
    )
    assert max(map(len, printed.splitlines())) <= 80
    results = results_of(folder)
    assert results["finished"] == "trained to the end" and results["args"]["seed"] == 0
    for name in ("train_losses", "valid_losses", "train_accs", "valid_accs", "train_seconds"):
        assert len(results[name]) == 1 and math.isfinite(results[name][0])
    drawn = {path.stem: path.read_bytes() for path in folder.glob("*.png")}
    assert sorted(drawn) == FIGURES
    assert all(png.startswith(b"\x89PNG") and len(png) > 10_000 for png in drawn.values())

    network, image = train.load_model(folder)
    expected = np.load(small_npz)["test_images"][3].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert network.activation_str == "tanh" and not network.training
    assert torch.equal(
        network.state_dict()["linear.weight"], state_of(folder)["network"]["linear.weight"]
    )
    # Question 3.6 with another image: nothing is trained again.
    assert train.main([*arguments, "--resume", "--image", "5"]) == 0
    assert "resuming after epoch 1" in capsys.readouterr().out
    assert (folder / "features_first.png").read_bytes() != drawn["features_first"]
    assert not torch.equal(train.load_model(folder)[1], image)


def test_an_own_network_is_trained_in_the_same_way_under_its_own_name(classifier, tmp_path, capsys):
    assert classifier("--logdir", "own") == 0
    assert "My MLP: 30,730 parameters" in capsys.readouterr().out
    results = results_of(tmp_path / "own")
    assert (results["network"], results["parameters"]) == ("My MLP", 30_730)
    assert [path.name for path in (tmp_path / "own").glob("*.png")] == ["curves.png"]
    with pytest.raises(SystemExit):  # its activation is its own affair
        classifier("--activation", "tanh")


def test_the_regression_writes_its_numbers_its_times_and_a_figure(regression, tmp_path, capsys):
    assert regression("--logdir", "a") == 0
    results = results_of(tmp_path / "a")
    assert results["seed"] == 197331 and results["parameters"] == 3072 * 4 + 4 + 5
    for name in ("train_loss", "test_loss", "train_mae", "test_mae", "train_seconds"):
        assert len(results[name]) == 2
    printed = capsys.readouterr().out
    assert f"test loss {results['test_loss'][-1]:.3f} MAE {results['test_mae'][-1]:.3f}" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert (tmp_path / "a" / "mae.png").read_bytes().startswith(b"\x89PNG")


def test_two_trainers_in_one_process_are_two_commands(regression, small_npz, tmp_path):
    """As the README invites: a loop over learning rates in a notebook."""
    for name in ("first", "second"):
        assert regression("--logdir", name) == 0
    layers = regression.module.NetworkConfiguration(dense_hiddens=(4,))
    logs = regression.module.make_trainer(str(small_npz), net_config=layers).train_loop(2)
    for folder in ("first", "second"):
        assert {name: results_of(tmp_path / folder)[name] for name in logs} == logs


def test_a_run_in_two_parts_equals_one_in_one(either, tmp_path):
    assert either("--logdir", "whole", epochs=3) == 0
    assert either("--logdir", "parts", epochs=1) == 0
    assert either("--logdir", "parts", "--resume", epochs=3) == 0
    assert_same(tmp_path / "whole", tmp_path / "parts")


# train.py with a pause in the second epoch: the 300 images are three batches.
PAUSES = """
import sys
import torch
from torch import nn
from train import main

step, steps = torch.optim.Adam.step, []

def step_and_pause(self, *arguments):
    step(self, *arguments)
    steps.append(self)
    if len(steps) == 5:
        print("paused", flush=True)
        sys.stdin.read()

torch.optim.Adam.step = step_and_pause
"""
OWN = "main(sys.argv[1:], lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), 'My MLP')"


@pytest.mark.parametrize(
    ("assignment", "fixture", "flags", "call"),
    [
        ("regression", "regression", ["--dense_hiddens", "4"], "main(sys.argv[1:])"),
        ("numpy_networks", "classifier", ["--device", "cpu"], OWN),
    ],
    ids=["regression", "numpy_networks"],
)
def test_kill_9_costs_only_the_epoch_in_progress(
    assignment, fixture, flags, call, request, small_npz, tmp_path, capsys
):
    train = request.getfixturevalue(fixture)
    assert train("--logdir", "whole", epochs=3) == 0
    command = [sys.executable, "-c", PAUSES + call, "--data", str(small_npz), "--epochs", "3"]
    with subprocess.Popen(
        [*command, "--logdir", "killed", *flags],
        cwd=tmp_path,
        env={**SINGLE, "PYTHONPATH": str(ROOT / assignment)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while process.stdout.readline() not in ("paused\n", ""):
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(results_of(tmp_path / "killed")["train_seconds"]) == 1
    capsys.readouterr()
    assert train("--logdir", "killed", "--resume", epochs=3) == 0
    assert "resuming after epoch 1\nepoch   2/3  " in capsys.readouterr().out
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_what_is_there_is_not_overwritten_in_silence(either, tmp_path, capsys):
    assert either("--logdir", "a", epochs=1) == 0
    assert either("--logdir", "a", epochs=1) == 2
    assert "already holds a run: resume it (--resume)" in capsys.readouterr().err
    assert either("--logdir", "a", "--resume", "--lr", "0.5") == 2
    assert "belongs to another run: lr is 0.5, was 0.001" in capsys.readouterr().err
    assert either("--logdir", "a", "--overwrite") == 0
    assert len(results_of(tmp_path / "a")["train_seconds"]) == 2


def test_nan_in_a_late_epoch_keeps_the_epochs_before_it(classifier, tmp_path, capsys):
    train = classifier.module
    real = train.train_loop

    def train_loop(epoch, model, *others):
        accuracy, loss = real(epoch, model, *others)
        if epoch == 3:
            model[1].weight.data.fill_(math.nan)
        return accuracy, loss if epoch < 3 else math.nan

    train.train_loop = train_loop
    assert classifier("--logdir", "a", epochs=5) == 1
    error = capsys.readouterr().err
    assert error == "train.py: stopped: train_losses is nan in epoch 3; a smaller --lr may help\n"
    results = results_of(tmp_path / "a")
    assert len(results["train_losses"]) == 2 and results["finished"].startswith("diverged: ")
    assert state_of(tmp_path / "a")["network"]["1.weight"].isfinite().all()
    assert (tmp_path / "a" / "curves.png").exists()


def test_nan_in_the_first_epoch_is_one_line(regression, tmp_path, capsys):
    assert regression("--logdir", "a", "--lr", "1e30") == 1
    assert capsys.readouterr().err.startswith("train.py: stopped: train_loss is ")
    assert results_of(tmp_path / "a")["finished"].startswith("diverged: train_loss is ")


@pytest.mark.parametrize(
    "kind",
    [torch.tensor, np.float32, lambda x: torch.tensor([x], requires_grad=True), np.array],
    ids=["tensor", "NumPy", "attached", "array"],
)
def test_a_loop_may_return_any_kind_of_number(kind, classifier, tmp_path):
    train = classifier.module
    train.train_loop = lambda *arguments: (kind(0.25), kind(2.0))
    assert classifier("--logdir", "a", epochs=1) == 0
    results = results_of(tmp_path / "a")
    assert (results["train_accs"], results["train_losses"]) == ([0.25], [2.0])


def test_a_loop_that_returns_something_else_is_named(classifier):
    classifier.module.valid_loop = lambda *arguments: None
    with pytest.raises(TypeError, match=r"valid_loop returns None; expected \(accuracy, loss\)"):
        classifier("--logdir", "a")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_finished_epochs(number, small_npz, tmp_path):
    command = [sys.executable, str(ROOT / "regression" / "train.py"), "--data", str(small_npz)]
    command += ["--dense_hiddens", "4", "--logdir", "a", "--epochs"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "100000"], cwd=tmp_path, env=SINGLE, **pipes) as process:
        for line in process.stdout:
            if line.startswith("epoch   2/"):
                process.send_signal(number)
                break
        _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert re.fullmatch(r".* after epoch \d+; repeat the command with --resume\n", error)
    done = len(results_of(tmp_path / "a")["train_mae"])
    assert done >= 1
    resumed = subprocess.run(
        [*command, str(done + 1), "--resume"],
        cwd=tmp_path,
        env=SINGLE,
        capture_output=True,
        text=True,
    )
    assert f"resuming after epoch {done}\nepoch " in resumed.stdout and resumed.returncode == 0


@pytest.mark.parametrize(
    ("assignment", "arguments", "words"),
    [
        ("numpy_networks", "--data none.npz", "none.npz: No such file"),
        ("numpy_networks", "--data mnist", "'mnist' is no data set"),
        ("numpy_networks", "--epochs 0", "'0' is not a whole number of 1 or more"),
        ("numpy_networks", "--lr nan", "'nan' is not a number above 0"),
        ("numpy_networks", "--activation sine", "invalid choice: 'sine'"),
        ("numpy_networks", "--device abacus", "--device is 'abacus'"),
        ("numpy_networks", "--resume", "there is no exps/numpy_networks/checkpoint.pt"),
        ("numpy_networks", "--image 50", "--image is 50; the last one is 49"),
        ("regression", "--network rnn", "'rnn'"),
        ("regression", "--epoch 3", "did you mean --epochs?"),
        ("regression", "--network cnn --strides 1", "--strides 1"),
        ("regression", "--network cnn --kernel_sizes 40 3 3", "convolution 1 has kernels of 40"),
        ("regression", "--network cnn --kernel_sizes 3 20 3", "convolution 2 has kernels of 20"),
        ("regression", "--dense_hiddens 0", "'0' is not a whole number"),
        ("regression", "--logdir data.npz/run", "data.npz"),
    ],
)
def test_a_mistake_is_one_line(assignment, arguments, words, program, small_npz, capsys):
    shutil.copy(small_npz, "data.npz")
    data = [] if "--data" in arguments else ["--data", "data.npz"]
    try:
        status = program(assignment).main([*arguments.split(), *data])
    except SystemExit as ended:  # argparse ends the program itself
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1
    assert error.startswith("train.py: error: ") and words in error
