"""Write the report of all experiments: report.md, and report.pdf with Typst."""

from collections.abc import Sequence
from pathlib import Path

from experiments.groups import Groups, read_groups
from experiments.page import Page, quote
from experiments.plan import Experiment, Settings
from training.files import write_atomically

TITLE = "MLP, ResNet18 and MLP-Mixer: the experiments"

# Typst: the page, and how headings, tables and captions look.
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
"""


def write_report(wanted: Sequence[tuple[Experiment, Settings]], folder: Path) -> list[Path]:
    """Write the report of experiments that have been run.

    Args:
        wanted: experiments, and the settings of the runs to show.
        folder: of the report.

    Returns:
        The paths of report.pdf and report.md.

    Raises:
        ValueError: no run is finished, or a results.json is damaged.
    """
    pages = [
        page
        for experiment, settings in wanted
        if (page := make_page(read_groups(experiment, settings), folder)) is not None
    ]
    if not pages:
        raise ValueError(f"no run in {folder} is finished yet")
    markdown = "\n\n".join([f"# {TITLE}", *(page.markdown() for page in pages)]) + "\n"
    source = "\n\n".join([PREAMBLE.format(title=quote(TITLE)), *(page.typst() for page in pages)])
    paths = folder / "report.pdf", folder / "report.md"
    write_atomically(folder / "report.typ", f"{source}\n".encode())
    write_atomically(paths[1], markdown.encode())
    import typst  # without it, there is report.md at least

    write_atomically(paths[0], typst.compile(str(folder / "report.typ")))
    return list(paths)


def make_page(groups: Groups, folder: Path) -> Page | None:
    """Return the section of an experiment, None if no run of it is finished."""
    experiment = groups.experiment
    page = Page(experiment.name, experiment.question, folder)
    if len(groups) == 0:
        return None
    page.say(experiment.text)
    page.say(_setup(groups))
    experiment.module.report(page, groups)
    return page


def _setup(groups: Groups) -> str:
    """Say what was run, on what, and what is missing."""
    first = groups.first
    data, seeds = first["data"], groups.settings.seeds
    devices = sorted({result["device"] for group in groups for result in group.results})
    text = (
        f"Set-up: {data['name'].split(',')[0]}, {data['train_images']:,} images train"
        + (f", {data['valid_images']:,} validate" if data.get("valid_images") else "")
        + f", {data['test_images']:,} test; {len(first['train_seconds'])} epochs; "
        + (f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}")
        + f"; {first['precision']} on {' and '.join(devices)}; torch {first['versions']['torch']}. "
        f"Command: `python -m experiments run {groups.experiment.name}`."
    )
    if groups.settings.preset:
        text += (
            f" This is the {groups.settings.preset} preset: it shows that everything runs; "
            "the numbers are not meant to be concluded from."
        )
    if groups.missing:
        text += f" Not finished, and so not shown: {groups.missing} runs."
    return text
