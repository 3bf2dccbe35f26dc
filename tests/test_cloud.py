"""The reader's cloud: a page computes what the book computes, and answers the hand."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import open_whole
from playwright.sync_api import Browser, Locator, Page, expect

from conftest import ROOT
from ddpm_lit.book.cloud import (
    BELL,
    CLOUDS,
    METHODS,
    STEPS,
    VIEWS,
    WALKERS,
    Cloud,
    annealed,
    cloud_law,
    letter,
    perfect,
    reference,
    shares,
    show_cloud,
    spiral,
    two_moons,
)
from ddpm_lit.schedules import make_schedule

# Asks the page's own maths for all that the book's Python has answered.
ASK = """
import { readFileSync } from 'node:fs';
import * as maths from './maths.mjs';
const { Cloud, samplers, chain, posterior, roots } = maths;
const { clouds, beta, bell, grids, reference: r } = JSON.parse(readFileSync('c.json'));
const alphaBar = maths.alphaBarOf(beta);
const cloud = new Cloud(Float64Array.from(clouds['two moons'].flat()), bell, alphaBar);
async function way(name, grid, z, from) {
  const noise = () => Float64Array.from(r.dice.slice(from, (from += z.length)));
  const states = [];
  const walk = chain(cloud.predict, alphaBar, z, samplers[name], grid, noise);
  for await (const state of walk) states.push(...state);
  return states;
}
const z = () => Float64Array.from(r.dice.slice(0, 6));
const x = [4, 5, 2, 3, 0, 1].map((i) => r.dice[i]);
const found = { guess: [], noise: [], score: [], log_prob: [], shares: [] };
for (let i = 0; i < 6; i += 2) {
  const { guess, noise, score, logProb, shares } = cloud.ask(z()[i], z()[i + 1], r.t);
  found.guess.push(...guess);
  found.noise.push(...noise);
  found.score.push(...score);
  found.log_prob.push(logProb);
  found.shares.push(...shares);
}
const { ofX, ofZ, variance } = posterior(alphaBar, r.t, r.t - 1);
found.posterior = [...z()].map((each, i) => ofX * x[i] + ofZ * each);
found.deviation = [Math.sqrt(variance)];
const dice = () => x;
const step = samplers.forward(null, z(), r.t - 1, r.t, alphaBar, dice);
found.step = [...(await step)];
const [signal, spread] = roots(alphaBar[r.t]);
found.jump = x.map((each, i) => signal * each + spread * r.dice[i]);
for (const name of ['ancestral', 'DDIM', 'Heun', 'Langevin']) {
  found[name] = [];
  for (const i of [0, 2, 4]) {
    found[name].push(...(await way(name, grids[4], z().slice(i, i + 2), 6)));
  }
}
console.log(JSON.stringify(found));
"""


def answered(folder: Path, wrong: tuple[str, str] | None = None) -> dict[str, Any]:
    """What the page's maths answers; `wrong` plants a bug in it first."""
    parts = [ROOT / f"theme/src/live/{name}.ts" for name in ("cloud-maths", "samplers")]
    sources = {path.name: path.read_text("utf-8") for path in parts}
    if wrong:
        assert wrong[0] in "".join(sources.values()), "the bug cannot be planted"
        sources = {name: text.replace(*wrong) for name, text in sources.items()}
    sources["maths.ts"] = "export * from './cloud-maths'; export * from './samplers';"
    sources["ask.mjs"] = ASK
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "node_modules").symlink_to(ROOT / "theme/node_modules")
    true = reference(two_moons(), make_schedule("linear", 100))
    page = show_cloud("noised").page() | {"reference": true}
    (folder / "c.json").write_text(json.dumps(page), encoding="utf-8")
    esbuild = ROOT / "theme/node_modules/.bin/esbuild"
    bundle = [esbuild, "maths.ts", "--bundle", "--format=esm", "--outfile=maths.mjs"]
    subprocess.run([*bundle, "--log-level=error"], cwd=folder, check=True)
    told = subprocess.check_output(["node", "ask.mjs"], cwd=folder, text=True)
    return json.loads(told)


def errors(found: dict[str, Any]) -> dict[str, float]:
    true = reference(two_moons(), make_schedule("linear", 100))
    assert set(found) == set(true) - {"t", "dice"}, "something is not compared"
    return {
        name: float(np.abs(np.subtract(numbers, true[name])).max())
        for name, numbers in found.items()
    }


def test_the_page_computes_what_the_book_computes(tmp_path):
    worst = errors(answered(tmp_path))
    assert max(worst.values()) < 1e-9, worst


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (("shares[i]) / (2 * variance)", "shares[i]) / variance"), "shares"),
        (("-spread * this.score", "spread * this.score"), "noise"),
        (("s ? mix(1, mean", "true ? mix(1, mean"), "ancestral"),
        (("Math.sqrt(1 - b - v)", "Math.sqrt(b - v)"), "DDIM"),
        (("await velocity(mix(1, z, -h, v), s)", "await velocity(z, s)"), "Heun"),
        (("-size / (2 * spread)", "-size / spread"), "Langevin"),
    ],
)
def test_a_bug_in_the_maths_of_the_page_is_found(tmp_path, wrong, found_by):
    assert errors(answered(tmp_path, wrong))[found_by] > 1e-4


