"""Numbers that nobody here made: the reference library and the papers.

The library is diffusers, which counts steps from 0 where the book counts from 1 and
computes its coefficients in float32; hence t - 1 and tolerances of 1e-5. Nothing is
downloaded: every model is built from its configuration.
"""

from __future__ import annotations

import math
import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.models.embeddings import get_timestep_embedding

from ddpm_lit import (
    NoiseSchedule,
    UNet,
    UNetConfig,
    ancestral_step,
    bits_per_dim,
    cosine_betas,
    gaussian_kl,
    linear_betas,
    make_schedule,
    noise_from_v,
    q_sample,
    quadratic_betas,
    sample,
    sigmoid_betas,
    time_embedding,
    v_from_x,
)

f64 = torch.float64
LINEAR = make_schedule("linear", 1000)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("linear", linear_betas),
        ("scaled_linear", quadratic_betas),
        ("squaredcos_cap_v2", cosine_betas),
        ("sigmoid", sigmoid_betas),
    ],
)
@pytest.mark.parametrize("T", [10, 1000])
def test_schedules_agree_with_diffusers(theirs, ours, T):
    scheduler = DDPMScheduler(
        T, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs, clip_sample=False
    )
    difference = scheduler.betas.double() - ours(T)
    assert float(difference.abs().max()) < 1e-6, f"{theirs}: betas differ"
    alpha_bar = NoiseSchedule(ours(T)).alpha_bar[1:]
    difference = scheduler.alphas_cumprod.double() - alpha_bar
    assert float(difference.abs().max()) < 1e-6, f"{theirs}: alpha_bar differs"


def test_jump_and_velocity_agree_with_diffusers():
    scheduler = DDPMScheduler(1000)
    x, noise = torch.randn(2, 64, 1, 4, 4, generator=seeded(0))
    t = torch.randint(1, 1001, (64,), generator=seeded(1))
    jump = scheduler.add_noise(x, noise, t - 1)
    assert torch.allclose(q_sample(x, t, noise, LINEAR), jump, atol=1e-5)
    velocity = scheduler.get_velocity(x, noise, t - 1)
    assert torch.allclose(v_from_x(x, noise, t, LINEAR), velocity, atol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("t", [1, 2, 40, 500, 1000])
def test_one_step_agrees_with_diffusers(t, predicts, variance, clip):
    scheduler = DDPMScheduler(
        1000,
        variance_type="fixed_large" if variance == "beta" else "fixed_small",
        prediction_type=predicts,
        clip_sample=clip,
    )
    x, noise, answer = torch.rand(3, 8, 1, 4, 4, generator=seeded(t)) * 2 - 1
    z = q_sample(x, t, noise, LINEAR)
    theirs = scheduler.step(answer, t - 1, z, generator=seeded(5)).prev_sample
    guess = answer if predicts == "epsilon" else noise_from_v(z, answer, t, LINEAR)
    fresh = torch.randn(z.shape, generator=seeded(5))
    ours = ancestral_step(
        lambda z, t: guess, z, t, LINEAR, fresh, variance=variance, clip=clip
    )
    scale = 1 + float(ours.abs().max())
    # Their picture is divided by a root of 0.006 in float32 before it is clipped.
    assert torch.allclose(ours, theirs, atol=2e-4 * scale), "one step back differs"


@pytest.mark.parametrize("steps", [1000, 50, 4])
def test_chains_agree_with_diffusers(steps):
    scheduler = DDPMScheduler(
        1000, variance_type="fixed_small", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    shape = (4, 1, 4, 4)
    theirs = torch.randn(shape, generator=(g := seeded(3)))
    for t in scheduler.timesteps:
        guess = torch.tanh(theirs) * (1 + float(t)) / 1000
        # They draw no noise in the last step, ours does not use it.
        theirs = scheduler.step(guess, t, theirs, generator=g).prev_sample

    def model(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z) * t[:, None, None, None] / 1000

    ours = sample(
        model,
        LINEAR,
        shape,
        steps=steps,
        variance="beta_tilde",
        generator=seeded(3),
        progress=False,
    )
    assert torch.allclose(ours, theirs, atol=1e-3), f"a chain of {steps} steps differs"


def test_time_embedding_agrees_with_diffusers():
    t = torch.tensor([0, 1, 17, 999])
    theirs = get_timestep_embedding(t, 32, downscale_freq_shift=1)
    assert torch.allclose(time_embedding(t, 32), theirs, atol=1e-4)


def reference_unet(config: UNetConfig) -> UNet2DModel:
    """The same network in diffusers' terms."""
    levels = range(len(config.channels))
    kind = ["Attn" if i in config.attention_levels else "" for i in levels]
    return UNet2DModel(
        in_channels=config.in_channels,
        out_channels=config.in_channels,
        block_out_channels=tuple(config.channels),
        layers_per_block=config.blocks_per_level,
        down_block_types=tuple(f"{k}DownBlock2D" for k in kind),
        up_block_types=tuple(f"{k}UpBlock2D" for k in kind[::-1]),
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        norm_num_groups=config.groups,
        attention_head_dim=config.head_channels,
        add_attention=config.middle_attention,
        dropout=config.dropout,
    ).eval()


def copy_layer(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())


def copy_stage(ours, resnet, attention) -> None:
    """A residual block and the attention that may follow it."""
    block = ours.block
    for mine, other in (
        (block.norm1, resnet.norm1),
        (block.conv1, resnet.conv1),
        (block.time, resnet.time_emb_proj),
        (block.norm2, resnet.norm2),
        (block.conv2, resnet.conv2),
    ):
        copy_layer(mine, other)
    if resnet.conv_shortcut is not None:
        copy_layer(block.shortcut, resnet.conv_shortcut)
    if attention is not None:
        parts = attention.to_q, attention.to_k, attention.to_v
        weight = torch.cat([part.weight for part in parts])
        bias = torch.cat([part.bias for part in parts])
        ours.attention.qkv.load_state_dict({"weight": weight, "bias": bias})
        copy_layer(ours.attention.out, attention.to_out[0])
        copy_layer(ours.attention.norm, attention.group_norm)


def copy_blocks(stages, block) -> None:
    attentions = [*getattr(block, "attentions", []), *[None] * len(stages)]
    for stage, resnet, attention in zip(stages, block.resnets, attentions):  # noqa: B905
        copy_stage(stage, resnet, attention)


def copy_weights(ours: UNet, theirs: UNet2DModel) -> None:
    """Every weight of the reference network into ours."""
    copy_layer(ours.conv_in, theirs.conv_in)
    copy_layer(ours.time[0], theirs.time_embedding.linear_1)
    copy_layer(ours.time[2], theirs.time_embedding.linear_2)
    for stages, block in zip(ours.down, theirs.down_blocks, strict=True):
        copy_blocks(stages, block)
    for shrink, block in zip(ours.shrink, theirs.down_blocks, strict=False):
        copy_layer(shrink.conv, block.downsamplers[0].conv)
    copy_blocks(ours.middle, theirs.mid_block)
    for stages, block in zip(ours.up, theirs.up_blocks, strict=True):
        copy_blocks(stages, block)
    for grow, block in zip(ours.grow, theirs.up_blocks, strict=False):
        copy_layer(grow.conv, block.upsamplers[0].conv)
    copy_layer(ours.norm_out, theirs.conv_norm_out)
    copy_layer(ours.conv_out, theirs.conv_out)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(),
        UNetConfig(
            in_channels=3,
            base_channels=16,
            channel_multipliers=(1, 2, 2),
            blocks_per_level=2,
            attention_levels=(1,),
            middle_attention=True,
            dropout=0.1,
        ),
        UNetConfig(channel_multipliers=(1, 1), attention_levels=(0, 1)),
    ],
)
def test_unet_agrees_with_diffusers(config):
    torch.manual_seed(0)
    theirs, ours = reference_unet(config), UNet(config).eval()
    copy_weights(ours, theirs)
    z = torch.randn(4, config.in_channels, 16, 16)
    t = torch.tensor([1, 2, 500, 1000])
    with torch.no_grad():
        expected, found = theirs(z, t - 1).sample, ours(z, t)
    error = float((found - expected).abs().max())
    assert error < 1e-5, f"with equal weights the networks differ by {error:.1e}"


