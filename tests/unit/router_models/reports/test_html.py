"""The report as one HTML file: pictures inside, nothing fetched, markup in the text shown and not obeyed."""

import base64
import re
from pathlib import Path

from router_models.reports.html import html_page

PNG = b"\x89PNG\r\n\x1a\nrest"


def page(tmp_path: Path, markdown: str) -> str:
    (tmp_path / "report.md").write_text(markdown)
    (tmp_path / "plot.png").write_bytes(PNG)
    return html_page(tmp_path / "report.md")


def test_tables_and_pictures_are_inside(tmp_path: Path) -> None:
    html = page(tmp_path, "# Router version: a → b\n\n| x | y |\n|---|---|\n| 1 | a\\|b |\n\n![plot](plot.png)\n")
    assert "<title>Router version: a → b</title>" in html
    assert "<td>a|b</td>" in html
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in html
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', html) == []


def test_markup_scripts_and_pictures_of_other_places_do_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    html = page(
        tmp_path / "in",
        "# <script>alert(1)</script>\n\n<img src=x onerror=alert(1)> [x](javascript:alert(1))\n\n"
        "![a](../secret.png) ![b](https://example.org/c.png) ![c](none.png) ![d](report.md)\n",
    )
    assert "<script" not in html
    assert "<img src=x" not in html
    assert 'href="javascript' not in html
    assert set(re.findall(r'<img src="([^"]*)"', html)) == {""}
