"""Write the package from the chapters.

    python tools/export.py                      write ddpm_lit/
    python tools/export.py --check              fail when ddpm_lit/ is not in sync
    python tools/export.py --locate forward.py:30   the chapter line it comes from

A code cell tagged `export.<module>` goes to `ddpm_lit/<module>.py`, and one tagged
`export.<folder>.<module>` to `ddpm_lit/<folder>/<module>.py`.
The cells of a module are joined in reading order; imports come from the exported
cells or from any earlier cell of the same chapter, and names that another exported
cell defined are imported from its module.
The docstring of each public name ends with the chapter that explains it.
`ddpm_lit.book` is the lab kit, what the chapters themselves are made with: every
chapter may import it, and no module outside it may.
The names that `import ddpm_lit` offers are those of `__all__` in the cell tagged
`export.__init__`.
The same chapters always give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import difflib
import re
import shutil
import subprocess
import symtable
import sys
import tempfile
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from chapters import Cell, Chapter, read_chapters

PACKAGE = "ddpm_lit"
KIT = "book"  # the folder of the lab kit
# Python itself provides these names in every module.
GIVEN = set(dir(builtins)) | {"__name__", "__file__", "__doc__", "__package__"}
KIT_REFUSED = (
    "{name} belongs to the lab kit of the chapters, which the package never imports; "
    "do without it, or tag the cell export.book.NAME"
)
KIT_IMPORT = re.compile(
    rf"(from|import) {PACKAGE}\.{KIT}\b|from {PACKAGE} import {KIT}\b"
)
# Calls that a module-level constant may make: cheap, and without side effects.
CHEAP_CALLS = {"frozenset", "tuple", "TypeVar", "NewType"}


@dataclass
class Block:
    """One exported cell, its chapter, and its statements without imports."""

    chapter: Chapter
    order: int
    cell: Cell
    body: list[ast.stmt]


@dataclass
class Module:
    """All blocks of one module, with what it defines and what it imports."""

    name: str
    blocks: list[Block] = field(default_factory=list)
    docstring: str | None = None
    defined: dict[str, str] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)

    @property
    def public(self) -> list[str]:
        return sorted(name for name in self.defined if not name.startswith("_"))

    @property
    def file(self) -> str:
        return self.name.replace(".", "/") + ".py"

    @property
    def is_front(self) -> bool:
        """Does it only open a package, the whole or a folder of it?"""
        return self.name.rpartition(".")[2] in ("__init__", "__main__")


class Refused(Exception):
    """The chapters cannot be exported; each message names a file and a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def defined_names(stmt: ast.stmt) -> list[str]:
    """Names that a top-level statement binds."""
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [stmt.name]
    if isinstance(stmt, ast.Assign):
        return [t.id for t in stmt.targets if isinstance(t, ast.Name)]
    if isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name):
        return [stmt.target.id]
    return []


def is_guard(stmt: ast.stmt) -> bool:
    """True for the two guards a module may hold: main, and types only."""
    if not isinstance(stmt, ast.If):
        return False
    test = ast.unparse(stmt.test)
    return test == "TYPE_CHECKING" or test.startswith("__name__ == '__main__'")


def statement_problem(stmt: ast.stmt) -> str | None:
    """Why a top-level statement may not be exported, or None."""
    if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    if is_guard(stmt):
        return None
    if isinstance(stmt, ast.Assign | ast.AnnAssign) and defined_names(stmt):
        calls = [n for n in ast.walk(stmt) if isinstance(n, ast.Call)]
        bad = [c for c in calls if ast.unparse(c.func) not in CHEAP_CALLS]
        if not bad:
            return None
        return (
            f"the constant calls {ast.unparse(bad[0].func)}() at import; "
            "move the call into a function"
        )
    return (
        "a top-level statement in an exported cell; keep only definitions, "
        "imports and constants, and move the rest to a cell without the tag"
    )


