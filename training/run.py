"""A run: everything that it needs, built from its arguments, and its state, saved and restored."""

import argparse
import contextlib
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from training import board, checkpoint
from training.batches import Batches
from training.config import MODELS, build_model, default_path, read_config
from training.data import DataSet, load_data
from training.device import describe_device, pick_device, random_state, set_random_state
from training.files import save, write_json
from training.precision import Precision, pick_precision
from training.progress import Progress
from training.results import FINISHED, HISTORY, RESULTS, TRAINED, read_results
from training.source import hash_source
from utils import cross_entropy_loss, seed_experiment

# Arguments that may change when a run resumes: they do not affect the weights, or they name
# something (a file, a device) that is compared by its content or may differ.
FREE_ARGUMENTS = {
    "compile", "data", "data_dir", "device", "epochs", "logdir", "model_config", "overwrite",
    "precision", "print_every", "resume", "tensorboard", "visualize",
}  # fmt: skip


@dataclass
class Run:
    """One training: what it uses, how far it is, and what it has measured.

    Attributes:
        fingerprint: what must be equal when the run resumes.
        results: the content of ``results.json``.
        lock: of the folder; None once the run is closed.
        epoch: number of finished epochs.
        progress: in the epoch after those.
        best: weights of the epoch with the best validation accuracy, on the CPU.
        board: of TensorBoard.
    """

    args: argparse.Namespace
    device: torch.device
    precision: Precision
    model: nn.Module
    train_batches: Batches
    val_batches: Batches
    test_batches: Batches
    optimizer: Optimizer
    scheduler: LRScheduler | None
    fingerprint: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    lock: FileLock | None = None
    epoch: int = 0
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    board: Any = None

    @property
    def logdir(self) -> Path:
        return Path(self.args.logdir)

    def describe(self) -> str:
        """Return two or three lines for the terminal: the model, the data, where it resumes."""
        data, precision = self.results["data"], self.precision.describe()
        lines = [
            f"{self.args.model}: {self.results['parameters']:,} parameters, {precision} on "
            f"{self.results['args']['device']} ({self.results['device']})",
            f"{data['name']}: {data['train_images']:,} images train, "
            f"{data['valid_images']:,} validate, {data['test_images']:,} test",
        ]
        if self.results[FINISHED] == TRAINED:
            lines.append("it is trained to the end: its results are loaded, not measured again")
        elif self.epoch > 0 or self.progress.steps > 0:
            steps = f" and {self.progress.steps} steps" if self.progress.steps > 0 else ""
            lines.append(f"resuming after epoch {self.epoch}{steps}")
        return "\n".join(lines)

    def finish_epoch(
        self, trained: tuple[float, float, float], validated: tuple[float, float, float]
    ) -> None:
        """Record and write what ``train`` and ``evaluate`` returned, and the weights."""
        results = self.results
        is_best = validated[1] > max(results["valid_accs"], default=-1.0)
        for split, measured in (("train", trained), ("valid", validated)):
            for quantity, value in zip(("losses", "accs", "seconds"), measured):
                results[f"{split}_{quantity}"].append(value)
        results["learning_rates"].append(self.progress.learning_rate)
        self.epoch, self.progress = self.epoch + 1, Progress()
        if is_best:
            results["best_epoch"] = self.epoch
            weights = self.model.state_dict()
            self.best = {name: value.cpu().clone() for name, value in weights.items()}
        self.save_checkpoint()
        if is_best:
            save(self.logdir / checkpoint.BEST_MODEL, self.best)
        self.save_results()
        if self.board is not None:
            board.add_epoch(self.board, results, self.epoch)

    def describe_epoch(self) -> str:
        """Return the line for the terminal after an epoch; a star marks the best one yet."""
        last = {key: self.results[key][-1] for key in HISTORY if key != "best_epoch"}
        return (
            f"epoch {self.epoch:>3}/{self.args.epochs}  "
            f"train loss {last['train_losses']:.3f} acc {last['train_accs']:.3f}  "
            f"valid loss {last['valid_losses']:.3f} acc {last['valid_accs']:.3f}  "
            f"{last['train_seconds']:5.1f} s{'  *' * (self.results['best_epoch'] == self.epoch)}"
        )

    def describe_results(self) -> str:
        """Return two lines for the terminal at the end."""
        results, best = self.results, self.results["best_epoch"]
        return (
            f"best validation accuracy {results['valid_accs'][best - 1]:.4f} in epoch {best}, "
            f"test accuracy of its weights {results['test_acc']:.4f}\n"
            f"{sum(results['train_seconds']):.1f} s of training; "
            f"results.json, best_model.pt and checkpoint.pt are in {self.args.logdir}"
        )

    def save_checkpoint(self) -> None:
        """Write everything that ``setup`` needs to resume.

        The best weights are in it, because ``best_model.pt`` may be of a later epoch: of one that
        was lost with a damaged checkpoint.
        """
        state = {
            "epoch": self.epoch,
            "progress": asdict(self.progress),
            "history": {key: self.results[key] for key in HISTORY},
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "precision": str(self.precision),
            "scaler": self.precision.scaler.state_dict(),
            "random": random_state(self.device),
        }
        checkpoint.save_checkpoint(self.logdir / checkpoint.CHECKPOINT, state, self.fingerprint)

    def save_results(self) -> None:
        """Write ``results.json``."""
        write_json(self.logdir / RESULTS, self.results)

    def close(self) -> None:
        """Release the lock of the folder."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None


def setup(args: argparse.Namespace, network: type[nn.Module] | None = None) -> Run:
    """Build everything a run needs from its arguments; nothing is trained yet.

    Args:
        args: as ``parse_args`` returns them.
        network: class of the model, where ``args.model`` names none of ``config.MODELS``.

    Raises:
        ValueError: an argument, the configuration, the data or the checkpoint is wrong.
        OSError: a file cannot be read, or the folder of the run cannot be written to.
    """
    if args.tensorboard:
        board.require()  # before a folder is made, or emptied
    network = network or MODELS[args.model]
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    args = argparse.Namespace(**{**vars(args), "device": str(device)})  # no longer "auto"
    config_path = args.model_config or default_path(args.model)
    config = read_config(config_path, args.model, network)
    seed_experiment(args.seed)
    model = build_model(config_path, network, config)
    data = load_data(args.data, args.data_dir)
    _check_fit(data, config_path, config, args)

    model = model.to(device)
    if device.type != "mps":  # where the gradients of batch norm are wrong (pytorch #175189)
        model = model.to(memory_format=torch.channels_last)
    if args.compile:
        model.compile()
    train_split = data.train.first(args.subset or len(data.train))
    train_batches = Batches(
        train_split.to(device),
        args.batch_size,
        training=True,
        seed=args.seed,
        crop=args.crop,
        cutout=args.cutout,
    )
    optimizer = build_optimizer(model, args, device)
    run = Run(
        args=args,
        device=device,
        precision=precision,
        model=model,
        train_batches=train_batches,
        val_batches=Batches(data.val.to(device), args.batch_size),
        test_batches=Batches(data.test.to(device), args.batch_size),
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, args, steps=args.epochs * len(train_batches)),
        fingerprint=_fingerprint(args, config, data, network),
    )
    run.results = _first_results(run, config, data)
    run.lock, resumes = checkpoint.open_folder(run.logdir, args.resume, args.overwrite)
    try:
        if resumes:
            _restore(run)
        if args.tensorboard:
            run.board = board.open_board(run.logdir, run.results)
    except BaseException:
        run.close()
        raise
    return run


def _check_fit(
    data: DataSet, config_path: str | Path, config: dict[str, Any], args: argparse.Namespace
) -> None:
    """Raise ValueError unless the model has a logit for each class and the subset exists."""
    num_classes = config.get("num_classes", 10)
    if data.num_classes > num_classes:
        raise ValueError(
            f"{config_path}: num_classes is {num_classes}; "
            f"{data.name} has labels up to {data.num_classes - 1}"
        )
    if args.subset is not None and args.subset > len(data.train):
        raise ValueError(
            f"--subset is {args.subset}; {data.name} has {len(data.train)} training images"
        )


def _fingerprint(
    args: argparse.Namespace,
    config: dict[str, Any],
    data: DataSet,
    network: Callable[..., nn.Module],
) -> dict[str, Any]:
    """Return everything that the weights depend on."""
    shaping = {key: value for key, value in vars(args).items() if key not in FREE_ARGUMENTS}
    if args.scheduler != "constant":
        shaping["epochs"] = args.epochs  # the schedule depends on where it ends
    return shaping | {
        "model_config": config,
        "data_sha256": data.sha256,
        checkpoint.SOURCE: hash_source(network, cross_entropy_loss),
    }


def _first_results(run: Run, config: dict[str, Any], data: DataSet) -> dict[str, Any]:
    """Return the content of ``results.json`` before the first epoch."""
    args, name, train_images = run.args, data.name, len(run.train_batches.split)
    if train_images < len(data.train):
        name += f", {train_images:,} training images"
    return {
        **{key: None if key == "best_epoch" else [] for key in HISTORY},
        "test_loss": None,
        "test_acc": None,
        FINISHED: None,
        "model": args.model,
        "model_config": config,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "data": {
            "name": name,
            "sha256": data.sha256,
            "split": data.split,
            "train_images": train_images,
            "valid_images": len(data.val),
            "test_images": len(data.test),
        },
        "args": {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()},
        "seed": args.seed,
        "device": describe_device(run.device),
        "precision": str(run.precision),
        "precision_speeds": run.precision.speeds,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "matplotlib": matplotlib.__version__,
        },
    }


def _restore(run: Run) -> None:
    """Bring a run, and the other files in its folder, to the state of its checkpoint."""
    state = checkpoint.load_last_good(run.logdir, run.fingerprint)
    path = run.logdir / checkpoint.CHECKPOINT
    if state["epoch"] > run.args.epochs:
        raise ValueError(
            f"{path} has {state['epoch']} epochs, more than --epochs {run.args.epochs}"
        )
    try:
        run.model.load_state_dict(state["model"])
    except RuntimeError as error:  # one line for each key that differs
        differences = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(f"{path} is of another {run.args.model}: {differences}") from error
    run.optimizer.load_state_dict(state["optimizer"])
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    run.precision = pick_precision(run.args.precision, run.device, state.get("precision"))
    run.results["precision"] = str(run.precision)
    scaler = run.precision.scaler
    if scaler.is_enabled() and state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    set_random_state(state["random"], run.device)
    run.epoch = state["epoch"]
    run.progress = Progress(**state["progress"])
    run.best = state["best"]
    run.results.update(state["history"])
    if run.epoch > 0:
        save(run.logdir / checkpoint.BEST_MODEL, run.best)
        if (finished := _finished_results(run)) is not None:
            run.results = finished
        else:
            run.save_results()


def _finished_results(run: Run) -> dict[str, Any] | None:
    """Return the results in the folder of a run if it needs no more training, else None."""
    with contextlib.suppress(OSError, ValueError):  # missing or damaged
        results = read_results(run.logdir)
        same = all(results.get(key) == run.results[key] for key in HISTORY)
        if same and run.epoch == run.args.epochs and results.get(FINISHED) == TRAINED:
            return results
    return None


def build_optimizer(model: nn.Module, args: argparse.Namespace, device: torch.device) -> Optimizer:
    """Return the optimizer that the arguments name, as one fused kernel where PyTorch has it."""
    common = {"lr": args.lr, "weight_decay": args.weight_decay, "fused": device.type != "mps"}
    if args.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), **common)
    if args.optimizer == "momentum":
        return torch.optim.SGD(model.parameters(), momentum=args.momentum, **common)
    if args.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **common)
    return torch.optim.AdamW(model.parameters(), **common)


def build_scheduler(
    optimizer: Optimizer, args: argparse.Namespace, steps: int
) -> LRScheduler | None:
    """Return the schedule over all ``steps`` of the run, or None for a constant learning rate."""
    if args.scheduler == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if args.scheduler == "onecycle":
        # By default PyTorch would also cycle the momentum, and replace --momentum.
        return OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps, cycle_momentum=False)
    return None
