"""What a network is told, and the small pieces that tell it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from small import small
from torch import nn

from ddpm_lit.data import load_digits
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.networks.control import zeros
from ddpm_lit.networks.unet import NETWORKS, network
from ddpm_lit.output import from_noise
from ddpm_lit.restoration import no_spread, own_spread, solve, white_spread
from ddpm_lit.runs import build_denoiser, lesson_of
from ddpm_lit.sampling import Noise, sample
from ddpm_lit.schedules import make_schedule


def test_a_network_is_kept_under_its_name():
    class Odd(nn.Module):
        pass

    assert network(Odd) is Odd
    assert NETWORKS.pop("Odd") is Odd and {"UNet", "ConditionalUNet"} <= {*NETWORKS}


def test_a_recipe_without_a_lesson_changes_no_batch(tmp_path):
    recipe, digits = small(tmp_path), load_digits()
    assert lesson_of(recipe, build_denoiser(recipe, digits)) is None
    asks = recipe.changed(labels=True)
    assert lesson_of(asks, build_denoiser(asks, digits)) is not None
    with pytest.raises(ValueError, match="no image can be told"):
        fills = replace(
            recipe.changed(fill=True), lesson=recipe.changed(fill=True).lesson
        )
        lesson_of(fills, build_denoiser(recipe, digits))


def test_pictures_from_noise_are_samples():
    schedule = make_schedule("cosine", 20)
    data = GaussianMixture([1.0], [[0.5, -0.5]], [0.3])
    model = Denoiser(partial(data.noise, schedule=schedule), schedule, size=(2,))
    made = from_noise(model, schedule, noise=Noise(1, range(3), (2,)))
    source = Noise(1, range(3), (2,))
    assert torch.equal(made, sample(model, schedule, source(), noise=source))


def test_conjugate_gradients_solve_and_a_known_picture_has_no_spread():
    g = torch.Generator().manual_seed(0)
    half = torch.randn(5, 5, generator=g, dtype=torch.float64)
    matrix = half @ half.T + torch.eye(5, dtype=torch.float64)
    b = torch.randn(3, 5, generator=g, dtype=torch.float64)
    found = solve(lambda w: w @ matrix, b, 8)
    assert float((found @ matrix - b).abs().max()) < 1e-9
    assert not no_spread(b, 0.5, lambda w: w).any()
    assert torch.equal(white_spread(b, 0.75, lambda w: w), b / 4)
    assert torch.allclose(own_spread(b, 0.25, lambda w: w), 1.5 * b)


def test_a_convolution_of_zeros_answers_zero():
    layer = zeros(3, 5)
    assert not layer(torch.randn(2, 3, 4, 4)).any()
