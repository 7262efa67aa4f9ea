"""The results of an experiment, in the form that its report needs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.plan import Experiment, Run, Settings, read_finished
from training.results import FINISHED

# Of Student's t distribution, the 97.5 % quantiles for 1 to 9 degrees of freedom.
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


@dataclass(frozen=True)
class Spread:
    """A number that was measured once per seed: mean and sample standard deviation.

    ``f"{spread:.1%}"`` is "56.1%" for one seed and "56.1% ± 0.3%" for several.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def standard_deviation(self) -> float:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean, infinite for one seed."""
        number = len(self.values)
        if number < 2:
            return -math.inf, math.inf
        quantile = STUDENT_T[min(number - 2, len(STUDENT_T) - 1)]  # too wide above 10 seeds
        half = quantile * self.standard_deviation / math.sqrt(number)
        return self.mean - half, self.mean + half

    def __format__(self, form: str) -> str:
        if not self.values:
            return "-"
        mean = format(self.mean, form)
        if len(self.values) == 1:
            return mean
        return f"{mean} ± {format(self.standard_deviation, form)}"


@dataclass(frozen=True)
class Group:
    """The finished runs that differ only in their seed.

    If one of them diverged, the group has no accuracies: those of the others alone would be biased.

    Attributes:
        label: in the legend.
        runs: those that are finished.
        results: their ``results.json``.
    """

    label: str
    runs: Sequence[Run]
    results: Sequence[dict[str, Any]]

    @property
    def family(self) -> str:
        """What precedes the comma in a label such as "resnet18, 128"."""
        return self.label.partition(", ")[0]

    @property
    def summary(self) -> str:
        """The result in a few words, for the terminal."""
        if self.diverged:
            return f"diverged with {self.diverged} of {len(self.runs)} seeds"
        if "test_mae" in self.results[0]:
            return f"test MAE {self.last('test_mae'):.3f}"
        return f"validation {self.best('valid_accs'):.1%}, test {self.value('test_acc'):.1%}"

    @property
    def diverged(self) -> int:
        """Number of runs that diverged."""
        return sum(result[FINISHED].startswith("diverged") for result in self.results)

    def curves(self, key: str) -> np.ndarray:
        """Return an entry of all ``results.json``: (seeds, epochs), NaN after a divergence."""
        longest = max(len(result[key]) for result in self.results)
        return np.array(
            [result[key] + [np.nan] * (longest - len(result[key])) for result in self.results],
            dtype=float,
        )

    def best(self, key: str) -> Spread:
        """Return an entry in the epoch of the best validation accuracy."""
        return Spread(tuple(r[key][r["best_epoch"] - 1] for r in self._trained))

    def last(self, key: str) -> Spread:
        """Return an entry in the last epoch."""
        return Spread(tuple(r[key][-1] for r in self._trained))

    def value(self, key: str) -> Spread:
        """Return an entry that is one number, such as "test_acc"."""
        return Spread(tuple(r[key] for r in self._trained))

    @property
    def _trained(self) -> Sequence[dict[str, Any]]:
        return () if self.diverged else self.results

    def seconds(self, key: str = "train_seconds") -> Spread:
        """Return the seconds per epoch: the median of each run, as the first epoch is slower."""
        return Spread(tuple(float(np.median(r[key])) for r in self.results if r[key]))

    def lead(self, other: "Group") -> Spread:
        """Return the paired differences of the best validation accuracies, for the common seeds."""
        mine, theirs = (
            {run.changes["seed"]: value for run, value in zip(g.runs, g.best("valid_accs").values)}
            for g in (self, other)
        )
        return Spread(tuple(mine[seed] - theirs[seed] for seed in mine if seed in theirs))


@dataclass(frozen=True)
class Groups:
    """All finished runs of an experiment.

    Attributes:
        experiment, settings: what was run.
        members: in the order of the experiment's ``RUNS``.
        missing: number of runs that are not finished.
    """

    experiment: Experiment
    settings: Settings
    members: Sequence[Group]
    missing: int

    def __iter__(self) -> Iterator[Group]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, label: str) -> Group:
        return next(group for group in self.members if group.label == label)

    def part(self, labels: Sequence[str]) -> "Groups":
        """Return the groups with these labels that are finished, in this order."""
        members = {group.label: group for group in self.members}
        return replace(self, members=[members[label] for label in labels if label in members])

    def ranked(self) -> list[Group]:
        """Return the groups without a diverged run, the best mean validation accuracy first."""
        whole = [group for group in self.members if not group.diverged]
        return sorted(whole, key=lambda group: -group.best("valid_accs").mean)

    @property
    def first(self) -> dict[str, Any]:
        """The results of the first run, for what all runs have in common."""
        return self.members[0].results[0]

    @property
    def of_all(self) -> str:
        """Data, seeds and preset, for a figure of all seeds."""
        number = len(self.settings.seeds)
        return self._source(f"mean of {number} seeds" if number > 1 else "1 seed")

    @property
    def of_one(self) -> str:
        """Data, seed and preset, for a figure of the first run of each group."""
        return self._source(f"seed {self.members[0].runs[0].changes['seed']}")

    def _source(self, seeds: str) -> str:
        preset = f", {self.settings.preset} preset" if self.settings.preset else ""
        return f"{self.first['data']['name']}, {seeds}{preset}"


def read_groups(
    experiment: Experiment, settings: Settings, wanted: Mapping[str, Sequence[Run]]
) -> Groups:
    """Read the results of the runs of an experiment, those of ``wanted.runs_wanted``.

    Raises:
        ValueError: a file is damaged.
    """
    members, missing = [], 0 if wanted else 1
    for label, runs in wanted.items():
        found = [(run, results) for run in runs if (results := read_finished(run)) is not None]
        missing += len(runs) - len(found)
        if found:
            members.append(Group(label, *zip(*found)))
    return Groups(experiment, settings, members, missing)
