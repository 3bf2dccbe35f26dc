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


def next_moment(before: str, after: str) -> None:
    (share, step, steps), (other, later, same) = numbers(before), numbers(after)
    assert later == step + 1 and same == steps == 12
    assert 0 < share < 100 and 0 < other < 100


def higher_flood(before: str, after: str) -> None:
    (level, kept, _, lost, nats), (more, fewer, _, worse, less) = (
        numbers(words) for words in (before, after)
    )
    assert abs(more / level - 10**0.1) < 0.02, after
    assert fewer <= kept and worse > lost and less < nats, after


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
    coarse = NoiseSchedule(torch.full((8,), 0.3))
    mean, variance = q_posterior(x, torch.full_like(x, -0.4), 3, coarse)
    expected = (
        f"mean {float(mean):.3f} and standard deviation {float(variance) ** 0.5:.3f}"
    )
    assert expected in after, after


def divergence(before: str, after: str) -> None:
    beta, z = 10**-0.25, torch.tensor([[-0.2]]).double()
    data = GaussianMixture([0.4, 0.6], [-1.42, 0.95], [0.18**0.5, 0.14**0.5])
    schedule = NoiseSchedule(torch.tensor([beta], dtype=torch.float64))
    weights, means, variances = data.reverse(z, 1, schedule)
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


def twice_the_noise(before: str, after: str) -> None:
    s, k2 = make_schedule("linear", 1000), 4.0
    snr = s.snr[1:] / k2
    busy = float(((snr > 0.01) & (snr < 100)).double().mean())
    left = float((snr[-1] / (1 + snr[-1])) ** 0.5)
    assert after.startswith(f"{busy:.1%} of the steps"), after
    assert f"keeps {left:.2g} of the picture" in after, after
    assert numbers(after)[-1] > numbers(before)[-1], "a darker end keeps more"


def one_frame_back(before: str, after: str) -> None:
    left = make_schedule("cosine", 1000).alpha_bar[27]
    assert (
        after
        == f"At t = 27 the noise is {100 * (1 - float(left)):.0f} % of the variance."
    )


def louder(before: str, after: str) -> None:
    """Two bells of unit width at -1 and 1; the second is asked for."""
    scale, mean, width, goal, goal_width = numbers(after)
    assert scale == numbers(before)[0] + 1 == 4, (before, after)
    x = torch.linspace(-8, 12, 20_001, dtype=torch.float64)
    log = -((x - 1) ** 2) / 2 + 3 * torch.nn.functional.logsigmoid(2 * x)
    weights = log.softmax(0)
    true = float((weights * x).sum())
    true_width = float((weights * (x - true) ** 2).sum().sqrt())
    assert abs(goal - true) <= 0.006 and abs(goal_width - true_width) <= 0.006, after
    assert mean > numbers(before)[1] > true and width < true_width, (before, after)


def walkers_cross(before: str, after: str) -> None:
    left = numbers(before)[2]
    t, steps, right, count, truth = numbers(after)
    assert (left, t, steps, count) == (0, 200, 0, 500), (before, after)
    # Mixture of the plane: 0.4 and 0.6 at -1.5 and 1 of the first coordinate.
    kept = float(make_schedule("linear", 1000).alpha_bar[200]) ** 0.5
    share = 0.0
    for weight, mean, width in ((0.4, -1.5, 0.3), (0.6, 1.0, 0.2)):
        spread = math.sqrt(1 - kept**2 + (kept * width) ** 2)
        beyond = kept * (-0.25 - mean) / (spread * math.sqrt(2))
        share += weight * math.erfc(beyond) / 2
    assert abs(truth - 100 * share) <= 0.5 and right < 20, after


def four_more_calls(before: str, after: str) -> None:
    (_, calls, far, *_), (_, more, near, *_) = numbers(before), numbers(after)
    assert (calls, more) == (9, 13) and 0 < near < far < 0.1, (before, after)


def noise_costs_precision(before: str, after: str) -> None:
    (first, precise, *_), (then, less, *_) = numbers(before), numbers(after)
    assert first < 0.2 and then < 1, (before, after)
    assert 0.8 < precise <= 1 and 0.6 < less <= 1, (before, after)


