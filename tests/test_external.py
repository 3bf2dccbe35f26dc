"""Numbers that nobody here made: the reference library and the papers.

The library is diffusers, which counts steps from 0 where the book counts from 1 and
computes its coefficients in float32; hence t - 1 and tolerances of 1e-5. Nothing is
downloaded: every model is built from its configuration.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ["HF_HUB_OFFLINE"] = "1"
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.models.embeddings import get_timestep_embedding

from ddpm_lit.elbo import bits_per_dim, gaussian_kl
from ddpm_lit.forward import q_sample
from ddpm_lit.hub import (
    config_from_diffusers,
    config_to_diffusers,
    from_diffusers,
    load_model,
    schedule_from_diffusers,
    to_diffusers,
    weights_to_diffusers,
)
from ddpm_lit.networks.unet import UNet, UNetConfig, time_embedding
from ddpm_lit.parameterization import noise_from_v, v_from_x
from ddpm_lit.recipes import preset
from ddpm_lit.sampling import ancestral_step, sample
from ddpm_lit.schedules import (
    NoiseSchedule,
    cosine_betas,
    linear_betas,
    make_schedule,
    quadratic_betas,
    sigmoid_betas,
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


@pytest.mark.parametrize("steps", [1000, 20])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("variance_type", "variance"),
    [
        ("fixed_large", "beta"),
        ("fixed_small", "beta_tilde"),
        ("fixed_small_log", "beta_tilde"),
        # Not fixed_large_log: diffusers takes the root of a logarithm there, NaN.
    ],
)
def test_whole_trajectories_agree_in_float64(variance_type, variance, kind, steps):
    scheduler = DDPMScheduler(
        1000, variance_type=variance_type, timestep_spacing="trailing"
    )
    # Our tables: the rounding of theirs to float32 is not what is compared here.
    schedule = make_schedule(kind, 1000)
    scheduler.betas = schedule.beta[1:]
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    scheduler.one = torch.ones((), dtype=f64)
    scheduler.set_timesteps(steps)
    start = torch.randn(4, 1, 4, 4, dtype=f64, generator=seeded(3))
    theirs, g = start, seeded(4)
    path = []
    for t in scheduler.timesteps:
        guess = torch.tanh(2 * theirs)
        theirs = scheduler.step(guess, t, theirs, generator=g).prev_sample
        path.append(theirs)
    seen: list[torch.Tensor] = []
    sample(
        lambda z, t: torch.tanh(2 * z),
        schedule,
        tuple(start.shape),
        steps=steps,
        init=start,
        variance=variance,
        generator=seeded(4),
        progress=False,
        on_step=lambda t, z: seen.append(z),
    )
    pairs = list(zip(seen, path, strict=True))
    if variance == "beta" and steps < 1000:
        # With fewer steps theirs adds noise to the finished image: its last t is
        # not 0, and only for t = 0 it adds none.
        assert float((pairs[-1][0] - pairs[-1][1]).abs().max()) > 0.01
        pairs.pop()
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    assert worst < 1e-9, f"somewhere on the way the images differ by {worst:.1e}"


def test_time_embedding_agrees_with_diffusers():
    t = torch.tensor([0, 1, 17, 999])
    theirs = get_timestep_embedding(t, 32, downscale_freq_shift=1)
    assert torch.allclose(time_embedding(t, 32), theirs, atol=1e-4)


@dataclass(frozen=True)
class Architecture:
    """A network in diffusers' words, and the size of the images to try."""

    fields: dict[str, Any]
    size: tuple[int, int] = (16, 16)


def blocks(*attend: bool) -> dict[str, Any]:
    """Block types with attention where it is wanted, level 0 first."""
    kind = ["Attn" if a else "" for a in attend]
    return {
        "down_block_types": [f"{k}DownBlock2D" for k in kind],
        "up_block_types": [f"{k}UpBlock2D" for k in kind[::-1]],
    }


