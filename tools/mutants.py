"""Plant known bugs into copies of the book, one at a time, and see them found.

    python tools/mutants.py             every bug of tests/mutants.toml, and every slip
                                        of the pen in print (tools/slips.py)
    python tools/mutants.py NAME ...    the bugs whose name contains one of the words

A bug goes into the chapter's exported cell and into the package alike. It counts as
found only when the check that the catalogue names fails by its own assertion: a crash
on the way there, or another check that fails first, does not count. Each named check
must also pass on the book as it is. Exit status 1 when a bug is not found so.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import signal
import subprocess
import symtable
import sys
import tempfile
import time
import tomllib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from export import global_names

from chapters import Cell, Chapter, read_chapters

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2
SECONDS = 180  # for one check; a bug may also make an endless loop
# Imported once, so that each check starts in a process that has them already.
HEAVY = (
    "torch",
    "matplotlib.pyplot",
    "scipy.linalg",
    "sympy",
    "seaborn",
    "ipywidgets",
    "sklearn.datasets",
    "sklearn.neural_network",
    "safetensors.torch",
    "PIL.Image",
    "tqdm.auto",
    "hypothesis",
    "pytest",
)


def module_file(root: Path, module: str) -> Path:
    """The file of `forward`, or of `book.checks`."""
    return root / "ddpm_lit" / f"{module.replace('.', '/')}.py"


class CatalogueError(Exception):
    """The catalogue and the book do not fit; the text says where."""


@dataclass(frozen=True)
class Mutant:
    """One bug: the text it replaces in a module, and the check that finds it.

    `killed_by` is "tests/FILE.py::TEST", or a chapter followed by a tag `check.*` or
    by any words that stand in one cell of that chapter only. `source` says who met
    the bug, `callout` is the title of the chapter's box about it.
    """

    name: str
    module: str
    wrong: str
    find: str
    replace: str
    killed_by: str
    source: str = ""
    callout: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of one check: passed, killed, elsewhere (another check failed
    first) or crashed (an error that is no assertion)."""

    status: str
    message: str = ""
    seconds: float = 0.0


def read_catalogue(path: Path) -> list[Mutant]:
    """The bugs in the order of the file; raises CatalogueError for a bad entry."""
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["mutant"]
        mutants = [Mutant(**entry) for entry in entries]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path.name}: {error}") from None
    names = [mutant.name for mutant in mutants]
    for name in names:
        if names.count(name) > 1:
            raise CatalogueError(f"{path.name}: two mutants are called {name!r}")
    return mutants


@dataclass(frozen=True)
class Book:
    """The chapters and the folder that holds them and the package."""

    root: Path
    chapters: dict[str, Chapter]

    @staticmethod
    def read(root: Path) -> Book:
        chapters = read_chapters(root / "chapters")
        return Book(root, {f"chapters/{c.path.name}": c for c in chapters})

    def check(self, killed_by: str) -> tuple[Chapter, int]:
        """The chapter and the number of the cell that `killed_by` names."""
        path, _, wanted = killed_by.partition(" ")
        if path not in self.chapters:
            raise CatalogueError(f"{killed_by!r} names no chapter")
        chapter = self.chapters[path]
        tagged = wanted.startswith("check.")
        found = [
            number
            for number, cell in enumerate(chapter.cells)
            if (wanted in cell.tags if tagged else wanted in cell.source)
        ]
        if len(found) != 1:
            raise CatalogueError(f"{killed_by!r} fits {len(found)} cells, not one")
        return chapter, found[0]

    def module_text(self, module: str) -> str:
        return module_file(self.root, module).read_text("utf-8")

    def validate(self, mutant: Mutant) -> None:
        """Raise CatalogueError unless the bug can be planted, once, and its check
        and callout exist."""
        cells = [
            cell.source
            for chapter in self.chapters.values()
            for cell in chapter.cells
            if mutant.module in cell.tagged("export")
        ]
        text = self.module_text(mutant.module)
        for where, count in (
            ("the chapters", sum(source.count(mutant.find) for source in cells)),
            ("the package", text.count(mutant.find)),
        ):
            if count != 1:
                raise CatalogueError(
                    f"{mutant.name}: its text stands {count} times in the module "
                    f"{mutant.module} of {where}; it must stand there once"
                )
        if mutant.killed_by.startswith("tests/"):
            path, _, test = mutant.killed_by.partition("::")
            file, function = self.root / path, test.partition("[")[0]
            if not file.is_file() or f"def {function}(" not in file.read_text("utf-8"):
                raise CatalogueError(f"{mutant.name}: no test {mutant.killed_by}")
        else:
            self.check(mutant.killed_by)
        titles = "\n".join(chapter.text for chapter in self.chapters.values())
        if mutant.callout and f"}} Common mistake: {mutant.callout}\n" not in titles:
            raise CatalogueError(
                f"{mutant.name}: no callout 'Common mistake: {mutant.callout}'"
            )


