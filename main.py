"""Train an MLP, a ResNet18 or an MLP-Mixer on CIFAR-10 (Problem 4).

    python main.py --model resnet18 --logdir exps/resnet18

The way of a batch: ``data.Batches`` cuts it out of the set, ``train`` takes the step. The rest of
this file decides what to run (``parse_args``, ``prepare``) and keeps the results (``fit``).
"""

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from tqdm import tqdm

import board
import checkpoint
import interrupt
from config import MODELS, build_model, default_path, read_config
from data import Batches, DataSet, epoch_seed, load_data
from device import (
    PRECISIONS,
    describe_device,
    is_out_of_memory,
    pick_device,
    pick_precision,
    random_state,
    set_random_state,
)
from utils import (
    compute_accuracy,
    cross_entropy_loss,
    generate_plots,
    seed_experiment,
    to_device,
)

# Arguments that may change when a run goes on: they do not shape the weights, or they name
# something (a file, a device) whose content is compared instead or may differ.
FREE_ARGUMENTS = {
    "compile",
    "data",
    "data_dir",
    "device",
    "epochs",
    "logdir",
    "model_config",
    "overwrite",
    "precision",
    "print_every",
    "resume",
    "tensorboard",
    "visualize",
}


class Diverged(Exception):
    """The loss is no longer a finite number."""


@dataclass
class Progress:
    """How far an epoch of training has come."""

    steps: int = 0
    images: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(2))  # loss, accuracy; over the images
    seconds: float = 0.0
    learning_rate: float | None = None  # at the start of the epoch


