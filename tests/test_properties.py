"""Invariants that must hold for any schedule, shape and precision."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lit import (
    GaussianMixture,
    NoiseSchedule,
    gaussian_kl,
    mean_from_noise,
    noise_from_v,
    noise_from_x,
    q_posterior,
    q_sample,
    q_step,
    respace,
    v_from_x,
    x_from_noise,
    x_from_v,
)

f64 = torch.float64
betas = st.lists(st.floats(1e-6, 0.999), min_size=2, max_size=30)
seeds = st.integers(0, 10**6)
settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("quick")


def schedule_of(values: list[float]) -> NoiseSchedule:
    return NoiseSchedule(torch.tensor(values, dtype=f64))


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=f64, generator=torch.Generator().manual_seed(seed))


@given(betas, seeds)
def test_chain_equals_kernel(values, seed):
    s = schedule_of(values)
    x = draw(seed, 3, 2)
    z, variance = x, 0.0
    for t in range(1, s.T + 1):
        z = q_step(z, t, torch.zeros_like(z), s)
        variance = (1 - float(s.beta[t])) * variance + float(s.beta[t])
        assert torch.allclose(z, q_sample(x, t, torch.zeros_like(x), s), atol=1e-12)
        assert abs(variance - float(1 - s.alpha_bar[t])) < 1e-12


@given(betas, seeds, st.data())
def test_posterior_times_marginal_equals_joint(values, seed, data):
    s = schedule_of(values)
    t = data.draw(st.integers(2, s.T))
    x, before, here = draw(seed, 3, 5, 1)
    mean, variance = q_posterior(x, here, t, s)
    normal = torch.distributions.Normal
    a, b = s.alpha_bar[t], s.alpha_bar[t - 1]
    left = normal(mean, variance.sqrt()).log_prob(before)
    left = left + normal(a.sqrt() * x, (1 - a).sqrt()).log_prob(here)
    keep, width = (1 - s.beta[t]).sqrt(), s.beta[t].sqrt()
    right = normal(keep * before, width).log_prob(here)
    right = right + normal(b.sqrt() * x, (1 - b).sqrt()).log_prob(before)
    assert torch.allclose(left, right, rtol=1e-6, atol=1e-6)


@given(betas, seeds, st.data())
def test_views_round_trip(values, seed, data):
    s = schedule_of(values)
    t = data.draw(st.integers(1, s.T))
    x, noise = draw(seed, 2, 4, 3)
    z = q_sample(x, t, noise, s)
    v = v_from_x(x, noise, t, s)
    loss = float(s.snr[t]) ** -0.5 + float(s.snr[t]) ** 0.5  # what a division costs
    tolerance = 1e-13 * (1 + loss) * 10
    assert torch.allclose(x_from_noise(z, noise, t, s), x, atol=tolerance)
    assert torch.allclose(noise_from_x(z, x, t, s), noise, atol=tolerance)
    assert torch.allclose(x_from_v(z, v, t, s), x, atol=1e-12)
    assert torch.allclose(noise_from_v(z, v, t, s), noise, atol=1e-12)
    mean, _ = q_posterior(x, z, t, s)
    tolerance = 1e-9 / float((1 - s.beta[t]).sqrt())
    assert torch.allclose(mean_from_noise(z, noise, t, s), mean, atol=tolerance)


@given(seeds, st.floats(-20, 20), st.floats(-20, 20))
def test_kl_is_not_negative_and_zero_only_for_equal_laws(seed, first, second):
    m1, m2 = draw(seed, 2, 4)
    l1, l2 = torch.tensor(first, dtype=f64), torch.tensor(second, dtype=f64)
    assert (gaussian_kl(m1, l1, m2, l2) >= 0).all()
    assert float(gaussian_kl(m1, l1, m1, l1).abs().max()) == 0
    assert (gaussian_kl(m1, l1, m1 + 1, l1) > 0).all()


@given(betas, st.data())
def test_respacing_keeps_alpha_bar(values, data):
    s = schedule_of(values)
    steps = data.draw(st.integers(1, s.T))
    short, kept = respace(s, steps)
    assert torch.allclose(short.alpha_bar, s.alpha_bar[kept], rtol=1e-9, atol=0)


@given(st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8), seeds, st.data())
def test_reverse_mixture_has_tweedies_mean(values, seed, data):
    s = schedule_of(values)
    t = data.draw(st.integers(1, s.T))
    mixture = GaussianMixture([0.2, 0.5, 0.3], draw(seed, 3), [0.1, 0.4, 1.0])
    z = draw(seed + 1, 6, 1)
    weights, means, _ = mixture.reverse(z, t, s)
    exact = (weights[..., None] * means).sum(1)
    assert torch.allclose(
        mean_from_noise(z, mixture.noise(z, t, s), t, s), exact, atol=1e-9
    )
