"""Run every chapter through nbval, and prove each exercise both ways.

A chapter is Markdown; nbval reads notebooks. The collector below hands nbval the
notebook that jupytext sees, and adds one cell after each solution: it runs the
exercise's stub in a copy of the notebook's names and asserts that the check
refuses it. (That the solution passes is asserted in the chapter itself.) One more
cell at the end moves the live figures, as a reader does who has run all cells.

What the cells put out is kept for the book, when all of them have passed: `make test`
runs each chapter once, and the pages show that run.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from _pytest.nodeid import coerce_node_id
from nbval import plugin as nbval

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import results

from chapters import Chapter, read_chapter

# The cells that follow must not notice: no name is left, and random numbers go on as
# if the stub had not run.
REFUSE_STUB = """
def _refuse_stub():
    import random, numpy, torch
    before = random.getstate(), numpy.random.get_state()
    names = dict(globals())
    try:
        with torch.random.fork_rng(devices=[]):
            exec({stub!r}, names)
            {check}(names[{name!r}])
    except (AssertionError, NotImplementedError):
        pass
    else:
        raise AssertionError("the stub of exercise {name} passes its check")
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])


try:
    _refuse_stub()
finally:
    del _refuse_stub
"""

# A figure asks its functions anew when it is moved. They must not read a name that a
# later cell has bound to something else.
MOVE_FIGURES = """
def _move_figures():
    from ddpm_lit.book.widgets import positions
    for name, figure in dict(globals()).items():
        if type(figure).__name__ != "Explorer":
            continue
        assert figure._redraw().svg == figure.still.svg, f"{name} has changed"
        for control in figure.controls.values():
            start, every = control.value, positions(control)
            for control.value in (every[0], every[-1], start):
                assert figure.said()


try:
    _move_figures()
finally:
    del _move_figures
