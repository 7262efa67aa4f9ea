"""The command line as a student meets it: the mistakes, the help, the output."""

import json
import math
import os
import subprocess
import sys

import pytest

import main
from training.config import MODELS, build_model, default_path, read_config

from conftest import ROOT


def write(folder, text):
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8")
    return str(path)


def mlp_with(**changes):
    config = {"input_size": 3072, "hidden_sizes": [8], "num_classes": 10, "activation": "relu"}
    return json.dumps(config | changes)


def mixer_with(**changes):
    config = json.loads(default_path("mlpmixer").read_text())
    return json.dumps(config | changes)


def error_of(arguments, capsys):
    """Run main.py with a mistake; return its one line after checking the exit status."""
    try:
        status = main.main(arguments)
    except SystemExit as exit:  # argparse ends the program itself
        status = exit.code
    output = capsys.readouterr()
    assert status == 2
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("main.py: error: ")
    return output.err


# --------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--model resnet", ["--model", "'resnet'", "mlp", "resnet18", "mlpmixer"]),
        ("--epoch 3", ["unrecognized arguments: --epoch 3; did you mean --epochs?"]),
        ("--batch-size=64", ["--batch-size=64; did you mean --batch_size?"]),
        ("--frobnicate", ["unrecognized arguments: --frobnicate\n"]),
        ("seven", ["unrecognized arguments: seven\n"]),
        ("--epochs 0", ["--epochs", "'0'", "1 or more"]),
        ("--batch_size 12.5", ["--batch_size", "'12.5'", "whole number"]),
        ("--lr 0", ["--lr", "'0'", "above 0"]),
        ("--lr fast", ["--lr", "'fast'"]),
        ("--weight_decay -1", ["--weight_decay"]),
        ("--weight_decay nan", ["--weight_decay", "'nan'"]),
        ("--momentum 1", ["--momentum", "'1'", "less than 1"]),
        ("--seed -1", ["--seed"]),
        ("--seed 4294967296", ["--seed", "2**32"]),
        ("--optimizer rmsprop", ["--optimizer", "'rmsprop'", "adamw"]),
        ("--device gpu", ["--device", "'gpu'", "auto, cpu, cuda, cuda:N or mps"]),
        ("--device cuda:99", ["--device", "'cuda:99'", "--device auto"]),
        ("--precision float16 --device cpu", ["--precision float16", "CUDA"]),
        ("--precision tf32 --device cpu", ["--precision tf32", "NVIDIA GPU, Ampere or later"]),
        ("--data cifar100", ["'cifar100'", "cifar10, shapes", ".npz"]),
        ("--data no/such/file.npz", ["no/such/file.npz", "No such file"]),
        ("--model_config no/such.json", ["no/such.json", "No such file"]),
        ("--subset 20000 --data shapes", ["--subset", "20000", "9000"]),
        ("--resume --overwrite", ["--resume", "--overwrite", "choose one"]),
        ("--resume --data shapes", ["--resume", "checkpoint.pt"]),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(
    arguments, parts, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # a mistake that is not noticed must not leave a run behind
    message = error_of(arguments.split(), capsys)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("model", "text", "parts"),
    [
        ("mlp", '{"input_size": 3072,\n "num_classes": 10,\n}', ["not JSON", "line", "comma"]),
        ("mlp", "", ["line 1", "not JSON"]),
        ("mlp", "[1, 2]", ["must hold an object"]),
        ("mlp", mlp_with(hidden_size=[8]), ["'hidden_size' is not a key of mlp", "hidden_sizes"]),
        ("mlp", '{"input_size": 3072, "num_classes": 10}', ["'hidden_sizes' is missing"]),
        ("mlp", mlp_with(hidden_sizes=[]), ["hidden_sizes is empty"]),
        ("mlp", mlp_with(hidden_sizes=8), ["'hidden_sizes' is 8", "a list"]),
        ("mlp", mlp_with(hidden_sizes=[8, "8"]), ["'hidden_sizes'", "a list", "an integer"]),
        ("mlp", mlp_with(hidden_sizes=[0]), ["hidden_sizes", "0", "at least 1"]),
        ("mlp", mlp_with(num_classes="10"), ["'num_classes' is \"10\"", "an integer"]),
        ("mlp", mlp_with(num_classes=True), ["'num_classes' is true", "an integer"]),
        ("mlp", mlp_with(num_classes=9), ["num_classes is 9", "labels up to 9"]),
        (
            "mlp",
            mlp_with(hidden_sizes=[8, 10**12]),
            ["'hidden_sizes' is [8, 10", "limit is 100,000"],
        ),
        pytest.param("mlp", "1" * 5000, ["not JSON that can be read", "digits"], id="digits"),
        pytest.param("mlp", "[" * 100_000, ["not JSON that can be read"], id="brackets"),
        ("mlpmixer", mixer_with(drop_rate=math.nan), ["NaN is not a number in JSON"]),
        ("mlp", mlp_with(activation="swish"), ["activation", "'swish'", "relu, tanh, sigmoid"]),
        ("mlp", mlp_with(input_size=784), ["input_size is 784", "3072"]),
        ("resnet18", mlp_with(), ["'input_size' is not a key of resnet18", "num_classes"]),
        ("mlpmixer", mlp_with(), ["'input_size' is not a key of mlpmixer"]),
        ("mlpmixer", mixer_with(patch_size=5), ["patch_size is 5", "1, 2, 4, 8, 16, 32"]),
        ("mlpmixer", mixer_with(img_size=64), ["img_size is 64", "32 x 32"]),
        ("mlpmixer", mixer_with(drop_rate=1), ["drop_rate is 1", "less than 1"]),
        ("mlpmixer", mixer_with(tokens_mlp_dim=2.5), ["'tokens_mlp_dim' is 2.5", "or null"]),
        ("mlpmixer", mixer_with(activation="tanh"), ["'tanh'", "gelu, relu"]),
    ],
)
def test_a_mistake_in_a_configuration_is_named_with_the_file_and_the_key(
    model, text, parts, capsys, tmp_path
):
    path = write(tmp_path, text)
    arguments = ["--model", model, "--model_config", path, "--data", "shapes"]
    message = error_of([*arguments, "--logdir", str(tmp_path / "run")], capsys)
    assert path in message
    assert all(part in message for part in parts), message


