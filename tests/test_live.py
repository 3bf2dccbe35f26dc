"""Live figures on the rendered page: moved by the keyboard, they say what is right."""

from __future__ import annotations

import pytest
from live_cases import CASES, Case
from playwright.sync_api import Browser, Locator, Page

from conftest import ROOT

CHAPTERS = sorted({case.chapter for case in CASES})


@pytest.fixture(scope="module")
def page(browser: Browser, root: str) -> Page:
    return browser.new_page(base_url=root, viewport={"width": 1280, "height": 900})


def address(chapter: str) -> str:
    return f"/{chapter.partition('-')[2]}/"


def alive(page: Page, case: Case) -> Locator:
    """The figure of a case, after its tables have come."""
    figure = page.locator(".live").nth(case.figure)
    figure.scroll_into_view_if_needed()
    page.wait_for_function(
        "figure => figure.classList.contains('alive') && "
        "figure.querySelector('.live-view > svg')",
        arg=figure.element_handle(),
    )
    return figure


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.chapter}-{c.figure}")
def test_a_key_moves_the_figure_to_the_right_value(page: Page, case: Case) -> None:
    page.goto(address(case.chapter))
    figure = alive(page, case)
    says, view = figure.locator(".live-says"), figure.locator(".live-view > svg")
    before, drawn = says.text_content() or "", view.inner_html()
    slider = figure.get_by_label(case.slider, exact=True)
    slider.focus()
    page.keyboard.press(case.key)
    page.wait_for_function(
        "([says, before]) => says.textContent !== before",
        arg=[says.element_handle(), before],
        timeout=5000,
    )
    case.expect(before, says.text_content() or "")
    assert view.inner_html() != drawn, "the words changed, the drawing did not"
    told = slider.get_attribute("aria-valuetext")
    shown = slider.evaluate(
        "s => s.closest('.live-slider').querySelector('output').value"
    )
    assert told == shown, "the slider tells a screen reader something else"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_live_figure_has_a_case(page: Page, chapter: str) -> None:
    page.goto(address(chapter))
    cases = sum(case.chapter == chapter for case in CASES)
    assert page.locator(".live").count() == cases, f"add a case for {chapter}"


def test_chapters_without_cases_have_no_live_figures() -> None:
    tagged = {
        path.stem
        for path in (ROOT / "chapters").glob("[0-9]*.md")
        if "widget]" in path.read_text("utf-8")
    }
    assert tagged == set(CHAPTERS)