"""


def with_stub_checks(notebook: Any) -> Any:
    """The notebook with a cell after each solution that must refuse the stub, and one
    at the end that moves its live figures."""
    cells, stubs, live = [], {}, False
    for cell in notebook.cells:
        cells.append(cell)
        for tag in cell.metadata.get("tags", []):
            kind, _, name = tag.partition(".")
            if kind == "exercise":
                stubs[name] = cell.source
            if tag == "widget":
                live = True
            if kind == "solution":
                check = re.findall(r"^(check_\w+)\(", cell.source, re.M)[-1]
                source = REFUSE_STUB.format(stub=stubs[name], check=check, name=name)
                cells.append(nbformat.v4.new_code_cell(source))
    if live:
        cells.append(nbformat.v4.new_code_cell(MOVE_FIGURES))
    notebook.cells = cells
    return notebook


class ChapterFile(nbval.IPyNbFile):
    """A chapter, collected as the notebook that it is."""

    chapter: Chapter
    package = ""  # what the chapter imports, as it was when it began
    cells = passed = 0

    def collect(self) -> Any:
        import jupytext

        self.chapter = read_chapter(Path(self.path))
        self.root = self.chapter.path.parent.parent
        lines = {cell.source: cell.line for cell in self.chapter.cells}
        notebook = with_stub_checks(jupytext.reads(self.chapter.text, fmt="md:myst"))
        real = nbval.nbformat
        nbval.nbformat = type("Reader", (), {"read": lambda *a, **k: notebook})
        try:
            items = list(super().collect())
        finally:
            nbval.nbformat = real
        self.cells = len(items)
        for item in items:
            line = lines.get(item.cell.source)
            name = f"line {line}" if line else f"added after cell {item.cell_num}"
            item.name, item._id = name, coerce_node_id(f"{self.nodeid}::{name}")
            yield item

    def setup(self) -> None:
        """Start the kernel, as the book would, and listen to it."""
        # A kernel that finds itself in a test does not show what programs print.
        before = dict(os.environ)
        os.environ.update({**results.THREADS, **before})
        for name in TESTING:
            os.environ.pop(name, None)
        try:
            super().setup()
        finally:
            os.environ.clear()
            os.environ.update(before)
        results.forget(self.root, self.chapter)
        self.package = results.package(self.root)
        # For each request that ran a cell of the book, what the kernel said of it.
        self.said: dict[str, list[dict[str, Any]]] = {}
        self.kernel.execute_cell_input = self.execute

    def execute(self, source: str, allow_stdin: bool | None = None) -> str:
        """Send a cell to the kernel; the cells of the book are counted, stubs not."""
        of_book = any(cell.source == source for cell in self.chapter.cells)
        request: str = self.kernel.kc.execute(
            source, store_history=of_book, allow_stdin=False, stop_on_error=False
        )
        if of_book:
            self.said[request] = []
        return request

    def get_kernel_message(self, *args: Any, **options: Any) -> Any:
        message = super().get_kernel_message(*args, **options)
        request = message["parent_header"].get("msg_id")
        if request in self.said:
            self.said[request].append(message)
        return message

    def last_said(self, name: str) -> str:
        """What the cell that ran last wrote to stdout or stderr."""
        last = next(reversed(self.said.values()), [])
        streams = [each["content"] for each in last if each["msg_type"] == "stream"]
        return "".join(each["text"] for each in streams if each["name"] == name)

    def last_bare(self) -> str:
        """A value that the cell that ran last leaves to the notebook to write out."""
        for each in next(reversed(self.said.values()), []):
            if each["msg_type"] == "execute_result":
                shown = each["content"]["data"]
                if set(shown) == {"text/plain"}:
                    return str(shown["text/plain"])
        return ""

    def teardown(self) -> None:
        """Keep the results for the book if every cell has run and passed."""
        super().teardown()
        if self.package and self.passed == self.cells:
            outputs = [results.outputs(said) for said in self.said.values()]
            results.keep(self.root, self.chapter, outputs, self.package)


WIDTH = 88  # characters of an output that stand beside each other on a page
TESTING = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Count the cells of a chapter that pass.

    One that makes a library warn does not: a reader would meet the warning on the page,
    with a path of this machine in it. Nor does one that leaves a value without a word,
    a number with all its digits, or a row of a table that the page would have to break.
    """
    outcome = yield
    if isinstance(item.parent, ChapterFile):
        said = item.parent.last_said("stderr")
        assert not re.search(r"^\S+:\d+: \w*Warning: ", said, re.M), said
        for line in item.parent.last_said("stdout").splitlines():
            raw = re.search(r"\d\.\d{11,}|array\(|dtype=", line)
            assert not raw, f"for nobody to read: {line}"
            fits = len(line) <= WIDTH or not re.search(r"\S {2,}\S", line)
            assert fits, f"a row of {len(line)} characters, {WIDTH} fit: {line}"
        bare = item.parent.last_bare()
        assert not bare, f"a bare value; print it, with what it is: {bare}"
        item.parent.passed += 1
    return outcome


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Any:
    """Take chapters/NN-*.md as chapters when nbval runs."""
    option = parent.config.option
    is_chapter = re.match(r"\d\d-.*\.md$", file_path.name)
    if is_chapter and file_path.parent.name == "chapters" and option.nbval_lax:
        return ChapterFile.from_parent(parent, path=file_path)
    return None


# Tests that wait until the book is built look at its pages (fixture `site`), or need
# a quiet machine and the run that chapter 8 leaves.
AFTER_THE_BOOK = {"test_lab.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for the book, and begin with what takes longest.

    Files go to processes whole and in this order (--no-loadscope-reorder in the
    Makefile).
    """
    for item in items:
        if "site" in getattr(item, "fixturenames", ()):
            item.add_marker("book")
        if item.path.name in AFTER_THE_BOOK:
            item.add_marker("book")
    first = ["08-training.md", "09-sampling.md", "test_wheel.py", "test_runs.py"]
    first += ["test_team.py", "test_cli.py", "84-runs.md", "87-command-line.md"]
    first += ["test_pages.py", "test_lab.py"]
    order = {name: place for place, name in enumerate(first)}
    items.sort(key=lambda item: order.get(item.path.name, len(first)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files go to processes whole, and a chapter together with one that follows it:
    chapter 9 needs the run that chapter 8 writes."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder, slash, name = nodeid.partition("::")[0].rpartition("/")
            return folder + slash + results.FOLLOWS.get(name, name)

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None
