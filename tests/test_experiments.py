"""The experiments: every run is done once, whatever interrupts it, and the report says what it was.

All runs here are real ones, on a few images. The slow part, a complete ``run all``, is a command of
the README.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import classify, execute, figures, plan, regress
from experiments.__main__ import main as command
from experiments.groups import Spread, read_groups
from experiments.questions import gradient_flow, mlp_vs_resnet, regression_depth_width
from regression.solution import count_parameters

from conftest import ROOT, own_forkserver

TIMES = ("train_seconds", "valid_seconds")


@pytest.fixture(scope="module", autouse=True)
def server():
    """The process that is forked for each run."""
    with own_forkserver():
        yield


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


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """The folder of `nonlinearity`, `gradient_flow` and the regressions, run and reported."""
    folder = tmp_path_factory.mktemp("done") / "exps"
    names = ("nonlinearity", "gradient_flow", "regression_depth_width", "regression_lr")
    assert command(arguments(names, tiny, folder, "--epochs", "2", "--seeds", "2")) == 0
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
        for key in (*TIMES, "args"):
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
        for changes in experiment.runs.values():
            assert set(changes) <= {*plan.DEFAULTS, *classify.model_config(changes)}


def test_runs_that_are_the_same_share_a_folder():
    settings = plan.Settings()
    known = plan.load_experiments()
    default = [
        plan.runs_of(known[name], settings)[label][0].folder
        for name, label in (
            ("batch_size", "mlpmixer, 128"),
            ("weight_decay", "mlpmixer, 0.0005"),
            ("optimizer", "mlpmixer, adamw"),
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
                content = json.dumps([kind, classify_all(run.changes)], sort_keys=True)
                assert folders.setdefault(run.folder, content) == content


def classify_all(changes):
    """Return the changes with all defaults."""
    model = {} if changes["model"] == "cnn" else classify.model_config(changes)
    return {**plan.DEFAULTS, **model, **changes}


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
    counts = {
        label: sum(p.numel() for p in classify.config.MODELS[run["model"]](
            **classify.model_config(run)
        ).parameters())
        for label, run in mlp_vs_resnet.RUNS.items()
    }  # fmt: skip
    assert counts["ResNet-18"] == mlp_vs_resnet.RESNET
    assert abs(counts["MLP"] / counts["ResNet-18"] - 1) < 0.001


def test_the_shallow_cnn_has_the_parameters_of_the_deep_one_within_two_per_cent():
    counts = {}
    for label, changes in regression_depth_width.RUNS.items():
        trainer = regress.make_trainer({**changes, "data": "shapes"})
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
    assert classify.multiply_adds({"model": model}) == expected


# ------------------------------------------------------------------------------- what is done


def test_all_runs_are_finished_and_a_second_run_trains_nothing(done, tiny, capfd):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("results.json")}
    assert len(before) == 2 * (3 + 3 + 3 + 3)
    names = ("nonlinearity", "gradient_flow", "regression_depth_width", "regression_lr")
    assert command(arguments(names, tiny, done, "--epochs", "2", "--seeds", "2")) == 0
    assert "0 done, 0 failed" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("results.json")} == before


def test_a_run_is_that_of_main(done, tiny, tmp_path):
    """The same numbers as those of the command line."""
    config = tmp_path / "tanh.json"
    config.write_text(json.dumps(classify.model_config({"model": "mlp", "activation": "tanh"})))
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}  # as `run` gives a job
    subprocess.run(
        [sys.executable, ROOT / "main.py", "--model_config", config, "--data", tiny, "--epochs",
         "2", "--logdir", tmp_path / "run"],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    ours = results_below(done / "mlp" / "activation=tanh,data=tiny,epochs=2" / "seed=42")
    theirs = results_below(tmp_path / "run")
    del ours["results.json"][plan.FINISHED]
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "epochs"), [("nonlinearity", "6"), ("regression_lr", "6"), ("gradient_flow", "3")]
)
def test_a_killed_run_ends_as_if_it_had_not_been(name, epochs, tiny, tmp_path):
    """SIGKILL for the parent, in the middle; its children write a checkpoint and end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert command(arguments(name, tiny, whole, "--epochs", epochs)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments(name, tiny, killed, "--epochs", epochs)],
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
    assert command(arguments(name, tiny, killed, "--epochs", epochs)) == 0
    assert results_below(killed) == results_below(whole)
    if name == "gradient_flow":
        assert norms_below(killed) == norms_below(whole)


