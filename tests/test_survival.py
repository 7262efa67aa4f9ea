"""What has to be survived, and the test of each: the faults are real, of real processes and files.

The number of trials is small, to be quick; ``SURVIVAL=full`` in the environment makes them 200
kills, 200 full disks, 20 of each signal and 2,400 wrong files (ten minutes on 2 cores):

    SURVIVAL=full python -m pytest tests/test_survival.py

19 SIGKILL at any moment
    test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened
20 disk full; folder of the results read-only, or gone
    test_a_disk_that_fills_up_leaves_the_last_checkpoint_intact
    test_a_disk_that_takes_no_more_bytes_leaves_the_last_checkpoint_intact
    test_a_read_only_folder_is_one_error
    test_a_folder_that_disappears_is_one_error
21 checkpoint truncated, foreign, older
    test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used
    test_weights_of_an_epoch_that_was_lost_are_not_the_best_any_more
    test_two_damaged_checkpoints_are_an_error_also_with_resume_auto
    test_a_truncated_checkpoint_is_named
    test_a_foreign_file_is_named
22 resumed equals uninterrupted
    test_a_killed_run_resumes_and_ends_as_if_nothing_had_happened
    test_a_run_ended_by_a_signal_resumes_in_the_middle_of_the_epoch
23 resumed with another model, configuration, data
    test_another_run_than_the_one_in_the_folder_is_refused_and_the_difference_named
    test_a_checkpoint_of_a_model_whose_code_has_changed_is_refused
    test_other_code_than_that_of_the_run_in_the_folder_is_refused_with_both_ways_on
24 SIGTERM, SIGUSR1, Ctrl-C
    test_a_run_ended_by_a_signal_resumes_in_the_middle_of_the_epoch
    test_a_signal_before_the_training_is_one_line
    test_a_second_ctrl_c_does_not_wait_for_the_step
25 two runs in one folder
    test_a_folder_in_use_is_refused_while_the_first_process_lives_and_not_after
    test_a_folder_with_a_run_in_it_is_not_overwritten_in_silence
    test_a_process_that_has_trained_keeps_no_other_out
26 loss not finite
    test_a_run_that_diverges_late_keeps_its_log_and_its_checkpoint
    test_a_diverging_run_says_so_and_what_to_try
27 no GPU, unknown device, out of memory
    test_a_wrong_argument_is_named_with_what_is_allowed
    test_out_of_memory_says_what_needs_less
    test_out_of_gpu_memory_says_what_needs_less
28 data partial, corrupted, read-only; host down; two downloads
    test_cifar10_that_is_not_available_gives_one_error_with_two_alternatives
    test_a_damaged_archive_is_not_deleted_and_nothing_is_left_beside_it
    test_a_complete_folder_may_be_read_only_and_an_empty_one_is_named
    test_a_host_that_does_not_deliver_is_one_error_and_leaves_nothing_behind
    test_two_processes_that_download_at_once_both_get_the_data
    test_no_npz_file_brings_a_traceback_or_starts_a_run_that_it_should_not
29 mistakes in a configuration
    test_a_mistake_in_a_configuration_is_named_with_the_file_and_the_key
    test_no_configuration_brings_a_traceback_or_starts_a_run_that_it_should_not
30 batch larger than the set, last batch of one image, 0 epochs, patch size
    test_training_on_a_subset_is_said_in_the_results
    test_every_model_runs_with_the_configuration_that_comes_with_it
    test_a_wrong_argument_is_named_with_what_is_allowed
    test_a_mistake_in_a_configuration_is_named_with_the_file_and_the_key
31 no terminal, no display; spaces and accents; start methods
    test_a_run_needs_no_terminal_no_display_no_plain_paths_and_no_folder_to_write_into
    test_a_run_does_not_depend_on_how_its_process_was_started
32 the test split chooses nothing
    test_other_test_images_change_nothing_but_the_test
33 importing does nothing visible
    test_importing_does_nothing_visible
    test_importing_a_file_in_a_fresh_interpreter_does_nothing_visible
"""

