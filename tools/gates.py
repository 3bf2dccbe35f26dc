"""Every fast gate of the project: `make check` runs this file.

Each gate prints one line; a failing gate prints `chapters/NN-name.md:LINE: reason`
for each problem, and the exit status is 1.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import yaml
from ledger import (
    EQUATION,
    bibliography_problems,
    folder_of,
    line_of,
    origin_problems,
    origins,
    waived,
)
from mutants import Book, CatalogueError, read_catalogue

from chapters import NAMED_TAGS, TAGS, Cell, Chapter, read_chapters

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = re.compile(r"\{eq\}`(eq-[a-z0-9-]+)`")
CALLOUT = re.compile(
    r"^```\{admonition\}[^\n]*\n:class: slip\n"
    r"(?::label: (slip-[a-z0-9-]+)\n)?(.*?)^```",
    re.M | re.S,
)
LABEL = re.compile(r"^:?label: ([\w-]+)$", re.M)
HEADING = re.compile(r"^##+ (.+)$", re.M)
KINDS = ("wrong", "imprecise", "remark")  # of an erratum
MOST_NOT_YET = 20  # topics of the notes that wait for a later chapter
# conda calls one package by another name.
CONDA_NAMES = {"torch": "pytorch", "build": "python-build"}


def checked(chapters: list[Chapter]) -> dict[str, tuple[Chapter, Cell]]:
    """Label -> the first cell tagged `check.<label>`."""
    found: dict[str, tuple[Chapter, Cell]] = {}
    for chapter in chapters:
        for cell in chapter.cells:
            for label in cell.tagged("check"):
                found.setdefault(label, (chapter, cell))
    return found


def equation_problems(chapters: list[Chapter]) -> list[str]:
    """Labels without a check, checks without a label, doubles, dead references."""
    problems, labels, checks = [], {}, checked(chapters)
    excused = waived(folder_of(chapters))
    for chapter in chapters:
        for match in EQUATION.finditer(chapter.text):
            where = chapter.where(line_of(chapter.text, match.start()))
            label = match[1]
            if label in labels:
                problems.append(f"{where}: {label} is already used at {labels[label]}")
            labels.setdefault(label, where)
        for match in CALLOUT.finditer(chapter.text):
            if match[1]:
                labels[match[1]] = chapter.where(line_of(chapter.text, match.start()))
    for label, where in labels.items():
        if label in excused and label in checks:
            problems.append(
                f"{where}: {label} has a check; take its `waived` out of equations.yml"
            )
        elif label not in checks and label not in excused:
            problems.append(
                f"{where}: {label} has no check; tag a cell with check.{label}"
            )
    for label, (chapter, cell) in checks.items():
        if label not in labels:
            problems.append(
                f"{chapter.where(cell.line)}: check.{label} belongs to no equation "
                "or callout; label one, or correct the tag"
            )
        elif not asserts(cell):
            problems.append(
                f"{chapter.where(cell.line)}: check.{label} asserts nothing; use "
                "assert, check_error or check_number"
            )
    for chapter in chapters:
        for match in REFERENCE.finditer(chapter.text):
            if match[1] not in labels:
                where = chapter.where(line_of(chapter.text, match.start()))
                problems.append(f"{where}: no equation is labelled {match[1]}")
        for cell in chapter.cells:
            # What a docstring of the package names, its reference page links.
            named = re.finditer(r"\beq-[a-z0-9-]*[a-z0-9]", cell.source)
            problems += [
                f"{chapter.where(cell.line + line_of(cell.source, match.start()) - 1)}:"
                f" no equation is labelled {match[0]}"
                for match in named
                if cell.tagged("export") and match[0] not in labels
            ]
            problems += [
                f"{chapter.where(cell.line + node.lineno)}: the docstring of "
                f"{node.name} begins with a label, which its page turns into a number; "
                "begin in words"
                for node in ast.parse(cell.source).body
                if cell.tagged("export")
                and isinstance(node, ast.FunctionDef | ast.ClassDef)
                and (ast.get_docstring(node) or "").startswith("eq-")
                and not node.name.startswith("_")
            ]
    return problems


def asserts(cell: Cell) -> bool:
    """True when a cell can fail by its own words."""
    tree = ast.parse(cell.source)
    names = {"check_error", "check_number", "check_refused"}
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func) in names)
        for node in ast.walk(tree)
    )


def callout_problems(chapters: list[Chapter]) -> list[str]:
    """Numbers that a callout's check computes must stand in its text."""
    problems, checks = [], checked(chapters)
    for chapter in chapters:
        for match in CALLOUT.finditer(chapter.text):
            label, text = match[1], match[2]
            if label is None or label not in checks:
                continue
            where = chapter.where(line_of(chapter.text, match.start()))
            for node in ast.walk(ast.parse(checks[label][1].source)):
                called = isinstance(node, ast.Call)
                if called and ast.unparse(node.func) == "check_number":
                    stated = node.args[2].value
                    if stated not in text:
                        problems.append(
                            f"{where}: the check computes {stated}, which the text of "
                            f"{label} does not state"
                        )
    return problems


