"""Run the equations of the book as they are printed: `make check` does.

    python tools/printed.py             every equation
    python tools/printed.py NAME ...    those whose label contains one of the words
    python tools/printed.py --unrun     those that are not run, and why

The TeX of a chapter is read (printed_tex), its symbols get numbers that the package
computes (printed_symbols), and both sides of each sign are evaluated (printed_values).
A sign, an index or a root that is wrong in print is found, whatever the code says.

chapters/equations.yml says for each label what its print is run against, `run: q_step`,
or why it is not, `unrun: reason`. chapters/displays.yml lists the displays without a
number that need more than the common symbols, or that cannot be run.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from ledger import (
    DISPLAYS,
    Entry,
    display_faults,
    displays,
    folder_of,
    line_of,
    origins,
    run_names,
)
from printed_symbols import OWN, How, Symbols, World, public_names
from printed_tex import Claim, Node, Symbol, Tree, Unreadable, bases, read
from printed_values import (
    NORMAL,
    Density,
    Env,
    Letter,
    Named,
    Refused,
    Unevaluated,
)

from chapters import Chapter, read_chapters

ROOT = Path(__file__).resolve().parent.parent
DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$(?: \((eq-[a-z0-9-]+)\))?[ \t]*$", re.M | re.S)
CODE = re.compile(r"^(`{3,})\{code-cell\}.*?^\1$", re.M | re.S)
UNSAID = (
    "chapters/equations.yml does not say how its print is run; add `run: FUNCTION` of "
    "the package, `run: sides`, or `unrun: reason`"
)
LIBRARY = {"torch.distributions"}  # what is no name of the package
SIDES = "sides"  # an equation that names no function: one side against the other


@dataclass(frozen=True)
class Display:
    """One displayed equation: where it stands, and what is known of it."""

    chapter: Chapter
    line: int  # of its first line of TeX
    tex: str
    label: str  # of equations.yml, or its name in displays.yml, or nothing
    is_numbered: bool
    entry: Entry | None

    @property
    def known(self) -> dict[str, Any]:
        """Its entry in equations.yml or displays.yml."""
        value = self.entry.value if self.entry else {}
        return value if isinstance(value, dict) else {}

    @property
    def title(self) -> str:
        return self.label or "a display without a number"

    def problem(self, line: int, why: str) -> str:
        """`file:line: label: reason`, where `line` counts inside the equation."""
        return f"{self.chapter.where(self.line + line)}: {self.title}: {why}"


@dataclass(frozen=True)
class Fault:
    """Why a print is wrong, and on which of its lines."""

    line: int
    why: str


# ---------------------------------------------------------------------- what is printed


def without_code(text: str) -> str:
    """The text with its cells emptied, line for line."""
    return CODE.sub(lambda match: "\n" * match[0].count("\n"), text)


def found_displays(chapters: list[Chapter]) -> list[Display]:
    """Every display of the book, in order, with its entry in one of the two files."""
    folder = folder_of(chapters)
    numbered, others = origins(folder), displays(folder)
    found = []
    for chapter in chapters:
        text = without_code(chapter.text)
        for match in DISPLAY.finditer(text):
            line, tex, label = line_of(text, match.start(1)), match[1], match[2]
            name = label or name_of(chapter, tex, others)
            entry = (numbered if label else others).get(name)
            found.append(Display(chapter, line, tex, name, bool(label), entry))
    return found


def name_of(chapter: Chapter, tex: str, others: dict[str, Entry]) -> str:
    """The name in displays.yml of a display without a number, if it has one."""
    for name, entry in others.items():
        if fits(entry.value, chapter, tex):
            return name
    return ""


def fits(value: Any, chapter: Chapter, tex: str) -> bool:
    """Is this the display that an entry of displays.yml means?"""
    if not isinstance(value, dict) or not value.get("has"):
        return False
    is_here = chapter.path.name.startswith(f"{value.get('chapter')}-")
    return is_here and squeezed(str(value["has"])) in squeezed(tex)


def squeezed(tex: str) -> str:
    return re.sub(r"\s+", "", tex)


# ---------------------------------------------------------------------- how it is run


def how_of(display: Display) -> How:
    """How a display is run: by its symbols, by its entry, and by what it holds."""
    how = OWN[own_name(display)][0] if own_name(display) in OWN else How()
    return with_steps(
        with_size(with_entry(how, display.known), display.tex), display.tex
    )


def own_name(display: Display) -> str:
    """Whose symbols it takes: its own, or those of the equation named by `as`."""
    return str(display.known.get("as") or display.label)


def with_entry(how: How, known: dict[str, Any]) -> How:
    """The options that an entry may state."""
    names = {"from": "first", "T": "T", "tolerance": "tolerance", "real": "is_real"}
    told = {ours: known[theirs] for theirs, ours in names.items() if theirs in known}
    if "variance" in known:
        stated = known["variance"]
        told["variance"] = tuple([stated] if isinstance(stated, str) else stated)
    if "tolerance" in told:
        told["tolerance"] = float(told["tolerance"])
    return replace(how, **told)


def with_size(how: How, tex: str) -> How:
    """Three dimensions, where the equation speaks of a length or of D. An average is
    taken over one number, which then stands for a vector of three equal ones."""
    speaks = "\\lVert" in tex or re.search(r"(?<![A-Za-z\\])D(?![A-Za-z])", tex)
    if how.dims or how.copies:
        return replace(how, dims=how.dims or 1, copies=how.copies or 1)
    is_average = "\\mathbb{E}" in tex or "\\int" in tex
    size = 3 if speaks else 1
    return replace(
        how, dims=1 if is_average else size, copies=size if is_average else 1
    )


def with_steps(how: How, tex: str) -> How:
    """Every step, where t is a letter of the equation; else no t at all, so that one
    which slips in is unknown."""
    if how.steps:
        return how
    words = re.sub(r"\\(text|mathrm)\s*\{[^}]*\}|\\[A-Za-z]+", " ", tex)
    has_t = re.search(r"(?<![A-Za-z])t(?![A-Za-z])", words)
    return replace(how, steps=tuple(range(how.first, how.T + 1)) if has_t else (None,))


@dataclass
class Stage:
    """A display with its worlds built: all that a run needs but the TeX."""

    how: How
    places: list[tuple[str, Env]]  # where it is evaluated, in words too
    functions: set[str]
    used: set[str]  # of the package, up to now
    worlds: list[World]


def stage_of(display: Display) -> Stage:
    """Draw the numbers of every symbol, for each seed, step and variance."""
    how = how_of(display)
    places, worlds, functions = [], [], {NORMAL}
    cases = itertools.product(how.seeds, how.steps, how.variance or ("",))
    for seed, t, variance in cases:
        world = World(how, seed, 1 if t is None else t, variance)
        worlds.append(world)
        for symbols in own_symbols(display, world):
            functions |= called(symbols) | {how.defined}
            where = "" if t is None else f" at t = {t}"
            places.append((where, env_of(how, t, symbols)))
    return Stage(how, places, functions, set(), worlds)


def own_symbols(display: Display, world: World) -> list[Symbols]:
    """The common symbols with those of the display's own on top."""
    common = world.common()
    if own_name(display) not in OWN:
        return [common]
    with torch.no_grad():
        made = OWN[own_name(display)][1](world)
    return [{**common, **own} for own in (made if isinstance(made, list) else [made])]