import contextlib
import copy
import errno
import io
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

import main
import training.run
from training import checkpoint

from conftest import ROOT, without_times
from processes import processes, run_main

FULL = os.environ.get("SURVIVAL") == "full"
KILLS = 200 if FULL else 4
FULL_DISKS = 200 if FULL else 2
SIGNALS_OF_EACH = 20 if FULL else 2
WRONG_FILES = 1200 if FULL else 75  # of each kind


def start(arguments, output, **options):
    process = processes.Process(target=run_main, args=(arguments, output), kwargs=options)
    process.start()
    return process


def finish(arguments, output, **options):
    """Run to the end and return the exit status."""
    process = start(arguments, output, **options)
    process.join()
    return process.exitcode


def wait_for(words, output):
    """Wait until a run has printed something."""
    deadline = time.monotonic() + 60
    while not (output.exists() and words in output.read_text()):
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.002)


def last_line(output):
    text = output.read_text()
    assert "Traceback" not in text
    return text.splitlines()[-1]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def load_all(folder):
    """Load every checkpoint of a folder: none is damaged, whatever has happened."""
    found = [folder / name for name in ("checkpoint.pt", "previous_checkpoint.pt")]
    return [checkpoint.load_checkpoint(path, {}) for path in found if path.exists()]


@pytest.fixture(scope="module")
def whole(demanding_run, tmp_path_factory):
    """The folder of a run that nothing interrupts, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    output = folder.with_suffix(".txt")
    assert finish(["--help"], output) == 0  # all is imported and ready
    started = time.monotonic()
    assert finish([*demanding_run, "--logdir", folder], output) == 0
    return folder, time.monotonic() - started


def assert_equal_runs(folder, whole):
    """Compare results and best weights bit for bit."""
    assert without_times(results_of(folder)) == without_times(results_of(whole))
    paths = folder / "best_model.pt", whole / "best_model.pt"
    ours, theirs = (torch.load(path, weights_only=True) for path in paths)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# ------------------------------------------------------------------------------ kill, full disk


def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_happened(
    demanding_run, whole, tmp_path
):
    random = np.random.default_rng(0)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        folder, output = tmp_path / f"run {runs}", tmp_path / f"run {runs}.txt"
        status = None
        while status != 0:
            process = start([*demanding_run, "--logdir", folder, "--resume", "auto"], output)
            process.join(random.uniform(0, whole[1]))
            process.kill()
            process.join()
            status = process.exitcode
            kills += status == -signal.SIGKILL
            assert status in (0, -signal.SIGKILL), output.read_text()
            load_all(folder)
        epochs = [int(epoch) for epoch in re.findall(r"^epoch +(\d+)/", output.read_text(), re.M)]
        assert epochs == sorted(set(epochs)), "an epoch was done twice"
        assert "damaged" not in output.read_text()
        assert_equal_runs(folder, whole[0])
    print(f"{kills} kills in {runs} runs")


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_intact(
    demanding_run, whole, tmp_path, mount
):
    """The disk has 20 MB. At a random moment another file takes all of it but a random rest."""
    random = np.random.default_rng(1)
    disk = mount(tmp_path / "disk", "20m")
    sizes = [path.stat().st_size for path in whole[0].iterdir()]
    for trial in range(FULL_DISKS):
        folder, output = disk / "run", tmp_path / f"{trial}.txt"
        process = start([*demanding_run, "--logdir", folder, "--resume", "auto"], output)
        process.join(random.uniform(0, 0.6 * whole[1]))
        filler = disk / "filler"
        fill(filler, rest=int(random.integers(0, max(sizes))))
        process.join()
        line = last_line(output)
        assert process.exitcode in (1, 2) and "No space left on device" in line, line
        states = load_all(folder) if folder.exists() else []
        assert ("--resume resumes it" in line) == (process.exitcode == 1 and len(states) > 0)
        done = len(re.findall(r"^epoch ", output.read_text(), re.M))
        assert max((state["epoch"] for state in states), default=0) >= done
        filler.unlink()
        assert finish([*demanding_run, "--logdir", folder, "--resume", "auto"], output) == 0
        assert_equal_runs(folder, whole[0])
        shutil.rmtree(folder)


def fill(path, rest):
    """Fill the disk of ``path``, except for some bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(max(0, file.tell() - rest))


