"""How far an epoch has come: the sums over its images, their means, and the bar that shows them."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from training import interrupt


class Diverged(Exception):
    """The loss is no longer a finite number."""


@dataclass
class Progress:
    """The part of an epoch that is done.

    Attributes:
        steps, images: numbers of batches and of images.
        sums: (2,) loss and accuracy, summed over the images; on the device, since reading them
            makes the CPU wait for a GPU.
        seconds: that it took.
        learning_rate: at the start of the epoch.
    """

    steps: int = 0
    images: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(2))
    seconds: float = 0.0
    learning_rate: float | None = None

    def batches(
        self,
        dataloader: Iterable[tuple[Tensor, Tensor]],
        name: str,
        print_every: int | None = None,
        optimizer: Optimizer | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches behind a progress bar, until a signal asks the program to end.

        Args:
            dataloader: yields images and labels.
            name: of the bar.
            print_every: steps between two updates of the numbers beside the bar.
            optimizer: whose learning rate is named when the loss diverges.

        Raises:
            Diverged: the mean loss is not finite; noticed every ``print_every`` steps, and at the
                end.
            ValueError: the dataloader is empty.
        """
        started = time.perf_counter() - self.seconds

        def means() -> tuple[float, float]:
            loss, accuracy = self.means()
            if not math.isfinite(loss):
                lr = f", lr {optimizer.param_groups[0]['lr']:g}" if optimizer else ""
                place = f"{name}, step {self.steps}{lr}"
                raise Diverged(f"the loss is {loss} ({place}): try a smaller --lr")
            return loss, accuracy

        with _bar(dataloader, name, self.steps) as bar:
            for batch in bar:
                yield batch
                self.steps += 1
                if print_every and self.steps % print_every == 0:
                    loss, accuracy = means()
                    speed = self.images / (time.perf_counter() - started)
                    bar.set_postfix_str(
                        f"loss {loss:.3f}, acc {accuracy:.1%}, {speed:,.0f} images/s"
                    )
                if interrupt.pending():
                    break
        means()
        self.seconds = time.perf_counter() - started

    def add(self, loss: Tensor, accuracy: Tensor, images: int) -> None:
        """Add the mean loss and accuracy of a batch."""
        sums = torch.stack([loss.detach(), accuracy]) * images
        self.sums = self.sums.to(sums.device) + sums
        self.images += images

    def means(self) -> tuple[float, float]:
        """Return the means of loss and accuracy over the images.

        Raises:
            ValueError: there are no images.
        """
        if self.images == 0:
            raise ValueError("the dataloader is empty: it must yield at least one batch")
        loss, accuracy = (total / self.images for total in self.sums.tolist())
        return loss, accuracy


def _bar(dataloader: Iterable[Any], name: str, steps: int) -> tqdm:
    """Return a bar that fits into 80 columns and disappears, in a terminal or a notebook."""
    bar_format = "{desc} {bar} {n_fmt}/{total_fmt}, {remaining} left{postfix}"
    place: dict[str, Any] = {"disable": None}  # no bar in a file or a pipe
    if "ipykernel" in sys.modules:
        # A notebook is neither and has no width, but it redraws a line as a terminal does. On
        # standard error the line would be red; each drawing is sent to the browser.
        place = {"file": sys.stdout, "ncols": 80, "mininterval": 0.5}
    return tqdm(dataloader, desc=name, initial=steps, bar_format=bar_format, leave=False, **place)
