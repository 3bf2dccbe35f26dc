"""Print the built book as one PDF with Chromium: `make pdf`.

The page `print/` of the site holds all chapters. It is printed twice: the first
time tells on which page each chapter begins, the second has those numbers in its
table of contents.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import sys
from pathlib import Path

import yaml
from browser import NoBrowser, chromium, open_whole
from playwright.sync_api import Browser
from pypdf import PdfReader
from serve import serve

REPOSITORY = Path(__file__).resolve().parents[1]
PRINTABLE = re.compile(r'(<a class="printable" href="([^"]*)print/[^"]*">[^<]*</a>)')
FILL = """pages => {
  for (const place of document.querySelectorAll('.page-of'))
    place.textContent = pages[place.dataset.of] ?? '';
}"""


def first_pages(pdf: bytes) -> dict[str, int]:
    """Name of each place that a link leads to -> its page, counted from 1."""
    reader = PdfReader(io.BytesIO(pdf))
    return {
        name.lstrip("/"): reader.get_destination_page_number(place) + 1
        for name, place in reader.named_destinations.items()
    }


def printed(browser: Browser, address: str, pages: dict[str, int]) -> bytes:
    """The PDF of a page whose table of contents names these pages.

    Each time in a new tab: printed again, a tab shows some of what it showed before.
    """
    tab = browser.new_page()
    # All chapters are one long page, which a busy machine reads for a while.
    open_whole(tab, address, timeout=300_000)
    tab.evaluate(FILL, pages)
    tab.evaluate("document.fonts.ready.then(() => true)")
    pdf = tab.pdf(
        prefer_css_page_size=True, print_background=True, outline=True, tagged=True
    )
    tab.close()
    return pdf


def pdf_path(root: Path) -> Path:
    """`_build/the-title-of-the-book.pdf`."""
    config = yaml.safe_load((root / "myst.yml").read_text("utf-8"))
    name = re.sub(r"[^a-z0-9]+", "-", config["project"]["title"].lower()).strip("-")
    return root / "_build" / f"{name}.pdf"


def print_book(root: Path) -> Path:
    """Print the book built in `root`; the path of the PDF.

    Raises FileNotFoundError when there is no built book.
    """
    site = root / "_build" / "html"
    if not (site / "print" / "index.html").is_file():
        raise FileNotFoundError("There is no built book to print: run `make book`.")
    with serve(site) as address, chromium() as browser:
        page = f"{address}/print/"
        pdf = printed(browser, page, first_pages(printed(browser, page, {})))
    path = pdf_path(root)
    path.write_bytes(pdf)
    return path


def offer(site: Path, pdf: Path) -> None:
    """Put the PDF on the site, and a link to it beside the one to the printed page."""
    shutil.copy(pdf, site / "download")
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        if f"download/{pdf.name}" not in text:
            link = rf'\1<a href="\2download/{pdf.name}">PDF</a>'
            page.write_text(PRINTABLE.sub(link, text), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the built book as a PDF.")
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    root = parser.parse_args().root.resolve()
    try:
        path = print_book(root)
        offer(root / "_build" / "html", path)
    except (NoBrowser, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    pages = len(PdfReader(path).pages)
    print(f"The PDF is at {path.relative_to(root)} ({pages} pages)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
