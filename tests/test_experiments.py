"""The experiments: each run is trained once, whatever interrupts it; the report states its results.

All runs here are real ones, on a few images. Some are slow, those of all questions at once, of
killed processes and of several workers; each of them has a fast sibling.
"""

import ast
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import experiments
import mlp
from experiments import classify, execute, measure, plan, regress
from experiments.__main__ import main as command
from experiments.groups import Group, Groups, Spread, read_groups
from experiments.page import Page
from experiments.questions import (
    best_mlpmixer,
    feature_maps,
    gradient_flow,
    learning_rate,
    mixer_width,
    mlp_vs_resnet,
    nonlinearity,
    regression_depth_width,
    resnet_grid,
)
from experiments.report import write_report
from experiments.wanted import runs_wanted
from main import main as main_command
from training import interrupt, precision
from training.batches import normalize
from training.data import Split, load_data

from conftest import ROOT
from oracles import count_parameters

TIMES = ("train_seconds", "valid_seconds")
OPTIONAL = ("optuna", "typst", "submitit")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An .npz file with a few images of two classes, bright and dark."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    random = np.random.default_rng(0)

    def draw(number):
        labels = np.arange(number) % 2
        noise = random.integers(0, 100, (number, 32, 32, 3))
        return (noise + 100 * labels[:, None, None, None]).astype(np.uint8), labels

    train, test = draw(100), draw(20)
    np.savez(
        path,
        train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1],
    )  # fmt: skip
    return path


# As many processes at once as there are cores: each has one thread.
RUN = ("--epochs", "2", "--seeds", "2", "--jobs", str(os.cpu_count()))
NAMES = ("nonlinearity", "regression_lr")


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """The folder of two experiments, run and reported."""
    folder = tmp_path_factory.mktemp("done") / "exps"
    assert command(arguments(NAMES, tiny, folder, *RUN)) == 0
    assert command(["report", "--output", str(folder)]) == 0
    return folder


def arguments(names, data, output, *more):
    names = [names] if isinstance(names, str) else names
    return ["run", *names, "--data", str(data), "--output", str(output), *more]


def results_below(folder):
    """Return all results.json below a folder, without what differs from run to run."""
    found = {}
    for path in sorted(Path(folder).rglob("results.json")):
        results = json.loads(path.read_text())
        for key in (*TIMES, "args", "precision_speeds"):
            results.pop(key, None)
        found[path.relative_to(folder).as_posix()] = results
    return found


# ------------------------------------------------------------------------------- what is defined


def test_every_question_of_the_sheets_has_an_experiment():
    assert list(plan.load_experiments()) == list(plan.ORDER)


@pytest.mark.parametrize("name", plan.ORDER)
def test_an_experiment_has_a_question_a_problem_and_runs(name):
    experiment = plan.load_experiments()[name]
    assert experiment.question.endswith("?")
    assert re.match(r"(2025, Problem|2022, Question|Regression assignment, part)", experiment.text)
    assert experiment.runs or experiment.is_search
    assert experiment.module.EPOCHS >= 10


def test_every_change_is_an_argument_of_main_or_of_the_model():
    for experiment in plan.load_experiments().values():
        if getattr(experiment.module, "KIND", ()) == regress.KIND:
            continue
        for (run,) in plan.runs_of(experiment, plan.Settings()).values():
            assert set(run.changes) <= {*plan.DEFAULTS, *classify.model_config(run)}


def test_runs_that_are_the_same_share_a_folder():
    settings = plan.Settings()
    known = plan.load_experiments()
    default = [
        plan.runs_of(known[name], settings)[label][0].folder
        for name, label in (
            ("batch_size", "mlpmixer, 128"),
            ("weight_decay", "mlpmixer, 0.0005"),
            ("optimizer", "mlpmixer, adamw"),
            ("learning_rate_adamw", "MLP-Mixer with AdamW, 0.001"),
            ("mixer_width", "128, 1024"),
            ("patch_size", "4"),
            ("embed_dim", "256"),
        )
    ]
    assert set(default) == {Path("exps/mlpmixer/default/seed=42")}


def test_runs_that_differ_have_folders_that_differ():
    folders = {}
    for experiment in plan.load_experiments().values():
        for group in plan.runs_of(experiment, plan.Settings(seeds=(42, 43))).values():
            for run in group:
                kind = getattr(experiment.module, "KIND", ())
                model = {} if kind == regress.KIND else classify.model_config(run)
                everything = {**plan.DEFAULTS, **model, **run.changes}
                content = json.dumps([kind, everything], sort_keys=True)
                assert folders.setdefault(run.folder, content) == content


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 3), ("data", "shapes"), ("subset", 100), ("seeds", (43,))],
)
def test_what_shapes_the_numbers_is_in_the_name_of_the_folder(setting, value):
    experiment = plan.load_experiments()["nonlinearity"]
    before = plan.runs_of(experiment, plan.Settings())["tanh"][0].folder
    after = plan.runs_of(experiment, replace(plan.Settings(), **{setting: value}))["tanh"][0].folder
    assert before != after