def train(
    epoch: int,
    model: nn.Module,
    dataloader: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    args: Any,
    *,
    scheduler: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    precision: torch.dtype = torch.float32,
    label_smoothing: float = 0.0,
    progress: Progress | None = None,
) -> tuple[float, float, float]:
    """Train for one epoch, or to the end of the step in which a signal asks ``main`` to end.

    Args:
        epoch: counts from 1; with ``data.Batches`` it chooses the order and the augmentation.
        model: maps images (B, C, H, W) to logits (B, K), on the device ``args.device``.
        dataloader: yields images and labels (B,), on any device.
        optimizer: of the model's parameters.
        args: has ``device`` and ``print_every``, the number of steps between two log lines.
        scheduler: learning rate schedule, stepped after every batch.
        scaler: for float16, whose small gradients would vanish unscaled.
        precision: of the matrix products and convolutions; the weights stay in float32.
        label_smoothing: see ``cross_entropy_loss``; it is part of the loss that is returned.
        progress: where in the epoch to start, with ``data.Batches``; it is kept up to date.

    Returns:
        Loss and accuracy, as means over the images, and the seconds it took.

    Raises:
        Diverged: the loss is not finite; noticed at the next log line.
    """
    device = torch.device(args.device)
    if progress is None:
        progress = Progress()
    if isinstance(dataloader, Batches):
        dataloader.set_epoch(epoch, progress.steps)
    if scaler is None:
        scaler = torch.amp.GradScaler(device.type, enabled=False)
    model.train()
    started = time.perf_counter() - progress.seconds
    # Summed on the device and read at the log lines only: reading waits for the GPU.
    progress.sums = progress.sums.to(device)
    with _bar(dataloader, f"epoch {epoch}", progress.steps) as bar:
        for images, labels in bar:
            images, labels = to_device((images, labels), device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = model(images)
                loss = cross_entropy_loss(logits, labels, label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
            accuracy = compute_accuracy(logits.detach(), labels)
            progress.sums += torch.stack([loss.detach(), accuracy]) * len(labels)
            progress.images += len(labels)
            progress.steps += 1
            if progress.steps % args.print_every == 0:
                mean_loss, mean_accuracy = _train_means(epoch, progress, optimizer)
                speed = progress.images / (time.perf_counter() - started)
                bar.set_postfix_str(
                    f"loss {mean_loss:.3f}, acc {mean_accuracy:.1%}, {speed:,.0f} images/s"
                )
            if interrupt.pending():
                break
    means = _train_means(epoch, progress, optimizer)
    progress.seconds = time.perf_counter() - started
    return *means, progress.seconds


@torch.no_grad()
def evaluate(
    epoch: int,
    model: nn.Module,
    dataloader: Iterable[tuple[Tensor, Tensor]],
    args: Any,
    mode: str = "val",
    *,
    precision: torch.dtype = torch.float32,
) -> tuple[float, float, float]:
    """Measure loss and accuracy; nothing is changed but the model's mode, to evaluation.

    If a signal asks ``main`` to end, the batches so far are all that is measured.

    Args:
        epoch, model, dataloader, args, precision: as in ``train``.
        mode: name of the split, for the progress bar.

    Returns:
        Loss and accuracy, as means over the images, and the seconds it took.

    Raises:
        Diverged: the loss is not finite.
    """
    device = torch.device(args.device)
    model.eval()
    started = time.perf_counter()
    sums, seen = torch.zeros(2, device=device), 0
    for images, labels in _bar(dataloader, mode):
        images, labels = to_device((images, labels), device)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = model(images)
        loss, accuracy = cross_entropy_loss(logits, labels), compute_accuracy(logits, labels)
        sums += torch.stack([loss, accuracy]) * len(labels)
        seen += len(labels)
        if interrupt.pending():
            break
    return *_means(sums, seen, f"epoch {epoch}, {mode}"), time.perf_counter() - started


def _bar(dataloader: Iterable[Any], what: str, done: int = 0) -> tqdm:
    """Show a bar that fits into 80 columns and disappears, in a terminal or a notebook."""
    bar_format = "{desc} {bar} {n_fmt}/{total_fmt}, {remaining} left{postfix}"
    place: dict[str, Any] = {"disable": None}  # no bar in a file or a pipe
    if "ipykernel" in sys.modules:
        # A notebook is neither and has no width, but it draws a line again as a terminal does. On
        # standard error the line would be red; each drawing is sent to the browser.
        place = {"file": sys.stdout, "ncols": 80, "mininterval": 0.5}
    return tqdm(dataloader, desc=what, initial=done, bar_format=bar_format, leave=False, **place)


def _train_means(epoch: int, progress: Progress, optimizer: Optimizer) -> tuple[float, float]:
    """Return loss and accuracy of the epoch so far."""
    where = f"epoch {epoch}, step {progress.steps}, lr {optimizer.param_groups[0]['lr']:g}"
    return _means(progress.sums, progress.images, where)


def _means(sums: Tensor, seen: int, where: str) -> tuple[float, float]:
    """Read the sums of loss and accuracy and divide them by the number of images."""
    if seen == 0:
        raise ValueError("the dataloader is empty: there must be one batch at least")
    loss, accuracy = (total / seen for total in sums.tolist())
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss} ({where}): try a smaller --lr")
    return loss, accuracy


@dataclass
class Run:
    """All that a run needs, and all that it will leave behind."""

    args: argparse.Namespace
    device: torch.device
    precision: torch.dtype
    model: nn.Module
    train_batches: Batches
    val_batches: Batches
    test_batches: Batches
    optimizer: Optimizer
    scheduler: LRScheduler | None
    scaler: torch.amp.GradScaler
    identity: dict[str, Any]  # what must be the same when the run goes on
    results: dict[str, Any]  # the content of results.json
    epoch: int = 0  # epochs that are done
    progress: Progress = field(default_factory=Progress)  # in the epoch after those
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch, on the CPU
    board: Any = None  # of TensorBoard

    @property
    def logdir(self) -> Path:
        return Path(self.args.logdir)


# The entries of results.json that grow with each epoch, and the best epoch: a run that goes on
# takes them from its checkpoint.
HISTORY = (
    "train_losses",
    "valid_losses",
    "train_accs",
    "valid_accs",
    "learning_rates",
    "train_seconds",
    "valid_seconds",
    "best_epoch",
)


def prepare(args: argparse.Namespace) -> Run:
    """Build everything a run needs from its arguments; nothing is trained yet.

    Raises:
        ValueError: an argument, the configuration, the data or the checkpoint is wrong.
        OSError: a file cannot be read, or the folder of the run cannot be written to.
    """
    if args.tensorboard:
        board.require()  # before a folder is made, or emptied
    device = pick_device(args.device)
    precision = pick_precision(args.precision, device)
    args = argparse.Namespace(**{**vars(args), "device": str(device)})  # no longer "auto"
    config_path = args.model_config or default_path(args.model)
    config = read_config(config_path, args.model)
    seed_experiment(args.seed)
    model = build_model(config_path, args.model, config)
    data = load_data(args.data, args.data_dir)
    _check_fit(data, config_path, config, args)

    model = model.to(device).to(memory_format=torch.channels_last)
    if args.compile:
        model.compile()
    train_split = data.train.first(args.subset or len(data.train))
    train_batches = Batches(train_split.to(device), args.batch_size, training=True, seed=args.seed)
    optimizer = build_optimizer(model, args, device)
    chosen = {key: value for key, value in vars(args).items() if key not in FREE_ARGUMENTS}
    if args.scheduler != "constant":
        chosen["epochs"] = args.epochs  # the schedule depends on where it ends
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
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        identity=chosen | {"model_config": config, "data_sha256": data.sha256},
        results=_describe(args, device, precision, model, config, data, len(train_split)),
    )
    if checkpoint.open_folder(run.logdir, args.resume, args.overwrite):
        _restore(run)
    if args.tensorboard:
        run.board = board.open_board(run.logdir, run.results)
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