PAPER = UNetConfig(
    in_channels=3,
    base_channels=128,
    channel_multipliers=(1, 2, 2, 2),
    blocks_per_level=2,
    attention_levels=(1,),
    middle_attention=True,
    dropout=0.1,
    groups=32,
)


def test_the_papers_network_has_as_many_parameters():
    # Ho et al. (2020), appendix B: "35.7 million parameters" for CIFAR-10.
    with torch.device("meta"):
        networks = UNet(PAPER), reference_unet(PAPER)
        ours, theirs = (sum(p.numel() for p in net.parameters()) for net in networks)
    assert ours == theirs and round(ours / 1e6, 1) == 35.7


def test_the_papers_prior_term():
    # Ho et al. (2020), section 4: about 1e-5 bits per dimension for their schedule.
    # A pixel that is uniform on [-1, 1] has x^2 = 1/3 on average.
    a, zero = LINEAR.alpha_bar[-1], torch.zeros((), dtype=f64)
    kl = gaussian_kl((a / 3).sqrt(), torch.log1p(-a), zero, zero)
    bits = float(bits_per_dim(-kl, 1, None))
    assert abs(math.log10(bits) + 5) < 0.3, f"{bits:.1e} bits per dimension"


def test_the_papers_offset_of_the_cosine():
    # Nichol and Dhariwal (2021), section 3.2: s = 0.008 was chosen so that the first
    # deviation is slightly smaller than the width of a grey level, 1/127.5; and no
    # beta is larger than 0.999.
    betas = cosine_betas(1000)
    assert 0.5 / 127.5 < float(betas[0].sqrt()) < 1 / 127.5
    assert float(betas.max()) == 0.999
