"""The mistakes of a trained model.

    python -m training.mistakes exps/resnet18

draws the misclassified validation images, the most confident predictions first.

Shapes: N images, K classes, S = 32 pixels.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from training.arguments import Parser, add_data, add_device, reason, report
from training.batches import Batches
from training.checkpoint import BEST_MODEL
from training.config import MODELS, build_model
from training.data import DataSet, Split, load_data
from training.device import pick_device
from training.figures import save
from training.results import RESULTS, read_results


@dataclass(frozen=True)
class Mistakes:
    """Misclassified images, the most confident predictions first.

    Attributes:
        split: the images and their labels.
        predictions: (N,) classes.
        probabilities: (N,) of the predictions.
        images_in_all: number of images, right ones included.
    """

    split: Split
    predictions: Tensor
    probabilities: Tensor
    images_in_all: int

    def __len__(self) -> int:
        return len(self.predictions)


def read_run(logdir: str | Path) -> dict[str, Any]:
    """Return ``results.json`` of a run of ``main.py``.

    Raises:
        ValueError: it is not that of such a run.
        OSError: it cannot be read.
    """
    results = read_results(logdir)
    if results.get("model") not in MODELS or not {"model_config", "data", "args"} <= results.keys():
        raise ValueError(f"{Path(logdir) / RESULTS} is not of a run of {', '.join(MODELS)}")
    return results


def load_best_model(logdir: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a run with the weights of its best epoch, and its results.

    Args:
        logdir: folder of a run, finished or not.

    Returns:
        The model on the CPU, in evaluation mode, and the content of ``results.json``.

    Raises:
        ValueError: the files in the folder are not those of a run of ``main.py``.
        OSError: the folder has no ``results.json`` or ``best_model.pt``.
    """
    results = read_run(logdir)
    path = Path(logdir) / RESULTS
    try:
        model = build_model(path, MODELS[results["model"]], results["model_config"])
    except TypeError as error:
        raise ValueError(f"{path} is not of a run of {results['model']}: {error}") from error
    path = Path(logdir) / BEST_MODEL
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # PyTorch raises all kinds for damaged bytes
        raise ValueError(f"{path} does not hold the weights of {results['model']}") from error
    return model.eval(), results


@torch.no_grad()
def find_mistakes(model: nn.Module, split: Split, device: torch.device | str) -> Mistakes:
    """Return the images of a split that a model misclassifies."""
    model = model.to(device).eval()
    batches = Batches(split.to(device), 500)
    probabilities = torch.cat([model(images).softmax(dim=1).cpu() for images, _ in batches])
    confidence, predictions = probabilities.max(dim=1)  # each (N,)
    wrong = (predictions != split.labels).nonzero().squeeze(1)
    order = wrong[confidence[wrong].argsort(descending=True, stable=True)]
    return Mistakes(
        Split(split.images[order], split.labels[order]),
        predictions[order],
        confidence[order],
        len(split),
    )


def draw_mistakes(
    mistakes: Mistakes, name_of: Callable[[int], str], title: str, rows: int = 3, columns: int = 6
) -> Figure:
    """Draw the first mistakes, each with its prediction and its label.

    Args:
        mistakes: to draw.
        name_of: returns the name of a class.
        title: of the figure.
        rows, columns: of images.
    """
    figure = Figure(figsize=(1.55 * columns, 2.05 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels:
        panel.axis("off")
    shown = zip(
        panels,
        mistakes.split.images,
        mistakes.split.labels.tolist(),
        mistakes.predictions.tolist(),
        mistakes.probabilities.tolist(),
    )
    for panel, image, label, prediction, probability in shown:
        panel.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        says = f"says {name_of(prediction)}, {100 * probability:.0f} %"
        panel.set_title(f"{says}\nlabel: {name_of(label)}", fontsize=9)
    return figure


def describe_mistakes(mistakes: Mistakes, name_of: Callable[[int], str]) -> str:
    """Return in two sentences how many there are, and which are the most frequent."""
    text = f"{len(mistakes):,} of {mistakes.images_in_all:,} images are wrong."
    pairs = Counter(zip(mistakes.split.labels.tolist(), mistakes.predictions.tolist()))
    frequent = [
        f"{name_of(label)} classified as {name_of(prediction)} ({number})"
        for (label, prediction), number in pairs.most_common(3)
    ]
    return f"{text} Most often: {', '.join(frequent)}." if frequent else text


def save_mistakes(logdir: str | Path, data: DataSet, device: str = "auto") -> tuple[Path, str]:
    """Draw the mistakes of a run on the validation split into ``mistakes.png`` in its folder.

    A PDF is written beside it.

    Args:
        logdir: folder of a run.
        data: what the run was trained on.
        device: as ``--device`` of main.py.

    Returns:
        The path of the figure, and the mistakes in words.

    Raises:
        ValueError, OSError: as ``load_best_model``; the run was trained on other data; the figure
            cannot be written.
    """
    model, results = load_best_model(logdir)
    if results["data"]["sha256"] != data.sha256:
        raise ValueError(f"{logdir} was trained on {results['data']['name']}, not on {data.name}")
    mistakes = find_mistakes(model, data.val, pick_device(device))
    title = f"Mistakes of {results['model']} on the validation images of {data.name}"
    path = Path(logdir) / "mistakes.png"
    save(draw_mistakes(mistakes, data.name_of, title), path)
    return path, describe_mistakes(mistakes, data.name_of)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m training.mistakes",
        description="Draw the validation images that a trained model misclassifies.",
        epilog="example: python -m training.mistakes exps/resnet18",
        allow_abbrev=False,
    )
    parser.add_argument("logdir", type=Path, help="folder of a run; the figure is written there")
    add_data(parser, default=None)
    add_device(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run from the command line and return the exit status: 2 for a mistake in the arguments."""
    args = make_parser().parse_args(argv)
    try:
        own = read_run(args.logdir)["args"]
        data = load_data(args.data or own["data"], args.data_dir or own["data_dir"])
        path, words = save_mistakes(args.logdir, data, args.device)
    except (OSError, ValueError) as error:
        return report("python -m training.mistakes", reason(error))
    print(f"{words}\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
