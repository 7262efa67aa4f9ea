"""Search for the best settings of a model with Optuna, shared by workers on any number of machines.

A trial is a short run like any other: one that was killed resumes from its checkpoint when it is
proposed again. The settings that a trial tries depend on the seed and on the trials before it, not
on the time: with one worker, an interrupted search ends with the same result.

Sources: T. Akiba et al., "Optuna" (KDD 2019); J. Bergstra et al., "Algorithms for hyper-parameter
optimization" (NeurIPS 2011), the sampler. A trial is pruned if it is below the median of the
others at the same epoch.
"""

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

import main
from experiments import classify
from experiments.plan import Experiment, Run, Settings, make_run
from training import checkpoint
from training.progress import Diverged
from training.run import Run as Training

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STARTUP = 5  # random trials before the sampler learns, and trials before one is pruned
WARM_UP = 2  # epochs in which no trial is pruned


def open_study(experiment: Experiment, settings: Settings) -> optuna.Study:
    """Return the study in the journal of a search; the journal is created if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = _journal(experiment, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path))  # the default is a symbolic link: a privilege on Windows
    return optuna.create_study(
        study_name=f"{experiment.name},{path.stem}",
        storage=JournalStorage(JournalFileBackend(str(path), lock)),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(STARTUP, WARM_UP),
        load_if_exists=True,
    )


def _journal(experiment: Experiment, settings: Settings) -> Path:
    """Return the file of a search, named after everything that affects it but its trials."""
    name = _trial_run(experiment, {}, settings).folder.parent.name
    return Path(settings.output) / experiment.name / f"{name}.journal"


def winner(experiment: Experiment, settings: Settings) -> dict[str, list[Run]]:
    """Return the best trial, to be trained for longer, one run per seed; {} during the search."""
    if not _journal(experiment, settings).exists():
        return {}
    study = open_study(experiment, settings)
    if len(study.get_trials(deepcopy=False, states=FINISHED)) < settings.trials:
        return {}
    changes = study.best_trial.user_attrs["changes"]
    return {"best": [make_run(experiment, changes, settings, seed) for seed in settings.seeds]}


def work(experiment: Experiment, settings: Settings) -> None:
    """Take part in a search until it has all of its trials.

    Raises:
        Interrupted: a signal came; the last step is in the checkpoint.
        ValueError, OSError: as ``training.run.setup``.
    """
    study = open_study(experiment, settings)
    folder = _journal(experiment, settings).parent
    lock = FileLock(folder / f"worker-{uuid.uuid4()}.lock")
    with contextlib.suppress(NotImplementedError, OSError):  # some network drives have no locks
        lock.acquire()
    try:
        _work(experiment, settings, study, Path(lock.lock_file))
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _work(experiment: Experiment, settings: Settings, study: optuna.Study, lock: Path) -> None:
    """Do what ``work`` does, in a process that has locked the file ``lock``."""
    taken = (*FINISHED, TrialState.RUNNING)
    while True:
        _give_up_killed(study, lock.parent)
        trials = study.get_trials(deepcopy=False, states=taken)
        if len(trials) >= settings.trials:
            if all(trial.state in FINISHED or "worker" in trial.user_attrs for trial in trials):
                return
            time.sleep(1)  # one has just started, or its process was killed at that moment
            continue
        trial = study.ask()
        trial.set_user_attr("worker", lock.name)
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
            with contextlib.closing(classify.setup(run, settings)) as training:
                state, value = _try(trial, training)
        except checkpoint.InUse:  # another worker tries the same settings
            state, value = TrialState.FAIL, None
        except BaseException:  # above all Interrupted
            study.tell(trial, state=TrialState.FAIL)
            raise
        study.tell(trial, value, state)


def _try(trial: optuna.Trial, training: Training) -> tuple[TrialState, float | None]:
    """Train, report each epoch, and return how it ended and the best validation accuracy."""
    accuracies = training.results["valid_accs"]
    for epoch, accuracy in enumerate(accuracies, start=1):  # before an interruption
        trial.report(accuracy, epoch)
    with contextlib.suppress(Diverged):  # a bad trial, but a complete one
        while training.epoch < training.args.epochs:
            main.fit_epoch(training)
            trial.report(accuracies[-1], training.epoch)
            if trial.should_prune():
                return TrialState.PRUNED, None
    return TrialState.COMPLETE, max(accuracies, default=0.0)


def _trial_run(experiment: Experiment, changes: Mapping[str, Any], settings: Settings) -> Run:
    changes = {"model": experiment.module.MODEL, **changes}
    short = replace(settings, epochs=trial_epochs(experiment, settings))
    return make_run(experiment, changes, short, settings.seeds[0])


def trial_epochs(experiment: Experiment, settings: Settings) -> int:
    """Return for how many epochs each trial is trained."""
    longest = experiment.module.TRIAL_EPOCHS
    return min(longest, settings.epochs or longest)


def _give_up_killed(study: optuna.Study, folder: Path) -> None:
    """Mark the trials whose process was killed as failed; their settings are proposed again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_alive(trial, folder):
            with contextlib.suppress(RuntimeError, ValueError):  # another worker was faster
                study.tell(trial.number, state=TrialState.FAIL)


def _is_alive(trial: FrozenTrial, folder: Path) -> bool:
    """Return whether a worker still holds its lock, on this machine or another."""
    now = datetime.now()
    age = now - (trial.datetime_start or now)  # only waiting trials have not started
    if "worker" not in trial.user_attrs:  # just started, or killed at that moment
        return age < timedelta(minutes=1)
    lock = FileLock(folder / trial.user_attrs["worker"])
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True
    except (NotImplementedError, OSError):  # nobody can tell
        return age < timedelta(days=1)
