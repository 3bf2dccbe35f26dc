"""JupyterLab in a real browser: double click, reading, Run All, live figures, save,
export. What opens and what is saved is in test_lab_contents.py, without a browser.

The chapters are copied, so that a run here neither meets nor changes another's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import results
from live_cases import CASES, Case
from notebooks import WIDGET
from playwright.sync_api import Browser, Page, expect

from chapters import read_chapter
from conftest import ROOT

# Every chapter runs as a test already; what JupyterLab adds is tried on the first.
CHAPTERS = ("00-reading-this-book.md",)
SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
# The open notebook, as JupyterLab holds it: its windowed view shows only a part.
RESULTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === 'code')
  .map(cell => ({
    count: cell.model.executionCount,
    source: cell.model.sharedModel.source,
    errors: cell.model.outputs.toJSON()
      .filter(output => output.output_type === 'error')
      .map(output => output.ename + ': ' + output.evalue),
  }))"""
# A request sent while the kernel's channels are still being opened can be lost.
KERNEL_ANSWERS = """async () => {
  const {sessionContext} = window.jupyterapp.shell.currentWidget;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
  await sessionContext.session.kernel.requestKernelInfo();
}"""
SHOW_WIDGET = """number => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const cells = notebook.widgets.filter(
    cell => (cell.model.getMetadata('tags') ?? []).includes('widget'));
  notebook.activeCellIndex = notebook.widgets.indexOf(cells[number]);
  return notebook.scrollToItem(notebook.activeCellIndex, 'center');
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book as a reader has it, in a place of its own."""
    copy = tmp_path_factory.mktemp("lab")
    leftovers = shutil.ignore_patterns("*.ipynb", "__pycache__", ".ipynb_checkpoints")
    for name in ("chapters", "tools", "ddpm_lit", "benchmarks", "figures"):
        shutil.copytree(ROOT / name, copy / name, ignore=leftovers)
    # Chapter 9 samples from the run that chapter 8 left when the book was built.
    for name in ("jupytext.toml", "pyproject.toml", "myst.yml", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    record(copy, "03-bayes-posterior.md")
    record(copy, "85-exchanging-weights.md")
    return copy


def record(folder: Path, name: str) -> None:
    """Leave results of a run: each cell said its place and drew a square."""
    chapter = read_chapter(folder / "chapters" / name)
    (folder / "_build").mkdir(exist_ok=True)
    cells = [
        [
            {
                "output_type": "stream",
                "name": "stdout",
                "text": f"cell {place} has run",
            },
            {
                "output_type": "execute_result",
                "execution_count": place,
                "metadata": {"image/svg+xml": {"alt": "A square."}},
                "data": {
                    "image/svg+xml": SQUARE,
                    "text/plain": "VBox()",
                    WIDGET: {},
                },
            },
        ]
        for place in range(len(chapter.cells))
    ]
    results.keep(folder, chapter, cells, results.package(folder))


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab, started as `make lab` starts it; yields its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        *[sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"],
        *["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"],
        # The page may look into the application, as the tests do.
        *["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"],
    ]
    env = {
        **os.environ,
        "HOME": str(folder),
        "JUPYTER_CONFIG_PATH": str(folder / "tools" / "jupyter"),
        "JUPYTER_TOKEN": token,
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/api", folder / "lab.log")
            yield f"http://127.0.0.1:{port}/lab/tree/chapters?reset&token={token}"
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def page(browser: Browser, lab: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(lab)
    page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
    yield page
    # Kernels would pile up: a chapter's is ended with its page.
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


def open_chapter(page: Page, name: str) -> None:
    """Double click, which opens a notebook, and wait for its kernel."""
    page.locator(f'.jp-DirListing-item[title^="Name: {name}"]').dblclick()
    page.locator(".jp-NotebookPanel").wait_for(timeout=60_000)
    idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
    page.locator(idle).wait_for(timeout=60_000)
    page.evaluate(KERNEL_ANSWERS)


def run_cells(page: Page) -> list[dict[str, Any]]:
    """Menu Run, Run All Cells; the cells when the last of them is done."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        cells: list[dict[str, Any]] = page.evaluate(RESULTS)
        failed = [cell for cell in cells if cell["errors"]]
        if failed or all(cell["count"] for cell in cells):
            return cells
        page.wait_for_timeout(500)
    raise AssertionError("the cells did not finish in ten minutes")


def drive(page: Page, case: Case) -> None:
    """Press a key on the figure's slider, and judge what it says then."""
    page.evaluate(SHOW_WIDGET, case.figure)
    box = page.locator(".jp-Cell.jp-mod-active .widget-vbox").first
    box.wait_for(timeout=20_000)
    said = box.locator(".said")
    before = said.text_content() or ""
    row = box.locator(".widget-slider").filter(
        has=page.get_by_text(case.slider, exact=True)
    )
    row.locator(".noUi-handle").focus()
    page.keyboard.press(case.key)
    expect(said).not_to_have_text(before, timeout=20_000)
    case.expect(before, said.text_content() or "")


@pytest.mark.parametrize("name", CHAPTERS)
def test_run_all_succeeds_and_live_figures_answer(page: Page, name: str) -> None:
    open_chapter(page, name)
    cases = [case for case in CASES if name == f"{case.chapter}.md"]
    for cell in run_cells(page):
        assert not cell["errors"], f"{cell['errors']} in\n{cell['source']}"
    for case in cases:
        drive(page, case)


def test_the_index_opens_as_a_page_to_read(page: Page) -> None:
    open_chapter(page, "index.md")
    notebook = page.locator(".jp-NotebookPanel")
    expect(notebook).to_contain_text("textbook", use_inner_text=True)
    picture = notebook.get_by_role("img", name="A square.")
    expect(picture).to_have_js_property("naturalWidth", 9)
    expect(notebook).not_to_contain_text("{embed}", use_inner_text=True)
    follow(page, "3 The Bayes posterior", "03-bayes-posterior.md")


def follow(page: Page, words: str, name: str) -> None:
    """Click on a link until the chapter is there: Markdown is drawn again as long as
    cells come into view, and a link that is being replaced does not answer."""
    link = page.locator(".jp-NotebookPanel:visible a", has_text=words).first
    deadline = time.monotonic() + 30
    while page.evaluate(OPEN) != name and time.monotonic() < deadline:
        link.evaluate("link => link.click()")
        page.wait_for_timeout(500)
    assert page.evaluate(OPEN) == name


OPEN = "() => window.jupyterapp.shell.currentWidget.title.label"
SHOW_CELL = """words => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = notebook.widgets.findIndex(
    cell => cell.model.sharedModel.source.includes(words));
  return notebook.scrollToItem(notebook.activeCellIndex, 'center');
}"""


def test_a_chapter_opens_as_a_page_to_read(page: Page) -> None:
    open_chapter(page, "03-bayes-posterior.md")
    notebook, active = page.locator(".jp-NotebookPanel"), page.locator(ACTIVE)
    # The imports are folded, and what the last run put out is there.
    expect(notebook.locator(".jp-InputPlaceholder").first).to_contain_text("import")
    expect(notebook).to_contain_text("cell 0 has run")
    expect(notebook.locator(".jp-RenderedSVG img").first).to_be_attached()
    # Numbers are those of the book, also for displays that have none.
    page.evaluate(SHOW_CELL, "(eq-bayes)")
    expect(active.locator(".katex .tag")).to_have_text(["(3.3)"])
    expect(active).to_contain_text("By the Markov property (1.12)")
    page.evaluate(SHOW_CELL, "The two bells as functions")
    expect(active).to_contain_text("Figure 3.2. One pixel")
    folded = page.evaluate(FOLDED)
    for tag in ("solution.add_precisions", "wrong.add_precisions", "hide-input"):
        assert tag in folded
    assert "exercise.add_precisions" not in folded
    page.evaluate(SHOW_CELL, "(eq-bayes)")
    follow(page, "(1.12)", "01-forward-process.md")
    arrived = page.locator(".jp-Cell:visible", has_text="The chain as a whole").last
    expect(arrived).to_be_in_viewport(timeout=60_000)


FOLDED = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.inputHidden)
  .flatMap(cell => cell.model.getMetadata('tags') ?? [])"""
ACTIVE = ".jp-NotebookPanel:visible .jp-Cell.jp-mod-active"


DIRTY = "() => window.jupyterapp.shell.currentWidget.context.model.dirty"


# Short and long options of cells, exercises, a page without code.
@pytest.mark.parametrize(
    "name", ["index.md", "03-bayes-posterior.md", "08-training.md"]
)
def test_saving_changes_nothing(page: Page, folder: Path, name: str) -> None:
    path = folder / "chapters" / name
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    open_chapter(page, name)
    page.wait_for_timeout(500)  # for what the kernel says of itself
    assert not page.evaluate(DIRTY), "JupyterLab calls it changed"
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    deadline = time.monotonic() + 20
    while path.stat().st_mtime_ns == written and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert path.stat().st_mtime_ns != written, "nothing was saved"
    assert path.read_bytes() == before


def test_an_edited_cell_reaches_the_package(page: Page, folder: Path) -> None:
    name, added = "02-diffusion-kernel.md", "    # A remark made in the notebook."
    open_chapter(page, name)
    page.evaluate(
        """remark => {
          const widget = window.jupyterapp.shell.currentWidget;
          const cell = widget.content.widgets.find(
            each => each.model.sharedModel.source.includes('def q_sample('));
          const {sharedModel} = cell.model;
          const lines = sharedModel.source.split('\\n');
          const at = lines.findIndex(line => line.startsWith('    return'));
          lines.splice(at, 0, remark);
          sharedModel.setSource(lines.join('\\n'));
          return window.jupyterapp.commands.execute('docmanager:save');
        }""",
        added,
    )
    chapter = folder / "chapters" / name
    deadline = time.monotonic() + 20
    while added not in chapter.read_text("utf-8") and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    export = subprocess.run(
        [sys.executable, folder / "tools/export.py"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert export.returncode == 0, export.stdout + export.stderr
    assert added in (folder / "ddpm_lit" / "forward.py").read_text("utf-8")
