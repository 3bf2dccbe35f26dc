"""Readers, priors, the second family and whole folders, beside other libraries.

Small ones with random weights; the sizes of the real ones are checked in chapter 22.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small import awake, far, random

os.environ["HF_HUB_OFFLINE"] = "1"
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    PriorTransformer,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
)
from transformers import T5Config as TheirT5Config

from ddpm_lit.cli import main
from ddpm_lit.data import to_model_range
from ddpm_lit.datasets import open_picture
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.hub import (
    adm_from_diffusers,
    from_diffusers,
    load_model,
    prior_from_diffusers,
    reader_from_transformers,
)
from ddpm_lit.models import save_model
from ddpm_lit.networks.adm import AdmUNet
from ddpm_lit.networks.prior import Prior
from ddpm_lit.networks.unet import UNet
from ddpm_lit.pipelines import (
    Ears,
    holds_system,
    system_from_diffusers,
    system_index,
    tokenizer_from_folder,
)
from ddpm_lit.recipes import UNetConfig
from ddpm_lit.samplers import ddim, dpm2m
from ddpm_lit.sampling import Noise
from ddpm_lit.schedules import kept_steps, make_schedule
from ddpm_lit.systems import Stage, System, text_to_image
from ddpm_lit.text import (
    BytePairTokenizer,
    T5Encoder,
    TextEncoder,
    byte_symbols,
    split_words,
)

HARD = (
    "a red circle",
    "The  RED circle's 12 naïve — dogs!!",
    "don't   stop\n日本 emoji 🎨 x",
    "",
    "they're 3.14 (red) ½ ² Ⅷ _a_b 'tis rock'n'roll I'LL ÀÉ e\u0301",
    " ".join(["circle"] * 100),
)
MERGES = [
    *[("r", "e"), ("re", "d</w>"), ("c", "i"), ("ci", "r"), ("cir", "c")],
    *[("circ", "le</w>"), ("l", "e</w>"), ("t", "h"), ("th", "e</w>")],
    *[("1", "2</w>"), ("'", "s</w>"), ("l", "l"), ("o", "o"), ("oo", "o")],
]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A tokenizer's folder in the form of some years ago, and theirs from it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    symbols = [*byte_symbols().values()]
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(m) for m in MERGES)]
    words += [BytePairTokenizer.START, BytePairTokenizer.END]
    vocabulary = {word: i for i, word in enumerate(words)}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    theirs = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=77,
    )
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder, theirs


def test_ids_agree_on_hard_strings(tokenizer_folder, tmp_path):
    folder, theirs = tokenizer_folder
    theirs.save_pretrained(tmp_path)  # in the form of today
    for ours in (tokenizer_from_folder(folder), tokenizer_from_folder(tmp_path)):
        for text in HARD:
            want = theirs(text, padding="max_length", max_length=77, truncation=True)
            assert ours([text], cut=True)[0].tolist() == want["input_ids"], text
    with pytest.raises(ValueError, match="would lose"):
        ours([HARD[-1]])
    assert split_words("I'll go") == ["i", "'ll", "go"]


def test_the_piece_that_fills_up_is_read(tokenizer_folder, tmp_path):
    folder, _ = tokenizer_folder
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    about = {"tokenizer_class": "CLIPTokenizer", "pad_token": {"content": "!"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    ours = tokenizer_from_folder(tmp_path)
    assert ours([""])[0, 2:].eq(ours.ids["!"]).all()
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "T5Tokenizer"}'
    )
    with pytest.raises(ValueError, match="T5Tokenizer"):
        tokenizer_from_folder(tmp_path)


CLIP = {
    "hidden_size": 24,
    "vocab_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "bos_token_id": 38,
    "eos_token_id": 39,
    "pad_token_id": 39,
}


@torch.no_grad()
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clips_reader_agrees(tmp_path, act):
    config = CLIPTextConfig(**CLIP, hidden_act=act, projection_dim=12)
    net = awake(CLIPTextModelWithProjection(config))
    net.save_pretrained(tmp_path)
    ids = torch.randint(0, 38, (2, 9))
    ids[0, 4:], ids[1, 8] = 39, 39
    want = net(ids, output_hidden_states=True)
    for source in (net, tmp_path):
        ours = reader_from_transformers(source)
        assert type(ours) is TextEncoder
        found, before = ours(ids), ours(ids, skipped=1)
        assert far(found.tokens, want.last_hidden_state) <= 1e-5
        assert far(before.tokens, want.hidden_states[-2]) <= 1e-5
        assert far(found.summary, want.text_embeds) <= 1e-5
    plain = awake(CLIPTextModel(CLIPTextConfig(**CLIP)))
    read = reader_from_transformers(plain)(ids)
    assert far(read.tokens, plain(ids).last_hidden_state) <= 1e-5
    assert far(read.summary, plain(ids).pooler_output) <= 1e-5


@torch.no_grad()
def test_t5s_reader_agrees(tmp_path):
    sizes = {"vocab_size": 30, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2}
    net = awake(
        T5EncoderModel(
            TheirT5Config(**sizes, num_heads=3, feed_forward_proj="gated-gelu")
        )
    )
    net.save_pretrained(tmp_path)
    ids = torch.randint(0, 30, (2, 200))  # far enough for every class of distances
    keep = torch.arange(200) < torch.tensor([[200], [120]])
    want = net(ids, attention_mask=keep.long()).last_hidden_state
    for source in (net, tmp_path):
        ours = reader_from_transformers(source)
        assert type(ours) is T5Encoder
        assert far(ours(ids, keep).tokens[keep], want[keep]) <= 1e-5
    net.config.feed_forward_proj = "relu"
    with pytest.raises(ValueError, match="feed_forward_proj"):
        reader_from_transformers(net)


@torch.no_grad()
def test_the_prior_agrees(tmp_path):
    net = awake(
        PriorTransformer(
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=3,
            embedding_dim=12,
            num_embeddings=7,
        )
    )
    net.save_pretrained(tmp_path)
    z, said, tokens = random(2, 12), random(2, 12, seed=1), random(2, 7, 12, seed=2)
    keep, t = torch.arange(7) < torch.tensor([[7], [4]]), torch.tensor([5, 900])
    want = net(z, t, said, tokens, keep).predicted_image_embedding
    for source in (net, tmp_path):
        ours = prior_from_diffusers(source)
        assert type(ours) is Prior
        assert far(ours(z, t + 1, tokens, said, keep), want) <= 1e-5
        assert far(ours.restored(z), net.post_process_latents(z)) <= 1e-6
    with pytest.raises(ValueError, match="UNet"):
        prior_from_diffusers(UNet2DConditionModel(block_out_channels=(32,) * 4))


ADM = {
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
    "sample_size": 8,
    "resnet_time_scale_shift": "scale_shift",
    "down_block_types": (
        "ResnetDownsampleBlock2D",
        *["SimpleCrossAttnDownBlock2D"] * 2,
    ),
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 2, "ResnetUpsampleBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}
DEEP = {
    **ADM,
    "cross_attention_dim": 32,
    "act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 2**0.5,
    "mid_block_scale_factor": 2**0.5,
    "cross_attention_norm": "group_norm",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "encoder_hid_dim": 20,
    "encoder_hid_dim_type": "text_proj",
    "time_embedding_act_fn": "gelu",
}
SECOND = {
    "Karlo": {**ADM, "class_embed_type": "identity"},
    "DeepFloyd IF": DEEP,
    "its upscaler": {**DEEP, "in_channels": 6, "class_embed_type": "timestep"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", SECOND)
def test_the_second_family_agrees(tmp_path, name):
    config = SECOND[name]
    net = awake(UNet2DConditionModel(**config))
    net.save_pretrained(tmp_path)
    z, t = random(2, 3, 8, 8), torch.tensor([3, 700])
    tokens = random(2, 5, config.get("encoder_hid_dim") or 24, seed=1)
    told, seen, also = {"context": tokens}, z, {}
    if name == "Karlo":
        told["vector"] = also["class_labels"] = random(2, 64, seed=2)
    if name == "its upscaler":
        told["image"], told["level"] = (
            random(2, 3, 8, 8, seed=3),
            torch.tensor([20, 250]),
        )
        seen, also["class_labels"] = torch.cat([z, told["image"]], 1), told["level"]
    schedule = UnCLIPScheduler(variance_type="learned_range")
    for source in (net, tmp_path):
        model = from_diffusers(source, schedule)
        assert type(model.net) is AdmUNet and model.objective == "noise+variance"
        want = net(seen, t, tokens, **also).sample
        assert far(model.net(z, t + 1, **told), want) <= 1e-5
        keep = torch.arange(5) < torch.tensor([[3], [5]])
        want = net(seen, t, tokens, encoder_attention_mask=keep, **also).sample
        assert far(model.net(z, t + 1, **told, keep=keep), want) <= 1e-5
    for field, value in (
        ("class_embed_type", "projection"),
        ("cross_attention_norm", "layer_norm"),
        ("up_block_types", ("ResnetUpsampleBlock2D",) * 3),
        ("a_field_of_tomorrow", 1),
    ):
        about = {"_class_name": "UNet2DConditionModel", **config, field: value}
        with pytest.raises(ValueError, match=field):
            adm_from_diffusers(about)


SMALL = {
    "block_out_channels": (16, 32, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
}
STABLE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
DDIM = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}


def parts_of(theirs: CLIPTokenizer, **more) -> dict:
    """The parts that every small system of theirs has."""
    count = len(theirs)
    read = {**CLIP, "vocab_size": count, "eos_token_id": count - 1}
    read |= {"bos_token_id": count - 2, "pad_token_id": count - 1}
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=0.18215,
    )
    return {
        "vae": awake(vae),
        "text_encoder": awake(CLIPTextModel(CLIPTextConfig(**read))),
        "tokenizer": theirs,
        **more,
    }


def written(pipe, folder, tokenizer_folder) -> None:
    """Their folder, its tokenizers in the form of some years ago."""
    pipe.save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
            shutil.copytree(tokenizer_folder, folder / name)


@pytest.fixture
def stable_folder(tokenizer_folder, tmp_path):
    """A small Stable Diffusion 1 of theirs in its folder, and the pipeline."""

    def make(objective: str = "epsilon", scheduler=None):
        folder, theirs = tokenizer_folder
        how = {**STABLE, "prediction_type": objective}
        pipe = StableDiffusionPipeline(
            **parts_of(theirs),
            unet=awake(UNet2DConditionModel(**SMALL)),
            scheduler=scheduler or DDIMScheduler(**how, **DDIM),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        written(pipe, tmp_path / objective, folder)
        return tmp_path / objective, pipe

    return make


@torch.no_grad()
@pytest.mark.parametrize("sampler", [ddim, dpm2m])
@pytest.mark.parametrize("objective", ["epsilon", "v_prediction"])
def test_a_whole_folder_draws_their_picture(stable_folder, objective, sampler):
    folder, pipe = stable_folder(objective)
    if sampler is dpm2m:
        pipe.scheduler = DPMSolverMultistepScheduler(
            **STABLE,
            prediction_type=objective,
            timestep_spacing="trailing",
            lower_order_final=True,
        )
    system = system_from_diffusers(folder)
    model = system.stages[0].model
    z = Noise(7, range(2), model.size)()
    texts, steps = ["a red circle", "the circle's 12"], 8
    assert [t - 1 for t in kept_steps(1000, steps)[:-1]] == [
        int(t) for t in _timesteps(pipe, steps)
    ]
    want = pipe(
        prompt=texts,
        negative_prompt=["the"] * 2,
        latents=z,
        num_inference_steps=steps,
        guidance_scale=7.5,
        output_type="pt",
    ).images
    found = text_to_image(
        system,
        texts,
        negative="the",
        scale=7.5,
        seed=7,
        sampler=sampler,
        steps=steps,
    )
    assert far(found.add(1).div(2), want) <= 2e-5
    assert float(want.std()) > 0.01
    other = text_to_image(
        system, texts, scale=7.5, seed=7, sampler=sampler, steps=steps
    )
    assert far(other, found) > 1e-4, "the negative text is not heard"


def _timesteps(pipe, steps: int):
    pipe.scheduler.set_timesteps(steps)
    return pipe.scheduler.timesteps


@torch.no_grad()
@pytest.mark.parametrize("zeros", [False, True])
def test_sdxl_draws_their_picture(tokenizer_folder, tmp_path, zeros):
    folder, theirs = tokenizer_folder
    count = len(theirs)
    read = {**CLIP, "vocab_size": count, "projection_dim": 12, "hidden_act": "gelu"}
    read |= {"eos_token_id": count - 1, "bos_token_id": count - 2}
    read |= {"pad_token_id": count - 1}
    wide = {
        **SMALL,
        "cross_attention_dim": 48,
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 3],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 12 + 6 * 256,
    }
    pipe = StableDiffusionXLPipeline(
        **parts_of(theirs, tokenizer_2=theirs),
        text_encoder_2=awake(CLIPTextModelWithProjection(CLIPTextConfig(**read))),
        unet=awake(UNet2DConditionModel(**wide)),
        scheduler=DDIMScheduler(**STABLE, **DDIM),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    written(pipe, tmp_path / "xl", folder)
    system = system_from_diffusers(tmp_path / "xl")
    assert isinstance(system.stages[0].listen, Ears)
    z = Noise(1, [0], system.stages[0].model.size)()
    want = pipe(
        prompt="a red circle",
        negative_prompt=None if zeros else "",
        latents=z,
        num_inference_steps=5,
        guidance_scale=5.0,
        output_type="pt",
    ).images
    how = {"scale": 5.0, "seed": 1, "sampler": ddim, "steps": 5}
    found = text_to_image(system, ["a red circle"], **how)
    assert far(found.add(1).div(2), want) <= 2e-5


def test_what_cannot_be_opened_is_named(stable_folder):
    folder, _ = stable_folder(scheduler=PNDMScheduler(**STABLE))
    assert system_from_diffusers(folder).stages[0].model.clip is False
    assert holds_system(folder) and not holds_system(folder / "unet")
    with pytest.raises(ValueError, match="system_from_diffusers"):
        load_model(folder)
    index = json.loads((folder / "model_index.json").read_text())
    for change, word in (
        ({"_class_name": "KandinskyPipeline"}, "KandinskyPipeline"),
        ({"watchdog": ["a", "B"]}, "watchdog"),
        ({"vae": [None, None]}, "vae"),
    ):
        (folder / "model_index.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(ValueError, match=word) as caught:
            system_index(folder)
        assert "\n" not in str(caught.value)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(OSError, match="text_encoder"):
        system_from_diffusers(folder)


def test_a_system_has_a_stage():
    with pytest.raises(ValueError, match="at least one stage"):
        System(())
    assert Stage._fields[0] == "model"


def run(*words) -> str:
    """The command line in this process; what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main([str(word) for word in words]) == 0, out.getvalue()
    return out.getvalue()


