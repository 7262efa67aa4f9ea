"""Search the best settings of a model, with Optuna; any number of workers and machines share it.

A trial is a short run like any other, so one that was killed goes on from its checkpoint when it
is proposed again. What a trial is to try depends on the seed and on how many came before it, not
on when its worker was started: with one worker, a search that was interrupted ends like one that
was not.

Sources: T. Akiba et al., "Optuna" (KDD 2019); J. Bergstra et al., "Algorithms for hyper-parameter
optimization" (NeurIPS 2011), the sampler. A trial is pruned if it is below the median of the
others at the same epoch.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import main
from experiments import classify
from experiments.groups import Groups
from experiments.page import Page
from experiments.plan import Experiment, Run, Settings, make_run
from training import checkpoint
from training.progress import Diverged
from training.run import Run as Prepared

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTUP = 5  # random trials before the sampler learns, and trials before one is pruned
WARM_UP = 2  # epochs in which no trial is pruned


def open_study(experiment: Experiment, settings: Settings) -> optuna.Study:
    """Return the study, from the journal in the experiment's folder; made if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The folder of its trials, less what is tried, tells what makes two studies different.
    name = _trial_run(experiment, {}, settings).folder.parent.name
    path = Path(settings.output) / experiment.name / f"{name}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=f"{experiment.name},{name}",
        storage=JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(STARTUP, WARM_UP),
        load_if_exists=True,
    )


def is_over(experiment: Experiment, settings: Settings) -> bool:
    """Return whether there are as many trials as was asked for."""
    study = open_study(experiment, settings)
    return len(study.get_trials(deepcopy=False, states=FINISHED)) >= settings.trials


def winner(experiment: Experiment, settings: Settings) -> dict[str, list[Run]]:
    """Return the best trial, to be trained for longer: one run a seed; {} if the search goes on."""
    if not is_over(experiment, settings):
        return {}
    changes = open_study(experiment, settings).best_trial.user_attrs["changes"]
    return {"best": [make_run(experiment, changes, settings, seed) for seed in settings.seeds]}


def work(experiment: Experiment, settings: Settings, worker: int) -> None:
    """Take part in a search until it has all of its trials.

    Raises:
        Interrupted: a signal came; a checkpoint of the last step is there.
        ValueError, OSError: as ``main.prepare``.
    """
    study = open_study(experiment, settings)
    taken = (*FINISHED, TrialState.RUNNING)
    while True:
        _bury(study)
        trials = study.get_trials(deepcopy=False, states=taken)
        if len(trials) >= settings.trials:
            if all(trial.state in FINISHED or "process" in trial.user_attrs for trial in trials):
                return
            time.sleep(1)  # one was just started, or its process was killed at that very moment
            continue
        trial = study.ask()
        trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
        before = [
            other
            for other in study.get_trials(deepcopy=False, states=taken)
            if other.number < trial.number
        ]
        study.sampler = optuna.samplers.TPESampler(
            seed=settings.seeds[0] + len(before), n_startup_trials=STARTUP
        )
        changes = {"model": experiment.module.MODEL, **experiment.module.suggest(trial)}
        trial.set_user_attr("changes", changes)
        run = _trial_run(experiment, changes, settings)
        print(f"trial {trial.number}: {run.folder}", flush=True)
        try:
            state, value = _try(trial, classify.prepare(run, settings))
        except checkpoint.InUse:  # another worker tries the same
            state, value = TrialState.FAIL, None
        study.tell(trial, value, state)


def _try(trial: optuna.Trial, prepared: Prepared) -> tuple[TrialState, float | None]:
    """Train and report each epoch; return how it ended and the best validation accuracy."""
    accuracies = prepared.results["valid_accs"]
    for epoch, accuracy in enumerate(accuracies, start=1):  # of the part before an interruption
        trial.report(accuracy, epoch)
    with contextlib.suppress(Diverged):  # a bad trial, but one that is over
        while prepared.epoch < prepared.args.epochs:
            main.fit_epoch(prepared)
            trial.report(accuracies[-1], prepared.epoch)
            if trial.should_prune():
                return TrialState.PRUNED, None
    return TrialState.COMPLETE, max(accuracies, default=0.0)


def _trial_run(experiment: Experiment, changes: Mapping[str, Any], settings: Settings) -> Run:
    changes = {"model": experiment.module.MODEL, **changes}
    short = replace(settings, epochs=_trial_epochs(experiment, settings))
    return make_run(experiment, changes, short, settings.seeds[0])


def _trial_epochs(experiment: Experiment, settings: Settings) -> int:
    longest = experiment.module.TRIAL_EPOCHS
    return min(longest, settings.epochs or longest)


def _bury(study: optuna.Study) -> None:
    """Give up the trials whose process was killed; what they tried is proposed again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_alive(trial):
            with contextlib.suppress(RuntimeError, ValueError):  # another worker was faster
                study.tell(trial.number, state=TrialState.FAIL)


def _is_alive(trial: FrozenTrial) -> bool:
    """Return whether a trial may still be running; of other machines only a day tells."""
    now = datetime.now()
    age = now - (trial.datetime_start or now)  # only trials that wait have not started
    if "process" not in trial.user_attrs:  # just started, or killed at that very moment
        return age < timedelta(minutes=1)
    host, process = trial.user_attrs["process"]
    if host != socket.gethostname():
        return age < timedelta(days=1)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def say_search(page: Page, groups: Groups) -> None:
    """Put on the page how the search went: its best trials, and the winner's settings."""
    experiment, settings = groups.experiment, groups.settings
    study = open_study(experiment, settings)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    keys = list(study.best_trial.user_attrs["changes"])[1:]  # all but the model
    best = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=True)[:5]
    rows = [
        (f"{trial.value:.1%}", *(_in_words(trial.user_attrs["changes"][key]) for key in keys))
        for trial in best
    ]
    header = ("validation", *(key.replace("_", " ") for key in keys))
    page.add_table(
        header, rows,
        f"The best {len(rows)} of {len(complete) + len(pruned)} trials, of which {len(pruned)} "
        "were given up early: best validation accuracy in "
        f"{_trial_epochs(experiment, settings)} epochs.",
    )  # fmt: skip
    changes = groups["best"].runs[0].changes
    chosen = ", ".join(f"`{key}` {_in_words(changes[key])}" for key in keys)
    page.say(
        f"The winner has {chosen}. Trained for {changes['epochs']} epochs it reaches a validation "
        f"accuracy of {groups['best'].best('valid_accs'):.1%} and, on the test images, "
        f"{groups['best'].value('test_acc'):.1%}."
    )


def _in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
