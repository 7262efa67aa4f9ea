"""Assignment sheets as PDF: pandoc translates the Markdown, Typst sets it.

The Markdown is the only source, and GitHub shows it too. Figures are SVG files beside it.
"""

import json
import re
from pathlib import Path
from typing import Any

# Sheets that the manifest may list, and their languages.
LANGUAGES = {"docs/assignment.md": "en", "docs/devoir.md": "fr"}

PREAMBLE = """\
#set document(title: {title}, date: none)
#set page(paper: "a4", margin: (x: 22mm, y: 20mm), numbering: "1")
#set text(size: 10pt, font: "Libertinus Serif", lang: "{language}")
#set image(width: 100%)
#show heading: set block(sticky: true, above: 1.4em, below: 0.8em)
#show heading.where(level: 1): it => align(center, text(size: 16pt, it))
#show link: set text(fill: rgb("#1f4e9e"))
#show raw: set text(size: 8.5pt)
#show raw.where(block: true): it => block(
  fill: luma(245), inset: 7pt, radius: 3pt, width: 100%, breakable: false, text(size: 0.9em, it),
)
#show raw.where(block: false): it => if it.text.len() < 30 {{ box(it) }} else {{ it }}
#show figure: set block(breakable: false)
#show table: set text(size: 9pt)
#show table: set align(left)
#set table(stroke: (x, y) => if y > 0 {{ (bottom: 0.2pt) }}, inset: (x: 5pt, y: 3.5pt))
#show table.cell.where(y: 0): strong
"""


def make_pdfs(manifest: Any, root: Path) -> dict[str, bytes]:
    """Return the PDF of each sheet of an assignment by its name in the handout.

    Args:
        manifest: ``manifest.py`` of the assignment.
        root: folder of the project.

    Raises:
        ModuleNotFoundError: pypandoc or typst is missing.
    """
    folder = root / manifest.SOLUTION
    return {
        f"{name.removesuffix('.md')}.pdf": make_pdf(folder / name, LANGUAGES[name])
        for name in manifest.HANDOUT
        if name in LANGUAGES
    }


def make_pdf(sheet: Path, language: str) -> bytes:
    """Return a sheet as PDF; the same sheet gives the same bytes.

    Args:
        sheet: the Markdown; its figures are found beside it.
        language: "en" or "fr", for hyphenation.

    Raises:
        ModuleNotFoundError: pypandoc or typst is missing.
    """
    import pypandoc
    import typst

    text = sheet.read_text(encoding="utf-8")
    title = json.dumps(text.partition("\n")[0].removeprefix("# "), ensure_ascii=False)
    body = pypandoc.convert_text(text, "typst", format="gfm", extra_args=["--wrap=none"])
    # The sheet in the other language is a PDF too.
    body = re.sub(r'#link\("(\w+)\.md"\)', r'#link("\1.pdf")', body)
    source = PREAMBLE.format(title=title, language=language) + body
    # No fonts of the system: the same PDF everywhere.
    options: dict[str, Any] = {"root": str(sheet.parent), "ignore_system_fonts": True}
    return typst.compile(source.encode(), **options)
