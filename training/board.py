"""What ``--tensorboard`` shows: the curves of a run while it trains, and its figures.

    tensorboard --logdir exps

TensorBoard is not in requirements.txt: it is imported only on demand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"  # in the folder of the run

# Tag: the key in results.json of a list with one number per epoch.
SCALARS = {
    "loss/train": "train_losses",
    "loss/validation": "valid_losses",
    "accuracy/train": "train_accs",
    "accuracy/validation": "valid_accs",
    "learning rate": "learning_rates",
    "seconds of training": "train_seconds",
}


def require() -> type[SummaryWriter]:
    """Return TensorBoard's writer.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"--tensorboard needs TensorBoard ({error}): pip install tensorboard"
        ) from error
    return SummaryWriter


def open_board(logdir: Path, results: dict[str, Any]) -> SummaryWriter:
    """Start the event file of a run, with the epochs that are done already.

    Event files of earlier processes are deleted: the results have their numbers, and epochs lost
    with a killed process would be drawn twice.

    Args:
        logdir: folder of the run.
        results: the content of results.json so far.

    Raises:
        ValueError: TensorBoard is not installed.
        OSError: the folder cannot be written to.
    """
    writer = require()
    for file in (logdir / FOLDER).glob("events.out.tfevents.*"):
        file.unlink()
    board = writer(str(logdir / FOLDER))
    for epoch in range(1, len(results["train_losses"]) + 1):
        add_epoch(board, results, epoch)
    return board


def add_epoch(board: SummaryWriter, results: dict[str, Any], epoch: int) -> None:
    """Add the numbers of one epoch, which counts from 1."""
    for tag, key in SCALARS.items():
        board.add_scalar(tag, results[key][epoch - 1], epoch)
    board.flush()


def add_figures(board: SummaryWriter, results: dict[str, Any], paths: list[Path]) -> None:
    """Add figures, PNG files, and the test accuracy, both at the best epoch."""
    epoch = results["best_epoch"]
    for path in paths:
        board.add_image(path.stem, matplotlib.image.imread(path), epoch, dataformats="HWC")
    board.add_scalar("accuracy/test", results["test_acc"], epoch)
    board.flush()
