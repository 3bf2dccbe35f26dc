"""Build the book: run every chapter in order, then render the pages.

    python tools/book.py                run the chapters and render
    python tools/book.py --no-execute   render only, without outputs
    python tools/book.py --kept         render with the results at hand, run nothing
    python tools/book.py --preview      serve the book; pages follow every save
    python tools/book.py --theme        bundle the theme only

Chapters run one at a time on a Jupyter server that lives as long as the build.
Anything mystmd warns about fails the build, as ``chapters/NN-x.md:LINE: message``.
Results are kept in ``_build/execute``, by a build and by the tests alike; they are
dropped when the package changes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import yaml
from cards import write_cards, write_icons
from gates import caption_problems, print_problems, tag_problems
from ledger import origin_problems
from notebooks import write_downloads
from results import THREADS, digest, forget_stale, is_current, missing

from chapters import read_chapters

REPOSITORY = Path(__file__).resolve().parents[1]
THEME = REPOSITORY / "theme"
PAGE = Path("_build/html/index.html")
BUILT = Path("_build/html.sha256")  # what an executed book was made from
NODE_MAJOR = 20
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STARTED = re.compile(
    r"(💿 Executing notebook|💾 Adding cached notebook outputs) \((.+?)\)"
)
DONE = re.compile(r"📖 Built (\S+) in ")
# jupytext writes the options of a cell with a long caption as YAML, tags as a list:
# mystmd reads the list rightly but remarks on it. And a widget opens a channel that
# only a notebook would answer.
HARMLESS = re.compile(
    r'value is not a string for option "tags" \(in code-cell\)|'
    r"^Exception opening new comm$|^Comm not found for comm id \w+$"
)
PROBLEM = re.compile(r"^(?:⚠️|⛔️)\s*(?:(\S+?\.\w+)(?::(\d+))?(?::\d+)?\s)?(.*)", re.S)
RAISED = "An exception occurred during"
# Where the outputs on the pages come from: chapters are run where results are missing,
# or all results must be there, or there are no outputs.
RUN, KEPT, NONE = "run", "kept", "none"


class BuildError(Exception):
    """Something that stops the build; its text is for the reader."""


def sources(root: Path) -> str:
    """What a built book depends on, as one value."""
    folders = ("chapters", "ddpm_lit", "theme/src", "tools")
    kinds = {".md", ".bib", ".yml", ".py", ".ts", ".tsx", ".css", ".mjs"}
    found = [p for folder in folders for p in (root / folder).rglob("*")]
    settings = ("myst.yml", "constraints.txt", "theme/package-lock.json")
    files = [p for p in found if p.suffix in kinds and p.parent.name[:1] != "."]
    files += [root / name for name in settings if (root / name).is_file()]
    return f"{digest(files, root)} {os.environ.get('BASE_URL', '')}"


def is_built(root: Path) -> bool:
    """Is there an executed book, made from the sources as they are now?"""
    return is_current(root / BUILT, sources(root))


def run_quietly(command: list[str], cwd: Path) -> None:
    """Run a command and show what it printed only if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise BuildError(f"`{' '.join(command)}` failed in {cwd}:\n{said}")


def check_address() -> None:
    """BASE_URL is the path below which the book will be served."""
    base = os.environ.get("BASE_URL", "")
    if not re.fullmatch(r"(/[\w.~-]+)*/?", base):
        raise BuildError(
            f"BASE_URL={base!r} is not a path; give what follows the host in the "
            "book's address, such as /book"
        )


def check_node() -> None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise BuildError(f"The book needs Node.js {NODE_MAJOR} or newer, with npm.")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)", version)
    if found is None or int(found[1]) < NODE_MAJOR:
        raise BuildError(
            f"The book needs Node.js {NODE_MAJOR} or newer; this is {version.strip()}."
        )


