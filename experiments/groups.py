"""The results of an experiment, as its report needs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.plan import Experiment, Run, Settings, read_results, runs_of
from training.results import FINISHED


@dataclass(frozen=True)
class Spread:
    """A number that was measured once a seed: mean and sample standard deviation.

    ``f"{spread:.1%}"`` is "56.1%" for one seed and "56.1% ± 0.3%" for several.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    def __format__(self, form: str) -> str:
        if len(self.values) == 0:
            return "-"
        mean = format(self.mean, form)
        return f"{mean} ± {format(self.deviation, form)}" if len(self.values) > 1 else mean


@dataclass(frozen=True)
class Group:
    """The runs that differ in their seed alone.

    Attributes:
        label: in the legend.
        runs: those that are finished.
        results: their ``results.json``.
    """

    label: str
    runs: Sequence[Run]
    results: Sequence[dict[str, Any]]

    @property
    def summary(self) -> str:
        """The result in a line, for the terminal."""
        if "test_mae" in self.results[0]:
            return f"test MAE {self.last('test_mae'):.3f}"
        if self.diverged:
            return "diverged"
        return f"validation {self.best('valid_accs'):.1%}, test {self.value('test_acc'):.1%}"

    @property
    def diverged(self) -> bool:
        """Whether the loss of a run became infinite."""
        return any(result[FINISHED].startswith("diverged") for result in self.results)

    @property
    def folder(self) -> Path:
        """The folder of the run with the first seed."""
        return self.runs[0].folder

    def curves(self, key: str) -> np.ndarray:
        """Return an entry of all ``results.json``: (seeds, epochs), NaN after a divergence."""
        longest = max(len(result[key]) for result in self.results)
        return np.array(
            [result[key] + [np.nan] * (longest - len(result[key])) for result in self.results],
            dtype=float,
        )

    def best(self, key: str) -> Spread:
        """Return an entry in the epoch of the best validation accuracy."""
        whole = [result for result in self.results if result["best_epoch"]]
        return Spread(tuple(result[key][result["best_epoch"] - 1] for result in whole))

    def last(self, key: str) -> Spread:
        """Return an entry in the last epoch."""
        return Spread(tuple(result[key][-1] for result in self.results if result[key]))

    def value(self, key: str) -> Spread:
        """Return an entry that is one number, such as "test_acc"."""
        return Spread(tuple(r[key] for r in self.results if r.get(key) is not None))

    def seconds(self, key: str = "train_seconds") -> Spread:
        """Return the seconds of an epoch: the median of each run, as the first one is slower."""
        return Spread(tuple(float(np.median(r[key])) for r in self.results if r[key]))


@dataclass(frozen=True)
class Groups:
    """All finished runs of an experiment.

    Attributes:
        experiment, settings: what was asked for.
        members: in the order of the experiment's ``RUNS``.
        missing: number of runs that are not finished.
    """

    experiment: Experiment
    settings: Settings
    members: Sequence[Group]
    missing: int

    def __iter__(self):
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, label: str) -> Group:
        return next(group for group in self.members if group.label == label)

    def ranked(self, key: str = "valid_accs") -> list[Group]:
        """Return the groups that did not diverge, the best first by the mean of ``best(key)``."""
        whole = [group for group in self.members if group.best(key).values]
        return sorted(whole, key=lambda group: -group.best(key).mean)

    @property
    def first(self) -> dict[str, Any]:
        """The results of the first run, for what all runs have in common."""
        return self.members[0].results[0]


def read_groups(experiment: Experiment, settings: Settings) -> Groups:
    """Read what the runs of an experiment left.

    Raises:
        ValueError: a file is damaged, or the runs are on different images.
    """
    wanted = runs_of(experiment, settings)
    if experiment.is_search:
        from experiments.search import winner  # Optuna is needed for these only

        wanted = winner(experiment, settings)
    members, missing = [], 0
    for label, runs in wanted.items():
        found = [(run, results) for run in runs if (results := read_results(run)) is not None]
        missing += len(runs) - len(found)
        if found:
            members.append(Group(label, *zip(*found)))
    return Groups(experiment, settings, members, missing + (not wanted))
