"""The results of the chapters, where mystmd keeps them and looks for them.

mystmd keeps what the cells of a chapter put out in ``_build/execute/KEY.ipynb``; the
key is a hash of the chapter's code. A chapter whose key is there is not run again. The
tests run every chapter and keep its results in the same way, so that the book shows
what was tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chapters import Chapter, read_chapter

KERNEL = "python3"  # the name in every chapter's header
# A chapter that reads what another one leaves on disk.
FOLLOWS = {"09-sampling.md": "08-training.md"}
# How chapters run, in a build and in the tests, unless somebody chose otherwise. Their
# networks are small: a second thread saves little, and on a busy machine the threads
# of PyTorch wait for each other most of the time.
THREADS = {"OMP_NUM_THREADS": "1"}


def digest(paths: Iterable[Path], root: Path) -> str:
    """Hash names below `root` and contents: a rename counts as a change too, the
    place of the repository does not."""
    total = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(root).as_posix()
        total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def is_current(stamp: Path, value: str) -> bool:
    return stamp.is_file() and stamp.read_text() == value


def package(root: Path) -> str:
    """What results depend on besides the chapter, as one value: the package that it
    imports, with the weights and data in it, and the pinned versions."""
    held = [
        path
        for path in (root / "ddpm_lit").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyo")
    ]
    return digest([*held, *root.glob("constraints.txt")], root)


def key(chapter: Chapter) -> str:
    """The name under which mystmd keeps the results of a chapter."""
    cells = [
        {"kind": "block", "content": cell.source, "raisesException": False}
        for cell in chapter.cells
    ]
    text = json.dumps(cells, ensure_ascii=False, separators=(",", ":"))
    return hashlib.md5((KERNEL + text).encode()).hexdigest()


def place(root: Path, chapter: Chapter) -> Path:
    """The file that holds the results of a chapter, if there are any."""
    return root / "_build" / "execute" / f"{key(chapter)}.ipynb"


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One process at a time changes what is kept."""
    (root / "_build").mkdir(exist_ok=True)
    with (root / "_build" / ".results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def drop_stale(root: Path, value: str) -> None:
    """Drop all results unless they belong to the package `value`."""
    stamp = root / "_build" / "package.sha256"
    if not is_current(stamp, value):
        shutil.rmtree(root / "_build" / "execute", ignore_errors=True)
        stamp.write_text(value)


def forget_stale(root: Path, chapters: list[Chapter]) -> None:
    """Drop what may no longer be true: all results when the package has changed, and
    those of a chapter that reads what another, without results, will write again."""
    named = {chapter.path.name: place(root, chapter) for chapter in chapters}
    with locked(root):
        drop_stale(root, package(root))
        for later, earlier in FOLLOWS.items():
            if later in named and earlier in named and not named[earlier].is_file():
                named[later].unlink(missing_ok=True)


def forget(root: Path, chapter: Chapter) -> None:
    """Drop the results of a chapter that is about to run, and of one that follows."""
    folder = root / "chapters"
    later = [folder / name for name, of in FOLLOWS.items() if of == chapter.path.name]
    with locked(root):
        for each in [
            chapter,
            *(read_chapter(path) for path in later if path.is_file()),
        ]:
            place(root, each).unlink(missing_ok=True)


def missing(root: Path, chapters: list[Chapter]) -> list[str]:
    """A line for each chapter with code whose results are not kept."""
    return [
        f"{chapter.where(1)}: has not run since it or the package changed; "
        "run `make test` or `make book`"
        for chapter in chapters
        if chapter.cells and not place(root, chapter).is_file()
    ]


def outputs(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a kernel's messages about one cell leave below it, as mystmd has it."""
    found: list[dict[str, Any]] = []
    for message in messages:
        kind, content = message["header"]["msg_type"], dict(message["content"])
        if kind in ("stream", "execute_result", "error", "display_data"):
            found.append({"output_type": kind, **content})
        if kind == "update_display_data":
            shown = content.get("transient", {}).get("display_id")
            for output in found if shown is not None else ():
                if output.get("transient", {}).get("display_id") == shown:
                    output.update(data=content["data"], metadata=content["metadata"])
    return found


def keep(
    root: Path, chapter: Chapter, cells: list[list[dict[str, Any]]], value: str
) -> None:
    """Keep the outputs of a chapter's cells, run with the package `value`.

    Nothing is kept when the package is another one by now.
    """
    if len(cells) != len(chapter.cells):
        raise ValueError(f"{len(cells)} results for {len(chapter.cells)} cells")
    entries = [
        {
            "cell_type": "code",
            "source": [],
            "metadata": {"mystResultType": "code"},
            "outputs": outputs,
            "execution_count": count,
        }
        for count, outputs in enumerate(cells)
    ]
    about = {"path": chapter.path.name, "timestamp": datetime.now(UTC).isoformat()}
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"mystContext": about},
        "cells": entries,
    }
    path = place(root, chapter)
    with locked(root):
        if package(root) != value:
            return
        drop_stale(root, value)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)
