"""The gates of `make check` find what they are for."""

from __future__ import annotations

import format_chapters
import gates
import ledger
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


def with_origins(root, text):
    (root / "chapters" / "equations.yml").write_text(text, encoding="utf-8")
    return "\n".join(ledger.origin_problems(chapters_of(root)))


def test_an_equation_needs_an_entry_and_an_entry_an_equation(book):
    root = book(c01_a=chapter_text(("check.eq-one", "assert True")) + EQUATION)
    said = with_origins(root, "# first\neq-two: {note: x}\n")
    assert "eq-one has no entry in chapters/equations.yml" in said
    assert "chapters/equations.yml:2: no equation is labelled eq-two" in said
    assert with_origins(root, "eq-one: {note: x}\n") == ""


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("a definition", "is no entry"),
        ("{note: textbook, derived here}", "'derived here' is none of T, cite"),
        ("{cite: nobody1900}", "references.bib has no entry 'nobody1900'"),
        ("{place: eq. 2}", "a place needs the source"),
        ("{waived: }", "waived needs a reason"),
        ("{note: x, unrun: }", "unrun needs a reason"),
        ("{run: sides, unrun: too hard}", "what is not run needs no other word"),
        ("{note: x, run: }", "run needs a function of the package, or `sides`"),
        ("{waived: too hard}", "1 of 1 equations are waived, at most 3% may be"),
    ],
)
def test_a_faulty_entry_is_named(book, entry, reason):
    root = book(c01_a=chapter_text(("check.eq-one", "assert True")) + EQUATION)
    said = with_origins(root, f"eq-one: {entry}\n")
    assert said.startswith("chapters/equations.yml:1: ") and reason in said


BIB = "@book{%s,\n  title = {T},\n  year  = {1900}\n}\n\n"
BIB_OTHERS = "@book{one1900,\n  author = {%s and others},\n  year = {1900}\n}\n"


@pytest.mark.parametrize(
    ("step", "problems"),
    [
        (r"$a = \frac{b}{ c } + d$", 0),
        (r"$a = \displaystyle \frac{b}{c}\, .$", 0),
        (r"$a = \frac{c}{b} + d$", 1),
        (r"$a = b + c$", 0),
    ],
)
def test_a_formula_that_an_algorithm_alone_prints_is_named(book, step, problems):
    text = chapter_text(("", "x = 1")) + "\n$$\nq = \\frac{b}{c} \\, x\n$$ (eq-q)\n"
    box = f"\n```{{admonition}} Algorithm 1\n:class: algorithm\n\n1. {step}\n```\n"
    found = gates.algorithm_problems(chapters_of(book(c01_a=text + box)))
    assert len(found) == problems
    assert all("no numbered equation prints" in each for each in found)


def test_a_source_of_an_equation_is_cited_by_a_chapter(book):
    """The ledger links to the citation, which must be on a page."""
    text = chapter_text(("check.eq-one", "assert True")) + EQUATION
    for more, reason in (
        ("", "no chapter cites 'one1900'"),
        ("{cite:p}`one1900`\n", ""),
    ):
        root = book(c01_a=text + more)
        (root / "chapters" / "references.bib").write_text(BIB % "one1900", "utf-8")
        said = with_origins(root, "eq-one: {cite: one1900}\n")
        assert said == "" if not reason else reason in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BIB % "one1900" + BIB % "two1900", ""),
        (BIB % "two1900", "chapters/01-a.md:"),
        (BIB % "one1900" * 2, "references.bib:6: one1900 is there twice"),
        (BIB.replace("}\n\n", "") % "one1900" + BIB % "two1900", "bib:1: no entry"),
        (BIB % "one1900" + "one more, some day\n", "references.bib:6: no entry"),
        (BIB_OTHERS % "One, A.", "one1900 names too few authors"),
        (BIB_OTHERS % "One, A. and Two, B. and Three, C.", ""),
    ],
)
def test_a_faulty_bibliography_is_named(book, text, reason):
    root = book(c01_a=chapter_text(("", "x = 1")) + "\nAs in {cite:t}`one1900`.\n")
    (root / "chapters/references.bib").write_text(text, "utf-8")
    said = "\n".join(ledger.bibliography_problems(chapters_of(root)))
    assert reason in said and bool(said) == bool(reason)


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("import torch\ntorch.randn(3)", True),
        ("import torch\ntorch.randint(1, 9, (3,), generator=None)", False),
        ("import torch\ntorch.manual_seed(0)\ntorch.randn(3)", False),
        ("import torch\ndef f():\n    return torch.rand(2)", True),
        ("import torch\nsample(model, torch.zeros(2))", True),
        ("import torch\nsample(model, torch.zeros(2), noise=draw)", False),
    ],
)
def test_numbers_that_no_seed_decides_are_named(book, source, refused):
    said = gates.draw_problems(chapters_of(book(c01_a=chapter_text(("", source)))))
    assert bool(said) == refused
    assert not refused or "differ in every build" in said[0]


