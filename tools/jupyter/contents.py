"""The contents manager of `make lab`: jupytext's, with chapters that can be read."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import reading
from ipykernel.ipkernel import IPythonKernel
from jupytext import AsyncTextFileContentsManager


class BookContents(AsyncTextFileContentsManager):
    """Adds what is for reading when a chapter is opened, and keeps it out of files."""

    book = Path(__file__).resolve().parents[2]

    def chapter(self, path: str) -> Path | None:
        """The chapter that a path of the server means, also by its paired notebook."""
        place = Path(self._get_os_path(path.strip("/"))).resolve().with_suffix(".md")
        is_chapter = place.parent == self.book / "chapters" and place.is_file()
        return place if is_chapter else None

    async def get(self, path: str, content: bool = True, **options: Any) -> Any:
        model = await super().get(path, content=content, **options)
        if content and model["type"] == "notebook" and (place := self.chapter(path)):
            model["content"] = self.shown(model["content"], place)
        return model

    def shown(self, notebook: Any, place: Path) -> Any:
        """The notebook to read in; as it is where another chapter cannot be read."""
        copy = deepcopy(notebook)
        # What the kernel will say of itself: else JupyterLab writes it into the
        # notebook, and calls a chapter changed that nobody has touched.
        copy.metadata.language_info = IPythonKernel.language_info
        try:
            reading.show(copy, place)
        except Exception as error:  # whoever is writing must be able to go on
            self.log.warning("%s is shown as it is written: %s", place.name, error)
            return notebook
        return copy

    async def save(self, model: dict[str, Any], path: str = "") -> Any:
        if model["type"] == "notebook" and self.chapter(path):
            notebook = nbformat.from_dict(model["content"])
            reading.write(notebook)
            model = {**model, "content": notebook}
        return await super().save(model, path)
