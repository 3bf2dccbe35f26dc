"""Pictures that stand for the pages elsewhere: icons, and the card that is shown beside
a link to a chapter.

Cards need an address of the site (`url` in myst.yml) and a Chromium that is there
already; without them the pages have none. They are kept in ``_build/cards``.
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
from pathlib import Path
from typing import Any

from notebooks import address
from PIL import Image, ImageDraw
from serve import serve

SIZE = {"width": 1200, "height": 630}
TITLE = re.compile(r'<meta property="og:title" content="([^"]*)"/>')
BOOK = re.compile(r'<meta property="og:site_name" content="([^"]*)"/>')
FIGURE = re.compile(r'<img src="(?:\.\./)*(build/[^"]+)"')
DOT = re.compile(r'cx="(\d+)" cy="(\d+)" r="([\d.]+)"(?: opacity="([\d.]+)")?')
INK, PAPER = (29, 90, 135), (253, 252, 249)
CARD = """<!doctype html><link rel="stylesheet" href="assets/style.css"><style>
body {{ margin: 0; box-sizing: border-box; width: 1200px; height: 630px;
  padding: 56px 72px; background: #fdfcf9; color: #111317; overflow: hidden;
  display: flex; flex-direction: column; border-top: 14px solid #1d5a87;
  font-family: 'Source Serif 4 Variable', serif; }}
p {{ margin: 0; font-size: 30px; color: #5c6269; }}
h1 {{ margin: 12px 0 28px; font-size: 66px; line-height: 1.12; font-weight: 650; }}
div {{ flex: 1; min-height: 0; display: flex; justify-content: center; }}
img {{ max-width: 100%; height: 100%; object-fit: contain; }}
</style>
<p>{book}</p><h1>{title}</h1><div>{figure}</div>"""


def icon(svg: str, side: int, paper: tuple[int, ...]) -> Image.Image:
    """The dots of the book's icon, drawn large and made small: smooth edges."""
    scale = 4 * side / 32
    image = Image.new("RGBA", (4 * side, 4 * side), paper)
    for found in DOT.finditer(svg):
        x, y, radius = (float(found[i]) * scale for i in (1, 2, 3))
        layer = Image.new("RGBA", image.size)
        box = (x - radius, y - radius, x + radius, y + radius)
        ink = (*INK, int(255 * float(found[4] or 1)))
        ImageDraw.Draw(layer).ellipse(box, fill=ink)
        image.alpha_composite(layer)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def write_icons(site: Path) -> None:
    """Icons for browsers and telephones that draw no SVG."""
    svg = (site / "assets" / "favicon.svg").read_text("utf-8")
    icon(svg, 32, (0, 0, 0, 0)).save(site / "favicon.ico", sizes=[(32, 32)])
    touch = icon(svg, 180, (*PAPER, 255)).convert("RGB")
    touch.save(site / "apple-touch-icon.png")


def card(site: Path, page: str) -> tuple[str, str] | None:
    """The HTML of a page's card and a name that changes with what it shows; None for
    a page that is none of the book's."""
    title, book = TITLE.search(page), BOOK.search(page)
    if title is None or book is None:
        return None
    found = FIGURE.search(page)
    figure = f'<img src="{found[1]}">' if found else ""
    above = book[1] if book[1] != title[1] else ""
    text = CARD.format(book=above, title=title[1], figure=figure)
    shown = (site / found[1]).read_bytes() if found else b""
    return text, hashlib.sha256(text.encode() + shown).hexdigest()[:20]


def draw(site: Path, wanted: dict[Path, str]) -> bool:
    """Draw cards into their files; says why when there is nothing to draw them with."""
    try:
        import browser
    except ModuleNotFoundError:
        print("Links will show no pictures: playwright is not installed.")
        return False
    if browser.present() is None:
        print("Links will show no pictures: there is no Chromium to draw them.")
        return False
    with serve(site) as root, browser.chromium() as running:
        page: Any = running.new_page(viewport=SIZE)
        page.goto(f"{root}/robots.txt")
        for path, text in wanted.items():
            page.set_content(text, wait_until="networkidle")
            page.screenshot(path=path)
    return True


def write_cards(root: Path) -> None:
    """Give each page of the book a picture, and name it in the page's head."""
    site, kept, url = root / "_build" / "html", root / "_build" / "cards", address(root)
    if not url:
        return
    kept.mkdir(exist_ok=True)
    cards = {}
    for path in sorted(site.rglob("index.html")):
        if path.relative_to(site).parts[0] not in ("modules", "print"):
            text = path.read_text("utf-8")
            if found := card(site, text):
                cards[path] = (kept / f"{found[1]}.png", found[0])
    wanted = {file: text for file, text in cards.values() if not file.is_file()}
    if wanted and not draw(site, wanted):
        return
    (site / "cards").mkdir(exist_ok=True)
    for path, (file, _) in cards.items():
        shutil.copy(file, site / "cards")
        name(path, f"{url}/cards/{file.name}")


def name(path: Path, image: str) -> None:
    """Say in a page's head which picture stands for it."""
    said = (
        f'<meta property="og:image" content="{html.escape(image)}"/>'
        '<meta property="og:image:width" content="1200"/>'
        '<meta property="og:image:height" content="630"/>'
    )
    text = path.read_text("utf-8").replace("</title>", f"</title>{said}", 1)
    text = text.replace(
        '"twitter:card" content="summary"',
        '"twitter:card" content="summary_large_image"',
    )
    path.write_text(text, encoding="utf-8")
