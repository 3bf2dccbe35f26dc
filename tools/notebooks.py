"""What a reader can take away from a built book: each chapter as a notebook, with
the outputs that the build computed, and as its own source; all notebooks as one file;
and book and program as one.

Written to ``_build/html/download`` from the pages that mystmd left in ``_build/site``.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode
from plain import Book, nodes, sources

from chapters import Chapter, read_chapter

WIDGET = "application/vnd.jupyter.widget-view+json"
OWN = "application/vnd.ddpm-lit."  # what only a page reads: tables, models


def lasting(bundle: Mapping[str, Any]) -> list[str]:
    """What of an output a notebook can show that has no kernel and is no page of the
    book; nothing where a widget leaves only its name."""
    kinds = [each for each in bundle if each != WIDGET and not each.startswith(OWN)]
    return [] if WIDGET in bundle and kinds == ["text/plain"] else kinds


class Files:
    """Outputs that are too large for a page lie beside it, under a hash."""

    def __init__(self, public: Path) -> None:
        self.public = public

    def read(self, item: dict[str, Any], mime: str) -> str:
        """The content of one output, as a notebook holds it."""
        if "path" not in item:
            return str(item["content"])
        data = (self.public / Path(item["path"]).name).read_bytes()
        is_text = mime.startswith("text/") or mime.endswith(("+xml", "json"))
        return data.decode() if is_text else base64.b64encode(data).decode()

    def whole(self, output: dict[str, Any], key: str) -> Any:
        """A field of an output that may be cut short on the page."""
        if "path" not in output:
            return output[key]
        return (self.public / Path(output["path"]).name).read_text("utf-8")


def output_of(data: dict[str, Any], files: Files, count: int) -> NotebookNode | None:
    """One output of a page as an output of a notebook.

    A widget's view is left out, for nothing answers to it once its kernel has ended,
    and so is what only a page reads; None when there is nothing else.
    """
    kind = data["output_type"]
    if kind == "stream":
        text = files.whole(data, "text")
        return nbformat.v4.new_output("stream", name=data["name"], text=text)
    if kind == "error":
        trace = str(files.whole(data, "traceback")).splitlines()
        said = {"ename": data["ename"], "evalue": data["evalue"], "traceback": trace}
        return nbformat.v4.new_output("error", **said)
    bundle = data.get("data", {})
    shown: dict[str, Any] = {}
    for mime in lasting(bundle):
        content = files.read(bundle[mime], mime)
        shown[mime] = json.loads(content) if mime.endswith("json") else content
    if not shown:
        return None
    extra = {"execution_count": count} if kind == "execute_result" else {}
    about = data.get("metadata", {})
    return nbformat.v4.new_output(kind, data=shown, metadata=about, **extra)


def with_outputs(
    source: str, page: dict[str, Any], files: Files, book: Book
) -> NotebookNode:
    """A chapter as a notebook, with what the page shows under each of its cells, and
    words that any notebook shows.

    Raises ValueError when page and chapter do not hold the same cells.
    """
    notebook = jupytext.reads(source, fmt="md:myst")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    blocks = [n for n in nodes(page["mdast"]) if n.get("kind") == "notebook-code"]
    if len(cells) != len(blocks):
        raise ValueError(
            f"{page['location'][1:]}:1: the chapter has {len(cells)} cells and its "
            f"page {len(blocks)}; a code cell must not sit inside a directive"
        )
    ran = False
    for count, (cell, block) in enumerate(zip(cells, blocks, strict=True), 1):
        found = [n["jupyter_data"] for n in nodes(block) if n.get("jupyter_data")]
        ran = ran or bool(found)
        outputs = (output_of(data, files, count) for data in found)
        cell.outputs = [output for output in outputs if output]
        cell.execution_count = count
    if not ran:  # rendered with --no-execute
        for cell in cells:
            cell.execution_count = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = book.plain(cell.source)
    if works := sources(page):
        notebook.cells.append(nbformat.v4.new_markdown_cell(works))
    # Random ids would make every build another file.
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
    kernel = notebook.metadata["kernelspec"]
    language = {"name": "python", "file_extension": ".py"}
    notebook.metadata = NotebookNode(kernelspec=kernel, language_info=language)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def is_described(data: dict[str, Any], block: dict[str, Any], mime: str) -> bool:
    """Has a picture words for who cannot see it? From the code that drew it, or from
    the option :alt: of its cell."""
    about = data.get("metadata", {})
    stated = (about.get(mime, {}).get("alt"), about.get("alt"))
    return any(stated) or bool(block.get("data", {}).get("alt"))


def picture_problems(chapter: Chapter, page: dict[str, Any]) -> list[str]:
    """A line for each picture among the outputs that has no alternative text."""
    problems = []
    blocks = (n for n in nodes(page["mdast"]) if n.get("kind") == "notebook-code")
    for cell, block in zip(chapter.cells, blocks, strict=True):
        for data in (n["jupyter_data"] for n in nodes(block) if n.get("jupyter_data")):
            pictures = [mime for mime in data.get("data", {}) if "image/" in mime]
            if not all(is_described(data, block, mime) for mime in pictures):
                problems.append(
                    f"{chapter.where(cell.line)}: a picture without alternative text; "
                    "give it to save_figure() or picture(), or set :alt: on the cell"
                )
    return problems


def address(root: Path) -> str:
    """Where the site will lie, without a slash at its end; empty if nobody said."""
    config = yaml.safe_load((root / "myst.yml").read_text("utf-8"))
    return str(config["site"].get("options", {}).get("url", "")).rstrip("/")


def zip_notebooks(folder: Path) -> None:
    """All notebooks of a folder as one file beside them, the same for the same ones."""
    with zipfile.ZipFile(folder / "notebooks.zip", "w") as archive:
        for path in sorted(folder.glob("*.ipynb")):
            about = zipfile.ZipInfo(path.name)  # of the first of January 1980
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, path.read_bytes())


def write_archive(root: Path, folder: Path) -> list[str]:
    """Book and program as one file, as pip knows it: NAME-VERSION.tar.gz; what is
    wrong with it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    said = (done.stderr or done.stdout).strip().splitlines()[-1:]
    return [f"pyproject.toml: {line}" for line in said if done.returncode]


def write_downloads(root: Path) -> list[str]:
    """Write ``NN-name.ipynb`` and ``NN-name.md`` for each chapter with code, and
    the notebooks, and the book with its program, as one file each.

    Returns what is wrong with the outputs, as ``chapters/NN-name.md:LINE: reason``.
    """
    folder = root / "_build" / "html" / "download"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    site = root / "_build" / "site"
    files = Files(site / "public")
    problems = []
    paths = sorted((site / "content").glob("*.json"))
    pages = [json.loads(path.read_text("utf-8")) for path in paths]
    book = Book(pages, address(root))
    for page in pages:
        if not any(n.get("kind") == "notebook-code" for n in nodes(page["mdast"])):
            continue
        chapter = read_chapter(root / page["location"][1:])
        name = chapter.path.name
        (folder / name).write_text(chapter.text, encoding="utf-8")
        notebook = with_outputs(chapter.text, page, files, book)
        nbformat.write(notebook, folder / Path(name).with_suffix(".ipynb"))
        problems += picture_problems(chapter, page)
    zip_notebooks(folder)
    if (root / "pyproject.toml").is_file():
        problems += write_archive(root, folder)
    if (root / "LICENSE").is_file():
        shutil.copy(root / "LICENSE", folder / "LICENSE.txt")
    return problems
