"""The rendered book in a real browser: every page, narrow and wide, light and dark.

Every page is loaded once, narrow, then made wide, and looked at in both colour schemes;
of the pages of modules, which are alike, two. What was seen is kept, and each test
below asks one question about all of it.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import pytest
from browser import open_whole
from playwright.sync_api import Browser, Page
from serve import serve

from conftest import ROOT, package_files

NARROW, WIDE = 390, 1440
LONGEST = {"formula": 1.5 * NARROW}  # pixels that a phone may have to scroll for
SCHEMES = ("light", "dark")
AXE = ROOT / "theme" / "node_modules" / "axe-core" / "axe.min.js"
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# The longest module and the list of them; the others are loaded once, narrow.
JUDGED_MODULES = ("modules/", "modules/training/")
# One of each kind of page; a narrow page has the same structure as a wide one.
ONE_OF_EACH = ("", "forward-process/", "command-line/", "ledger/", "modules/")

LOOK = """async () => {
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  const text = document.querySelector('main').cloneNode(true);
  for (const code of text.querySelectorAll('pre, code, .katex, script')) code.remove();
  return {
    ids: [...document.querySelectorAll('[id]')].map(each => each.id),
    links: [...document.querySelectorAll('a[href]')].map(link => link.href),
    // A reference to an equation, with the words that name it.
    equations: [...document.querySelectorAll('main a[href*="#eq-"]')]
      .map(link => [link.getAttribute('href'), link.textContent]),
    text: text.textContent,
    images: [...document.images].map(image => ({
      src: image.currentSrc, width: image.naturalWidth,
      figure: image.closest('.enlarge') !== null,
      scale: image.clientWidth / image.naturalWidth,
      // Words beside it in its link say what a picture would.
      alt: image.getAttribute('alt') || image.closest('a')?.innerText.trim(),
    })),
  };
}"""
# Formulas, code and output that are cut off at the edge and must be scrolled to.
CUT = """() => ['.equation-body', '.maths', 'pre']
  .flatMap(kind => [...document.querySelectorAll(`main ${kind}`)])
  .filter(each => each.checkVisibility())
  .map(each => [each.scrollWidth - each.clientWidth, each])
  .filter(([hidden]) => hidden > 1)
  .map(([hidden, each]) => [hidden, each.matches('pre') ? 'code' : 'formula',
    each.closest('[id]')?.id, each.textContent.trim().slice(0, 50)])"""
# What stands in the margin and lies over something else, when nothing is unfolded.
OVERLAPS = """() => {
  const said = each => each.textContent.trim().slice(0, 40);
  const places = [...document.querySelectorAll(
      'article > .check summary, article figcaption, article aside')]
    .filter(each => each.checkVisibility())
    .map(each => [each, each.getBoundingClientRect()]);
  return places.flatMap(([one, a], i) => places.slice(i + 1)
    .filter(([other, b]) => !one.contains(other)
      && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
    .map(([other]) => `${said(one)} / ${said(other)}`));
}"""
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
# Formulas are most of a page, and letter by letter most of axe's time. All are made
# alike: the first few are judged whole, and those that must be scrolled.
EMPTY = """() => [...document.querySelectorAll('.katex')].slice(5).forEach(maths => {
  const box = maths.closest('.equation-body, .maths');
  if (box && box.scrollWidth > box.clientWidth) return;
  maths.querySelector('.katex-html')?.replaceChildren();
  maths.querySelector('semantics')?.replaceChildren();
})"""
RUN_AXE = """async ([tags, rules]) => {
  const found = await axe.run(document, {
    resultTypes: ['violations'],
    runOnly: rules ? {type: 'rule', values: rules} : {type: 'tag', values: tags},
  });
  return found.violations.flatMap(each =>
    each.nodes.map(node => `${each.id}: ${node.target.join(' ')}`));
}"""


@dataclass
class Seen:
    """What the browser met on one page."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    equations: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    images: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requested: set[str] = field(default_factory=set)
    too_wide: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def addresses(site: Path) -> list[str]:
    """Every page of the site below its root; the book to print has a test file."""
    found = sorted(p.parent.relative_to(site) for p in site.rglob("index.html"))
    pages = ["" if str(p) == "." else f"{p}/" for p in found if str(p) != "print"]
    return [*pages, "404.html"]


def is_judged(name: str) -> bool:
    return not name.startswith("modules/") or name in JUDGED_MODULES


def watch(page: Page, seen: Seen) -> None:
    """Record what the page says, asks for and does not get."""
    page.on(
        "console",
        lambda message: (
            seen.said.append(f"{message.type}: {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: seen.said.append(f"exception: {error}"))
    page.on("request", lambda request: seen.requested.add(request.url))
    page.on("requestfailed", lambda request: seen.failed.append(request.url))
    page.on(
        "response",
        lambda answer: (
            seen.failed.append(f"{answer.status} {answer.url}")
            if answer.status >= 400
            else None
        ),
    )


def judge(page: Page, seen: Seen, where: str, rules: list[str] | None) -> None:
    found = page.evaluate(RUN_AXE, [STANDARDS, rules])
    seen.violations += [f"{where}: {violation}" for violation in found]


def visit(browser: Browser, root: str, name: str) -> Seen:
    """Load one page, and look at it at both widths and in both colour schemes."""
    seen = Seen()
    # Nothing begins by itself: what runs in a page has tests of its own.
    page = browser.new_page(
        viewport={"width": NARROW, "height": 900}, reduced_motion="reduce"
    )
    watch(page, seen)
    page.goto(f"{root}/{name}")  # all that it asks for is there, but late pictures
    for key, value in page.evaluate(LOOK).items():
        setattr(seen, key, value)
    if is_judged(name):
        page.add_script_tag(path=AXE)
    for width in (NARROW, WIDE) if is_judged(name) else (NARROW,):
        page.set_viewport_size({"width": width, "height": 900})
        if width == WIDE:
            seen.overlaps = page.evaluate(OVERLAPS)
            page.evaluate(OPEN)  # what is folded is judged as well
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            seen.too_wide.append(f"{name}: {wide} pixels wide in a window of {width}")
        for hidden, kind, place, words in page.evaluate(CUT):
            allowed = 0 if width == WIDE else LONGEST.get(kind, math.inf)
            if hidden > allowed:
                said = f"{hidden} pixels of {kind} hidden at {width}: {words}"
                seen.cut.append(f"#{place}: {said}")
        for scheme in SCHEMES if is_judged(name) else ():
            if width == NARROW and (scheme == "dark" or name not in ONE_OF_EACH):
                continue  # colours and structure are those of the wide page
            page.emulate_media(color_scheme=scheme)
            # Only colours differ between the schemes.
            rules = None if scheme == "light" else ["color-contrast"]
            if width == WIDE:
                page.evaluate(EMPTY)
            judge(page, seen, f"{width} pixels, {scheme}", rules)
    page.close()
    return seen


@pytest.fixture(scope="module")
def book(browser, root, site) -> dict[str, Seen]:
    """Every page of the site, as the browser saw it."""
    return {name: visit(browser, root, name) for name in addresses(site)}


def offenders(book: dict[str, Seen], name: str) -> list[str]:
    return [
        f"{page}: {each}" for page, seen in book.items() for each in getattr(seen, name)
    ]


def none(found: list[str]) -> bool:
    """Show the first offenders, one a line, and how many there are."""
    if found:
        pytest.fail(f"{len(found)} found:\n" + "\n".join(found[:20]), pytrace=False)
    return True


def test_every_chapter_and_module_has_a_page(book):
    chapters = len(list((ROOT / "chapters").glob("[0-9][0-9]-*.md")))
    modules = {f"modules/{name.replace('.', '/')}/" for name in package_files()}
    assert modules <= set(book), modules - set(book)
    plain = [name for name in book if name.endswith("/") and "modules/" not in name]
    assert len(plain) >= chapters, plain


def test_the_console_stays_silent(book):
    assert none(offenders(book, "said"))


def test_every_request_succeeds_and_none_leaves_the_site(book, root):
    assert none(offenders(book, "failed"))
    foreign = [
        f"{name}: {url}"
        for name, seen in book.items()
        for url in seen.requested
        if not url.startswith((root, "data:", "blob:"))
    ]
    assert none(foreign)


def test_no_page_scrolls_sideways(book):
    assert none(offenders(book, "too_wide"))


def test_formulas_code_and_output_fit_the_page(book):
    assert none(offenders(book, "cut"))


def test_nothing_in_the_margin_lies_over_anything(book):
    assert none(offenders(book, "overlaps"))


def dead_links(book: dict[str, Seen], site: Path, root: str) -> list[str]:
    """Links whose page, file or place is not there."""
    dead = []
    for name, seen in book.items():
        for link in set(seen.links):
            address, place = urldefrag(link)
            if not address.startswith(root):
                continue
            target = urlsplit(address).path[len(urlsplit(root).path) :].lstrip("/")
            if target in book:
                is_there = not place or place in book[target].ids
            else:
                page = site / target / "index.html"  # one that was not visited
                is_there = (site / target).is_file() or page.is_file()
            if not is_there:
                dead.append(f"{name}: {link}")
    return dead


def test_every_link_and_anchor_resolves(book, site, root):
    assert none(dead_links(book, site, root))


def test_no_id_is_used_twice(book):
    doubles = [
        f"{name}: {each}"
        for name, seen in book.items()
        for each in {i for i in seen.ids if seen.ids.count(i) > 1}
    ]
    assert none(doubles)


def test_every_reference_to_an_equation_shows_its_number(book):
    references = [
        (n, href, text) for n, s in book.items() for href, text in s.equations
    ]
    assert len(references) > 200
    assert none(
        [
            f"{name}: {href} reads {text!r}"
            for name, href, text in references
            if not re.search(r"\(\w+\.\d+\)", text)
        ]
    )


RAW = re.compile(
    r"Notebook-code|\{[a-z:]+\}`|\{cite|\{eq\}|\?\?|:::|```|"
    r"\$[^\s$][^$\n]*\$|\\[a-zA-Z]{2,}|\$\$"
)


def test_no_markup_is_left_in_the_text(book):
    left = [
        f"{name}: {found[0]!r}"
        for name, seen in book.items()
        for found in RAW.finditer(seen.text)
    ]
    assert none(left)


def test_every_image_loads_and_has_an_alternative(book):
    assert sum(len(seen.images) for seen in book.values()) > 30
    bad = [
        f"{name}: {image['src']} has width {image['width']}, alt {image['alt']!r}"
        for name, seen in book.items()
        for image in seen.images
        if not image["width"] or not (image["alt"] or "").strip()
    ]
    assert none(bad)


def test_words_in_a_figure_can_be_read_on_a_phone(book):
    """Letters are 10 to 13 pixels high in a figure that is not made smaller."""
    figures = [
        (name, image)
        for name, seen in book.items()
        for image in seen.images
        if image["figure"] and image["scale"]  # 0: folded
    ]
    assert len(figures) > 60
    assert none(
        [
            f"{name}: {image['alt'][:50]!r} is shown at {image['scale']:.2f}"
            for name, image in figures
            if image["scale"] < 0.65
        ]
    )


def test_no_violation_of_wcag_2_2_aa(book):
    assert none(offenders(book, "violations"))


@cache
def gzipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 6))


def test_a_page_is_light(book, site, root):
    heavy = []
    for name, seen in book.items():
        images = {image["src"] for image in seen.images}
        paths = {
            url: site / urlsplit(url).path.lstrip("/")
            for url in seen.requested
            if url.startswith(root)
        }
        sizes = {
            url: gzipped(path / "index.html" if path.is_dir() else path)
            for url, path in paths.items()
        }
        text = sum(size for url, size in sizes.items() if url not in images)
        whole = sum(sizes.values())
        if text > 600_000 or whole > 2_000_000:
            heavy.append(f"{name}: {text} bytes without figures, {whole} with them")
    assert none(heavy)


@pytest.fixture(scope="module")
def plain(browser, root) -> Iterator[Page]:
    """A chapter in a browser without scripts."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    open_whole(page, f"{root}/forward-process/")
    yield page
    context.close()


@pytest.mark.parametrize(
    ("what", "selector", "least"),
    [
        ("paragraphs", "main p", 30),
        ("equations", ".equation .katex-html", 8),
        ("figures", "main figure img", 2),
        ("stills of live figures", ".live img", 1),
        ("the table of contents", "#contents a", 11),
    ],
)
def test_a_chapter_can_be_read_without_scripts(plain, what, selector, least):
    shown = [each for each in plain.locator(selector).all() if each.is_visible()]
    assert len(shown) >= least, f"{len(shown)} {what} are visible, of {least}"


def test_the_book_works_below_a_path(browser, site):
    """The same files, below /some/where. All that they ask for is named from where they
    are (tests/test_site.py), so one page of each kind tells."""
    with serve(site, "/some/where") as address:
        book = {}
        for name in (*ONE_OF_EACH, "exchanging-weights/"):
            seen = book[name] = Seen()
            page = browser.new_page()
            watch(page, seen)
            open_whole(page, f"{address}/{name}")
            for key, value in page.evaluate(LOOK).items():
                setattr(seen, key, value)
            page.close()
        assert none(offenders(book, "failed") + offenders(book, "said"))
        assert none(dead_links(book, site, address))
        outside = [
            f"{name}: {link}"
            for name, seen in book.items()
            for link in [*seen.links, *seen.requested]
            if "127.0.0.1" in link and not link.startswith(f"{address}/")
        ]
        assert none(outside)
