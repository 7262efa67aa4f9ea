"""Train an MLP, a ResNet18 or an MLP-Mixer on CIFAR-10 (Problem 4).

    python main.py --model resnet18 --logdir exps/resnet18

``training/batches.py`` cuts a batch out of the images, and ``train`` takes the step. The command
line is in ``training/arguments.py``; ``training/run.py`` builds the model and the rest from it.
"""

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from training import board, interrupt, units
from training.arguments import parse_args, reason, report
from training.augment import draw_share, mix
from training.batches import Batches, epoch_seed
from training.checkpoint import CHECKPOINT
from training.device import is_out_of_memory
from training.precision import Precision
from training.progress import Diverged, Progress
from training.results import FINISHED, TRAINED
from training.run import Run, setup
from utils import (
    compute_accuracy,
    cross_entropy_loss,
    generate_plots,
    seed_experiment,
    to_device,
)


def train(
    epoch: int,
    model: nn.Module,
    dataloader: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    args: Any,
    *,
    scheduler: LRScheduler | None = None,
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> tuple[float, float, float]:
    """Train for one epoch, or until a signal asks ``main`` to end.

    Args:
        epoch: counts from 1; with ``Batches`` it sets the order and the augmentation.
        model: maps images (B, C, H, W) to logits (B, K), on the device ``args.device``.
        dataloader: yields images and labels (B,), on any device.
        optimizer: of the model's parameters.
        args: has ``device`` and ``print_every``, the steps between two updates of the progress bar,
            and may have ``label_smoothing`` and ``mixup``, as in ``--help``.
        scheduler: learning rate schedule, stepped after every batch.
        precision: of the matrix products; float32 by default.
        progress: where in the epoch to start, with ``Batches``; it is kept up to date.

    Returns:
        Loss and accuracy, as means over the images, and the seconds it took.

    Raises:
        Diverged: the loss is not finite.
    """
    precision = precision or Precision("float32", args.device)
    progress = progress or Progress()
    label_smoothing = getattr(args, "label_smoothing", 0.0)
    mixup = getattr(args, "mixup", 0.0)
    if isinstance(dataloader, Batches):
        dataloader.set_epoch(epoch, progress.steps)
    model.train()
    for images, labels in progress.batches(
        dataloader, f"epoch {epoch}", args.print_every, optimizer
    ):
        images, labels = to_device((images, labels), args.device)
        share = draw_share(mixup) if mixup > 0 else 1.0
        with precision.autocast():
            logits = model(mix(images, share) if share < 1 else images)
            loss = cross_entropy_loss(logits, labels, label_smoothing)
            if share < 1:
                other = cross_entropy_loss(logits, labels.flip(0), label_smoothing)
                loss = share * loss + (1 - share) * other
        optimizer.zero_grad(set_to_none=True)
        precision.scale(loss).backward()
        precision.step(optimizer)
        if scheduler is not None:
            scheduler.step()
        progress.add(loss, compute_accuracy(logits.detach(), labels), len(labels))
    return *progress.means(), progress.seconds


@torch.no_grad()
def evaluate(
    epoch: int,
    model: nn.Module,
    dataloader: Iterable[tuple[Tensor, Tensor]],
    args: Any,
    mode: str = "val",
    *,
    precision: Precision | None = None,
) -> tuple[float, float, float]:
    """Measure loss and accuracy, on the batches until a signal asks ``main`` to end.

    Nothing changes except that the model is in evaluation mode.

    Args:
        epoch, model, dataloader, args, precision: as in ``train``.
        mode: name of the split, for the progress bar.

    Returns:
        Loss and accuracy, as means over the images, and the seconds it took.

    Raises:
        Diverged: the loss is not finite.
    """
    precision = precision or Precision("float32", args.device)
    progress = Progress()
    model.eval()
    for images, labels in progress.batches(dataloader, f"epoch {epoch}, {mode}"):
        images, labels = to_device((images, labels), args.device)
        with precision.autocast():
            logits = model(images)
        loss, accuracy = cross_entropy_loss(logits, labels), compute_accuracy(logits, labels)
        progress.add(loss, accuracy, len(labels))
    return *progress.means(), progress.seconds


def fit_epoch(run: Run) -> None:
    """Train for one epoch, or the rest of it, validate, and write what ``fit`` writes.

    Raises:
        Diverged, Interrupted, OSError: as ``fit``.
    """
    args, progress, epoch = run.args, run.progress, run.epoch + 1
    if progress.steps == 0:
        # Dropout, too, depends only on the seed and the epoch: a resumed run draws the same.
        seed_experiment(epoch_seed(args.seed, epoch))
        progress.learning_rate = run.optimizer.param_groups[0]["lr"]
    trained = train(
        epoch,
        run.model,
        run.train_batches,
        run.optimizer,
        args,
        scheduler=run.scheduler,
        precision=run.precision,
        progress=progress,
    )
    if interrupt.pending() is None:
        validated = evaluate(epoch, run.model, run.val_batches, args, precision=run.precision)
    if (interruption := interrupt.pending()) is not None:  # not all batches are in these numbers
        run.save_checkpoint()
        raise interruption
    run.finish_epoch(trained, validated)
    print(run.describe_epoch(), flush=True)


def fit(run: Run) -> dict[str, Any]:
    """Train to the end, then test the weights of the best validation accuracy once.

    After every epoch ``results.json``, ``checkpoint.pt`` and, if it is the best yet,
    ``best_model.pt`` are in ``run.logdir``. The folder is unlocked at the end, however it comes.

    Returns:
        The content of ``results.json``.

    Raises:
        Diverged: the loss is not finite; ``results.json`` says so.
        Interrupted: a signal came while ``main`` held them; the last step is in the checkpoint.
        OSError: a result cannot be written; the last checkpoint is intact.
    """
    args, results = run.args, run.results
    with contextlib.closing(run):
        try:
            while run.epoch < args.epochs:
                fit_epoch(run)
            run.model.load_state_dict(run.best)
            if results[FINISHED] == TRAINED:  # before: the test split is read once
                return results
            best_epoch = results["best_epoch"]
            test_loss, test_acc, _ = evaluate(
                best_epoch, run.model, run.test_batches, args, "test", precision=run.precision
            )
        except Diverged as error:
            results[FINISHED] = f"diverged: {error}"
            run.save_results()
            raise
        if (interruption := interrupt.pending()) is not None:
            raise interruption
        results["test_loss"], results["test_acc"] = test_loss, test_acc
        results[FINISHED] = TRAINED
        run.save_results()
    return results


def draw(run: Run) -> list[Path]:
    """Draw the curves and the first layer into the run's folder; return all figures there."""
    generate_plots([run.logdir], [run.args.model], run.logdir)
    if callable(visualize := getattr(run.model, "visualize", None)):
        try:
            visualize(run.logdir)
        except NotImplementedError as error:  # the training before it counts
            print(f"the first layer is not drawn: {error}")
    if run.args.model == "mlpmixer":
        units.draw_pairs(run.model, run.logdir, trained_on=run.results["data"]["name"])
    figures = sorted(run.logdir.glob("*.png"))
    if run.board is not None:
        board.add_figures(run.board, run.results, figures)
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        The exit status: 2 for a mistake of the user's, 1 for a run that cannot continue, 128 plus
        the number of the signal for one that a signal ended.
    """
    args = parse_args(argv)
    run = None
    try:
        with interrupt.raised():
            run = setup(args)
            print(run.describe())
            with interrupt.held():
                fit(run)
            print(run.describe_results())
            if args.visualize or args.tensorboard:
                print(f"figures: {', '.join(path.stem for path in draw(run))}")
        return 0
    except interrupt.Interrupted as interruption:
        return report("main.py", f"stopped by {interruption}{_advice(run)}", interruption.status)
    except (Diverged, MemoryError, OSError, RuntimeError, ValueError) as error:
        return _explain(error, run)


def _explain(error: Exception, run: Run | None) -> int:
    """Print what ended the program and return the exit status; raise what only a traceback shows.

    NotImplementedError, "Problem 1.2: ...", is a RuntimeError. A ValueError of the training is a
    mistake in a student's code.
    """
    if is_out_of_memory(error):
        words = "stopped: out of memory; a smaller --batch_size or --subset needs less"
        return report("main.py", words, 1)
    if run is None and isinstance(error, (OSError, ValueError, NotImplementedError)):
        return report("main.py", reason(error))
    if isinstance(error, OSError):
        return report("main.py", f"stopped: {reason(error)}{_advice(run)}", 1)
    if isinstance(error, (Diverged, NotImplementedError)):
        return report("main.py", f"stopped: {error}", 1)
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        first_line = str(error).partition("\n")[0]
        return report("main.py", f"stopped: --compile does not work here: {first_line}", 1)
    raise error


def _advice(run: Run | None) -> str:
    """Return how to continue after a run has stopped."""
    if run is None:
        return ""
    if not (run.logdir / CHECKPOINT).exists():
        return "; there is no checkpoint yet"
    return "; the same command with --resume resumes it"


if __name__ == "__main__":
    sys.exit(main())