def test_a_read_only_folder_is_one_error(demanding_run, tmp_path, mount, read_only):
    disk = mount(tmp_path / "disk", "1m")
    read_only(disk)
    output = tmp_path / "output.txt"
    assert finish([*demanding_run, "--logdir", disk], output) == 2
    assert output.read_text() == f"main.py: error: {disk / '.lock'}: Read-only file system\n"


def test_a_folder_that_disappears_is_one_error(demanding_run, tmp_path):
    folder, output = tmp_path / "run", tmp_path / "output.txt"
    process = start([*demanding_run, "--logdir", folder], output)
    wait_for("epoch   1/", output)
    os.kill(process.pid, signal.SIGSTOP)
    shutil.rmtree(folder)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 1
    expected = f"main.py: stopped: {folder / 'checkpoint.pt'}: No such file or directory; "
    assert last_line(output) == expected + "there is no checkpoint yet"


# --------------------------------------------------------------------------- damaged checkpoints


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    demanding_run, whole, tmp_path
):
    """What is used is the epoch before, although the best weights and results are of the last."""
    folder, output = tmp_path / "run", tmp_path / "output.txt"
    shutil.copytree(whole[0], folder)
    path = folder / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 512] = bytes(512)  # a sector that was lost
    path.write_bytes(content)
    (folder / "best_model.pt").write_bytes(b"of an epoch that is undone")
    assert finish([*demanding_run, "--logdir", folder, "--resume"], output) == 0
    assert re.match(rf"{path} is damaged .*; resuming from the one before it\n", output.read_text())
    assert "resuming after epoch 11\n" in output.read_text()
    assert_equal_runs(folder, whole[0])


def test_weights_of_an_epoch_that_was_lost_are_not_the_best_any_more(small_run, tmp_path):
    """The second epoch is the best; its checkpoint is cut off, and one is enough after all."""
    assert main.main([*small_run, "--epochs", "2"]) == 0
    assert results_of(tmp_path / "run")["best_epoch"] == 2
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert main.main([*small_run, "--epochs", "1", "--resume"]) == 0
    assert main.main([*small_run, "--epochs", "1", "--logdir", str(tmp_path / "one")]) == 0
    assert_equal_runs(tmp_path / "run", tmp_path / "one")


def test_two_damaged_checkpoints_are_an_error_also_with_resume_auto(demanding_run, whole, tmp_path):
    folder, output = tmp_path / "run", tmp_path / "output.txt"
    shutil.copytree(whole[0], folder)
    for path in folder.glob("*checkpoint.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert finish([*demanding_run, "--logdir", folder, "--resume", "auto"], output) == 2
    assert all(name in output.read_text() for name in ("/checkpoint.pt", "previous_checkpoint.pt"))
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_checkpoint_of_a_model_whose_code_has_changed_is_refused(small_run, monkeypatch, capsys):
    assert main.main([*small_run, "--epochs", "1"]) == 0
    build = training.run.build_model

    def build_another(*arguments):
        model = build(*arguments)
        model.hidden_layers.append(torch.nn.Linear(1, 1))
        return model

    monkeypatch.setattr(training.run, "build_model", build_another)
    capsys.readouterr()
    assert main.main([*small_run, "--resume"]) == 2
    assert re.match(
        r"main.py: error: .*checkpoint\.pt is of another mlp: Missing key.*hidden_layers\.1.*\n$",
        capsys.readouterr().err,
    )


# ---------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_run_ended_by_a_signal_resumes_in_the_middle_of_the_epoch(
    name, demanding_run, whole, tmp_path
):
    number = getattr(signal, name)
    random = np.random.default_rng(number)
    for trial in range(SIGNALS_OF_EACH):
        folder, output = tmp_path / f"run {trial}", tmp_path / f"run {trial}.txt"
        process = start([*demanding_run, "--logdir", folder], output)
        wait_for(f"epoch  {random.integers(1, 11):>2}/" if trial > 0 else "images train", output)
        process.join(random.uniform(0, whole[1] / 12))
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == 128 + number
        by = "Ctrl-C" if name == "SIGINT" else name
        goes_on = "the same command with --resume resumes it"
        assert last_line(output) == f"main.py: stopped by {by}; {goes_on}"
        assert load_all(folder)[0]["progress"]["steps"] > 0
        assert finish([*demanding_run, "--logdir", folder, "--resume"], output) == 0
        assert_equal_runs(folder, whole[0])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_before_the_training_is_one_line(name, small_mlp, tmp_path):
    """The run waits for its data: they come out of a pipe into which nobody writes."""
    number, output = getattr(signal, name), tmp_path / "output.txt"
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    arguments = ["--model_config", small_mlp, "--data", pipe, "--logdir", tmp_path / "run"]
    process = start([*arguments, "--device", "cpu", "--precision", "float32"], output)
    with pipe.open("wb"):  # opens when the run does
        os.kill(process.pid, number)
        process.join()
    by = "Ctrl-C" if name == "SIGINT" else name
    assert process.exitcode == 128 + number
    assert output.read_text() == f"main.py: stopped by {by}\n" and not (tmp_path / "run").exists()


