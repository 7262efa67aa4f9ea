"""A section of the report: paragraphs, tables and figures, as Markdown and for the PDF.

Every number in a sentence is computed from the results.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from experiments import figures
from experiments.groups import Group, Groups, Spread

CURVES_CAPTION = (
    "Accuracy and loss per epoch. Training values are means over the epoch, while the weights "
    "change; validation values are measured at its end."
)


class Page:
    """One section of the report.

    Args:
        name: of the experiment; the names of its figures begin with it.
        title: heading.
        folder: of the report; figures go into ``figures/`` below it.
        image: the reader's own, (3, S, S) in [0, 255]; None if there is none.
    """

    def __init__(self, name: str, title: str, folder: Path, image: Tensor | None = None):
        self.name, self.title, self.folder, self.image = name, title, folder, image
        self._blocks: list[tuple] = []

    def say(self, text: str) -> None:
        """Add a paragraph, with code between backquotes."""
        self._blocks.append(("text", text))

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        """Add a table; the first column is aligned left, the others right."""
        self._blocks.append(("table", header, rows, caption))

    def add_figure(self, figure: Figure, what: str, caption: str) -> None:
        """Add a figure, and write it to ``figures/NAME-WHAT.png``."""
        path = Path("figures") / f"{self.name}-{what}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / path, dpi=200)
        self.add_picture(path, caption)

    def add_picture(self, path: Path, caption: str) -> None:
        """Add an existing picture, by its path relative to the folder of the report."""
        self._blocks.append(("picture", path, caption))

    def curves(self, groups: Groups, legend: str | None = None) -> None:
        """Add the curves of accuracy and loss."""
        self.add_figure(figures.draw_curves(groups, self.title, legend), "curves", CURVES_CAPTION)

    def apply_to_image(self, groups: Groups, kernels: Tensor, caption: str) -> None:
        """Add what kernels (N, 3 or 1, h, w) make of the reader's image, if there is one."""
        if self.image is None:
            return
        height, width = self.image.shape[1:]
        self.add_figure(
            figures.draw_convolved(kernels, self.image, self.title, groups.of_one),
            "own-image",
            f"An image of {height} x {width} pixels from elsewhere, convolved with the 15 "
            f"kernels ({kernels.shape[2]} x {kernels.shape[3]}) of the largest norm. {caption}",
        )

    def bars(self, groups: Groups, label: str) -> None:
        """Add a figure of the best validation accuracy of each group."""
        caption = "The best validation accuracy of all epochs."
        self.add_figure(figures.draw_bars(groups, self.title, label), "accuracy", caption)

    def table(self, groups: Groups, label: str) -> None:
        """Add a table with one row per group: parameters, accuracies, time."""
        rows = [
            (
                group.label,
                f"{group.results[0]['parameters']:,}",
                f"{group.best('train_accs'):.1%}",
                "diverged" if group.diverged else f"{group.best('valid_accs'):.1%}",
                f"{group.best('valid_losses'):.4g}",
                f"{group.value('test_acc'):.1%}",
                f"{group.seconds():.2f}",
            )
            for group in groups
        ]
        header = (
            label, "parameters", "training acc.", "validation acc.", "validation loss",
            "test acc.", "s / epoch",
        )  # fmt: skip
        caption = (
            "Accuracies and loss in the epoch of the best validation accuracy, test accuracy of "
            "its weights, and median seconds of training per epoch."
        )
        self.add_table(header, rows, caption)

    def say_best(self, groups: Groups, words: str = "{}") -> None:
        """State the best, the second best and the lowest validation accuracy."""
        self.say_diverged(groups, words)
        self._say_ranking(groups.ranked(), words, "The")

    def say_best_of_each_model(self, groups: Groups, words: str = "{}") -> None:
        """State the same for each model; labels are "model, value"."""
        self.say_diverged(groups)
        for model in dict.fromkeys(group.family for group in groups):
            own = [group for group in groups.ranked() if group.family == model]
            values = [replace(group, label=group.label.split(", ", 1)[1]) for group in own]
            self._say_ranking(values, words, f"For {model}, the")

    def _say_ranking(self, ranked: Sequence[Group], words: str, start: str) -> None:
        if len(ranked) < 2:
            return
        by_mean = itertools.groupby(ranked, lambda g: round(g.best("valid_accs").mean, 9))
        first, *others = [list(tied) for _, tied in by_mean]
        text = f"{start} best validation accuracy is {_place(first, words)}"
        if len(first) == 1:
            text += f" (test {first[0].value('test_acc'):.1%})"
        for name, tied in zip(("second best", "lowest"), [*others[:1], *others[1:][-1:]]):
            text += f"; the {name} is {_place(tied, words)}"
        if others and len(first) == len(others[0]) == 1:
            text += f". {_describe_lead(*ranked[:2])}"
            if len(ranked) > 2 and len(ranked[0].lead(ranked[1]).values) > 1:
                text += (
                    f". They are the first two of {len(ranked)}, chosen by the same accuracies, so "
                    "that the interval is somewhat too far from 0"
                )
        self.say(f"{text}.")

    def say_diverged(self, groups: Groups, words: str = "{}") -> None:
        """State which groups diverged, and with how many seeds."""
        for group in groups:
            if group.diverged:
                self.say(
                    f"The loss became infinite or NaN with {words.format(group.label)}, for "
                    f"{group.diverged} of {len(group.runs)} runs."
                )

    def say_gap(self, groups: Groups) -> None:
        """State where training, validation and test accuracy are furthest apart."""
        ranked = groups.ranked()
        if not ranked:
            return
        widest, furthest = max(ranked, key=_gap), max(ranked, key=_test_gap)
        if _gap(widest) > 0:
            text = (
                "In the best epoch, training accuracy exceeds validation accuracy most for "
                f"{widest.label}: by {100 * _gap(widest):.1f} points."
            )
        else:
            text = "In the best epoch, training accuracy does not exceed validation accuracy."
        self.say(
            f"{text} Training accuracy is measured on augmented images while the weights change, "
            "so that it is usually lower than on unchanged images at the end. Validation and test "
            f"accuracy differ by at most {100 * _test_gap(furthest):.1f} points ({furthest.label})."
        )

    def markdown(self) -> str:
        """Return the section as Markdown."""
        return "\n\n".join([f"## {self.title}", *(_markdown(*block) for block in self._blocks)])

    def words(self) -> str:
        """Return the paragraphs and tables as Markdown."""
        return "\n\n".join(_markdown(*block) for block in self._blocks if block[0] != "picture")

    def typst(self) -> str:
        """Return the section in the language of Typst, with its texts as string literals."""
        parts = [f"= #{quote(self.title)}"]
        for kind, *content in self._blocks:
            if kind == "text":
                parts.append(_typst_text(content[0]))
            elif kind == "table":
                header, rows, caption = content
                cells = ", ".join(f"[#strong({quote(cell)})]" for cell in header)
                body = "".join(
                    "  " + ", ".join(quote(cell) for cell in row) + ",\n" for row in rows
                )
                parts.append(
                    f"#figure(table(columns: {len(header)}, table.header({cells}),\n{body}), "
                    f"caption: {quote(caption)})"
                )
            else:
                path, caption = content
                parts.append(
                    f"#figure(image({quote(path.as_posix())}, width: 100%), "
                    f"caption: {quote(caption)})"
                )
        return "\n\n".join(parts)


