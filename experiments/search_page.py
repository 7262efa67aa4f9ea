"""What the report shows of a search: its best trials, and all settings of the best network."""

from typing import Any

from optuna import Study
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from experiments.groups import Group, Groups
from experiments.page import Page
from experiments.search import open_study, trial_epochs
from training.run import FREE_ARGUMENTS


def show_search(page: Page, groups: Groups) -> None:
    """Add tables of the best trials and of all settings, and the result of the best network."""
    study = open_study(groups.experiment, groups.settings)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    keys = list(study.best_trial.user_attrs["changes"])[1:]  # all but the model
    best = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=True)[:5]
    rows = [
        (f"{trial.value:.1%}", *(_in_words(trial.user_attrs["changes"][key]) for key in keys))
        for trial in best
    ]
    epochs = trial_epochs(groups.experiment, groups.settings)
    page.add_table(
        ("validation", *(key.replace("_", " ") for key in keys)),
        rows,
        f"The best {len(rows)} of {len(complete) + len(pruned)} trials, {len(pruned)} of which "
        f"were pruned: best validation accuracy within {epochs} epochs, with one seed. The "
        "first is the highest of many: a repetition would on average be lower.",
    )
    winner = groups["best"]
    page.add_table(
        ("hyperparameter", "best", "searched"),
        _all_settings(winner, study),
        "All hyperparameters of the best network; what was not searched for has its default.",
    )
    if not winner.diverged:
        changes = winner.runs[0].changes
        page.say(
            f"Trained for {changes['epochs']} epochs, the best settings give a validation accuracy "
            f"of {winner.best('valid_accs'):.1%} and a test accuracy of "
            f"{winner.value('test_acc'):.1%}."
        )
    page.say_diverged(groups, "the best settings")
    page.curves(groups)
    page.table(groups, "run")
    page.say_gap(groups)


def _all_settings(winner: Group, study: Study) -> list[tuple[str, str, str]]:
    """Return name, value and searched values of each setting that affects the weights."""
    results, changes = winner.results[0], winner.runs[0].changes
    settings = {"epochs": changes["epochs"], **results["args"], **results["model_config"]}
    searched = {
        name.partition(" of ")[0]: distribution
        for name, distribution in study.best_trial.distributions.items()
    }
    left_out = (FREE_ARGUMENTS | {"model", "seed", "subset"}) - {"epochs"}
    return [
        (key.replace("_", " "), _in_words(value), _range(searched.get(key)))
        for key, value in settings.items()
        if key not in left_out
    ]


def _range(distribution: Any) -> str:
    """Return the values of a distribution of Optuna; a number is drawn on a logarithmic scale."""
    if distribution is None:
        return "no"
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(_in_words, distribution.choices))
    return f"{distribution.low:g} to {distribution.high:g}"


def _in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