def test_a_figure_that_its_cell_does_not_show_is_named(book):
    draw = 'save_figure(figure, "01-line", "A line.")'
    for source, shown in ((draw, True), (draw + "\nprint(1)", False)):
        said = gates.figure_problems(
            chapters_of(book(c01_a=chapter_text(("figure", source))))
        )
        assert any("a cell shows its last line" in each for each in said) != shown


def test_an_import_that_nobody_uses_is_named(book):
    root = book(c01_a=chapter_text(("", "import math\nimport json"), ("", "math.pi")))
    said = gates.import_problems(chapters_of(root))
    assert len(said) == 1 and "json is imported and never used" in said[0]
    used = chapter_text(("", "import json"), ("", 'say = "json.dumps"'))
    assert not gates.import_problems(chapters_of(book(c01_a=used)))


def test_what_is_no_yaml_is_named(book):
    root = book(c01_a=chapter_text(("", "x = 1")))
    with pytest.raises(ValueError, match=r"chapters/equations.yml:1: not YAML"):
        with_origins(root, "eq-one: {note: [}\n")
    with pytest.raises(ValueError, match=r"equations.yml:2: eq-one is there twice"):
        with_origins(root, "eq-one: {note: x}\neq-one: {note: x}\n")
    (root / "chapters/01-a.md").write_text("---\ntitle: a: b\n---\n")
    with pytest.raises(ValueError, match=r"01-a.md:2: the header is not YAML"):
        chapters_of(root)
    cell = "# A\n\n```{code-cell} ipython3\n---\ncaption: a: b\n---\nx = 1\n```\n"
    (root / "chapters/01-a.md").write_text(cell)
    with pytest.raises(ValueError, match=r"01-a.md:\d: a cell's options are not YAML"):
        chapters_of(root)


def test_a_waived_equation_needs_no_check_and_may_have_none(book):
    root = book(c01_a=chapter_text(("", "x = 1")) + EQUATION)
    with_origins(root, "eq-one: {waived: a definition}\n")
    assert gates.equation_problems(chapters_of(root)) == []
    book(c01_a=chapter_text(("check.eq-one", "assert True")) + EQUATION)
    assert "take its `waived` out" in gates.equation_problems(chapters_of(root))[0]


def test_a_docstring_names_equations_that_are_there(book):
    cell = ("export.one", 'def f() -> None:\n    """See eq-nowhere."""')
    root = book(c01_a=chapter_text(cell))
    [problem] = gates.equation_problems(chapters_of(root))
    assert problem.endswith("no equation is labelled eq-nowhere")


def test_a_docstring_begins_in_words(book):
    text = chapter_text(("check.eq-one", "assert 1 == 1")) + EQUATION
    cell = ("export.one", 'def f() -> None:\n    """eq-one of nothing."""')
    root = book(c01_a=text, c02_b=chapter_text(cell))
    [problem] = gates.equation_problems(chapters_of(root))
    assert problem.endswith(
        "of f begins with a label, which its page turns into a number; begin in words"
    )