def bundle_theme() -> None:
    """Install and bundle the theme, unless what is there is what its sources say."""
    lock = digest([THEME / "package.json", THEME / "package-lock.json"], THEME)
    installed = THEME / "node_modules" / ".stamp"
    if not is_current(installed, lock):
        print("Installing the theme's packages", flush=True)
        npm = shutil.which("npm") or "npm"
        # No package of the theme needs its install script.
        flags = ["--no-audit", "--no-fund", "--ignore-scripts"]
        run_quietly([npm, "ci", *flags], THEME)
        installed.write_text(lock)
    sources = [p for p in (THEME / "src").rglob("*") if p.is_file()]
    wanted = lock + digest([*sources, THEME / "build.mjs"], THEME)
    bundled = THEME / "dist" / ".stamp"
    if not is_current(bundled, wanted):
        print("Bundling the theme", flush=True)
        run_quietly(["node", "build.mjs"], THEME)
        bundled.write_text(wanted)


@contextlib.contextmanager
def jupyter_server(root: Path) -> Iterator[dict[str, str]]:
    """A server of our own, so that it ends with the build: yields what to set in
    the environment of mystmd."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        scratch = Path(folder)
        # The first place where Jupyter looks for kernels: whatever else is
        # installed, chapters run in the environment that runs this script.
        kernel = scratch / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": launch, "display_name": "Python 3", "language": "python"}
        kernel.write_text(json.dumps(spec))
        command = [
            *[sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"],
            *["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"],
            *["--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"],
        ]
        # The token goes by the environment, where other users cannot list it.
        secret = {"JUPYTER_PATH": folder, "JUPYTER_CONFIG_DIR": folder}
        env = {**THREADS, **os.environ, **secret, "JUPYTER_TOKEN": token}
        with (scratch / "log").open("w+") as log:
            # Its own session: Ctrl-C reaches this script only, which then stops it.
            server = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True
            )
            url = f"http://127.0.0.1:{port}"
            try:
                wait_until_up(server, f"{url}/api", Path(log.name))
                yield {"JUPYTER_BASE_URL": url, "JUPYTER_TOKEN": token}
            finally:
                stop(server)


def wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError):
            opener.open(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise BuildError(f"The Jupyter server did not start:\n{log.read_text()[-2000:]}")


def stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def chapters_in_order(entries: list[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry.get("file"), str):
            yield str(entry["file"])
        children = entry.get("children")
        if isinstance(children, list):
            yield from chapters_in_order(children)


class Progress:
    """One line a chapter, and a watch on the order: a later chapter may use what
    an earlier one left on disk."""

    def __init__(self, order: list[str]) -> None:
        self.order = order
        self.problems: list[str] = []
        self.ran: list[str] = []
        self.last = -1
        self.chapter = ""  # the one that runs, since `began`
        self.began = 0.0

    def read(self, stream: IO[str]) -> None:
        for line in stream:
            if started := STARTED.search(line):
                self.finish()
                self.start(started[2], cached=started[1].startswith("💾"))
            elif (built := DONE.search(line)) and built[1] == self.chapter:
                self.finish()
        self.finish()

    def start(self, chapter: str, *, cached: bool) -> None:
        place = self.order.index(chapter) if chapter in self.order else self.last
        if place < self.last and not cached:
            self.problems.append(f"{chapter}:1: ran after a chapter that follows it")
        self.last = max(self.last, place)
        print(f"  {chapter:<44}", end="", flush=True)
        if cached:
            print("unchanged", flush=True)
        else:
            self.chapter, self.began = chapter, time.monotonic()
            self.ran.append(chapter)

    def finish(self) -> None:
        if self.chapter:
            print(f"{time.monotonic() - self.began:7.1f} s", flush=True)
            self.chapter = ""


def messages(stream: Iterable[str]) -> list[str]:
    """mystmd's error stream, cut where a message begins: a traceback has many lines."""
    found: list[str] = []
    for line in stream:
        clean = ANSI.sub("", line)
        if HARMLESS.search(clean):
            continue
        if not found or clean.startswith(("⚠️", "⛔️", "Command failed")):
            found.append(clean)
        else:
            found[-1] += clean
    # When the theme fails, mystmd repeats what the theme said.
    found = [each.strip() for each in found if not each.startswith("Command failed")]
    return [message for message in found if message]