def test_the_mlp_has_about_the_parameters_of_resnet_18():
    counts = {}
    runs = plan.runs_of(plan.load_experiments()["mlp_vs_resnet"], plan.Settings())
    for label, (run,) in runs.items():
        with torch.device("meta"):
            network = classify.network_of(run)(**classify.model_config(run))
        counts[label] = count_parameters(network)
    assert counts["ResNet-18"] == mlp_vs_resnet.RESNET
    assert abs(counts["MLP"] / counts["ResNet-18"] - 1) < 0.001


def test_the_shallow_cnn_has_the_parameters_of_the_deep_one_within_two_per_cent(tiny):
    counts, data = {}, load_data(str(tiny))
    for label, changes in regression_depth_width.RUNS.items():
        trainer = regress.make_trainer({**changes, "seed": 0}, data)
        counts[label] = count_parameters(trainer.network)
    assert counts["original"] == 110_510
    assert counts["deep"] == regression_depth_width.DEEP
    assert abs(counts["shallow"] / counts["deep"] - 1) < 0.02


@pytest.mark.parametrize(
    ("model", "expected"),
    # Convolutions and products of the layers, counted by hand.
    [("mlp", 3072 * 1024 + 1024 * 512 + 512 * 64 + 64 * 64 + 64 * 10), ("resnet18", 555_422_720)],
)
def test_multiply_adds_are_those_of_the_layers(model, expected):
    assert classify.multiply_adds(plan.Run({"model": model}, Path())) == expected


def test_imports_go_one_way():
    """Also those inside functions; ``plan`` loads the questions by their names."""
    imports = {}
    for path in (ROOT / "experiments").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        froms = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        names = {f"{n.module}.{alias.name}" for n in froms for alias in n.names}
        imports[name] = names | {n.module for n in froms}
    left = {name: {n for n in names if n in imports} for name, names in imports.items()}
    while free := [name for name, names in left.items() if not names & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or behind one: {left}"


def test_importing_all_experiments_changes_nothing_and_needs_no_optional_package():
    code = (
        "import sys, torch\n"
        "from training import config\n"
        f"for name in {OPTIONAL}: sys.modules[name] = None\n"
        "before = dict(config.MODELS), torch.get_num_threads()\n"
        "import experiments.__main__\n"
        "assert experiments.__main__.main(['list']) == 0\n"
        "assert (config.MODELS, torch.get_num_threads()) == before\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


# ------------------------------------------------------------------------------- what is done


def test_all_runs_are_finished_and_a_second_run_trains_nothing(done, tiny, capfd):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("results.json")}
    assert len(before) == 2 * (3 + 3)
    assert command(arguments(NAMES, tiny, done, *RUN)) == 0
    assert "0 done, 0 failed" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("results.json")} == before


def test_a_run_is_that_of_main(done, tiny, tmp_path):
    """The same numbers as those of the command line."""
    config = tmp_path / "tanh.json"
    run = plan.Run({"model": "mlp", "activation": "tanh"}, tmp_path)
    config.write_text(json.dumps(classify.model_config(run)))
    words = f"--model_config {config} --data {tiny} --epochs 2 --logdir {tmp_path / 'run'}"
    assert main_command(words.split()) == 0
    ours = results_below(done / "mlp" / "activation=tanh,data=tiny,epochs=2" / "seed=42")
    assert ours == results_below(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "label"),
    [("nonlinearity", "tanh"), ("regression_lr", "0.01"), ("gradient_flow", "mlp")],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(name, label, tiny, tmp_path):
    """A signal comes in the first epoch."""
    experiment = plan.load_experiments()[name]
    train = getattr(experiment.module, "train", classify.train)

    def run_in(folder):
        settings = plan.Settings(output=str(tmp_path / folder), data=str(tiny), epochs=3)
        return plan.runs_of(experiment, settings)[label][0], settings

    train(*run_in("whole"))
    with pytest.raises(interrupt.Interrupted), interrupt.held():
        signal.raise_signal(signal.SIGTERM)
        train(*run_in("interrupted"))
    assert plan.read_finished(run_in("interrupted")[0]) is None
    train(*run_in("interrupted"))
    assert results_below(tmp_path / "interrupted") == results_below(tmp_path / "whole")
    assert norms_below(tmp_path / "interrupted") == norms_below(tmp_path / "whole")