def env_of(how: How, t: int | None, symbols: Symbols) -> Env:
    base, i = how.gradient_by or ("", None)
    return Env(
        symbols,
        t=t,
        T=how.T,
        steps=tuple(step for step in how.steps if step is not None),
        dims=how.dims or 1,
        copies=how.copies or 1,
        gradient_by=(base, t if i == "t" else i) if base else None,
        ranges=how.ranges,
        is_real=how.is_real,
        is_matrix=how.is_matrix,
    )


def called(symbols: Symbols) -> set[str]:
    """The names after which a bracket holds arguments."""
    found = set()
    for name, value in symbols.items():
        each = value if isinstance(value, list) else [value]
        if any(is_function(one) for one in each) and name not in {"E", "KL", "\\sim"}:
            found.add(name)
    return found


def is_function(value: Any) -> bool:
    if isinstance(value, Letter):
        return value.call is not None
    return callable(value) or isinstance(value, Density | Named | Unevaluated)


# ---------------------------------------------------------------------- the run


def run(stage: Stage, tex: str) -> Fault | None:
    """Evaluate the print; None when all that it claims holds."""
    try:
        claims = read(tex, stage.functions)
    except Unreadable as error:
        return Fault(error.line, error.why)
    if not claims:
        return Fault(0, "claims nothing")
    if line := stray_law(claims):
        return Fault(line - 1, "a letter has a law here, and no other place")
    for where, env in stage.places:
        fault = faulty(
            claims, with_defined(stage.how.defined, claims, env), stage, where
        )
        if fault:
            return fault
    return None


def stray_law(claims: list[Claim]) -> int:
    """The line, from 1, where a letter gets a law that nothing else on the page uses:
    another letter was meant. 0 when there is none."""
    for claim in claims:
        first, rest = claim.sides[0], [each for each in claims if each is not claim]
        relation, line = claim.relations[0]
        if relation != "\\sim" or not isinstance(first, Symbol) or not rest:
            continue
        if first.base not in bases([each.sides for each in rest]):
            return line + 1
    return 0


