"""A report as one HTML file that needs nothing beside it: its pictures are inside, no script, nothing is fetched."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
th, td { border: 1px solid #8888; padding: .25rem .6rem; text-align: left; vertical-align: top }
img { max-width: 100%; background: #fff }
code { overflow-wrap: anywhere }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_page(markdown: Path) -> str:
    """Return a Markdown page as HTML, with the PNG pictures that lie beside it inside.

    Markup in the text (prompts, names, reasons) is shown, not obeyed. A picture that is not there is left out.
    """
    from markdown_it import MarkdownIt

    text = markdown.read_text()
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for block in tokens:
        for token in block.children or ():
            if token.type == "image":
                token.attrSet("src", _picture(markdown.parent, str(token.attrGet("src") or "")))
    title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), markdown.stem)
    body = parser.renderer.render(tokens, parser.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _picture(folder: Path, name: str) -> str:
    """A picture of the folder itself as a data URI; nothing of any other place."""
    path = folder / name
    if "/" in name or path.suffix != ".png" or not path.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
