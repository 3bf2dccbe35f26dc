"""Run every chapter through nbval, and prove each exercise both ways.

A chapter is Markdown; nbval reads notebooks. The collector below hands nbval the
notebook that jupytext sees, and adds one cell after each solution: it runs the
exercise's stub in a copy of the notebook's names and asserts that the check
refuses it. (That the solution passes is asserted in the chapter itself.)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from _pytest.nodeid import coerce_node_id
from nbval import plugin as nbval

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from chapters import read_chapter

REFUSE_STUB = """
_names = dict(globals())
exec({stub!r}, _names)
try:
    {check}(_names[{name!r}])
except (AssertionError, NotImplementedError):
    pass
else:
    raise AssertionError("the stub of exercise {name} passes its check")
"""


def with_stub_checks(notebook: Any) -> Any:
    """The notebook with a cell after each solution that must refuse the stub."""
    cells, stubs = [], {}
    for cell in notebook.cells:
        cells.append(cell)
        for tag in cell.metadata.get("tags", []):
            kind, _, name = tag.partition(".")
            if kind == "exercise":
                stubs[name] = cell.source
            if kind == "solution":
                check = re.findall(r"^(check_\w+)\(", cell.source, re.M)[-1]
                source = REFUSE_STUB.format(stub=stubs[name], check=check, name=name)
                cells.append(nbformat.v4.new_code_cell(source))
    notebook.cells = cells
    return notebook


class ChapterFile(nbval.IPyNbFile):
    """A chapter, collected as the notebook that it is."""

    def collect(self) -> Any:
        import jupytext

        chapter = read_chapter(Path(self.path))
        lines = {cell.source: cell.line for cell in chapter.cells}
        notebook = with_stub_checks(jupytext.reads(chapter.text, fmt="md:myst"))
        real = nbval.nbformat
        nbval.nbformat = type("Reader", (), {"read": lambda *a, **k: notebook})
        try:
            items = list(super().collect())
        finally:
            nbval.nbformat = real
        for item in items:
            line = lines.get(item.cell.source)
            name = f"line {line}" if line else f"stub after cell {item.cell_num}"
            item.name, item._id = name, coerce_node_id(f"{self.nodeid}::{name}")
            yield item


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Any:
    """Take chapters/NN-*.md as chapters when nbval runs."""
    option = parent.config.option
    is_chapter = re.match(r"\d\d-.*\.md$", file_path.name)
    if is_chapter and file_path.parent.name == "chapters" and option.nbval_lax:
        return ChapterFile.from_parent(parent, path=file_path)
    return None


# Tests that wait until the book is built: those that look at its pages (fixture
# `site`), those that write where the build writes, and those that need a quiet machine.
AFTER_THE_BOOK = {"08-training.md", "09-sampling.md", "test_lab.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for the book, and begin with what takes longest.

    Chapter 9 needs the run that chapter 8 writes. Files go to processes whole and in
    this order (--dist loadfile --no-loadscope-reorder in the Makefile): chapter 9 comes
    after chapter 8 while another process is busy with the pages.
    """
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker("book")
        if item.path.name in AFTER_THE_BOOK:
            item.add_marker("book")
    first = ["08-training.md", "test_pages.py", "09-sampling.md", "test_lab.py"]
    first += ["test_wheel.py", "test_team.py", "test_runs.py"]
    order = {name: place for place, name in enumerate(first)}
    items.sort(key=lambda item: order.get(item.path.name, len(first)))