def test_a_second_ctrl_c_does_not_wait_for_the_step(tmp_path, small_npz):
    """A step of ResNet18 takes seconds here, and would end in a checkpoint."""
    output = tmp_path / "output.txt"
    arguments = ["--model", "resnet18", "--data", small_npz, "--logdir", tmp_path / "run"]
    process = start([*arguments, "--device", "cpu", "--precision", "float32"], output)
    wait_for("images train", output)
    while process.exitcode is None:
        os.kill(process.pid, signal.SIGINT)
        process.join(0.3)
    assert process.exitcode == 130
    assert last_line(output) == "main.py: stopped by Ctrl-C; there is no checkpoint yet"


# ------------------------------------------------------------------------------------- two runs


def test_a_folder_in_use_is_refused_while_the_first_process_lives_and_not_after(
    demanding_run, whole, tmp_path
):
    folder, output = tmp_path / "run", tmp_path / "output.txt"
    first = start([*demanding_run, "--logdir", folder], output)
    wait_for("epoch   1/", output)
    os.kill(first.pid, signal.SIGSTOP)  # alive, and in no hurry
    before = (folder / "checkpoint.pt").read_bytes()
    for flags in ([], ["--resume"], ["--resume", "auto"], ["--overwrite"]):
        second = tmp_path / "second.txt"
        assert finish([*demanding_run, "--logdir", folder, *flags], second) == 2
        assert f"error: {folder} is in use by another process" in last_line(second)
    assert (folder / "checkpoint.pt").read_bytes() == before
    first.kill()
    first.join()
    assert finish([*demanding_run, "--logdir", folder, "--resume"], output) == 0
    assert_equal_runs(folder, whole[0])


def test_a_process_that_has_trained_keeps_no_other_out(small_run, tmp_path):
    """As a notebook, which lives on: neither after a run nor after one that is refused."""
    output = tmp_path / "output.txt"
    assert main.main([*small_run, "--epochs", "1"]) == 0
    assert main.main(small_run) == 2  # the folder holds a run already
    assert finish([*small_run, "--epochs", "2", "--resume"], output) == 0, output.read_text()
    assert "resuming after epoch 1" in output.read_text()


# ---------------------------------------------------------------- a loss not finite, no memory