# How the cell of an answer ends, and what to say where it does not.
ANSWER_ENDS = {
    "solution": (
        r"^check_\w+\(\w+_solution\)$",
        "must end by calling its check, check_...({name}_solution), in a line of its "
        "own",
    ),
    "wrong": (
        r"^refuse\(check_\w+, {name}_wrong\b",
        "must call refuse(check_..., {name}_wrong, words of the hint)",
    ),
}


def exercise_problems(chapters: list[Chapter]) -> list[str]:
    """Each exercise has a stub, a hidden solution and a wrong answer."""
    problems = []
    for chapter in chapters:
        stubs, solutions, wrongs = {}, {}, {}
        for cell in chapter.cells:
            stubs |= dict.fromkeys(cell.tagged("exercise"), cell)
            solutions |= dict.fromkeys(cell.tagged("solution"), cell)
            wrongs |= dict.fromkeys(cell.tagged("wrong"), cell)
        for name, cell in stubs.items():
            where = chapter.where(cell.line)
            if name not in solutions:
                problems.append(
                    f"{where}: exercise.{name} has no solution; add a cell tagged "
                    f"hide-input and solution.{name}"
                )
            if f"def {name}(" not in cell.source:
                problems.append(f"{where}: exercise.{name} must define {name}()")
            if name not in wrongs:
                problems.append(
                    f"{where}: exercise.{name} shows no wrong answer; add a cell "
                    f"tagged wrong.{name} after its solution"
                )
        answers = [("solution", n, c) for n, c in solutions.items()]
        answers += [("wrong", n, c) for n, c in wrongs.items()]
        for kind, name, cell in answers:
            where = chapter.where(cell.line)
            if name not in stubs:
                problems.append(
                    f"{where}: {kind}.{name} has no exercise; tag the stub "
                    f"exercise.{name}"
                )
            if "hide-input" not in cell.tags:
                problems.append(f"{where}: {kind}.{name} must be tagged hide-input")
            ending, advice = ANSWER_ENDS[kind]
            if not re.search(ending.format(name=name), cell.source, re.M):
                problems.append(f"{where}: {kind}.{name} {advice.format(name=name)}")
    return problems


