"""A chapter as JupyterLab shows it, and back.

The notebook that opens can be read: numbers stand where the book has them, references
lead to other chapters, what the book folds is folded, and outputs of the last run are
there. None of it reaches the file. Whatever is put into a cell's text can be taken out
again by its form alone, so an edited cell is saved as it was edited; a cell for which
that does not hold is shown as it is written.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import results
import yaml
from ledger import BIB_ENTRY, EQUATION
from nbformat import NotebookNode
from notebooks import lasting

from chapters import as_notebook, chapter_number, read_chapter

SVG = "image/svg+xml"
AS_WRITTEN = "as-written"  # metadata of a cell that is shown as it stands
ADDED = "added"  # metadata of a cell that is not in the chapter: its own text
# A reference keeps in its title what it was made of.
ROLE = re.compile(r"(?<!`)\{(eq|numref|cite:t|cite:p)\}`([^`]+)`")
REFERENCE = re.compile(r'\[[^]]*\]\([^()\s]* "(eq|numref|cite:t|cite:p) ([^"]+)"\)')
TAG = re.compile(r"^\\tag\{[^}]*\}\n(?=\$\$ \(eq-)", re.M)
OPENED = re.compile(r"(`{3,}|:{3,})\{([\w:-]+)\} *(.*)")
# What JupyterLab can show by itself.
KNOWN = {"admonition", "dropdown", "figure", "image", "note", "table", "tip", "warning"}
# What stands for these is made anew each time; the body of any other one is shown.
MADE = {"toc", "embed", "ledger", "errata", "coverage", "modules", "names"}
ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "c": "\u0327"}


@dataclass(frozen=True)
class Target:
    """What can be referred to: its number in words, and where it stands."""

    words: str
    place: str


@dataclass(frozen=True)
class Summary:
    """What other chapters, and the index, need to know of one."""

    title: str
    about: str
    targets: dict[str, Target]


@functools.cache
def _summary(path: Path, stamp: int) -> Summary:
    notebook = as_notebook(path.read_text("utf-8"), path)
    targets: dict[str, Target] = {}
    equations = figures = 0
    name_cells(notebook)
    enumerator = notebook.metadata.get("numbering", {}).get("enumerator", "%s")
    for cell in notebook.cells:
        place = f"{path.name}#cell-id={cell.id}"
        if cell.metadata.get("label"):
            targets[cell.metadata.label] = Target("The live figure", place)
        if "caption" in cell.metadata:
            figures += 1
            number = enumerator.replace("%s", str(figures))
            label = cell.metadata.get("label", "")
            targets[label] = Target(f"Figure {number}", place)
        if cell.cell_type == "markdown":
            for label in EQUATION.findall(cell.source):
                equations += 1
                number = enumerator.replace("%s", str(equations))
                targets[label] = Target(f"({number})", place)
    heading = re.search(r"^# (.+)$", "\n".join(c.source for c in notebook.cells), re.M)
    title = heading[1] if heading else path.stem
    if path.name[:2].isdigit():
        title = f"{chapter_number(path)} {title}"
    return Summary(title, notebook.metadata.get("description", ""), targets)


def summary(path: Path) -> Summary:
    """The summary of a chapter, read again when its file has changed."""
    return _summary(path, path.stat().st_mtime_ns)


def name_cells(notebook: NotebookNode) -> None:
    """Give a cell the name of what stands in it, so that a reference can lead there."""
    for cell in notebook.cells:
        labels = EQUATION.findall(cell.source) if cell.cell_type == "markdown" else []
        named = cell.metadata.get("label") or (labels[0] if labels else None)
        if named:
            cell.id = named


def plain(tex: str) -> str:
    """A name of the bibliography in letters."""
    accent = re.compile(r"""\\(['`"^c])\{?(\w)\}?""")
    text = accent.sub(lambda found: found[2] + ACCENTS[found[1]], tex)
    text = text.replace(r"\L", "Ł").replace(r"\l", "ł")
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", text))


def cited(entry: str) -> tuple[str, str]:
    """Who wrote a work, as one cites it, and when."""
    fields = dict(re.findall(r"^  (\w+) *= *\{(.*)\},?$", entry, re.M))
    names = [plain(name).split(",")[0] for name in fields["author"].split(" and ")]
    who = f"{names[0]} et al." if len(names) > 2 else " & ".join(names)
    return who.replace("& others", "et al."), fields.get("year", "")


@dataclass
class Reading:
    """One chapter, to be shown with what the rest of the book says."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path.parent.parent

    @functools.cached_property
    def parts(self) -> list[tuple[str, list[Path]]]:
        """The table of contents: the title of each part, and its chapters."""
        config = yaml.safe_load((self.root / "myst.yml").read_text("utf-8"))
        return [
            (entry["title"], [self.root / each["file"] for each in entry["children"]])
            for entry in config["project"]["toc"]
            if "children" in entry
        ]

    @functools.cached_property
    def targets(self) -> dict[str, Target]:
        paths = sorted(self.path.parent.glob("[0-9][0-9]-*.md"))
        return {
            label: target
            for path in paths
            for label, target in summary(path).targets.items()
        }

    @functools.cached_property
    def works(self) -> dict[str, tuple[str, str]]:
        text = (self.path.parent / "references.bib").read_text("utf-8")
        return {found[1]: cited(found[0]) for found in BIB_ENTRY.finditer(text)}

    def reference(self, found: re.Match[str]) -> str:
        """A role as a link; as it is written where it leads nowhere."""
        kind, label = found[1], found[2]
        if kind in ("eq", "numref"):
            if label not in self.targets:
                return found[0]
            target = self.targets[label]
            return f'[{target.words}]({target.place} "{kind} {label}")'
        keys = re.split(r"[;,]\s*", label)
        if not all(key in self.works for key in keys):
            return found[0]
        form = "{} ({})" if kind == "cite:t" else "{}, {}"
        words = "; ".join(form.format(*self.works[key]) for key in keys)
        words = f"({words})" if kind == "cite:p" else words
        return f'[{words}](references.bib "{kind} {label}")'

    def made(self, name: str, argument: str) -> list[str]:
        """What stands for a directive that only the book can follow."""
        if name == "toc":
            return [line for part in self.parts for line in self.listed(*part)]
        if name == "embed":
            return [self.picture(argument.lstrip("#"))]
        return [f"*`make book` writes the {name} here.*"]

    def listed(self, title: str, files: list[Path]) -> list[str]:
        lines = [f"**{title}**", ""]
        for path in files:
            known = summary(path)
            about = f": {known.about}" if known.about else ""
            lines.append(f"- [{known.title}]({path.name}){about}")
        return [*lines, ""]

    def picture(self, label: str) -> str:
        """The last picture of a labelled cell, or the way to it."""
        target = self.targets.get(label)
        if target is None:
            return ""
        path = self.path.parent / target.place.partition("#")[0]
        cells = read_chapter(path).cells
        outputs = recorded(self.root, path) or [[] for _ in cells]
        for cell, shown in zip(cells, outputs, strict=True):
            pictures = [each for each in shown if SVG in each.get("data", {})]
            if cell.metadata.get("label") == label and pictures:
                file = self.root / "_build" / "lab" / f"{label}.svg"
                file.parent.mkdir(exist_ok=True)
                file.write_text(pictures[-1].data[SVG], encoding="utf-8")
                alt = pictures[-1].metadata.get(SVG, {}).get("alt", "")
                return f"![{re.sub(r'[][]', '', alt)}](../_build/lab/{file.name})"
        link = f"[{summary(path).title}]({target.place})"
        return f"*The picture is here once {link} has run.*"

    def show(self, text: str) -> str:
        """The text of a cell as one reads it; as it is written if it could not be
        taken back."""
        lines = self.directives(text.split("\n"))
        shown = ROLE.sub(self.reference, "\n".join(lines))
        shown = EQUATION.sub(self.tagged, shown)
        return shown if written(shown) == text else text

    def read(self, cell: NotebookNode) -> None:
        """Show a cell of words; what could not be taken back is marked, and kept."""
        if written(cell.source) != cell.source:
            cell.metadata[AS_WRITTEN] = True
        else:
            cell.source = self.show(cell.source)

    def tagged(self, found: re.Match[str]) -> str:
        target = self.targets.get(found[1])
        return f"\\tag{{{target.words[1:-1]}}}\n{found[0]}" if target else found[0]

    def directives(self, lines: list[str]) -> list[str]:
        """Directives that JupyterLab does not know become comments around what is in
        them."""
        shown: list[str] = []
        closing: list[str] = []
        lines = lines[::-1]
        while lines:
            line = lines.pop()
            opened = OPENED.fullmatch(line)
            if closing and line == closing[-1]:
                shown.append(f"% {closing.pop()}")
            elif opened and opened[2] not in KNOWN:
                closing.append(opened[1])
                shown.append(f"% {line}")
                while lines and re.match(r":[\w-]+:", lines[-1]):
                    shown.append(f"% {lines.pop()}")
                if opened[2] in MADE:
                    shown += self.made(opened[2], opened[3])
            else:
                shown.append(line)
        return shown


def written(shown: str) -> str:
    """The text of a cell as the chapter has it."""
    text = TAG.sub("", REFERENCE.sub(r"{\1}`\2`", shown))
    lines: list[str] = []
    closing: list[str] = []
    made = False  # inside of what stands for a directive
    options = False
    for line in text.split("\n"):
        bare = line.removeprefix("% ")
        opened = OPENED.fullmatch(bare) if bare != line else None
        if opened:
            closing.append(opened[1])
            made = opened[2] in MADE
            lines.append(bare)
        elif closing and line == f"% {closing[-1]}":
            lines.append(closing.pop())
            made = False
        elif options and re.match(r"% :[\w-]+:", line):
            lines.append(bare)
            opened = options
        elif not made:
            lines.append(line)
        options = opened
    return "\n".join(lines)


def recorded(root: Path, path: Path) -> list[list[NotebookNode]] | None:
    """What each cell of a chapter put out when it last ran, if that is still true."""
    chapter = read_chapter(path)
    place = results.place(root, chapter)
    stamp = root / "_build" / "package.sha256"
    if not place.is_file() or not results.is_current(stamp, results.package(root)):
        return None
    cells = json.loads(place.read_text("utf-8"))["cells"]
    return [
        [still for each in cell["outputs"] if (still := kept(each))] for cell in cells
    ]


def kept(output: dict[str, Any]) -> NotebookNode | None:
    """An output without what only a running kernel or a page of the book can use."""
    still = {key: value for key, value in output.items() if key != "transient"}
    if "data" in still:
        kinds = lasting(still["data"])
        if not kinds:
            return None
        still["data"] = {kind: still["data"][kind] for kind in sorted(kinds)}
    if "execution_count" in still:
        still["execution_count"] = None
    return nbformat.from_dict(still)


def folds(cells: list[NotebookNode]) -> None:
    """Fold what the book folds: a solution with its outputs, of the rest the code."""
    judges = False  # the code after a stub judges the answer
    for cell in cells:
        if cell.cell_type != "code":
            continue
        kinds = {tag.partition(".")[0] for tag in cell.metadata.get("tags", [])}
        answer = kinds & {"solution", "wrong"}
        if judges or answer or kinds & {"hide-input", "remove-input", "check"}:
            folded = {"source_hidden": True}
            cell.metadata["jupyter"] = folded | (
                {"outputs_hidden": True} if answer else {}
            )
        judges = "exercise" in kinds


def added(text: str, name: str) -> NotebookNode:
    """A cell to read that is not part of the chapter."""
    about = {ADDED: text, "editable": False, "deletable": False}
    return nbformat.v4.new_markdown_cell(text, metadata=about, id=name)


def show(notebook: NotebookNode, path: Path) -> None:
    """Make a chapter's notebook, as jupytext reads it, one to read in."""
    reading = Reading(path)
    name_cells(notebook)
    folds(notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, outputs in zip(code, recorded(reading.root, path) or [], strict=False):
        if not cell.outputs and cell.execution_count is None:
            cell.outputs = outputs
            cell.metadata["trusted"] = True
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            reading.read(cell)
        label = cell.metadata.get("label")
        if "caption" in cell.metadata and label in reading.targets:
            words = reading.targets[label].words
            caption = ROLE.sub(reading.reference, cell.metadata.caption)
            cells.append(added(f"**{words}.** {caption}", f"{cell.id}-caption"))
    notebook.cells = [added(f"{UNNUMBERED}\n{way(reading)}", "way"), *cells]


# Only what has a label has a number, which is written out.
UNNUMBERED = "---\nnumbering:\n  equation: false\n---"


def way(reading: Reading) -> str:
    """Links to the contents and to the chapters before and after."""
    order = [reading.path.parent / "index.md"]
    order += [path for _, files in reading.parts for path in files]
    at = order.index(reading.path) if reading.path in order else 0
    links = []
    if at > 1:
        links.append(f"[← {summary(order[at - 1]).title}]({order[at - 1].name})")
    if at > 0:
        links.append("[Contents](index.md)")
    if at + 1 < len(order):
        links.append(f"[{summary(order[at + 1]).title} →]({order[at + 1].name})")
    return " · ".join(links)


def write(notebook: NotebookNode) -> None:
    """Take out all that `show` has put in."""
    cells = []
    for cell in notebook.cells:
        if cell.metadata.get(ADDED) == cell.source:
            continue
        for key in (ADDED, "jupyter", "editable", "deletable"):
            cell.metadata.pop(key, None)
        kept = cell.metadata.pop(AS_WRITTEN, False)
        if cell.cell_type == "markdown" and not kept:
            cell.source = written(cell.source)
        if cell.cell_type == "code" and cell.execution_count is None:
            cell.outputs = []
        cells.append(cell)
    notebook.cells = cells
