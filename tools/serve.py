"""Serve a folder from this machine, for as long as something looks at it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NOWHERE = str(Path(__file__) / "nowhere")


class Handler(SimpleHTTPRequestHandler):
    """Files below a folder, as a host with the prefix `base` would serve them."""

    def __init__(self, *words: Any, base: str, **named: Any) -> None:
        self.base = base
        super().__init__(*words, **named)

    def translate_path(self, path: str) -> str:
        inside = path == self.base or path.startswith(self.base + "/")
        # No file lies below a file: what lies outside the prefix is not there.
        return super().translate_path(path[len(self.base) :]) if inside else NOWHERE

    def log_message(self, *_: Any) -> None:
        """Nobody reads a log."""


@contextmanager
def serve(folder: Path, base: str = "") -> Iterator[str]:
    """Serve a folder under the path `base`; gives the address of its root."""
    handler = functools.partial(Handler, directory=str(folder), base=base)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{base}"
        finally:
            server.shutdown()
            thread.join()
