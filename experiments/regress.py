"""Train one run of a regression experiment, with the ``Trainer`` of the third assignment."""

import copy
import math
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.plan import Run, Settings
from regression.solution import SEED, Images, NetworkConfiguration, Trainer
from training import checkpoint, interrupt
from training.batches import epoch_seed
from training.data import DataSet, load_data
from training.device import describe_device
from training.files import write_json
from training.precision import set_cuda_flags
from training.results import FINISHED, RESULTS, TRAINED
from utils import seed_experiment

KIND = ("regression",)
FIRST_SEED = SEED  # the sheet's


def train(run: Run, settings: Settings) -> None:
    """Train to the end, from the last checkpoint if there is one, on the device of ``Trainer``.

    Raises:
        InUse: another process has locked the folder.
        Interrupted: a signal came; the last epoch is in the checkpoint.
        ValueError, OSError: the data are wrong, or the folder cannot be written to.
    """
    data = load_data(run.changes["data"], settings.data_dir)
    set_cuda_flags(tf32=False)
    trainer = make_trainer(run.changes, data)
    results: dict[str, Any] = {
        "train_seconds": [],
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "train_images": run.changes["subset"] or len(data.train) + len(data.val),
            "test_images": len(data.test),
        },
        "device": describe_device(trainer.device),
        "precision": "float32",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    lock, resumes = checkpoint.open_folder(run.folder, "auto", overwrite=False)
    try:
        _fit(trainer, run.changes, run.folder, results, resumes)
    finally:
        lock.release()


def _fit(
    trainer: Trainer,
    changes: Mapping[str, Any],
    folder: Path,
    results: dict[str, Any],
    resumes: bool,
) -> None:
    """Train in a folder that is locked; ``results.json`` is written after each epoch."""
    fingerprint = _fingerprint(changes, results["data"]["sha256"])
    if resumes:
        state = checkpoint.load_last_good(folder, fingerprint)
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.train_logs = state["logs"]
        results["train_seconds"] = state["seconds"]
    for epoch in range(len(results["train_seconds"]) + 1, changes["epochs"] + 1):
        seed_experiment(epoch_seed(changes["seed"], epoch))  # a resumed run draws the same
        started = time.perf_counter()
        trainer.train_loop(1)
        if not all(math.isfinite(log[-1]) for log in trainer.train_logs.values()):
            trainer.train_logs = {key: log[:-1] for key, log in trainer.train_logs.items()}
            results[FINISHED] = f"diverged: the loss is not finite in epoch {epoch}"
            break
        results["train_seconds"].append(time.perf_counter() - started)
        state = {
            "network": trainer.network.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "logs": trainer.train_logs,
            "seconds": results["train_seconds"],
        }
        checkpoint.save_checkpoint(folder / checkpoint.CHECKPOINT, state, fingerprint)
        write_json(folder / RESULTS, results | trainer.train_logs)
        if (interruption := interrupt.pending()) is not None:
            raise interruption
    write_json(folder / RESULTS, {FINISHED: TRAINED} | results | trainer.train_logs)


def _fingerprint(changes: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Return everything that the weights depend on."""
    return {**changes, "data": sha256, "epochs": None}


def load_networks(run: Run, data: DataSet) -> tuple[nn.Module, nn.Module]:
    """Return the network of a finished run before and after training, on the CPU."""
    seed_experiment(run.changes["seed"])
    before = make_trainer(run.changes, data).network.cpu()
    after = copy.deepcopy(before)
    state = checkpoint.load_last_good(run.folder, _fingerprint(run.changes, data.sha256))
    after.load_state_dict(state["network"])
    return before.eval(), after.eval()


@torch.no_grad()
def mae_of(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the mean absolute error of a network on images (N, 3, S, S) in [0, 255]."""
    split = Images(images, labels)
    parts = [split[part.tolist()] for part in torch.arange(len(split)).split(500)]
    errors = [(network(x)[:, 0] - y).abs() for x, y in parts]
    return torch.cat(errors).mean().item()


def make_trainer(changes: Mapping[str, Any], data: DataSet) -> Trainer:
    """Return the trainer of a run; this assignment trains on the validation images too."""
    images = torch.cat([data.train.images, data.val.images])
    labels = torch.cat([data.train.labels, data.val.labels])
    part = slice(changes.get("subset"))

    class OnData(Trainer):
        @staticmethod
        def load_dataset(self: Trainer) -> tuple[DataLoader, DataLoader]:
            test = Images(data.test.images, data.test.labels)
            return self.make_loaders(Images(images[part], labels[part]), test)

    fields = {key: tuple(v) for key, v in changes.items() if key in NetworkConfiguration._fields}
    layers = NetworkConfiguration(**fields)
    return OnData(changes["model"], layers, lr=changes.get("lr", 0.001), seed=changes["seed"])


def multiply_adds(run: Run) -> int:
    """Return roughly the multiply-adds for one image; all CNNs are of about this size."""
    return 2_500_000 if run.changes["model"] == "cnn" else 500_000
