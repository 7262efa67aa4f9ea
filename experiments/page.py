"""The report: what an experiment says about its results, as Markdown and as a PDF.

A ``Page`` collects paragraphs, tables and figures. Every number in a sentence is computed from the
results.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments import figures
from experiments.groups import Group, Groups

CURVES_CAPTION = (
    "Loss and accuracy over the epochs. Training values are means over the epoch, while the "
    "weights change; validation values are of its end."
)


class Page:
    """One section of the report.

    Args:
        name: of the experiment; the figures' files begin with it.
        title: heading.
        folder: of the report; figures go into ``figures/`` below it.
    """

    def __init__(self, name: str, title: str, folder: Path):
        self.name, self.title, self.folder = name, title, folder
        self._blocks: list[tuple] = []

    # ------------------------------------------------------------------ what can be put on it

    def say(self, text: str) -> None:
        """Add a paragraph; `code` stands between backquotes."""
        self._blocks.append(("text", text))

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> None:
        """Add a table; the first column is set to the left, the others to the right."""
        self._blocks.append(("table", header, rows, caption))

    def add_figure(self, figure: Figure, what: str, caption: str) -> None:
        """Add a figure, and write it to ``figures/NAME-WHAT.png``."""
        path = Path("figures") / f"{self.name}-{what}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / path, dpi=200)
        self.add_picture(path, caption)

    def add_picture(self, path: Path, caption: str) -> None:
        """Add a picture that is a file already, below the folder of the report."""
        self._blocks.append(("picture", path, caption))

    # ------------------------------------------------------------------ what many need

    def curves(self, groups: Groups, legend: str | None = None) -> None:
        """Draw loss and accuracy over the epochs."""
        self.add_figure(figures.draw_curves(groups, self.title, legend), "curves", CURVES_CAPTION)

    def bars(self, groups: Groups, label: str) -> None:
        """Draw the best validation accuracy of every group."""
        caption = "The best validation accuracy over the epochs."
        self.add_figure(figures.draw_bars(groups, self.title, label), "accuracy", caption)

    def heat_maps(self, groups: Groups, names, ticks: Sequence[str], x: str, y: str) -> None:
        """Draw training and validation accuracy and their gap over two settings."""
        figure = figures.draw_heat_maps(groups, names, ticks, self.title, x, y)
        caption = (
            "Accuracies in the epoch of the best validation accuracy, and the gap between them."
        )
        self.add_figure(figure, "gap", caption)

    def train_against_valid(self, groups: Groups) -> None:
        """Draw validation over training accuracy."""
        figure = figures.draw_train_against_valid(groups, self.title)
        caption = (
            "Validation against training accuracy, in the epoch of the best validation accuracy; "
            "on the dashed line both are equal."
        )
        self.add_figure(figure, "train-valid", caption)

    def table(self, groups: Groups, label: str) -> None:
        """Add a row for each group: parameters, accuracies, time."""
        rows = [
            (
                group.label,
                f"{group.results[0]['parameters']:,}",
                f"{group.best('train_accs'):.1%}" if group.best("train_accs").values else "-",
                f"{group.best('valid_accs'):.1%}" if not group.diverged else "diverged",
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
            "The epoch of the best validation accuracy: accuracies and loss in it, test accuracy "
            "of its weights, and the median seconds an epoch trains."
        )
        self.add_table(header, rows, caption)

    def say_best(self, groups: Groups, words: str = "{}") -> None:
        """Say which group has the best validation accuracy, and whether that is beyond chance."""
        ranked = groups.ranked()
        for group in groups:
            if group.diverged:
                self.say(f"{_sentence(words, group)} diverged: the loss became infinite.")
        if len(ranked) < 2:
            return
        best, second, worst = ranked[0], ranked[1], ranked[-1]
        lead = best.best("valid_accs").mean - second.best("valid_accs").mean
        text = (
            f"{_sentence(words, best)} has the best validation accuracy, "
            f"{best.best('valid_accs'):.1%} (test {best.value('test_acc'):.1%}); next comes "
            f"{words.format(second.label)} with {second.best('valid_accs'):.1%}"
        )
        if worst is not second:
            text += f", last {words.format(worst.label)} with {worst.best('valid_accs'):.1%}"
        self.say(f"{text}. {self._chance(lead, best, second)}")

    def say_best_of_each_model(self, groups: Groups, words: str) -> None:
        """Say the same for each model on its own; labels are "model, value"."""
        for model in dict.fromkeys(group.results[0]["model"] for group in groups):
            own = [g for g in groups.ranked() if g.results[0]["model"] == model]
            if len(own) < 2:
                continue
            best, worst = own[0], own[-1]
            values = [group.label.split(", ", 1)[1] for group in (best, own[1], worst)]
            lead = best.best("valid_accs").mean - own[1].best("valid_accs").mean
            self.say(
                f"For `{model}`, {words.format(values[0])} is best: validation accuracy "
                f"{best.best('valid_accs'):.1%}, then {words.format(values[1])} with "
                f"{own[1].best('valid_accs'):.1%}; the worst is {words.format(values[2])} with "
                f"{worst.best('valid_accs'):.1%}. {self._chance(lead, best, own[1])}"
            )

    def _chance(self, lead: float, best: Group, second: Group) -> str:
        """Say how a difference of accuracies compares with chance."""
        images = best.results[0]["data"]["valid_images"]
        accuracy = best.best("valid_accs").mean
        error = math.sqrt(2 * accuracy * (1 - accuracy) / images)
        if len(best.results) > 1 and len(second.results) > 1:
            spreads = [g.best("valid_accs").deviation ** 2 / len(g.results) for g in (best, second)]
            error = math.sqrt(sum(spreads))
            how = f"between the means of {len(best.results)} seeds"
        else:
            how = f"between two accuracies on {images:,} images"
        if lead > 2 * error:
            verdict, rest = "more than twice", "."
        else:
            verdict = "less than twice"
            rest = ": which of the two is better, these runs cannot tell."
        return (
            f"The lead over the next is {100 * lead:.1f} points, {verdict} the standard error of "
            f"a difference {how}, {100 * error:.1f} points{rest}"
        )

    def say_gap(self, groups: Groups) -> None:
        """Say where training and validation are furthest apart, and validation and test."""
        ranked = groups.ranked()
        if not ranked:
            return
        widest, furthest = max(ranked, key=_gap), max(ranked, key=_test_gap)
        gap = 100 * _gap(widest)
        if gap > 0:
            text = (
                f"The gap between training and validation accuracy in the best epoch is widest for "
                f"{widest.label}: {gap:.1f} points."
            )
        else:
            text = (
                "Training accuracy is below validation accuracy everywhere: it is measured on "
                "augmented images, while the weights still change."
            )
        self.say(
            f"{text} Validation and test accuracy differ by {100 * _test_gap(furthest):.1f} points "
            f"at the most ({furthest.label}): the validation images are not trained on."
        )

    # ------------------------------------------------------------------ the two forms

    def markdown(self) -> str:
        """Return the section as Markdown."""
        parts = [f"## {self.title}"]
        for kind, *content in self._blocks:
            if kind == "text":
                parts.append(content[0])
            elif kind == "table":
                header, rows, caption = content
                lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
                lines.insert(1, "|---|" + "---:|" * (len(header) - 1))
                parts.append("\n".join(lines) + f"\n\n*{caption}*")
            else:
                path, caption = content
                parts.append(f"![{caption}]({path.as_posix()})\n\n*{caption}*")
        return "\n\n".join(parts)

    def typst(self) -> str:
        """Return the section in the language of Typst; texts are string literals there."""
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


def _sentence(words: str, group: Group) -> str:
    """Return the words with the group's label, as the beginning of a sentence."""
    text = words.format(group.label)
    return text if text == group.label else text[0].upper() + text[1:]


def _gap(group: Group) -> float:
    return group.best("train_accs").mean - group.best("valid_accs").mean


def _test_gap(group: Group) -> float:
    return abs(group.best("valid_accs").mean - group.value("test_acc").mean)


def quote(text: str) -> str:
    """Return a string literal of Typst, which has the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _typst_text(text: str) -> str:
    """Return a paragraph; what stands between backquotes is set as code."""
    parts = text.split("`")
    return "".join(f"#raw({quote(p)})" if i % 2 else f"#{quote(p)}" for i, p in enumerate(parts))