def faulty(claims: list[Claim], env: Env, stage: Stage, where: str) -> Fault | None:
    """The first sign that does not hold in this environment."""
    how = stage.how
    for relation, line, left, right in pairs_of(claims, how):
        try:
            with torch.no_grad():
                error = env.error(relation, left, right)
        except Refused as refused:
            return Fault(line, f"cannot be evaluated{where}: {refused}")
        except Exception as broken:  # sizes that do not fit, a missing argument
            why = f"{type(broken).__name__}: {str(broken).partition(chr(10))[0]}"
            return Fault(line, f"cannot be evaluated{where}: {why}")
        if not error <= how.tolerance:
            allowed = f"allowed {how.tolerance:.0e}"
            return Fault(line, f"the sides differ by {error:.1e}{where} ({allowed})")
    return None


def pairs_of(claims: list[Claim], how: How) -> Iterator[tuple[str, int, Tree, Tree]]:
    """Both sides of each sign, for every value of a free index."""
    for claim in claims:
        for relation, line, left, right in claim.pairs():
            if how.every:
                left, right = (Node("every", (how.every, s)) for s in (left, right))
            yield relation, line, left, right


def with_defined(name: str, claims: list[Claim], env: Env) -> Env:
    """The environment in which a function of t is what the page itself says it is."""
    meant = Symbol(name), [[Symbol("t")]]
    for claim in claims if name else ():
        if claim.sides[0] == Node("call", meant):
            body = claim.sides[1]

            def defined(t: Any, body: Tree = body) -> Any:
                return replace(env, index={**env.index, "t": int(t)}).value(body)

            return replace(env, symbols={**env.symbols, name: defined})
    return env


# ---------------------------------------------------------------------- the gate


def entry_problems(display: Display) -> list[str]:
    """What is wrong with what the two files say of a display."""
    known = display.known
    if display.is_numbered and not {"run", "unrun"} & set(known):
        return [display.problem(0, UNSAID)]
    return [
        display.problem(0, f"run: {name}, but the package offers no {name}")
        for name in run_names(known)
        if name not in {SIDES, *LIBRARY, *public_names()}
    ]


def unused(display: Display, stage: Stage) -> list[str]:
    """Functions that the print is said to run against, and does not."""
    used = set().union(*(world.package.used for world in stage.worlds))
    return [
        display.problem(0, f"run: {name}, but {name} has no part in its symbols")
        for name in run_names(display.known)
        if name not in {SIDES, *LIBRARY, *used}
    ]


def display_problems(display: Display) -> list[str]:
    """Why the print of one display is refused."""
    problems = entry_problems(display)
    if problems or "unrun" in display.known:
        return problems
    stage = stage_of(display)
    tex = str(display.known.get("left", "")) + display.tex
    fault = run(stage, tex)
    if fault is None:
        return unused(display, stage)
    return [display.problem(fault.line, fault.why + advice(display, fault))]


def advice(display: Display, fault: Fault) -> str:
    """What the print was run against, and where its symbols get their numbers."""
    against = ", ".join(run_names(display.known))
    words = f"; run against {against}" if against else ""
    if not display.label:
        words += f"; chapters/{DISPLAYS} may say what it needs, or why it is not run"
    elif "unknown symbol" in fault.why:
        words += "; tools/printed_symbols.py gives symbols their numbers"
    return words


def leftover_problems(chapters: list[Chapter], found: list[Display]) -> list[str]:
    """Entries of displays.yml that are faulty, or fit no display or more than one."""
    problems = []
    for name, entry in displays(folder_of(chapters)).items():
        where = f"chapters/{DISPLAYS}:{entry.line}: {name}"
        problems += [f"{where}: {fault}" for fault in display_faults(entry.value)]
        count = sum(
            fits(entry.value, display.chapter, display.tex)
            for display in found
            if not display.is_numbered
        )
        if count != 1:
            problems.append(f"{where}: fits {count} displays, not one")
    return problems


def printed_problems(chapters: list[Chapter], words: Sequence[str] = ()) -> list[str]:
    """Every print that does not hold, with file and line: the gate."""
    torch.set_num_threads(1)
    found = found_displays(chapters)
    problems = [] if words else leftover_problems(chapters, found)
    for display in found:
        if not words or any(word in display.label for word in words):
            problems += display_problems(display)
    return problems


def account(chapters: list[Chapter], with_reasons: bool) -> None:
    """Say how many displays there are, and which are not run."""
    found = found_displays(chapters)
    waived = [display for display in found if "unrun" in display.known]
    for display in waived if with_reasons else ():
        print(display.problem(0, f"not run: {display.known['unrun']}"))
    numbered = sum(display.is_numbered for display in found)
    print(
        f"{len(found)} displays, {numbered} of them numbered; {len(waived)} are not run"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the equations as printed.")
    parser.add_argument("words", nargs="*", help="take labels with such words only")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the book")
    parser.add_argument("--unrun", action="store_true", help="say what is not run")
    options = parser.parse_args(argv)
    chapters = read_chapters(options.root / "chapters")
    problems = printed_problems(chapters, options.words)
    for problem in problems:
        print(problem)
    account(chapters, options.unrun)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
