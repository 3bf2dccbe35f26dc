"""What JupyterLab is given when a chapter is opened, and what it leaves on saving."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import reading
from nbformat.sign import NotebookNotary
from notebooks import nodes
from test_lab import record

from conftest import ROOT, copy_book

sys.path.append(str(ROOT / "tools" / "jupyter"))

from contents import BookContents


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BookContents:
    """What opens and saves chapters in JupyterLab, for a copy of the book."""
    folder = copy_book(tmp_path / "book")
    shutil.copy(ROOT / "jupytext.toml", folder)
    monkeypatch.setattr(BookContents, "book", folder)
    opens = BookContents(root_dir=str(folder))
    opens.notary = NotebookNotary(db_file=":memory:")
    return opens


def opened(contents: BookContents, name: str) -> Any:
    return asyncio.run(contents.get(f"chapters/{name}", type="notebook"))["content"]


def saved(contents: BookContents, name: str, notebook: Any) -> str:
    model = {"type": "notebook", "format": "json", "content": notebook}
    asyncio.run(contents.save(model, f"chapters/{name}"))
    return (contents.book / "chapters" / name).read_text("utf-8")


FOLDED = ("hide-input", "solution.", "wrong.", "check.")


def test_no_chapter_changes_when_it_is_opened_and_saved(contents: BookContents) -> None:
    folder = contents.book
    record(folder, "03-bayes-posterior.md")
    for path in sorted((folder / "chapters").glob("*.md")):
        before = path.read_bytes()
        notebook = opened(contents, path.name)
        for cell in notebook.cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "markdown":
                assert not reading.ROLE.search(cell.source), cell.source
                assert "\n```{toc}" not in cell.source, cell.source
            elif any(tag.startswith(FOLDED) for tag in tags):
                assert cell.metadata.jupyter.source_hidden, tags
        saved(contents, path.name, notebook)
        assert path.read_bytes() == before, path.name
        paired = path.with_suffix(".ipynb").read_text("utf-8")
        for word in ('"added"', "source_hidden", "_build/lab", "cell 0 has run"):
            assert word not in paired, f"{word} in {path.name}"


OWN_WORDS = (
    "% ```{tip}\n% hidden\n% ```",
    "$$\n\\tag{7}\na = b\n$$ (eq-own)",
    'See [a book](02-diffusion-kernel.md "eq one").',
)


def test_what_looks_like_our_own_marks_is_left_alone(contents: BookContents) -> None:
    path = contents.book / "chapters" / "03-bayes-posterior.md"
    text = path.read_text("utf-8") + "\n" + "\n\n+++\n\n".join(OWN_WORDS) + "\n"
    path.write_text(text, encoding="utf-8")
    notebook = opened(contents, path.name)
    assert saved(contents, path.name, notebook) == text
    notebook = opened(contents, path.name)
    assert saved(contents, path.name, notebook) == text


def test_a_chapter_that_is_not_finished_opens_as_it_is(contents: BookContents) -> None:
    path = contents.book / "chapters" / "03-bayes-posterior.md"
    text = path.read_text("utf-8").replace("label: fig-two-bells\n", "")
    path.write_text(text, encoding="utf-8")
    assert saved(contents, path.name, opened(contents, path.name)) == text
    broken = contents.book / "chapters" / "05-elbo.md"
    broken.write_text("---\nnumbering: [\n---\n", encoding="utf-8")
    assert len(opened(contents, path.name).cells) > 20


def test_an_edited_text_is_saved_as_it_was_edited(contents: BookContents) -> None:
    name = "03-bayes-posterior.md"
    before = (contents.book / "chapters" / name).read_text("utf-8")
    notebook = opened(contents, name)
    edits = {
        "Every factor is known now.": "Every factor in {eq}`eq-kernel` is known.",
        "= \\frac{q(z_t \\mid z_{t-1}, x)": "\\propto \\frac{q(z_t \\mid z_{t-1}, x)",
    }
    for old, new in edits.items():
        (cell,) = (each for each in notebook.cells if old in each.source)
        cell.source = cell.source.replace(old, new)
    after = saved(contents, name, notebook)
    # What is for reading belongs to the chapter once somebody has written in it.
    (caption,) = (c for c in notebook.cells if c.source.startswith("**Figure 3.1"))
    caption.source = "Look closely."
    with_remark = saved(contents, name, notebook)
    for old, new in edits.items():
        before = before.replace(old, new)
    assert after == before
    assert "\nLook closely.\n" in with_remark


def test_numbers_are_those_of_the_pages(site: Path) -> None:
    chapter = reading.Reading(ROOT / "chapters" / "index.md")
    shown = {}
    for path in (site.parent / "site" / "content").glob("*.json"):
        for node in nodes(json.loads(path.read_text("utf-8"))["mdast"]):
            number = node.get("enumerator")
            if number and node["type"] == "math":
                shown[node["label"]] = f"({number})"
            if number and node["type"] == "container":
                shown[node["label"]] = f"Figure {number}"
            if node["type"] == "cite" and node["kind"] == "parenthetical":
                words = "".join(each.get("value", "") for each in nodes(node))
                who, year = chapter.works[node["label"]]
                # An author `others` of the bibliography is nobody.
                assert words.replace("& others", "et al.") == f"{who}, {year}"
    assert shown
    assert shown == {label: chapter.targets[label].words for label in shown}