def refused(*words) -> str:
    """What the command line says that cannot do it, in one line."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        assert main([str(word) for word in words]) == 2
    [line] = out.getvalue().splitlines()
    return line


def test_the_command_line_draws_with_a_folder(stable_folder, tmp_path):
    folder, _ = stable_folder()
    pick = ["--steps", 4, "--sampler", "dpm2m", "--seed", 3, "--quiet"]
    words = ["--prompt", "a red circle", "--guidance", 7.5, *pick]
    run("sample", folder, *words, "--num", 2, "--out", tmp_path / "two")
    system = system_from_diffusers(folder)
    how = {"scale": 7.5, "seed": 3, "sampler": dpm2m, "steps": 4}
    want = text_to_image(system, ["a red circle"] * 2, **how)
    for i in range(2):
        made = open_picture(tmp_path / f"two/{i:06d}.png", (3, 32, 32))
        assert far(to_model_range(made), want[i]) <= 1.01 / 127.5
    # One of the two texts each, by turns, and away from a third.
    words += ["--prompt", "the", "--negative", "red", "--batch-size", 1]
    run("sample", folder, *words, "--num", 2, "--out", tmp_path / "turns")
    texts = ["a red circle", "the"]
    want = text_to_image(system, texts, negative="red", **how)
    made = open_picture(tmp_path / "turns/000001.png", (3, 32, 32))
    assert far(to_model_range(made), want[1]) <= 1.01 / 127.5
    # Its picture again, a little changed, and with a hole.
    start, text = tmp_path / "two/000000.png", ["--prompt", "the", "--num", 1]
    edit = ["edit", folder, start, "--strength", 0.3, *pick, *text]
    run(*edit, "--out", tmp_path / "edited.npz")
    hole = Image.new("L", (32, 32))
    hole.paste(255, (16, 0, 32, 32))
    hole.save(tmp_path / "mask.png")
    fill = ["inpaint", folder, start, "--mask", tmp_path / "mask.png", *pick, *text]
    run(*fill, "--out", tmp_path / "filled")
    before, after = (
        open_picture(path, (3, 32, 32))
        for path in (start, tmp_path / "filled/000000.png")
    )
    assert torch.equal(before[..., :16], after[..., :16])
    assert not torch.equal(before[..., 16:], after[..., 16:])
    for words, reason in (
        (["sample", folder], "--prompt"),
        (["sample", folder, "--prompt", "a " * 90], "would lose"),
        (["sample", folder, "--prompt", "a", "--label", "3"], "--label"),
        (["sample", folder, "--prompt", "a", "--hint", start], "--control"),
        (["upscale", folder, start, "--prompt", "a"], "enlarges none"),
        (["evaluate", folder], "follows texts"),
        (["info", folder], "system_from_diffusers"),
        (["sample", folder / "unet", "--prompt", "a"], "scheduler_config.json"),
        (["sample", tmp_path / "nowhere", "--prompt", "a"], "no folder"),
    ):
        place = (
            ["--out", tmp_path / "no.png"] if words[0] in ("sample", "upscale") else []
        )
        assert reason in refused(*words, *place)


def test_the_command_line_fills_and_steers(stable_folder, tmp_path):
    """With the network that learned to fill holes, and with a control branch."""
    folder, _ = stable_folder()
    pick = ["--prompt", "the", "--num", 1, "--steps", 3, "--sampler", "ddim", "--quiet"]
    picture = tmp_path / "picture.png"
    Image.effect_noise((32, 32), 60).convert("RGB").save(picture)
    own = {k: v for k, v in SMALL.items() if k not in ("sample_size", "up_block_types")}
    widths = (4, 8, 16)
    branch = ControlNetModel(**own, conditioning_embedding_out_channels=widths)
    awake(branch).save_pretrained(tmp_path / "branch")
    steer = ["--control", tmp_path / "branch", "--hint", picture]
    run("sample", folder, *pick, *steer, "--out", tmp_path / "steered.npz")
    run("sample", folder, *pick, "--out", tmp_path / "free.npz")
    steered, free = (
        np.load(tmp_path / f"{name}.npz")["arr_0"] for name in ("steered", "free")
    )
    assert steered.shape == (1, 32, 32, 3) and (steered != free).any()
    awake(UNet2DConditionModel(**SMALL, in_channels=9)).save_pretrained(folder / "unet")
    Image.new("L", (32, 32), 255).save(tmp_path / "mask.png")
    fill = ["inpaint", folder, picture, "--mask", tmp_path / "mask.png"]
    run(*fill, *pick, "--out", tmp_path / "filled.npz")
    assert "picture" in refused("sample", folder, *pick, "--out", tmp_path / "no.png")


def test_a_folder_of_pictures_is_completed_by_the_same_job_alone(
    stable_folder, tmp_path
):
    folder, _ = stable_folder()
    pick = ["--prompt", "the", "--steps", 2, "--sampler", "ddim", "--quiet"]
    words = ["sample", folder, *pick, "--out", tmp_path / "made"]
    run(*words, "--guidance", 2, "--num", 2)
    (tmp_path / "made/000001.png").unlink()
    assert "wrote 1 images" in run(*words, "--guidance", 2, "--num", 2)
    for other in (["--guidance", 3], ["--guidance", 2, "--negative", "red"]):
        assert "holds pictures of another" in refused(*words, *other, "--num", 2)
    own = saved(tmp_path / "own")
    assert "no system" in refused("sample", own, "--prompt", "a", "--num", 1)


def saved(folder):
    """A model of pixels, which hears no text."""
    schedule = make_schedule("cosine", 10)
    net = UNet(UNetConfig(base_channels=8, groups=4))
    return save_model(Denoiser(net, schedule, "v", size=(1, 8, 8)), folder)