def _describe(
    args: argparse.Namespace,
    device: torch.device,
    precision: torch.dtype,
    model: nn.Module,
    config: dict[str, Any],
    data: DataSet,
    train_images: int,
) -> dict[str, Any]:
    """Return the content of results.json before the first epoch."""
    name = data.name
    if train_images < len(data.train):
        name += f", {train_images:,} training images"
    return {
        **{key: None if key == "best_epoch" else [] for key in HISTORY},
        "test_loss": None,
        "test_acc": None,
        "model": args.model,
        "model_config": config,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
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
        "device": describe_device(device),
        "precision": str(precision).removeprefix("torch."),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "matplotlib": matplotlib.__version__,
        },
    }


def _restore(run: Run) -> None:
    """Bring a run, and the other files in its folder, to the state that its checkpoint holds."""
    state = checkpoint.load_last_good(run.logdir, run.identity)
    path = run.logdir / checkpoint.CHECKPOINT
    if state["epoch"] > run.args.epochs:
        raise ValueError(
            f"{path} has {state['epoch']} epochs, more than --epochs {run.args.epochs}"
        )
    try:
        run.model.load_state_dict(state["model"])
    except RuntimeError as error:  # the keys that differ, a line each
        differences = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ValueError(f"{path} is of another {run.args.model}: {differences}") from error
    run.optimizer.load_state_dict(state["optimizer"])
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    if run.scaler.is_enabled() and state["scaler"]:
        run.scaler.load_state_dict(state["scaler"])
    set_random_state(state["random"], run.device)
    run.epoch = state["epoch"]
    run.progress = Progress(**state["progress"])
    run.best = state["best"]
    run.results.update(state["history"])
    if run.epoch > 0:
        checkpoint.save(run.logdir / checkpoint.BEST_MODEL, run.best)
        checkpoint.write_json(run.logdir / checkpoint.RESULTS, run.results)


