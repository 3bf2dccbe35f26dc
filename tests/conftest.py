"""Helpers that several test files share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

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