def targets(chapters: list[Chapter]) -> set[str]:
    """What notes.yml may point at: pages, their labels and their headings."""
    found = set()
    for chapter in chapters:
        page = chapter.path.stem
        names = EQUATION.findall(chapter.text) + LABEL.findall(chapter.text)
        for heading in HEADING.findall(chapter.text):
            # The address that mystmd gives a heading.
            names.append(re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-"))
        found |= {page, *(f"{page}#{name}" for name in names)}
    return found


def notes_problems(chapters: list[Chapter], notes: dict[str, Any]) -> list[str]:
    """Each slip of the notes has a box, each box a slip, each topic a place."""
    problems, named = [], set()
    boxes = {match[1] for c in chapters for match in CALLOUT.finditer(c.text)} - {None}
    for row in notes["errata"]:
        where = f"chapters/notes.yml: errata, {row['where']}"
        box = row.get("callout")
        named.add(box)
        if row.get("kind") not in KINDS:
            problems.append(f"{where}: its kind must be one of {', '.join(KINDS)}")
        if not box and not row.get("not-yet"):
            problems.append(f"{where}: name a callout, or say why there is none yet")
        elif box and box not in boxes:
            problems.append(f"{where}: no callout is labelled {box}")
    problems += [
        f"chapters/notes.yml: no errata row names the callout {box}"
        for box in sorted(boxes - named)
    ]
    places = targets(chapters)
    for row in notes["coverage"]:
        where = f"chapters/notes.yml: coverage, S{row['note']}:{row['lines']}"
        if not row.get("treated") and not row.get("not-yet"):
            problems.append(f"{where}: say where it is treated, or which chapter will")
        problems += [
            f"{where}: {target} is no page, label or heading of the book"
            for target in row.get("treated", [])
            if target not in places
        ]
    waiting = sum("not-yet" in row for row in notes["coverage"])
    if waiting > MOST_NOT_YET:
        problems.append(
            f"chapters/notes.yml: {waiting} topics wait for a chapter, at most "
            f"{MOST_NOT_YET} may"
        )
    return problems


def read_notes() -> dict[str, Any]:
    """What the book says about the notes."""
    return yaml.safe_load((ROOT / "chapters/notes.yml").read_text("utf-8"))


def known(tag: str) -> bool:
    """`figure`, or `export.forward`: a kind that takes a name, and a name."""
    kind, dot, name = tag.partition(".")
    return kind in NAMED_TAGS and bool(name) if dot else tag in TAGS


def tag_problems(chapters: list[Chapter]) -> list[str]:
    """A misspelt tag would do nothing, quietly."""
    problems = []
    for chapter in chapters:
        for cell in chapter.cells:
            for tag in cell.tags:
                if known(tag):
                    continue
                forms = sorted(TAGS) + [f"{kind}.NAME" for kind in sorted(NAMED_TAGS)]
                problems.append(
                    f"{chapter.where(cell.line)}: no tool knows the tag {tag!r}; "
                    f"use one of {', '.join(forms)}"
                )
    return problems


def caption_problems(chapters: list[Chapter]) -> list[str]:
    """Each figure has a caption, and a label that no other has."""
    figures = [
        (chapter.where(cell.line), cell.metadata)
        for chapter in chapters
        for cell in chapter.cells
        if "figure" in cell.tags or cell.metadata.get("label")
    ]
    problems = [
        f"{where}: a figure needs :{need}:"
        for where, metadata in figures
        for need in ("caption", "label")
        if not metadata.get(need) and "figure" in metadata.get("tags", ())
    ]
    first: dict[str, str] = {}
    for where, metadata in figures:
        label = metadata.get("label")
        if label and first.setdefault(label, where) != where:
            problems.append(f"{where}: {label} is already used at {first[label]}")
    return problems


def is_shown(source: str) -> bool:
    """True for a cell whose value, its last line, is a figure that is saved."""
    last = ast.parse(source).body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) == "save_figure"


def figure_problems(chapters: list[Chapter]) -> list[str]:
    """Figures are shown, saved once, and none is left over."""
    problems, saved = [], {}
    problems += [
        f"{chapter.where(cell.line)}: a cell shows its last line, and this one "
        "ends after save_figure(...); put what follows into a cell of its own"
        for chapter in chapters
        for cell in chapter.cells
        if "figure" in cell.tags and not is_shown(cell.source)
    ]
    for chapter in chapters:
        for cell in chapter.cells:
            where = chapter.where(cell.line)
            for name in re.findall(r'save_figure\([^"]*"(\d\d-[\w-]+)"', cell.source):
                saved[name] = where
            saved |= {
                name: where
                for name in re.findall(r'^    "(\d\d-[\w-]+)",$', cell.source, re.M)
            }
    have = {p.stem for p in (ROOT / "figures").glob("*.svg")}
    problems += [
        f"{saved[n]}: figures/{n}.svg is missing; run the cell and commit the file"
        for n in saved
        if n not in have
    ]
    problems += [
        f"figures/{n}.svg: no chapter makes it; delete it" for n in have - set(saved)
    ]
    return problems


def numbering_problems(chapters: list[Chapter]) -> list[str]:
    """The number in a chapter's header is the number in its name."""
    problems = []
    for chapter in chapters:
        if f"  enumerator: {chapter.number}.%s\n" not in chapter.text:
            problems.append(
                f"{chapter.where(1)}: the header must say numbering: enumerator: "
                f"{chapter.number}.%s; run `make format`"
            )
    return problems


def contents_problems(chapters: list[Chapter], root: Path) -> list[str]:
    """myst.yml names each chapter once, in the order of their numbers."""
    text = (root / "myst.yml").read_text("utf-8")
    listed = re.findall(r"^ +- file: chapters/(\d\d-.+\.md)$", text, re.M)
    names = [chapter.path.name for chapter in chapters]
    problems = [
        f"chapters/{name}:1: myst.yml does not name this file; add it to toc"
        for name in names
        if name not in listed
    ]
    lines = text.splitlines()
    for name, follows in pairwise(listed):
        if follows <= name:
            line = next(i for i, each in enumerate(lines, 1) if follows in each)
            problems.append(
                f"myst.yml:{line}: {follows} stands after {name}; order the chapters "
                "by number"
            )
    return problems


