"""Figures are byte-stable, follow the page's ink, and answer when moved."""

from __future__ import annotations

import subprocess
import sys

import pytest
from matplotlib import pyplot as plt

from conftest import ROOT
from ddpm_lit import explore, picture, save_figure, slider, use_style

DRAW = """
import hashlib, torch
from matplotlib import pyplot as plt
from ddpm_lit import picture, show_images, use_style
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


def test_a_widget_redraws_and_falls_back_to_its_still():
    def draw(level: float):
        figure, axis = plt.subplots()
        axis.plot([0, level])
        axis.set_ylim(0, 2)
        return figure

    widget = explore(draw, "a line", level=slider("level", 0.5, 0.0, 2.0, 0.5))
    data, about = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["image/svg+xml"] == widget.still.svg
    assert about["image/svg+xml"]["alt"] == "a line"
    first = widget.view.value
    assert widget.set(level=1.5) != first and widget.set(level=0.5) == first