def test_ready_clouds_lie_in_the_picture_and_are_the_same_for_everyone():
    assert {"two moons": two_moons, "spiral": spiral, "letter": letter} == CLOUDS
    for made in CLOUDS.values():
        points = made()
        assert points.shape[1] == 2 and 40 <= len(points) <= 60
        assert np.abs(points).max() < 2 and np.array_equal(points, made())
    assert np.hypot(*spiral().T).argmax() == 47, "the arm does not end outside"
    ends = letter()[[0, -1]]
    assert np.array_equal(ends[0], -ends[1]), "the strokes do not end in the corners"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_says_what_it_computes(view):
    cloud = Cloud(view, points=[[0.5, 0.5], [-1.0, 0.0], [0.2, -0.9]])
    assert cloud.settings()["cloud"] == "your own"
    before = cloud.said()
    assert "{" not in before and cloud.set(t=50) != before
    data, about = cloud._repr_mimebundle_()
    assert "<svg" in data["image/svg+xml"] and about["image/svg+xml"]["alt"]
    page = json.loads(json.dumps(data[Cloud.mime]))
    assert page["first"] == cloud.said() and page["walkers"] == WALKERS


def test_the_closed_forms_of_a_single_point():
    """One bell: every answer is known without a mixture."""
    schedule, t = make_schedule("linear", 100), 40
    law = cloud_law([[0.6, -0.4]])
    z = torch.tensor([[0.1, 1.0], [-2.0, 0.3]], dtype=torch.float64)
    a = float(schedule.alpha_bar[t])
    x, middle = torch.tensor([[0.6, -0.4]]).double(), a * BELL**2 + 1 - a
    guess = x + a**0.5 * BELL**2 / middle * (z - a**0.5 * x)
    assert torch.allclose(perfect(law, schedule)(z, t).x, guess, atol=1e-6)
    assert torch.equal(shares(law, z, t, schedule), torch.ones(2, 1).double())
    assert METHODS["Langevin"] is annealed and max(STEPS) == 100
    end = annealed(perfect(law, schedule), z, t, 0, schedule, None, [])
    assert torch.equal(end, perfect(law, schedule)(z, t).x), "it ends with a guess"


# Where the book shows a cloud.
PAGES = {
    "forward-process": "noised",
    "diffusion-kernel": "jump",
    "bayes-posterior": "posterior",
    "reverse-process": "denoiser",
    "sampling": "ancestral",
    "ddim": "ddim",
    "differential-equations": "flow",
    "scores": "langevin",
}
DICE = {"ancestral", "ddim", "flow", "langevin"}  # other walkers than Python's
AXE = ROOT / "theme" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def page(browser: Browser, root: str) -> Iterator[Page]:
    page = browser.new_page(base_url=root, viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def alive(page: Page, name: str) -> Locator:
    """The cloud of a page, when it can be drawn in."""
    page.goto(f"/{name}/")
    figure = page.locator(".cloud")
    figure.scroll_into_view_if_needed()
    figure.locator("canvas").wait_for()
    return figure


def says(figure: Locator) -> str:
    """What the figure says once it has drawn."""
    figure.page.wait_for_function("() => new Promise(requestAnimationFrame)")
    return figure.locator(".live-says").text_content() or ""


def numbers(words: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", words)]


def agree(view: str, said: str, python: str) -> None:
    if view in DICE:
        assert re.sub(r"[\d.]+", "", said) == re.sub(r"[\d.]+", "", python)
        assert numbers(said) == pytest.approx(numbers(python), abs=0.06), python
    else:
        assert said == python


@pytest.mark.parametrize(("name", "view"), PAGES.items())
def test_a_cloud_on_its_page_says_what_python_says(page, name, view):
    figure, cloud = alive(page, name), show_cloud(view)
    agree(view, says(figure), cloud.said())
    slider, t = figure.get_by_role("slider"), cloud.settings()["t"]
    slider.focus()
    page.keyboard.press("ArrowLeft")
    agree(view, says(figure), cloud.set(t=t - 1))
    figure.get_by_label("spiral", exact=True).check()
    cloud.set(cloud="spiral")
    if "x" not in cloud.about.get("handles", {}):  # there x becomes one of the points
        agree(view, says(figure), cloud.said())
    canvas = figure.locator("canvas")
    drawn = canvas.evaluate(
        "c => new Set(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data).size"
    )
    assert drawn > 20, "the canvas is empty"


def test_every_cloud_of_the_chapters_is_listed_here():
    shown = {
        path.stem.partition("-")[2]: found[1]
        for path in sorted((ROOT / "chapters").glob("[01]*.md"))
        for found in re.finditer(
            r'^show_cloud\("(\w+)"\)$', path.read_text("utf-8"), re.M
        )
    }
    assert shown == PAGES and set(shown.values()) == set(VIEWS)


def test_what_is_drawn_goes_along_to_other_chapters(page):
    figure = alive(page, "reverse-process")
    box = figure.locator("canvas").bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1] + 60, steps=20)
    page.mouse.up()
    assert figure.get_by_label("your own").is_checked()
    count = numbers(says(figure))[-1]
    assert 4 <= count <= 8, says(figure)
    figure = alive(page, "sampling")
    assert figure.get_by_label("your own").is_checked()
    assert numbers(says(figure))[-1] < 0.3, "the walkers do not find the points"
    assert alive(page, "reverse-process") and numbers(says(figure))[-1] == count
    figure.get_by_label("two moons").check()
    assert numbers(says(figure))[-1] == 48
    figure.get_by_label("your own").check()
    assert numbers(says(figure))[-1] == count, "a look at another cloud loses one's own"
    figure.get_by_role("button", name="Clear").click()
    assert says(figure) == "The plane is empty: put a point."


