"""Plant slips of the pen in the printed equations, one at a time, and see them found.

    python tools/slips.py             every slip of every equation that is run
    python tools/slips.py NAME ...    those of equations whose label has such a word

A slip is a small edit of the TeX that still looks right: a sign, an index, a root, a
bar. They are generated, so an equation that is written tomorrow has its slips too. A
slip that the print survives is a hole in the check, unless what it says is true: such
a slip stands in tests/slips.yml, with the reason. There also stand the slips that the
notes behind this book really have.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
import yaml
from printed import (
    ROOT,
    Display,
    Stage,
    found_displays,
    run,
    squeezed,
    stage_of,
)
from printed_tex import ACCENTS, LETTERS, TOKEN

from chapters import read_chapters

LIST = "tests/slips.yml"
PROCESSES = 2
Edit = Callable[[str], Iterator[str]]


@dataclass(frozen=True)
class Slip:
    """One slip: its kind, and the TeX as it would stand in print."""

    kind: str
    tex: str


@dataclass(frozen=True)
class Listed:
    """A slip that says something true: where, of what kind, what it prints, and why."""

    label: str
    kind: str
    prints: str
    because: str

    def fits(self, display: Display, slip: Slip) -> bool:
        """Is it this one? What it prints must not stand on the page already."""
        if (self.label, self.kind) != (display.label, slip.kind):
            return False
        prints = squeezed(self.prints)
        return prints in squeezed(slip.tex) and prints not in squeezed(display.tex)


@dataclass(frozen=True)
class Known:
    """A slip that somebody made: who, in which equation, and what they wrote."""

    name: str
    where: str
    label: str
    right: str
    wrong: str

    def planted(self, tex: str) -> str | None:
        """The print with the slip; None unless the right text stands there."""
        return tex.replace(self.right, self.wrong) if self.right in tex else None


# ---------------------------------------------------------------------- the kinds


def swap(pattern: str, new: str) -> Edit:
    """Each place of a pattern, changed alone."""

    def edit(tex: str) -> Iterator[str]:
        for match in re.finditer(pattern, tex):
            yield tex[: match.start()] + match.expand(new) + tex[match.end() :]

    return edit


def group_end(tex: str, at: int) -> int:
    """Where the braces that open at `at` are closed again."""
    depth = 0
    for i in range(at, len(tex)):
        depth += (tex[i] == "{") - (tex[i] == "}")
        if depth == 0:
            return i + 1
    return len(tex)


def overturned(tex: str) -> Iterator[str]:
    """Each fraction upside down."""
    for match in re.finditer(r"\\t?frac(?=\{)", tex):
        middle = group_end(tex, match.end())
        if tex[middle : middle + 1] == "{":
            end = group_end(tex, middle)
            above, below = tex[match.end() : middle], tex[middle:end]
            yield tex[: match.end()] + below + above + tex[end:]


def letters(tex: str) -> Iterator[tuple[int, int]]:
    """Where each letter with accent and index begins and ends; no index by itself."""
    tokens = [(match[0], match.start(), match.end()) for match in TOKEN.finditer(tex)]
    hidden = 0  # up to here it is an index, or the name of a function
    for i, (token, start, end) in enumerate(tokens):
        if start < hidden or not (is_letter(token) or token in ACCENTS):
            if token in {"_", "\\mathrm", "\\mathcal", "\\mathbb", "\\text"}:
                hidden = max(hidden, argument_end(tex, end))
            continue
        end = tokens[i + 1][2] if token in ACCENTS and tokens[i + 1 :] else end
        if tex[end : end + 1] == "_":
            end = argument_end(tex, end + 1)
        hidden = end
        yield start, end


def is_letter(token: str) -> bool:
    return token in LETTERS or (len(token) == 1 and token.isalpha())


def argument_end(tex: str, at: int) -> int:
    """Where the argument that begins at `at` ends."""
    if tex[at : at + 1] == "{":
        return group_end(tex, at)
    match = TOKEN.match(tex, at)
    if match and match[0] == "\\mathrm":
        return group_end(tex, match.end())
    return match.end() if match else len(tex)


def dropped(tex: str) -> Iterator[str]:
    """Each letter left out."""
    for start, end in letters(tex):
        yield tex[:start] + tex[end:]


def rooted(tex: str) -> Iterator[str]:
    """A root around each letter."""
    for start, end in letters(tex):
        yield f"{tex[:start]}\\sqrt{{{tex[start:end]}}}{tex[end:]}"


def counted_on(tex: str) -> Iterator[str]:
    """Each number one larger."""
    for match in re.finditer(r"\d+(?:\.\d+)?", tex):
        whole, dot, rest = match[0].partition(".")
        yield (
            tex[: match.start()] + str(int(whole) + 1) + dot + rest + tex[match.end() :]
        )


def exchanged(pattern: str) -> Edit:
    """The first and the third group of a pattern change places."""

    def edit(tex: str) -> Iterator[str]:
        for match in re.finditer(pattern, tex, re.S):
            yield (
                tex[: match.start(1)]
                + match[3]
                + match[2]
                + match[1]
                + tex[match.end(3) :]
            )

    return edit


INDEX = r"(?![A-Za-z\\])"  # ends an index of one letter
BEFORE = r"(?<![A-Za-z\\{])"  # before a letter that is no part of a word
KINDS: dict[str, Edit] = {
    "plus for minus": swap(r"(?<=[\w}\)\]] )-(?= )", "+"),
    "minus for plus": swap(r"(?<!\w)\+", "-"),
    "minus lost": swap(r"(?<=[=\(\[\{] )- ", ""),
    "minus lost in an exponent": swap(r"\{-", "{"),
    "t for t-1": swap(r"_\{t-1\}", "_t"),
    "t-1 for t": swap(r"_t" + INDEX, "_{t-1}"),
    "t-2 for t-1": swap(r"_\{t-1\}", "_{t-2}"),
    "T for t": swap(r"_t" + INDEX, "_T"),
    "T-1 for T": swap(r"_T" + INDEX, "_{T-1}"),
    "t for s": swap(r"_s" + INDEX, "_t"),
    "2 for 1": swap(r"_1(?!\d)", "_2"),
    "1 for 2": swap(r"_2(?!\d)", "_1"),
    "root lost": swap(r"\\sqrt", ""),
    "root added": rooted,
    "square lost": swap(r"\^2", ""),
    "cube for square": swap(r"\^2", "^3"),
    "fraction turned over": overturned,
    "1 - lost": swap(r"([({] ?)1 - ", r"\1"),
    "beta for alpha-bar": swap(r"\\bar\\alpha", r"\\beta"),
    "alpha for alpha-bar": swap(r"\\bar\\alpha_t" + INDEX, r"(1 - \\beta_t)"),
    "alpha-bar for beta": swap(r"(?<!tilde)\\beta(?!_\\|_\{\\|')", r"\\bar\\alpha"),
    "tilde lost": swap(r"\\tilde", ""),
    "tilde added": swap(r"(?<!tilde)\\beta_t" + INDEX, r"\\tilde\\beta_t"),
    "beta for v": swap(r"(?<![A-Za-z])v_t" + INDEX, r"\\beta_t"),
    "epsilon for x": swap(BEFORE + r"x(?![a-z}])", r"\\epsilon "),
    "x for epsilon": swap(r"\\epsilon(?![_'])", "x"),
    "xi for epsilon": swap(r"\\epsilon(?![_'])", r"\\xi_t"),
    "epsilon for xi": swap(r"\\xi_t" + INDEX, r"\\epsilon "),
    "x for z": swap(r"(?<![A-Za-z])z_(?:t" + INDEX + r"|\{t-1\})", "x"),
    "z for x": swap(BEFORE + r"x(?![a-z}])", "z_t"),
    "factor 2 lost": swap(r"(?<![\w^.{_])2 (?=[\\\w(])", ""),
    "half lost": swap(r"\\t?frac\{1\}\{2\}", ""),
    "2 lost below": swap(r"\{2 ", "{"),
    "1/2 for D/2": swap(r"\\frac\{D\}\{2\}", r"\\frac{1}{2}"),
    "number larger": counted_on,
    "identity lost": swap(r" I(?= |,|\)|\.)", ""),
    "letter lost": dropped,
    "ln lost": swap(r"\\ln", ""),
    "divergence turned": exchanged(
        r"KL\}\\left\( (.*?)( \\,\\Vert\\, )(.*?) \\right\)"
    ),
    "condition turned": exchanged(r"(?<=[qw]\()([^()|]*?)( \\mid )([^()]*?)(?=\))"),
    "condition lost": swap(r" \\mid [^()\[\]|]*?(?=[\)\]])", ""),
    "x lost in a condition": swap(r", x\)", ")"),
    "lower bound 1": swap(r"=2\}", "=1}"),
    "upper bound T-1": swap(r"(?<=\})\^\{?T\}?", "^{T-1}"),
    "upper bound T": swap(r"(?<=\})\^\{t\}", "^T"),
    "product for sum": swap(r"\\sum", r"\\prod"),
    "sum for product": swap(r"\\prod", r"\\sum"),
    "sine for cosine": swap(r"\\cos", r"\\sin"),
    "cosine for sine": swap(r"\\sin", r"\\cos"),
    "T for T - 1": swap(r"T - 1", "T"),
    "average lost": swap(r"\\mathbb\{E\}(?:_\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|_\w)?", ""),
    "factors of a dot lost": swap(r"\\cdot", "+"),
}


def slips_of(tex: str) -> Iterator[Slip]:
    """Every slip of an equation, each print once."""
    seen = {squeezed(tex)}
    for kind, edit in KINDS.items():
        for wrong in edit(tex):
            if squeezed(wrong) not in seen:
                seen.add(squeezed(wrong))
                yield Slip(kind, wrong)


# ---------------------------------------------------------------------- the hunt


@dataclass
class Hunt:
    """What became of the slips that were planted."""

    planted: int = 0
    true: list[Listed] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)  # those that were found
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: Hunt) -> Hunt:
        return Hunt(
            self.planted + other.planted,
            self.true + other.true,
            self.known + other.known,
            self.problems + other.problems,
        )


def read_list(root: Path) -> tuple[list[Listed], list[Known]]:
    """What tests/slips.yml says: true statements, and slips that somebody made."""
    rows: dict[str, Any] = yaml.safe_load((root / LIST).read_text("utf-8")) or {}
    true = [
        Listed(row["in"], row["slip"], row["prints"], row["because"])
        for row in rows.get("statements") or []
    ]
    known = [
        Known(row["name"], row["where"], row["in"], row["right"], row["wrong"])
        for row in rows.get("notes") or []
    ]
    return true, known


def hunt_in(display: Display, true: list[Listed], known: list[Known]) -> Hunt:
    """Plant every slip in one display, and those of the notes that belong there."""
    torch.set_num_threads(1)
    stage, found = stage_of(display), Hunt()
    if faulty_print(display, stage, display.tex):  # then every slip would be found
        return Hunt(problems=[display.problem(0, "does not hold as it stands")])
    for slip in slips_of(display.tex):
        found.planted += 1
        if faulty_print(display, stage, slip.tex):
            continue
        reasons = [row for row in true if row.fits(display, slip)]
        found.true += reasons[:1]
        if not reasons:
            shown = " ".join(slip.tex.split())
            found.problems.append(display.problem(0, f"SURVIVED: {slip.kind}: {shown}"))
    for note in known:
        if note.label == display.label:
            found += note_in(display, stage, note)
    return found


def note_in(display: Display, stage: Stage, note: Known) -> Hunt:
    """Plant one slip of the notes."""
    wrong = note.planted(display.tex)
    if wrong is None:
        why = f"{note.name}: {display.label} does not print {note.right}"
        return Hunt(problems=[f"{LIST}: {why}"])
    if faulty_print(display, stage, wrong):
        return Hunt(known=[note])
    return Hunt(problems=[display.problem(0, f"SURVIVED: {note.name}")])


def faulty_print(display: Display, stage: Stage, tex: str) -> bool:
    return run(stage, str(display.known.get("left", "")) + tex) is not None


def hunt(root: Path, words: Sequence[str] = ()) -> Hunt:
    """Plant every slip in the displays whose label has one of the words, or in all."""
    true, known = read_list(root)
    shown = [
        display
        for display in found_displays(read_chapters(root / "chapters"))
        if "unrun" not in display.known
        and (not words or any(word in display.label for word in words))
    ]
    search = functools.partial(hunt_in, true=true, known=known)
    context = multiprocessing.get_context("fork")
    with context.Pool(PROCESSES) as pool:
        found = sum(pool.imap(search, shown, chunksize=1), Hunt())
    if not words:
        found.problems += idle(found, true, known, {each.label for each in shown})
    return found


def idle(
    found: Hunt, true: list[Listed], known: list[Known], labels: set[str]
) -> list[str]:
    """Rows of the list that had nothing to do."""
    caught = [row for row in true if row not in found.true]
    nowhere = [note for note in known if note.label not in labels]
    return [
        f"{LIST}: {row.label}: {row.kind}: no slip that prints {row.prints} survives"
        for row in caught
    ] + [f"{LIST}: {note.name}: {note.label} is not run" for note in nowhere]


def report(found: Hunt, seconds: float) -> None:
    """The slips of the notes by name, what went wrong, and the count."""
    for note in found.known:
        print(f"{note.name:50} {note.where:14} found in {note.label}")
    for problem in found.problems:
        print(problem)
    survived = sum("SURVIVED" in problem for problem in found.problems)
    caught = found.planted - len(found.true) - survived
    print(
        f"{found.planted} slips in print planted: {caught} found, {len(found.true)} "
        f"are true statements, {survived} survived ({seconds:.0f} s)"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant slips in print.")
    parser.add_argument("words", nargs="*", help="take labels with such words only")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the book")
    options = parser.parse_args(argv)
    began = time.perf_counter()
    found = hunt(options.root, options.words)
    report(found, time.perf_counter() - began)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
