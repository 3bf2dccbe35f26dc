"""The reader's cloud: a page computes what the book computes, and answers the hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from ddpm_lit.book.cloud import (
    BELL,
    CLOUDS,
    METHODS,
    STEPS,
    VIEWS,
    WALKERS,
    Cloud,
    annealed,
    cloud_law,
    letter,
    perfect,
    reference,
    shares,
    show_cloud,
    spiral,
    two_moons,
)
from ddpm_lit.schedules import make_schedule

# Asks the page's own maths for all that the book's Python has answered.
ASK = """
import { readFileSync } from 'node:fs';
import { Cloud, Schedule, chain, samplers } from './maths.mjs';
const { clouds, beta, bell, grids, reference: r } = JSON.parse(readFileSync('c.json'));
const cloud = new Cloud(
  Float64Array.from(clouds['two moons'].flat()), bell, new Schedule(beta));
const roll = (from) => () => r.dice[from++];
const z = () => Float64Array.from(r.dice.slice(0, 6));
const x = [4, 5, 2, 3, 0, 1].map((i) => r.dice[i]);
const found = { guess: [], noise: [], score: [], log_prob: [], shares: [] };
for (let i = 0; i < 6; i += 2) {
  const { guess, noise, score, logProb, shares } = cloud.ask(z()[i], z()[i + 1], r.t);
  found.guess.push(...guess);
  found.noise.push(...noise);
  found.score.push(...score);
  found.log_prob.push(logProb);
  found.shares.push(...shares);
}
const [ofX, ofZ, variance] = cloud.schedule.posterior(r.t, r.t - 1);
found.posterior = [...z()].map((each, i) => ofX * x[i] + ofZ * each);
found.deviation = [Math.sqrt(variance)];
let at = 0;
found.step = [...chain(cloud, samplers.forward, [r.t - 1, r.t], z(), () => x[at++])[1]];
const { signal, spread } = cloud.schedule;
found.jump = x.map((each, i) => signal[r.t] * each + spread[r.t] * r.dice[i]);
for (const name of ['ancestral', 'DDIM', 'Heun', 'Langevin']) {
  found[name] = [0, 2, 4].flatMap((i) => {
    const start = z().slice(i, i + 2);
    const way = chain(cloud, samplers[name], grids[4], start, roll(6));
    return way.slice(1).flatMap((state) => [...state]);
  });
}
console.log(JSON.stringify(found));
"""


def answered(folder: Path, wrong: tuple[str, str] | None = None) -> dict[str, Any]:
    """What the page's maths answers; `wrong` plants a bug in it first."""
    source = (ROOT / "theme/src/live/cloud-maths.ts").read_text("utf-8")
    if wrong:
        assert wrong[0] in source, "the bug cannot be planted any more"
        source = source.replace(*wrong)
    (folder / "maths.ts").write_text(source, encoding="utf-8")
    (folder / "ask.mjs").write_text(ASK, encoding="utf-8")
    page = show_cloud("noised").page()
    (folder / "c.json").write_text(json.dumps(page), encoding="utf-8")
    esbuild = ROOT / "theme/node_modules/.bin/esbuild"
    bundle = [esbuild, "maths.ts", "--format=esm", "--outfile=maths.mjs"]
    subprocess.run([*bundle, "--log-level=error"], cwd=folder, check=True)
    told = subprocess.check_output(["node", "ask.mjs"], cwd=folder, text=True)
    return json.loads(told)


def errors(found: dict[str, Any]) -> dict[str, float]:
    true = reference(two_moons(), make_schedule("linear", 100))
    assert set(found) == set(true) - {"t", "dice"}, "something is not compared"
    return {
        name: float(np.abs(np.subtract(numbers, true[name])).max())
        for name, numbers in found.items()
    }


def test_the_page_computes_what_the_book_computes(tmp_path):
    worst = errors(answered(tmp_path))
    assert max(worst.values()) < 1e-9, worst


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (("/ (2 * variance))", "/ variance)"), "shares"),
        (("-spread * this.score", "spread * this.score"), "noise"),
        (("s ? Math.sqrt(beta) : 0", "Math.sqrt(beta)"), "ancestral"),
        (("spread[s] * noise[k]", "spread[t] * noise[k]"), "DDIM"),
        (("signal[s] * cloud.noise[0]", "signal[t] * cloud.noise[0]"), "Heun"),
        (("(size / 2) * score", "size * score"), "Langevin"),
    ],
)
def test_a_bug_in_the_maths_of_the_page_is_found(tmp_path, wrong, found_by):
    assert errors(answered(tmp_path, wrong))[found_by] > 1e-4


def test_ready_clouds_lie_in_the_picture_and_are_the_same_for_everyone():
    assert {"two moons": two_moons, "spiral": spiral, "letter": letter} == CLOUDS
    for made in CLOUDS.values():
        points = made()
        assert points.shape[1] == 2 and 40 <= len(points) <= 60
        assert np.abs(points).max() < 2 and np.array_equal(points, made())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_says_what_it_computes(view):
    cloud = show_cloud(view, points=[[0.5, 0.5], [-1.0, 0.0], [0.2, -0.9]])
    assert isinstance(cloud, Cloud) and cloud.settings()["cloud"] == "your own"
    before = cloud.said()
    assert "{" not in before and cloud.set(t=50) != before
    data, about = cloud._repr_mimebundle_()
    assert "<svg" in data["image/svg+xml"] and about["image/svg+xml"]["alt"]
    page = json.loads(json.dumps(data[Cloud.mime]))
    assert page["first"] == cloud.said() and page["walkers"] == WALKERS


def test_the_closed_forms_of_a_single_point():
    """One bell: every answer is known without a mixture."""
    schedule, t = make_schedule("linear", 100), 40
    law = cloud_law([[0.6, -0.4]])
    z = torch.tensor([[0.1, 1.0], [-2.0, 0.3]], dtype=torch.float64)
    a = float(schedule.alpha_bar[t])
    x, middle = torch.tensor([[0.6, -0.4]]).double(), a * BELL**2 + 1 - a
    guess = x + a**0.5 * BELL**2 / middle * (z - a**0.5 * x)
    assert torch.allclose(perfect(law, schedule)(z, t).x, guess, atol=1e-6)
    assert torch.equal(shares(law, z, t, schedule), torch.ones(2, 1).double())
    assert METHODS["Langevin"] is annealed and max(STEPS) == 100
