"""What can be taken from the site: executed notebooks, sources, module pages."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from notebooks import WIDGET
from plain import Book

from chapters import read_chapter
from conftest import ROOT, from_root, package_files

CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]-*.md"))
NOTEBOOKS = [path for path in CHAPTERS if read_chapter(path).cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_the_cells_and_their_outputs(site, path):
    file = site / "download" / f"{path.stem}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.source for c in code] == [c.source for c in read_chapter(path).cells]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not any(each.output_type == "error" for each in outputs)
    bundles = [each.data for each in outputs if "data" in each]
    assert not any(WIDGET in bundle for bundle in bundles)
    for cell in code:
        if "figure" in cell.metadata.get("tags", []):
            data = [o.data for o in cell.outputs if "data" in o]
            assert any("image/svg+xml" in d for d in data), f"{cell.id}: no figure"


def test_what_is_taken_away_names_no_place_of_this_machine(site):
    places = [str(ROOT), str(Path.home()), sys.prefix, "/tmp/"]
    named = [
        f"{file.name}: {place}"
        for file in (site / "download").iterdir()
        if file.suffix in (".md", ".ipynb", ".txt")
        for place in places
        if len(place) > 1 and place in file.read_text("utf-8")
    ]
    assert not named, named


MYST = re.compile(r"\{[a-z:]+\}`|^[`:]{3,}\{|\.md[)#]|\(eq-[a-z]", re.M)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_everything_in_plain_markdown(site, path):
    """Numbers in place of roles, links that lead somewhere, boxes without fences."""
    file = site / "download" / f"{path.stem}.ipynb"
    cells = nbformat.read(file, as_version=4).cells
    words = [cell.source for cell in cells if cell.cell_type == "markdown"]
    left = [found[0] for text in words for found in MYST.finditer(text)]
    assert not left, left[:5]


def test_numbers_titles_and_sources_are_in_the_notebook(site):
    file = site / "download" / "02-diffusion-kernel.ipynb"
    cells = nbformat.read(file, as_version=4).cells
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for said in (
        "\\tag{2.3}\n$$", "Write (1.1) for $t = 2$", "as Figure 2.2 shows",
        "<summary>The proof, by induction</summary>", "Kingma et al. (2021)",
        "**Where the notes slip: one letter for two noises**", "## References",
    ):  # fmt: skip
        assert said in words, said


def test_with_an_address_a_notebook_leads_to_the_pages():
    page = {
        "location": "/chapters/02-b.md",
        "slug": "b",
        "mdast": {"type": "math", "label": "eq-x", "identifier": "eq-x",
                  "enumerator": "2.1", "html_id": "eq-x"},
    }  # fmt: skip
    book = Book([page], "https://example.org/book")
    plain = book.plain("See {eq}`eq-x` of [that chapter](02-b.md#place).")
    assert "[(2.1)](https://example.org/book/b/#eq-x)" in plain
    assert "[that chapter](https://example.org/book/b/#place)" in plain


def test_everything_can_be_taken_at_once(site):
    with zipfile.ZipFile(site / "download" / "notebooks.zip") as archive:
        assert archive.namelist() == [f"{path.stem}.ipynb" for path in NOTEBOOKS]
    [archive] = (site / "download").glob("*.tar.gz")
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as files:
        held = set(files.getnames())
    needed = ["Makefile", "constraints.txt", "myst.yml", "ddpm_lit/cli.py"]
    needed += ["chapters/index.md", "theme/build.mjs", "tools/jupyter", "LICENSE"]
    for name in needed:
        assert any(each.startswith(f"{top}/{name}") for each in held), name
    assert not [n for n in held if "node_modules" in n or "/_build/" in n]


def test_the_source_of_each_chapter_is_there(site):
    for path in NOTEBOOKS:
        assert (site / "download" / path.name).read_bytes() == path.read_bytes(), path


def listing(site: Path, module: str) -> str:
    path = site / "modules" / module.replace(".", "/") / "index.html"
    return from_root(path, site)


def test_a_module_page_shows_the_module_line_by_line(site):
    for module, path in package_files().items():
        page = listing(site, module)
        code = page[page.index('<div class="code listing">') :].partition("</pre>")[0]
        lines = re.split(r'<span class="line" id="L\d+">', code)[1:]
        source = path.read_text("utf-8").splitlines()
        assert len(lines) == len(source), path.name
        for number, (line, want) in enumerate(zip(lines, source, strict=True), 1):
            line = re.sub(r'<span class="mark-title">.*?</span>', "", line)
            shown = html.unescape(re.sub(r"<[^>]+>", "", line)).rstrip()
            assert shown == want, f"{path.name}:{number}"


@pytest.mark.parametrize("name", ["q_step", "q_sample"])
def test_a_name_of_a_module_leads_back_to_its_cell(site, name):
    """The link above a part and `export.py --locate` agree on the chapter."""
    page = listing(site, "forward")
    before = page[: page.index(f'id="{name}"')]
    line = re.findall(r'id="L(\d+)"', before)[-1]
    command = [sys.executable, "tools/export.py", "--locate", f"forward.py:{line}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    chapter = Path(done.stdout.split(":")[0]).stem
    slug = re.sub(r"^\d+-", "", chapter)
    assert f'href="/{slug}/#export-forward-{name}"' in page
    assert f'id="export-forward-{name}"' in (site / slug / "index.html").read_text()


def test_the_list_of_modules_is_in_reading_order(site):
    page = from_root(site / "modules" / "index.html", site)
    found = re.findall(r'<dt><a class="file" href="/modules/([\w/]+)/">', page)
    order = [path.replace("/", ".") for path in found]
    assert set(order) == set(package_files())
    known = ["schedules", "forward", "posterior", "elbo", "networks.unet"]
    known += ["training", "book.checks", "book.plotting", "book.widgets"]
    assert [name for name in order if name in known] == known