def _place(tied: Sequence[Group], words: str) -> str:
    """Return the validation accuracy of groups with the same mean, and their names."""
    accuracy = tied[0].best("valid_accs")
    *labels, last = [group.label for group in tied]
    if not labels:
        return f"{accuracy:.1%}, with {words.format(last)}"
    return f"{accuracy.mean:.1%}, with {words.format(', '.join(labels) + ' and ' + last)}"


def _describe_lead(best: Group, second: Group) -> str:
    """Return whether the difference between two groups is more than chance between seeds."""
    lead = best.lead(second)
    if len(lead.values) < 2:
        p, images = best.best("valid_accs").mean, best.results[0]["data"]["valid_images"]
        return (
            "One seed does not show how much of the difference is due to chance; with "
            f"{images:,} validation images, the standard error of each accuracy is "
            f"{100 * (p * (1 - p) / images) ** 0.5:.1f} points from the choice of images alone"
        )
    decided = "excludes" if lead.interval[0] > 0 else "includes"
    return f"For the same seed, the first two differ by {in_points(lead)}, which {decided} 0"


def in_points(difference: Spread) -> str:
    """Return a difference of accuracies in points, with its confidence interval if there is one."""
    low, high = (100 * end for end in difference.interval)
    text = f"{100 * difference.mean:+.1f} points" if difference.values else "unknown"
    if len(difference.values) < 2:
        return text
    return (
        f"{text} (95 % confidence interval over {len(difference.values)} seeds: {low:+.1f} to "
        f"{high:+.1f})"
    )


def _gap(group: Group) -> float:
    return group.best("train_accs").mean - group.best("valid_accs").mean


def _test_gap(group: Group) -> float:
    return abs(group.best("valid_accs").mean - group.value("test_acc").mean)


def _markdown(kind: str, *content: Any) -> str:
    """Return a block of a section as Markdown."""
    if kind == "text":
        return content[0]
    if kind == "table":
        header, rows, caption = content
        lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
        lines.insert(1, "|---|" + "---:|" * (len(header) - 1))
        return "\n".join(lines) + f"\n\n*{caption}*"
    path, caption = content
    return f"![{caption}]({path.as_posix()})\n\n*{caption}*"


def quote(text: str) -> str:
    """Return a string literal of Typst; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _typst_text(text: str) -> str:
    """Return a paragraph; text between backquotes is set as code."""
    parts = text.split("`")
    return "".join(f"#raw({quote(p)})" if i % 2 else f"#{quote(p)}" for i, p in enumerate(parts))
