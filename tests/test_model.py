"""Models that run in the page: only when asked, right, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from browser import open_whole
from playwright.sync_api import Browser, Locator, Page, expect
from test_pages import AXE, RUN_AXE, STANDARDS, Seen, watch

from ddpm_lit import load_model
from ddpm_lit.guidance import clipped, guided
from ddpm_lit.samplers import ddim, heun
from ddpm_lit.sampling import sample

pytestmark = pytest.mark.book
PAGE = "/exchanging-weights/"
SECONDS = 120_000  # milliseconds: as much as a busy machine may need
# Asks the worker of the page for pictures out of given noise; their last state.
ASK = """async ([asset, model, about, job]) => {
  const told = await (await fetch(about)).json();
  const worker = new Worker(asset, {type: 'module'});
  const numbers = job.noises.map(each => new Float32Array(each));
  const answer = new Promise((resolve, reject) => {
    worker.onmessage = ({data}) => {
      if (data.error) reject(new Error(data.error));
      if (data.step === job.steps) resolve([...data.z]);
    };
    worker.onerror = () => reject(new Error('no worker'));
  });
  const url = new URL(model, location.href).href;
  worker.postMessage({...job, id: 1, model: url, about: told, noises: numbers});
  return answer;
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, root: str) -> Iterator[Page]:
    yield browser.new_page(base_url=root, viewport={"width": 1280, "height": 900})


@pytest.fixture
def box(page: Page) -> Locator:
    page.goto(PAGE)
    return page.locator(".model").first


def asked_for_runtime(seen: Seen) -> list[str]:
    return [
        url for url in seen.requested if url.endswith((".wasm", ".onnx", "worker.js"))
    ]


def test_nothing_of_the_runtime_is_fetched_before_it_is_asked_for(
    browser, root
) -> None:
    page, seen = browser.new_page(base_url=root), Seen()
    watch(page, seen)
    open_whole(page, PAGE)
    page.locator(".model").first.scroll_into_view_if_needed()
    page.locator(".model summary").first.click()
    page.locator(".model select").first.select_option("3")
    page.get_by_label("guidance").first.press("ArrowRight")
    assert page.locator(".model output").first.text_content() == "1.5"
    page.wait_for_timeout(300)
    assert not asked_for_runtime(seen)
    page.get_by_role("button", name="New pictures").first.click()
    page.locator(".model").first.locator(".live-view canvas").wait_for(timeout=SECONDS)
    assert len(asked_for_runtime(seen)) == 3 and not seen.failed
    page.close()


def test_a_press_makes_new_pictures_and_says_how(page: Page, box: Locator) -> None:
    box.get_by_role("button", name="New pictures").click()
    says = box.locator(".live-says")
    expect(says).to_contain_text("seconds", timeout=SECONDS)
    first, seed = shot(box), box.locator("[data-control=seed]").input_value()
    assert f"seed {seed}," in (says.text_content() or "")
    assert "t-shirt" in (box.locator("canvas").first.get_attribute("aria-label") or "")
    box.get_by_role("button", name="New pictures").click()
    expect(says).not_to_contain_text(f"seed {seed},", timeout=SECONDS)
    assert shot(box) != first
    box.locator("summary").click()
    box.locator("[data-control=seed]").fill(seed)
    box.locator("[data-control=seed]").press("Tab")
    expect(says).to_contain_text(f"seed {seed},", timeout=SECONDS)
    assert shot(box) == first, "the same seed made other pictures"


def shot(box: Locator) -> str:
    drawn: str = box.locator(".live-view canvas").evaluate("each => each.toDataURL()")
    return drawn


def test_a_blend_goes_from_one_picture_to_another(page: Page, box: Locator) -> None:
    box.get_by_role("button", name="From one to another").click()
    expect(box.locator(".live-says")).to_contain_text("seconds", timeout=SECONDS)
    rows = box.locator(".live-view canvas").evaluate("""canvas => {
      const pen = canvas.getContext('2d');
      const at = i =>
        pen.getImageData(30 * (i % 5), 30 * Math.floor(i / 5), 28, 28).data;
      const far = (a, b) => a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0);
      const near = [...Array(9).keys()].map(i => far(at(i), at(i + 1)));
      return [Math.max(...near), far(at(0), at(9))];
    }""")
    assert 0 < rows[0] < rows[1], "neighbours are further apart than the two ends"


def test_what_is_drawn_is_kept_and_the_rest_is_made(page: Page) -> None:
    page.goto(PAGE)
    box = page.locator(".model").nth(1)
    pad = box.get_by_label("Drawing pad")
    pad.focus()
    page.keyboard.press(" ")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    pad_box = pad.bounding_box()
    assert pad_box
    page.mouse.move(pad_box["x"] + 40, pad_box["y"] + 20)
    page.mouse.down()
    page.mouse.move(pad_box["x"] + 120, pad_box["y"] + 25, steps=4)
    page.mouse.up()
    box.get_by_role("button", name="Finish my drawing").click()
    expect(box.locator(".live-says")).to_contain_text("seconds", timeout=SECONDS)
    kept, made = page.evaluate("""() => {
      const [, box] = document.querySelectorAll('.model');
      const [view, pad] = ['.live-view canvas', '.model-pad canvas'].map(
        each => box.querySelector(each).getContext('2d'));
      const mine = pad.getImageData(0, 0, 28, 13).data;
      const theirs = view.getImageData(0, 0, 28, 13).data;
      const below = view.getImageData(0, 14, 28, 14).data;
      const ink = mine.filter((v, i) => i % 4 === 0 && v > 200).length;
      const wrong = theirs.filter((v, i) => i % 4 === 1 && Math.abs(v - mine[i]) > 1);
      return [[ink, wrong.length], below.some((v, i) => i % 4 === 0 && v > 128)];
    }""")
    assert kept[0] > 12, "the pad took no ink"
    assert kept[1] < 20, "the drawing was changed"  # but where the pen is shown
    assert made, "nothing was made below the line"