def test_a_run_that_diverges_late_keeps_its_log_and_its_checkpoint(small_run, tmp_path, capsys):
    """Each step multiplies the weights by -99."""
    arguments = [*small_run, "--optimizer", "sgd", "--lr", "1", "--weight_decay", "100"]
    assert main.main(arguments) == 1
    error = capsys.readouterr().err
    epoch, step = map(int, re.search(r"epoch (\d+), step (\d+), lr 1\)", error).groups())
    assert epoch > 1 and step > 0
    assert len(results_of(tmp_path / "run")["valid_losses"]) == epoch - 1
    assert load_all(tmp_path / "run")[0]["epoch"] == epoch - 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_out_of_memory_says_what_needs_less(small_npz, tmp_path):
    arguments = ["--data", small_npz, "--device", "cpu", "--precision", "float32"]
    where = ["--model", "resnet18", "--batch_size", "270", "--logdir", tmp_path / "run"]
    output, mib = tmp_path / "output.txt", 2**20
    assert finish([*arguments, *where], output, memory=500 * mib) == 1
    assert "out of memory" in last_line(output) and "--batch_size" in last_line(output)
    config = tmp_path / "large.json"
    config.write_text('{"input_size": 3072, "hidden_sizes": [100000], "num_classes": 10}')
    assert finish(["--model_config", config, *arguments], output, memory=500 * mib) == 2
    assert f"{config}: there is no memory for this model" in last_line(output)


# ------------------------------------------------------------------------------ any wrong file


@pytest.fixture(scope="module")
def arrays():
    """Twenty images to train on and five to test with, of little to compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3), np.uint8)
    pixels[:, 4:] = 0
    labels = np.arange(25) % 10
    return {
        "train_images": pixels[:20],
        "train_labels": labels[:20],
        "test_images": pixels[20:],
        "test_labels": labels[20:],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, arrays):
    """A folder with data and a configuration that are right."""
    folder = tmp_path_factory.mktemp("fuzz")
    np.savez_compressed(folder / "right.npz", **arrays)
    (folder / "right.json").write_text(json.dumps(RIGHT["mlp"]))
    return folder


def starts(folder, model="mlp", config="right.json", data="right.npz"):
    """Run main.py; return whether a run was made of it. If not, it is one line and no file."""
    arguments = ["--model", model, "--model_config", folder / config, "--data", folder / data]
    how = ["--epochs", "1", "--device", "cpu", "--precision", "float32"]
    where = ["--overwrite", "--logdir", folder / "run"]
    results = folder / "run" / "results.json"
    before = results.stat().st_mtime_ns if results.exists() else None
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main.main([str(argument) for argument in (*arguments, *how, *where)])
    event(f"exit status {status}")  # counted with --hypothesis-show-statistics
    if status == 0:
        return True
    assert status == 2 and out.getvalue() == ""
    assert re.fullmatch("main.py: error: .*\n", err.getvalue()), err.getvalue()
    assert str(folder) in err.getvalue()  # it names the file
    assert before == (results.stat().st_mtime_ns if results.exists() else None)
    return False


many = settings(max_examples=WRONG_FILES, deadline=None, derandomize=True)
RIGHT = {
    "mlp": {"input_size": 3072, "hidden_sizes": [4], "num_classes": 10, "activation": "tanh"},
    "resnet18": {"num_classes": 10},
    "mlpmixer": {
        "num_classes": 10,
        "img_size": 32,
        "patch_size": 16,
        "embed_dim": 8,
        "num_blocks": 2,
        "drop_rate": 0.1,
        "activation": "relu",
        "tokens_mlp_dim": None,
        "channels_mlp_dim": 3,
        "drop_path_rate": 0,
    },
}
WHOLE_NUMBERS = [-(10**30), -1, 0, 1, 2, 8, 10, 16, 32, 33, 100_001, 10**9, 10**12, 10**30]
STRINGS = ["", "relu", "gelu", "tanh", "32", "\ud800\n"]
scalars = st.sampled_from(
    [*WHOLE_NUMBERS, 0.0, 0.5, 1.0, 1e308, math.nan, math.inf, None, True, False, *STRINGS]
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars)


@st.composite
def configurations(draw):
    """A model and the text of its configuration, with mistakes in keys, values or the text."""
    model = draw(st.sampled_from(["mlp"] * 6 + ["mlpmixer"] * 6 + ["resnet18"]))
    config = copy.deepcopy(RIGHT[draw(st.sampled_from([model] * 9 + ["mlp", "mlpmixer"]))])
    for key in draw(st.lists(st.sampled_from(sorted(config)), max_size=2)):
        config[key] = draw(values)
    for key in draw(st.lists(st.sampled_from(sorted(config)), max_size=1)):
        del config[key]
    config.update(draw(st.dictionaries(st.text(max_size=5), values, max_size=1)))
    text = json.dumps(config).encode()
    start, length = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 0, 1, 5, 10**6]))
    return model, text[:start] + draw(st.binary(max_size=length and 3)) + text[start + length :]


def is_right(model, text):
    """Decide, apart from the project's own checks, whether a run may start."""
    try:
        config = json.loads(text.decode())
    except ValueError:
        return False
    required = {
        "mlp": {"input_size", "hidden_sizes", "num_classes"},
        "resnet18": set(),
        "mlpmixer": {"num_classes", "img_size", "patch_size", "embed_dim", "num_blocks"},
    }[model]
    if not isinstance(config, dict) or not required <= config.keys() <= RIGHT[model].keys():
        return False

    def integer(low, high=100_000):
        return lambda value: type(value) is int and low <= value <= high

    def share(value):
        return type(value) in (int, float) and 0 <= value < 1

    def width(value):
        return value is None or integer(1)(value)

    allowed = {
        "input_size": integer(3072, 3072),
        "hidden_sizes": lambda value: (
            isinstance(value, list) and value != [] and all(map(integer(1), value))
        ),
        "num_classes": integer(10),
        "activation": ["relu", "tanh", "sigmoid"].__contains__
        if model == "mlp"
        else ["gelu", "relu"].__contains__,
        "img_size": integer(32, 32),
        "patch_size": [1, 2, 4, 8, 16, 32].__contains__,
        "embed_dim": integer(2 if config.get("tokens_mlp_dim") is None else 1),
        "num_blocks": integer(1),
        "drop_rate": share,
        "drop_path_rate": share,
        "tokens_mlp_dim": width,
        "channels_mlp_dim": width,
    }
    return all(type(value) is not bool and allowed[key](value) for key, value in config.items())


