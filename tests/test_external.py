"""Numbers that nobody here made: the reference library and the papers.

The library is diffusers, which counts steps from 0 where the book counts from 1 and
computes its coefficients in float32; hence t - 1 and tolerances of 1e-5. Nothing is
downloaded: every model is built from its configuration.
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ["HF_HUB_OFFLINE"] = "1"
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.training_utils import EMAModel

from ddpm_lit.denoiser import Denoiser
from ddpm_lit.elbo import bits_per_dim, gaussian_kl
from ddpm_lit.forward import q_sample
from ddpm_lit.guidance import clipped, guided, rescaled
from ddpm_lit.hub import (
    config_from_diffusers,
    config_to_diffusers,
    from_diffusers,
    load_model,
    schedule_from_diffusers,
    schedule_to_diffusers,
    to_diffusers,
    weights_to_diffusers,
)
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.networks.unet import UNet, time_embedding
from ddpm_lit.objectives import Prediction
from ddpm_lit.parameterization import noise_from_x, v_from_x
from ddpm_lit.recipes import UNetConfig, preset
from ddpm_lit.samplers import ddim, ddpm, dpm2m
from ddpm_lit.sampling import chain, sample
from ddpm_lit.schedules import (
    NoiseSchedule,
    cosine_betas,
    kept_steps,
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
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
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
    fresh = torch.randn(z.shape, generator=seeded(5))
    objective = {"epsilon": "noise", "sample": "x", "v_prediction": "v"}[predicts]
    model = Denoiser(lambda z, t: answer, LINEAR, objective)
    predict = clipped(model, LINEAR) if clip else model
    ours = ddpm(predict, z, t, t - 1, LINEAR, lambda: fresh, [], variance=variance)
    scale = 1 + float(ours.abs().max())
    # Their picture is divided by a root of 0.006 in float32 before it is clipped.
    assert torch.allclose(ours, theirs, atol=2e-4 * scale), "one step back differs"


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("t", [2, 40, 500, 1000])
def test_one_step_with_a_learned_variance_agrees_with_diffusers(t, clip):
    scheduler = DDPMScheduler(1000, variance_type="learned_range", clip_sample=clip)
    x, noise, answer, told = torch.rand(4, 8, 1, 4, 4, generator=seeded(t)) * 2 - 1
    z, both = q_sample(x, t, noise, LINEAR), torch.cat([answer, 1.5 * told], 1)
    theirs = scheduler.step(both, t - 1, z, generator=seeded(5)).prev_sample
    fresh = torch.randn(z.shape, generator=seeded(5))
    model = Denoiser(lambda z, t: both, LINEAR, "noise+variance")
    predict = clipped(model, LINEAR) if clip else model
    ours = ddpm(predict, z, t, t - 1, LINEAR, lambda: fresh, [], variance="learned")
    scale = 1 + float(ours.abs().max())
    assert torch.allclose(ours, theirs, atol=2e-4 * scale), "one step back differs"


def test_a_network_that_tells_its_variance_goes_both_ways(tmp_path):
    sizes = {"block_out_channels": (32, 32), "layers_per_block": 1, "sample_size": 8}
    kinds = {
        "down_block_types": ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2,
    }
    torch.manual_seed(0)
    unet = UNet2DModel(in_channels=3, out_channels=6, **sizes, **kinds).eval()
    scheduler = DDPMScheduler(50, variance_type="learned_range")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    model = from_diffusers(tmp_path / "theirs")
    how = (model.objective, model.variance, model.net.config.learn_variance)
    assert how == ("noise+variance", "learned", True)
    z, t = torch.randn(2, 3, 8, 8, generator=seeded(1)), torch.tensor([3, 40])
    with torch.no_grad():
        answer, expected = model.net(z, t), unet(z, t - 1).sample
    assert answer.shape == (2, 6, 8, 8) and torch.allclose(answer, expected, atol=1e-5)
    again = from_diffusers(to_diffusers(model, tmp_path / "ours"))
    assert (again.objective, again.variance) == how[:2]
    assert torch.equal(again.net(z, t), model.net(z, t))
    other = DDPMScheduler(50, variance_type="fixed_small")
    with pytest.raises(ValueError, match="learn_variance is True under 'noise'"):
        from_diffusers(unet, other)


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
        # They draw no noise in the last step, nor does ours.
        theirs = scheduler.step(guess, t, theirs, generator=g).prev_sample

    def net(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(z) * t[:, None, None, None] / 1000

    noise = partial(torch.randn, shape, generator=seeded(3))
    ours = sample(
        clipped(Denoiser(net, LINEAR), LINEAR),
        LINEAR,
        noise(),
        sampler=partial(ddpm, variance="beta_tilde"),
        steps=steps,
        noise=noise,
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
    model = Denoiser(lambda z, t: torch.tanh(2 * z), schedule)
    path_of_ours = chain(
        clipped(model, schedule),
        schedule,
        start,
        sampler=partial(ddpm, variance=variance),
        steps=steps,
        noise=partial(torch.randn, start.shape, dtype=f64, generator=seeded(4)),
    )
    seen = [z for _, z in path_of_ours]
    pairs = list(zip(seen, path, strict=True))
    if variance == "beta" and steps < 1000:
        # With fewer steps theirs adds noise to the finished image: its last t is
        # not 0, and only for t = 0 it adds none.
        assert float((pairs[-1][0] - pairs[-1][1]).abs().max()) > 0.01
        pairs.pop()
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    assert worst < 1e-9, f"somewhere on the way the images differ by {worst:.1e}"


@pytest.mark.parametrize("T", [1000, 999, 777, 101])
def test_trailing_steps_are_those_that_we_keep(T):
    scheduler = DDPMScheduler(T, timestep_spacing="trailing")
    for n in range(1, 101):
        scheduler.set_timesteps(n)
        theirs, ours = (scheduler.timesteps + 1).tolist(), kept_steps(T, n)[:-1]
        for k in range(n):
            # Half-way between two steps, rounding errors decide where theirs goes.
            tied = 2 * k * T % (2 * n) == n
            apart = abs(theirs[k] - ours[k])
            assert apart <= tied, f"step {k} of {n}, T = {T}: {theirs[k]}, {ours[k]}"
        # Their sum of rounded numbers misses 0 for some n: one step more, at -1.
        assert theirs[n:] in ([], [0])


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
    found = from_diffusers(theirs, DDPMScheduler())
    ours = found.net.to(dtype).requires_grad_(True)
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


@pytest.mark.parametrize("shift", ["default", "scale_shift"])
def test_networks_that_are_told_a_label_agree_with_diffusers(tmp_path, shift):
    torch.manual_seed(0)
    theirs = UNet2DModel(
        **blocks(False, True),
        block_out_channels=(16, 32),
        sample_size=16,
        norm_num_groups=8,
        attn_norm_num_groups=8,
        num_class_embeds=7,
        resnet_time_scale_shift=shift,
    ).eval()
    DDPMPipeline(theirs, DDPMScheduler()).save_pretrained(tmp_path / "theirs")
    for ours in (
        from_diffusers(theirs, DDPMScheduler()),
        load_model(tmp_path / "theirs"),
    ):
        z, label = (
            torch.randn(ours.shape(3), generator=seeded(1)),
            torch.tensor([0, 6, 3]),
        )
        t = torch.tensor([1, 500, 1000])
        with torch.no_grad():
            answer = ours.net(z, t, label=label)
            expected = theirs(z, t - 1, class_labels=label).sample
        assert ours.conditions == ("label",)
        assert float((answer - expected).abs().max()) <= 1e-5
        assert float((answer - ours.net(z, t, label=label.flip(0))).abs().max()) > 1e-3
        with pytest.raises(ValueError, match="must be told 'label'"):
            ours(z, 5)
    to_diffusers(ours, tmp_path / "ours")
    again = UNet2DModel.from_pretrained(tmp_path / "ours/unet")
    with torch.no_grad():
        found = again(z, t - 1, class_labels=label).sample
    assert float((found - expected).abs().max()) <= 1e-6


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
        assert found.size == (3, 16, 16) and not found.training
        assert not any(p.requires_grad for p in found.parameters())
        assert distance(found, theirs) <= 1e-5


def distance(ours: Denoiser, theirs: UNet2DModel) -> float:
    """How far the answers of two networks are apart."""
    T = ours.schedule.T
    z, t = torch.randn(ours.shape(2), generator=seeded(1)), torch.tensor([1, T])
    with torch.no_grad():
        return float((ours.net(z, t) - theirs(z, t - 1).sample).abs().max())


@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_what_a_network_predicts_goes_both_ways(tmp_path, predicts):
    theirs = reference("no attention")
    scheduler = DDPMScheduler(
        100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=predicts,
        clip_sample=False,
    )
    DDPMPipeline(theirs, scheduler).save_pretrained(tmp_path / "theirs")
    found = load_model(tmp_path / "theirs")
    z = torch.randn(found.shape(4), generator=seeded(1))
    back = to_diffusers(found, tmp_path / "back")
    again = DDPMPipeline.from_pretrained(back)
    for t in (1, 30, 99):
        with torch.no_grad():
            answer, picture = theirs(z, t - 1).sample, found(z, t).x
            same = again.unet(z, t - 1).sample
        scale = 1 + float(picture.abs().max())
        for each, its_answer in ((scheduler, answer), (again.scheduler, same)):
            guess = each.step(its_answer, t - 1, z).pred_original_sample
            assert float((picture - guess).abs().max()) <= 1e-4 * scale


def test_models_of_diffusers_in_memory_are_opened():
    theirs = reference("one level, one channel")
    for scheduler in (DDPMScheduler(50), DDIMScheduler(50)):
        found = from_diffusers(theirs, scheduler)
        assert found.size == (1, 7, 9) and found.schedule.T == 50
        assert distance(found, theirs) <= 1e-5
    wrapped = torch.nn.DataParallel(theirs)
    compiled = torch.compile(theirs)
    for net in (wrapped, compiled, torch.compile(wrapped)):
        assert distance(from_diffusers(net, DDPMScheduler(50)), theirs) <= 1e-5
    pipeline = DDIMPipeline(theirs, DDIMScheduler(50))
    assert distance(from_diffusers(pipeline), theirs) <= 1e-5
    found = from_diffusers(pipeline, DDPMScheduler(20, variance_type="fixed_large"))
    assert found.schedule.T == 20 and found.variance == "beta"
    betas = np.linspace(0.01, 0.2, 30)
    found = from_diffusers(theirs, DDPMScheduler(30, trained_betas=betas))
    assert np.array_equal(found.schedule.beta[1:].numpy(), betas)
    # A copy, not the same memory.
    theirs.conv_in.bias.data += 1
    assert distance(found, theirs) > 0.1
    for nothing in (None, "", torch.nn.Linear(1, 1)):
        with pytest.raises((ValueError, OSError)):
            from_diffusers(theirs, nothing)
    with pytest.raises(ValueError, match="Linear"):
        from_diffusers(torch.nn.Linear(1, 1), DDPMScheduler())


def test_a_checkpoint_of_their_training_example_is_opened(tmp_path):
    theirs, last = reference("no attention"), reference("no attention")
    last.conv_in.bias.data += 1
    average = EMAModel(
        theirs.parameters(), model_cls=UNet2DModel, model_config=theirs.config
    )
    average.save_pretrained(tmp_path / "checkpoint-500" / "unet_ema")
    last.save_pretrained(tmp_path / "checkpoint-500" / "unet")
    DDPMScheduler(50).save_pretrained(tmp_path / "scheduler")
    for scheduler in (tmp_path, tmp_path / "scheduler", DDPMScheduler(50)):
        for folder in ("checkpoint-500", "checkpoint-500/unet_ema"):
            found = from_diffusers(tmp_path / folder, scheduler)
            assert found.schedule.T == 50 and distance(found, theirs) <= 1e-5
    found = from_diffusers(tmp_path / "checkpoint-500", scheduler, average=False)
    assert distance(found, last) <= 1e-5
    with pytest.raises(FileNotFoundError, match="give its scheduler"):
        from_diffusers(tmp_path / "checkpoint-500" / "unet_ema")


def test_a_scheduler_that_is_given_goes_before_the_folders(tmp_path):
    theirs = reference("no attention")
    DDPMPipeline(theirs, DDPMScheduler(50)).save_pretrained(tmp_path / "pipeline")
    file = tmp_path / "other" / "scheduler_config.json"
    DDIMScheduler(20, clip_sample=False).save_pretrained(file.parent)
    for given in (file, file.parent, DDPMScheduler(20, clip_sample=False)):
        found = from_diffusers(tmp_path / "pipeline", given)
        assert found.schedule.T == 20 and not found.clip


def saved(folder: Path, **how: Any) -> UNet2DModel:
    """A pipeline in a folder; its network is saved as `how` says."""
    theirs = reference("no attention")
    DDPMScheduler(50).save_pretrained(folder / "scheduler")
    theirs.save_pretrained(folder / "unet", **how)
    return theirs


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("variant", [None, "fp16", "ema"])
@pytest.mark.parametrize("size", ["10GB", "100KB"])
def test_every_file_name_of_theirs_is_found(tmp_path, safe, variant, size):
    theirs = saved(
        tmp_path, safe_serialization=safe, variant=variant, max_shard_size=size
    )
    names = [path.name for path in (tmp_path / "unet").iterdir()]
    assert any("-00001-of-" in name for name in names) == (size == "100KB")
    assert distance(from_diffusers(tmp_path), theirs) <= 1e-5
    if size == "100KB":
        next((tmp_path / "unet").glob("*-00002-of-*")).unlink()
        with pytest.raises(FileNotFoundError, match="-00002-of-"):
            from_diffusers(tmp_path)


def test_of_several_variants_the_one_of_most_digits_is_taken(tmp_path):
    theirs = saved(tmp_path)
    for variant in ("fp16", "bf16", "fp32", "a_variant"):
        other = reference("no attention")
        other.conv_in.bias.data += 1
        other.save_pretrained(tmp_path / "unet", variant=variant)
    with pytest.warns(UserWarning, match=r"took diffusion_pytorch_model\.safetensors"):
        assert distance(from_diffusers(tmp_path), theirs) <= 1e-5
    # A whole pickle has more digits than half of a safetensors.
    theirs.save_pretrained(tmp_path / "unet", safe_serialization=False)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=r"took diffusion_pytorch_model\.bin"):
        assert distance(from_diffusers(tmp_path), theirs) <= 1e-5
    name = "diffusion_pytorch_model.{}"
    (tmp_path / "unet" / name.format("bin")).unlink()
    (tmp_path / "unet" / name.format("a_variant.safetensors")).unlink()
    for taken in ("fp32.safetensors", "fp16.safetensors"):
        with pytest.warns(UserWarning, match=f"took {name.format(taken)}"):
            from_diffusers(tmp_path)
        (tmp_path / "unet" / name.format(taken)).unlink()
    with warnings.catch_warnings(action="error"):  # bf16 is left, and no choice
        from_diffusers(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    theirs = saved(tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({prefix + k: v for k, v in load_file(path).items()}, path)
    assert distance(from_diffusers(tmp_path), theirs) <= 1e-5


@pytest.mark.parametrize("steps", [20, 5])
def test_diffusers_opens_and_samples_what_we_write(tmp_path, steps):
    torch.manual_seed(0)
    config = UNetConfig(base_channels=8, groups=4, attention_levels=(1,))
    ours = UNet(config).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model = Denoiser(
        ours,
        make_schedule("cosine", 20),
        size=(1, 8, 8),
        variance="beta_tilde",
        clip=True,
    )
    to_diffusers(model, tmp_path)
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        batch_size=3,
        generator=seeded(3),
        num_inference_steps=steps,
        output_type="pt",
    ).images
    noise = partial(torch.randn, model.shape(3), generator=seeded(3))
    mine = sample(
        clipped(model, model.schedule),
        model.schedule,
        noise(),
        sampler=partial(ddpm, variance="beta_tilde"),
        steps=steps,
        noise=noise,
    )
    assert float(((mine + 1) / 2 - theirs).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_class_name", "UNet2DConditionModel"),
        ("_class_name", None),
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 0),
        ("resnet_time_scale_shift", "spatial"),
        ("act_fn", "gelu"),
        ("mid_block_type", None),
        ("mid_block_scale_factor", 2),
        ("attention_head_dim", 5),
        ("attention_head_dim", 0),
        ("attn_norm_num_groups", 4),
        ("out_channels", 9),
        ("in_channels", 0),
        ("down_block_types", ["SkipDownBlock2D", "DownBlock2D"]),
        ("down_block_types", ["DownBlock2D"]),
        ("up_block_types", ["AttnUpBlock2D", "UpBlock2D"]),
        ("up_block_types", ["UpBlock2D"]),
        ("block_out_channels", []),
        ("block_out_channels", [32, "64"]),
        ("block_out_channels", 32),
        ("layers_per_block", "two"),
        ("layers_per_block", True),
        ("sample_size", None),
        ("sample_size", [8, 8, 8]),
        ("sample_size", 0),
        ("time_embedding_type", "fourier"),
        ("time_embedding_dim", 7),
        ("center_input_sample", True),
        ("downsample_padding", 2),
        ("downsample_type", "resnet"),
        ("upsample_type", "resnet"),
        ("freq_shift", 2),
        ("norm_eps", "small"),
        ("quantization_config", {"bits": 4}),
        ("_a_private_field", 1),
        ("a_field_of_tomorrow", 1),
    ],
)
def test_a_network_outside_the_family_is_refused_by_field(field, value):
    fields = config_to_diffusers(UNetConfig(middle_attention=True), (8, 8))
    assert config_from_diffusers(fields)
    with pytest.raises(ValueError, match=field) as caught:
        config_from_diffusers({**fields, field: value})
    assert "\n" not in str(caught.value)


def test_attention_without_a_normalization_is_refused():
    """What nothing said means beside scale and shift."""
    fields = config_to_diffusers(UNetConfig(middle_attention=True), (8, 8))
    with pytest.raises(ValueError, match="attn_norm_num_groups = None; expected 8"):
        config_from_diffusers({**fields, "resnet_time_scale_shift": "scale_shift"})


@pytest.mark.parametrize("field", ["_class_name", "sample_size", "block_out_channels"])
def test_a_field_that_is_missing_is_named(field):
    fields = config_to_diffusers(UNetConfig(), (8, 8))
    del fields[field]
    with pytest.raises(ValueError, match=field):
        config_from_diffusers(fields)


def test_a_field_that_is_left_out_is_as_in_diffusers():
    # Only fields that theirs takes may be left out, with the value that theirs has.
    needed = {"_class_name", "sample_size", "block_out_channels"}
    needed |= {"down_block_types", "up_block_types"}
    fields = config_to_diffusers(UNetConfig(in_channels=3, groups=16), (8, 8))
    bare = {k: v for k, v in fields.items() if k in needed} | {"norm_num_groups": 16}
    theirs = UNet2DModel.from_config(bare)
    found = config_from_diffusers(bare)
    known = {k: v for k, v in theirs.config.items() if k in fields}
    assert config_from_diffusers({**known, "_class_name": "UNet2DModel"}) == found
    assert distance(from_diffusers(theirs, DDPMScheduler()), theirs) <= 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_class_name", None),
        ("_class_name", "FlowMatchEulerDiscreteScheduler"),
        ("_class_name", "EDMEulerScheduler"),
        ("_class_name", "EDMDPMSolverMultistepScheduler"),
        ("_class_name", "ScoreSdeVeScheduler"),
        ("_class_name", "KarrasVeScheduler"),
        ("_class_name", "CMStochasticIterativeScheduler"),
        ("_class_name", "FlowMatchEulerDiscreteScheduler"),
        ("_class_name", ["DDPMScheduler"]),
        ("prediction_type", "flow_prediction"),
        ("prediction_type", None),
        ("predict_epsilon", False),
        ("variance_type", "learned"),
        ("beta_schedule", "stairs"),
        ("beta_schedule", "laplace"),
        ("beta_start", "small"),
        ("beta_start", -0.1),
        ("beta_end", 1.0),
        ("beta_end", math.nan),
        ("trained_betas", 3),
        ("trained_betas", [0.1] * 9),
        ("trained_betas", [0.1] * 9 + ["0.1"]),
        ("num_train_timesteps", 0),
        ("num_train_timesteps", 10.0),
        ("thresholding", True),
        ("clip_sample", "yes"),
        ("clip_sample_range", 2.0),
        ("timestep_spacing", "random"),
        ("use_flow_sigmas", True),
        ("shift", 3.0),
    ],
)
def test_a_scheduler_outside_the_family_is_refused_by_field(field, value):
    known = {"_class_name": "DDPMScheduler", "num_train_timesteps": 10}
    assert schedule_from_diffusers(known)
    with pytest.raises(ValueError, match=field) as caught:
        schedule_from_diffusers({**known, field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
def test_schedules_are_read_from_their_settings(scheduler, kind):
    theirs = scheduler(100, beta_schedule=kind, clip_sample=False)
    about = {**theirs.config, "_class_name": scheduler.__name__}
    schedule, how = schedule_from_diffusers(about)
    difference = schedule.alpha_bar[1:] - theirs.alphas_cumprod.double()
    assert float(difference.abs().max()) < 1e-6
    assert how == {"objective": "noise", "variance": "beta_tilde", "clip": False}


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
def test_a_schedule_that_ends_in_the_dark_is_read(scheduler):
    told = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    theirs = scheduler(100, **told)
    about = {**theirs.config, "_class_name": scheduler.__name__}
    schedule, how = schedule_from_diffusers(about)
    difference = schedule.alpha_bar[1:] - theirs.alphas_cumprod.double()
    assert float(difference.abs().max()) < 1e-6 and schedule.alpha_bar[-1] == 0
    with pytest.raises(ValueError, match=r"zero|noise"):
        Denoiser(UNet(UNetConfig()), schedule)
    # Written out beta by beta, it is read again.
    model = Denoiser(UNet(UNetConfig()), schedule, how["objective"])
    again, _ = schedule_from_diffusers(schedule_to_diffusers(model))
    assert torch.equal(again.alpha_bar, schedule.alpha_bar)


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
def test_a_bare_scheduler_is_as_in_diffusers(scheduler):
    schedule, how = schedule_from_diffusers({"_class_name": scheduler.__name__})
    about = {**scheduler().config, "_class_name": scheduler.__name__}
    again, same = schedule_from_diffusers(about)
    assert torch.equal(schedule.alpha_bar, again.alpha_bar) and how == same


PAPER = preset("cifar10").model


def test_the_papers_network_has_as_many_parameters():
    # Ho et al. (2020), appendix B: "35.7 million parameters" for CIFAR-10.
    theirs = config_to_diffusers(PAPER, (32, 32))
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


@pytest.mark.parametrize("steps", [5, 10, 20, 50])
@pytest.mark.parametrize("name", ["ddim", "dpm2m"])
def test_whole_chains_of_the_solvers_agree_with_diffusers(name, steps):
    data = GaussianMixture([0.4, 0.6], [-1.5, 1.0], [0.3, 0.2])
    if name == "ddim":
        scheduler = DDIMScheduler(
            1000, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
        )
    else:
        scheduler = DPMSolverMultistepScheduler(
            1000, timestep_spacing="trailing", final_sigmas_type="zero"
        )
    scheduler.set_timesteps(steps)
    start = theirs = torch.linspace(-2.5, 2.5, 101, dtype=f64)[:, None]
    for t in scheduler.timesteps:
        noise = data.noise(theirs, int(t) + 1, LINEAR)
        theirs = scheduler.step(noise, t, theirs).prev_sample
    kept = [int(t) + 1 for t in scheduler.timesteps]
    assert kept == kept_steps(1000, steps)[:-1], "the same steps"
    model = Denoiser(partial(data.noise, schedule=LINEAR), LINEAR)
    sampler = {"ddim": ddim, "dpm2m": dpm2m}[name]
    ours = sample(model, LINEAR, start, sampler=sampler, steps=kept)
    # Points between the modes are pulled apart, and rounding with them.
    assert float((ours - theirs).square().mean().sqrt()) < 1e-5


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 7.5])
def test_guidance_agrees_with_diffusers(scale, share):
    # Ours shrinks the picture. Theirs shrinks whatever the network answers, and is
    # asked here about a network that answers with the picture.
    z, told, free = torch.randn(3, 5, 2, 4, 4, dtype=f64, generator=seeded(7))
    theirs = ClassifierFreeGuidance(scale, guidance_rescale=share)
    theirs.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(600))
    picture = theirs.forward(told, free).pred

    def predict(z: torch.Tensor, t: int, **cond: torch.Tensor) -> Prediction:
        x = told if cond else free
        return Prediction(x, noise_from_x(z, x, t, LINEAR))

    ours = rescaled(predict, scale, LINEAR, share, label=told)(z, 600)
    assert torch.allclose(ours.x, picture, atol=1e-12)
    assert torch.allclose(q_sample(ours.x, 600, ours.noise, LINEAR), z, atol=1e-10)
    if share == 0:
        plain = guided(predict, scale, label=told)(z, 600)
        noise = theirs.forward(predict(z, 600, label=told).noise, predict(z, 600).noise)
        assert torch.allclose(plain.noise, noise.pred, atol=1e-10)