def norms_below(folder):
    paths = sorted(folder.rglob(gradient_flow.FILE))
    return {path.relative_to(folder): path.read_text() for path in paths}


def test_a_run_that_is_killed_fails_alone_and_is_done_again(tiny, tmp_path, capfd):
    output = tmp_path / "exps"
    experiment = plan.load_experiments()["nonlinearity"]
    settings = plan.Settings(output=str(output), data=str(tiny), epochs=30)

    class Killer(execute.Clock):
        def show(self, running):
            for task in running:
                if "activation=tanh" in task.title and (task.folder / "results.json").exists():
                    for process in lock_holders(task.folder):
                        os.kill(process, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "Clock", Killer)
        outcome = execute.run_all([experiment], settings, execute.Local(1), workers=1)
    assert len(outcome.done) == 2
    assert list(outcome.failed.values()) == ["killed by SIGKILL"]
    assert command(arguments("nonlinearity", tiny, output, "--epochs", "30")) == 0
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


def test_a_diverging_run_is_a_result(tiny, tmp_path):
    experiment = plan.load_experiments()["nonlinearity"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=2)
    changes = {"model": "mlp", "optimizer": "sgd", "lr": 1e30}
    run = plan.make_run(experiment, changes, settings, seed=42)
    classify.train(run, settings)
    assert plan.read_results(run)[plan.FINISHED].startswith("diverged: the loss is")


# ------------------------------------------------------------------------------- what is searched