def fit(run: Run) -> dict[str, Any]:
    """Train, keep the weights of the best validation accuracy, and test those once.

    After every epoch ``results.json``, ``checkpoint.pt`` and, if it is the best yet,
    ``best_model.pt`` are in ``run.logdir``.

    Returns:
        The content of ``results.json``.

    Raises:
        Diverged: the loss is not finite.
        Interrupted: a signal came while ``main`` held them; a checkpoint of the last step is there.
        OSError: a result cannot be written; the last checkpoint is intact.
    """
    while run.epoch < run.args.epochs:
        fit_epoch(run)
    run.model.load_state_dict(run.best)
    test_loss, test_acc, _ = evaluate(
        run.results["best_epoch"],
        run.model,
        run.test_batches,
        run.args,
        "test",
        precision=run.precision,
    )
    if (interruption := interrupt.pending()) is not None:
        raise interruption
    run.results["test_loss"], run.results["test_acc"] = test_loss, test_acc
    checkpoint.write_json(run.logdir / checkpoint.RESULTS, run.results)
    return run.results


def fit_epoch(run: Run) -> None:
    """Train for one epoch, or what is left of it, validate, and keep what ``fit`` keeps.

    Raises:
        Diverged, Interrupted, OSError: as ``fit``.
    """
    args, results, epoch = run.args, run.results, run.epoch + 1
    if run.progress.steps == 0:
        # Dropout too depends on the seed and the epoch alone: a resumed run draws the same.
        seed_experiment(epoch_seed(args.seed, epoch))
        run.progress.learning_rate = run.optimizer.param_groups[0]["lr"]
    train_loss, train_acc, train_seconds = train(
        epoch,
        run.model,
        run.train_batches,
        run.optimizer,
        args,
        scheduler=run.scheduler,
        scaler=run.scaler,
        precision=run.precision,
        label_smoothing=args.label_smoothing,
        progress=run.progress,
    )
    valid_loss, valid_acc, valid_seconds = evaluate(
        epoch, run.model, run.val_batches, args, precision=run.precision
    )
    if (interruption := interrupt.pending()) is not None:
        # The numbers above are of a part of the images.
        _save_checkpoint(run)
        raise interruption
    is_best = valid_acc > max(results["valid_accs"], default=-1.0)
    for key, value in (
        ("train_losses", train_loss),
        ("train_accs", train_acc),
        ("train_seconds", train_seconds),
        ("valid_losses", valid_loss),
        ("valid_accs", valid_acc),
        ("valid_seconds", valid_seconds),
        ("learning_rates", run.progress.learning_rate),
    ):
        results[key].append(value)
    if is_best:
        results["best_epoch"] = epoch
        weights = run.model.state_dict()
        run.best = {name: value.cpu().clone() for name, value in weights.items()}
    run.epoch, run.progress = epoch, Progress()
    _save_checkpoint(run)
    if is_best:
        checkpoint.save(run.logdir / checkpoint.BEST_MODEL, run.best)
    checkpoint.write_json(run.logdir / checkpoint.RESULTS, results)
    if run.board is not None:
        board.add_epoch(run.board, results, epoch)
    print(
        f"epoch {epoch:>3}/{args.epochs}  train loss {train_loss:.3f} acc {train_acc:.3f}  "
        f"valid loss {valid_loss:.3f} acc {valid_acc:.3f}  {train_seconds:5.1f} s"
        f"{'  *' if is_best else ''}",
        flush=True,
    )