@many
@given(case=configurations())
def test_no_configuration_brings_a_traceback_or_starts_a_run_that_it_should_not(folder, case):
    model, text = case
    (folder / "any.json").write_bytes(text)
    assert starts(folder, model, config="any.json") == is_right(model, text), text


@st.composite
def damages(draw):
    """A function that damages the bytes of a file."""
    start = draw(st.floats(0, 1))
    kind = draw(st.sampled_from(["cut", "replace", "insert", "head", "directory"]))
    new = draw(st.binary(min_size=1, max_size=8))

    def damage(content):
        place = int(start * len(content))
        if kind == "cut":
            return content[:place]
        if kind == "insert":
            return content[:place] + new + content[place:]
        if kind == "head":  # of the first array
            place = int(start * 200)
        if kind == "directory":  # of the archive
            place = len(content) - int(start * 300)
        return content[:place] + new + content[place + len(new) :]

    return damage


names = st.sampled_from(["train_images", "train_labels", "test_images", "test_labels"])
dtypes = st.sampled_from(["u1", "i1", "i8", "u8", "f4", "f8", "c8", "?", "S3", "U2", "M8[s]", "V4"])
sizes = st.sampled_from([0, 1, 3, 5, 10, 20, 32])
numbers = st.sampled_from([-(2**63), -1, 0, 9, 10, 2**31, 2**63 - 1])


@st.composite
def changes(draw):
    """Arrays in place of right ones: of another type or shape, with another label, or none."""
    changed = {}
    for name in draw(st.lists(names, min_size=1, max_size=2)):
        kind = draw(st.sampled_from(["shape", "label", "missing", "extra"]))
        if kind == "shape":
            changed[name] = np.zeros(draw(st.lists(sizes, max_size=4)), draw(dtypes))
        elif kind == "label":
            labels = np.arange(20 if "train" in name else 5) % 10
            labels[draw(st.integers(0, len(labels) - 1))] = draw(numbers)
            column = draw(st.sampled_from([(-1,), (-1, 1)]))
            changed[name.replace("images", "labels")] = labels.reshape(column)
        elif kind == "missing":
            changed[name] = None
        else:
            changed[name.replace("train", "val").replace("test", "val")] = np.zeros(3, "u1")
    return changed