def test_two_workers_share_a_search_and_a_killed_one_loses_its_own_trial_only(tiny, tmp_path):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    from experiments import search

    experiment = plan.load_experiments()["best_mlpmixer"]
    settings = plan.Settings(output=str(tmp_path), data=str(tiny), epochs=3, trials=5)
    study = search.open_study(experiment, settings)
    running = optuna.trial.TrialState.RUNNING
    workers = [work_in_a_process(settings, number) for number in range(2)]
    deadline = time.monotonic() + 120
    while not (started := [t for t in study.get_trials(states=(running,)) if t.last_step]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = started[0]  # it has done an epoch
    os.kill(victim.user_attrs["process"][1], signal.SIGKILL)
    while None in [worker.poll() for worker in workers]:  # a zombie would seem to be alive
        time.sleep(0.01)
    assert sorted(worker.returncode for worker in workers) == [-signal.SIGKILL, 0]

    assert search.is_over(experiment, settings)
    states = [trial.state for trial in study.trials]
    lost = [trial.number for trial in study.trials if trial.state not in search.FINISHED]
    assert lost == [victim.number]
    assert len(states) == settings.trials + 1
    winner = search.winner(experiment, settings)["best"][0].changes
    trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    best = [t.user_attrs["changes"] for t in trials if t.value == study.best_value]
    assert any(changes.items() <= winner.items() for changes in best)


def work_in_a_process(settings, number):
    code = (
        "from experiments import plan, search\n"
        f"settings = plan.{settings!r}\n"
        f"search.work(plan.load_experiments()['best_mlpmixer'], settings, {number})\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )


# ------------------------------------------------------------------------------- what is said


def test_the_report_has_a_section_for_each_experiment(done):
    pytest.importorskip("typst", reason="typst is not installed")
    text = (done / "report.md").read_text()
    assert len(re.findall("^## ", text, re.M)) == 4
    for figure in re.findall(r"\]\((.*?)\)", text):
        assert (done / figure).read_bytes()[1:4] == b"PNG"
    assert (done / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_numbers_of_the_report_are_those_of_the_results(done):
    accuracies = [
        max(results["valid_accs"])
        for path, results in results_below(done).items()
        if path.startswith("mlp/") and "activation=tanh" in path
    ]
    mean, deviation = np.mean(accuracies), np.std(accuracies, ddof=1)
    row = next(line for line in (done / "report.md").read_text().splitlines() if "| tanh" in line)
    assert f"{mean:.1%} ± {deviation:.1%}" in row


def test_a_report_says_what_is_not_finished(done, tiny):
    experiment = plan.load_experiments()["nonlinearity"]
    settings = plan.Settings(output=str(done), data=str(tiny), epochs=2, seeds=(42, 43, 44))
    assert read_groups(experiment, settings).missing == 3


def test_gradient_norms_are_those_of_the_gradients(done, tiny, tmp_path):
    """At the first step, with the loss of torch."""
    settings = plan.Settings(output=str(done), data=str(tiny), epochs=2)
    run = plan.runs_of(plan.load_experiments()["gradient_flow"], settings)["mlp"][0]
    names, steps, norms = gradient_flow.read_norms(run.folder)
    assert steps == [0, 1]

    prepared = classify.prepare(replace(run, folder=tmp_path / "again"), settings)
    prepared.train_batches.set_epoch(1)
    images, labels = next(iter(prepared.train_batches))
    torch.nn.functional.cross_entropy(prepared.model.train()(images), labels).backward()
    for name, row in zip(names, norms):
        expected = prepared.model.get_parameter(name).grad.norm().item()
        assert row[0] == pytest.approx(expected, rel=1e-4)


def test_spreads_are_sample_standard_deviations():
    assert f"{Spread((1.0, 2.0, 3.0)):.1f}" == "2.0 ± 1.0"
    assert f"{Spread((0.5,)):.1%}" == "50.0%"
    assert f"{Spread(()):.1%}" == "-"


def test_35_curves_look_different():
    looks = {tuple(figures.look(index).values()) for index in range(35)}
    assert len(looks) == 35


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
    assert "is of other images than" in capsys.readouterr().err


def test_damaged_results_are_named(done, tiny, tmp_path, capsys):
    output = tmp_path / "exps"
    run = plan.runs_of(
        plan.load_experiments()["nonlinearity"],
        plan.Settings(output=str(output), data=str(tiny), epochs=2),
    )["relu"][0]
    run.folder.mkdir(parents=True)
    (run.folder / "results.json").write_text('{"train_losses": [1.0')
    assert command(arguments("nonlinearity", tiny, output, "--epochs", "2")) == 2
    assert f"{run.folder / 'results.json'} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["optuna", "typst", "submitit"])
def test_what_is_not_installed_is_named(name, done, tiny, tmp_path):
    """In a process for which the package does not exist."""
    words = {
        "optuna": arguments("best_mlpmixer", tiny, tmp_path, "--epochs", "1"),
        "submitit": arguments("nonlinearity", tiny, tmp_path, "--cluster", "slurm"),
        "typst": ["report", "--output", str(done)],
    }[name]
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        f"from experiments.__main__ import main; sys.exit(main({words!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == (
        f"experiments: error: {name} is missing: pip install -r experiments/requirements.txt\n"
    )


def test_without_those_packages_the_rest_works(tiny, tmp_path):
    code = (
        "import sys\nfor name in ('optuna', 'typst', 'submitit'): sys.modules[name] = None\n"
        "from experiments.__main__ import main\n"
        f"sys.exit(main(['list']) or main({arguments('nonlinearity', tiny, tmp_path)!r} + "
        "['--epochs', '1']))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_importing_the_experiments_leaves_torch_as_it_was():
    threads = torch.get_num_threads()
    plan.load_experiments()
    assert torch.get_num_threads() == threads
