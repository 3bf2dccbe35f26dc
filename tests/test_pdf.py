"""The whole book as a PDF: complete, linked, and nothing cut off at the margin."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, open_whole
from pdf import offer, print_book, printed
from pypdf import PdfReader
from pypdfium2 import PdfDocument
from serve import serve

from conftest import ROOT

TOO_WIDE = """selectors => [...document.querySelectorAll(selectors)]
  .filter(each => each.scrollWidth > each.clientWidth + 1)
  .map(each => `${each.scrollWidth} > ${each.clientWidth}: ` +
    each.textContent.slice(0, 60))
"""


@pytest.fixture(scope="module")
def path(site, tmp_path_factory) -> Path:
    """The whole book, printed once: without the pages in its contents."""
    path = tmp_path_factory.mktemp("pdf") / "book.pdf"
    with serve(site) as address, chromium() as browser:
        path.write_bytes(printed(browser, f"{address}/print/", {}))
    return path


@pytest.fixture(scope="module")
def pdf(path) -> PdfReader:
    return PdfReader(path)


@pytest.fixture(scope="module")
def text(path) -> str:
    pages = PdfDocument(path)
    return "\n".join(page.get_textpage().get_text_bounded() for page in pages)


def chapters() -> list[tuple[str, str]]:
    """Number and title of each chapter, as the contents show them."""
    found = []
    for path in sorted((ROOT / "chapters").glob("[0-9][0-9]-*.md")):
        source = path.read_text("utf-8")
        number = re.search(r"enumerator: (\w+)\.%s", source)
        title = re.search(r"^# (.+)$", source, re.M)
        assert number and title, path
        found.append((number[1], title[1]))
    return found


def links(pdf: PdfReader) -> Iterator[tuple[int, Any]]:
    """(page from 1, link) for each link of the document."""
    for number, page in enumerate(pdf.pages, 1):
        for note in page.get("/Annots") or []:
            if note.get_object().get("/Subtype") == "/Link":
                yield number, note.get_object()


def test_it_is_a_book_with_an_outline_and_tags(pdf):
    assert 80 <= len(pdf.pages) <= 1400
    assert pdf.metadata and pdf.metadata.title == "Denoising Diffusion, Literately"
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in root, "not tagged"
    titles = {entry.title for entry in pdf.outline if not isinstance(entry, list)}
    missing = [title for _, title in chapters() if title not in titles]
    assert not missing, f"not in the outline: {missing}"


def test_every_link_stays_inside_or_leads_to_the_web(pdf):
    inner, lost = 0, []
    for page, link in links(pdf):
        target = link.get("/Dest")
        address = link.get("/A", {}).get("/URI", "")
        if target is not None:
            inner += 1
            if isinstance(target, str) and target not in pdf.named_destinations:
                lost.append(f"page {page}: {target}")
        elif not address.startswith("https://") or "127.0.0.1" in address:
            lost.append(f"page {page}: {address or link}")
    assert not lost, lost[:20]
    assert inner > 300, f"{inner} links inside the document"


def short_book(site: Path, root: Path, count: int) -> Path:
    """The same book with its first `count` chapters only, to be printed twice."""
    (root / "_build/html/print").mkdir(parents=True)
    for name in ("assets", "build"):
        (root / "_build/html" / name).symlink_to(site / name)
    shutil.copy(ROOT / "myst.yml", root)
    *kept, _ = (
        (site / "print/index.html")
        .read_text("utf-8")
        .split('<section class="chapter"', count + 1)
    )
    text = '<section class="chapter"'.join(kept) + "</main></body></html>"
    (root / "_build/html/print/index.html").write_text(text, encoding="utf-8")
    return root


def test_the_contents_give_the_page_of_each_chapter(site, tmp_path):
    pdf = PdfReader(print_book(short_book(site, tmp_path, 3)))
    contents = "".join(page.extract_text() for page in pdf.pages[1:3])
    wrong = []
    for _, title in chapters()[:3]:
        stated = re.search(re.escape(title) + r"\s*(\d+)", contents)
        page = int(stated[1]) if stated else 0
        if not page or title not in pdf.pages[page - 1].extract_text():
            wrong.append(f"{title}: page {page}")
    assert not wrong, wrong


def test_every_equation_number_is_printed(text):
    missing = []
    for (number, _), path in zip(
        chapters(), sorted((ROOT / "chapters").glob("[0-9][0-9]-*.md")), strict=True
    ):
        count = len(re.findall(r"^\$\$ \(eq-", path.read_text("utf-8"), re.M))
        names = [f"({number}.{i})" for i in range(1, count + 1)]
        missing += [name for name in names if name not in text]
    assert not missing, missing


def test_nothing_is_cut_off_at_the_margin(site):
    with serve(site) as root, chromium() as browser:
        # The width between the margins of @page, in pixels of CSS.
        page = browser.new_page(viewport={"width": 650, "height": 950})
        page.emulate_media(media="print")
        open_whole(page, f"{root}/print/", timeout=300_000)
        boxes = ("pre", ".equation-body", ".table-box", ".output-html", ".ledger td")
        for what in boxes:
            cut = page.evaluate(TOO_WIDE, what)
            assert not cut, f"{what} is wider than the page: {cut[:10]}"


def test_the_foot_of_each_page_offers_the_pdf(site, tmp_path):
    for name in ("download", "elbo"):
        (tmp_path / "site" / name).mkdir(parents=True)
    page = tmp_path / "site" / "elbo" / "index.html"
    page.write_text((site / "elbo" / "index.html").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "book.pdf").write_bytes(b"%PDF")
    for _ in range(2):  # printed again, it is offered once
        offer(tmp_path / "site", tmp_path / "book.pdf")
        text = page.read_text("utf-8")
        assert text.count('<a href="../download/book.pdf">PDF</a>') == 1
    assert (tmp_path / "site" / "download" / "book.pdf").is_file()
