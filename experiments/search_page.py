"""What the report shows of a search: its best trials, and the settings of the winner."""

from typing import Any

from optuna.trial import TrialState

from experiments.groups import Groups
from experiments.page import Page
from experiments.search import open_study, trial_epochs


def show_search(page: Page, groups: Groups) -> None:
    """Add a table of the best trials, and the settings, the curves and the result of the winner."""
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
        f"were pruned: best validation accuracy within {epochs} epochs.",
    )
    winner = groups["best"]
    changes = winner.runs[0].changes
    chosen = ", ".join(f"`{key}` {_in_words(changes[key])}" for key in keys)
    text = f"The winner has {chosen}."
    if not winner.diverged:
        text += (
            f" Trained for {changes['epochs']} epochs, it has a validation accuracy of "
            f"{winner.best('valid_accs'):.1%} and a test accuracy of "
            f"{winner.value('test_acc'):.1%}."
        )
    page.say(text)
    page.say_diverged(groups, "the winner")
    page.curves(groups)
    page.table(groups, "run")
    page.say_gap(groups)


def _in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
