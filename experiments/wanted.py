"""Which runs a question wants: those that it defines, or the winner of its search."""

from experiments.plan import Experiment, Run, Settings, runs_of


def runs_wanted(experiment: Experiment, settings: Settings) -> dict[str, list[Run]]:
    """Return the runs for each name in the legend, one per seed; {} while a search is running."""
    if not experiment.is_search:
        return runs_of(experiment, settings)
    from experiments import search  # only searches need Optuna

    return search.winner(experiment, settings)
