"""The book renders offline, and a broken page fails the build with file and line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, copy_book


def render(folder: Path) -> subprocess.CompletedProcess[str]:
    """Render a copy of the book without running its cells."""
    command = [sys.executable, ROOT / "tools/book.py", "--no-execute", "--root", folder]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def read(chapter: str) -> str:
    """The source of a chapter."""
    return (ROOT / "chapters" / f"{chapter}.md").read_text("utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    return copy_book(tmp_path_factory.mktemp("copy") / "book")


def test_every_page_renders_with_numbers_badges_and_no_foreign_host(copy):
    done = render(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    html = copy / "_build" / "html"
    pages = {p.parent.name: p.read_text("utf-8") for p in html.glob("*/index.html")}
    chapters = [p.stem for p in (copy / "chapters").glob("[0-9][0-9]-*.md")]
    assert (html / "index.html").exists() and len(pages) >= len(chapters)
    kernel = next(text for name, text in pages.items() if "diffusion-kernel" in name)
    assert "ddpm_lit/forward.py" in kernel, "the badge of an exported cell is missing"
    assert "(2.3)" in kernel, "equations are not numbered by chapter"
    last = len(re.findall(r"^\$\$ \(eq-", read("02-diffusion-kernel"), re.M))
    numbered = f"(2.{last})" in kernel and f"(2.{last + 1})" not in kernel
    assert numbered, "exactly the labelled equations should have a number"
    for name, text in pages.items():
        assert "??" not in re.sub(r"<(pre|code)[^>]*>.*?</\1>", "", text, flags=re.S), (
            name
        )
        loads = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', text
        )
        assert not loads, f"{name} loads {loads[:3]} from another host"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("See {eq}`eq-nowhere`.", "eq-nowhere"),
        ("```{nonsense}\ntext\n```", "nonsense"),
        ("{cite:p}`nobody1900`", "nobody1900"),
    ],
)
def test_a_broken_page_fails_with_file_and_line(copy, broken, reason):
    path = copy / "chapters" / "02-diffusion-kernel.md"
    text = path.read_text("utf-8")
    path.write_text(text + f"\n{broken}\n", encoding="utf-8")
    line = len(text.splitlines()) + 2
    try:
        done = render(copy)
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"chapters/02-diffusion-kernel.md:{line}" in said and reason in said, said