SAMPLERS: dict[str, dict[str, Any]] = {
    "DDIM": {"sampler": ddim},
    "ancestral": {"sampler": ddim, "eta": 1.0},
    "Heun": {"sampler": heun},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_page_makes_the_pictures_that_python_makes(page, box, name) -> None:
    model = load_model("book:fashion")
    how = dict(SAMPLERS[name])
    walk = how.pop("sampler")
    g = torch.Generator().manual_seed(5)
    noises = [torch.randn(3, 1, 28, 28, generator=g) for _ in range(5)]
    label, queue = torch.tensor([1, 7, 9]), iter(noises[1:])
    want = sample(
        clipped(guided(model, 2.0, label=label), model.schedule),
        model.schedule,
        noises[0],
        sampler=partial(walk, **how),
        steps=4,
        noise=lambda: next(queue),
    )
    job = {"labels": label.tolist(), "scale": 2, "steps": 4, "sampler": name, "seed": 0}
    job["noises"] = [each.flatten().tolist() for each in noises]
    data = box.evaluate("each => [each.dataset.model, each.dataset.about]")
    made = page.evaluate(ASK, ["../assets/worker.js", *data, job])
    error = (torch.tensor(made).reshape(want.shape) - want).abs().max()
    assert error < 1e-4, f"{name}: the page is off by {error}"


def test_the_page_stays_free_while_a_model_works(page: Page, box: Locator) -> None:
    box.locator("summary").click()
    box.get_by_role("radio", name="50").check()
    box.get_by_role("button", name="New pictures").click()
    box.locator(".live-view canvas").wait_for(timeout=SECONDS)
    assert box.get_attribute("aria-busy") == "true"
    frames = page.evaluate("""async () => {
      const box = document.querySelector('.model'), bar = box.querySelector('progress');
      const before = bar.value;
      let frames = 0;
      while (bar.value === before) {
        await new Promise(requestAnimationFrame);
        frames += box.ariaBusy === 'true';
      }
      return frames;
    }""")
    assert frames > 1, "the page stood still for a whole step"
    page.add_script_tag(path=AXE)
    assert not page.evaluate(RUN_AXE, [STANDARDS, None])
    box.get_by_role(
        "radio", name="5", exact=True
    ).check()  # a newer wish ends the old one
    expect(box.locator(".live-says")).to_contain_text("5 steps", timeout=SECONDS)


@pytest.mark.parametrize("lost", ["**/*.onnx", "**/worker.js", "**/*.wasm"])
def test_a_model_that_does_not_arrive_says_so(browser, root, lost) -> None:
    page = browser.new_page(base_url=root)
    page.route(lost, lambda route: route.abort())
    page.goto(PAGE)
    page.get_by_role("button", name="New pictures").first.click()
    says = page.locator(".model .live-says").first
    expect(says).to_contain_text("could not be loaded", timeout=SECONDS)
    assert page.locator(".model .live-view img").first.is_visible()
    page.unroute(lost)
    page.get_by_role("button", name="New pictures").first.click()
    expect(says).to_contain_text("seconds", timeout=SECONDS)
    page.close()


def test_without_its_script_a_model_says_so(browser, root) -> None:
    page = browser.new_page(base_url=root)
    page.route("**/model.js", lambda route: route.abort())
    page.goto(PAGE)
    expect(page.locator(".model .live-says").first).to_contain_text("not be loaded")
    page.close()


def test_two_models_on_a_page_both_come_to_rest(page: Page) -> None:
    page.goto(PAGE)
    buttons = page.get_by_role("button", name="New pictures")
    buttons.nth(0).click()
    page.locator(".model").nth(0).locator("canvas").first.wait_for(timeout=SECONDS)
    buttons.nth(1).click()
    says = page.locator(".model .live-says")
    expect(says.nth(1)).to_contain_text("seconds", timeout=SECONDS)
    expect(says.nth(0)).to_contain_text("Stopped")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_front_page_begins_once_unless_stillness_is_asked_for(
    browser, root, motion
) -> None:
    context = browser.new_context(base_url=root, reduced_motion=motion)
    page, seen = context.new_page(), Seen()
    watch(page, seen)
    open_whole(page, "/")
    box = page.locator(".model")
    if motion == "reduce":
        page.wait_for_timeout(500)
        assert not asked_for_runtime(seen) and box.locator("img").is_visible()
    else:
        expect(box.locator(".live-says")).to_contain_text("seconds", timeout=SECONDS)
    assert page.get_by_role("link", name="Start reading").is_visible()
    context.close()


def test_without_scripts_the_still_and_its_words_are_there(browser, root) -> None:
    context = browser.new_context(base_url=root, java_script_enabled=False)
    page = context.new_page()
    page.goto(PAGE)
    box = page.locator(".model").first
    assert box.locator("img").is_visible() and box.locator(".live-says").is_visible()
    assert not box.get_by_role("button").count()
    context.close()


def test_the_licence_of_the_runtime_goes_with_it(site) -> None:
    said = (site / "assets/worker.js").read_text("utf-8")
    assert "Microsoft Corporation" in said and "MIT License" in said
