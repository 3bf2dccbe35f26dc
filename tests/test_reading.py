"""What a reader does on a page: search, preview a link, follow a check, use keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import open_whole
from playwright.sync_api import Page, expect

from conftest import public_names

CHAPTER = "diffusion-kernel/"


@pytest.fixture
def page(browser, root) -> Iterator[Page]:
    """A chapter on a wide screen."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    open_whole(page, f"{root}/{CHAPTER}")
    yield page
    page.close()


def entries(site: Path) -> list[dict[str, str]]:
    return json.loads((site / "search.json").read_text("utf-8"))


def test_everything_search_finds_is_there(site):
    ids: dict[str, set[str]] = {}
    for entry in entries(site):
        path, _, place = entry["href"].partition("#")
        if path not in ids:
            html = (site / path / "index.html").read_text("utf-8")
            ids[path] = set(re.findall(r' id="([^"]+)"', html))
        assert not place or place in ids[path], entry


def test_search_knows_every_numbered_equation_and_every_public_name(site):
    found = entries(site)
    names = {entry["title"] for entry in found}
    assert set(public_names()) <= names, set(public_names()) - names
    html = "".join(p.read_text("utf-8") for p in site.glob("*/index.html"))
    numbers = set(re.findall(r'class="equation-number"><a[^>]*>\(([^)]+)\)', html))
    known = {entry.get("number") for entry in found if entry["kind"] == "equation"}
    assert numbers and numbers <= known, numbers - known


def first_found(page: Page, query: str) -> str:
    """Where the first result of a search leads."""
    page.keyboard.press("/")
    page.get_by_role("combobox").fill(query)
    href = page.get_by_role("option").first.get_attribute("href")
    assert href, query
    return href


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("q_sample", "diffusion-kernel/#def-q_sample"),
        ("eq 2.3", "diffusion-kernel/#eq-kernel"),
        ("(2.3)", "diffusion-kernel/#eq-kernel"),
        ("eq-kernel", "diffusion-kernel/#eq-kernel"),
        ("Figure 2.2", "diffusion-kernel/#fig-jump"),
        ("exercise 2.1", "diffusion-kernel/#exercise-2-1"),
    ],
)
def test_what_a_query_names_comes_first(page, query, first):
    assert first_found(page, query).endswith(first)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("cosine schedule", "schedules/"),
        ("FID", "evaluation/"),
        ("Fréchet distance", "evaluation/"),
        ("frechet", "frechet"),
        ("kl divergence", "elbo/"),
        ("score function", "scores/"),
        ("elbo", "/elbo/"),
        ("VLB", "/elbo/"),
        ("attention", "/unet/#attention"),
        ("DDIM", "/ddim/"),
        ("ᾱ", "forward-process/#eq-alpha-bar"),
        ("alpha_bar", "forward-process/#eq-alpha-bar"),
        ("classifier-free guidance", "/guidance/#without-a-classifier"),
        ("cfg", "/guidance/"),
        ("how to train", "/training/"),
        ("latent", "/latent-diffusion/"),
        ("U-Net", "/unet/"),
        ("unet", "/unet/"),
        ("negative log likelihood", "likelihood"),
        ("sampler", "/sampling/"),
        ("inpainting", "/inpainting/"),
    ],
)
def test_chapters_come_before_the_tables_that_list_everything(page, query, where):
    assert where in first_found(page, query)


@pytest.mark.parametrize(
    ("query", "term"),
    [
        ("FID", "term-frechet-distance-fid"),
        ("CFG", "term-classifier-free-guidance-cfg"),
        ("vlb", "term-evidence-lower-bound-elbo-vlb-variational-bound"),
        ("alpha bar", "term-signal-that-is-left-alpha-bar"),
        ("Langevin dynamics", "term-langevin-dynamics"),
    ],
)
def test_a_term_stands_beside_the_best_of_the_chapters(page, query, term):
    first_found(page, query)
    second = page.get_by_role("option").nth(1)
    expect(second).to_have_attribute("href", re.compile(f"/glossary/#{term}$"))


def test_an_excerpt_is_cut_between_words(page, site, root):
    first_found(page, "noise")
    whole = {entry["href"]: f" {entry['text']} " for entry in entries(site)}
    options = page.locator("[role=option]:has(.hit-text)").all()
    assert len(options) > 10
    for option in options:
        href = (option.get_attribute("href") or "").removeprefix(f"{root}/")
        words = option.locator(".hit-text").text_content() or ""
        shown = words.removeprefix("… ").removesuffix(" …")
        assert f" {shown} " in whole[href], words


