"""The equations are run as they are printed: what is refused, and what is not."""

from __future__ import annotations

import re
import shutil
from functools import cache

import pytest
import slips
import torch
from printed import (
    Display,
    Fault,
    Stage,
    found_displays,
    printed_problems,
    run,
    stage_of,
)
from printed_tex import Node, Symbol, Unreadable, read
from printed_values import Env, Refused

from chapters import read_chapters
from conftest import HEADER, ROOT

torch.set_num_threads(1)


@cache
def displays() -> dict[str, Display]:
    """Every display that is run, by its label or its place."""
    found = found_displays(read_chapters(ROOT / "chapters"))
    return {
        display.label or display.chapter.where(display.line): display
        for display in found
        if "unrun" not in display.known
    }


@cache
def stage(label: str) -> Stage:
    return stage_of(displays()[label])


def fault(label: str, tex: str) -> Fault | None:
    return run(stage(label), str(displays()[label].known.get("left", "")) + tex)


def slipped(label: str, right: str, wrong: str) -> Fault:
    """What is said of an equation after a slip."""
    tex = displays()[label].tex
    assert right in tex, tex
    found = fault(label, tex.replace(right, wrong, 1))
    assert found is not None, f"{label} survived {wrong}"
    return found


# ---------------------------------------------------------------------- the parser


@pytest.mark.parametrize(
    ("tex", "line", "why"),
    [
        ("a = b\n+ \\foo", 1, "does not know \\foo"),
        ("a =\n\\frac{b}{", 1, "missing before the end"),
        ("a = (b\n+ c]", 1, ", is expected before ]"),
        ("a + b", 0, "claims nothing"),
        ("a = \\frac12", 0, "12 needs braces"),
        ("a = x^12", 0, "12 needs braces"),
        ("a = \\frac{1}\\sqrt{2}", 0, "\\sqrt needs braces"),
        ("a\n= \\left( b", 1, "\\left is not closed"),
        ("a = b \\right)", 0, "no \\left has opened"),
        ("a = \\left b", 0, "no bracket follows"),
        ("a = \\begin{cases} b \\end{cases}", 0, "does not know \\begin{cases}"),
        ("a = \\mathbb{P}(b)", 0, "\\mathbb{E} only"),
        ("a = \\mathrm{KL}(p)", 0, "KL(p \\Vert q)"),
        ("a = f(b \\mid )", 0, "missing before )"),
        ("a = f(b, )", 0, "missing before )"),
        ("a = b_", 0, "missing before the end"),
        ("a = b^", 0, "missing before the end"),
        ("a \\approx b", 0, "does not know \\approx"),
        ("a = b c )", 0, "cannot read on at )"),
        ("a = \\text{words} )", 0, "cannot read on at )"),
        ("a = +b", 0, "missing before +"),
        ("a = w_{ij}", 0, "has two indices, or their product"),
        ("a = (b, c \\mid d)", 0, "a bar stands in a bracket"),
    ],
)
def test_what_is_no_known_tex_is_an_error_with_its_line(tex, line, why):
    with pytest.raises(Unreadable) as error:
        read(tex, {"f"})
    assert error.value.line == line and why in error.value.why, error.value.why


def value(tex: str, **symbols) -> float:
    """The right side of `a = ...`."""
    [claim] = read(f"a = {tex}", {name for name, v in symbols.items() if callable(v)})
    return float(Env(symbols, ranges={"k": range(1, 3)}).value(claim.sides[1]))


@pytest.mark.parametrize(
    ("tex", "found"),
    [
        ("2 + 3 \\cdot 4 - 1", 13),
        ("- 2^2", -4),
        ("6 / 2 x", 15),
        ("\\frac{1}{2} x^2", 12.5),
        ("\\sqrt{4 x^2}", 10),
        ("\\ln \\exp(2) x", 10),
        ("\\cos^2(0) + \\sin(0)", 1),
        ("\\log_2 8", 3),
        ("\\min\\left( x,\\; 3 \\right)", 3),
        ("\\sum_{i=1}^{3} i x + 1", 31),
        ("\\prod_{i=1}^{3} (i + 1)", 24),
        ("\\sum_k c_k^2", 13),
        ("f(x, 1)", 4),
        ("x \\left( x + 1 \\right)", 30),
        ("\\underbrace{x + 1}_{\\text{more}} \\cdot 2", 12),
        ("\\left\\{ x - \\left[ 1 + 1 \\right] \\right\\}", 3),
        ("c_{3 - 1} % the second", 3),
        ("\\int \\mathcal{N}(x \\mid 0.3, 2 I)\\, \\mathrm{d}x", 1),
    ],
)
def test_a_printed_expression_has_its_value(tex, found):
    symbols = {"x": 5.0, "c": [None, 2.0, 3.0], "f": lambda a, b: a - b}
    if "mathcal" in tex:
        symbols["\\mathcalN"] = lambda: None
    assert value(tex, **symbols) == pytest.approx(found, abs=1e-9)


