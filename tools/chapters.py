"""Read the chapters: cells, tags and line numbers, shared by every tool."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import jupytext

FENCE = re.compile(r"^(`{3,})\{code-cell\}")
OPTION = re.compile(r"^:[\w-]+:")
# Every tag that a cell may bear. Those with a dot are followed by a name.
TAGS = {"figure", "hide-input", "widget"}
NAMED_TAGS = {"check", "exercise", "export", "solution", "wrong"}


@dataclass
class Cell:
    """One code cell: its text, its tags and the line where its code starts."""

    source: str
    line: int
    tags: list[str]
    metadata: dict = field(default_factory=dict)

    def tagged(self, prefix: str) -> list[str]:
        """The parts after `prefix.` of the tags that begin with it."""
        head = prefix + "."
        return [tag[len(head) :] for tag in self.tags if tag.startswith(head)]


@dataclass
class Chapter:
    """One Markdown file in reading order."""

    path: Path
    text: str
    cells: list[Cell]

    def where(self, line: int) -> str:
        """`chapters/NN-name.md:LINE`, the form every message starts with."""
        return f"chapters/{self.path.name}:{line}"


def code_lines(text: str) -> list[int]:
    """Line number (from 1) of the first line of code of each code cell."""
    starts, lines, i = [], text.splitlines(), 0
    while i < len(lines):
        fence = FENCE.match(lines[i])
        if fence is None:
            i += 1
            continue
        i += 1
        if i < len(lines) and lines[i] == "---":  # options as a YAML block
            i = next(k for k in range(i + 1, len(lines)) if lines[k] == "---") + 1
        while i < len(lines) and OPTION.match(lines[i]):
            i += 1
        while i < len(lines) and not lines[i].strip():
            i += 1
        starts.append(i + 1)
        while i < len(lines) and lines[i].rstrip() != fence[1]:
            i += 1
        i += 1
    return starts


def read_chapter(path: Path) -> Chapter:
    """Parse one chapter.

    Raises ValueError when the cells that jupytext finds and the fences in the
    text disagree (a code cell nested in a directive, for example).
    """
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="md:myst")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    starts = code_lines(text)
    if len(code) != len(starts):
        raise ValueError(
            f"chapters/{path.name}:1: {len(starts)} code-cell fences but jupytext "
            f"reads {len(code)} cells; a code cell must not sit inside a directive"
        )
    cells = [
        Cell(c.source, line, list(c.metadata.get("tags", [])), dict(c.metadata))
        for c, line in zip(code, starts, strict=True)
    ]
    return Chapter(path, text, cells)


def read_chapters(folder: Path) -> list[Chapter]:
    """All chapters `NN-*.md` of a folder, in reading order."""
    return [read_chapter(path) for path in sorted(folder.glob("[0-9][0-9]-*.md"))]
