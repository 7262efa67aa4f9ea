"""Fill in the measured answers of the rubric for course staff, so that no number is typed."""

import re
import tempfile
from pathlib import Path

from experiments.plan import choose, recall
from experiments.report import make_page

BLOCK = re.compile(r"(<!-- measured: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "Not measured yet."


def fill(text: str, output: str) -> str:
    """Return the rubric with the sections of the report in its blocks, without their figures.

    Args:
        text: of the rubric; the first line of a block names experiments.
        output: folder of their runs.

    Raises:
        ValueError: an unknown experiment, or a damaged file.
    """
    settings = recall(output)

    def measured(block: re.Match[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:  # for the figures
            pages = [
                make_page(experiment, settings[experiment.name], Path(folder), None)
                for experiment in choose(block[2].split())
                if experiment.name in settings
            ]
        answers = [page.words() for page in pages if page is not None]
        return block[1] + "\n\n".join(answers or [NOTHING]) + "\n" + block[3]

    return BLOCK.sub(measured, text)