@many
@given(case=damages() | changes())
def test_no_npz_file_brings_a_traceback_or_starts_a_run_that_it_should_not(folder, arrays, case):
    path = folder / "any.npz"
    if callable(case):
        path.write_bytes(case((folder / "right.npz").read_bytes()))
    else:
        kept = {name: array for name, array in (arrays | case).items() if array is not None}
        np.savez(path, **kept)
    if starts(folder, data="any.npz"):
        with np.load(path) as loaded:
            if callable(case):
                assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
            assert not [name for name in loaded.files if name.startswith("val_")]
            for part, least in (("train", 10), ("test", 1)):
                images, labels = loaded[f"{part}_images"], loaded[f"{part}_labels"]
                assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
                assert labels.size == len(images) >= least
                assert labels.dtype.kind in "iu" and set(labels.flat) <= set(range(10))


# ------------------------------------------------------------------------------- surroundings


def test_a_run_needs_no_terminal_no_display_no_plain_paths_and_no_folder_to_write_into(
    small_npz, small_mlp, tmp_path, mount, read_only
):
    here = mount(tmp_path / "to read only", "1m")
    read_only(here)
    folder = tmp_path / "où est l'été ?"
    folder.mkdir()
    shutil.copy(small_npz, folder / "données à voir.npz")
    shutil.copy(small_mlp, folder / "modèle 1.json")
    command = [sys.executable, ROOT / "main.py", "--epochs", "1", "--visualize"]
    paths = ["--model_config", folder / "modèle 1.json", "--data", folder / "données à voir.npz"]
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "LANG", "LC_ALL", "LC_CTYPE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [*command, *paths, "--logdir", folder / "mes résultats"],
        cwd=here, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((folder / "mes résultats").glob("*.png"))) == 6
    assert list(here.iterdir()) == []


def test_a_run_does_not_depend_on_how_its_process_was_started(
    demanding_run, whole, tmp_path, monkeypatch
):
    """Spawned, as on Windows and macOS."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # like the other: sums depend on the threads
    arguments = [*demanding_run, "--logdir", str(tmp_path / "run")]
    process = multiprocessing.get_context("spawn").Process(target=main.main, args=(arguments,))
    process.start()
    process.join()
    assert_equal_runs(tmp_path / "run", whole[0])


def test_other_test_images_change_nothing_but_the_test(small_run, small_npz, tmp_path):
    with np.load(small_npz) as loaded:
        other = dict(loaded) | {"test_labels": (loaded["test_labels"] + 1) % 10}
    np.savez(tmp_path / "other.npz", **other)
    more = ["--data", str(tmp_path / "other.npz"), "--logdir", str(tmp_path / "other")]
    assert main.main(small_run) == 0 and main.main([*small_run, *more]) == 0
    folders = tmp_path / "run", tmp_path / "other"
    ours, theirs = (without_times(results_of(folder)) for folder in folders)
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing == {"data", "test_acc", "test_loss"}
    best, other = (torch.load(path / "best_model.pt", weights_only=True) for path in folders)
    assert all(torch.equal(best[name], other[name]) for name in best)


def test_importing_does_nothing_visible(tmp_path):
    command = [sys.executable, "-c", "import main, training.mistakes, training.board"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_every_case_has_its_tests_and_they_exist():
    cases = re.findall(r"^(\d\d) ", __doc__, re.MULTILINE)
    assert cases == [str(number) for number in range(19, 34)]
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    names = re.findall(r"^    (test_\w+)$", __doc__, re.MULTILINE)
    assert [name for name in names if f"\ndef {name}(" not in code] == []
