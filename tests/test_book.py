"""The book renders offline, and a broken page fails the build with file and line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import book
import pytest
from notebooks import picture_problems

from chapters import read_chapter
from conftest import ROOT, copy_book


def render(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Render a copy of the book without running its cells."""
    command = [sys.executable, ROOT / "tools/book.py", "--no-execute", "--root", folder]
    env = {**os.environ, **more}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def read(chapter: str) -> str:
    """The source of a chapter."""
    return (ROOT / "chapters" / f"{chapter}.md").read_text("utf-8")


ADDRESS = "https://example.org/book"


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = copy_book(tmp_path_factory.mktemp("copy") / "book")
    settings = (folder / "myst.yml").read_text("utf-8")
    (folder / "myst.yml").write_text(settings.rstrip() + f"\n    url: {ADDRESS}/\n")
    return folder


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
            r'<(?:script|link(?! rel="canon)|img)[^>]+(?:src|href)="(https?:[^"]+)',
            text,
        )
        assert not loads, f"{name} loads {loads[:3]} from another host"
    # What needs an absolute address has the one that myst.yml says.
    place = f"{ADDRESS}/diffusion-kernel/"
    assert f'<link rel="canonical" href="{place}"' in kernel
    assert f'property="og:url" content="{place}"' in kernel
    card = re.search(rf'og:image" content="{ADDRESS}/(cards/\w+\.png)"', kernel)
    assert card and (html / card[1]).is_file()
    listed = re.findall(r"<loc>(.*?)</loc>", (html / "sitemap.xml").read_text("utf-8"))
    assert {f"{ADDRESS}/", place, f"{ADDRESS}/modules/forward/"} <= set(listed)
    robots = (html / "robots.txt").read_text("utf-8")
    assert f"Sitemap: {ADDRESS}/sitemap.xml" in robots


# Something wrong, its line counted from the first, and what the build says of it.
BROKEN = [
    ("See {eq}`eq-nowhere`.", 0, "eq-nowhere"),
    ("```{nonsense}\ntext\n```", 0, "nonsense"),
    ("{cite:p}`nobody1900`", 0, "nobody1900"),
    ("{nonsense}`a role`", 0, "nonsense"),
    ("[elsewhere](nowhere.md)", 0, "leads nowhere"),
    ("```{note}\n:colour: red\ntext\n```", 1, 'unexpected option "colour"'),
    ("$$\n\\frac{1\n$$", 0, "Unexpected end of input"),
    ("![](../figures/02-jump.svg)", 0, "has no alternative text"),
    ("```{figure} ../figures/02-what-is-left.svg\n:alt: x\n```", 0, "has no caption"),
    ("Said.[^aside]\n\n[^aside]: Beside the text.", 0, "cannot show"),
]


def with_additions(path: Path, additions: list[str]) -> list[int]:
    """Append pieces of text to a chapter; the line on which each begins."""
    text, lines = path.read_text("utf-8"), []
    for addition in additions:
        lines.append(len(text.splitlines()) + 2)
        text += f"\n{addition}\n"
    path.write_text(text, encoding="utf-8")
    return lines


def test_a_broken_page_fails_with_file_and_line(copy):
    path = copy / "chapters" / "02-diffusion-kernel.md"
    text = path.read_text("utf-8")
    lines = with_additions(path, [text for text, _, _ in BROKEN])
    try:
        done = render(copy)
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    for first, (_, below, reason) in zip(lines, BROKEN, strict=True):
        where = f"chapters/02-diffusion-kernel.md:{first + below}: "
        said = [line for line in done.stderr.splitlines() if line.startswith(where)]
        assert any(reason in line for line in said), (where, reason, done.stderr)


def test_a_broken_cell_fails_before_anything_runs(copy):
    broken = {
        ":tags: [exprot.forward]": "no tool knows the tag 'exprot.forward'",
        ":tags: [export]": "no tool knows the tag 'export'",
        ":tags: [figure]\n:label: fig-new": "a figure needs :caption:",
        ":tags: [figure]\n:caption: New.": "a figure needs :label:",
    }
    cells = [
        f"```{{code-cell}} ipython3\n{options}\n\nx = 1\n```" for options in broken
    ]
    path = copy / "chapters" / "02-diffusion-kernel.md"
    text = path.read_text("utf-8")
    lines = with_additions(path, cells)
    try:
        done = render(copy)
    finally:
        path.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    for first, (options, reason) in zip(lines, broken.items(), strict=True):
        line = first + 3 + options.count("\n")
        where = f"chapters/02-diffusion-kernel.md:{line}"
        assert f"{where}: {reason}" in done.stderr, done.stderr


def test_a_tag_for_a_module_that_is_not_there_fails(copy):
    module = copy / "ddpm_lit" / "forward.py"
    module.rename(module.with_suffix(".away"))
    try:
        done = render(copy)
    finally:
        module.with_suffix(".away").rename(module)
    assert done.returncode == 1
    assert "export.forward" in done.stderr and "01-forward-process.md" in done.stderr


@pytest.mark.parametrize(
    ("version", "reason"),
    [(None, "needs Node.js 20 or newer"), ("v18.20.0", "this is v18.20.0")],
)
def test_without_a_node_that_will_do_one_line_says_so(tmp_path, version, reason):
    if version:
        for name in ("node", "npm"):
            (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
            (tmp_path / name).chmod(0o755)
    command = [sys.executable, ROOT / "tools/book.py", "--no-execute"]
    env = {"PATH": f"{tmp_path}:/bin" if version else str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_what_a_widget_says_to_a_notebook_is_no_message():
    said = ["Exception opening new comm\n", "Comm not found for comm id 3f2a9c\n"]
    assert book.messages(said) == []
    real = "⚠️  chapters/01.md:3 no such figure\n"
    assert book.messages([*said, real, "  more of it\n", *said]) == [
        "⚠️  chapters/01.md:3 no such figure\n  more of it"
    ]


@pytest.mark.parametrize("base", ["https://example.org/book", "book", "/a b", "//host"])
def test_an_address_that_is_no_path_is_refused(tmp_path, base):
    done = render(tmp_path, BASE_URL=base)
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"BASE_URL={base!r} is not a path; give")
    assert "such as /book" in line


def test_a_picture_without_words_is_named(copy):
    chapter = read_chapter(copy / "chapters" / "02-diffusion-kernel.md")
    silent = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"image/png": {"content": ""}},
    }
    cells = [{"kind": "notebook-code", "children": []} for _ in chapter.cells]
    cells[3]["children"] = [{"type": "output", "jupyter_data": silent}]
    page = {"mdast": {"type": "root", "children": cells}}
    where = chapter.where(chapter.cells[3].line)
    [problem] = picture_problems(chapter, page)
    assert problem.startswith(f"{where}: a picture without alternative text")
    silent["metadata"] = {"image/png": {"alt": "A digit."}}
    assert picture_problems(chapter, page) == []
