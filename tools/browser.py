"""Find a Chromium for the tests of the pages and for the PDF, or install one.

    python tools/browser.py     print its path

Looked for in this order: $CHROMIUM, the usual names on PATH, the browser that
playwright keeps. If there is none, playwright downloads its own; where that fails,
root on a Debian-like system gets the package `chromium`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The tests and the PDF open only pages of this book, and containers rarely offer
# what the sandbox and /dev/shm need.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)
ADVICE = (
    "No Chromium was found and none could be installed: install Chromium or Google "
    "Chrome, or set CHROMIUM to the path of its program."
)


class NoBrowser(Exception):
    """There is no browser; the text says what to do."""


def given() -> Path | None:
    """The browser that the environment names.

    Raises NoBrowser when it names something that is no program.
    """
    name = os.environ.get("CHROMIUM")
    if not name:
        return None
    found = shutil.which(name)
    if found is None:
        raise NoBrowser(f"CHROMIUM={name} is not a program; give the path of Chromium.")
    return Path(found)


def on_path() -> Path | None:
    return next((Path(p) for p in map(shutil.which, NAMES) if p), None)


def of_playwright() -> Path | None:
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def run(*command: str) -> bool:
    """Run a command that may fail; its words go to the error stream."""
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def install() -> Path | None:
    """Let playwright download its browser, else ask Debian for one."""
    print("Installing Chromium", file=sys.stderr, flush=True)
    if run(sys.executable, "-m", "playwright", "install", "chromium"):
        return of_playwright()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and shutil.which("apt-get"):
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium")
    return on_path()


def present() -> Path | None:
    """The path of a Chromium that is there already."""
    return given() or on_path() or of_playwright()


def find_browser() -> Path:
    """The path of a Chromium; raises NoBrowser with one line that says what to do."""
    found = present() or install()
    if found is None:
        raise NoBrowser(ADVICE)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium without a window."""
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def open_whole(page: Page, address: str, timeout: float = 30_000) -> None:
    """Open a page, and wait until it is whole, `timeout` milliseconds at most.

    Idle lines alone do not say so: a busy machine may be idle before it has loaded.
    """
    page.goto(address, timeout=timeout)
    page.wait_for_load_state("networkidle", timeout=timeout)


if __name__ == "__main__":
    try:
        print(find_browser())
    except NoBrowser as error:
        sys.exit(str(error))