def test_search_by_keyboard_alone(page):
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox")
    expect(field).to_be_focused()
    field.fill("variance of the posterior")
    options = page.get_by_role("option")
    expect(options.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    chosen = options.nth(1)
    expect(field).to_have_attribute(
        "aria-activedescendant", chosen.get_attribute("id") or ""
    )
    assert chosen.locator("mark").count(), "the words of the query are not marked"
    target = chosen.evaluate("link => link.href")
    page.keyboard.press("Enter")
    page.wait_for_url(target)


def test_escape_closes_search_and_gives_the_focus_back(page):
    button = page.get_by_role("button", name="Search")
    button.click()
    page.get_by_role("combobox").fill("noise")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(button).to_be_focused()


@pytest.mark.parametrize(
    ("link", "shows"),
    [
        ('main a.xref[href$="/forward-process/#eq-step"]', ".equation"),
        ("main a.cite", "li"),
        ('a.name[href$="#def-at_step"]:visible', ".preview-signature"),
        ("#eq-kernel .checked", ".check-line"),
    ],
)
def test_a_link_previews_what_it_leads_to(page, link, shows):
    preview = page.locator(".preview")
    page.locator(link).first.hover()
    expect(preview.locator(shows)).to_be_visible()
    box = preview.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 1440
    # It stays under the pointer, and Escape takes it away.
    page.mouse.move(box["x"] + 10, box["y"] + 10, steps=4)
    page.wait_for_timeout(500)
    expect(preview).to_be_visible()
    page.keyboard.press("Escape")
    expect(preview).to_have_count(0)


def test_a_preview_comes_with_keyboard_focus(page):
    page.locator('main a.xref[href*="#eq-"]').first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.locator(".preview .equation")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 390])
def test_a_part_of_a_drawing_leads_to_its_code(browser, root, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{root}/unet/")
    parts = page.locator("#fig-unet .way")
    names = {parts.nth(i).get_attribute("aria-label") for i in range(parts.count())}
    assert {"ResidualBlock", "AttentionBlock", "Downsample", "Upsample"} < names
    half = page.locator("#fig-unet img").bounding_box()
    for part in parts.all():
        box = part.bounding_box()
        assert half and box and half["x"] <= box["x"] < half["x"] + half["width"]
    page.get_by_role("link", name="Upsample").first.click()
    expect(page.locator("#def-Upsample")).to_be_in_viewport()
    page.close()


def test_names_in_strings_and_comments_are_no_links(site):
    for path in site.glob("*/index.html"):
        html = path.read_text("utf-8")
        for kind in ("string", "comment"):
            texts = re.findall(rf'<span class="hljs-{kind}">(.*?)</span>', html, re.S)
            assert not [text for text in texts if 'class="name"' in text], path


def test_the_tick_of_an_equation_opens_its_check(page):
    page.locator("#eq-kernel .checked").click()
    check = page.locator("#check-eq-kernel")
    expect(check.locator(".code")).to_be_in_viewport()
    expect(check.locator(".check-line")).to_contain_text("largest error")
    check.get_by_role("link", name="Equation (2.3)").click()
    page.wait_for_url("**/#eq-kernel")


def test_arrow_keys_turn_pages_unless_something_else_wants_them(page, root):
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"{root}/bayes-posterior/")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"{root}/{CHAPTER}")
    slider = page.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.url == f"{root}/{CHAPTER}"


def test_single_keys_can_be_turned_off_for_good(page):
    page.keyboard.press("?")
    page.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_load_state("networkidle")
    page.keyboard.press("/")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.url.endswith(CHAPTER)
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("Control+k")
    expect(page.locator("dialog.search[open]")).to_have_count(1)


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_moves_while_a_page_loads(browser, root, width):
    # Of three loads the calmest: on a busy machine a font may come late once.
    moved = []
    for _ in range(3):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.add_init_script(
            "window.shift = 0; new PerformanceObserver(list => "
            "list.getEntries().forEach(each => { shift += each.value; }))"
            ".observe({type: 'layout-shift'})"
        )
        open_whole(page, f"{root}/{CHAPTER}")
        moved.append(page.evaluate("shift"))
        page.close()
    assert min(moved) < 0.05, moved


def without(browser, root: str, missing: str, chapter: str, width: int = 390):
    """A page of the book that never gets what matches `missing`."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.route(missing, lambda route: route.abort())
    open_whole(page, f"{root}/{chapter}/")
    return page


def test_without_its_script_a_page_can_be_read_and_left(browser, root):
    page = without(browser, root, "**/book.js", "diffusion-kernel")
    assert not page.evaluate("document.documentElement.classList.contains('js')")
    expect(page.locator("#contents")).to_be_visible()
    page.close()


def test_a_search_without_its_index_says_so(browser, root):
    page = without(browser, root, "**/search.json", "diffusion-kernel", 1440)
    page.keyboard.press("/")
    expect(page.get_by_role("dialog")).to_contain_text("could not be loaded")
    page.close()


def test_a_search_without_its_script_says_so(browser, root):
    page = without(browser, root, "**/search.js", "diffusion-kernel", 1440)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("dialog")).to_contain_text("could not be loaded")
    page.close()


def test_a_live_figure_without_its_numbers_says_so(browser, root):
    page = without(browser, root, "**/build/*.json", "diffusion-kernel", 1440)
    page.locator(".live").first.scroll_into_view_if_needed()
    expect(page.locator(".live .live-says").first).to_contain_text(
        "could not be loaded"
    )
    page.close()
