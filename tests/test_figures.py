"""Figures are byte-stable, follow the page's ink, and answer when moved."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from conftest import ROOT
from ddpm_lit.book.plotting import (
    INK,
    PHONE,
    canvas,
    narrow,
    node,
    picture,
    same_picture,
    save_figure,
    show_images,
    use_style,
)
from ddpm_lit.book.widgets import (
    PAGE,
    Axis,
    bars,
    bell,
    curve,
    dots,
    explore,
    pack,
    panel,
    pixels,
    slider,
    tabulate,
    unpack,
)

DRAW = """
import hashlib, torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from ddpm_lit.book.plotting import picture, show_images, use_style
use_style()
figure, axis = plt.subplots()
axis.hist([1, 2, 2, 3], label="bars"); axis.plot([1, 2], label="line"); axis.legend()
axis.set(xlabel=r"$z_t$")
images = show_images(torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8), 2, ["a", "b"])
text = picture(figure, "a").svg + picture(images, "b").svg
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_same_figure_same_bytes_in_two_processes():
    runs = [
        subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True)
        for _ in range(2)
    ]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert runs[0].stdout == runs[1].stdout


def test_ink_follows_the_page_and_the_text_is_kept():
    use_style()
    figure, axis = plt.subplots()
    axis.set(xlabel="x")
    svg = picture(figure, 'less < "more"').svg
    assert "currentColor" in svg and "prefers-color-scheme:dark" in svg
    assert "#5b5b5c" not in svg and "<title>less &lt; &quot;more&quot;</title>" in svg


def test_a_box_that_names_its_code_leads_there():
    """Where the box lies is told in percent from the upper left of the picture."""
    axes = canvas(4, 2)
    node(axes, (1, 1.5), "here", (1, 0.5), code="UNet")
    node(axes, (3, 0.5), "nowhere")
    shown = picture(axes.figure, "Two boxes.")
    assert shown.leads == [("UNet", 12.5, 12.5, 25.0, 25.0)]
    _, about = shown._repr_mimebundle_()
    assert about["image/svg+xml"]["leads"] == shown.leads and "UNet" not in shown.svg


