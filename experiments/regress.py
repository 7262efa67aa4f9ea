"""Do one run of a regression experiment, with the ``Trainer`` of the third assignment."""

import platform
import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from experiments import figures
from experiments.groups import Groups
from experiments.page import Page
from experiments.plan import Run, Settings
from regression.solution import Images, NetworkConfiguration, Trainer, count_parameters
from training import checkpoint, interrupt
from training.batches import epoch_seed
from training.data import load_data
from training.device import describe_device
from training.files import write_json
from training.results import FINISHED, RESULTS
from utils import seed_experiment

KIND = ("regression",)
CURVES = (
    ("train_mae", "Training error", "MAE (classes)"),
    ("test_mae", "Test error", "MAE (classes)"),
)
CONSTANT = 2.5  # MAE of the best constant prediction for ten classes of one size


def train(run: Run, settings: Settings) -> None:
    """Train to the end, from the last checkpoint if there is one.

    The device is the one that ``Trainer`` chooses.

    Raises:
        InUse: another process has the folder.
        Interrupted: a signal came; a checkpoint of the last epoch is there.
        ValueError, OSError: wrong data, or a folder that cannot be written to.
    """
    changes = run.changes
    seed_experiment(changes["seed"])
    trainer = make_trainer(changes)
    data = load_data(changes["data"], settings.data_dir)
    # A DataLoader does not tell of what class its data set is.
    train_set, test_set = cast(Images, trainer.train.dataset), cast(Images, trainer.test.dataset)
    if changes["subset"]:
        part = slice(changes["subset"])
        train_set = Images(train_set.images[part], train_set.labels[part])
        trainer.train = DataLoader(train_set, trainer.batch_size, shuffle=True, collate_fn=tuple)
    results: dict[str, Any] = {
        "train_seconds": [],
        "parameters": count_parameters(trainer.network),
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "train_images": len(train_set),
            "test_images": len(test_set),
        },
        "device": describe_device(trainer.device),
        "precision": "float32",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    identity = {**changes, "data": data.sha256, "epochs": None}
    lock, resumes = checkpoint.open_folder(run.folder, "auto", overwrite=False)
    if resumes:
        state = checkpoint.load_last_good(run.folder, identity)
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.train_logs = state["logs"]
        results["train_seconds"] = state["seconds"]
    ended = "trained to the end"
    for epoch in range(len(results["train_seconds"]) + 1, changes["epochs"] + 1):
        seed_experiment(epoch_seed(changes["seed"], epoch))  # a resumed run draws the same
        seconds = _train_epoch(trainer)
        if not all(torch.tensor(log).isfinite().all() for log in trainer.train_logs.values()):
            ended = f"diverged: the loss is not finite in epoch {epoch}"
            trainer.train_logs = {key: log[:-1] for key, log in trainer.train_logs.items()}
            break
        results["train_seconds"].append(seconds)
        state = {
            "network": trainer.network.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "logs": trainer.train_logs,
            "seconds": results["train_seconds"],
        }
        checkpoint.save_checkpoint(run.folder / checkpoint.CHECKPOINT, state, identity)
        write_json(run.folder / RESULTS, results | trainer.train_logs)
        if (interruption := interrupt.pending()) is not None:
            raise interruption
    results |= {**trainer.train_logs, FINISHED: ended}
    write_json(run.folder / RESULTS, results)
    lock.release()


def _train_epoch(trainer: Trainer) -> float:
    """Train one epoch and return the seconds it took, evaluation included."""
    started = time.perf_counter()
    trainer.train_loop(1)
    return time.perf_counter() - started


def make_trainer(changes: Mapping[str, Any]) -> Trainer:
    """Return the trainer of a run."""
    fields = {key: tuple(v) for key, v in changes.items() if key in NetworkConfiguration._fields}
    return Trainer(
        changes["model"],
        NetworkConfiguration(**fields),
        lr=changes.get("lr", 0.001),
        data=changes["data"],
    )


def multiply_adds(changes: Mapping[str, Any]) -> int:
    """Return about the multiply-adds of an image; the CNNs are all of this size."""
    return 2_500_000 if changes["model"] == "cnn" else 500_000


def draw(page: Page, groups: Groups, legend: str) -> None:
    """Put the curves and a table on the page."""
    figure = figures.draw_curves(groups, page.title, legend, CURVES)
    caption = (
        "Mean absolute error (MAE) of the predicted class index, over the epochs. "
        f"A constant prediction has {CONSTANT}."
    )
    page.add_figure(figure, "curves", caption)
    rows = [
        (
            group.label,
            f"{group.results[0]['parameters']:,}",
            f"{group.last('train_mae'):.3f}",
            f"{group.last('test_mae'):.3f}",
            f"{group.seconds():.2f}",
        )
        for group in groups
    ]
    header = (legend, "parameters", "training MAE", "test MAE", "s / epoch")
    page.add_table(header, rows, "Errors after the last epoch; median seconds an epoch takes.")


def say_ranking(page: Page, groups: Groups, words: str = "{}") -> None:
    """Say which group has the lowest test MAE, and how far below a constant prediction it is."""
    ranked = sorted(groups, key=lambda group: group.last("test_mae").mean)
    best = ranked[0]
    below = CONSTANT - best.last("test_mae").mean
    text = (
        f"{words.format(best.label)} ends with a test MAE of {best.last('test_mae'):.3f}, "
        f"{abs(below):.2f} {'below' if below > 0 else 'above'} the {CONSTANT} of a constant "
        "prediction"
    )
    for group in ranked[1:]:
        text += f"; {words.format(group.label)} with {group.last('test_mae'):.3f}"
    page.say(f"{text[0].upper()}{text[1:]}.")


def say_overfitting(page: Page, groups: Groups) -> None:
    """Say where the test error was lowest, and how far training is below it at the end."""
    for group in groups:
        curve = group.curves("test_mae").mean(axis=0)
        gap = group.last("test_mae").mean - group.last("train_mae").mean
        page.say(
            f"{group.label}: the test MAE is lowest in epoch {int(curve.argmin()) + 1} of "
            f"{len(curve)}, {curve.min():.3f}; at the end it is {abs(gap):.2f} "
            f"{'above' if gap > 0 else 'below'} the training MAE."
        )
