"""What only a GPU can show: three models, three precisions, resuming, compiling, no waiting."""

import contextlib
import json

import pytest
import torch

import main
from main import evaluate, fit, setup, train
from training.arguments import parse_args
from training.precision import Precision, pick_precision
from training.progress import Progress

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

MODELS = ("mlp", "resnet18", "mlpmixer")
HAS_TF32 = torch.cuda.get_device_capability() >= (8, 0)
needs_tf32 = pytest.mark.skipif(not HAS_TF32, reason="the GPU is older than Ampere")


@pytest.fixture
def run_on_gpu(small_npz, tmp_path):
    """A function that sets a small run up on the GPU."""

    def set_up(model, *more, folder="run"):
        arguments = ["--model", model, "--data", str(small_npz), "--batch_size", "64"]
        where = ["--device", "cuda", "--epochs", "3", "--logdir", str(tmp_path / folder)]
        return setup(parse_args([*arguments, *where, *more]))

    return set_up


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("tf32", marks=needs_tf32), "bfloat16", "float16"]
)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_in_every_precision(model, precision, run_on_gpu):
    run = run_on_gpu(model, "--precision", precision)
    results = fit(run)
    assert results["train_losses"][-1] < results["train_losses"][0]
    assert results["precision"] == precision
    assert results["device"] == torch.cuda.get_device_name()
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("model", MODELS)
def test_the_gpu_computes_what_the_cpu_does(model, run_on_gpu):
    """Evaluation in float32 of the same weights."""
    run = run_on_gpu(model, "--precision", "float32")
    on_gpu = evaluate(1, run.model, run.val_batches, run.args)[:2]
    run.args.device = "cpu"
    on_cpu = evaluate(1, run.model.to("cpu"), list(run.val_batches), run.args)[:2]
    assert on_gpu == pytest.approx(on_cpu, rel=1e-4)


@needs_tf32
def test_tf32_rounds_the_operands_of_a_product_and_float32_does_not():
    """One plus 2**-12 needs more than the 10 bits of TF32. For convolutions see the test before."""
    matrix = torch.full((2048, 2048), 1 + 2.0**-12, device="cuda")
    for name, expected in (("tf32", 1.0), ("float32", 1 + 2.0**-12)):
        with Precision(name, "cuda").autocast():
            product = matrix @ torch.eye(2048, device="cuda")
        assert (product == expected).all()


@pytest.mark.skipif(HAS_TF32, reason="the GPU has TF32")
def test_a_gpu_without_tf32_refuses_it_in_one_line(small_run, capsys):
    assert main.main([*small_run, "--device", "cuda", "--precision", "tf32"]) == 2
    assert "Ampere or later" in capsys.readouterr().err


def test_auto_measures_what_the_gpu_has():
    chosen = pick_precision("auto", torch.device("cuda"))
    half = {"bfloat16"} if HAS_TF32 else {"float16"}
    if torch.cuda.get_device_capability() >= (7, 0):  # tensor cores
        assert set(chosen.speeds) == {"float32", *half, *["tf32"] * HAS_TF32}
        assert {str(chosen)} == half


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_resumed_run_equals_an_uninterrupted_one(precision, run_on_gpu):
    """Up to the order of sums in CUDA kernels, which is not fixed."""
    for epochs in ("1", "3"):
        more = ("--epochs", epochs, "--resume", "auto", "--precision", precision)
        resumed = fit(run_on_gpu("mlpmixer", *more))
    whole = fit(run_on_gpu("mlpmixer", "--precision", precision, folder="whole"))
    assert resumed["train_losses"] == pytest.approx(whole["train_losses"], rel=1e-2)


def test_a_compiled_model_computes_the_same(run_on_gpu):
    plain = fit(run_on_gpu("mlp", "--precision", "float32"))
    compiled = fit(run_on_gpu("mlp", "--precision", "float32", "--compile", folder="compiled"))
    assert compiled["train_losses"] == pytest.approx(plain["train_losses"], rel=1e-2)


@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits_for_the_gpu(model, run_on_gpu):
    run = run_on_gpu(model, "--precision", "bfloat16")
    arguments = (run.model, run.train_batches, run.optimizer, run.args)
    train(1, *arguments, precision=run.precision)
    torch.cuda.synchronize()
    progress = Progress()

    def forbid(*_):  # from the second step on: the first one sends what an epoch sends once
        torch.cuda.set_sync_debug_mode("error" if progress.steps > 0 else "default")

    run.optimizer.register_step_pre_hook(forbid)
    try:
        with contextlib.suppress(RuntimeError):  # the means at the end of the epoch
            train(2, *arguments, precision=run.precision, progress=progress)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert progress.steps == len(run.train_batches)


def test_out_of_gpu_memory_says_what_needs_less(tmp_path, capsys):
    arguments = ["--data", "shapes", "--device", "cuda", "--precision", "float32"]
    where = ["--model", "resnet18", "--batch_size", "9000", "--logdir", str(tmp_path / "run")]
    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        assert main.main([*arguments, *where]) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "--batch_size" in capsys.readouterr().err


def test_auto_chooses_the_gpu_and_says_so(small_run, tmp_path, capsys):
    arguments = [*small_run, "--device", "auto", "--precision", "auto"]
    assert main.main(arguments) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["device"] in capsys.readouterr().out
    assert results["args"]["device"] == "cuda"
