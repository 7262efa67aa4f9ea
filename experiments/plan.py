"""The plan: the experiments, their runs, and the folder of each run."""

import importlib
import io
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from experiments import questions
from training.arguments import make_parser
from training.config import default_path
from training.data import load_data
from training.files import write_atomically, write_json
from training.results import FINISHED, RESULTS, read_results

PLAN = "experiments.json"  # in the output folder: the settings of each experiment, for the report


@dataclass(frozen=True)
class Settings:
    """What the command line sets for all runs.

    Attributes:
        output: folder of all results.
        data, data_dir, subset: as in ``main.py``.
        epochs: of every run; None: as each experiment sets them.
        seeds: each run is trained once per seed.
        trials: of each search.
        device, precision: as in ``main.py``; the runs of an output folder have one precision.
        preset: its name, for the report; empty if there is none.
    """

    output: str = "exps"
    data: str = "cifar10"
    data_dir: str = "data"
    subset: int | None = None
    epochs: int | None = None
    seeds: tuple[int, ...] = (42,)
    trials: int = 20
    device: str = "auto"
    precision: str = "auto"
    preset: str = ""


# Runs everything in minutes, without a download; the numbers mean nothing.
QUICK = {"data": "shapes", "epochs": 2, "trials": 3, "preset": "quick"}
QUICK_TRAIN, QUICK_TEST = 300, 60  # images; a tenth of the former validates


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        changes: what differs from the defaults of ``main.py`` and of the model, the seed included.
        folder: of its results.
        network: class of the model, if it is none of ``training.config.MODELS``.
    """

    changes: Mapping[str, Any]
    folder: Path
    network: type[nn.Module] | None = None


@dataclass(frozen=True)
class Experiment:
    """One question; the attributes are those of its file (see ``__init__.py``)."""

    name: str
    module: ModuleType = field(repr=False)

    @property
    def question(self) -> str:
        """The first line of the docstring."""
        return (self.module.__doc__ or self.name).strip().splitlines()[0]

    @property
    def text(self) -> str:
        """The rest of the docstring: the problem and the method."""
        paragraphs = (self.module.__doc__ or "").strip().split("\n\n")[1:]
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    @property
    def runs(self) -> Mapping[str, Mapping[str, Any]]:
        return getattr(self.module, "RUNS", {})

    @property
    def is_search(self) -> bool:
        return hasattr(self.module, "suggest")


# The order of the report follows the assignment sheets.
ORDER = (
    "nonlinearity", "learning_rate", "patch_size", "learning_rate_adamw", "batch_size",
    "weight_decay", "optimizer", "embed_dim", "best_resnet18", "best_mlpmixer", "mixer_width",
    "gradient_flow", "resnet_grid", "feature_maps", "mlp_vs_resnet", "regression_lr",
    "regression_cnn", "regression_depth_width",
)  # fmt: skip


def load_experiments() -> dict[str, Experiment]:
    """Return all experiments in the order of the report; new ones come last."""
    names = [module.name for module in pkgutil.iter_modules(questions.__path__)]
    names.sort(key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {
        name: Experiment(name, importlib.import_module(f"experiments.questions.{name}"))
        for name in names
    }


def choose(names: list[str]) -> list[Experiment]:
    """Return the experiments with these names; "all" stands for every one.

    Raises:
        ValueError: an unknown name.
    """
    known = load_experiments()
    for name in names:
        if name != "all" and name not in known:
            raise ValueError(
                f"there is no experiment {name!r}; choose from all, {', '.join(known)}"
            )
    return [experiment for name, experiment in known.items() if name in names or "all" in names]


def runs_of(experiment: Experiment, settings: Settings) -> dict[str, list[Run]]:
    """Return the runs that a question defines: for each name in the legend, one run per seed."""
    seeds = seeds_of(experiment, settings)
    return {
        label: [make_run(experiment, changes, settings, seed) for seed in seeds]
        for label, changes in experiment.runs.items()
    }


def seeds_of(experiment: Experiment, settings: Settings) -> list[int]:
    """Return the seeds of a question: those of the settings, or as many from its own first one."""
    first = getattr(experiment.module, "FIRST_SEED", settings.seeds[0])
    return [first + seed - settings.seeds[0] for seed in settings.seeds]


def make_run(
    experiment: Experiment, changes: Mapping[str, Any], settings: Settings, seed: int
) -> Run:
    """Return a run; its folder is named after everything that affects its results."""
    common = {
        "epochs": settings.epochs or experiment.module.EPOCHS,
        "data": settings.data,
        "subset": settings.subset,
    }
    merged = {**changes, **common}
    model = merged["model"]
    kind = "_".join([*getattr(experiment.module, "KIND", ()), model])
    folder = Path(settings.output) / kind / _differences(merged) / f"seed={seed}"
    network = getattr(experiment.module, "NETWORKS", {}).get(model)
    return Run({**merged, "seed": seed}, folder, network)


def _differences(changes: Mapping[str, Any]) -> str:
    """Return what differs from the defaults, as part of the name of a folder."""
    defaults = DEFAULTS | model_defaults(changes["model"])
    parts = []
    for key, value in sorted(changes.items()):
        if key == "model" or value == defaults.get(key):
            continue
        if key == "data":
            value = Path(value).stem
        elif isinstance(value, float):
            value = f"{value:g}"
        elif isinstance(value, list | tuple):
            value = "-".join(map(str, value))
        parts.append(f"{key}={value}")
    return ",".join(parts) or "default"


def round_to_two_digits(value: float) -> float:
    """Return a value that is short to type and that the name of a folder gives exactly."""
    return float(f"{value:.1e}")


DEFAULTS = vars(make_parser().parse_args([]))


def model_defaults(model: str) -> dict[str, Any]:
    """Return the configuration that comes with the project for a model, {} if there is none."""
    path = default_path(model)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_finished(run: Run) -> dict[str, Any] | None:
    """Return the results of a run, None if it is not finished.

    Raises:
        ValueError: its results are damaged.
    """
    if not (run.folder / RESULTS).exists():
        return None
    results = read_results(run.folder)
    return results if results.get(FINISHED) else None


def reduce_data(settings: Settings) -> Settings:
    """Return the settings with a few of their images, which are written to the output folder."""
    data = load_data(settings.data, settings.data_dir)
    path = Path(settings.output) / f"{Path(settings.data).stem}-quick.npz"
    parts = {"train": data.train.first(QUICK_TRAIN), "test": data.test.first(QUICK_TEST)}
    arrays: dict[str, Any] = {
        **{f"{k}_images": p.images.permute(0, 2, 3, 1).numpy() for k, p in parts.items()},
        **{f"{k}_labels": p.labels.numpy() for k, p in parts.items()},
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getbuffer())
    return replace(settings, data=str(path))


def remember(experiments: list[Experiment], settings: Settings) -> None:
    """Save the settings of these experiments, so that ``report`` shows the same runs."""
    path = Path(settings.output) / PLAN
    plan = recall(settings.output)
    plan.update({experiment.name: settings for experiment in experiments})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {name: vars(saved) for name, saved in plan.items()})


def recall(output: str) -> dict[str, Settings]:
    """Return the settings with which each experiment was last run.

    Raises:
        ValueError: their file is damaged.
    """
    path = Path(output) / PLAN
    if not path.exists():
        return {}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Settings(**saved | {"seeds": tuple(saved["seeds"]), "output": output})
            for name, saved in plan.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); delete it and run again") from error
