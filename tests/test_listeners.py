"""The networks of chapter 21 beside those of diffusers, from their weights.

Small networks with random weights, of each family that has public weights; the sizes
of the real ones are checked in the chapter.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDPMScheduler,
    UNet2DConditionModel,
)
from small import awake, far, random

from ddpm_lit.autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    Code,
    Coding,
    Decoder,
    Encoder,
    PlainBlock,
    decoded,
    drawn_codes,
    latent_scale,
)
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.hub import (
    autoencoder_from_diffusers,
    control_from_diffusers,
    from_diffusers,
    listener_from_diffusers,
    to_diffusers,
)
from ddpm_lit.models import read_model, save_model
from ddpm_lit.networks.text import (
    CrossAttention,
    Gated,
    Listener,
    TextUNet,
    TextUNetConfig,
    Told,
    Transformer,
    picture_hint,
)
from ddpm_lit.networks.unet import time_embedding
from ddpm_lit.schedules import make_schedule

DOWN, UP = "DownBlock2D", "UpBlock2D"
ASK_DOWN, ASK_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SMALL = {
    "block_out_channels": (16, 32, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "in_channels": 4,
    "sample_size": 8,
    "down_block_types": (ASK_DOWN, ASK_DOWN, DOWN),
    "up_block_types": (UP, ASK_UP, ASK_UP),
}
TOP = {"down_block_types": (DOWN, ASK_DOWN, ASK_DOWN)}
TOP |= {"up_block_types": (ASK_UP, ASK_UP, UP)}
FAMILIES = {
    "1": {"attention_head_dim": 4},
    "1, inpainting": {"attention_head_dim": 4, "in_channels": 9},
    "2": {"attention_head_dim": [2, 4, 8], "use_linear_projection": True},
    "upscaler": {
        **TOP,
        "in_channels": 7,
        "attention_head_dim": 4,
        "num_class_embeds": 10,
        "only_cross_attention": [True, True, False],
    },
    "XL": {
        **TOP,
        "attention_head_dim": [2, 4, 8],
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 3],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 60,
    },
}


@pytest.fixture(params=FAMILIES)
def family(request) -> tuple[UNet2DConditionModel, dict[str, Tensor], dict]:
    """A network of theirs, what ours is told, and what theirs is told."""
    config = {**SMALL, **FAMILIES[request.param]}
    net = awake(UNet2DConditionModel(**config))
    told = {"context": random(2, 5, 24, seed=1)}
    also: dict = {"encoder_hidden_states": told["context"]}
    if config["in_channels"] > 4:
        told["image"] = random(2, config["in_channels"] - 4, 8, 8, seed=2)
    if "num_class_embeds" in config:
        told["label"] = also["class_labels"] = torch.tensor([1, 7])
    if "addition_embed_type" in config:
        summary, sizes = random(2, 12, seed=4), torch.arange(12).view(2, 6)
        waves = time_embedding(sizes.flatten(), 8, shift=0, cosine_first=True)
        told["vector"] = torch.cat([summary, waves.reshape(2, -1)], 1)
        also["added_cond_kwargs"] = {"text_embeds": summary, "time_ids": sizes}
    return net, told, also


@torch.no_grad()
def test_networks_that_listen_agree_with_diffusers(family, tmp_path):
    net, told, also = family
    z, t = random(2, 4, 8, 8, seed=5), torch.tensor([3, 700])
    seen = torch.cat([z, told["image"]], 1) if "image" in told else z
    theirs = net(seen, t, **also).sample
    net.save_pretrained(tmp_path)
    model = from_diffusers(tmp_path, DDPMScheduler())
    assert type(model.net) is TextUNet and model.size == (4, 8, 8)
    assert set(told) <= set(model.conditions)
    assert far(model.net(z, t + 1, **told), theirs) <= 1e-5
    assert far(model(z, t + 1, **told).noise, theirs) <= 1e-5
    # Saved in our form and read again, it is the same.
    save_model(model, tmp_path / "ours")
    again = read_model(tmp_path / "ours")
    assert again.net.config == model.net.config
    assert torch.equal(again.net(z, t, **told), model.net(z, t, **told))
    with pytest.raises(ValueError, match="has no form there"):
        to_diffusers(model, tmp_path / "back")


@torch.no_grad()
@pytest.mark.parametrize("attends", [True, False])
def test_autoencoders_agree_with_diffusers(tmp_path, attends):
    net = awake(
        AutoencoderKL(
            block_out_channels=(16, 32, 32),
            norm_num_groups=8,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            scaling_factor=0.5,
            mid_block_add_attention=attends,
        )
    )
    net.save_pretrained(tmp_path)
    x = random(2, 3, 16, 16)
    law, (ours, factor) = net.encode(x).latent_dist, autoencoder_from_diffusers(net)
    code = ours.encode(x)
    assert factor == 0.5
    assert far(code.mean, law.mean) <= 1e-5
    assert far(code.log_variance, law.logvar) <= 1e-5
    assert far(ours.decode(code.mean), net.decode(law.mean).sample) <= 2e-5
    read, factor = autoencoder_from_diffusers(tmp_path)
    assert torch.equal(read.encode(x).mean, code.mean) and factor == 0.5
    assert code.nats().allclose(law.kl(), rtol=1e-4)


@torch.no_grad()
def test_a_control_branch_agrees_with_diffusers(tmp_path):
    config = {**SMALL, **FAMILIES["1"]}
    net = awake(UNet2DConditionModel(**config))
    own = {
        k: v for k, v in config.items() if k not in ("sample_size", "up_block_types")
    }
    widths = (4, 8, 16, 16)
    branch = awake(ControlNetModel(**own, conditioning_embedding_out_channels=widths))
    branch.save_pretrained(tmp_path)
    z, t, text = random(2, 4, 8, 8), torch.tensor([3, 700]), random(2, 5, 24, seed=1)
    hint = random(2, 3, 64, 64, seed=2)
    down, middle = branch(z, t, text, hint, conditioning_scale=0.7, return_dict=False)
    theirs = net(
        z,
        t,
        text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    base = from_diffusers(net, DDPMScheduler())
    for source in (branch, tmp_path):
        model = control_from_diffusers(source, base)
        ours = model.net(z, t + 1, hint, 0.7, context=text)
        assert far(ours, theirs) <= 1e-5
    assert far(model.net(z, t + 1, context=text), net(z, t, text).sample) <= 1e-5
    other = from_diffusers(
        UNet2DConditionModel(**{**config, "attention_head_dim": 8}), DDPMScheduler()
    )
    with pytest.raises(ValueError, match="born from another network"):
        control_from_diffusers(branch, other)
    with pytest.raises(ValueError, match="ControlNetModel"):
        control_from_diffusers(net, base)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_class_name", "UNet3DConditionModel"),
        ("time_cond_proj_dim", 256),
        ("encoder_hid_dim", 64),
        ("addition_embed_type", "text_image"),
        ("resnet_time_scale_shift", "scale_shift"),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
        ("attention_head_dim", [4, 4]),
        ("only_cross_attention", [True]),
        ("in_channels", 3),
        ("up_block_types", [UP] * 3),
        ("class_embed_type", "timestep"),
        ("a_field_of_tomorrow", 1),
    ],
)
def test_a_network_of_another_family_is_refused_by_field(field, value):
    known = {"_class_name": "UNet2DConditionModel", "out_channels": 4, **SMALL}
    assert listener_from_diffusers(known)
    with pytest.raises(ValueError, match=field) as caught:
        listener_from_diffusers({**known, field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("shift_factor", 0.1), ("use_quant_conv", False), ("scaling_factor", -1.0)],
)
def test_an_autoencoder_of_another_family_is_refused_by_field(tmp_path, field, value):
    net = AutoencoderKL(block_out_channels=(32,), **{field: value})
    with pytest.raises(ValueError, match=field):
        autoencoder_from_diffusers(net)


def test_a_code_of_another_width_does_not_pass_unseen():
    net = Autoencoder(AutoencoderConfig(channels=(8, 16)))
    with torch.no_grad():
        for p in net.parameters():
            nn.init.normal_(p, std=0.2)
    x = random(20, 3, 8, 8)
    factor = latent_scale(net, x)
    with torch.no_grad():
        codes = net.encode(x)
    assert factor == pytest.approx(
        float(1 / codes.drawn(random(*codes.mean.shape)).std()), rel=0.1
    )
    assert decoded(net, factor * codes.mean, factor).abs().max() <= 1
    with pytest.raises(ValueError, match="NaN"):
        decoded(net, codes.mean / 0, factor)


@torch.no_grad()
def test_the_parts_of_a_fresh_network_change_nothing():
    """Each begins as the identity, or adds nothing: deep networks are easy to train."""
    torch.manual_seed(0)
    h, x, words = random(2, 8, 4, 4), random(2, 5, 8), random(2, 3, 6)
    assert far(PlainBlock(8, 8, groups=4)(h), h) <= 1e-3
    assert far(Transformer(8, 6, heads=2, depth=2, groups=4)(h, words), h) <= 1e-3
    for only in (True, False):
        assert far(Listener(8, 6, 2, only)(x, words), x) <= 1e-3
    for added in (Gated(8)(x), CrossAttention(8, 6, 2)(x, words)):
        assert added.shape == x.shape and float(added.abs().max()) <= 1e-3
    hint = picture_hint(8, widths=(4, 8))(random(2, 3, 8, 8))
    assert hint.shape == h.shape and not hint.any()
    assert Told(x, words).context is words


@torch.no_grad()
def test_a_code_has_the_size_that_is_said():
    config = AutoencoderConfig(channels=(8, 16, 16), latent_channels=3)
    x = random(5, 3, 16, 24)
    assert config.factor == 4
    assert Encoder(config)(x).shape == (5, 6, 4, 6)
    assert Decoder(config)(random(5, 3, 4, 6)).shape == x.shape
    law = Code(torch.zeros(2, 3), torch.zeros(2, 3))
    assert not law.nats().any() and law.drawn(torch.ones(2, 3)).eq(1).all()
    net = Autoencoder(config)
    latents = drawn_codes(net, x, 2.0, seed=3)
    assert torch.equal(latents[:2], drawn_codes(net, x[:2], 2.0, seed=3))
    loss = Coding(net, (3, 16, 24), 0.5).loss(x, torch.ones(5), random(5, 3, 16, 24))
    assert loss.shape == (5,)
    with pytest.raises(ValueError, match="multiple of 4"):
        net.encode(x[..., :-1])


def test_sizes_that_do_not_fit_are_named():
    for wrong, name in (
        ({"heads": (3,)}, "heads"),
        ({"depths": (1, 2, 3)}, "depths"),
        ({"context_channels": 0}, "context_channels"),
    ):
        with pytest.raises(ValueError, match=name):
            TextUNetConfig(base_channels=8, attention_levels=(0,), **wrong)


def test_only_its_own_words_reach_a_picture():
    config = TextUNetConfig(base_channels=8, attention_levels=(0,), context_channels=4)
    model = Denoiser(awake(TextUNet(config)), make_schedule("cosine", 10), "v")
    z, words = random(3, 1, 8, 8), random(3, 6, 4, seed=1)
    with torch.no_grad():
        whole = model(z, 5, context=words).x
        other = model(z, 5, context=words.roll(1, 0)).x
        alone = model(z[1:2], 5, context=words[1:2]).x
    assert far(whole[1:2], alone) <= 1e-5 < 1e-3 < far(whole, other)
    with pytest.raises(ValueError, match="context"):
        model(z, 5)
    assert replace(config, classes=3).conditions == ("label", "context")