def test_a_chapter_must_be_in_the_contents_and_in_order(book):
    cell = chapter_text(("", "x = 1"))
    root = book(c01_a=cell, c02_b=cell, c03_c=cell)
    toc = "  - file: chapters/02-b.md\n  - file: chapters/01-a.md\n"
    (root / "myst.yml").write_text(f"toc:\n{toc}")
    said = "\n".join(gates.contents_problems(chapters_of(root), root))
    assert "chapters/03-c.md:1: myst.yml does not name this file" in said
    assert "myst.yml:3: 01-a.md stands after 02-b.md" in said


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
    assert "calling its check" in gates.exercise_problems(chapters_of(root))[-1]


def test_an_exercise_shows_a_wrong_answer_that_is_refused(book):
    stub = ("exercise.one", "def one():\n    raise NotImplementedError")
    done = "def one_solution():\n    return 1\n\n\ncheck_one(one_solution)"
    solution = ("hide-input, solution.one", done)
    root = book(c01_a=chapter_text(stub, solution))
    assert "shows no wrong answer" in gates.exercise_problems(chapters_of(root))[0]
    silent = ("hide-input, wrong.one", "def one_wrong():\n    return 2")
    root = book(c01_a=chapter_text(stub, solution, silent))
    assert "must call refuse(" in gates.exercise_problems(chapters_of(root))[0]
    said = silent[1] + '\n\n\nrefuse(check_one, one_wrong, "less")'
    root = book(c01_a=chapter_text(stub, solution, (silent[0], said)))
    assert gates.exercise_problems(chapters_of(root)) == []


NOTED_PAGE = (
    "\n## What is it, really?\n\n```{admonition} Where the notes slip: x\n"
    ":class: slip\n:label: slip-x\n\nIt is 1.\n```\n" + EQUATION
)
NOTES = {
    "errata": [{"where": "S0:1", "kind": "wrong", "callout": "slip-x"}],
    "coverage": [
        {
            "note": 0,
            "lines": 1,
            "treated": ["01-a", "01-a#eq-one", "01-a#slip-x", "01-a#what-is-it-really"],
        },
        {"note": 0, "lines": "2-3", "not-yet": "a later chapter"},
    ],
}


def test_the_notes_are_covered(book, monkeypatch):
    chapters = chapters_of(book(c01_a=chapter_text(("", "x = 1")) + NOTED_PAGE))
    assert gates.notes_problems(chapters, NOTES) == []
    monkeypatch.setattr(gates, "MOST_NOT_YET", 0)
    assert "1 topics wait" in gates.notes_problems(chapters, NOTES)[0]


@pytest.mark.parametrize(
    ("part", "row", "problem"),
    [
        (
            "errata",
            {"where": "S0:2", "kind": "remark", "callout": "slip-y"},
            "no callout is labelled",
        ),
        ("errata", {"where": "S0:2", "kind": "imprecise"}, "name a callout"),
        ("errata", {"where": "S0:2", "callout": "slip-x"}, "wrong, imprecise, remark"),
        (
            "errata",
            {"where": "S0:2", "kind": "unfair", "callout": "slip-x"},
            "its kind must be one of",
        ),
        ("coverage", {"note": 0, "lines": 4}, "say where it is treated"),
        (
            "coverage",
            {"note": 0, "lines": 4, "treated": ["01-a#b"]},
            "01-a#b is no page",
        ),
    ],
)
def test_a_hole_in_the_notes_is_named(book, part, row, problem):
    chapters = chapters_of(book(c01_a=chapter_text(("", "x = 1")) + NOTED_PAGE))
    found = gates.notes_problems(chapters, NOTES | {part: [*NOTES[part], row]})
    assert len(found) == 1 and problem in found[0]


def test_a_box_without_a_row_is_named(book):
    chapters = chapters_of(book(c01_a=chapter_text(("", "x = 1")) + NOTED_PAGE))
    found = gates.notes_problems(chapters, NOTES | {"errata": []})
    assert found == ["chapters/notes.yml: no errata row names the callout slip-x"]