def _save_checkpoint(run: Run) -> None:
    """Write all that ``_restore`` needs.

    The best weights are among it, because ``best_model.pt`` may be of a later epoch: of one that
    was lost with a damaged checkpoint.
    """
    state = {
        "epoch": run.epoch,
        "progress": asdict(run.progress),
        "history": {key: run.results[key] for key in HISTORY},
        "model": run.model.state_dict(),
        "best": run.best,
        "optimizer": run.optimizer.state_dict(),
        "scheduler": run.scheduler.state_dict() if run.scheduler is not None else None,
        "scaler": run.scaler.state_dict(),
        "random": random_state(run.device),
    }
    checkpoint.save_checkpoint(run.logdir / checkpoint.CHECKPOINT, state, run.identity)


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
        return OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps)
    return None


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, without the usage in front of it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def _number(kind: type, words: str, allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type for argparse: the numbers of a kind that are allowed, which ``words`` name."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan  # which no comparison allows
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {words}")
        return value

    return parse


positive_int = _number(int, "whole number of 1 or more", lambda value: value >= 1)
seed_number = _number(int, "whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
_positive = _number(float, "number above 0", lambda value: 0 < value < math.inf)
_not_negative = _number(float, "number of 0 or more", lambda value: 0 <= value < math.inf)
_fraction = _number(float, "number of 0 or more and less than 1", lambda value: 0 <= value < 1)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its groups are those of ``--help``."""
    parser = Parser(
        prog="main.py",
        description="Train an MLP, a ResNet18 or an MLP-Mixer on CIFAR-10.",
        epilog="example: python main.py --model resnet18 --epochs 15 --logdir exps/resnet18",
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to train")
    what.add_argument("--model", choices=list(MODELS), default="mlp", help="default: mlp")
    what.add_argument(
        "--model_config", metavar="FILE", help="JSON; default: model_configs/MODEL.json"
    )
    what.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10 (downloaded), shapes (drawn, needs no network) or the path of an .npz file; "
        "default: cifar10",
    )
    what.add_argument(
        "--data_dir", default="data", metavar="DIR", help="where cifar10 is kept; default: data"
    )
    what.add_argument(
        "--subset",
        type=positive_int,
        metavar="N",
        help="train on N images only, for slow machines; default: all",
    )
    how = parser.add_argument_group("how to train")
    how.add_argument("--epochs", type=positive_int, default=15, metavar="N", help="default: 15")
    how.add_argument(
        "--batch_size", type=positive_int, default=128, metavar="N", help="images; default: 128"
    )
    how.add_argument(
        "--optimizer",
        choices=["sgd", "momentum", "adam", "adamw"],
        default="adamw",
        help="default: adamw",
    )
    how.add_argument(
        "--lr",
        type=_positive,
        default=1e-3,
        metavar="X",
        help="learning rate, the highest one with a schedule; default: 1e-3",
    )
    how.add_argument(
        "--momentum",
        type=_fraction,
        default=0.9,
        metavar="X",
        help="of the optimizer of this name; default: 0.9",
    )
    how.add_argument(
        "--weight_decay", type=_not_negative, default=5e-4, metavar="X", help="default: 5e-4"
    )
    how.add_argument(
        "--scheduler",
        choices=["constant", "cosine", "onecycle"],
        default="constant",
        help="of the learning rate, step by step; default: constant",
    )
    how.add_argument(
        "--label_smoothing",
        type=_fraction,
        default=0.0,
        metavar="X",
        help="share of the target spread over all classes; default: 0",
    )
    how.add_argument("--seed", type=seed_number, default=42, metavar="N", help="default: 42")
    where = parser.add_argument_group("on what")
    where.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps; default: auto"
    )
    where.add_argument(
        "--precision",
        choices=["auto", *PRECISIONS],
        default="auto",
        help="of the matrix products; auto: bfloat16 or float16 where the hardware has it",
    )
    where.add_argument(
        "--compile", action="store_true", help="torch.compile the model: slower start, faster steps"
    )
    results = parser.add_argument_group("results")
    results.add_argument("--logdir", metavar="DIR", help="folder of the run; default: exps/MODEL")
    results.add_argument(
        "--resume",
        nargs="?",
        choices=["must", "auto"],
        const="must",
        help="go on from the checkpoint in --logdir; with auto, start if there is none",
    )
    results.add_argument(
        "--overwrite", action="store_true", help="replace the run that is in --logdir"
    )
    results.add_argument(
        "--print_every",
        type=positive_int,
        default=80,
        metavar="N",
        help="steps between two updates of the progress bar; default: 80",
    )
    results.add_argument(
        "--visualize",
        action="store_true",
        help="draw the learning curves, and the first layer of resnet18 and mlpmixer",
    )
    results.add_argument(
        "--tensorboard",
        action="store_true",
        help="show the curves in TensorBoard during training, and these figures after it",
    )
    return parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and exit status 2."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume goes on with a run, --overwrite replaces it: choose one")
    args.logdir = args.logdir or f"exps/{args.model}"
    return args


def main(argv: list[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        The exit status: 2 for a mistake of the user's, 1 for a run that cannot go on, 128 and the
        number of the signal for one that a signal ended.
    """
    args = parse_args(argv)
    try:
        with interrupt.raised():
            return _run(args)
    except interrupt.Interrupted as interruption:
        return _say(f"stopped by {interruption}", interruption.status)


def _run(args: argparse.Namespace) -> int:
    """Prepare, train and report; return the exit status."""
    try:
        run = prepare(args)
    except OSError as error:
        return _say(f"error: {_without_number(error)}", 2)
    except (ValueError, NotImplementedError) as error:  # the second: "Problem 1.2: ..."
        return _say(f"error: {error}", 2)
    except (MemoryError, RuntimeError) as error:
        return _say_out_of_memory(error)
    data = run.results["data"]
    print(
        f"{args.model}: {run.results['parameters']:,} parameters, "
        f"{run.results['precision']} on {run.device} ({run.results['device']})\n"
        f"{data['name']}: {data['train_images']:,} images train, "
        f"{data['valid_images']:,} validate, {data['test_images']:,} test"
    )
    if run.epoch > 0 or run.progress.steps > 0:
        steps = f" and {run.progress.steps} steps" if run.progress.steps > 0 else ""
        print(f"going on after epoch {run.epoch}{steps}")
    try:
        with interrupt.held():
            results = fit(run)
        best = results["best_epoch"]
        print(
            f"best validation accuracy {results['valid_accs'][best - 1]:.4f} in epoch {best}, "
            f"test accuracy of its weights {results['test_acc']:.4f}\n"
            f"{sum(results['train_seconds']):.1f} s of training; "
            f"results.json, best_model.pt and checkpoint.pt are in {args.logdir}"
        )
        if args.visualize or args.tensorboard:
            generate_plots([args.logdir], [args.model], args.logdir)
            if callable(visualize := getattr(run.model, "visualize", None)):
                visualize(args.logdir, trained_on=data["name"])
            figures = sorted(run.logdir.glob("*.png"))
            print(f"figures: {', '.join(path.name for path in figures)}")
            if run.board is not None:
                board.add_figures(run.board, results, figures)
    except (Diverged, NotImplementedError) as error:
        return _say(f"stopped: {error}", 1)
    except OSError as error:
        return _say(f"stopped: {_without_number(error)}; {_way_on(run)}", 1)
    except (MemoryError, RuntimeError) as error:
        return _say_out_of_memory(error)
    except interrupt.Interrupted as interruption:
        return _say(f"stopped by {interruption}; {_way_on(run)}", interruption.status)
    return 0


def _say(message: str, status: int) -> int:
    """Print the one line with which the program ends, and return its exit status."""
    print(f"main.py: {message}", file=sys.stderr)
    return status


def _say_out_of_memory(error: Exception) -> int:
    """Say what needs less memory, or raise the error again if it is another one."""
    if not is_out_of_memory(error):
        raise error
    return _say("stopped: out of memory; a smaller --batch_size or --subset needs less", 1)


def _without_number(error: OSError) -> str:
    """Return the file and what is wrong; the errors that data.py makes have no such fields."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _way_on(run: Run) -> str:
    """Return what to do after a run has stopped."""
    if not (run.logdir / checkpoint.CHECKPOINT).exists():
        return "there is no checkpoint yet"
    return "the same command with --resume goes on"


if __name__ == "__main__":
    sys.exit(main())
