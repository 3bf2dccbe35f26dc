"""How heavy and how quick the rendered book is: `python benchmarks/pages.py`.

Needs a built book (`make book`). Reports, as JSON:
- seconds of a build with cached results, the median of three;
- for each chapter, kilobytes (gzip) of what the browser asks for, with and without
  its images;
- for each chapter, milliseconds to the largest contentful paint from this machine,
  the median of three visits with an empty cache;
- seconds in which the page's model is opened, and in which it then makes sixteen
  pictures in ten calls, the median of three.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from browser import chromium, open_whole
from playwright.sync_api import Browser
from serve import serve

ROOT = Path(__file__).resolve().parents[1]

SITE = ROOT / "_build" / "html"
PAINT = """() => new Promise(answer => {
  new PerformanceObserver(list => answer(list.getEntries().at(-1).startTime))
    .observe({type: 'largest-contentful-paint', buffered: true});
})"""

# Seconds until the model's worker has opened it, and from there to the last picture.
MODEL = """async job => {
  const box = document.querySelector('.model');
  const [model, about] = [box.dataset.model, box.dataset.about].map(
    each => new URL(each, location.href).href);
  const worker = new Worker('../assets/worker.js', {type: 'module'});
  const told = await (await fetch(about)).json();
  const began = performance.now();
  let opened;
  const ended = new Promise((done, fail) => {
    worker.onmessage = ({data}) => {
      if (data.error) fail(new Error(data.error));
      if (data.step === 0) opened = performance.now();
      if (data.step === job.steps) done(performance.now());
    };
  });
  worker.postMessage({...job, id: 1, model, about: told});
  const end = await ended;
  worker.terminate();
  return [(opened - began) / 1000, (end - opened) / 1000];
}"""
JOB = {"scale": 1, "steps": 10, "sampler": "DDIM", "seed": 0, "labels": [0] * 16}


def build_seconds() -> float:
    """One build; whatever was unchanged comes from the cache."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "tools/book.py"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def visit(browser: Browser, address: str) -> tuple[float, list[str]]:
    """Milliseconds to the largest paint of a page, and what was asked for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    open_whole(page, address)
    paint = page.evaluate(PAINT)
    context.close()
    return paint, asked


def kilobytes(paths: list[str]) -> float:
    """Size of files of the site as a host would send them."""
    total = 0
    for path in set(paths):
        file = SITE / path.lstrip("/")
        file = file / "index.html" if file.is_dir() else file
        total += len(gzip.compress(file.read_bytes(), 6))
    return round(total / 1000, 1)


def chapter(browser: Browser, address: str, visits: int) -> dict[str, float]:
    seen = [visit(browser, address) for _ in range(visits)]
    asked = seen[0][1]
    pictures = {".svg", ".png", ".jpg"}
    text = [path for path in asked if Path(path).suffix not in pictures]
    return {
        "kB without figures": kilobytes(text),
        "kB of the first view": kilobytes(asked),
        "largest paint, ms": round(statistics.median(paint for paint, _ in seen)),
    }


def model(browser: Browser, address: str, visits: int) -> dict[str, float]:
    """How long the model of a page takes, in its reader's browser."""
    page = browser.new_page()
    open_whole(page, address)
    seen = [page.evaluate(MODEL, JOB) for _ in range(visits)]
    page.close()
    opened, made = (
        round(statistics.median(each), 2) for each in zip(*seen, strict=True)
    )
    return {"opened, seconds": opened, "16 pictures in 10 calls, seconds": made}


def measure(builds: int, visits: int) -> dict[str, Any]:
    seconds = statistics.median(build_seconds() for _ in range(builds))
    slugs = sorted(p.stem for p in SITE.glob("*.json") if (SITE / p.stem).is_dir())
    with serve(SITE) as root, chromium() as browser:
        visit(browser, root)  # the first page of a new browser is slow
        pages = {slug: chapter(browser, f"{root}/{slug}/", visits) for slug in slugs}
        runs = model(browser, f"{root}/exchanging-weights/", visits)
        engine = browser.version
    return {
        "command": "python benchmarks/pages.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "python": platform.python_version(),
        "mystmd": version("mystmd"),
        "chromium": engine,
        "build with cached results, seconds": round(seconds, 1),
        "model in the page": runs,
        "chapters": pages,
    }


def main() -> None:
    """Measure, print, and write a JSON file when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--builds", type=int, default=3)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    text = json.dumps(measure(args.builds, args.visits), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