def test_a_row_with_dots_is_written_out():
    row = "\\left( 2 c_1, \\dots, 2 c_{n - 1}, 0 \\right)"
    [claim] = read(f"a = {row}")
    env = Env({"c": [None, 1.0, 4.0, 9.0, 16.0], "n": 5.0})
    assert env.value(claim.sides[1]).tolist() == [2, 8, 18, 32, 0]


@pytest.mark.parametrize(
    ("tex", "why"),
    [
        ("b", "unknown symbol b"),
        ("c_7", "unknown symbol c_7"),
        ("c_0", "unknown symbol c_0"),
        ("c_{1/2}", "unknown symbol c"),
        ("x_1", "unknown symbol x_1"),
        ("c", "stands alone"),
        ("I", "I stands where no covariance is"),
        ("\\sum_j c_j", "has no bounds"),
        ("\\nabla 2", "does not vary"),
        ("\\mathcal{N}(0, I)", "a law stands where a number is needed"),
        ("\\mathcal{N}(x \\mid 0, 2)", "a number times I"),
        ("\\mathcal{N}(x \\mid 0, 2 + I)", "a number times I"),
        ("\\mathcal{N}(x \\mid 0)", "a mean and a variance"),
        ("\\left( c_1 + 1, \\dots, c_2 + 2 \\right)", "more than one place"),
    ],
)
def test_what_has_no_value_is_refused(tex, why):
    [claim] = read(f"a = {tex}", {"\\mathcalN"})
    env = Env({"x": 5.0, "c": [None, 2.0, 3.0]}, gradient_by=("x", None))
    with pytest.raises(Refused, match=why.replace("(", "\\(")):
        env.value(claim.sides[1])


def test_a_row_of_an_aligned_display_may_go_on_in_the_next():
    rows = r"a &= b \\ &\quad - c, \\ d &= [ &e \\ &+ f ]"
    joined = read(r"\begin{aligned}" + rows + r"\end{aligned}")
    spelt = read("a = b - c, d = [ e + f ]")
    assert [c.sides for c in joined] == [c.sides for c in spelt]


def test_a_letter_is_a_function_only_where_somebody_says_so():
    [factor] = read("a = g (b)")
    [called] = read("a = g (b)", {"g"})
    assert factor.sides[1] == Node("times", (Symbol("g"), Symbol("b")))
    assert called.sides[1] == Node("call", (Symbol("g"), [[Symbol("b")]]))


# ---------------------------------------------------------------------- the claims


