"""Train one run of a classification experiment, with the functions of ``main.py``."""

import argparse
import contextlib
import inspect
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import main
from experiments.plan import DEFAULTS, Run, Settings, model_defaults
from training.checkpoint import BEST_MODEL
from training.config import MODELS
from training.data import SIZE
from training.files import write_json
from training.progress import Diverged
from training.run import Run as Training
from training.run import setup as setup_training
from utils import seed_experiment


def train(run: Run, settings: Settings) -> None:
    """Train to the end, from the last checkpoint if there is one; see ``main.fit``.

    Raises:
        ValueError, OSError: as ``training.run.setup`` and ``main.fit``.
    """
    fit(setup(run, settings))


def setup(run: Run, settings: Settings) -> Training:
    """Build everything that a run needs; see ``training.run.setup``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / "model_config.json"
    write_json(path, model_config(run))
    arguments = {key: value for key, value in run.changes.items() if key in DEFAULTS}
    own = {
        "logdir": str(run.folder),
        "resume": "auto",
        "device": settings.device,
        "precision": settings.precision,
        "data_dir": settings.data_dir,
        "model_config": str(path),
    }
    return setup_training(argparse.Namespace(**{**DEFAULTS, **arguments, **own}), run.network)


def fit(training: Training) -> None:
    """Train to the end; a run that diverges is finished too, and its results say so."""
    with contextlib.suppress(Diverged):
        main.fit(training)


def network_of(run: Run) -> type[nn.Module]:
    """Return the class of a run's model."""
    return run.network or MODELS[run.changes["model"]]


def model_config(run: Run) -> dict[str, Any]:
    """Return the configuration of a run's model: the project's, with the changes."""
    known = inspect.signature(network_of(run)).parameters
    own = {key: value for key, value in run.changes.items() if key in known}
    return model_defaults(run.changes["model"]) | own


def multiply_adds(run: Run) -> int:
    """Return the multiply-adds of the model of a run for one image."""
    with torch.device("meta"):
        model = network_of(run)(**model_config(run)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, SIZE, SIZE))
    return counter.get_total_flops() // 2


def initial_model(run: Run) -> nn.Module:
    """Return the model of a run as it was before training, on the CPU."""
    seed_experiment(run.changes["seed"])
    return network_of(run)(**model_config(run)).eval()


def load_model(run: Run) -> nn.Module:
    """Return the model of a finished run with the weights of its best epoch, on the CPU."""
    model = network_of(run)(**model_config(run))
    path = run.folder / BEST_MODEL
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