def test_a_cloud_is_drawn_and_handles_are_moved_by_keys(page):
    figure = alive(page, "reverse-process")
    cloud = show_cloud("denoiser")
    handle = figure.get_by_role("button", name=re.compile("^z at"))
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert says(figure) == cloud.set(z_1=-0.9, z_2=-1.1)
    expect(handle).to_have_accessible_name("z at -0.9, -1.1; arrow keys move it")
    cross = figure.get_by_role("button", name=re.compile("^Put a point"))
    cross.focus()
    page.keyboard.press("Delete")
    assert says(figure).startswith("The plane is empty")
    for key in ("Space", "Shift+ArrowLeft", "Enter"):
        page.keyboard.press(key)
    said = show_cloud("denoiser", [[0.0, 0.0], [-0.5, 0.0]]).set(z_1=-0.9, z_2=-1.1)
    assert says(figure) == said
    page.keyboard.press("Backspace")
    assert numbers(says(figure))[-1] == 1


def test_a_finger_scrolls_past_and_a_tap_draws(browser, root):
    phone = browser.new_page(
        base_url=root, viewport={"width": 390, "height": 800}, has_touch=True
    )
    figure = alive(phone, "diffusion-kernel")
    canvas, plane = figure.locator("canvas"), figure.locator(".cloud-plane")
    action = "plane => getComputedStyle(plane).touchAction"
    assert "pan-y" in plane.evaluate(action)
    canvas.tap(position={"x": 60, "y": 60})
    assert figure.get_by_label("your own").is_checked()
    assert plane.evaluate(action) == "none", "who has tapped wants to draw"
    kept = json.loads(phone.evaluate("localStorage.getItem('cloud')"))
    assert len(kept["own"]) == 2
    handle = figure.get_by_role("button", name=re.compile("^x at"))
    assert (handle.bounding_box() or {"width": 0})["width"] >= 24
    phone.close()


@pytest.mark.parametrize(
    "kept", ["", "{}", '{"own": 5}', '{"name": "x", "own": ["a"]}']
)
def test_a_strange_memory_does_no_harm(page, kept):
    page.goto("/reverse-process/")
    page.evaluate("kept => localStorage.setItem('cloud', kept)", kept)
    assert says(alive(page, "reverse-process")) == show_cloud("denoiser").said()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everyone_can_use_a_cloud(page, theme):
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    figure = alive(page, "diffusion-kernel")
    before = says(figure)
    page.add_script_tag(path=AXE)
    violations = page.evaluate(
        "async () => (await axe.run('.cloud')).violations.map(each => each.id)"
    )
    assert not violations
    assert says(figure) == before, "it moves by itself"
    words = figure.locator("canvas").get_attribute("aria-label")
    assert words == VIEWS["jump"]["alt"]


def test_without_scripts_a_cloud_is_a_still_with_words(browser, root):
    plain = browser.new_page(base_url=root, java_script_enabled=False)
    for name, view in PAGES.items():
        plain.goto(f"/{name}/")
        figure = plain.locator(".cloud")
        assert figure.locator("img").get_attribute("alt") == VIEWS[view]["alt"]
        assert figure.locator(".live-says").text_content() == show_cloud(view).said()
        for each in figure.get_by_role("button").all():
            assert not each.is_visible()
    plain.close()


def test_the_script_comes_when_a_cloud_comes_near(page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_whole(page, "/forward-process/")
    assert not any(each.endswith("/cloud.js") for each in asked)
    alive(page, "forward-process")
    assert any(each.endswith("/cloud.js") for each in asked)