def test_the_folder_is_unlocked_however_a_regression_ends(tiny, tmp_path):
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=1)
    run = plan.runs_of(plan.load_experiments()["regression_lr"], settings)["0.01"][0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regress, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError) as caught:
            regress.train(run, settings)
    with (run.folder / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert caught.traceback  # the lock is no longer held, although the frame that had it is alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs"), [("nonlinearity", "6"), ("regression_lr", "6"), ("gradient_flow", "3")]
)
def test_a_killed_run_ends_as_if_it_had_not_been(name, epochs, tiny, tmp_path):
    """SIGKILL for the parent, in the middle; its children write a checkpoint and end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shorter = ("--epochs", epochs, "--subset", "30")
    assert command(arguments(name, tiny, whole, *shorter)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments(name, tiny, killed, *shorter)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(killed.rglob("results.json"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read().decode()
    process.kill()
    process.communicate()
    assert results_below(killed) != results_below(whole)
    assert command(arguments(name, tiny, killed, *shorter)) == 0
    assert results_below(killed) == results_below(whole)
    if name == "gradient_flow":
        assert norms_below(killed) == norms_below(whole)


def norms_below(folder):
    paths = sorted(folder.rglob(gradient_flow.FILE))
    return {path.relative_to(folder): path.read_text() for path in paths}


@pytest.mark.slow
def test_a_run_that_is_killed_fails_alone_and_is_done_again(tiny, tmp_path, capfd):
    output = tmp_path / "exps"
    experiment = plan.load_experiments()["regression_lr"]
    settings = plan.Settings(output=str(output), data=str(tiny), epochs=100)

    class Killer(execute.Clock):
        def show(self, running):
            for task in running:
                if "lr=0.0001" in task.title and (task.folder / "results.json").exists():
                    for process in lock_holders(task.folder):
                        os.kill(process, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "Clock", Killer)
        outcome = execute.run_all([experiment], settings, execute.Local(1), workers=1)
    assert len(outcome.done) == 2
    assert list(outcome.failed.values()) == ["killed by SIGKILL"]
    assert command(arguments("regression_lr", tiny, output, "--epochs", "100")) == 0
    assert "1 done, 0 failed" in capfd.readouterr().out


def lock_holders(folder):
    """Return the processes that have the lock file of a run open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                targets = [os.readlink(link) for link in (process / "fd").iterdir()]
            except OSError:
                continue
            if str(folder / ".lock") in targets:
                found.append(int(process.name))
    return found


def test_a_run_that_fails_is_done_again(tiny, tmp_path):
    """And does not stop the others."""
    experiment = plan.load_experiments()["regression_lr"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=1)
    first, *others = plan.runs_of(experiment, settings).values()
    first[0].folder.mkdir(parents=True)
    damaged = first[0].folder / "checkpoint.pt"
    damaged.write_bytes(b"half of a checkpoint")
    outcome = execute.run_all([experiment], settings, in_this_process, workers=1)
    assert len(outcome.failed) == 1 and len(outcome.done) == len(others)
    damaged.unlink()
    outcome = execute.run_all([experiment], settings, in_this_process, workers=1)
    assert not outcome.failed and len(outcome.done) == 1


def in_this_process(tasks, outcome):
    """Perform tasks, as ``Local`` and ``Cluster`` do."""
    for task in tasks:
        try:
            execute.perform(task)
            outcome.note(task, None)
        except ValueError as error:
            outcome.note(task, str(error))


def test_a_diverging_run_is_a_result(tiny, tmp_path):
    experiment = plan.load_experiments()["nonlinearity"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=2)
    changes = {"model": "mlp", "optimizer": "sgd", "lr": 1e30}
    run = plan.make_run(experiment, changes, settings, seed=42)
    classify.train(run, settings)
    assert plan.read_finished(run)["finished"].startswith("diverged: the loss is")


def test_the_runs_of_a_folder_have_one_precision(tiny, tmp_path, monkeypatch, capsys):
    """Even if a later measurement, on a busy machine, finds another one the fastest."""
    small = {"small": {"model": "mlp", "hidden_sizes": [8]}}
    monkeypatch.setattr(plan.load_experiments()["nonlinearity"].module, "RUNS", small)
    command_line = arguments("nonlinearity", tiny, tmp_path, "--epochs", "1", "--device", "cpu")
    for speed, seeds in ((1.1, "1"), (2.0, "2")):
        speeds = {"float32": 1.0, "bfloat16": speed}
        monkeypatch.setattr(precision, "measure_speeds", lambda device, speeds=speeds: speeds)
        assert command([*command_line, "--seeds", seeds]) == 0
        assert capsys.readouterr().out.startswith("precision: float32 (bfloat16 ")
    assert [r["precision"] for r in results_below(tmp_path).values()] == ["float32", "float32"]


