"""The catalogue of bugs fits the book, and the hunt tells hit from miss."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mutants import Book, CatalogueError, Mutant, needed_cells, read_catalogue

from conftest import ROOT, chapter_text

SUMS = """def double(x: int) -> int:
    return 2 * x


def triple(x: int) -> int:
    return double(x) + x"""
CATALOGUE = """
[[mutant]]
name = "found"
module = "sums"
wrong = "One too many."
find = "return 2 * x"
replace = "return 2 * x + 1"
killed_by = "chapters/01-a.md check.eq-double"

[[mutant]]
name = "not found"
module = "sums"
wrong = "The same sum in another order."
find = "return double(x) + x"
replace = "return x + double(x)"
killed_by = "chapters/01-a.md the triple of 2"

[[mutant]]
name = "found by another"
module = "sums"
wrong = "Killed before the named check is reached."
find = "return 2 * x"
replace = "return 3 * x"
killed_by = "chapters/01-a.md the triple of 2"

[[mutant]]
name = "no assertion"
module = "sums"
wrong = "The check does not fail, it breaks down."
find = "return 2 * x"
replace = "return None"
killed_by = "chapters/01-a.md the triple of 2"

[[mutant]]
name = "found by a test"
module = "sums"
wrong = "One too many, found in the package."
find = "return double(x) + x"
replace = "return double(x) + 1"
killed_by = "tests/test_sums.py::test_triple"

[[mutant]]
name = "named a broken check"
module = "sums"
wrong = "A check that always fails finds nothing."
find = "return double(x) + x"
replace = "return double(x) + 1"
killed_by = "tests/test_sums.py::test_broken"
"""


def test_every_bug_can_be_planted_and_names_its_check():
    mutants, book = read_catalogue(ROOT / "tests" / "mutants.toml"), Book.read(ROOT)
    assert len(mutants) >= 45
    for mutant in mutants:
        book.validate(mutant)
    boxes = {mutant.callout for mutant in mutants} - {""}
    assert len(boxes) >= 8, "the boxes 'Common mistake' have their mutants"


@pytest.fixture
def small_book(book):
    """A chapter with one module, two checks, a test and a catalogue."""
    text = chapter_text(
        ("export.sums", SUMS),
        ("", "four = double(2)"),
        ("check.eq-double", "assert double(2) == 4, f'{double(2)} is not 4'"),
        ("", "raise RuntimeError('needed by nobody')"),
        ("", "six = triple(2)\nassert four == 4, 'four first'"),
        ("", "assert six == 6, 'the triple of 2'"),
    )
    root = book(c01_a=text)
    (root / "ddpm_lit").mkdir()
    (root / "ddpm_lit" / "__init__.py").write_text("")
    (root / "ddpm_lit" / "sums.py").write_text(SUMS)
    (root / "tests").mkdir()
    (root / "tests" / "test_sums.py").write_text(
        "from ddpm_lit.sums import triple\n\n\n"
        "def test_triple():\n    assert triple(5) == 15, 'three fives'\n\n\n"
        "def test_broken():\n    assert triple(5) == 0, 'always'\n"
    )
    (root / "tests" / "mutants.toml").write_text(CATALOGUE)
    return root


def test_the_hunt_tells_a_hit_from_a_miss(small_book):
    command = [sys.executable, ROOT / "tools/mutants.py", "--root", small_book]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_broken: killed without any bug: always" in done.stderr
    rows = done.stdout.splitlines()[1:]
    expected = [
        ("found", "check.eq-double", "5 is not 4"),
        ("not found", "SURVIVED", ""),
        ("found by another", "DIED ELSEWHERE", "four first"),
        ("no assertion", "DIED ELSEWHERE, crashed", "TypeError"),
        ("found by a test", "test_triple", "three fives"),
        ("named a broken check", "BROKEN CHECK", "always"),
        ("2 of 6 bugs found", "", ""),
    ]
    assert len(rows) == len(expected), done.stdout + done.stderr
    for row, parts in zip(rows, expected, strict=True):
        assert row.startswith(parts[0]) and all(part in row for part in parts), row


def test_only_the_cells_that_matter_run(small_book):
    cells = Book.read(small_book).chapters["chapters/01-a.md"].cells
    assert needed_cells(cells, 2) == [0, 2]
    assert needed_cells(cells, 5) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"find": "return 4 * x"}, "stands 0 times"),
        ({"find": "x: int"}, "stands 2 times"),
        ({"killed_by": "chapters/01-a.md check.eq-none"}, "fits 0 cells"),
        ({"killed_by": "chapters/01-a.md four"}, "fits 2 cells"),
        ({"killed_by": "chapters/02-b.md check.eq-double"}, "names no chapter"),
        ({"killed_by": "tests/test_sums.py::test_none"}, "no test"),
        ({"callout": "no such box"}, "no callout"),
    ],
)
def test_entries_that_do_not_fit_are_refused(small_book, change, message):
    fields = {
        "name": "a",
        "module": "sums",
        "wrong": "b",
        "find": "return 2 * x",
        "replace": "return x",
        "killed_by": "chapters/01-a.md check.eq-double",
    }
    with pytest.raises(CatalogueError, match=message):
        Book.read(small_book).validate(Mutant(**{**fields, **change}))
