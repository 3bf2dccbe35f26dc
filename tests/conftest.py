"""Helpers that several test files share."""

from __future__ import annotations

import ast
import fcntl
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from browser import chromium
from playwright.sync_api import Browser
from serve import serve

ROOT = Path(__file__).resolve().parent.parent

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

# A chapter

"""


def chapter_text(*cells: tuple[str, str]) -> str:
    """A chapter with the given (tags, code) cells."""
    parts = [
        f"```{{code-cell}} ipython3\n:tags: [{tags}]\n\n{code}\n```\n"
        for tags, code in cells
    ]
    return HEADER + "\n".join(parts)


@pytest.fixture
def book(tmp_path: Path):
    """A function that writes chapters into a new book and returns its folder."""

    def write(**chapters: str) -> Path:
        folder = tmp_path / "chapters"
        folder.mkdir(exist_ok=True)
        for name, text in chapters.items():
            stem = name.removeprefix("c").replace("_", "-")
            (folder / f"{stem}.md").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def package_files(root: Path = ROOT) -> dict[str, Path]:
    """Module -> its file: `forward`, `book.checks`, `book.__init__`."""
    package = root / "ddpm_lit"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }


def public_names() -> dict[str, str]:
    """Name -> module, for all that the modules of the package list in `__all__`."""
    found = {}
    for module, path in package_files().items():
        for stmt in ast.parse(path.read_text("utf-8")).body:
            if module != "__init__" and ast.unparse(stmt).startswith("__all__ = "):
                assert isinstance(stmt, ast.Assign)
                found |= dict.fromkeys(ast.literal_eval(stmt.value), module)
    return found


def from_root(page: Path, site: Path) -> str:
    """The HTML of a page, its links written from the root and without `index.html`."""
    folder = page.parent.relative_to(site)

    def link(found: re.Match[str]) -> str:
        path, hash_, place = found[1].partition("#")
        if ":" in path:
            return found[0]
        whole = posixpath.normpath(folder / path) if path else f"{folder}/index.html"
        whole = re.sub(r"(^|/)index\.html$", r"\1", whole.removeprefix("./"))
        return f' href="/{whole}{hash_}{place}"'

    text = page.read_text("utf-8")
    return re.sub(r' href="([^"]*)"', link, text)


def copy_book(folder: Path) -> Path:
    """Chapters, package, figures and settings in a folder of their own."""
    (folder / "tools").mkdir(parents=True)
    for plugin in (ROOT / "tools").glob("*.mjs"):
        shutil.copy(plugin, folder / "tools")
    leftovers = shutil.ignore_patterns("*.ipynb", "__pycache__", ".ipynb_checkpoints")
    for name in ("chapters", "ddpm_lit", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=leftovers)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    settings = (ROOT / "myst.yml").read_text("utf-8")
    assert "template: ./theme" in settings
    settings = settings.replace("template: ./theme", f"template: {ROOT / 'theme'}")
    (folder / "myst.yml").write_text(settings, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def site() -> Path:
    """The executed book, as a folder of files; built here if it is not yet there.

    Two test processes may ask for it at the same time: the second waits.
    """
    import book as builder

    (ROOT / "_build").mkdir(exist_ok=True)
    with (ROOT / "_build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not builder.is_built(ROOT):
            done = subprocess.run(
                [sys.executable, ROOT / "tools/book.py"], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium; each file has its own, as playwright runs one at a time."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def root(site: Path) -> Iterator[str]:
    """The address of the served book."""
    with serve(site) as address:
        yield address