def test_choices_and_play_answer_to_keys(page: Page) -> None:
    page.goto(address("01-forward-process"))
    figure = alive(page, CASES[1])
    figure.get_by_label("both roots", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert figure.get_by_label("no shrinking", exact=True).is_checked()
    # Var(x) + 64 beta, at beta = 0.05: far above 1.
    page.wait_for_function(
        "says => parseFloat(says.textContent.match(/is (.*)\\.$/)[1]) > 3",
        arg=figure.locator(".live-says").element_handle(),
        timeout=5000,
    )
    page.goto(address("09-sampling"))
    digits = next(case for case in CASES if case.slider == "from noise to digits")
    figure = alive(page, digits)
    play = figure.get_by_role("button", name="Play")
    play.focus()
    page.keyboard.press("Enter")
    slider = figure.get_by_role("slider")
    page.wait_for_function(
        "s => s.value > 2 && s.value < 30", arg=slider.element_handle()
    )
    figure.get_by_role("button", name="Pause").press("Enter")
    stopped = slider.input_value()
    page.wait_for_timeout(300)
    assert slider.input_value() == stopped, "Pause does not stop it"


HANDLES = {
    "01-forward-process": (1, ["last"]),
    "03-bayes-posterior": (0, ["x", "z"]),
}
# Moves the pointer over the view, and says how long it takes until that is drawn.
MOVE = """([figure, x, y]) => new Promise(resolve => {
  const view = figure.querySelector('.live-view'), began = performance.now();
  view.querySelector('svg').dispatchEvent(new PointerEvent('pointermove',
    {clientX: x, clientY: y, pointerId: 1, buttons: 1, bubbles: true}));
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
})"""


def middle(figure: Locator, handle: str) -> tuple[float, float]:
    """Where a dot lies after the next frame, for each frame has dots of its own."""
    figure.page.wait_for_function("() => new Promise(requestAnimationFrame)")
    x, y = figure.evaluate(
        """(figure, handle) => {
          const box = figure.querySelector(`[data-handle=${handle}]`)
            .getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }""",
        handle,
    )
    return x, y


@pytest.mark.parametrize("chapter", HANDLES)
def test_a_dot_takes_its_slider_along(page: Page, chapter: str) -> None:
    number, handles = HANDLES[chapter]
    page.goto(address(chapter))
    figure = alive(page, Case(chapter, number, "", lambda *_: None))
    for handle in handles:
        slider = figure.locator(f"[data-control={handle}]")
        dot = figure.locator(f"[data-handle={handle}]")
        action = "each => getComputedStyle(each).touchAction"
        assert dot.evaluate(action) == "none"
        assert figure.locator(".live-view > svg").evaluate(action) == "auto"
        places = (dot.get_attribute("data-places") or "").split()
        assert len(places) == int(slider.get_attribute("max") or 0) + 1
        x, y = middle(figure, handle)
        page.mouse.move(x, y)
        page.mouse.down()
        before, said = slider.input_value(), figure.locator(".live-says").text_content()
        page.mouse.move(x - 90, y, steps=6)
        page.mouse.up()
        page.wait_for_function("() => new Promise(requestAnimationFrame)")
        assert slider.input_value() != before, f"{handle} does not follow its dot"
        assert figure.locator(".live-says").text_content() != said
        # The dot is drawn where it is nearest to the pointer.
        far = [
            abs(float(place.split(",")[0]) - float(places[int(before)].split(",")[0]))
            for place in places
        ]
        nearest = min(range(len(far)), key=lambda at: abs(far[at] - 90))
        assert abs(int(slider.input_value()) - nearest) <= 1
        # Without the button it rests, and the slider moves it by keys as before.
        kept = slider.input_value()
        page.mouse.move(x + 50, y)
        assert slider.input_value() == kept
        there = middle(figure, handle)
        slider.press("ArrowRight")
        assert middle(figure, handle) != there


def test_a_dot_follows_within_fifty_milliseconds(page: Page) -> None:
    page.goto(address("03-bayes-posterior"))
    figure = alive(page, Case("03-bayes-posterior", 0, "", lambda *_: None))
    x, y = middle(figure, "x")
    page.mouse.move(x, y)
    page.mouse.down()
    element = figure.element_handle()
    took = [page.evaluate(MOVE, [element, x - 9 * k, y]) for k in range(1, 9)]
    page.mouse.up()
    assert sorted(took)[len(took) // 2] < 50, took


def test_without_scripts_the_still_and_its_words_are_there(page: Page) -> None:
    assert page.context.browser
    plain = page.context.browser.new_page(java_script_enabled=False)
    page.goto("/")
    for chapter in CHAPTERS:
        plain.goto(page.url.rstrip("/") + address(chapter))
        for figure in plain.locator(".live").all():
            assert figure.locator(".live-view img").get_attribute("alt")
            assert len(figure.locator(".live-says").text_content() or "") > 10
            assert not figure.get_by_role("slider").first.is_visible()
    plain.close()


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_figures_fit_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for case in CASES:
        page.goto(address(case.chapter))
        figure = alive(page, case)
        outside = figure.evaluate(
            """figure => {
              const box = figure.querySelector('svg').getBoundingClientRect();
              return [...figure.querySelectorAll('svg text')].filter(text => {
                const at = text.getBoundingClientRect();
                return at.left < box.left - 1 || at.right > box.right + 1;
              }).map(text => text.textContent);
            }"""
        )
        assert not outside, f"{case.chapter}: {outside} is cut off at {width} pixels"
    page.set_viewport_size({"width": 1280, "height": 900})
