"""The package as a whole: lazy import, documented names, refused input."""

from __future__ import annotations

import ast
import inspect
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import ddpm_lit
from chapters import read_chapters
from conftest import ROOT
from ddpm_lit import (
    EMA,
    GaussianMixture,
    NoiseSchedule,
    UNet,
    UNetConfig,
    ancestral_step,
    at_step,
    elbo_terms,
    kl_weight,
    linear_betas,
    load_dataset,
    make_schedule,
    q_posterior,
    q_sample,
    q_step,
    respace,
    sample,
    save_grid,
    simple_loss,
)

MODULES = sorted((ROOT / "ddpm_lit").glob("*.py"))


def test_import_loads_no_torch():
    code = (
        "import sys, ddpm_lit, ddpm_lit.cli as c; c.build_parser(); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


def test_every_public_name_resolves_and_is_documented():
    assert len(ddpm_lit.__all__) > 60
    for name in ddpm_lit.__all__:
        thing = getattr(ddpm_lit, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"{name} has no docstring"
        if inspect.isfunction(thing):
            signature = inspect.signature(thing)
            for parameter in signature.parameters.values():
                assert parameter.annotation is not parameter.empty, (name, parameter)
            assert signature.return_annotation is not signature.empty, name
    assert set(ddpm_lit.__all__) <= set(dir(ddpm_lit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddpm_lit.nothing


# What each declared dependency is imported as.
RUNTIME = {
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pillow": "PIL",
    "pooch": "pooch",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "seaborn": "seaborn",
    "torch": "torch",
    "tqdm": "tqdm",
}
DRAWING = {"matplotlib", "seaborn"}
# Modules that may import more than numbers, and what the extras bring.
DRAWS = {"plotting", "widgets", "training"}
EXTRAS = {"widgets": {"ipywidgets"}, "hub": {"huggingface_hub"}}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"ddpm_lit"}


def test_the_declared_dependencies_are_those_we_know():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[\[<>=!~ ;]", r)[0] for r in project["dependencies"]}
    assert declared == set(RUNTIME)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_is_declared(path):
    allowed = set(RUNTIME.values()) - DRAWING | EXTRAS.get(path.stem, set())
    if path.stem in DRAWS:
        allowed |= DRAWING
    assert imported(path) <= allowed, f"{path.name} imports {imported(path) - allowed}"


def test_no_module_uses_an_undefined_name():
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F"]
    done = subprocess.run([*command, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def sources() -> Iterator[str]:
    """All code that tests the package: tests, and the cells that are not it."""
    for path in sorted((ROOT / "tests").glob("*.py")):
        yield path.read_text("utf-8")
    for chapter in read_chapters(ROOT / "chapters"):
        for cell in chapter.cells:
            if not cell.tagged("export"):
                yield cell.source


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def called(source: str) -> set[str]:
    """Names that are called, made into a subclass, or expected to be raised."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            found |= {last_name(base) for base in node.bases}
        elif isinstance(node, ast.Call):
            found.add(last_name(node.func))
            if last_name(node.func) == "raises":
                found |= {last_name(each) for each in node.args}
    return found


def test_every_public_function_and_class_is_called_by_a_test():
    names = set().union(*map(called, sources()))
    public = {
        name
        for name in ddpm_lit.__all__
        if inspect.isfunction(thing := getattr(ddpm_lit, name))
        or inspect.isclass(thing)
    }
    assert public - names == set(), "no test or check calls these"


S = make_schedule("linear", 10)
X = torch.zeros(4, 1, 8, 8)


def ones(z, t):
    return torch.ones_like(z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseSchedule(torch.tensor([0.1, 1.0])), "beta_2 = 1.0 is not in"),
        (lambda: NoiseSchedule(torch.tensor([0.0])), "beta_1 = 0.0 is not in"),
        (lambda: NoiseSchedule(torch.tensor([math.nan])), "is not in"),
        (lambda: NoiseSchedule(torch.tensor([-0.5])), "is not in"),
        (lambda: NoiseSchedule(torch.zeros(2, 2)), "must be a list of T numbers"),
        (lambda: NoiseSchedule(torch.tensor([])), "must be a list of T numbers"),
        (lambda: make_schedule("stairs", 10), "unknown schedule 'stairs'"),
        (lambda: make_schedule("cosine", 1), "T = 1 steps are too few"),
        (lambda: q_sample(X, 0, X, S), "t = 0 is not a step; t runs from 1 to 10"),
        (lambda: q_sample(X, torch.tensor([1, 2, 3, 11]), X, S), "t = 11"),
        (lambda: q_sample(X, torch.tensor([1, 2]), X, S), "one step per example"),
        (lambda: q_sample(X, 1, X[:2], S), "noise has shape (2, 1, 8, 8) but x has"),
        (lambda: q_step(X, 1, X[:2], S), "they must be equal"),
        (lambda: q_posterior(X, X[:2], 1, S), "z has shape"),
        (lambda: simple_loss(ones, X + 1.5, S), "data range from 1.5 to 1.5"),
        (lambda: simple_loss(ones, X * math.nan, S), "data range"),
        (lambda: kl_weight(3, S, "sigma"), "neither 'beta' nor 'beta_tilde'"),
        (lambda: elbo_terms(ones, X, S, variance="x"), "neither 'beta'"),
        (lambda: respace(S, 11), "steps = 11 is not in 1..10"),
        (lambda: sample(ones, S, (1, 2), sampler="magic"), "unknown sampler 'magic'"),
        (lambda: sample(ones, S, (1, 2), variance="x"), "variance 'x'"),
        (lambda: sample(ones, S, (1, 2), init=X), "init has shape"),
        (lambda: UNetConfig(base_channels=12), "12 channels cannot be divided"),
        (lambda: UNetConfig(groups=0), "groups = 0 must be at least 1"),
        (lambda: UNetConfig(base_channels=2, groups=1), "base_channels = 2 must be"),
        (lambda: UNetConfig(channel_multipliers=()), "one positive number per level"),
        (lambda: UNetConfig(attention_levels=(7,)), "must lie in 0..1"),
        (lambda: UNetConfig(dropout=math.nan), "dropout = nan is not in"),
        (lambda: save_grid(X[:0], "a.png"), "0 images"),
        (lambda: save_grid(X, "a.jpg"), "a .png"),
        (
            lambda: ancestral_step(ones, X, 2, S, X, variance="Beta"),
            "'Beta' is neither",
        ),
        (lambda: UNetConfig().check_size(7, 8), "7 x 8 pixels cannot be halved"),
        (lambda: EMA(torch.nn.Linear(1, 1), 1.0), "ema decay 1.0 is not in"),
        (lambda: GaussianMixture([1, -1], [0, 0], [1, 1]), "positive weights"),
        (lambda: load_dataset("cats"), "unknown data set 'cats'"),
        (lambda: load_dataset("digits", "all"), "unknown split 'all'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("t", [0, 11, -1])
def test_steps_count_from_one(t):
    try:
        q_sample(X, t, X, S)
    except ValueError as error:
        assert f"t = {t} is not a step" in str(error)
    else:
        pytest.fail(f"t = {t} was taken for one of 10 steps")


def test_schedule_moves_and_keeps_float64():
    moved = S.to("cpu")
    assert moved.T == 10 and moved.alpha_bar.dtype == torch.float64
    assert torch.equal(moved.beta_tilde, S.beta_tilde)
    with torch.device("meta"):
        assert UNet(UNetConfig())(torch.zeros(2, 1, 8, 8), torch.ones(2)).shape == (
            2,
            1,
            8,
            8,
        )


def test_coefficients_are_cast_only_at_use():
    half = torch.zeros(2, 3, dtype=torch.float16)
    assert at_step(S.alpha_bar, 3, half).dtype == torch.float16
    assert linear_betas(5).dtype == torch.float64
    assert q_sample(half, 3, half, S).dtype == torch.float16


def test_sampling_is_reproducible_and_ends_without_noise():
    def make(seed):
        g = torch.Generator().manual_seed(seed)
        return sample(ones, S, (3, 1, 4, 4), generator=g, progress=False)

    assert torch.equal(make(1), make(1)) and not torch.equal(make(1), make(2))
    assert float(make(1).abs().max()) <= 1