def import_table(stmt: ast.stmt) -> dict[str, str]:
    """Bound name -> one import line, for an import statement."""
    table = {}
    if isinstance(stmt, ast.Import):
        for alias in stmt.names:
            bound = alias.asname or alias.name.split(".")[0]
            table[bound] = ast.unparse(ast.Import([alias]))
    elif isinstance(stmt, ast.ImportFrom) and stmt.level == 0:
        for alias in stmt.names:
            bound = alias.asname or alias.name
            table[bound] = ast.unparse(ast.ImportFrom(stmt.module, [alias], 0))
    return table


def package_imports(
    tree: ast.AST, folders: Container[str] = ()
) -> list[tuple[str, int]]:
    """(module, line) of each import of our own package, at any depth of the code.

    `from ddpm_lit.book import checks` imports a module when `book` is a folder.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            head, _, rest = node.module.partition(".")
            if head != PACKAGE:
                continue
            names = [a.name for a in node.names]
            if rest in folders:
                names = [f"{rest}.{name}" for name in names]
            elif rest:
                names = [rest]
            found += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                head, _, rest = alias.name.partition(".")
                if head == PACKAGE and rest:
                    found.append((rest, node.lineno))
    return found


def in_kit(module: str) -> bool:
    """Is this a module of the lab kit, `book` or `book.checks`?"""
    return module.partition(".")[0] == KIT


def module_problem(name: str) -> str | None:
    """Why `export.<name>` names no module, or None."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return f"export.{name} names no module: {name!r} is no Python name"
    if len(parts) > 2:
        return f"export.{name} lies too deep; a module lies in one folder at most"
    return None


