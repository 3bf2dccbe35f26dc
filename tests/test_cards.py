"""The picture beside a link to a page, and what happens where none can be drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cards import write_cards
from PIL import Image

PAGE = (
    '<!doctype html><title>A</title><meta name="twitter:card" content="summary"/>'
    '<meta property="og:site_name" content="The book"/>'
    '<meta property="og:title" content="A chapter"/><img src="../build/x.svg" alt="">'
)


def small_site(folder: Path) -> Path:
    """A book of one page, with an address and one figure; the path of the page."""
    options = {"site": {"options": {"url": "https://example.org/book/"}}}
    (folder / "myst.yml").write_text(json.dumps(options))
    site = folder / "_build" / "html"
    (site / "a").mkdir(parents=True)
    (site / "build").mkdir()
    (site / "robots.txt").write_text("")
    size = 'width="9" height="9"'
    rect = f'<rect {size} fill="red"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{rect}</svg>'
    (site / "build" / "x.svg").write_text(svg)
    page = site / "a" / "index.html"
    page.write_text(PAGE)
    return page


def test_a_link_to_a_page_shows_its_title_and_figure(tmp_path):
    page = small_site(tmp_path)
    write_cards(tmp_path)
    url = r'og:image" content="https://example.org/book/(cards/\w+\.png)"'
    said = re.search(url, page.read_text())
    assert said and 'content="summary_large_image"' in page.read_text()
    card = Image.open(tmp_path / "_build" / "html" / said[1]).convert("RGB")
    assert card.size == (1200, 630)
    colours = {colour for _, colour in card.getcolors(9**6)}
    assert {(255, 0, 0), (253, 252, 249)} <= colours


def test_without_a_browser_links_have_no_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("browser.present", lambda: None)
    page = small_site(tmp_path)
    write_cards(tmp_path)
    assert page.read_text() == PAGE
    [line] = capsys.readouterr().out.splitlines()
    assert "no pictures" in line
