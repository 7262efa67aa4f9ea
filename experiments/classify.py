"""Do one run of a classification experiment, with the functions of ``main.py``."""

import argparse
import contextlib
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import main
from experiments.plan import DEFAULTS, Run, Settings
from numpy_networks import solution as numpy_networks
from training import checkpoint, config
from training.data import SIZE
from training.files import write_json
from training.progress import Diverged
from training.run import Run as Prepared

# The ResNet-18 of the second assignment, whose activation and initialisation can be chosen.
config.MODELS.setdefault("resnet18_a2022", numpy_networks.ResNet18)

CONFIG = "model_config.json"


def train(run: Run, settings: Settings) -> None:
    """Train to the end, from the last checkpoint if there is one; see ``main.fit``.

    A run whose loss is no longer finite is finished too, and ``results.json`` says why.

    Raises:
        ValueError, OSError: as ``main.prepare`` and ``main.fit``.
    """
    finish(prepare(run, settings))


def prepare(run: Run, settings: Settings) -> Prepared:
    """Return what ``main.prepare`` makes of a run."""
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / CONFIG
    write_json(path, model_config(run.changes))
    arguments = {key: value for key, value in run.changes.items() if key in DEFAULTS}
    own = {
        "logdir": str(run.folder),
        "resume": "auto",
        "device": settings.device,
        "data_dir": settings.data_dir,
        "model_config": str(path),
    }
    return main.setup(argparse.Namespace(**{**DEFAULTS, **arguments, **own}))


def model_config(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run's model: its file's, with the changes."""
    model = changes["model"]
    path = config.default_path(model)
    default = config.read_config(path, model) if path.exists() else {}
    known = inspect.signature(config.MODELS[model]).parameters
    return default | {key: value for key, value in changes.items() if key in known}


@functools.cache
def _multiply_adds(model: str, configuration: str) -> int:
    with torch.device("meta"):
        network = config.MODELS[model](**json.loads(configuration)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, SIZE, SIZE))
    return counter.get_total_flops() // 2


def multiply_adds(changes: Mapping[str, Any]) -> int:
    """Return the multiply-adds of one image's way through the model of a run."""
    return _multiply_adds(changes["model"], json.dumps(model_config(changes)))


def load_model(run: Run) -> nn.Module:
    """Return the model of a finished run with the weights of its best epoch, on the CPU."""
    network = config.MODELS[run.changes["model"]](**model_config(run.changes))
    path = run.folder / checkpoint.BEST_MODEL
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def finish(prepared: Prepared) -> None:
    """Train to the end; a run that diverges is finished too."""
    with contextlib.suppress(Diverged):
        main.fit(prepared)