# ------------------------------------------------------------------------------- what is searched


@pytest.fixture
def small_mixers(monkeypatch):
    """A search among mixers that train in no time."""
    suggest = best_mlpmixer.suggest
    small = {"embed_dim": 16, "num_blocks": 1}
    monkeypatch.setattr(best_mlpmixer, "suggest", lambda trial: {**suggest(trial), **small})


def test_a_search_gives_up_the_trial_of_a_killed_worker_and_has_a_winner(
    small_mixers, tiny, tmp_path
):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    experiment = plan.load_experiments()["best_mlpmixer"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=1, trials=2)
    assert runs_wanted(experiment, settings) == {}
    assert not list(tmp_path.iterdir())
    study = search.open_study(experiment, settings)
    study.ask().set_user_attr("worker", "worker-killed.lock")  # which nobody holds
    search.work(experiment, settings)
    states = [trial.state.name for trial in study.trials]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]
    (winner,) = runs_wanted(experiment, settings)["best"]
    assert study.best_trial.user_attrs["changes"].items() <= winner.changes.items()
    (task,) = execute.todo([experiment], settings, workers=1)
    assert task.run == winner
    assert optuna.trial.TrialState.RUNNING not in states


def test_a_trial_runs_as_long_as_its_worker_holds_its_lock(tmp_path, tiny):
    pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    experiment = plan.load_experiments()["best_mlpmixer"]
    study = search.open_study(experiment, plan.Settings(output=str(tmp_path), data=str(tiny)))
    study.ask().set_user_attr("worker", "worker.lock")
    (trial,) = study.trials
    code = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(tmp_path / 'worker.lock')!r}): print(flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as worker:
        worker.stdout.readline()
        assert search._is_alive(trial, tmp_path)
        worker.kill()
    assert not search._is_alive(trial, tmp_path)


def test_a_search_needs_no_symbolic_link(tmp_path, tiny, monkeypatch):
    """On Windows it is a privilege."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    monkeypatch.setattr(os, "symlink", lambda *_: pytest.fail("a symbolic link"))
    experiment = plan.load_experiments()["best_mlpmixer"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny))
    assert search.open_study(experiment, settings).ask().number == 0


def test_a_search_that_is_stopped_leaves_no_trial_running_and_tries_the_same_again(
    small_mixers, tiny, tmp_path
):
    pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    experiment = plan.load_experiments()["best_mlpmixer"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=1, trials=1)
    with pytest.raises(interrupt.Interrupted), interrupt.held():
        os.kill(os.getpid(), signal.SIGTERM)
        search.work(experiment, settings)
    study = search.open_study(experiment, settings)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]
    search.work(experiment, settings)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    first, second = (trial.user_attrs["changes"] for trial in study.trials)
    assert first == second
    assert not list(tmp_path.rglob("worker-*"))


@pytest.mark.slow
def test_two_workers_share_a_search_and_a_killed_one_loses_its_own_trial_only(
    tiny, tmp_path, monkeypatch
):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    experiment = plan.load_experiments()["best_mlpmixer"]
    monkeypatch.setattr(best_mlpmixer, "TRIAL_EPOCHS", 20)
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), trials=5)
    study = search.open_study(experiment, settings)
    running = optuna.trial.TrialState.RUNNING
    workers = [work_in_a_process(settings) for _ in range(2)]
    deadline = time.monotonic() + 120
    while not (started := [t for t in study.get_trials(states=(running,)) if t.last_step]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = started[0]  # it has done an epoch
    place = (tmp_path / "best_mlpmixer").resolve() / victim.user_attrs["worker"]
    (holder,) = [w for w in workers if place in map(Path.resolve, open_files(w.pid))]
    holder.kill()
    for worker in workers:
        worker.wait()
    assert sorted(worker.returncode for worker in workers) == [-signal.SIGKILL, 0]

    states = [trial.state for trial in study.trials]
    lost = [trial.number for trial in study.trials if trial.state not in search.FINISHED]
    assert lost == [victim.number]
    assert len(states) == settings.trials + 1
    winner = runs_wanted(experiment, settings)["best"][0].changes
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    best = [t.user_attrs["changes"] for t in trials if t.value == study.best_value]
    assert any(changes.items() <= winner.items() for changes in best)


def open_files(process):
    """Return the files that a process has open."""
    return [path.readlink() for path in Path(f"/proc/{process}/fd").iterdir()]


def work_in_a_process(settings):
    """Start a worker for a search among mixers that train in a second or two."""
    code = (
        "from experiments import plan, search\n"
        "from experiments.questions import best_mlpmixer as question\n"
        "suggest, small = question.suggest, {'embed_dim': 32, 'num_blocks': 2}\n"
        "question.suggest = lambda trial: {**suggest(trial), **small}\n"
        "question.TRIAL_EPOCHS = 20\n"
        f"settings = plan.{settings!r}\n"
        "search.work(plan.load_experiments()['best_mlpmixer'], settings)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------------------------- what is measured


def test_the_regression_starts_from_the_seed_of_its_sheet():
    experiment = plan.load_experiments()["regression_cnn"]
    (runs,) = plan.runs_of(experiment, plan.Settings(seeds=(42, 43))).values()
    assert [run.changes["seed"] for run in runs] == [197331, 197332]


def test_one_width_of_the_mixer_varies_at_a_time():
    with torch.device("meta"):
        block = classify.MODELS["mlpmixer"](**plan.model_defaults("mlpmixer")).blocks[0]
    defaults = [block.mlp_tokens.fc1.out_features, block.mlp_channels.fc1.out_features]
    for label, run in mixer_width.RUNS.items():
        widths = [
            run.get(f"{name}_mlp_dim", default)
            for name, default in zip(("tokens", "channels"), defaults)
        ]
        assert label == f"{widths[0]}, {widths[1]}"
        assert widths[0] == defaults[0] or widths[1] == defaults[1]
    drawn = [label for labels in mixer_width.PANELS.values() for label in labels]
    assert set(drawn) == set(mixer_width.RUNS)


def test_intervals_are_those_of_student():
    """The 97.5 % quantile for two degrees of freedom is 4.303."""
    assert Spread((1.0, 2.0, 3.0)).interval == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-2)
    assert Spread((1.0,)).interval == (-math.inf, math.inf)


def test_the_accuracy_of_a_trained_network_is_that_of_its_results(tiny, tmp_path):
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=1, precision="float32")
    run = plan.runs_of(plan.load_experiments()["nonlinearity"], settings)["relu"][0]
    classify.train(run, settings)
    found = measure.accuracy(classify.load_model(run), measure.images_for(settings))
    assert found == pytest.approx(max(plan.read_finished(run)["valid_accs"]))
    before, after = classify.initial_model(run), classify.load_model(run)
    assert measure.moved(before, before) == 0 < measure.moved(before, after) < 1


def test_images_are_moved_to_the_right():
    images = torch.arange(5.0).expand(1, 3, 5, 5)
    assert measure.shift(images, 2)[0, 0, 0].tolist() == [0, 0, 0, 1, 2]
    assert torch.equal(measure.shift(images, 0), images)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (9.0, 1.0)])
def test_sigmoids_are_saturated_far_from_zero(bias, share):
    model = mlp.MLP(3072, [4, 4], 10, "sigmoid")
    for layer in model.hidden_layers:
        layer.weight.data.mul_(1e-3)
        layer.bias.data.fill_(bias)
    split = Split(torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8), torch.arange(20) % 10)
    assert nonlinearity.saturation(model, split)[0] == [share, share]


def test_the_saturated_outputs_of_relu_are_its_zeros():
    model = mlp.MLP(3072, [16], 10)
    split = Split(torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8), torch.arange(20) % 10)
    hidden = model.hidden_layers[0](normalize(split.images.float()).flatten(1))
    (share,), _ = nonlinearity.saturation(model, split)
    assert share == pytest.approx((hidden <= 0).float().mean().item())


def test_only_the_deep_cnn_does_not_see_how_pixels_are_arranged_in_a_window(tiny):
    data = load_data(str(tiny))
    turned = regression_depth_width.turn_windows(data.test.images)
    assert torch.equal(turned[:, :, 0, 0], data.test.images[:, :, 1, 1])
    for label, changes in regression_depth_width.RUNS.items():
        network = regress.make_trainer({**changes, "seed": 0}, data).network.cpu()
        found = [
            network(regression_depth_width.normalised(images))
            for images in (data.test.images, turned)
        ]
        assert torch.allclose(*found, atol=1e-6) == (label == "deep")


def test_without_its_skips_a_block_adds_nothing_to_its_input(tmp_path):
    """If the MLPs return 0, the first layer only has a gradient through the skips."""
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    changes = {"model": "mlpmixer", "embed_dim": 8, "num_blocks": 1, "seed": 0}
    run, initial = plan.Run(changes, tmp_path), classify.initial_model

    def silent(run):
        model = initial(run)
        for block in model.blocks:
            block.mlp_tokens.fc2.weight.data.zero_()
            block.mlp_channels.fc2.weight.data.zero_()
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "initial_model", silent)
        with_skips, without = (
            gradient_flow.first_to_last(skips, run, images, torch.arange(8))
            for skips in (True, False)
        )
    assert with_skips > 0
    assert not without > 0  # 0 / 0: the head sees zeros too


def test_what_the_class_explains_is_the_variance_between_the_classes():
    labels = torch.tensor([0, 0, 3, 3])
    by_class, by_chance = torch.tensor([1.0, 1, 5, 5]), torch.tensor([1.0, 5, 1, 5])
    values = torch.stack([by_class, by_chance, by_class + by_chance], dim=1).double()
    classes, means, explained = feature_maps.explain_by_class(values, labels)
    assert classes.tolist() == [0, 3]
    assert explained.tolist() == pytest.approx([1, 0, 0.5])
    assert means[:, 0].tolist() == pytest.approx([-1, 1])


# ------------------------------------------------------------------------------- messages


def test_the_report_has_a_section_for_each_experiment(done):
    pytest.importorskip("typst", reason="typst is not installed")
    text = (done / "report.md").read_text()
    assert len(re.findall("^## ", text, re.M)) == len(NAMES)
    for figure in re.findall(r"\]\((.*?)\)", text):
        assert (done / figure).read_bytes()[1:4] == b"PNG"
    assert (done / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_numbers_of_the_report_are_those_of_the_results(done):
    accuracies = [
        max(results["valid_accs"])
        for path, results in results_below(done).items()
        if path.startswith("mlp/") and "activation=tanh" in path
    ]
    mean, standard_deviation = np.mean(accuracies), np.std(accuracies, ddof=1)
    row = next(line for line in (done / "report.md").read_text().splitlines() if "| tanh" in line)
    assert f"{mean:.1%} ± {standard_deviation:.1%}" in row


def test_a_report_says_what_is_not_finished(done, tiny):
    experiment = plan.load_experiments()["nonlinearity"]
    settings = plan.Settings(output=str(done), data=str(tiny), epochs=2, seeds=(42, 43, 44))
    assert read_groups(experiment, settings, runs_wanted(experiment, settings)).missing == 3


def test_gradient_norms_are_those_of_the_gradients(tiny, tmp_path):
    """At the first step, with the loss of torch."""
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=2, precision="float32")
    run = plan.runs_of(plan.load_experiments()["gradient_flow"], settings)["mlp"][0]
    gradient_flow.train(run, settings)
    names, steps, norms, weights = gradient_flow.read_norms(run.folder)
    assert steps == [0, 1]

    training = classify.setup(replace(run, folder=tmp_path / "again"), settings)
    training.close()
    training.train_batches.set_epoch(1)
    images, labels = next(iter(training.train_batches))
    for name, row in zip(names, weights):
        assert row[0] == pytest.approx(training.model.get_parameter(name).norm().item(), rel=1e-4)
    torch.nn.functional.cross_entropy(training.model.train()(images), labels).backward()
    for name, row in zip(names, norms):
        expected = training.model.get_parameter(name).grad.norm().item()
        assert row[0] == pytest.approx(expected, rel=1e-4)


def test_spreads_are_sample_standard_deviations():
    assert f"{Spread((1.0, 2.0, 3.0)):.1f}" == "2.0 ± 1.0"
    assert f"{Spread((0.5,)):.1%}" == "50.0%"
    assert f"{Spread(()):.1%}" == "-"


def groups_of(accuracies, diverged=()):
    """Return groups with the best validation accuracy that ``{label: {seed: ...}}`` gives."""
    members = []
    for label, by_seed in accuracies.items():
        runs = [plan.Run({"seed": seed}, Path(str(seed))) for seed in by_seed]
        results = [
            {"valid_accs": [0.0, value], "train_accs": [0.0, 0.9], "best_epoch": 2}
            | {"data": {"valid_images": 5000}}
            | {"finished": "diverged: ..." if (label, seed) in diverged else "trained to the end"}
            | {"test_acc": value - 0.01}
            for seed, value in by_seed.items()
        ]
        members.append(Group(label, runs, results))
    seeds = tuple(dict.fromkeys(seed for by_seed in accuracies.values() for seed in by_seed))
    experiment = plan.load_experiments()["nonlinearity"]
    return Groups(experiment, plan.Settings(seeds=seeds), members, 0)


def text_of(say, *words):
    """Return the sentences that a method of ``Page`` puts on a page."""
    page = Page("name", "title", Path())
    getattr(page, say)(*words)
    return page.markdown()


def test_the_lead_is_that_of_paired_seeds():
    """Seed 3 has no partner. The differences are 4, 2 and -3 points."""
    groups = groups_of(
        {"a": {42: 0.54, 43: 0.52, 44: 0.47, 3: 0.9}, "b": {44: 0.50, 42: 0.50, 43: 0.50}}
    )
    text = text_of("say_best", groups, "the net {}")
    assert "best validation accuracy is 60.8% ± 19.7%, with the net a (test 59.8% ± 19.7%)" in text
    assert "the second best is 50.0% ± 0.0%, with the net b. For the same seed, the" in text
    # 1 ± 4.30 * 3.61 / sqrt(3)
    interval = "+1.0 points (95 % confidence interval over 3 seeds: -8.0 to +10.0)"
    assert f"the first two differ by {interval}, which includes 0." in text


def test_the_lead_of_a_winner_among_many_is_said_to_be_too_large():
    accuracies = {label: {42: 0.5 + i / 10, 43: 0.5 + i / 10} for i, label in enumerate("abc")}
    text = text_of("say_best", groups_of(accuracies))
    assert text.endswith(
        "which excludes 0. They are the first two of 3, chosen by the same accuracies, so that the "
        "interval is somewhat too far from 0."
    )


def test_a_hypothesis_is_compared_seed_by_seed():
    values = {"deep": Spread((3.0, 1.0, 4.0)), "shallow": Spread((2.0, 2.0, 2.0))}
    text = regression_depth_width._check("The deep one errs most", values, max, "deep")
    assert text == (
        "The deep one errs most: true for 2 of 3 seeds (deep 2.667 ± 1.528, shallow 2.000 ± 0.000)."
    )


def test_one_seed_says_nothing_of_chance():
    text = text_of("say_best", groups_of({"a": {42: 0.6}, "b": {42: 0.5}, "c": {42: 0.4}}))
    assert "the lowest is 40.0%, with c. One seed does not show how much" in text
    # sqrt(0.6 * 0.4 / 5,000)
    assert "with 5,000 validation images, the standard error of each accuracy is 0.7" in text


def test_equal_accuracies_share_a_place():
    values = {"a": 0.5, "b": 0.6, "c": 0.6, "d": 0.5, "e": 0.4}
    text = text_of("say_best", groups_of({label: {42: value} for label, value in values.items()}))
    assert "is 60.0%, with b and c; the second best is 50.0%, with a and d; the lowest is" in text
    assert "seed" not in text


def test_a_group_with_a_diverged_run_is_named_and_not_ranked():
    accuracies = {label: {42: 0.5 + i / 10, 43: 0.5} for i, label in enumerate("abc")}
    groups = groups_of(accuracies, diverged={("c", 42)})
    text = text_of("say_best", groups)
    assert "The loss became infinite or NaN with c, for 1 of 2 runs." in text
    assert text.count("with c") == 1
    assert groups["c"].best("valid_accs").values == ()


def test_the_best_of_each_model_is_stated_without_its_name():
    accuracies = {f"mlp, {size}": {42: 0.5 + size / 1000} for size in (1, 2, 3)}
    text = text_of("say_best_of_each_model", groups_of(accuracies), "a size of {}")
    assert "For mlp, the best validation accuracy is 50.3%, with a size of 3 (test 49.3%)" in text
    assert "the second best is 50.2%, with a size of 2; the lowest is 50.1%, with a si" in text


# ------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "nonlinear"],
            "there is no experiment 'nonlinear'; choose from all, nonlinearity,",
        ),
        (["report", "learning_rates"], "there is no experiment 'learning_rates'"),
        (["report"], "has no runs of these experiments: run them first"),
        (["run", "nonlinearity", "--data", "nowhere.npz"], "nowhere.npz"),
        (["run", "nonlinearity", "--data", "cifar"], "'cifar' is no data set"),
        (["run", "nonlinearity", "--data", "shapes", "--subset", "90000"], "--subset is 90000"),
    ],
)
def test_a_mistake_ends_in_one_line(words, message, tmp_path, capsys):
    status = command([*words, "--output", str(tmp_path / "out")])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("words", [["run"], ["run", "all", "--epochs", "0"], ["fly"], []])
def test_a_mistake_in_the_words_ends_in_one_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        command(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_results_of_other_data_are_refused(done, tiny, tmp_path, capsys):
    other = tmp_path / tiny.name
    with np.load(tiny) as arrays:
        np.savez(other, **{**arrays, "test_images": 255 - arrays["test_images"]})
    assert command(arguments("nonlinearity", other, done, "--epochs", "2")) == 2
    assert "was trained on other images than" in capsys.readouterr().err


def test_a_file_that_is_no_image_is_named(done, tiny, capsys):
    words = ["report", "--output", str(done), "--image", str(tiny)]
    assert command(words) == 2
    assert f"cannot identify image file '{tiny}'" in capsys.readouterr().err


def test_damaged_results_are_named(done, tiny, tmp_path, capsys):
    output = tmp_path / "exps"
    run = plan.runs_of(
        plan.load_experiments()["nonlinearity"],
        plan.Settings(output=str(output), data=str(tiny), epochs=2),
    )["relu"][0]
    run.folder.mkdir(parents=True)
    (run.folder / "results.json").write_text('{"train_losses": [1.0')
    assert command(arguments("nonlinearity", tiny, output, "--epochs", "2")) == 2
    assert f"{run.folder / 'results.json'} is not the results.json of" in capsys.readouterr().err


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_is_not_installed_is_named(name, done, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    for module in ("search", "search_page", "cluster"):  # these import it
        monkeypatch.delitem(sys.modules, f"experiments.{module}", raising=False)
        monkeypatch.delattr(experiments, module, raising=False)
    output = tmp_path / "exps"
    words = {
        "optuna": arguments("best_mlpmixer", tiny, output, "--epochs", "1"),
        "submitit": arguments("nonlinearity", tiny, output, "--cluster", "slurm"),
        "typst": ["report", "--output", str(done)],
    }[name]
    (output / "best_mlpmixer").mkdir(parents=True)
    assert command(words) == 2
    error = capsys.readouterr().err
    install = "pip install -r experiments/requirements.txt"
    assert error == f"python -m experiments: error: {name} is missing: {install}\n"


# ------------------------------------------------------------------------------- all at once


class SmallResNet(nn.Module):
    """The first layer of ``ResNet18`` and the last one."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, bias=False)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, images):
        return self.linear(self.conv1(images).relu().mean(dim=(2, 3)))


SMALL = {
    "mlp": {"hidden_sizes": [16]},
    "mlpmixer": {"embed_dim": 16, "num_blocks": 1},
    "cnn": {"dense_hiddens": [16]},
}


@pytest.mark.slow
def test_all_questions_have_a_section_in_the_report(small_npz, small_mixers, tmp_path, monkeypatch):
    """Real runs of all of them, with small networks; one run diverges, and one is missing."""
    pytest.importorskip("optuna", reason="optuna is not installed")
    pytest.importorskip("typst", reason="typst is not installed")
    known = plan.load_experiments()
    for experiment in known.values():
        module, runs = experiment.module, experiment.runs
        smaller = {label: run | SMALL.get(run["model"], {}) for label, run in runs.items()}
        monkeypatch.setattr(module, "RUNS", smaller, raising=False)
        networks = {"resnet18": SmallResNet, **getattr(module, "NETWORKS", {})}
        monkeypatch.setattr(module, "NETWORKS", networks, raising=False)
    widths = {str(width): {**SMALL["mlpmixer"], "model": "mlpmixer", "embed_dim": width}
              for width in (8, 16)}  # fmt: skip
    monkeypatch.setattr(known["embed_dim"].module, "RUNS", widths)
    diverging = {"model": "resnet18", "optimizer": "sgd", "lr": 1e38}
    monkeypatch.setitem(learning_rate.RUNS, "0.1", diverging)
    for label in list(resnet_grid.RUNS)[2:]:  # the real network is slow
        monkeypatch.delitem(resnet_grid.RUNS, label)

    seeds = plan.Settings(
        str(tmp_path), str(small_npz), epochs=2, seeds=(42, 43), trials=3, device="cpu"
    )
    one = replace(seeds, subset=32, epochs=1, seeds=(42,))
    large = ("resnet_grid", "feature_maps", "mlp_vs_resnet")
    asked = [(known[name], one if name in large else seeds) for name in known]
    for experiment, settings in asked:
        outcome = execute.run_all([experiment], settings, in_this_process, workers=1)
        assert not outcome.failed
    missing = runs_wanted(known["nonlinearity"], seeds)["tanh"][1]
    (missing.folder / "results.json").unlink()

    image = tmp_path / "own.png"
    plt.imsave(image, np.random.default_rng(0).random((40, 60, 3)))
    pdf, markdown = write_report(asked, tmp_path, image)
    assert pdf.read_bytes().startswith(b"%PDF")
    text = markdown.read_text()
    assert re.findall("^## (.*)", text, re.M) == [one.question for one in known.values()]
    figures = re.findall(r"\]\((.*?)\)", text)
    assert len(figures) == len(set(figures)) == len(list(tmp_path.glob("figures/**/*.png")))
    assert "NaN with a learning rate of 0.1, for 2 of 2 runs." in text
    assert text.count("Not finished, and not shown: 1 of the runs.") == 1
    assert text.count("An image of 128 x 128 pixels from elsewhere") == 2 * 2  # alternative text
    assert "| drop rate | " in text and "| 0, 0.1, 0.2, 0.4 |" in text
    assert not re.search(r"\bnan\b|\binf\b|None", text)