def test_a_cell_inside_a_directive_is_refused(book):
    text = HEADER + "````{note}\n```{code-cell} ipython3\nx = 1\n```\n````\n"
    root = book(c01_a=text + "\n```{code-cell} ipython3\ny = 1\n```\n")
    with pytest.raises(ValueError, match="must not sit inside a directive"):
        chapters_of(root)


def test_a_header_in_another_order_is_told_from_a_cell_that_is_not_formatted(
    book, capsys
):
    root = book(c01_a=chapter_text(("", "x = 1")))
    path = root / "chapters" / "01-a.md"
    assert format_chapters.main(["--root", str(root)]) == 0
    text = path.read_text("utf-8")
    assert format_chapters.main(["--check", "--root", str(root)]) == 0
    name = "  name: python3\n"
    language = "  language: python\n"
    assert text.index(name) < text.index(language)
    path.write_text(text.replace(name, "").replace(language, language + name), "utf-8")
    capsys.readouterr()
    assert format_chapters.main(["--check", "--root", str(root)]) == 1
    said = capsys.readouterr().err
    assert "keys stand in another order" in said and "make format" in said
    assert format_chapters.main(["--root", str(root)]) == 0
    assert path.read_text("utf-8") == text
    path.write_text(text.replace("x = 1", "x=1"), "utf-8")
    capsys.readouterr()
    assert format_chapters.main(["--check", "--root", str(root)]) == 1
    assert "not canonical" in capsys.readouterr().err


def test_the_book_passes_its_gates():
    chapters = read_chapters(ROOT / "chapters")
    assert gates.equation_problems(chapters) == []
    assert gates.callout_problems(chapters) == []
    assert gates.exercise_problems(chapters) == []
    assert gates.notes_problems(chapters, gates.read_notes()) == []
    assert gates.environment_problems() == []
    assert ledger.origin_problems(chapters) == []
    assert gates.contents_problems(chapters, ROOT) == []


def test_an_extra_that_the_tests_ask_for_stands_in_all_three_lists(
    tmp_path, monkeypatch
):
    for name in ("pyproject.toml", "environment.yml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(gates, "ROOT", tmp_path)
    file = tmp_path / "pyproject.toml"
    text = file.read_text("utf-8")
    assert "torch-fidelity" in text, "no extra that the tests do without"
    assert gates.environment_problems() == []
    file.write_text(text.replace("hub = [", 'hub = [\n    "cattle>=1",'), "utf-8")
    found = gates.environment_problems()
    assert len(found) == 2 and all("cattle" in problem for problem in found), found
    file.write_text(text.replace('"pyyaml>=6",', ""), "utf-8")
    assert gates.environment_problems() == [
        "environment.yml: pyyaml is not installed for the tests"
    ]


def test_every_chapter_has_two_exercises_a_widget_and_a_figure():
    for chapter in read_chapters(ROOT / "chapters"):
        if not chapter.number.isdigit():
            continue
        tags = [tag for cell in chapter.cells for tag in cell.tags]
        exercises = sum(tag.startswith("exercise.") for tag in tags)
        where = chapter.where(1)
        assert exercises in (2, 3), f"{where}: {exercises} exercises, 2 or 3 are due"
        for tag in ("widget", "figure"):
            assert tag in tags, f"{where}: no cell is tagged {tag}"


def test_a_line_that_does_not_fit_is_named(book):
    shown = "\n```text\n{}\n```\n"
    for line, said in (("x" * 92, ""), ("x" * 93, "93 characters; at most 92 fit")):
        text = chapter_text(("", "x = 1")) + shown.format(line)
        found = gates.width_problems(chapters_of(book(c01_a=text)))
        assert len(found) == bool(said) and said in "".join(found)
        if found:
            number = int(found[0].split(":")[1])
            assert text.splitlines()[number - 1] == line
    text = chapter_text(("", "x = 1  # " + "x" * 80))
    assert "at most 88" in gates.width_problems(chapters_of(book(c01_a=text)))[0]
