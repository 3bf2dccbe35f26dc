"""The built wheel in a clean environment, used as the README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT


def run(*words: str | Path, cwd: Path, expect: int = 0) -> str:
    """Run a program that must end with the expected status; all that it printed."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH",)}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=clean,
    )
    text = done.stdout + done.stderr
    assert done.returncode == expect, f"{words} ended with {done.returncode}:\n{text}"
    return text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("dist")
    build = ["-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    run(sys.executable, *build, cwd=folder)
    assert list(folder.glob("*.tar.gz")), "no sdist was built"
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """bin/ of an environment that holds the wheel and what it requires, no more."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    # A few processes import a part of it; what they import is compiled by the first.
    pip = ["-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    run(python, *pip, "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder / "bin"


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {"py.typed", "networks/unet.py", "networks/fast.py", "book/checks.py"}
    # Data, which the exporter does not write.
    expected |= {"book/backbones.xz"}
    expected |= {f"book/{name}/model.safetensors" for name in ("fashion", "mnist")}
    assert {f"ddpm_lit/{name}" for name in expected} <= set(names)
    assert all(name.startswith(("ddpm_lit/", "ddpm_lit-")) for name in names)


def test_every_core_module_imports_in_a_clean_environment(installed, tmp_path):
    code = (
        "import importlib, json, pkgutil, ddpm_lit\n"
        "found = pkgutil.walk_packages(ddpm_lit.__path__, 'ddpm_lit.')\n"
        "names = [m.name for m in found if not m.name.startswith('ddpm_lit.book')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(json.dumps(names))\n"
    )
    names = json.loads(run(installed / "python", "-c", code, cwd=tmp_path))
    core = {"schedules", "networks.unet", "training", "sampling", "runs", "cli"}
    assert {f"ddpm_lit.{name}" for name in core} <= set(names)


def test_the_modules_of_the_wheel_use_no_undefined_name(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F"]
    run(*ruff, tmp_path / "ddpm_lit", cwd=tmp_path)


def test_every_public_name_resolves_in_a_clean_environment(installed, tmp_path):
    code = "from ddpm_lit import *; print(sample.__name__)"
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip() == "sample"


@pytest.mark.parametrize(
    ("module", "missing"), [("plotting", "seaborn"), ("widgets", "ipywidgets")]
)
def test_without_the_extra_the_kit_names_what_is_missing(
    installed, tmp_path, module, missing
):
    code = (
        f"try: import ddpm_lit.book.{module}\n"
        "except ModuleNotFoundError as error: print(error.name)\n"
    )
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip() == missing


def test_the_readmes_commands(installed, tmp_path):
    command = installed / "ddpm-lit"
    train = ["train", "--data", "digits", "--out", "runs/digits"]
    # Chapter 8 trains all the steps that this command would take.
    run(command, *train, "--train-steps", "200", cwd=tmp_path)
    folder = tmp_path / "runs" / "digits"
    for name in ("checkpoint.safetensors", "loss.svg", "samples.png", "recipe.json"):
        assert (folder / name).stat().st_size > 0
    words = ["sample", "runs/digits", "--num", "64", "--steps", "100"]
    run(command, *words, "--out", "grid.png", cwd=tmp_path)
    assert (tmp_path / "grid.png").stat().st_size > 1000
    assert "parameters" in run(command, "info", "runs/digits", cwd=tmp_path)
    # The folder is all that sampling needs: move it away and sample again.
    shutil.move(folder, tmp_path / "moved")
    again = [command, *words[:1], "moved", *words[2:], "--out", "again.png"]
    run(*again, cwd=tmp_path)
    same = (tmp_path / "again.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    assert same, "the same seed gave other images"


def test_bad_input_is_one_line_and_status_2(installed, tmp_path):
    (tmp_path / "file.txt").write_text("x")
    command = installed / "ddpm-lit"
    for words in (
        ["train", "--data", "cats"],
        ["train", "--out", "file.txt/run", "--train-steps", "1", "--quiet"],
        ["train", "--train-steps", "many"],
        ["sample", "nowhere"],
        ["info", "file.txt"],
        [],
    ):
        text = run(command, *words, cwd=tmp_path, expect=2)
        assert len(text.strip().splitlines()) == 1, text
        assert "Traceback" not in text and "error: " in text
    assert (tmp_path / "file.txt").read_text() == "x"