@pytest.mark.parametrize(
    ("label", "right", "wrong", "line", "why"),
    [
        ("eq-jump", "1 - \\bar", "1 + \\bar", 0, "the sides differ by"),
        ("eq-jump", "\\epsilon \\sim", "\\xi_t \\sim", 1, "no other place"),
        ("eq-jump", "N}(0, I)", "N}(1, I)", 1, "the sides differ by"),
        ("eq-kernel", " I", "", 0, "a covariance must be a number times I"),
        ("eq-reverse-chain", "N}(0, I)", "N}(0, 1)", 1, "times I"),
        ("eq-decoder", "\\dots, T", "\\dots, T - 1", 1, "the sides differ by inf"),
        ("eq-decoder", "z_0 = x", "z_1 = x", 1, "the sides differ by"),
        ("eq-simple-loss", "\\{1, ", "\\{0, ", 1, "the sides differ by inf"),
        ("eq-kl-means", "t \\ge 2", "t \\ge 1", 3, "the sides differ by inf"),
        ("eq-kl-means", "t \\ge 2", "v_t \\ge 2", 3, "where the two sides"),
        ("eq-time-embedding", "\\sin(\\omega_0", "\\cos(\\omega_0", 0, "more than one"),
        ("eq-alpha-bar", "s=1", "s=0", 0, "unknown symbol \\beta_0"),
        ("eq-telescope", "z_{t-1} \\mid x", "z_{t-1} \\mid y", 0, "y has no place"),
        ("eq-first-step", "\\beta_1", "\\beta_t", 0, "unknown symbol \\beta_t"),
        ("eq-ema", "\\bar w \\leftarrow", "w \\leftarrow", 0, "becomes new"),
        ("eq-residual", "h \\mapsto", "e \\mapsto", 0, "becomes new"),
        ("eq-snr", "\\bar\\alpha_t}{", "\\mathrm{SNR}_t}{", 0, "on both sides"),
        ("eq-snr-weight", "(v_t =", "(\\tilde\\beta_t =", 1, "on both sides"),
        ("eq-chain", "z_1, \\dots", "z_2, \\dots", 0, "the chain is z_1"),
        ("eq-elbo", "p_w(x, z)", "p_w(z)", 0, "the chain has no x"),
        ("eq-log-ratios", "p(z_T)", "p(z_1)", 0, "p without w is the law of z_T"),
        ("eq-elbo", "\\mathbb{E}_{q(z", "\\mathbb{E}_{p_w(z", 0, "not under p"),
        ("eq-sum", "u + v", "\\sqrt{u} + v", 0, "and of nothing else"),
    ],
)
def test_each_kind_of_slip_is_named_with_its_line(label, right, wrong, line, why):
    found = slipped(label, right, wrong)
    assert found.line == line and why in found.why, found


def test_every_print_holds_and_nothing_that_it_runs_against_is_idle():
    assert printed_problems(read_chapters(ROOT / "chapters")) == []


REWRITES = {
    "no thin spaces": lambda tex: re.sub(r"\\[;,] ?", " ", tex),
    "indices in braces": lambda tex: re.sub(r"_t(?![a-z])", "_{t}", tex),
    "accents in braces": lambda tex: tex.replace(r"\bar\alpha", r"\bar{\alpha}"),
    "plain brackets": lambda tex: re.sub(r"\\(left|right)(?=[()\[\]])", "", tex),
    "on one line": lambda tex: " ".join(tex.split()),
    "with a comment": lambda tex: tex + " % as in the paper",
    "small fractions": lambda tex: tex.replace(r"\frac", r"\tfrac"),
    "no full stop": lambda tex: tex.rstrip(" .,"),
}


@pytest.mark.parametrize("name", REWRITES)
def test_a_harmless_rewrite_raises_no_alarm(name):
    for label in [*displays()][::3]:
        tex = displays()[label].tex
        found = fault(label, REWRITES[name](tex))
        assert found is None, f"{label}: {found}: {REWRITES[name](tex)}"


# ---------------------------------------------------------------------- the gate


@pytest.fixture(scope="module")
def first_chapters(tmp_path_factory):
    """Two chapters of the book and its YAML files, to be spoilt."""
    root = tmp_path_factory.mktemp("printed")
    (root / "chapters").mkdir()
    for path in (ROOT / "chapters").iterdir():
        if path.suffix == ".yml" or path.name[:2] in ("01", "02"):
            shutil.copy(path, root / "chapters")
    (root / "chapters" / "displays.yml").unlink()
    text = (root / "chapters" / "02-diffusion-kernel.md").read_text("utf-8")
    (root / "chapters" / "02-diffusion-kernel.md").write_text(
        re.sub(r"^\$\$\n[^$]*epsilon'[^$]*\$\$\n", "", text, flags=re.M)
    )
    return root