ALGORITHM = re.compile(
    r"^```\{admonition\}[^\n]*\n:class: algorithm\n(.*?)^```$", re.M | re.S
)
SPACES = re.compile(r"\s+|\\[,;!:]|\\(?:left|right|displaystyle)(?![a-z])")


def algorithm_problems(chapters: list[Chapter]) -> list[str]:
    """What an algorithm computes is in a numbered equation too, which is run."""
    text = "\n".join(chapter.text for chapter in chapters)
    numbered = re.findall(r"^\$\$\n((?:(?!^\$\$).)*)^\$\$ \(eq-", text, re.M | re.S)
    printed, problems = "\n".join(SPACES.sub("", tex) for tex in numbered), []
    for chapter in chapters:
        for box in ALGORITHM.finditer(chapter.text):
            for formula in re.finditer(r"\$([^$]+)\$", box[1]):
                line = chapter.text.count("\n", 0, box.start(1) + formula.start()) + 1
                problems += [
                    f"{chapter.where(line)}: no numbered equation prints {term}; print "
                    "it in one, which is run, or as one does"
                    for term in outer_terms(SPACES.sub("", formula[1]))
                    if re.search(r"\\(frac|lVert)", term) and term not in printed
                ]
    return problems


def outer_terms(tex: str) -> list[str]:
    """The sides and summands of a formula, outside of brackets."""
    terms, depth = [""], 0
    for letter in tex:
        depth += (letter in "{(") - (letter in "})")
        if depth == 0 and letter in "=+":
            terms.append("")
        else:
            terms[-1] += letter
    return [term.rstrip(".,;") for term in terms]


def width_problems(chapters: list[Chapter]) -> list[str]:
    """Lines of code fit the page: 88 characters in a cell, 92 in what is only shown."""
    return [
        f"{chapter.where(at + i)}: {len(line)} characters; at most {most} fit"
        for chapter in chapters
        for at, text, most in (
            *((cell.line, cell.source, 88) for cell in chapter.cells),
            *(
                (chapter.text.count("\n", 0, shown.start(1)) + 1, shown[1], 92)
                for shown in SHOWN.finditer(chapter.text)
            ),
        )
        for i, line in enumerate(text.splitlines())
        if len(line) > most
    ]


SHOWN = re.compile(r"^```(?:text|python)\n(.*?)^```", re.M | re.S)


DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}
DRAWS |= {"rand_like", "randn_like"}


def draw_problems(chapters: list[Chapter]) -> list[str]:
    """Random numbers of a chapter that no seed decides: they differ in every build.

    A chapter may seed all that follows by `torch.manual_seed`, or give each draw its
    generator. Exported code is given its generators by whoever calls it.
    """
    problems = []
    for chapter in chapters:
        seeded = False
        for cell in chapter.cells:
            if cell.tagged("export"):
                continue
            try:
                tree = ast.parse(cell.source)
            except SyntaxError:  # a magic, which draws nothing
                continue
            for call in ast.walk(tree):
                if not isinstance(call, ast.Call):
                    continue
                named = ast.unparse(call.func)
                if named == "torch.manual_seed":
                    seeded = True
                head, _, name = named.rpartition(".")
                given = {word.arg for word in call.keywords}
                loose = head == "torch" and name in DRAWS and "generator" not in given
                # The chain draws by itself where it is given no noise.
                loose |= named in ("chain", "sample") and "noise" not in given
                if loose and not seeded:
                    problems.append(
                        f"{chapter.where(cell.line + call.lineno - 1)}: {named} "
                        "without a generator or noise, and nothing has been seeded; "
                        "its numbers differ in every build"
                    )
    return problems


def import_problems(chapters: list[Chapter]) -> list[str]:
    """Names that a chapter imports and never speaks again, not even in a string."""
    problems = []
    for chapter in chapters:
        where: dict[str, int] = {}
        words: set[str] = set()
        for cell in chapter.cells:
            try:
                tree = ast.parse(cell.source)
            except SyntaxError:  # a magic, which imports nothing
                words |= set(re.findall(r"\w+", cell.source))
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for each in node.names:
                        name = (each.asname or each.name).partition(".")[0]
                        where[name] = cell.line + node.lineno - 1
                elif isinstance(node, ast.Name):
                    words.add(node.id)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words |= set(re.findall(r"\w+", node.value))
        problems += [
            f"{chapter.where(line)}: {name} is imported and never used; take it out"
            for name, line in where.items()
            if name not in words
        ]
    return problems


def requirement_name(requirement: str) -> str:
    """`numpy` from `numpy>=1.26`."""
    return re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0]


