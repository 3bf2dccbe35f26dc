"""The site as a whole: opened from a folder, by old browsers and by programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from book import source_date
from PIL import Image
from playwright.sync_api import Page, expect
from serve import serve

CHAPTER = "diffusion-kernel"
PAPER = "rgb(253, 252, 249)"  # the light page's own colour, which no browser gives


def background(page: Page, what: str = "body") -> str:
    return page.eval_on_selector(what, "it => getComputedStyle(it).backgroundColor")


def test_the_book_opens_by_double_click(browser, site):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((site / "index.html").as_uri())
    assert background(page) == PAPER
    page.get_by_role("link", name="The diffusion kernel").first.click()
    page.wait_for_url((site / CHAPTER / "index.html").as_uri())
    assert background(page) == PAPER
    expect(page.locator("h1")).to_contain_text("The diffusion kernel")
    # Figures that move read their numbers, and search its index.
    page.locator(".live").first.scroll_into_view_if_needed()
    expect(page.locator(".live.alive").first).to_be_visible()
    page.keyboard.press("/")
    page.get_by_role("combobox").fill("eq-step")
    page.keyboard.press("Enter")
    page.wait_for_url((site / "forward-process" / "index.html").as_uri() + "#eq-step")
    expect(page.locator("#eq-step")).to_be_in_viewport()
    page.close()


def test_every_link_opens_from_a_folder(site):
    """Without a server and without a script: each names a file that is there."""
    dead = []
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue
        text = path.read_text("utf-8")
        for address in set(
            re.findall(
                r' (?:href|src|srcSet|data-(?:live|model|about))="([^"#]+)', text
            )
        ):
            is_there = ":" in address or (path.parent / address).is_file()
            if not is_there:
                dead.append(f"{path.relative_to(site)}: {address}")
    assert not dead, dead[:10]


def test_a_page_that_is_not_there_finds_the_book(browser, site):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    missing = (site / "404.html").read_text("utf-8")
    page.route(
        "**/away/**",
        lambda route: route.fulfill(status=404, body=missing, content_type="text/html"),
    )
    with serve(site, "/some/where") as root:
        page.goto(f"{root}/away/from/here")
        link = page.get_by_role("link", name="The diffusion kernel").first
        expect(link).to_have_attribute("href", f"/some/where/{CHAPTER}/")
        expect(page.locator("html.js")).to_have_count(1)
        assert background(page) == PAPER
        page.keyboard.press("/")
        expect(page.get_by_role("combobox")).to_be_focused()
    page.close()


@pytest.mark.parametrize(
    ("scheme", "paper"), [("light", PAPER), ("dark", "rgb(22, 25, 29)")]
)
def test_a_browser_without_light_dark_has_all_colours(browser, root, scheme, paper):
    def forget(route):
        answer = route.fetch()
        text = answer.text().replace("light-dark(", "unknown-function(")
        route.fulfill(response=answer, body=text)

    page = browser.new_page(color_scheme=scheme)
    page.route("**/style.css", forget)
    page.goto(f"{root}/{CHAPTER}/")
    assert background(page) == paper
    assert background(page, ".masthead") != "rgba(0, 0, 0, 0)"
    page.locator(".live").first.scroll_into_view_if_needed()
    curve = page.locator(".live-view svg path[stroke*='--live']").first
    expect(curve).to_be_attached()
    stroke = curve.evaluate("it => getComputedStyle(it).stroke")
    assert stroke.startswith("rgb"), stroke
    # The button chooses the other colours, there as well.
    page.locator(".theme-toggle").click()
    assert background(page) not in (paper, "rgba(0, 0, 0, 0)")
    page.close()


def test_with_forced_colours_curves_and_their_names_agree(browser, root):
    page = browser.new_page(forced_colors="active")
    page.goto(f"{root}/{CHAPTER}/")
    page.locator(".live").first.scroll_into_view_if_needed()
    swatch = page.locator(".swatch").first
    expect(swatch).to_be_attached()
    colours = page.locator(".swatch").evaluate_all(
        "all => new Set(all.map(it => getComputedStyle(it).color)).size"
    )
    assert colours > 1, "all names of curves have one colour"
    page.close()


def head(site: Path, name: str) -> str:
    text = (site / name / "index.html").read_text("utf-8")
    return text[: text.index("</head>")]


def test_the_head_says_what_a_page_is(site):
    told = head(site, CHAPTER)
    for meta in (
        'property="og:title" content="The diffusion kernel"',
        'property="og:type" content="article"',
        'name="citation_title" content="The diffusion kernel"',
        'name="author" content="The ddpm_lit authors"',
        'name="theme-color" content="#16191d" media="(prefers-color-scheme: dark)"',
        'name="twitter:card"',
    ):
        assert f"<meta {meta}" in told, meta
    data = json.loads(re.findall(r'ld\+json">(.*?)</script>', told)[0])
    assert data["@type"] == "Chapter" and data["isPartOf"]["@type"] == "Book"
    assert Image.open(site / "apple-touch-icon.png").size == (180, 180)
    assert Image.open(site / "favicon.ico").size == (32, 32)
    # Nobody has said where the book will lie.
    assert "canonical" not in told and "og:image" not in told
    assert not (site / "sitemap.xml").exists() and not (site / "robots.txt").exists()


def test_the_foot_says_what_the_book_is_and_what_can_be_taken(browser, root):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    for name in ("", f"{CHAPTER}/", "modules/forward/"):
        page.goto(f"{root}/{name}")
        foot = page.locator("footer")
        expect(foot).to_contain_text(re.compile(r"version \d+\.\d+"))
        expect(foot).to_contain_text("MIT licence")
        for link in ("to print", "All notebooks", "Book and program"):
            expect(foot.get_by_role("link", name=link)).to_be_visible()
        foot.get_by_text("Cite this").click()
        expect(foot.locator("code").last).to_contain_text("@book{ddpm_lit,")
    page.close()


def test_the_date_is_that_of_the_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert source_date(tmp_path) == "2023-11-14"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert source_date(tmp_path) == ""
