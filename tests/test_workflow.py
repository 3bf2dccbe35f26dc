"""What runs on the host of the repository is what the README tells a reader to run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ddpm_lit
from conftest import ROOT

TEXT = (ROOT / ".github" / "workflows" / "book.yml").read_text("utf-8")
WORKFLOW = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = [
    step for job in WORKFLOW["jobs"].values() for step in job["steps"]
]


def commands() -> set[str]:
    """The commands in the README's blocks, without their comments."""
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", readme, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return {line.split("#")[0].strip() for line in lines}


def test_every_action_is_pinned_to_a_commit_and_names_its_version():
    used = re.findall(r"uses: (.*)", TEXT)
    assert len(used) == sum("uses" in step for step in STEPS) >= 5
    for line in used:
        pinned = re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
        assert pinned, f"not an official action pinned to a commit: {line}"


def test_every_step_runs_a_command_of_the_readme():
    runs = [step["run"].strip() for step in STEPS if "run" in step]
    assert runs == ["make test", "make book"]
    assert set(runs) <= commands()


def test_no_process_compiles_what_it_imports():
    # With a variable of Python's that forbids to keep it, each import of torch takes
    # twice as long, in each of a hundred processes.
    for module in (torch, ddpm_lit):
        kept = importlib.util.cache_from_source(str(module.__file__))
        assert Path(kept).exists(), f"{module.__name__} is compiled in each process"


def test_only_the_deployment_may_write():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for name, job in WORKFLOW["jobs"].items():
        writes = {k for k, v in job.get("permissions", {}).items() if v == "write"}
        assert writes == ({"pages", "id-token"} if name == "deploy" else set()), name


@pytest.mark.parametrize("name", WORKFLOW["jobs"])
def test_only_a_push_to_main_is_published(name):
    # YAML reads the key `on` as the truth value.
    events = WORKFLOW[True]
    assert events["push"] == {"branches": ["main"]} and "pull_request" in events
    job = WORKFLOW["jobs"][name]
    publishing = [s for s in job["steps"] if "pages" in s.get("uses", "")]
    guarded = job.get("if") == "github.event_name == 'push'"
    for step in publishing:
        assert guarded or step["if"] == "github.event_name == 'push'", step


def test_jupyterlab_starts_in_a_folder_whose_name_has_a_space(tmp_path):
    folder = tmp_path / "my book"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    jupyter = folder / ".venv/bin/jupyter"
    jupyter.write_text('#!/bin/sh\necho "$JUPYTER_CONFIG_PATH"\necho "$*"\n')
    jupyter.chmod(0o755)
    (folder / ".venv/.build").touch()  # nothing to install
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        ["make", "lab"], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    settings, options = done.stdout.splitlines()
    assert settings == f"{folder}/tools/jupyter"
    assert options.startswith("lab ") and options.endswith("chapters/index.md")
