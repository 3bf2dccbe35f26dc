"""Each chapter runs once: what the book shows is what the tests ran."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import results
from notebooks import OWN, WIDGET

from chapters import read_chapter, read_chapters
from conftest import ROOT, chapter_text

# One of everything that a cell can put out. Each run leaves a line in a file.
EVERYTHING = chapter_text(
    (
        "",
        "import os\nwith open('../ran', 'a') as file:\n"
        "    print(os.getpid(), file=file)",
    ),
    ("", "import sys\nimport torch\nfrom IPython.display import clear_output, display"),
    ("", "print('é \\u2028 \\x1b[1m', flush=True)\nprint('aside', file=sys.stderr)"),
    ("", "_ = os.system('echo from a program')"),
    ("", "print({'kernel': os.getpid()})"),
    ("", "print(torch.get_num_threads(), 'thread')"),
    ("", "shown = display('first', display_id='one')\nshown.update('second')"),
    ("", "clear_output()\nshown.update('not below this cell')"),
    (
        "",
        "from matplotlib import pyplot as plt\n"
        "from ddpm_lit.book.plotting import picture, save_figure, use_style\n"
        "use_style()\nfigure, axis = plt.subplots()\naxis.plot([1, 2])\n"
        "save_figure(figure, '01-line', 'A line.')",
    ),
    (
        "widget",
        "from ddpm_lit.book.widgets import Axis, curve, explore, panel, slider\n"
        "explore('A line.', panel(curve([0, 1], lambda a: [0, a]), x=Axis('x', 0, 1),"
        " y=Axis('y', 0, 1)), says=lambda a: f'{a}', a=slider('a', 0, 0, 1, 1))",
    ),
    ("exercise.one", "def one():\n    print('the stub')\n    return torch.rand(1) + 2"),
    (
        "",
        "def check_one(answer):\n    assert answer() <= 1\n\n\n"
        "seed = torch.manual_seed(3)",
    ),
    (
        "hide-input, solution.one",
        "def one_solution():\n    return 1\n\n\ncheck_one(one_solution)",
    ),
    (
        "",
        "print(f'{torch.rand(1).item():.4f}', [n for n in globals() if 'stub' in n])",
    ),
)
AFTER = chapter_text(
    ("", "print('the second chapter')\n_ = open('../ran', 'a').write('2\\n')")
)
SETTINGS = """version: 1
project:
  title: A small book
  settings:
    output_matplotlib_strings: remove
  toc:
    - file: chapters/01-everything.md
    - file: chapters/02-after.md
site:
  template: {theme}
