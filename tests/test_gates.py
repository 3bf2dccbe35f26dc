"""The gates of `make check` find what they are for."""

from __future__ import annotations

import gates
import pytest

from chapters import read_chapters
from conftest import HEADER, ROOT, chapter_text

EQUATION = "\n$$\na = b\n$$ (eq-one)\n"


def chapters_of(root):
    return read_chapters(root / "chapters")


def test_an_equation_needs_a_check(book):
    root = book(c01_a=chapter_text(("", "x = 1")) + EQUATION)
    assert "eq-one has no check" in gates.equation_problems(chapters_of(root))[0]


def test_a_check_needs_an_equation(book):
    root = book(c01_a=chapter_text(("check.eq-two", "assert True")))
    assert "belongs to no equation" in gates.equation_problems(chapters_of(root))[0]


def test_a_check_must_assert(book):
    root = book(c01_a=chapter_text(("check.eq-one", "print(False)")) + EQUATION)
    assert "asserts nothing" in gates.equation_problems(chapters_of(root))[0]


def test_a_reference_must_resolve_and_a_label_is_used_once(book):
    text = chapter_text(("check.eq-one", "assert 1 == 1")) + EQUATION
    root = book(c01_a=text + EQUATION + "\nSee {eq}`eq-nowhere`.\n")
    problems = "\n".join(gates.equation_problems(chapters_of(root)))
    assert "already used" in problems and "eq-nowhere" in problems


def test_a_callout_states_what_its_check_computes(book):
    callout = (
        "\n```{admonition} Where the notes slip: x\n:class: slip\n"
        ":label: slip-x\n\nThe value is 0.3.\n```\n"
    )
    cell = ("check.slip-x", 'check_number("value", 0.25, "0.25")')
    root = book(c01_a=chapter_text(cell) + callout)
    assert "computes 0.25" in gates.callout_problems(chapters_of(root))[0]
    root = book(c01_a=(chapter_text(cell) + callout).replace("is 0.3", "is 0.25"))
    assert gates.callout_problems(chapters_of(root)) == []


def test_an_exercise_needs_a_solution_that_is_checked(book):
    stub = ("exercise.one", "def one():\n    raise NotImplementedError")
    root = book(c01_a=chapter_text(stub))
    assert "has no solution" in gates.exercise_problems(chapters_of(root))[0]
    solution = ("hide-input, solution.one", "def one_solution():\n    return 1")
    root = book(c01_a=chapter_text(stub, solution))
    assert "calling its check" in gates.exercise_problems(chapters_of(root))[0]


def test_a_cell_inside_a_directive_is_refused(book):
    text = HEADER + "````{note}\n```{code-cell} ipython3\nx = 1\n```\n````\n"
    root = book(c01_a=text + "\n```{code-cell} ipython3\ny = 1\n```\n")
    with pytest.raises(ValueError, match="must not sit inside a directive"):
        chapters_of(root)


def test_the_book_passes_its_gates():
    chapters = read_chapters(ROOT / "chapters")
    assert gates.equation_problems(chapters) == []
    assert gates.callout_problems(chapters) == []
    assert gates.exercise_problems(chapters) == []
    assert gates.environment_problems() == []


def test_every_chapter_has_two_exercises_a_widget_and_a_figure():
    for chapter in read_chapters(ROOT / "chapters"):
        if int(chapter.path.name[:2]) >= 90:
            continue
        tags = [tag for cell in chapter.cells for tag in cell.tags]
        assert sum(tag.startswith("exercise.") for tag in tags) in (2, 3), chapter.path
        assert "widget" in tags and "figure" in tags, chapter.path
