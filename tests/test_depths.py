"""A chapter reads as prose with pictures: how much code is seen, and where it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import open_whole
from playwright.sync_api import Browser, Page, expect

from conftest import ROOT

CHAPTER = "diffusion-kernel/"
NARROW, MIDDLE, WIDE, HIGH = 390, 1000, 1440, 900

# A picture in a cell is a picture; whatever else stands in the cell is code and output,
# with the lines that open it. Nothing is counted twice, and nothing that is folded.
SHARES = """() => {
  const seen = selector => [...document.querySelectorAll(`main ${selector}`)]
    .filter(each => each.checkVisibility());
  const outer = found => found.filter(each =>
    !found.some(other => other !== each && other.contains(each)));
  const sum = found => found
    .reduce((total, each) => total + each.getBoundingClientRect().height, 0);
  const top = each => each.getBoundingClientRect().top + scrollY;
  const pictures = outer(seen(':is(figure, .live, .cloud, .enlarge)'))
    .filter(each => each.matches('.live, .cloud') || each.querySelector('img'));
  const cells = outer(seen(':is(.cell, .code, .outputs, .set-up)'));
  const inCells = pictures.filter(each => cells.some(cell => cell.contains(each)));
  const whole = document.querySelector('main').getBoundingClientRect().height;
  return {
    code: (sum(cells) - sum(inCells)) / whole,
    pictures: sum(pictures) / whole,
    screens: pictures.length ? Math.min(...pictures.map(top)) / innerHeight : 99,
  };
}"""
LOAD = """async () => {
  for (const image of document.images) image.loading = 'eager';
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
}"""


def chapters(first: int, last: int) -> list[str]:
    """The addresses of the chapters with these numbers."""
    found = sorted((ROOT / "chapters").glob("[0-9][0-9]-*.md"))
    return [f"{p.stem[3:]}/" for p in found if first <= int(p.stem[:2]) <= last]


def shares(page: Page, root: str, chapter: str) -> dict[str, float]:
    """Of a chapter's height: code with output, and pictures; and the screen on which
    the first picture begins."""
    open_whole(page, f"{root}/{chapter}")
    page.evaluate(LOAD)
    return page.evaluate(SHARES)


def opened(browser: Browser, root: str, width: int = WIDE, depth: str = "") -> Page:
    """A chapter, for a reader who has chosen a depth before."""
    page = browser.new_page(viewport={"width": width, "height": HIGH})
    if depth:
        page.add_init_script(f"localStorage.depth ??= '{depth}'")
    open_whole(page, f"{root}/{CHAPTER}")
    return page


@pytest.fixture
def page(browser, root) -> Iterator[Page]:
    """A chapter on a wide screen, as a new reader finds it."""
    page = opened(browser, root)
    yield page
    page.close()


def code_seen(page: Page) -> int:
    return len([each for each in page.locator("main .code").all() if each.is_visible()])


@pytest.fixture(scope="module")
def measured(browser, root) -> dict[str, dict[str, float]]:
    """Chapters of the four parts, as a new reader finds them on a wide screen."""
    page = browser.new_page(viewport={"width": WIDE, "height": HIGH})
    found = {name: shares(page, root, name) for name in chapters(0, 23)}
    page.close()
    return found


def test_code_and_output_are_at_most_a_third_of_what_is_seen(measured):
    code = {name: measured[name]["code"] for name in chapters(0, 23)}
    assert len(code) == 24 and all(share > 0.02 for share in code.values()), code
    assert all(share <= 0.3 for share in code.values()), code


def test_a_fifth_of_what_is_seen_is_pictures(measured):
    pictures = {name: measured[name]["pictures"] for name in chapters(0, 9)}
    assert len(pictures) == 10
    assert all(0.2 <= share < 0.6 for share in pictures.values()), pictures
    later = {name: measured[name]["pictures"] for name in chapters(10, 23)}
    assert len(later) == 14 and all(share > 0.07 for share in later.values()), later


def test_the_first_picture_comes_within_two_screens(measured):
    screens = {name: measured[name]["screens"] for name in chapters(1, 23)}
    assert len(screens) == 23
    assert not {name: first for name, first in screens.items() if first > 2}


def test_a_depth_is_chosen_by_keyboard_and_remembered(page, root):
    core = code_seen(page)
    page.get_by_role("radio", name="core").focus()
    page.keyboard.press("ArrowLeft")
    assert code_seen(page) == 0 < core and page.url == f"{root}/{CHAPTER}"
    page.goto(f"{root}/forward-process/")
    expect(page.get_by_role("radio", name="ideas")).to_be_checked()
    assert code_seen(page) == 0
    page.get_by_role("radio", name="everything").check()
    for kind in ("set-up", "proof-fold", "source"):
        closed = page.locator(f"article > * > .{kind}:not([open])").count()
        assert closed == 0, f"{closed} {kind} stay closed"
    page.get_by_role("radio", name="core").check()
    page.goto(f"{root}/{CHAPTER}")
    assert code_seen(page) == core
    assert page.evaluate("localStorage.depth") is None


def test_a_depth_is_there_before_anything_is_drawn(browser, root):
    page = browser.new_page()
    page.route("**/book.js", lambda route: route.abort())
    for depth in ("ideas", "everything"):
        page.add_init_script(f"localStorage.depth = '{depth}'")
        open_whole(page, f"{root}/{CHAPTER}")
        assert (code_seen(page) == 0) == (depth == "ideas")
        expect(page.locator(f".depth input[value={depth}]")).to_be_checked()
    page.close()


def test_without_scripts_the_depth_is_core(browser, root, page):
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    open_whole(plain, f"{root}/{CHAPTER}")
    assert 0 < code_seen(plain) == code_seen(page)
    expect(plain.locator(".depth")).to_be_hidden()
    context.close()


def test_what_is_opened_by_hand_stays_open(page):
    fold = page.locator("article .source:not([open])").first
    fold.evaluate("each => { each.id = 'mine'; }")
    page.locator("#mine > summary").click()
    page.get_by_role("radio", name="ideas").check()
    assert code_seen(page) == 1
    expect(page.locator("#mine .code")).to_be_visible()


@pytest.mark.parametrize("place", ["def-q_sample", "check-eq-kernel", "fig-jump"])
def test_a_link_leads_into_a_fold(browser, root, place):
    page = opened(browser, root, depth="ideas")
    open_whole(page, f"{root}/{CHAPTER}#{place}")
    expect(page.locator(f"#{place}")).to_be_in_viewport()
    assert code_seen(page) == (place != "fig-jump")
    page.close()


def test_a_check_is_a_tick_that_says_what_was_measured(browser, root, page):
    tall = """() => [...document.querySelectorAll('article > .check')].map(each =>
      each.getBoundingClientRect().height)"""
    assert max(page.evaluate(tall)) < 5, "beside the text a check takes no room"
    tick = page.locator("#check-eq-kernel summary")
    assert "largest error" in (tick.get_attribute("title") or "")
    where = """each => { const box = each.getBoundingClientRect();
      return [box.x, box.y + scrollY]; }"""
    before = tick.evaluate(where)
    tick.click()
    expect(page.locator("#check-eq-kernel .code")).to_be_visible()
    assert tick.evaluate(where) == before, "the tick runs away from who opens it"
    narrow = opened(browser, root, MIDDLE)
    assert 10 < max(narrow.evaluate(tall)) < 45
    narrow.close()


def test_plumbing_stands_aside(page):
    expect(page.locator(".take-away .set-up")).to_have_count(1)
    order = """() => [...document.querySelector('article').children]
      .findIndex(each => each.matches('.cell'))"""
    assert page.evaluate(order) > 5, "a cell comes before the first words"
    below = """() => [...document.querySelectorAll('article figure')].every(each =>
      each.nextElementSibling?.matches('.source:not([open])'))"""
    assert page.evaluate(below), "the code of a figure is not folded below it"


def test_everything_hangs_on_one_axis(page):
    page.evaluate(LOAD)
    edges = page.evaluate("""() => Object.fromEntries(
      ['p', 'h2', '.equation', '.box', '.cell > .source > .code', '.cell figure .full',
       '.cell > .outputs > .live']
      .map(kind => [kind, [...document.querySelectorAll(`article > ${kind}`)]
        .filter(each => each.checkVisibility())
        .map(each => each.getBoundingClientRect())
        .map(box => [box.left, box.right])]))""")
    lefts = {round(left) for boxes in edges.values() for left, _ in boxes}
    assert all(edges.values()) and len(lefts) == 1, edges
    rights = {kind: {round(right) for _, right in edges[kind]} for kind in edges}
    same = set.union(*(found for kind, found in rights.items() if kind != ".equation"))
    assert len(same) == 1, rights


@pytest.mark.parametrize("width", [NARROW, MIDDLE, WIDE])
def test_the_contents_show_where_one_is(browser, root, width):
    page = opened(browser, root, width)
    if width < 1024:
        page.get_by_role("button", name="Contents").click()
    link = page.locator("#contents").get_by_role("link", name="Where it ends")
    link.click()
    expect(page.get_by_role("heading", name="Where it ends")).to_be_in_viewport()
    if width < 1024:
        expect(link).to_be_hidden()
    expect(page.locator("#contents .outline [aria-current]")).to_have_text(
        "Where it ends"
    )
    page.close()


def test_a_line_tells_how_much_is_read(page):
    read = "Number(document.documentElement.style.getPropertyValue('--read'))"
    page.wait_for_function(f"{read} === 0")
    page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    page.wait_for_function(f"{read} > 0.99")


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_picture_can_be_made_larger(browser, root, width):
    page = opened(browser, root, width)
    link = page.locator("#fig-left a.enlarge")
    link.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog.large")
    expect(large).to_be_visible()
    sizes = large.locator("img").evaluate("each => [each.width, each.naturalWidth]")
    assert sizes[0] >= sizes[1] > 600
    view = large.locator(".large-view").evaluate(
        "each => [each.scrollWidth > each.clientWidth, each.clientWidth <= innerWidth]"
    )
    assert view == [width == NARROW, True]
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(link).to_be_focused()
    link.click()
    page.get_by_role("button", name="Close").click()
    expect(large).to_be_hidden()
    page.close()