def explain(root: Path, message: str) -> str:
    """A message as ``file:line: what``; for a cell that raised, the line in it."""
    match = PROBLEM.match(message)
    if match is None or match[1] is None or not (root / match[1]).is_file():
        return message
    path, text = match[1], match[3].strip()
    lines = (root / path).read_text(encoding="utf-8").splitlines()
    if text.startswith(RAISED):
        at, what = explain_exception(lines, text.partition("\n")[2].strip())
        return f"{path}:{at}: {what}"
    if match[2]:
        return f"{path}:{match[2]}: {text}"
    # No line was given: the place where the name in question first stands.
    names = re.findall(r"[\"`]([^\"`]+)[\"`]", text)
    places = (i for name in names for i, line in enumerate(lines, 1) if name in line)
    return f"{path}:{next(places, 1)}: {text}"


def explain_exception(lines: list[str], trace: str) -> tuple[int, str]:
    """Where in the chapter a cell raised, and what, with the line that did it."""
    name = re.search(r"^([\w.]+) +Traceback", trace, re.M)
    start = trace.rfind(f"\n{name[1]}:") if name else trace.rfind("\n")
    what = trace[start:].strip() if start >= 0 else trace
    frame = re.search(r"Cell In\[(\d+)\], line (\d+)", trace)
    cells = list(code_cells(lines))
    if frame is None or int(frame[1]) > len(cells):
        return 1, what
    cell, row = cells[int(frame[1]) - 1], int(frame[2]) - 1
    at = cell[min(row, len(cell) - 1)]
    return at, f"{what}\n    {lines[at - 1].strip()}"


def code_cells(lines: list[str]) -> Iterator[list[int]]:
    """The line numbers of the code of each cell that runs, as mystmd hands it over:
    without options, the blank lines around it and ``#|`` lines."""
    at = 0
    while at < len(lines):
        opened = re.match(r"([`~:]{3,}) *\{code-cell\}", lines[at])
        at += 1
        if not opened:
            continue
        cell: list[int] = []
        if lines[at : at + 1] == ["---"]:  # options as a block of YAML
            at = lines.index("---", at + 1) + 1
        while at < len(lines) and not lines[at].startswith(opened[1]):
            if cell or not re.match(r"\s*$|:[\w-]+:|#\|", lines[at]):
                cell.append(at + 1)
            elif "skip-execution" in lines[at]:
                break
            at += 1
        if cell:
            yield cell


