"""Bring the chapters into their one canonical form, or check that they are.

    python tools/format_chapters.py           rewrite chapters that differ
    python tools/format_chapters.py --check   name them and fail

Canonical means: what JupyterLab writes when a chapter is saved unchanged, with the
code of every cell formatted by ruff.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jupytext
import yaml
from jupytext.config import load_jupytext_config

from chapters import as_notebook, chapter_number, code_lines

KERNEL = {
    "name": "python3",
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
}


def format_cells(sources: list[str]) -> list[str]:
    """Format many cells with one call of ruff; cells with magics are left alone."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"cell_{i}.py" for i in range(len(sources))]
        for path, source in zip(paths, sources, strict=True):
            path.write_text(source + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--quiet"]
        subprocess.run([*command, folder], capture_output=True, text=True)
        return [path.read_text("utf-8").rstrip("\n") for path in paths]


def canonical(text: str, path: Path) -> str:
    """The canonical text of the chapter at `path`."""
    notebook = as_notebook(text, path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, source in zip(code, format_cells([c.source for c in code]), strict=True):
        cell.source = source
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata["numbering"] = {"enumerator": f"{chapter_number(path)}.%s"}
    notebook.metadata["jupytext"] = {"default_lexer": "ipython3"}
    config = load_jupytext_config(str(path))
    written = jupytext.writes(notebook, fmt="md:myst", config=config)
    return re.sub(r" +jupytext_version:.*\n", "", written)


def header_and_body(text: str) -> tuple[Any, str]:
    """The header as what it says, whatever the order of its keys, and the rest."""
    _, header, body = (
        text.split("---\n", 2) if text.count("---\n") > 1 else ("", "", text)
    )
    return yaml.safe_load(header), body


def complaint(text: str, want: str) -> str:
    """What a chapter that is not canonical needs."""
    if header_and_body(text) == header_and_body(want):
        return (
            "the header's keys stand in another order, as `jupytext --sync` may leave "
            "them; run `make format`"
        )
    return "not canonical; run `make format`"


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 when a chapter is not canonical and --check is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    parser.add_argument("--root", type=Path, default=Path.cwd())
    args = parser.parse_args(argv)
    wrong = 0
    for path in sorted((args.root / "chapters").glob("[0-9][0-9]-*.md")):
        text = path.read_text("utf-8")
        try:
            want = canonical(text, path)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        if text == want:
            continue
        wrong += 1
        if args.check:
            pairs = zip(text.splitlines(), want.splitlines(), strict=False)
            line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
            said = f"chapters/{path.name}:{line}: {complaint(text, want)}"
            print(said, file=sys.stderr)
        else:
            path.write_text(want, encoding="utf-8")
            print(f"chapters/{path.name}: formatted, {len(code_lines(want))} cells")
    return 1 if wrong and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