def more_steps_of_ddim(before: str, after: str) -> None:
    (steps, eta, far), (more, same, near) = numbers(before), numbers(after)
    assert (steps, more, eta, same) == (32, 64, 0, 0) and near < far, (before, after)


def twice_the_calls(before: str, after: str) -> None:
    (few, inside, far), (more, better, near) = numbers(before), numbers(after)
    assert "diffusion" in after and (few, more) == (4, 8), (before, after)
    assert better > inside and near < far, (before, after)


def more_masks(before: str, after: str) -> None:
    (few, level, *_, far), (more, same, *scores, near) = numbers(before), numbers(after)
    assert (few, more) == (8, 16) and level == same == 0.5, (before, after)
    assert near < far and all(0 < score < 1 for score in scores), (before, after)


def narrower_hole(before: str, after: str) -> None:
    (digit, first, last, *_), (same, start, end, *_, sure, wrong) = (
        numbers(before),
        numbers(after),
    )
    assert (digit, first, last) == (3, 5, 8), (before, after)
    assert (same, start, end) == (3, 5, 6) and "replacement" in after, after
    assert 10 <= sure <= 100 and 0 <= wrong <= 100, after


def more_strength(before: str, after: str) -> None:
    (first, same, count, moved), (then, fewer, _, further) = (
        numbers(words) for words in (before, after)
    )
    assert (first, then, count) == (0.5, 0.6, 6) and "nothing" in after, after
    assert max(same, fewer) <= 6 and 0 < moved < further, (before, after)


def noisier_measurement(before: str, after: str) -> None:
    (sigma, t, dps, _), (more, same, fewer, white) = numbers(before), numbers(after)
    assert (sigma, t, more, same) == (0.4, 400, 0.5, 400), (before, after)
    assert fewer < dps and 0 < white < 100, (before, after)


def turned_backbone(before: str, after: str) -> None:
    (at, width, right, left), (then, other, same, none) = (
        numbers(words) for words in (before, after)
    )
    assert (at, then) == (0, 15) and width != other, (before, after)
    assert (right, left) == (same, none) and right > left, (before, after)


CASES = [
    Case("00-reading-this-book", 0, "mean", shifted_ticks),
    Case("01-forward-process", 0, "beta of each step", variance_kept),
    Case("01-forward-process", 1, "number of steps T", longer_schedule),
    Case("02-diffusion-kernel", 0, "step t", walk_is_jump),
    Case("03-bayes-posterior", 0, "clean pixel x", posterior),
    Case("04-reverse-process", 0, "beta", divergence),
    Case("05-elbo", 0, "spread of the data", bound),
    Case("06-noise-prediction", 0, "steps T", weight_ratio),
    Case("07-unet", 0, "levels", wider_sight),
    Case("08-training", 0, "stage of training", learned_more),
    Case("09-sampling", 0, "log2 of steps", twice_the_steps),
    Case("09-sampling", 1, "from noise to digits", one_frame_back, "ArrowLeft"),
    Case("10-evaluation", 0, "how much", noise_costs_precision),
    Case("11-schedules", 0, "log2 of the shift k", twice_the_noise),
    Case("12-ddim", 0, "log2 of steps", more_steps_of_ddim),
    Case("13-differential-equations", 0, "calls", four_more_calls),
    Case("14-scores", 0, "level t", walkers_cross),
    Case("15-relatives", 0, "log2 of calls", twice_the_calls),
    Case("20-segmentation", 0, "log2 of masks", more_masks),
    Case("16-guidance", 0, "scale", louder),
    Case("19-inpainting", 0, "hidden columns", narrower_hole, "ArrowLeft"),
    Case("18-image-to-image", 0, "strength x 10", more_strength),
    Case("21-latent-diffusion", 0, "10 log10 lambda", higher_flood),
    Case("22-text-to-image", 0, "step of the chain", next_moment),
    Case("17-super-resolution", 0, "sigma", noisier_measurement),
    Case("88-drawing", 0, "turns", more_turns),
    Case("23-proteins", 0, "turn", turned_backbone),
]
