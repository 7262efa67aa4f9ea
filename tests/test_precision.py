"""The precision: which one auto chooses and why, what the names mean, what a resumed run keeps."""

import json
import os
import signal
import time

import pytest
import torch

import main
from main import evaluate, fit, setup
from training import precision
from training.arguments import parse_args
from training.device import pick_device
from training.precision import Precision, measure_speeds, pick_precision

CPU = torch.device("cpu")


@pytest.fixture
def fresh(monkeypatch):
    """Forget what was measured, before and after, and any limit of the instructions."""
    monkeypatch.setenv(precision.ISA_LIMIT, "")  # so that it is restored
    monkeypatch.delenv(precision.ISA_LIMIT)
    measure_speeds.cache_clear()
    yield
    measure_speeds.cache_clear()


@pytest.fixture
def cuda_flags():
    """Restore the flags of PyTorch that count on a GPU only."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield lambda: (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_without_the_limit(sender):
    """As a processor that announces AMX and does not have it."""
    if precision.ISA_LIMIT not in os.environ:
        die(sender)
    sender.send({"float32": 1.0, "bfloat16": 2.0})


def answer_late(sender):
    """As on a machine whose cores are busy with other programs."""
    time.sleep(11)
    sender.send({"float32": 1.0, "bfloat16": 2.0})


def test_auto_takes_a_device_that_is_there_and_a_precision_that_works_on_it():
    device = pick_device("auto")
    dtype = pick_precision("auto", device).dtype
    ones = torch.ones(64, 64, device=device, dtype=dtype)
    assert (ones @ ones == 64).all()
    assert pick_precision("float32", device).dtype == torch.float32


@pytest.mark.parametrize(
    ("speeds", "expected", "words"),
    [
        ({"float32": 1.0, "bfloat16": 2.94}, "bfloat16", "bfloat16 (2.9x float32)"),
        ({"float32": 1.0, "bfloat16": 1.19}, "float32", "float32 (bfloat16 1.2x)"),
        ({"float32": 1.0, "tf32": 4.0, "bfloat16": 9.0}, "bfloat16", "bfloat16 (9.0x float32)"),
        ({"float32": 1.0, "tf32": 4.0, "bfloat16": 3.0}, "tf32", "tf32 (4.0x float32)"),
        ({"float32": 1.0}, "float32", "float32"),
    ],
)
def test_auto_takes_the_fastest_and_float32_unless_the_gain_is_a_fifth(
    speeds, expected, words, monkeypatch
):
    monkeypatch.setattr(precision, "measure_speeds", lambda device: speeds)
    chosen = pick_precision("auto", CPU)
    assert (str(chosen), chosen.describe()) == (expected, words)


def test_the_choice_and_the_speeds_stand_in_the_first_line_and_in_the_results(
    small_run, tmp_path, capsys
):
    assert main.main([*small_run, "--precision", "auto"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    speeds = results["precision_speeds"]
    assert speeds["float32"] == 1.0 and "bfloat16" in speeds
    assert results["precision"] == ("bfloat16" if speeds["bfloat16"] >= 1.2 else "float32")
    assert f", {results['precision']} (" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_a_run_that_resumes_with_auto_keeps_its_precision(kept, small_run, tmp_path):
    """One of the two is not what auto would choose on this machine."""
    if pick_precision("auto", CPU).speeds["bfloat16"] == 0:
        pytest.skip("bfloat16 crashes on this CPU")
    for epochs, name in (("1", kept), ("3", "auto")):
        more = ["--epochs", epochs, "--precision", name, "--resume", "auto"]
        resumed = fit(setup(parse_args([*small_run, *more])))
    assert resumed["precision"] == kept
    whole = ["--precision", kept, "--logdir", str(tmp_path / "whole")]
    assert resumed["train_losses"] == fit(setup(parse_args([*small_run, *whole])))["train_losses"]


def test_a_processor_that_dies_of_amx_is_limited_to_the_instructions_before_it(fresh, monkeypatch):
    monkeypatch.setattr(precision, "_send_speeds", die_without_the_limit)
    assert str(pick_precision("auto", CPU)) == "bfloat16"
    assert os.environ[precision.ISA_LIMIT] == "AVX512_CORE_BF16"  # for this process, too


@pytest.mark.slow
def test_a_busy_processor_is_waited_for(fresh, monkeypatch):
    monkeypatch.setattr(precision, "_send_speeds", answer_late)
    assert measure_speeds(CPU)["bfloat16"] == 2.0


def test_a_processor_that_dies_with_the_limit_too_trains_in_float32(fresh, monkeypatch):
    monkeypatch.setattr(precision, "_send_speeds", die)
    assert pick_precision("auto", CPU).describe() == "float32 (bfloat16 0.0x)"
    assert precision.ISA_LIMIT not in os.environ
    with pytest.raises(ValueError, match="--precision bfloat16 crashes on this CPU"):
        pick_precision("bfloat16", CPU)


@pytest.mark.parametrize("announced", [True, False])
def test_without_fork_this_process_tries_unless_amx_may_kill_it(announced, fresh, monkeypatch):
    """As on Windows. On demand, bfloat16 is taken untried."""
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"amx_bf16": announced}, raising=False
    )
    assert set(measure_speeds(CPU)) == ({"float32"} if announced else {"float32", "bfloat16"})
    assert str(pick_precision("bfloat16", CPU)) == "bfloat16"


def test_measuring_leaves_the_random_numbers_alone(fresh):
    before = torch.get_rng_state()
    measure_speeds(CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_float32_means_float32_on_a_gpu_and_tf32_is_a_precision_of_its_own(cuda_flags):
    """The flags count on a GPU only: `test_gpu.py` shows what they do."""
    for name, tf32 in (("tf32", True), ("float32", False)):
        with Precision(name, "cuda").autocast():
            assert cuda_flags() == (tf32, tf32, True)


def test_on_the_cpu_the_flags_of_a_gpu_stay(cuda_flags, small_run):
    before = cuda_flags()
    run = setup(parse_args(small_run))
    evaluate(1, run.model, run.val_batches, run.args, precision=run.precision)
    run.close()
    assert cuda_flags() == before