HO = {  # the switches of the paper's network
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
ARCHITECTURES = {
    "the paper's, narrow": Architecture(
        {
            **HO,
            **blocks(False, True, False, False),
            "block_out_channels": (32, 64, 64, 64),
            "dropout": 0.1,
        }
    ),
    "diffusers' defaults": Architecture(
        {
            **blocks(False, True, True, True),
            "block_out_channels": (32, 64, 96, 128),
            "layers_per_block": 1,
        }
    ),
    "several heads": Architecture(
        {
            **HO,
            **blocks(False, True),
            "block_out_channels": (32, 64),
            "attention_head_dim": 16,
        }
    ),
    "one level, one channel": Architecture(
        {
            **HO,
            **blocks(True),
            "block_out_channels": (16,),
            "in_channels": 1,
            "out_channels": 1,
            "norm_num_groups": 8,
        },
        (7, 9),
    ),
    "six levels": Architecture(
        {
            **HO,
            **blocks(False, False, False, False, True, False),
            "block_out_channels": (8, 8, 16, 16, 24, 24),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
        (64, 32),
    ),
    "attention everywhere": Architecture(
        {
            **HO,
            **blocks(True, True, True),
            "block_out_channels": (16, 16, 32),
            "norm_num_groups": 8,
            "layers_per_block": 3,
        }
    ),
    "no attention": Architecture(
        {
            **HO,
            **blocks(False, False),
            "block_out_channels": (16, 24),
            "norm_num_groups": 8,
            "add_attention": False,
        }
    ),
    "the training example's blocks": Architecture(
        {
            **blocks(False, False, False, False, True, False),
            "block_out_channels": (16, 16, 32, 32, 64, 64),
            "norm_num_groups": 16,
        },
        (32, 32),
    ),
}


def reference(name: str) -> UNet2DModel:
    """The network with weights that no initialization has made zero."""
    torch.manual_seed(0)
    fields = {"norm_num_groups": 32, **ARCHITECTURES[name].fields}
    return UNet2DModel(**fields, sample_size=ARCHITECTURES[name].size).eval()


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_and_gradients_agree_with_diffusers(name, dtype, bound):
    theirs = reference(name).to(dtype)
    found = from_diffusers(theirs)
    ours = found.model.to(dtype).requires_grad_(True)
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    z = torch.randn(found.shape(4), generator=seeded(1)).to(dtype)
    t = torch.tensor([1, 2, 500, 1000])
    one, two = z.clone().requires_grad_(), z.clone().requires_grad_()
    answer, expected = ours(one, t), theirs(two, t - 1).sample
    error = float((answer - expected).abs().max())
    assert error <= bound, f"{name}: with equal weights the answers differ by {error}"
    push = torch.randn(z.shape, generator=seeded(2)).to(dtype) / z.numel()
    (answer * push).sum().backward()
    (expected * push).sum().backward()
    slopes = weights_to_diffusers({k: p.grad for k, p in ours.named_parameters()})
    error = float((one.grad - two.grad).abs().max())
    assert error <= bound, f"{name}: gradients of the image differ by {error}"
    assert slopes.keys() == dict(theirs.named_parameters()).keys()
    for key, parameter in theirs.named_parameters():
        error = float((slopes[key] - parameter.grad).abs().max())
        assert error <= bound, f"{name}: gradients of {key} differ by {error}"


@pytest.mark.parametrize("form", ["safetensors", "bin", "flat", "older names"])
def test_folders_of_diffusers_are_opened(tmp_path, form):
    theirs = reference("the paper's, narrow")
    pipeline = DDPMPipeline(theirs, DDPMScheduler(50, variance_type="fixed_large"))
    pipeline.save_pretrained(tmp_path, safe_serialization=form != "bin")
    unet = tmp_path / "unet"
    if form == "flat":  # as the published CIFAR-10 model is stored
        for file in [*unet.iterdir(), *(tmp_path / "scheduler").iterdir()]:
            shutil.move(file, tmp_path / file.name)
        unet.rmdir()
    if form == "older names":
        path = unet / "diffusion_pytorch_model.safetensors"
        named = load_file(path)
        for new, old in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ):
            named = {k.replace(f".{new}.", f".{old}."): v for k, v in named.items()}
        save_file(named, path)
    for found in (from_diffusers(tmp_path), load_model(tmp_path)):
        assert found.schedule.T == 50 and found.variance == "beta" and found.clip
        assert found.image_size == (16, 16)
        z, t = torch.randn(found.shape(2), generator=seeded(1)), torch.tensor([1, 50])
        with torch.no_grad():
            error = float((found.model(z, t) - theirs(z, t - 1).sample).abs().max())
        assert error <= 1e-5


@pytest.mark.parametrize("steps", [20, 5])
def test_diffusers_opens_and_samples_what_we_write(tmp_path, steps):
    torch.manual_seed(0)
    config = UNetConfig(base_channels=8, groups=4, attention_levels=(1,))
    ours = UNet(config).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    schedule = make_schedule("cosine", 20)
    to_diffusers(ours, schedule, tmp_path, image_size=(8, 8), variance="beta_tilde")
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        batch_size=3,
        generator=seeded(3),
        num_inference_steps=steps,
        output_type="pt",
    ).images
    mine = sample(
        ours,
        schedule,
        (3, 1, 8, 8),
        steps=steps,
        variance="beta_tilde",
        generator=seeded(3),
        progress=False,
    )
    assert float(((mine + 1) / 2 - theirs).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 10),
        ("resnet_time_scale_shift", "scale_shift"),
        ("act_fn", "gelu"),
        ("mid_block_scale_factor", 2),
        ("attention_head_dim", 5),
        ("out_channels", 6),
        ("down_block_types", ["SkipDownBlock2D", "DownBlock2D"]),
        ("up_block_types", ["AttnUpBlock2D", "UpBlock2D"]),
        ("time_embedding_type", "fourier"),
        ("downsample_type", "resnet"),
        ("a_field_of_tomorrow", 1),
    ],
)
def test_a_network_outside_the_family_is_refused_by_field(field, value):
    fields = {**HO, **blocks(False, False), "block_out_channels": [32, 64]}
    with pytest.raises(ValueError, match=field):
        config_from_diffusers({**fields, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prediction_type", "v_prediction"),
        ("variance_type", "learned_range"),
        ("beta_schedule", "stairs"),
        ("thresholding", True),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_a_scheduler_outside_the_family_is_refused_by_field(field, value):
    with pytest.raises(ValueError, match=field):
        schedule_from_diffusers({"num_train_timesteps": 10, field: value})


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_are_read_from_their_settings(kind):
    scheduler = DDPMScheduler(100, beta_schedule=kind, variance_type="fixed_small")
    schedule, variance, clip = schedule_from_diffusers(dict(scheduler.config))
    theirs = scheduler.alphas_cumprod.double()
    assert float((schedule.alpha_bar[1:] - theirs).abs().max()) < 1e-6
    assert variance == "beta_tilde" and clip


PAPER = preset("cifar10").train.model


def test_the_papers_network_has_as_many_parameters():
    # Ho et al. (2020), appendix B: "35.7 million parameters" for CIFAR-10.
    theirs = config_to_diffusers(preset("cifar10").train.model, (32, 32))
    with torch.device("meta"):
        networks = UNet(PAPER), UNet2DModel.from_config(theirs)
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