def source_date(root: Path) -> str:
    """The day of the newest change of the sources, as 2026-11-27; empty if unknown."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if seconds is None and shutil.which("git"):
        command = ["git", "log", "-1", "--format=%ct"]
        asked = subprocess.run(command, cwd=root, capture_output=True, text=True)
        seconds = asked.stdout.strip()
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds else ""


def myst_environment(root: Path, extra: dict[str, str]) -> dict[str, str]:
    """The environment of mystmd.

    It asks the npm registry whether it is the newest version: an address where
    nobody answers keeps the build to this machine. The complaints of newer releases
    of Node about old modules are not ours to fix.
    """
    quiet = {"npm_registry": "http://127.0.0.1:9/", "NODE_NO_WARNINGS": "1"}
    told = {"BOOK_ROOT": str(root), "NO_COLOR": "1", "BOOK_DATE": source_date(root)}
    return {**os.environ, **quiet, **told, **extra}


def run_myst(root: Path, extra: dict[str, str], *, results: str) -> list[str]:
    """Run mystmd; the list of what it complained about is empty if all is well."""
    config = yaml.safe_load((root / "myst.yml").read_text(encoding="utf-8"))
    progress = Progress(list(chapters_in_order(config["project"]["toc"])))
    command = [sys.executable, "-m", "mystmd_py.main", "build", "--html"]
    if results != NONE:
        command += ["--execute", "--execute-parallel", "1"]
    env, pipe = myst_environment(root, extra), subprocess.PIPE
    myst = subprocess.Popen(
        command, cwd=root, env=env, stdout=pipe, stderr=pipe, text=True,
        encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    assert myst.stdout and myst.stderr
    found: list[str] = []
    errors = myst.stderr
    reader = threading.Thread(target=lambda: found.extend(messages(errors)))
    reader.start()
    try:
        progress.read(myst.stdout)
        code = myst.wait()
    finally:
        stop(myst)
        reader.join()
    problems = [explain(root, message) for message in found] + progress.problems
    if results == KEPT:
        problems += [f"{chapter}:1: mystmd ran it again" for chapter in progress.ran]
    if code and not problems:
        problems.append(f"mystmd ended with exit status {code}")
    return list(dict.fromkeys(problems))


def early_problems(root: Path) -> list[str]:
    """What is wrong with cells and with what the back matter is made from, told
    before minutes are spent on running them."""
    try:
        chapters = read_chapters(root / "chapters")
        problems = origin_problems(chapters)
    except ValueError as error:
        return [str(error)]
    return tag_problems(chapters) + caption_problems(chapters) + problems


def make(root: Path, results: str) -> list[str]:
    """Everything in `_build/html`; the list of problems is empty if all is well."""
    problems = early_problems(root)
    if problems:
        return problems
    chapters = read_chapters(root / "chapters")
    if results == RUN:  # the pages say which equations are run as they are printed
        problems = print_problems(chapters)
        if problems:
            return problems
    forget_stale(root, chapters)
    # Files of older builds carry other hashes in their names and would pile up.
    shutil.rmtree(root / "_build" / "site", ignore_errors=True)
    if results == RUN:
        print("Running the chapters", flush=True)
        with jupyter_server(root) as settings:
            problems = run_myst(root, settings, results=results)
    elif results == KEPT:
        # There is no server at this address: a chapter cannot run unnoticed.
        nobody = {"JUPYTER_BASE_URL": "http://127.0.0.1:9", "JUPYTER_TOKEN": "none"}
        problems = missing(root, chapters) or run_myst(root, nobody, results=results)
    else:
        problems = run_myst(root, {}, results=results)
    if problems:
        return problems
    if not (root / PAGE).is_file():
        return [f"{PAGE} was not written"]
    problems = write_downloads(root)
    write_icons(root / PAGE.parent)
    write_cards(root)
    return problems


def build(root: Path, results: str) -> int:
    began = time.monotonic()
    check_address()
    check_node()
    bundle_theme()
    stamp, made_from = root / BUILT, sources(root)
    stamp.unlink(missing_ok=True)
    problems = make(root, results)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"The book was not built: {len(problems)} problem(s).", file=sys.stderr)
        return 1
    if results != NONE:
        stamp.write_text(made_from)
    print(f"The book is at {PAGE} ({time.monotonic() - began:.0f} s)")
    return 0


def preview(root: Path) -> int:
    """Serve the book until Ctrl-C, with the results of the last build.

    Asked to execute, mystmd shows the results it has kept. A chapter whose code has
    changed has none and is shown without outputs: mystmd would run it with the first
    `python` on the path, so its path holds nothing but Node and npm.
    """
    check_node()
    bundle_theme()
    command = [sys.executable, "-m", "mystmd_py.main", "start", "--execute"]
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        for name in ("node", "npm"):
            (Path(folder) / name).symlink_to(shutil.which(name) or name)
        # mystmd starts the theme's server: as a group, both end together.
        myst = subprocess.Popen(
            command, cwd=root, env=myst_environment(root, {"PATH": folder}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        assert myst.stdout
        try:
            for line in myst.stdout:
                if not HARMLESS.search(line):
                    print(line, end="", flush=True)
            return myst.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(myst.pid, signal.SIGTERM)
            stop(myst)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the book.")
    parser.add_argument(
        "--root", type=Path, default=REPOSITORY, help="folder of myst.yml"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--no-execute", dest="results", action="store_const", const=NONE, default=RUN,
        help="do not run the chapters, show no outputs",
    )  # fmt: skip
    chosen.add_argument(
        "--kept", dest="results", action="store_const", const=KEPT,
        help="run nothing; every chapter must have results of a build or of the tests",
    )  # fmt: skip
    parser.add_argument(
        "--preview", action="store_true", help="serve pages that follow every save"
    )
    parser.add_argument(
        "--theme", action="store_true", help="only bundle the theme, for later builds"
    )
    options = parser.parse_args()
    # Being stopped is like Ctrl-C: the server and mystmd are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.theme:
            check_node()
            bundle_theme()
            return 0
        if options.preview:
            return preview(options.root.resolve())
        return build(options.root.resolve(), options.results)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
