"""Write the report of all experiments: report.md, and report.pdf with Typst."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from experiments.groups import Groups, read_groups
from experiments.page import Page, quote
from experiments.plan import Experiment, Settings, seeds_of
from experiments.wanted import runs_wanted
from training.files import write_atomically

TITLE = "MLP, ResNet18 and MLP-Mixer: the experiments"
OWN = 128  # pixels of the reader's own image, in height and width
HOW_TO_READ = (
    "± is the standard deviation between runs with different seeds, not the error of their mean. A "
    "difference is called decided if its 95 % confidence interval over paired seeds excludes 0; "
    "with many comparisons in a report, some are decided by chance. The best epoch and the best "
    "settings are chosen by validation accuracy, which is therefore slightly too high for them; "
    "the test images play no part in any choice. Times depend on what else the machine was doing."
)

# Typst: the style of the page, of headings, tables and captions.
PREAMBLE = """\
#set document(title: {title})
#set page(paper: "a4", margin: 20mm, numbering: "1")
#set text(size: 10pt, font: "Libertinus Serif", lang: "en")
#set par(justify: true)
#set heading(numbering: "1")
#show heading.where(level: 1): it => {{ pagebreak(weak: true); block(below: 1em, it) }}
#show figure: set block(breakable: false)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: it => block(width: 92%, text(size: 9pt, it))
#set table(
  stroke: (x, y) => if y == 0 {{ (top: 0.8pt, bottom: 0.5pt) }} else {{ (bottom: 0.2pt) }},
  align: (x, y) => if x == 0 {{ left }} else {{ right }},
  inset: (x: 5pt, y: 3pt),
)
#show table: set text(size: 8.5pt)
#align(center, text(size: 17pt, weight: "bold", {title}))
#v(0.5em)
#outline(title: none, depth: 1)

#{text}
"""


def write_report(
    asked: Sequence[tuple[Experiment, Settings]], folder: Path, image: Path | None = None
) -> list[Path]:
    """Write the report of experiments that have been run.

    Args:
        asked: experiments, and the settings of the runs to show.
        folder: of the report.
        image: of the reader's own, to which the first layers of the best networks are applied.

    Returns:
        The paths of report.pdf and report.md.

    Raises:
        ValueError: no run is finished, or a results.json is damaged.
        OSError: the image cannot be read.
    """
    own = read_image(image) if image is not None else None
    pages = [
        page
        for experiment, settings in asked
        if (page := make_page(experiment, settings, folder, own)) is not None
    ]
    if not pages:
        raise ValueError(f"no run in {folder} is finished yet")
    markdown = "\n\n".join([f"# {TITLE}", HOW_TO_READ, *(page.markdown() for page in pages)]) + "\n"
    preamble = PREAMBLE.format(title=quote(TITLE), text=quote(HOW_TO_READ))
    source = "\n\n".join([preamble, *(page.typst() for page in pages)])
    paths = folder / "report.pdf", folder / "report.md"
    write_atomically(folder / "report.typ", f"{source}\n".encode())
    write_atomically(paths[1], markdown.encode())
    import typst  # if it is missing, report.md is written all the same

    write_atomically(paths[0], typst.compile(str(folder / "report.typ")))
    return list(paths)


def read_image(path: Path) -> Tensor:
    """Return the largest square in the middle of an image, as (3, OWN, OWN) uint8.

    Raises:
        OSError: it cannot be read, or it is no image.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        square = ImageOps.fit(upright, (OWN, OWN))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def make_page(
    experiment: Experiment, settings: Settings, folder: Path, image: Tensor | None
) -> Page | None:
    """Return the section of an experiment, None if no run of it is finished."""
    groups = read_groups(experiment, settings, runs_wanted(experiment, settings))
    if len(groups) == 0:
        return None
    page = Page(experiment.name, experiment.question, folder, image)
    page.say(experiment.text)
    page.say(_setup(groups))
    experiment.module.report(page, groups)
    return page


def _setup(groups: Groups) -> str:
    """Return the data, the seeds, the hardware and the command, and what is missing."""
    settings, data = groups.settings, groups.first["data"]
    seeds = seeds_of(groups.experiment, settings)
    results = [result for group in groups for result in group.results]
    hardware = {
        f"{r['precision']} on {r['device']}, torch {r['versions']['torch']}" for r in results
    }
    default, epochs = Settings(), groups.members[0].runs[0].changes["epochs"]
    keys = ("data", "subset", "epochs", *["trials"] * groups.experiment.is_search)
    flags = [
        f" --{key} {Path(str(value)).name}"
        for key in keys
        if (value := getattr(settings, key)) != getattr(default, key)
    ]
    if len(seeds) > 1:
        flags.append(f" --seeds {len(seeds)}")
    text = (
        f"Setup: {data['name'].split(',')[0]}; {data['train_images']:,} images for training"
        + (f", {data['valid_images']:,} for validation" if "valid_images" in data else "")
        + f", {data['test_images']:,} for testing; "
        f"{epochs} epoch{'s' * (epochs > 1)}; "
        + (f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}")
        + f"; {' and '.join(sorted(hardware))}. "
        f"Command: `python -m experiments run {groups.experiment.name}{''.join(flags)}`."
    )
    if settings.preset:
        text += f" This is the {settings.preset} preset: everything runs, the numbers mean nothing."
    if groups.missing:
        text += f" Not finished, and not shown: {groups.missing} of the runs."
    return text
