"""Write the report of all experiments: report.md, and report.pdf with Typst."""

from collections.abc import Sequence
from pathlib import Path

from experiments.groups import Groups, read_groups
from experiments.page import Page, quote
from experiments.plan import Experiment, Settings
from experiments.wanted import runs_wanted
from training.files import write_atomically

TITLE = "MLP, ResNet18 and MLP-Mixer: the experiments"

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
"""


def write_report(asked: Sequence[tuple[Experiment, Settings]], folder: Path) -> list[Path]:
    """Write the report of experiments that have been run.

    Args:
        asked: experiments, and the settings of the runs to show.
        folder: of the report.

    Returns:
        The paths of report.pdf and report.md.

    Raises:
        ValueError: no run is finished, or a results.json is damaged.
    """
    pages = [
        page
        for experiment, settings in asked
        if (page := make_page(experiment, settings, folder)) is not None
    ]
    if not pages:
        raise ValueError(f"no run in {folder} is finished yet")
    markdown = "\n\n".join([f"# {TITLE}", *(page.markdown() for page in pages)]) + "\n"
    source = "\n\n".join([PREAMBLE.format(title=quote(TITLE)), *(page.typst() for page in pages)])
    paths = folder / "report.pdf", folder / "report.md"
    write_atomically(folder / "report.typ", f"{source}\n".encode())
    write_atomically(paths[1], markdown.encode())
    import typst  # if it is missing, report.md is written all the same

    write_atomically(paths[0], typst.compile(str(folder / "report.typ")))
    return list(paths)


def make_page(experiment: Experiment, settings: Settings, folder: Path) -> Page | None:
    """Return the section of an experiment, None if no run of it is finished."""
    groups = read_groups(experiment, settings, runs_wanted(experiment, settings))
    if len(groups) == 0:
        return None
    page = Page(experiment.name, experiment.question, folder)
    page.say(experiment.text)
    page.say(_setup(groups))
    experiment.module.report(page, groups)
    return page


def _setup(groups: Groups) -> str:
    """Return the data, the seeds, the hardware and the command, and what is missing."""
    settings, seeds, data = groups.settings, groups.settings.seeds, groups.first["data"]
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