def test_a_figure_without_alternative_text_is_refused(tmp_path):
    figure, _ = plt.subplots()
    with pytest.raises(ValueError, match="no alternative text"):
        save_figure(figure, "x", "  ", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_committed_figures_are_small_and_described():
    figures = sorted((ROOT / "figures").glob("*.svg"))
    assert len(figures) >= 20
    for path in figures:
        text = path.read_text("utf-8")
        assert "<title>" in text[:2000] and len(text) < 400_000, path.name


def a_line(**options):
    level = slider("level", 0.5, 0.0, 2.0, 0.5)
    shown = panel(
        curve([0, 1], lambda level: [0, level]),
        x=Axis("x", 0, 1),
        y=Axis("y", 0, 2),
    )
    return explore(
        "a line", shown, says=lambda level: f"up to {level}", level=level, **options
    )


def test_a_live_figure_answers_and_offers_three_forms():
    figure = a_line()
    data, about = figure._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/svg+xml"] == figure.still.svg
    assert about["image/svg+xml"]["alt"] == "a line"
    first = figure.view.value
    assert figure.set(level=1.5) == "up to 1.5" in figure.words.value
    assert figure.view.value != first
    figure.set(level=0.5)
    assert figure.view.value == first


def test_the_table_of_a_page_is_what_the_functions_give():
    page = a_line()._repr_mimebundle_()[0][PAGE]
    assert json.loads(json.dumps(page)) == page, "a page is plain data"
    assert page["controls"][0]["texts"] == ["0", "0.5", "1", "1.5", "2"]
    assert page["controls"][0]["start"] == 1
    assert page["says"] == {
        "over": ["level"],
        "texts": [f"up to {level}" for level in (0.0, 0.5, 1.0, 1.5, 2.0)],
    }
    table = page["rows"][0][0]["marks"][0]["channels"]["y"]
    values = table["low"] + table["step"] * unpack(table["data"], (5, 2))
    assert np.abs(values[:, 1] - [0, 0.5, 1, 1.5, 2]).max() <= table["step"] / 2


@given(numbers=arrays(np.int64, (3, 7), elements=st.integers(0, 4095)))
def test_packing_loses_nothing(numbers):
    assert (unpack(pack(numbers), numbers.shape) == numbers).all()


def test_gaps_and_log_axes_survive_the_table():
    entry = tabulate(lambda: [1e-6, 1.0, np.nan, 0.0], {}, log=True)
    numbers = unpack(entry["data"], (1, 4))[0]
    assert list(numbers[2:]) == [4095, 4095]
    values = 10 ** (entry["low"] + entry["step"] * numbers[:2])
    assert np.allclose(values, [1e-6, 1.0], rtol=1e-9)


def test_every_mark_is_drawn_by_matplotlib():
    axes = {"x": Axis("x", 1, 10, log=True), "y": Axis("y", 0, 2, ticks={1: "one"})}
    marks = [
        curve([1, 2], [[0, 1], [1, 0]], "two lines"),
        curve([1, 2], [0, 1], fill=True),
        bell(5, 1.0, "bell"),
        dots([1], [1], tick=True),
        bars([1, 2, 3], [0.5, 1]),
        bars([1, 2, 3], [0.5, 1], horizontal=True),
    ]
    image = panel(pixels([[0.0, np.nan]], 0, 1))
    figure = explore("marks", [panel(*marks, **axes), image], says=lambda: "nothing")
    drawn = figure.draw()
    first, second = drawn.axes
    assert len(first.lines) == 4 and len(first.patches) == 4
    assert first.get_xscale() == "log" and len(second.images) == 1
    plt.close(drawn)


def test_a_live_figure_that_cannot_be_tabulated_says_why():
    def crooked(level: float):
        return [0.0] * (1 + int(level))

    level = slider("level", 0.0, 0.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="must keep its shape"):
        tabulate(crooked, {"level": level})
    noise = np.random.default_rng(0).normal(size=(5, 100_000))
    shown = panel(
        curve(np.arange(100_000), lambda level: noise[int(2 * level)]),
        x=Axis("x", 0, 1),
        y=Axis("y", 0, 1),
    )
    halves = slider("level", 0.0, 0.0, 2.0, 0.5)
    figure = explore("noise", shown, says=lambda: "", level=halves)
    with pytest.raises(ValueError, match="fewer positions"):
        figure.page()


# ------------------------------------------------------- figures that look the same

# Ten decimals of a curve's heights: what another processor may round otherwise.
HEIGHTS = np.sin(np.linspace(0, 3, 40))


def a_curve(change: float = 0.0, **about: object):
    use_style()
    figure, axis = plt.subplots()
    axis.plot(HEIGHTS + change * np.cos(np.arange(40)), label="line")
    axis.set(**{"xlabel": "step", "ylim": (-0.1, 1.1), **about})
    axis.legend()
    return figure


def some_images(change: float = 0.0):
    """Noise in [-1, 1]; a change of 2 is the way from black to white."""
    use_style()
    noise = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    noise[0, 0, 0, 0] += change
    return show_images(noise, 2)


def svg(figure, alt: str = "A curve.") -> str:
    return picture(figure, alt).svg


@pytest.mark.parametrize("change", [0.0, 1e-7, 1e-4])
def test_rounding_is_not_seen(change):
    assert same_picture(svg(a_curve()), svg(a_curve(change)))


@pytest.mark.parametrize(
    "other",
    [
        lambda: svg(a_curve(0.01)),  # 2 points of 230
        lambda: svg(a_curve(xlabel="Step")),
        lambda: svg(a_curve(ylim=(-0.1, 1.2))),
        lambda: svg(a_curve(), "A line."),
        lambda: svg(a_curve()).replace("stroke-width: 1", "stroke-width: 2", 1),
        lambda: svg(a_curve()).replace("scale(0.0", "scale(0.1", 1),
        lambda: svg(some_images()),
        lambda: "",
    ],
)
def test_what_can_be_seen_is_seen(other):
    assert not same_picture(svg(a_curve()), other())


@pytest.mark.parametrize(
    ("levels", "same"), [(0, True), (1, True), (7, True), (10, False), (60, False)]
)
def test_a_pixel_may_differ_by_a_few_levels(levels, same):
    before, after = svg(some_images()), svg(some_images(2 * levels / 255))
    assert (before == after) == (levels == 0)
    assert same_picture(before, after) == same


def test_places_are_told_in_hundredths_of_a_point():
    text = svg(some_images())
    places = re.findall(r' (?:d|x|y)="([^"]*)"', text)
    assert places and not re.search(r"\.\d{3}", " ".join(places))


def test_one_name_for_two_things_is_another_picture():
    before = svg(some_images())
    first, second, *_ = re.findall(r'id="(image[0-9a-f]{10})"', before)
    assert same_picture(before, before.replace(first, "image0123456789"))
    assert not same_picture(before, before.replace(first, second))


def test_every_committed_figure_is_told_from_a_shifted_one():
    """The numbers that are compared are there in every figure of the book."""
    for path in sorted((ROOT / "figures").glob("*.svg")):
        text = path.read_text("utf-8")
        assert same_picture(text, text), path.name

        def by(shift: float, text: str = text) -> str:
            moved = re.sub(
                r"(?<=\nL )\d+(?:\.\d+)?", lambda m: f"{float(m[0]) + shift:.6f}", text
            )
            assert moved != text
            return moved

        assert same_picture(text, by(0.25)), path.name
        assert not same_picture(text, by(1.0)), path.name


def test_a_file_that_looks_the_same_is_left_as_it_is(tmp_path):
    path = tmp_path / "line.svg"
    save_figure(a_curve(), "line", "A curve.", tmp_path)
    before, written = path.read_text("utf-8"), path.stat().st_mtime_ns
    shown = save_figure(a_curve(1e-4), "line", "A curve.", tmp_path)
    assert path.read_text("utf-8") == before != shown.svg
    assert path.stat().st_mtime_ns == written
    shown = save_figure(a_curve(0.05), "line", "A curve.", tmp_path)
    assert path.read_text("utf-8") == shown.svg != before


def panels(columns: int) -> Figure:
    """Panels side by side that share one axis; only the first names it."""
    figure, axes = plt.subplots(1, columns, figsize=(7.2, 2.6), sharey=True)
    axes[0].set_ylabel("height")
    return figure


def test_on_a_phone_panels_stand_below_one_another() -> None:
    figure = panels(3)
    assert narrow(figure)
    figure.draw_without_rendering()
    assert figure.get_size_inches() == pytest.approx((PHONE, 3 * 2.6))
    lefts = [axes.get_position().x0 for axes in figure.axes]
    assert np.ptp(lefts) < 0.02 and max(lefts) < 0.3
    for axes in figure.axes:
        assert axes.get_ylabel() == "height"
        assert any(label.get_visible() for label in axes.get_yticklabels())
    figure = panels(4)
    assert narrow(figure) and not narrow(figure), "it is narrow now"
    assert figure.get_size_inches() == pytest.approx((PHONE, 2 * 2.6))
    assert [axes.get_ylabel() for axes in figure.axes] == ["height", "", "height", ""]
    plt.close("all")


def test_on_a_phone_pictures_shrink_and_drawings_stay() -> None:
    grid = show_images(torch.zeros(12, 1, 8, 8), 6, rows=("one", "two"))
    row = show_images(torch.zeros(8, 1, 8, 8), titles=["t = 1000"] * 8)
    _, before = grid.get_size_inches()
    assert narrow(grid) and narrow(row)
    assert grid.get_size_inches()[0] == PHONE and grid.get_size_inches()[1] < before
    assert row.axes[4].get_subplotspec().rowspan.start == 1, "a row becomes two"
    assert not narrow(canvas(7, 1).figure)
    plt.close("all")


def test_a_wide_figure_is_shown_twice_and_saved_once(tmp_path) -> None:
    wide = save_figure(panels(2), "wide", "Two.", tmp_path)
    data, _ = wide._repr_mimebundle_()
    [phone] = [each for mime, each in data.items() if "ddpm-lit" in mime]
    assert phone == wide.phone and f'width="{72 * PHONE:g}pt"' in phone
    assert "<title>Two.</title>" in phone and INK not in phone
    assert f'width="{72 * 7.2:g}pt"' in (tmp_path / "wide.svg").read_text("utf-8")
    small = save_figure(plt.figure(figsize=(3, 2)), "small", "One.", tmp_path)
    assert not small.phone and len(small._repr_mimebundle_()[0]) == 2
