"""The package as a whole: lazy import, documented names, refused input."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import re
import subprocess
import sys
import tomllib
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from export import defined_names

import ddpm_lit
from chapters import read_chapters
from conftest import ROOT, package_files, public_names
from ddpm_lit.data import to_uint8
from ddpm_lit.datasets import open_data
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.elbo import elbo_terms
from ddpm_lit.forward import q_sample, q_step
from ddpm_lit.images import save_grid
from ddpm_lit.losses import kl_weight
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.networks.unet import UNet
from ddpm_lit.posterior import q_posterior
from ddpm_lit.recipes import DataConfig, UNetConfig
from ddpm_lit.samplers import ddpm
from ddpm_lit.sampling import Noise, sample
from ddpm_lit.schedules import (
    NoiseSchedule,
    at_step,
    kept_steps,
    linear_betas,
    make_schedule,
)
from ddpm_lit.training import EMA

MODULES = package_files()
PUBLIC = public_names()


def test_import_loads_no_torch():
    code = (
        "import sys, ddpm_lit, ddpm_lit.cli as c; c.build_parser(); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


def test_the_first_use_loads_no_drawing_library():
    """Nor what the lab kit or a rare function needs."""
    heavy = ["seaborn", "matplotlib", "pandas", "scipy.stats", "ipywidgets", "sklearn"]
    code = (
        "import sys, ddpm_lit; ddpm_lit.train; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stdout + out.stderr


def thing(name: str) -> Any:
    """What a public name stands for."""
    return getattr(import_module(f"ddpm_lit.{PUBLIC[name]}"), name)


def test_the_package_offers_a_chosen_list_of_names():
    for name in ddpm_lit.__all__:
        assert getattr(ddpm_lit, name) is thing(name)
    assert dir(ddpm_lit) == sorted(ddpm_lit.__all__)
    names: dict[str, object] = {}
    exec("from ddpm_lit import *", names)
    assert set(names) - {"__builtins__"} == set(ddpm_lit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddpm_lit.nothing
    with pytest.raises(AttributeError, match="no attribute 'linear_betas'"):
        _ = ddpm_lit.linear_betas


def test_every_public_name_is_documented():
    for name in PUBLIC:
        each = thing(name)
        if inspect.isfunction(each) or inspect.isclass(each):
            assert inspect.getdoc(each), f"{name} has no docstring"
        if inspect.isfunction(each):
            signature = inspect.signature(each)
            for parameter in signature.parameters.values():
                assert parameter.annotation is not parameter.empty, (name, parameter)
            assert signature.return_annotation is not signature.empty, name


# What each declared dependency is imported as.
RUNTIME = {
    "filelock": "filelock",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pillow": "PIL",
    "pooch": "pooch",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "tqdm": "tqdm",
}
# What single modules may import besides, from the extras.
EXTRAS = {
    "evaluation": {"torch_fidelity"},
    "hub": {"huggingface_hub", "onnx"},
    "book.pages": {"onnx"},
    "book.plotting": {"seaborn"},
    "book.widgets": {"ipywidgets"},
}


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


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_is_declared(module):
    allowed = set(RUNTIME.values()) | EXTRAS.get(module, set())
    found = imported(MODULES[module])
    assert found <= allowed, f"{module} imports {found - allowed}"


def test_the_kit_declares_what_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*extras["book"]]
    kit = {re.split(r"[\[<>=!~ ;]", each)[0] for each in wanted}
    for name in re.findall(r"ddpm_lit\[(\w+)\]", " ".join(wanted)):
        kit |= {re.split(r"[\[<>=!~ ;]", each)[0] for each in extras[name]}
    files = [path for name, path in MODULES.items() if name.startswith("book.")]
    needed = set().union(*map(imported, files)) - set(RUNTIME.values())
    assert needed <= kit, needed - kit


def test_no_module_uses_an_undefined_name():
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F"]
    done = subprocess.run([*command, *MODULES.values()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def imports(tree: ast.AST) -> dict[str, str]:
    """What the code calls a public name -> the name, if it takes it from the module
    that defines it or from the package: `q_sample`, `training.train`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                offered = node.module == "ddpm_lit" and alias.name in ddpm_lit.__all__
                home = f"ddpm_lit.{PUBLIC.get(alias.name)}"
                if offered or node.module == home:
                    found[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name
                found |= {
                    f"{bound}.{name}": name
                    for name, module in PUBLIC.items()
                    if alias.name == f"ddpm_lit.{module}"
                }
    return found


def called(tree: ast.AST) -> set[str]:
    """Names that are called, made into a subclass, or expected to be raised."""
    used: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            used += node.bases
        elif isinstance(node, ast.Call):
            used.append(node.func)
            if ast.unparse(node.func).endswith("raises"):
                used += node.args
            if ast.unparse(node.func) == "check_refused":
                used += node.args[:1]
    return {ast.unparse(each) for each in used}


def used_by_tests() -> set[str]:
    """Public names that a test calls by an import of theirs."""
    found = set()
    for path in sorted((ROOT / "tests").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        names = imports(tree)
        found |= {names[each] for each in called(tree) & set(names)}
    return found


def used_by_chapters() -> set[str]:
    """Public names that a cell of a chapter calls, where no cell gives the name to
    something else: imported, or exported by the same chapter."""
    found = set()
    for chapter in read_chapters(ROOT / "chapters"):
        names: dict[str, str] = {}
        plain: list[ast.stmt] = []
        for cell in chapter.cells:
            tree = ast.parse(cell.source)
            defined = {name for stmt in tree.body for name in defined_names(stmt)}
            names |= imports(tree)
            if cell.tagged("export"):
                names |= {name: name for name in defined if name in PUBLIC}
            else:
                names = {key: name for key, name in names.items() if key not in defined}
                plain += tree.body
        calls = called(ast.Module(plain, []))
        found |= {names[each] for each in calls & set(names)}
    return found


def test_only_a_name_that_is_imported_counts_as_called():
    code = (
        "from ddpm_lit.runs import train as learn\nfrom mine import sample\n"
        "import ddpm_lit.data as data\n"
        "learn(); sample(); self.q_step(); data.load_digits(); q_sample()"
    )
    tree = ast.parse(code)
    names = imports(tree)
    assert {names[each] for each in called(tree) & set(names)} == {
        "train",
        "load_digits",
    }


def test_every_public_function_and_class_is_called_by_a_test():
    """Of a dataclass it is enough that a function which returns one is called."""
    public = {
        name
        for name in PUBLIC
        if inspect.isfunction(thing(name))
        or (inspect.isclass(thing(name)) and not is_dataclass(thing(name)))
    }
    assert public - used_by_tests() - used_by_chapters() == set()


S = make_schedule("linear", 10)
X = torch.zeros(4, 1, 8, 8)


ONES = Denoiser(lambda z, t: torch.ones_like(z), S)
PIXELS = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseSchedule(torch.tensor([1.0, 0.1])), "beta_1 = 1.0 is not in"),
        (lambda: NoiseSchedule(torch.tensor([0.1, 1.1])), "beta_2 = 1.1"),
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
        (lambda: to_uint8(X * math.nan), "a picture holds NaN"),
        (lambda: kl_weight(3, S, "sigma"), "variance 'sigma' is none of beta, beta_t"),
        (lambda: elbo_terms(ONES, X, variance="x"), "variance 'x' is none of beta"),
        (lambda: kept_steps(10, 11), "steps = 11 is not a whole number in 1..10"),
        (lambda: sample(ONES, S, X, steps=0), "steps = 0 is not a whole number"),
        (lambda: sample(ONES, S, X, start=11), "start = 11 is not in 1..10"),
        (lambda: Denoiser(ONES, S, "score"), "objective 'score' is none of noise"),
        (lambda: Denoiser(ONES, S, variance="x"), "variance 'x' is none of beta"),
        (lambda: UNetConfig(base_channels=12), "12 channels cannot be divided"),
        (lambda: UNetConfig(groups=0), "groups = 0 must be at least 1"),
        (lambda: UNetConfig(base_channels=2, groups=1), "base_channels = 2 must be"),
        (lambda: UNetConfig(channel_multipliers=()), "channel_multipliers is empty"),
        (lambda: UNetConfig(channel_multipliers=(1e308,)), "is no whole number"),
        (lambda: UNetConfig(shown="smaller"), "smaller:N has a number above 1"),
        (lambda: UNetConfig(attention_levels=(7,)), "must lie in 0..1"),
        (lambda: UNetConfig(dropout=math.nan), "dropout = nan must be a finite number"),
        (lambda: save_grid(PIXELS[:0], "a.png"), "0 images"),
        (lambda: save_grid(PIXELS, "a.jpg"), "a .png"),
        (lambda: save_grid(X, "a.png"), "give uint8"),
        (
            lambda: ddpm(ONES, X, 2, 1, S, lambda: X, [], variance="Beta"),
            "'Beta' is none of beta, beta_tilde",
        ),
        (lambda: UNetConfig().check_size(7, 8), "7 x 8 pixels cannot be halved"),
        (lambda: EMA(torch.nn.Linear(1, 1), 1.0), "ema decay 1.0 is not in"),
        (lambda: GaussianMixture([1, -1], [0, 0], [1, 1]), "positive weights"),
        (lambda: open_data(DataConfig("cats")), "unknown data set 'cats'"),
        (lambda: open_data(DataConfig(), "all"), "unknown split 'all'"),
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
    assert S.to("meta") is S.to("meta"), "the tables are moved at every step"
    assert S.to("meta").beta_tilde.device.type == "meta"
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
        noise = Noise(seed, range(3), (1, 4, 4))
        return sample(ONES, S, noise(), noise=noise)

    assert torch.equal(make(1), make(1)) and not torch.equal(make(1), make(2))
    last = ddpm(ONES, X, 1, 0, S, lambda: X * math.nan, [])
    assert torch.isfinite(last).all(), "the last step adds noise"


PRINTED = ["README.md", "CONTRIBUTING.md"]
PRINTED += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "chapters").glob("*.md"))


@pytest.mark.parametrize("page", PRINTED)
def test_lines_of_python_that_a_page_shows_find_what_they_name(page):
    """They are not run, for they train and download; but they import what they name."""
    text = (ROOT / page).read_text("utf-8")
    known: dict[str, Any] = {**vars(builtins), "MyNetwork": None}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        tree = ast.parse(block)
        for part in tree.body:
            if isinstance(part, ast.Import | ast.ImportFrom):
                exec(ast.unparse(part), known)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        known |= {n.id: None for n in names if isinstance(n.ctx, ast.Store)}
        strange = {n.id for n in names} - known.keys()
        assert not strange, f"{page} shows names that it does not import: {strange}"