def installed_names(project: dict[str, Any], requirements: list[str]) -> set[str]:
    """The packages that requirements ask for; the project's own stand for an extra."""
    names = set()
    for each in requirements:
        name, _, more = each.partition("[")
        if requirement_name(name) == project["name"]:
            for extra in more.partition("]")[0].split(","):
                named = project["optional-dependencies"][extra]
                names |= installed_names(project, named)
        else:
            names.add(requirement_name(name))
    return names


def environment_problems() -> list[str]:
    """environment.yml and constraints.txt name what `make test` installs, no more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    test = project["optional-dependencies"]["test"]
    installed = installed_names(project, [*project["dependencies"], *test])
    wanted = {CONDA_NAMES.get(name, name) for name in installed}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    have = set()
    for entry in listed["dependencies"]:
        names = entry["pip"] if isinstance(entry, dict) else [entry]
        have |= {requirement_name(name) for name in names}
    have -= {"python", "nodejs", "pip", "make"}
    problems = [
        f"environment.yml: {n} of pyproject.toml is missing" for n in wanted - have
    ]
    problems += [
        f"environment.yml: {n} is not installed for the tests" for n in have - wanted
    ]
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    problems += [
        f"constraints.txt: no version of {n} is pinned"
        for n in installed
        if f"\n{n}==" not in pinned
    ]
    return problems


def print_problems(chapters: list[Chapter]) -> list[str]:
    """Equations that do not hold as they are printed. Only this gate needs torch."""
    try:
        from printed import printed_problems
    except (ImportError, SyntaxError) as error:
        return [f"the package cannot be imported: {error}; run `make export`"]
    return printed_problems(chapters)


def mutant_problems(root: Path) -> list[str]:
    """Each bug of the catalogue can be planted, and its check is there."""
    book, problems = Book.read(root), []
    for mutant in read_catalogue(root / "tests" / "mutants.toml"):
        try:
            book.validate(mutant)
        except CatalogueError as error:
            problems.append(f"tests/mutants.toml: {error}")
    return problems


def command(*words: str) -> Callable[[], list[str]]:
    """A gate that runs a program and fails with what it printed."""

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True
        )
        return [(done.stdout + done.stderr).strip()] if done.returncode else []

    return run


def timed(gate: Callable[[], list[str]]) -> tuple[list[str], float]:
    """What a gate finds, and the seconds that it took."""
    started = time.perf_counter()
    return gate(), time.perf_counter() - started


def main() -> int:
    """Run every gate, two at a time; 1 when one fails."""
    try:
        chapters = read_chapters(ROOT / "chapters")
        origins(ROOT / "chapters")
    except ValueError as error:
        print(error)
        return 1
    gates: dict[str, Callable[[], list[str]]] = {
        "package in sync": command("tools/export.py", "--check"),
        "chapters canonical": command("tools/format_chapters.py", "--check"),
        "chapters listed": lambda: contents_problems(chapters, ROOT),
        "equations checked": lambda: equation_problems(chapters),
        "equations have a source": lambda: origin_problems(chapters),
        "sources known": lambda: bibliography_problems(chapters),
        "equations run as printed": lambda: print_problems(chapters),
        "callouts state their numbers": lambda: callout_problems(chapters),
        "exercises complete": lambda: exercise_problems(chapters),
        "notes covered": lambda: notes_problems(chapters, read_notes()),
        "tags known": lambda: tag_problems(chapters),
        "figures captioned": lambda: caption_problems(chapters),
        "figures saved": lambda: figure_problems(chapters),
        "algorithms restate equations": lambda: algorithm_problems(chapters),
        "code fits the page": lambda: width_problems(chapters),
        "chapters numbered": lambda: numbering_problems(chapters),
        "draws seeded": lambda: draw_problems(chapters),
        "imports used": lambda: import_problems(chapters),
        "bugs can be planted": lambda: mutant_problems(ROOT),
        "environment.yml": environment_problems,
        "lint": command("-m", "ruff", "check", "--quiet", "."),
        "format": command("-m", "ruff", "format", "--check", "--quiet", "."),
        "types": command("-m", "mypy"),
    }
    failed = 0
    with ThreadPoolExecutor(2) as pool:
        # The types take as long as all the others: they begin first.
        order = sorted(gates, key=lambda name: name != "types")
        jobs = {name: pool.submit(timed, gates[name]) for name in order}
        for name in gates:
            problems, seconds = jobs[name].result()
            mark = "FAIL" if problems else "ok  "
            print(f"{mark} {name} ({seconds:.1f} s)", flush=True)
            for problem in problems:
                print(problem)
            failed += bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