@pytest.mark.parametrize(
    ("file", "right", "wrong", "said"),
    [
        (
            "01-forward-process.md",
            "\\prod_{s=1}^{t} (1 - \\beta_s), \\qquad",
            "\\prod_{s=1}^{T} (1 - \\beta_s), \\qquad",
            r"01-forward-process.md:\d+: eq-alpha-bar: the sides differ by .* at t = 1 "
            r"\(allowed 1e-10\); run against NoiseSchedule",
        ),
        (
            "02-diffusion-kernel.md",
            "= 1 - \\bar\\alpha_2 .",
            "= 1 - \\bar\\alpha_1 .",
            r"eq-two-variances: the sides differ",
        ),
        (
            "equations.yml",
            ", run: q_sample}\neq-blend",
            "}\neq-blend",
            r"02-diffusion-kernel.md:\d+: eq-jump: chapters/equations.yml does not say",
        ),
        (
            "equations.yml",
            "run: q_sample}\neq-blend",
            "run: q_simple}\neq-blend",
            "eq-jump: run: q_simple, but the package offers no q_simple",
        ),
        (
            "equations.yml",
            "run: q_sample}\neq-blend",
            "run: q_posterior}\neq-blend",
            "eq-jump: run: q_posterior, but q_posterior has no part in its symbols",
        ),
        (
            "displays.yml",
            "",
            'nowhere: {chapter: "02", has: no such TeX}',
            r"chapters/displays.yml:1: nowhere: fits 0 displays, not one",
        ),
        (
            "displays.yml",
            "",
            'other: {chapter: "02", has: "= (1 - \\\\beta_t) -", when: never}',
            r"chapters/displays.yml:1: other: 'when' is none of ",
        ),
    ],
)
def test_the_gate_names_file_line_label_and_reason(
    first_chapters, file, right, wrong, said
):
    path = first_chapters / "chapters" / file
    before = path.read_text("utf-8") if path.is_file() else ""
    assert right in before
    path.write_text(before.replace(right, wrong, 1), encoding="utf-8")
    try:
        problems = printed_problems(read_chapters(first_chapters / "chapters"))
    finally:
        path.write_text(before) if before else path.unlink()
    assert len(problems) == 1 and re.search(said, problems[0]), problems
    assert problems[0].startswith("chapters/")


def test_a_new_equation_needs_an_entry_and_then_it_runs(tmp_path):
    folder = tmp_path / "chapters"
    folder.mkdir()
    equation = "$$\nz_t = x\n+ \\sqrt{1 - \\bar\\alpha_t}\n$$ (eq-new)\n"
    (folder / "01-a.md").write_text(HEADER + equation)
    line = HEADER.count("\n") + 2

    def said(entry: str) -> str:
        (folder / "equations.yml").write_text(entry)
        return "\n".join(printed_problems(read_chapters(folder)))

    assert said("eq-other: {note: x}") == f"chapters/01-a.md:{line}: eq-new: " + (
        "chapters/equations.yml does not say how its print is run; add `run: FUNCTION` "
        "of the package, `run: sides`, or `unrun: reason`"
    )
    assert "the sides differ by" in said("eq-new: {run: sides}")
    assert said("eq-new: {unrun: a joke}") == ""
    (folder / "01-a.md").write_text(
        HEADER
        + equation.replace("x\n+", "\\sqrt{\\bar\\alpha_t} x +").replace(
            "alpha_t}\n", "alpha_t} \\epsilon\n"
        )
    )
    assert said("eq-new: {run: noise_from_x}") == ""


# ---------------------------------------------------------------------- slips


def test_slips_are_generated_of_every_kind():
    each = [slips.slips_of(display.tex) for display in displays().values()]
    kinds = {slip.kind for some in each for slip in some}
    assert set(slips.KINDS) - kinds == set(), "a kind of slip that no equation has"


@pytest.mark.parametrize("label", ["eq-step", "eq-jump", "eq-three-terms"])
def test_every_slip_in_an_equation_is_found(label):
    true, known = slips.read_list(ROOT)
    found = slips.hunt_in(displays()[label], true, known)
    assert found.planted > 30 and found.problems == [] and found.known


def test_an_unlisted_survivor_and_an_idle_row_are_named():
    true, known = slips.read_list(ROOT)
    bayes = displays()["eq-bayes"]
    found = slips.hunt_in(bayes, [], known)
    assert (
        len(found.problems) == 1
        and "SURVIVED: x lost in a condition" in (found.problems[0])
    )
    listed = slips.hunt_in(bayes, true, known)
    assert listed.problems == [] and [row.label for row in listed.true] == ["eq-bayes"]
    idle = slips.idle(listed, [*listed.true, true[0]], [], {"eq-bayes"})
    assert len(idle) == 1 and true[0].prints in idle[0]


def test_a_slip_of_the_notes_must_fit_and_be_found():
    step = displays()["eq-step"]
    known = slips.Known("a", "S1:1", "eq-step", "no such TeX", "x")
    assert "does not print no such TeX" in slips.hunt_in(step, [], [known]).problems[0]
    harmless = slips.Known("b", "S1:1", "eq-step", "\\,", " ")
    assert "SURVIVED: b" in slips.hunt_in(step, [], [harmless]).problems[0]