"""


def small_book(folder: Path) -> Path:
    (folder / "chapters").mkdir(parents=True)
    (folder / "figures").mkdir()
    shutil.copytree(
        ROOT / "ddpm_lit", folder / "ddpm_lit", ignore=shutil.ignore_patterns("__pyc*")
    )
    (folder / "chapters/01-everything.md").write_text(EVERYTHING, "utf-8")
    (folder / "chapters/02-after.md").write_text(AFTER, "utf-8")
    (folder / "chapters/equations.yml").write_text("{}\n", "utf-8")
    (folder / "chapters/references.bib").write_text("", "utf-8")
    (folder / "myst.yml").write_text(SETTINGS.format(theme=ROOT / "theme"), "utf-8")
    return folder


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # As from a shell: a kernel that finds itself in a test shows less.
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env.pop("OMP_NUM_THREADS", None)
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, *map(str, command)], env=env, capture_output=True, text=True
    )


def run_chapters(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """What `make test` does with the chapters."""
    options = ["-c", ROOT / "pyproject.toml", "--rootdir", folder, "-p", "conftest"]
    paths = [folder / "chapters" / name for name in names]
    return run("-m", "pytest", "-q", *options, *(paths or [folder / "chapters"]))


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(ROOT / "tools/book.py", "--root", folder, *options)


def kept(folder: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """The outputs of each chapter's cells, as they are kept."""
    return {
        chapter.path.name: [
            cell["outputs"]
            for cell in json.loads(results.place(folder, chapter).read_text())["cells"]
        ]
        for chapter in read_chapters(folder / "chapters")
    }


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book that the tests ran, and that was built of what they kept."""
    folder = small_book(tmp_path_factory.mktemp("tested") / "book")
    done = run_chapters(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    done = build(folder, "--kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("unchanged") == 2, done.stdout
    return folder


def test_the_book_shows_the_one_run_of_each_chapter(tested):
    process, second = (tested / "ran").read_text().split()
    assert second == "2", "each chapter leaves one line when it runs"
    notebook = nbformat.read(
        tested / "_build/html/download/01-everything.ipynb", as_version=4
    )
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert shown[4][0].text == f"{{'kernel': {process}}}\n"
    page = (tested / "_build/html/index.html").read_text("utf-8")
    assert process in page and "from a program" in page


def comparable(outputs: list[dict[str, Any]], process: str) -> list[Any]:
    """Outputs without what differs between two runs of the same cell: how a stream is
    cut, numbers of processes, names of widgets."""
    # The number of a process stands alone; its digits may also stand in another number.
    text = re.sub(rf"(?<![\d.]){process}(?![\d.])", "PID", json.dumps(outputs))
    found: list[Any] = []
    for output in json.loads(text):
        stream = output["output_type"] == "stream"
        if stream and found and found[-1].get("name") == output["name"]:
            found[-1]["text"] += output["text"]
            continue
        if WIDGET in output.get("data", {}):
            output["data"][WIDGET]["model_id"] = "MODEL"
        found.append(output)
    return found


def test_the_tests_keep_what_mystmd_would(tested, tmp_path):
    """The same book, run by mystmd: the same files with the same outputs in them."""
    other = small_book(tmp_path / "book")
    done = build(other)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [
        sorted(path.name for path in (folder / "_build/execute").iterdir())
        for folder in (tested, other)
    ]
    assert names[0] == names[1]
    mine, theirs = kept(tested), kept(other)
    processes = [(folder / "ran").read_text().split()[0] for folder in (tested, other)]
    for name in mine:
        for here, there in zip(mine[name], theirs[name], strict=True):
            assert comparable(here, processes[0]) == comparable(there, processes[1])
    everything = json.dumps(mine["01-everything.md"])
    assert OWN in everything and WIDGET in everything and "<svg" in everything
    assert "1 thread" in everything


def test_nothing_runs_when_only_kept_results_are_asked_for(tested, tmp_path):
    folder = tmp_path / "book"
    shutil.copytree(tested, folder)
    (folder / "chapters/02-after.md").write_text(AFTER + "\n```{code-cell}\n1\n```\n")
    before = (folder / "ran").read_text()
    done = build(folder, "--kept")
    assert done.returncode == 1
    assert "chapters/02-after.md:1: has not run since" in done.stderr
    assert (folder / "ran").read_text() == before
    with (folder / "ddpm_lit/checks.py").open("a") as module:
        module.write("# changed\n")
    done = build(folder, "--kept")
    assert done.returncode == 1 and "01-everything.md:1: has not run" in done.stderr
    assert not list((folder / "_build").glob("execute/*")), "stale results are dropped"


def test_a_chapter_that_fails_leaves_no_results(tested, tmp_path):
    folder = tmp_path / "book"
    shutil.copytree(tested, folder)
    path = folder / "chapters/02-after.md"
    assert results.place(folder, read_chapter(path)).is_file()
    # The same cells, and now they fail.
    (folder / "ran").unlink()
    (folder / "ran").mkdir()
    done = run_chapters(folder, "02-after.md")
    assert done.returncode == 1, done.stdout
    assert not results.place(folder, read_chapter(path)).is_file()


def test_an_output_that_a_page_should_not_show_fails_its_cell(tested, tmp_path):
    folder = tmp_path / "book"
    shutil.copytree(tested, folder)
    path = folder / "chapters/02-after.md"
    path.write_text(
        chapter_text(
            ("", "import warnings\nwarnings.warn('old')"),
            ("", "x = 1\nprint('a sentence of any length ' * 9)"),
            ("", "x + 6"),
            ("", "print('a row   ' * 12)"),
            ("", "print('a third:', x / 3)"),
        )
    )
    done = run_chapters(folder, "02-after.md")
    assert done.returncode == 1 and "UserWarning: old" in done.stdout, done.stdout
    assert "print it, with what it is: 7" in done.stdout, done.stdout
    assert "a row of 96 characters, 88 fit" in done.stdout, done.stdout
    assert "for nobody to read: a third: 0.333" in done.stdout, done.stdout
    assert "4 failed, 1 passed" in done.stdout


def test_a_figure_that_reads_a_name_bound_anew_fails_its_chapter(tmp_path):
    folder = small_book(tmp_path / "book")
    line = (
        "from torch import linspace\nfrom ddpm_lit.book.plotting import use_style\n"
        "use_style()\nline = linspace(0, 1, 5)"
    )
    figure = (
        "from ddpm_lit.book.widgets import Axis, curve, explore, panel, slider\n"
        "figure = explore('A line.', panel(curve(line, lambda a: a * line), "
        "x=Axis('x', 0, 1), y=Axis('y', 0, 1)), says=lambda a: f'{a}', "
        "a=slider('a', 0, 0, 1, 1))\nfigure"
    )
    for later, failed in (("pass", False), ("line = linspace(0, 1, 9)", True)):
        chapter = chapter_text(("", line), ("widget", figure), ("", later))
        (folder / "chapters/02-after.md").write_text(chapter, "utf-8")
        done = run_chapters(folder, "02-after.md")
        assert (done.returncode != 0) is failed, done.stdout
        assert ("added after cell" in done.stdout) is failed, done.stdout


def test_a_chapter_that_reads_what_another_wrote_follows_it(tmp_path):
    folder = tmp_path / "chapters"
    folder.mkdir()
    for name in ("08-training.md", "09-sampling.md"):
        (folder / name).write_text(chapter_text(("", f"'{name}'")), "utf-8")
    training, sampling = read_chapters(folder)
    value = results.package(tmp_path)

    def keep_both() -> None:
        for chapter in (training, sampling):
            results.keep(tmp_path, chapter, [[]], value)
        assert results.missing(tmp_path, [training, sampling]) == []

    keep_both()
    results.forget(tmp_path, sampling)
    assert len(results.missing(tmp_path, [training, sampling])) == 1
    keep_both()
    results.forget(tmp_path, training)
    assert len(results.missing(tmp_path, [training, sampling])) == 2
    keep_both()
    results.place(tmp_path, training).unlink()
    results.forget_stale(tmp_path, [training, sampling])
    assert len(results.missing(tmp_path, [training, sampling])) == 2


def test_results_of_another_package_are_not_kept(tmp_path):
    path = tmp_path / "chapters/01-a.md"
    path.parent.mkdir()
    path.write_text(chapter_text(("", "1")), "utf-8")
    results.keep(tmp_path, read_chapter(path), [[]], "another")
    assert not results.place(tmp_path, read_chapter(path)).is_file()


def test_every_page_shows_what_is_kept(site):
    """Stream by stream and figure by figure, in the notebooks to take away."""
    for chapter in read_chapters(ROOT / "chapters"):
        if not chapter.cells:
            continue
        file = site / "download" / f"{chapter.path.stem}.ipynb"
        notebook = nbformat.read(file, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        entries = json.loads(results.place(ROOT, chapter).read_text("utf-8"))["cells"]
        for cell, entry in zip(cells, entries, strict=True):
            for kind in ("image/svg+xml", "text/html"):
                shown, ran = (
                    [o["data"][kind] for o in outputs if kind in o.get("data", {})]
                    for outputs in (cell.outputs, entry["outputs"])
                )
                assert shown == ran, f"{chapter.path.name}: {cell.id}"
            shown, ran = (
                "".join(o["text"] for o in outputs if o["output_type"] == "stream")
                for outputs in (cell.outputs, entry["outputs"])
            )
            assert shown.split() == ran.split(), f"{chapter.path.name}: {cell.id}"


def test_results_with_other_weights_in_the_package_are_not_kept(tmp_path):
    weights = tmp_path / "ddpm_lit" / "book" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"one")
    before = results.package(tmp_path)
    (weights.parent / "module.pyc").write_bytes(b"of no account")
    assert results.package(tmp_path) == before
    weights.write_bytes(b"two")
    assert results.package(tmp_path) != before
