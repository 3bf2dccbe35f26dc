"""Invariants that must hold for any schedule, shape and precision."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lit.denoiser import Denoiser
from ddpm_lit.elbo import elbo_terms, gaussian_kl, level_log_prob
from ddpm_lit.forward import q_sample, q_step
from ddpm_lit.losses import kl_weight
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.parameterization import (
    mean_from_noise,
    noise_from_v,
    noise_from_x,
    v_from_x,
    x_from_noise,
    x_from_v,
)
from ddpm_lit.posterior import q_posterior
from ddpm_lit.recipes import Optim
from ddpm_lit.samplers import ddpm
from ddpm_lit.sampling import sample
from ddpm_lit.schedules import (
    SCHEDULES,
    NoiseSchedule,
    jump,
    kept_steps,
    make_schedule,
)
from ddpm_lit.training import Shuffle, learning_rate

f64 = torch.float64
betas = st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=30)
two_betas = st.lists(st.floats(1e-6, 0.999), min_size=2, max_size=30)
few_betas = st.lists(st.floats(1e-3, 0.95), min_size=1, max_size=6)
shapes = st.lists(st.integers(1, 4), max_size=3)  # of one example
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])
variances = st.sampled_from(["beta", "beta_tilde"])
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


@given(two_betas, seeds, st.data())
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
def test_jumps_over_kept_steps_keep_alpha_bar(values, data):
    s = schedule_of(values)
    start = data.draw(st.integers(1, s.T))
    kept = kept_steps(s.T, data.draw(st.integers(1, start)), start)
    assert kept[0] == start and kept[-1] == 0
    assert all(a > b for a, b in pairwise(kept))
    left = 1.0
    for t, before in pairwise(kept):
        a, b, beta, tilde = jump(t, before, s)
        assert (a, b) == (float(s.alpha_bar[t]), float(s.alpha_bar[before]))
        assert 0 < beta < 1 and 0 <= tilde <= beta
        left *= 1 - beta
    assert abs(left / float(s.alpha_bar[start]) - 1) < 1e-9


@given(st.integers(1, 50), st.integers(0, 10**6), st.lists(st.integers(1, 60)))
def test_every_epoch_has_each_example_once_however_it_is_taken(count, seed, sizes):
    order, taken, at = Shuffle(count, seed), [], 0
    for size in sizes:
        taken += order.take(at, size).tolist()
        at += size
    whole = Shuffle(count, seed).take(0, max(at, 1)).tolist()
    assert taken == whole[:at]
    for start in range(0, at - count + 1, count):
        assert sorted(taken[start : start + count]) == list(range(count))


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


@given(st.sampled_from(SCHEDULES), st.integers(2, 5000))
def test_every_schedule_of_every_length_is_sound(name, T):
    s = make_schedule(name, T)
    assert s.T == T and s.alpha_bar[0] == 1 and s.alpha_bar[-1] < 0.02
    assert (s.alpha_bar[1:] < s.alpha_bar[:-1]).all(), "alpha_bar must fall"
    assert torch.isfinite(s.snr[1:]).all() and (s.snr[1:] > 0).all()
    assert s.beta_tilde[0] == s.beta_tilde[1] == 0
    assert (s.beta_tilde[2:] > 0).all() and (s.beta_tilde[1:] < s.beta[1:]).all()


@given(st.floats(0, 1), st.integers(1, 5))
def test_any_beta_gives_sound_tables_or_is_refused(beta, T):
    try:
        s = NoiseSchedule(torch.full((T,), beta, dtype=f64))
    except ValueError as error:
        assert not 1e-15 < beta < 1 - 1e-15, "a beta that works was refused"
        assert "beta_1" in str(error)
        return
    for table in (s.beta, s.alpha_bar, s.snr[1:], s.beta_tilde):
        assert torch.isfinite(table).all(), f"beta = {beta} gives {table}"


@given(betas, shapes, dtypes, seeds, st.data())
def test_precision_is_that_of_the_input(values, shape, dtype, seed, data):
    s = schedule_of(values)
    x, noise = (draw(seed + i, 3, *shape).to(dtype) for i in range(2))
    t = torch.tensor(data.draw(st.lists(st.integers(1, s.T), min_size=3, max_size=3)))
    size = 1 + x.abs() + noise.abs()
    allowed = 6 * torch.finfo(dtype).eps * size.double()
    for function in (q_sample, q_step, v_from_x):
        arguments = (x, noise, t) if function is v_from_x else (x, t, noise)
        found = function(*arguments, s)
        assert found.dtype == dtype and found.shape == x.shape
        exact = [a.double() if a is not t else t for a in arguments]
        error = (found.double() - function(*exact, s)).abs()
        assert (error <= allowed).all(), f"{function.__name__} in {dtype}"
    mean, variance = q_posterior(x, noise, t, s)
    assert mean.dtype == variance.dtype == dtype
    exact, exact_variance = q_posterior(x.double(), noise.double(), t, s)
    assert ((mean.double() - exact).abs() <= allowed).all()
    assert torch.allclose(
        variance.double(), exact_variance, rtol=2 * torch.finfo(dtype).eps
    )


@given(betas, shapes, seeds, st.data())
def test_one_t_for_all_is_the_same_t_for_each(values, shape, seed, data):
    s = schedule_of(values)
    t = data.draw(st.integers(1, s.T))
    x, noise = (draw(seed + i, 2, *shape) for i in range(2))
    each = torch.full((2,), t)
    assert torch.equal(q_sample(x, t, noise, s), q_sample(x, each, noise, s))
    assert torch.equal(
        q_posterior(x, noise, t, s)[0], q_posterior(x, noise, each, s)[0]
    )
    assert torch.equal(kl_weight(each, s), kl_weight(t, s).expand(2))


@given(betas, seeds)
def test_the_first_step_back_ends_at_the_picture(values, seed):
    s = schedule_of(values)
    x, z = draw(seed, 2, 4, 2)
    mean, variance = q_posterior(x, z, 1, s)
    assert torch.allclose(mean, x, atol=1e-9) and float(variance.max()) == 0


@given(
    st.integers(2, 300),
    st.floats(-1.5, 1.5),
    st.floats(-12, 2),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_probabilities_of_the_levels_add_up_to_one(levels, mean, log_variance, dtype):
    x = torch.linspace(-1, 1, levels, dtype=f64).to(dtype)
    variance = torch.tensor(log_variance, dtype=dtype).exp()
    log_p = level_log_prob(x, torch.tensor(mean, dtype=dtype), variance, levels)
    assert torch.isfinite(log_p).all() and (log_p <= 1e-6).all()
    error = abs(float(log_p.double().exp().sum()) - 1)
    assert error < 100 * levels * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logarithm_of_a_level_is_a_number_however_far_off_it_is(dtype):
    x = torch.linspace(-1, 1, 17, dtype=f64).to(dtype)
    for variance in (0.0, 1e-30, 1e-4, 1e8, 1e30):
        for mean in (-1.0, 0.03, 1.0, 40.0):
            wide = torch.tensor(variance, dtype=dtype)
            log_p = level_log_prob(x, torch.tensor(mean, dtype=dtype), wide, 17)
            assert log_p.isfinite().all() and (log_p <= 1e-6).all(), (variance, mean)
    # ln Phi(-193.75), by its asymptotic series: a black pixel taken for white.
    far = level_log_prob(x[:1], torch.ones((), dtype=dtype), torch.tensor(1e-4), 17)
    edge = (1 - (-1 + 1 / 16)) / 0.01
    wanted = -(edge**2) / 2 - math.log(edge) - math.log(2 * math.pi) / 2 - edge**-2
    assert float(far) == pytest.approx(wanted, rel=1e-5)


@given(few_betas, seeds, variances)
@settings(max_examples=25)
def test_the_bound_is_below_the_likelihood(values, seed, variance):
    s = schedule_of(values)
    g = torch.Generator().manual_seed(seed)
    data = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [0.8, 0.0]], [0.3, 0.5])
    x = data.sample(4000, g)
    for net in (
        lambda z, t: data.noise(z, t, s),
        lambda z, t: 0.5 * z,
        lambda z, t: torch.zeros_like(z),
    ):
        terms = elbo_terms(Denoiser(net, s), x, variance=variance, generator=g)
        gap = data.log_prob(x) - terms.bound
        allowed = 5 * float(gap.std()) / len(gap) ** 0.5
        assert float(gap.mean()) > -allowed, "a lower bound lies above the likelihood"
        assert terms.denoising.shape == (4000, s.T - 1)
        assert (terms.denoising >= -1e-12).all() and (terms.prior >= 0).all()


def gaussian_chain(
    center: float, spread: float, s: NoiseSchedule, variance: str
) -> tuple[float, float]:
    """Mean and variance of Algorithm 2's output for N(center, spread^2) data and the
    perfect network, from the two-dimensional normal law of x and z_t."""
    mean, total = 0.0, 1.0
    table = s.beta if variance == "beta" else s.beta_tilde
    for t in range(s.T, 0, -1):
        a, before, beta = (
            float(v) for v in (s.alpha_bar[t], s.alpha_bar[t - 1], s.beta[t])
        )
        # Regression of z_{t-1} on z_t: covariance over variance.
        slope = (before * spread**2 + 1 - before) * (1 - beta) ** 0.5
        slope /= a * spread**2 + 1 - a
        mean = before**0.5 * center + slope * (mean - a**0.5 * center)
        total = slope**2 * total + (float(table[t]) if t > 1 else 0.0)
    return mean, total


@given(few_betas, seeds, variances, st.floats(-1, 1), st.floats(0.05, 1.5))
def test_samplers_have_the_exact_moments_for_gaussian_data(
    values, seed, variance, center, spread
):
    s = schedule_of(values)
    data = GaussianMixture([1.0], [center], [spread])

    model = Denoiser(lambda z, t: data.noise(z, t, s), s)

    # Exactly: each step is linear, so two points and one noise give its law.
    mean, total = 0.0, 1.0
    for t in range(s.T, 0, -1):
        z = torch.tensor([[0.0], [1.0], [0.0]], dtype=f64)
        fresh = torch.tensor([[0.0], [0.0], [1.0]], dtype=f64)
        noise = partial(torch.clone, fresh)
        out = ddpm(model, z, t, t - 1, s, noise, [], variance=variance)
        rest, slope, width = out[0], out[1] - out[0], out[2] - out[0]
        mean, total = float(rest + slope * mean), float(slope**2 * total + width**2)
    exact_mean, exact_total = gaussian_chain(center, spread, s, variance)
    assert abs(mean - exact_mean) < 1e-8 and abs(total - exact_total) < 1e-8
    # And the loop around the step, by drawing.
    count, g = 4000, torch.Generator().manual_seed(seed)
    start = torch.randn(count, 1, dtype=f64, generator=g)
    made = sample(
        model,
        s,
        start,
        sampler=partial(ddpm, variance=variance),
        noise=lambda: torch.randn(count, 1, dtype=f64, generator=g),
    )
    deviation = exact_total**0.5
    assert abs(float(made.mean()) - exact_mean) < 5 * deviation / count**0.5 + 1e-12
    error = abs(float(made.var()) / exact_total - 1)
    assert error < 5 * (2 / count) ** 0.5


@given(st.integers(1, 400), st.integers(0, 100), st.floats(0, 1), st.data())
def test_the_learning_rate_is_positive_and_at_most_its_highest(
    steps, warmup, flat, data
):
    optim = Optim(steps, warmup_steps=warmup, flat_fraction=flat, learning_rate=0.5)
    step = data.draw(st.integers(0, steps - 1))
    assert 0 < learning_rate(step, optim) <= 0.5
