"""Write the package from the chapters.

    python tools/export.py                      write ddpm_lit/
    python tools/export.py --check              fail when ddpm_lit/ is not in sync
    python tools/export.py --locate forward.py:30   the chapter line it comes from

A code cell tagged `export.<module>` goes to `ddpm_lit/<module>.py`.
The cells of a module are joined in reading order; imports come from the exported
cells or from any earlier cell of the same chapter, and names that another exported
cell defined are imported from its module.
The docstring of each public name ends with the chapter that explains it.
The same chapters always give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import difflib
import re
import subprocess
import symtable
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from chapters import Cell, Chapter, read_chapters

PACKAGE = "ddpm_lit"
# Python itself provides these names in every module.
GIVEN = set(dir(builtins)) | {"__name__", "__file__", "__doc__", "__package__"}
# For the time in which names move from one page to another: these modules may define
# what an earlier page exports too, and the package goes on to give the earlier one.
NEW_HOMES = ("data2", "images", "datasets")
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


def package_imports(tree: ast.AST) -> list[tuple[str, int]]:
    """(module, line) of each import of our own package, at any depth."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            head, _, rest = node.module.partition(".")
            if head == PACKAGE:
                names = [rest.split(".")[0]] if rest else [a.name for a in node.names]
                found += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                head, _, rest = alias.name.partition(".")
                if head == PACKAGE and rest:
                    found.append((rest.split(".")[0], node.lineno))
    return found


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
        if self.problems:
            raise Refused(sorted(self.problems))
        files = {f"{m.name}.py": self._render(m) for m in self.modules.values()}
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

    def _check_package_imports(self, trees: list[list[ast.Module | None]]) -> None:
        """Reading order is dependency order, for every cell of every chapter."""
        for order, chapter in enumerate(self.chapters):
            for cell in chapter.cells:
                for module in cell.tagged("export"):
                    self.first_chapter.setdefault(module, order)
        for order, (chapter, row) in enumerate(zip(self.chapters, trees, strict=True)):
            for cell, tree in zip(chapter.cells, row, strict=True):
                for module, line in package_imports(tree) if tree else []:
                    where = cell.line + line - 1
                    first = self.first_chapter.get(module)
                    if first is None:
                        self.refuse(
                            chapter, where, f"no chapter exports {PACKAGE}.{module}"
                        )
                    elif first > order:
                        later = self.chapters[first].path.name
                        self.refuse(
                            chapter,
                            where,
                            f"imports {PACKAGE}.{module}, which a later chapter "
                            f"({later}) exports; reading order is dependency order",
                        )

    def _collect(self, trees: list[list[ast.Module | None]]) -> None:
        """Sort the statements of exported cells into modules."""
        for order, (chapter, row) in enumerate(zip(self.chapters, trees, strict=True)):
            for cell, tree in zip(chapter.cells, row, strict=True):
                modules = cell.tagged("export")
                if len(modules) > 1:
                    self.refuse(chapter, cell.line, "a cell exports to one module only")
                if modules and tree is not None:
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
                named = module.name not in ("__init__", "__main__", *NEW_HOMES)
                if name in homes and named:
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
        for other in self.modules.values():
            if name in other.defined and other.name != module.name:
                home = self.first_chapter[other.name]
                if home <= block.order:
                    line = f"from {PACKAGE}.{other.name} import {name}"
                    module.imports[name] = line
                    return
        for cell, tree in zip(block.chapter.cells, trees[block.order], strict=True):
            if cell.line >= block.cell.line:
                break
            for stmt in tree.body if tree else []:
                line = import_table(stmt).get(name)
                if line:
                    module.imports[name] = line
                    return
        self.refuse(
            block.chapter,
            name_line(block, name),
            f"{name} is not defined in {PACKAGE}/{module.name}.py: define or import "
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
        elif module.name != "__main__":
            parts.append(f"__all__ = {module.public!r}")
        for block in module.blocks:
            code = strip_imports(block)
            if module.name == "__init__":
                code = self._fill_lazy_table(code)
            elif module.name != "__main__":
                code = with_places(code, block.chapter)
            parts.append(f"# chapters/{block.chapter.path.name}\n{code}")
        return "\n\n".join(parts) + "\n"

    def _public_homes(self) -> dict[str, str]:
        homes: dict[str, str] = {}
        for module in self.modules.values():
            if module.name not in ("__init__", "__main__"):
                for name in module.public:
                    homes.setdefault(name, module.name)
        return homes

    def _lazy_imports(self) -> str:
        """`__all__` and the imports that only type checkers see."""
        homes = sorted(self._public_homes().items())
        lines = [f"__all__ = {[name for name, _ in homes]!r}"]
        lines += ["", "if TYPE_CHECKING:"]
        lines += [
            f"    from {PACKAGE}.{module} import {name} as {name}"
            for name, module in homes
        ]
        return "\n".join(lines)

    def _fill_lazy_table(self, code: str) -> str:
        """Put name -> module into the empty `_HOME_OF` table of chapter 00."""
        empty = "_HOME_OF: dict[str, str] = {}"
        table = dict(sorted(self._public_homes().items()))
        return code.replace(empty, f"_HOME_OF: dict[str, str] = {table!r}")


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
            (Path(folder) / name).write_text(text, encoding="utf-8")
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


def stale_files(files: dict[str, str], package: Path) -> list[str]:
    """A unified diff for each file that is missing, changed or superfluous."""
    report = []
    names = set(files) | {p.name for p in package.glob("*.py")}
    for name in sorted(names):
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
            path.write_text(text, encoding="utf-8")
            touched.append(name)
    for path in package.glob("*.py"):
        if path.name not in files:
            path.unlink()
            touched.append(f"{path.name} (removed)")
    return touched


def locate(exporter: Exporter, files: dict[str, str], place: str) -> str:
    """`chapters/NN-name.md:LINE` for `module.py:LINE`.

    Raises ValueError for an unknown module or a line that no chapter wrote.
    """
    name, _, number = place.rpartition(":")
    name = Path(name).name
    if not number.isdigit() or name not in files:
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
    block = exporter.modules[name[:-3]].blocks[k]
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
