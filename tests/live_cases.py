"""What each live figure must say after one press of a key.

The same cases drive the figures on the rendered page and in JupyterLab. Where the
package can compute the words, they are computed here anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ddpm_lit.losses import kl_weight
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.posterior import q_posterior
from ddpm_lit.schedules import NoiseSchedule, linear_betas, make_schedule


@dataclass(frozen=True)
class Case:
    """One figure of a chapter, the slider to move, and a judge of its words."""

    chapter: str
    figure: int  # counted from 0 within the chapter
    slider: str
    expect: Callable[[str, str], None]  # words before, words after
    key: str = "ArrowRight"


def numbers(words: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", words)]


def shifted_ticks(before: str, after: str) -> None:
    (mean, spread), (new_mean, new_spread) = numbers(before), numbers(after)
    assert abs(new_mean - mean - 0.1) < 0.011, after
    assert new_spread == spread, after


def more_turns(before: str, after: str) -> None:
    turns, height = numbers(after)
    assert numbers(before) == [1, 1] and turns == 1.1, after
    assert abs(height - math.cos(2 * math.pi * turns)) < 0.006, after


def longer_schedule(before: str, after: str) -> None:
    left = NoiseSchedule(linear_betas(1100, 1e-4, 0.02)).alpha_bar
    half = next(t for t in range(1101) if left[t] <= 0.5)
    stated = f"{float(left[-1]):.2g} of the variance survives; "
    assert after == f"{stated}half of it is noise at t = {half}."


def variance_kept(before: str, after: str) -> None:
    assert abs(numbers(after)[1] - 1) < 0.02, after


def walk_is_jump(before: str, after: str) -> None:
    t, distance = numbers(after)
    assert t == 65 and 0 < distance < 2.4 / math.sqrt(10_000), after


def posterior(before: str, after: str) -> None:
    x = torch.full((1, 1), 0.9, dtype=torch.float64)
    mean, variance = q_posterior(x, torch.full_like(x, -0.4), 200, linear)
    expected = (
        f"mean {float(mean):.3f} and standard deviation {float(variance) ** 0.5:.3f}"
    )
    assert expected in after, after


def divergence(before: str, after: str) -> None:
    beta, z = 10**-0.25, torch.tensor([[-0.2]]).double()
    data = GaussianMixture([0.4, 0.6], [-1.5, 1.0], [0.3, 0.2])
    schedule = NoiseSchedule(torch.tensor([0.1, beta], dtype=torch.float64))
    weights, means, variances = data.reverse(z, 2, schedule)
    parts = torch.distributions.Normal(means[0, :, 0], variances.sqrt())
    mean = (weights[0] * parts.mean).sum()
    variance = (weights[0] * (parts.variance + parts.mean**2)).sum() - mean**2
    line = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
    p = (parts.log_prob(line[:, None]).exp() * weights[0]).sum(1)
    q = torch.distributions.Normal(mean, variance.sqrt()).log_prob(line)
    kl = float(torch.trapezoid(torch.xlogy(p, p) - p * q, line))
    assert after == f"The Gaussian is {kl:.2g} nats off."


def bound(before: str, after: str) -> None:
    below, gap = numbers(after)
    truth = -0.5 * (math.log(2 * math.pi * 0.45**2) + 1)
    assert gap > 0 and abs(below + gap - truth) < 1.1e-4, (after, truth)


def weight_ratio(before: str, after: str) -> None:
    weight = kl_weight(torch.tensor([2, 1100]), make_schedule("linear", 1100))
    assert f"costs {float(weight[0] / weight[1]):.3g} times" in after, after
    assert "1 times under the simple loss" in after


def wider_sight(before: str, after: str) -> None:
    assert numbers(before)[0] < numbers(after)[0] <= 100, (before, after)


def learned_more(before: str, after: str) -> None:
    (steps, off, _), (more, less, _) = numbers(before), numbers(after)
    assert more > steps and less < off, (before, after)


def twice_the_steps(before: str, after: str) -> None:
    steps, share, _, _, spread = numbers(after)
    # Mixture: weights .4 and .6 at -1.5 and 1; four thousand walkers.
    variance = 0.4 * 0.3**2 + 0.6 * 0.2**2 + 0.4 * 0.6 * 2.5**2
    assert steps == 256 and abs(share - 60) < 4, after
    assert abs(spread - variance**0.5) < 0.05, after


def one_frame_back(before: str, after: str) -> None:
    left = make_schedule("cosine", 1000).alpha_bar[27]
    assert (
        after
        == f"At t = 27 the noise is {100 * (1 - float(left)):.0f} % of the variance."
    )


linear = make_schedule("linear", 1000)
CASES = [
    Case("00-reading-this-book", 0, "mean", shifted_ticks),
    Case("01-forward-process", 0, "number of steps T", longer_schedule),
    Case("01-forward-process", 1, "beta of each step", variance_kept),
    Case("02-diffusion-kernel", 0, "step t", walk_is_jump),
    Case("03-bayes-posterior", 0, "clean pixel x", posterior),
    Case("04-reverse-process", 0, "beta", divergence),
    Case("05-elbo", 0, "spread of the data", bound),
    Case("06-noise-prediction", 0, "steps T", weight_ratio),
    Case("07-unet", 0, "levels", wider_sight),
    Case("08-training", 0, "stage of training", learned_more),
    Case("09-sampling", 0, "log2 of steps", twice_the_steps),
    Case("09-sampling", 1, "from noise to digits", one_frame_back, "ArrowLeft"),
    Case("87-drawing", 0, "turns", more_turns),
]
