"""Pages in HTML and in Markdown, from the same calls.

Every text is escaped: much of it comes from submissions. The HTML has no scripts and needs no other
file; a policy in its head forbids both.
"""

import html
import re
import textwrap
from collections.abc import Sequence
from string import Template
from typing import NamedTuple

SHELL = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
       color: #1d2330; background: #fff; overflow-wrap: anywhere; }
h1 { line-height: 1.2; margin: 0.5rem 0; } h2 { margin: 2rem 0 0.5rem; }
a { color: #0b57a4; }
p.lead { font-size: 1.25rem; font-weight: 600; margin: 0.5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.25rem 0.5rem; border-bottom: 1px solid #dde1e8;
         vertical-align: top; }
.number { text-align: right; overflow-wrap: normal; }
th { overflow-wrap: normal; } th:first-child { min-width: 7rem; } td.long { min-width: 12rem; }
td.bar { width: 30%; min-width: 3rem; }
td.bar span { display: block; height: 0.8rem; margin-top: 0.35rem; background: #4a7fb5; }
.wide { overflow-x: auto; }
section { border-left: 4px solid #b3261e; padding: 0.25rem 0 0.25rem 0.75rem; margin: 0.75rem 0; }
section.passed { border-color: #2e7d32; }
section p { margin: 0; } section b { margin-right: 0.5rem; }
pre { margin: 0.25rem 0; padding: 0.5rem; background: #f3f5f8; font-size: 0.875rem;
      white-space: pre-wrap; }
@media (max-width: 40rem) {
  table { font-size: 0.875rem; } th, td { padding: 0.25rem; }
  td.bar { width: 15%; } td.long { min-width: 9rem; }
}
</style>
</head>
<body>
$body
</body>
</html>
""")


class Link(NamedTuple):
    """A cell of a table that leads to another page."""

    text: str
    target: str


class Bar(NamedTuple):
    """A cell of a table that shows a share, between 0 and 1."""

    share: float


Cell = str | Link | Bar


class Html:
    """A page in HTML, without scripts and other files."""

    suffix = ".html"

    def __init__(self, title: str):
        self._title, self._parts = title, [f"<h1>{html.escape(title)}</h1>"]

    def add_lead(self, text: str) -> None:
        self._parts.append(f'<p class="lead">{html.escape(text)}</p>')

    def add_heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def add_text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def add_list(self, texts: Sequence[str]) -> None:
        self._parts.append(f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>")

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        kinds = [_kind(cell) for cell in (rows or [header])[0]]
        head = "".join(f"<th{k}>{html.escape(text)}</th>" for k, text in zip(kinds, header))
        lines = [f"<tr>{''.join(map(self._cell, row))}</tr>" for row in rows]
        self._parts.append(
            f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
        )

    def _cell(self, cell: Cell) -> str:
        if isinstance(cell, Bar):
            content = f'<span style="width: {cell.share:.1%}"></span>'
        elif isinstance(cell, Link):
            content = f'<a href="{html.escape(cell.target)}">{html.escape(cell.text)}</a>'
        else:
            content = html.escape(cell)
        return f"<td{_kind(cell)}>{content}</td>"

    def add_case(self, passed: bool, head: str, title: str, message: str) -> None:
        block = f"<pre>{html.escape(message)}</pre>" if message else ""
        kind = "passed" if passed else "failed"
        head, title = html.escape(head), html.escape(title)
        self._parts.append(f'<section class="{kind}"><p><b>{head}</b>{title}</p>{block}</section>')

    def render(self) -> str:
        return SHELL.substitute(title=html.escape(self._title), body="\n".join(self._parts))


def _kind(cell: Cell) -> str:
    """Return the attribute of a cell that decides how it is set."""
    if isinstance(cell, Bar):
        return ' class="bar"'
    if isinstance(cell, Link):
        return ""
    if re.fullmatch(r"-?[\d.]+%?( of [\d.]+)?", cell):
        return ' class="number"'
    return ' class="long"' if len(cell) > 20 else ""


class Markdown:
    """A page in Markdown."""

    suffix = ".md"

    def __init__(self, title: str):
        self._parts = [f"# {_escape(title)}"]

    def add_lead(self, text: str) -> None:
        self._parts.append(f"**{_escape(text)}**")

    def add_heading(self, text: str) -> None:
        self._parts.append(f"## {_escape(text)}")

    def add_text(self, text: str) -> None:
        self._parts.append(_escape(text))

    def add_list(self, texts: Sequence[str]) -> None:
        self._parts.append("\n".join(f"- {_escape(text)}" for text in texts))

    def add_table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        lines = [" | ".join(map(self._cell, row)) for row in (header, *rows)]
        lines.insert(1, "|".join(["---", *["---:"] * (len(header) - 1)]))
        self._parts.append("\n".join(f"| {line} |" for line in lines))

    def _cell(self, cell: Cell) -> str:
        if isinstance(cell, Bar):
            return "█" * round(20 * cell.share)
        if isinstance(cell, Link):
            return f"[{_escape(cell.text)}]({cell.target.removesuffix('.html')}.md)"
        return _escape(cell)

    def add_case(self, passed: bool, head: str, title: str, message: str) -> None:
        self._parts.append(f"**{_escape(head)}** {_escape(title)}")
        if message:
            # Longer than any fence in the message, so that it cannot leave its block.
            fence = "`" * (3 + max(map(len, re.findall("`+", message)), default=0))
            lines = [line for text in message.split("\n") for line in textwrap.wrap(text, 100)]
            self._parts.append("\n".join([fence, *lines, fence]))

    def render(self) -> str:
        return "\n\n".join(self._parts) + "\n"


def _escape(text: str) -> str:
    """Return text without a meaning in Markdown, on one line."""
    return re.sub(r"([\\`*_\[\]|#!])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


Page = Html | Markdown
