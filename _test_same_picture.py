"""A figure that looks the same is not written again; one that looks other is."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from conftest import ROOT
from ddpm_lit import picture, same_picture, save_figure, show_images, use_style

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
                r"(?<=\nL )\d+\.\d+", lambda m: f"{float(m[0]) + shift:.6f}", text
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