def pieces(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Statements in the order in which they run, loops and the like taken apart."""
    for node in body:
        match node:
            case ast.For():
                yield ast.Expr(node.iter)
                yield ast.Assign([node.target], ast.Constant(None), lineno=0)
            case ast.With():
                for item in node.items:
                    target = item.optional_vars or ast.Name("_", ast.Store())
                    yield ast.Assign([target], item.context_expr, lineno=0)
            case ast.If() | ast.While():
                yield ast.Expr(node.test)
            case ast.Try() | ast.ExceptHandler():
                pass
            case _:
                yield node
                continue
        for part in ("body", "handlers", "orelse", "finalbody"):
            yield from pieces(getattr(node, part, []))


@dataclass(frozen=True)
class Names:
    """Names that a cell gives a value, and those that it needs from earlier cells."""

    bound: frozenset[str]
    needed: frozenset[str]

    @staticmethod
    def of(source: str) -> Names:
        bound: set[str] = set()
        needed: set[str] = set()
        later: set[str] = set()  # looked up when a function is called
        for piece in pieces(ast.parse(source).body):
            text = ast.unparse(piece)
            is_function = isinstance(piece, ast.FunctionDef)
            (later if is_function else needed).update(global_names(text) - bound)
            symbols = symtable.symtable(text, "<piece>", "exec").get_symbols()
            bound |= {s.get_name() for s in symbols if s.is_assigned()}
            bound |= {s.get_name() for s in symbols if s.is_imported()}
        return Names(frozenset(bound), frozenset(needed | (later - bound)))


def needed_cells(cells: list[Cell], target: int) -> list[int]:
    """The cells that `cells[target]` depends on, and itself, in reading order.

    Backwards from the target: a cell is needed when it binds a name that is wanted
    by then; what it needs is wanted from the cells before it. A function may look up
    what a later cell defines: such names are wanted from the start, once known.
    """
    names = [Names.of(cell.source) for cell in cells[: target + 1]]
    everything = frozenset().union(*(each.bound for each in names))
    from_start = names[target].needed
    while True:
        wanted, needed = from_start, [target]
        for number in range(target - 1, -1, -1):
            if names[number].bound & wanted:
                wanted = (wanted - names[number].bound) | names[number].needed
                needed.append(number)
        late = (wanted & everything) - from_start
        if not late:
            return needed[::-1]
        from_start |= late


def planted(chapter: Chapter, mutant: Mutant | None) -> list[Cell]:
    """The chapter's cells with the bug in its exported cell."""
    if mutant is None:
        return chapter.cells
    return [
        replace(cell, source=cell.source.replace(mutant.find, mutant.replace))
        if mutant.module in cell.tagged("export")
        else cell
        for cell in chapter.cells
    ]


def write_copy(book: Book, mutant: Mutant | None, folder: Path) -> None:
    """Package and tests in a folder of their own, with the bug planted."""
    for name in ("ddpm_lit", "tests"):
        for path in (book.root / name).rglob("*"):
            if path.suffix not in (".py", ".xz"):  # code, and data of the lab kit
                continue
            copy = folder / path.relative_to(book.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (folder / "chapters").mkdir()
    if mutant is not None:
        text = book.module_text(mutant.module).replace(mutant.find, mutant.replace)
        module_file(folder, mutant.module).write_text(text, encoding="utf-8")


def first_line(error: BaseException) -> str:
    """An error in one line: its text for an assertion, else also its kind."""
    text = (str(error).strip() or "(no message)").splitlines()[0]
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return kind + text


def run_cells(chapter: Chapter, cells: list[Cell], target: int) -> Verdict:
    """Run what the target cell needs, then the target."""
    notebook = types.ModuleType("notebook")
    sys.modules["notebook"] = notebook  # dataclasses look their module up
    for number in needed_cells(cells, target):
        where = chapter.where(cells[number].line)
        try:
            code = compile(cells[number].source, where, "exec", dont_inherit=True)
            exec(code, vars(notebook))
        except Exception as error:
            if not isinstance(error, AssertionError):
                return Verdict("crashed", f"{where}: {first_line(error)}")
            status = "killed" if number == target else "elsewhere"
            at = "" if number == target else f"{where}: "
            return Verdict(status, at + first_line(error))
    return Verdict("passed")


def run_test(folder: Path, test: str) -> Verdict:
    """Run one pytest test of the copy."""
    import pytest

    verdicts: list[Verdict] = []

    class Watch:
        def pytest_exception_interact(self, call: pytest.CallInfo) -> None:
            assert call.excinfo is not None
            error = call.excinfo.value
            by_assertion = isinstance(error, AssertionError | pytest.fail.Exception)
            own = by_assertion and call.when == "call"
            verdicts.append(Verdict("killed" if own else "crashed", first_line(error)))

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]
    status = pytest.main([*options, "--rootdir", str(folder), test], [Watch()])
    if verdicts:
        return verdicts[0]
    return Verdict("crashed" if status else "passed", "no test ran" if status else "")


def out_of_time(*_: object) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s")


def run_check(book: Book, killed_by: str, mutant: Mutant | None) -> Verdict:
    """One check in this process, on a copy of the book with or without a bug."""
    began = time.perf_counter()
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        write_copy(book, mutant, folder)
        sys.path.insert(0, name)
        os.environ["PYTHONPATH"] = name  # for tests that start a process
        os.environ["DDPM_LIT_FIGURES"] = f"{name}/no-figures"
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            if killed_by.startswith("tests/"):
                os.chdir(folder)
                verdict = run_test(folder, killed_by)
            else:
                os.chdir(folder / "chapters")
                chapter, target = book.check(killed_by)
                verdict = run_cells(chapter, planted(chapter, mutant), target)
        os.chdir(book.root)
    return replace(verdict, seconds=time.perf_counter() - began)


Job = tuple[str, Mutant | None]


def run_job(book: Book, job: Job) -> Verdict:
    return run_check(book, *job)


def verdicts(book: Book, jobs: list[Job]) -> Iterator[Verdict]:
    """Run the jobs, each in a fresh copy of this process, in order."""
    context = multiprocessing.get_context("fork")
    with context.Pool(PROCESSES, maxtasksperchild=1) as pool:
        yield from pool.imap(functools.partial(run_job, book), jobs, chunksize=1)


def broken_checks(book: Book, checks: Iterable[str]) -> dict[str, str]:
    """The checks that fail although no bug is planted, with what they say."""
    names = list(dict.fromkeys(checks))
    jobs: list[Job] = [(name, None) for name in names]
    return {
        name: f"{verdict.status} without any bug: {verdict.message}"
        for name, verdict in zip(names, verdicts(book, jobs), strict=True)
        if verdict.status != "passed"
    }


def print_row(name: str, check: str, message: str, seconds: str) -> None:
    print(f"{name:50} {check:64.64} {message:80.80} {seconds:>5}", flush=True)


def hunt(book: Book, mutants: list[Mutant]) -> int:
    """Plant each bug and print the table; the number of bugs that were found."""
    broken = broken_checks(book, (mutant.killed_by for mutant in mutants))
    for check, complaint in broken.items():
        print(f"{check}: {complaint}", file=sys.stderr)
    found = 0
    print_row("bug", "killed by", "what the check says", "s")
    jobs: list[Job] = [(mutant.killed_by, mutant) for mutant in mutants]
    for mutant, verdict in zip(mutants, verdicts(book, jobs), strict=True):
        check = mutant.killed_by.removeprefix("chapters/").removeprefix("tests/")
        if mutant.killed_by in broken:
            check = "BROKEN CHECK"
        elif verdict.status == "passed":
            check = "SURVIVED"
        elif verdict.status != "killed":
            check = f"DIED ELSEWHERE, {verdict.status}"
        else:
            found += 1
        print_row(mutant.name, check, verdict.message, f"{verdict.seconds:.1f}")
    return found


def all_slips_found(root: Path) -> bool:
    """Slips in print are bugs as well. They run beside this process, which must not
    import the package itself."""
    if not (root / "tests" / "slips.yml").is_file():
        return True
    command = [sys.executable, ROOT / "tools" / "slips.py", "--root", root]
    return subprocess.run(command).returncode == 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant bugs and see them found.")
    parser.add_argument("words", nargs="*", help="take mutants with such a name only")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the book")
    options = parser.parse_args(argv)
    began = time.perf_counter()
    try:
        mutants = read_catalogue(options.root / "tests" / "mutants.toml")
        if options.words:
            mutants = [m for m in mutants if any(w in m.name for w in options.words)]
        book = Book.read(options.root.resolve())
        for mutant in mutants:
            book.validate(mutant)
    except CatalogueError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="agg")
    for name in HEAVY:
        importlib.import_module(name)
    found = hunt(book, mutants)
    seconds = time.perf_counter() - began
    print(f"{found} of {len(mutants)} bugs found ({seconds:.0f} s)", flush=True)
    slips_found = bool(options.words) or all_slips_found(options.root.resolve())
    return 0 if mutants and found == len(mutants) and slips_found else 1


if __name__ == "__main__":
    sys.exit(main())