def test_a_configuration_that_is_not_text_is_named(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    message = error_of(["--model_config", str(path), "--data", "shapes"], capsys)
    assert "config.json is not a text file in UTF-8" in message


def test_a_logdir_that_cannot_be_written_to_is_named_before_anything_is_trained(
    small_run, tmp_path, capsys
):
    (tmp_path / "file").write_text("not a folder")
    message = error_of([*small_run, "--logdir", str(tmp_path / "file" / "run")], capsys)
    assert str(tmp_path / "file") in message


def test_no_network_is_one_line_too(tmp_path, capsys, monkeypatch):
    """The address is one that refuses, so that nothing is downloaded where there is a network."""
    cifar10 = pytest.importorskip("torchvision.datasets").CIFAR10
    monkeypatch.setattr(cifar10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    message = error_of(["--data_dir", str(tmp_path / "none")], capsys)
    assert "cifar-10-python.tar.gz" in message and "--data shapes" in message


def test_a_mistake_shows_no_traceback_in_a_real_terminal_either(tmp_path):
    command = [sys.executable, ROOT / "main.py", "--data", "shapes", "--model_config", "none.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "main.py: error: none.json: No such file or directory\n"
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_run_says_so_and_what_to_try(small_run, capsys, tmp_path):
    arguments = [*small_run, "--optimizer", "sgd", "--lr", "1e30", "--print_every", "1"]
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("main.py: stopped: the loss is")
    assert all(part in error for part in ("epoch 1", "step", "lr 1e+30", "--lr"))


@pytest.mark.slow
def test_compiling_without_a_compiler_is_one_line(small_run, tmp_path):
    command = [sys.executable, ROOT / "main.py", *small_run, "--compile"]
    environment = os.environ | {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("main.py: stopped: --compile does not work here: ")
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------------------- what is printed


def test_a_run_prints_what_it_is_a_line_an_epoch_and_a_summary_in_80_columns(small_run, capsys):
    assert main.main(small_run) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2 + 3 + 2 and err == ""  # no progress bar where there is no terminal
    assert "49,338 parameters, float32 on cpu" in lines[0]
    assert lines[1] == "bands: 270 images train, 30 validate, 50 test"
    assert lines[4].startswith("epoch   3/3  train loss")
    assert "test accuracy" in lines[5] and "results.json" in lines[6]
    assert max(map(len, lines[1:6])) <= 80


def test_the_help_names_every_flag_of_the_course_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit:
        main.parse_args(["--help"])
    assert exit.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    for flag, default in {
        "--batch_size": "128", "--model": "mlp", "--epochs": "15", "--optimizer": "adamw",
        "--lr": "0.001", "--momentum": "0.9", "--weight_decay": "0.0005", "--seed": "42",
        "--print_every": "80", "--device": "auto",
    }.items():  # fmt: skip
        assert f"default: {default}" in words.split(f" {flag} ")[1].split(" --")[0], flag


def test_the_defaults_are_those_of_the_course():
    args = vars(main.parse_args([]))
    expected = {
        "batch_size": 128, "model": "mlp", "epochs": 15, "optimizer": "adamw", "lr": 1e-3,
        "momentum": 0.9, "weight_decay": 5e-4, "seed": 42, "print_every": 80, "visualize": False,
    }  # fmt: skip
    assert {key: args[key] for key in expected} == expected


# ------------------------------------------------------------------------------------ models


@pytest.mark.parametrize(
    ("model", "parameters"), [("mlp", 3_709_194), ("resnet18", 11_173_962), ("mlpmixer", 2_188_298)]
)
def test_a_model_without_a_configuration_gets_its_own(model, parameters):
    path = default_path(model)
    network = build_model(path, MODELS[model], read_config(path, model))
    assert isinstance(network, MODELS[model])
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
