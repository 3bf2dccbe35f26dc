"""Read the chapters: cells, tags and line numbers, shared by every tool."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import yaml
from jupytext.myst import MystMetadataParsingError
from nbformat import NotebookNode

FENCE = re.compile(r"^(`{3,})\{code-cell\}")
OPTION = re.compile(r"^:[\w-]+:")
# Every tag that a cell may bear. Those with a dot are followed by a name.
TAGS = {"figure", "hide-input", "widget"}
NAMED_TAGS = {"check", "exercise", "export", "solution", "wrong"}
BACK_MATTER = 80  # the number of its first file, or less


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

    @property
    def number(self) -> str:
        """What its equations and figures are numbered with: `3`, or `A` and so on."""
        return chapter_number(self.path)

    @property
    def title(self) -> str:
        """The words of its first heading."""
        heading = re.search(r"^# (.+)$", self.text, re.M)
        return heading[1] if heading else self.path.stem

    def where(self, line: int) -> str:
        """`chapters/NN-name.md:LINE`, the form every message starts with."""
        return f"chapters/{self.path.name}:{line}"


def chapter_number(path: Path) -> str:
    """`3` for a chapter; the files from 80 on are the back matter: `A`, `B`, ...

    The letters follow the order of the files beside it, so numbers may have gaps.
    """
    number = int(path.name[:2])
    if number < BACK_MATTER:
        return str(number)
    beside = {each.name for each in path.parent.glob("[89][0-9]-*.md")} | {path.name}
    return chr(ord("A") + sorted(beside).index(path.name))


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


def as_notebook(text: str, path: Path) -> NotebookNode:
    """The notebook that jupytext reads; ValueError for options that are not YAML."""
    try:
        return jupytext.reads(text, fmt="md:myst")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(
            f"chapters/{path.name}:{line}: the header is not YAML: {error.problem}; "
            "put quotes around a text that holds a colon"
        ) from None
    except MystMetadataParsingError as error:  # "Code cell N at line L could not ..."
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else 1
        raise ValueError(
            f"chapters/{path.name}:{line}: a cell's options are not YAML; put quotes "
            "around a text that holds a colon"
        ) from None


def read_chapter(path: Path) -> Chapter:
    """Parse one chapter.

    Raises ValueError when the header is not YAML, or when the cells that jupytext
    finds and the fences in the text disagree (a code cell nested in a directive, for
    example).
    """
    text = path.read_text(encoding="utf-8")
    notebook = as_notebook(text, path)
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