def global_names(source: str) -> set[str]:
    """Names that the source looks up in its module's globals."""
    used: set[str] = set()

    def visit(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            at_top = table.get_type() == "module"
            if symbol.is_referenced() and (at_top or symbol.is_global()):
                used.add(symbol.get_name())
        for child in table.get_children():
            visit(child)

    visit(symtable.symtable(source, "<module>", "exec"))
    return used


def name_line(block: Block, name: str) -> int:
    """Chapter line where a block first uses a name."""
    for stmt in block.body:
        for node in ast.walk(stmt):
            if isinstance(node, ast.Name) and node.id == name:
                return block.cell.line + node.lineno - 1
    return block.cell.line


class Exporter:
    """Turns chapters into the text of every file of the package."""

    def __init__(self, chapters: list[Chapter]) -> None:
        self.chapters = chapters
        self.modules: dict[str, Module] = {}
        self.problems: list[str] = []
        self.first_chapter: dict[str, int] = {}
        self.offered: dict[str, str] = {}

    def refuse(self, chapter: Chapter, line: int, reason: str) -> None:
        self.problems.append(f"{chapter.where(line)}: {reason}")

    def run(self) -> dict[str, str]:
        """File name -> text, for every file of the package.

        Raises Refused with all problems found.
        """
        trees = self._parse()
        self._check_package_imports(trees)
        self._collect(trees)
        self._resolve(trees)
        self._collect_offered()
        if self.problems:
            raise Refused(sorted(self.problems))
        files = {m.file: self._render(m) for m in self.modules.values()}
        for folder in sorted(self.folders):
            files.setdefault(f"{folder}/__init__.py", front_of(folder))
        files = ruff_format(files)
        files["py.typed"] = ""
        return files

    def _parse(self) -> list[list[ast.Module | None]]:
        """One syntax tree per code cell; exported cells must be plain Python."""
        trees = []
        for chapter in self.chapters:
            row: list[ast.Module | None] = []
            for cell in chapter.cells:
                exported = cell.tagged("export")
                magic = [
                    i
                    for i, line in enumerate(cell.source.splitlines())
                    if line.lstrip().startswith(("%", "!"))
                ]
                try:
                    row.append(ast.parse(cell.source))
                except SyntaxError as error:
                    row.append(None)
                    if exported and magic:
                        self.refuse(
                            chapter,
                            cell.line + magic[0],
                            "a magic in an exported cell; a package has no notebook",
                        )
                    elif exported or not magic:
                        self.refuse(
                            chapter,
                            cell.line + (error.lineno or 1) - 1,
                            f"syntax error: {error.msg}",
                        )
            trees.append(row)
        return trees

    @property
    def folders(self) -> set[str]:
        """The folders of the package, `book` for example."""
        return {name.partition(".")[0] for name in self.first_chapter if "." in name}

    def _check_package_imports(self, trees: list[list[ast.Module | None]]) -> None:
        """Reading order is dependency order, for every cell of every chapter.

        The lab kit stands outside that order: every chapter may import it, and the
        package never does.
        """
        for order, chapter in enumerate(self.chapters):
            for cell in chapter.cells:
                for module in cell.tagged("export"):
                    self.first_chapter.setdefault(module, order)
        for folder in self.folders & set(self.first_chapter):
            chapter = self.chapters[self.first_chapter[folder]]
            cell = next(c for c in chapter.cells if folder in c.tagged("export"))
            self.refuse(
                chapter,
                cell.line,
                f"{PACKAGE}/{folder} is a folder already and cannot be a module too",
            )
        for order, (chapter, row) in enumerate(zip(self.chapters, trees, strict=True)):
            for cell, tree in zip(chapter.cells, row, strict=True):
                exported = cell.tagged("export")
                is_library = any(not in_kit(module) for module in exported)
                found = package_imports(tree, self.folders) if tree else []
                for module, line in found:
                    problem = self._import_problem(module, order, is_library)
                    if problem:
                        self.refuse(chapter, cell.line + line - 1, problem)

    def _import_problem(self, module: str, order: int, is_library: bool) -> str | None:
        """Why a cell may not import a module of our package, or None."""
        if in_kit(module) and is_library:
            return KIT_REFUSED.format(name=f"{PACKAGE}.{module}")
        first = self.first_chapter.get(module)
        if first is None and module not in self.folders:
            return f"no chapter exports {PACKAGE}.{module}"
        if first is not None and first > order and not in_kit(module):
            later = self.chapters[first].path.name
            return (
                f"imports {PACKAGE}.{module}, which a later chapter ({later}) exports; "
                "reading order is dependency order"
            )
        return None

    def _collect(self, trees: list[list[ast.Module | None]]) -> None:
        """Sort the statements of exported cells into modules."""
        for order, (chapter, row) in enumerate(zip(self.chapters, trees, strict=True)):
            for cell, tree in zip(chapter.cells, row, strict=True):
                modules = cell.tagged("export")
                if len(modules) > 1:
                    self.refuse(chapter, cell.line, "a cell exports to one module only")
                problem = module_problem(modules[0]) if modules else None
                if problem:
                    self.refuse(chapter, cell.line, problem)
                elif modules and tree is not None:
                    module = self.modules.setdefault(modules[0], Module(modules[0]))
                    self._add(module, chapter, order, cell, tree)

    def _add(
        self, module: Module, chapter: Chapter, order: int, cell: Cell, tree: ast.Module
    ) -> None:
        """Add one exported cell to its module."""
        body = list(tree.body)
        first = body[0] if body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            if module.blocks or not isinstance(first.value.value, str):
                self.refuse(
                    chapter,
                    cell.line,
                    "only the first cell of a module may begin with a docstring",
                )
            module.docstring = ast.get_source_segment(cell.source, first)
            body = body[1:]
        kept = []
        for stmt in body:
            line = cell.line + stmt.lineno - 1
            if isinstance(stmt, ast.Import | ast.ImportFrom):
                module.imports.update(import_table(stmt))
                continue
            problem = statement_problem(stmt)
            if problem:
                self.refuse(chapter, line, problem)
                continue
            for name in defined_names(stmt):
                here = chapter.where(line)
                if name in module.defined:
                    self.refuse(
                        chapter,
                        line,
                        f"{name} is already defined at {module.defined[name]}",
                    )
                module.defined.setdefault(name, here)
            kept.append(stmt)
        module.blocks.append(Block(chapter, order, cell, kept))

    def _resolve(self, trees: list[list[ast.Module | None]]) -> None:
        """Find every name a module uses: defined, imported, or refused."""
        homes: dict[str, tuple[str, str]] = {}
        for module in self.modules.values():
            for name in module.public:
                if name in homes and not module.is_front:
                    chapter, line = self._at(module.defined[name])
                    self.refuse(
                        chapter,
                        line,
                        f"{name} is already exported to {homes[name][0]} at "
                        f"{homes[name][1]}; public names are unique",
                    )
                homes.setdefault(name, (module.name, module.defined[name]))
        for module in self.modules.values():
            for block in module.blocks:
                text = "\n".join(ast.unparse(stmt) for stmt in block.body)
                for name in sorted(global_names(text) - GIVEN):
                    self._find(module, block, name, trees)

    def _at(self, where: str) -> tuple[Chapter, int]:
        path, _, line = where.rpartition(":")
        chapter = next(c for c in self.chapters if path.endswith(c.path.name))
        return chapter, int(line)

    def _find(
        self,
        module: Module,
        block: Block,
        name: str,
        trees: list[list[ast.Module | None]],
    ) -> None:
        """Resolve one global name of a block, or refuse it."""
        if name in module.defined or name in module.imports:
            return
        kit = in_kit(module.name)
        for other in self.modules.values():
            if name in other.defined and other.name != module.name:
                is_before = self.first_chapter[other.name] <= block.order
                if in_kit(other.name) and not kit:
                    continue
                if is_before or in_kit(other.name):
                    line = f"from {PACKAGE}.{other.name} import {name}"
                    module.imports[name] = line
                    return
        for cell, tree in zip(block.chapter.cells, trees[block.order], strict=True):
            if cell.line >= block.cell.line:
                break
            for stmt in tree.body if tree else []:
                line = import_table(stmt).get(name)
                if line and not kit and KIT_IMPORT.match(line):
                    self.refuse(
                        block.chapter,
                        name_line(block, name),
                        KIT_REFUSED.format(name=name),
                    )
                    return
                if line:
                    module.imports[name] = line
                    return
        self.refuse(
            block.chapter,
            name_line(block, name),
            f"{name} is not defined in {PACKAGE}/{module.file}: define or import "
            "it in an exported cell, or import it in an earlier cell of this chapter "
            "(only the notebook knows it)",
        )

    def _render(self, module: Module) -> str:
        """Text of one module, before formatting."""
        names = dict.fromkeys(f"chapters/{b.chapter.path.name}" for b in module.blocks)
        parts = [
            "# Generated by `make export` from:\n"
            + "".join(f"#   {name}\n" for name in names)
            + "# Do not edit: change the chapter instead."
        ]
        if module.docstring:
            parts.append(module.docstring)
        lines = set(module.imports.values())
        if module.name == "__init__":
            lines.add("from typing import TYPE_CHECKING")
        parts.append("\n".join(sorted(lines)))
        if module.name == "__init__":
            parts.append(self._lazy_imports())
        elif not module.is_front:
            parts.append(f"__all__ = {module.public!r}")
        for block in module.blocks:
            code = strip_imports(block)
            if module.name == "__init__":
                code = self._fill_lazy_table(code)
            elif not module.is_front:
                code = with_places(code, block.chapter)
            parts.append(f"# chapters/{block.chapter.path.name}\n{code}")
        return "\n\n".join(parts) + "\n"

    def _homes(self) -> dict[str, str]:
        """Public name -> its module, for every module."""
        return {
            name: module.name
            for module in self.modules.values()
            if not module.is_front
            for name in module.public
        }

    def _collect_offered(self) -> None:
        """The names in `__all__` of the package, each with the module it is in."""
        homes = self._homes()
        front = self.modules.get("__init__", Module("__init__"))
        for block in front.blocks:
            for stmt in block.body:
                if defined_names(stmt) != ["__all__"]:
                    continue
                assert isinstance(stmt, ast.Assign | ast.AnnAssign)
                listed = getattr(stmt.value, "elts", [])
                for item in listed:
                    name = item.value if isinstance(item, ast.Constant) else None
                    problem = self._offer_problem(name, homes)
                    if problem:
                        line = block.cell.line + item.lineno - 1
                        self.refuse(block.chapter, line, problem)
                    else:
                        self.offered[str(name)] = homes[str(name)]

    def _offer_problem(self, name: object, homes: dict[str, str]) -> str | None:
        """Why `__all__` of the package may not hold this, or None."""
        if not isinstance(name, str):
            return "write each name of __all__ as a string"
        if name in self.offered:
            return f"{name} stands in __all__ twice"
        if name not in homes:
            return f"{name} stands in __all__, but no chapter exports it"
        if in_kit(homes[name]):
            return KIT_REFUSED.format(name=name)
        if name in self.modules or name in self.folders:
            return f"{name} stands in __all__, but a module has that name too"
        return None

    def _lazy_imports(self) -> str:
        """The imports that only type checkers see."""
        lines = [
            f"    from {PACKAGE}.{module} import {name} as {name}"
            for name, module in sorted(self.offered.items())
        ]
        return "\n".join(["if TYPE_CHECKING:", *lines]) if lines else ""

    def _fill_lazy_table(self, code: str) -> str:
        """Put name -> module into the empty `_HOME_OF` table of the package."""
        empty = "_HOME_OF: dict[str, str] = {}"
        table = dict(sorted(self.offered.items()))
        return code.replace(empty, f"_HOME_OF: dict[str, str] = {table!r}")


def front_of(folder: str) -> str:
    """The `__init__.py` of a folder for which no chapter writes one."""
    return (
        "# Generated by `make export`.\n"
        "# Do not edit: change the chapters instead.\n\n"
        f'"""The modules of {PACKAGE}.{folder}."""\n'
    )


def strip_imports(block: Block) -> str:
    """The cell's text without its top-level imports and module docstring."""
    lines = block.cell.source.splitlines()
    tree = ast.parse(block.cell.source)
    drop: set[int] = set()
    for i, stmt in enumerate(tree.body):
        doc = i == 0 and isinstance(stmt, ast.Expr)
        if doc or isinstance(stmt, ast.Import | ast.ImportFrom):
            drop |= set(range(stmt.lineno, (stmt.end_lineno or stmt.lineno) + 1))
    kept = [line for i, line in enumerate(lines, 1) if i not in drop]
    return "\n".join(kept).strip("\n")


def place_of(chapter: Chapter) -> str:
    """`Explained in chapter 2, The diffusion kernel.`"""
    kind = "chapter" if chapter.number.isdigit() else "appendix"
    stop = "" if chapter.title.endswith(("?", "!", ".")) else "."
    return f"Explained in {kind} {chapter.number}, {chapter.title}{stop}"


def with_places(code: str, chapter: Chapter) -> str:
    """The code with the place in the book as the last line of each public docstring,
    so that `help()` leads back to the page."""
    lines = code.splitlines()
    for stmt in reversed(ast.parse(code).body):
        if not isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if stmt.name.startswith("_") or ast.get_docstring(stmt) is None:
            continue
        text = stmt.body[0]
        first, last = text.lineno - 1, text.end_lineno or text.lineno
        lines[first:last] = placed(lines[first:last], place_of(chapter))
    return "\n".join(lines)


def placed(docstring: list[str], place: str) -> list[str]:
    """The lines of a docstring in triple quotes, with one more at the end."""
    written = "\n".join(docstring)
    quotes = written.rstrip()[-3:]
    body = written.rstrip()[:-3].rstrip()
    # A docstring that was copied back from the package has its line already.
    body = re.sub(r"\n\s*\n *Explained in (chapter|appendix) .*\Z", "", body)
    margin = " " * (len(docstring[0]) - len(docstring[0].lstrip()))
    return [*body.split("\n"), "", margin + place, margin + quotes]


def ruff_format(files: dict[str, str]) -> dict[str, str]:
    """Sort imports and format, with fixed settings so that bytes are stable."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        ruff = [sys.executable, "-m", "ruff"]
        first_party = f'lint.isort.known-first-party=["{PACKAGE}"]'
        steps = [
            ["check", "--select", "I", "--fix", "--config", first_party],
            ["format"],
        ]
        for step in steps:
            command = [*ruff, *step, "--isolated", "--quiet", folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"ruff failed: {done.stdout}{done.stderr}")
        return {name: (Path(folder) / name).read_text("utf-8") for name in files}


def python_files(package: Path) -> set[str]:
    """The Python files of a package, by their paths in it."""
    return {path.relative_to(package).as_posix() for path in package.rglob("*.py")}


def stale_files(files: dict[str, str], package: Path) -> list[str]:
    """A unified diff for each file that is missing, changed or superfluous."""
    report = []
    for name in sorted(set(files) | python_files(package)):
        path = package / name
        have = path.read_text("utf-8") if path.exists() else ""
        want = files.get(name, "")
        if name not in files:
            report.append(f"{PACKAGE}/{name}: no chapter exports it; delete it")
        elif not path.exists():
            report.append(f"{PACKAGE}/{name}: missing")
        elif have != want:
            diff = difflib.unified_diff(
                have.splitlines(), want.splitlines(), "committed", "chapters", n=1
            )
            report.append(f"{PACKAGE}/{name}: differs\n" + "\n".join(list(diff)[:20]))
    return report


def write_files(files: dict[str, str], package: Path) -> list[str]:
    """Write what changed; return the names written or removed."""
    package.mkdir(exist_ok=True)
    touched = []
    for name, text in sorted(files.items()):
        path = package / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            touched.append(name)
    for name in sorted(python_files(package) - set(files)):
        path = package / name
        path.unlink()
        touched.append(f"{name} (removed)")
        # A folder without a file would still be imported, as an empty package.
        if path.parent != package and not any(path.parent.glob("*.py")):
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    return touched


def file_of(place: str, files: dict[str, str]) -> str | None:
    """The file of the package that a path ends with: `book/checks.py`, `forward.py`."""
    parts = Path(place).parts
    known = ("/".join(parts[-count:]) for count in (2, 1) if count <= len(parts))
    return next((name for name in known if name in files), None)


def locate(exporter: Exporter, files: dict[str, str], place: str) -> str:
    """`chapters/NN-name.md:LINE` for `module.py:LINE`.

    Raises ValueError for an unknown module or a line that no chapter wrote.
    """
    path, _, number = place.rpartition(":")
    name = file_of(path, files)
    if not number.isdigit() or name is None:
        known = ", ".join(sorted(n for n in files if n.endswith(".py")))
        raise ValueError(f"{place!r} is not MODULE.py:LINE with a module of {known}")
    lines = files[name].splitlines()
    line = int(number)
    if not 1 <= line <= len(lines):
        raise ValueError(f"{name} has {len(lines)} lines, not {line}")
    marks = [i for i, text in enumerate(lines) if text.startswith("# chapters/")]
    before = [k for k, i in enumerate(marks) if i < line]
    if not before:
        raise ValueError(f"{name}:{line} is in the header that the exporter writes")
    k = before[-1]
    block = exporter.modules[name[:-3].replace("/", ".")].blocks[k]
    end = marks[k + 1] if k + 1 < len(marks) else len(lines)
    ours, theirs = lines[marks[k] : end], block.cell.source.splitlines()
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    target, offset = line - 1 - marks[k], 0
    for a, b, size in matcher.get_matching_blocks():
        if a <= target:
            offset = min(b + target - a, len(theirs) - 1) if size else offset
    return block.chapter.where(block.cell.line + offset)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when all is well, 1 when refused or out of sync."""
    parser = argparse.ArgumentParser(description="write the package from the chapters")
    parser.add_argument("--root", type=Path, default=Path.cwd())
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    parser.add_argument("--locate", metavar="MODULE.py:LINE")
    args = parser.parse_args(argv)
    try:
        exporter = Exporter(read_chapters(args.root / "chapters"))
        files = exporter.run()
        if args.locate:
            print(locate(exporter, files, args.locate))
            return 0
    except (Refused, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    package = args.root / PACKAGE
    if args.check:
        report = stale_files(files, package)
        if report:
            print("\n".join(report), file=sys.stderr)
            print("run `make export` to bring the package in sync", file=sys.stderr)
        return 1 if report else 0
    touched = write_files(files, package)
    print(f"{PACKAGE}/: " + (", ".join(touched) if touched else "nothing to change"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
