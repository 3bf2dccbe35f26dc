"""The small systems of chapter 22, and the parts that they share with the real ones."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, safe_open
from small import awake, far, random
from torch import nn
from torch.nn import functional as F

from ddpm_lit.book.captions import (
    LESSONS,
    SYSTEMS,
    Clip,
    Gaps,
    Learning,
    Painting,
    Parts,
    Reading,
    caption_ids,
    captioned_shapes,
    fresh_parts,
    gap_cost,
    match_cost,
    record_parts,
    recorded_parts,
    small_dalle2,
    small_glide,
    small_imagen,
    small_reader,
    small_stable,
)
from ddpm_lit.conditioning import drop_told
from ddpm_lit.machine import Machine
from ddpm_lit.networks.adm import AdmBlock, AdmUNet, AdmUNetConfig, Heard, Summary
from ddpm_lit.samplers import ddim
from ddpm_lit.systems import text_to_image
from ddpm_lit.text import (
    RelativeAttention,
    T5Config,
    T5Layer,
    Text,
    no_looking_ahead,
    quick_gelu,
    reading_layers,
)
from ddpm_lit.training import Batch, Draw

TEXTS = ["a small red circle on the left", ""]


@pytest.fixture(scope="module")
def parts() -> Parts:
    made = fresh_parts()
    assert made.state_dict().keys() == Parts().state_dict().keys()
    return awake(made)


def test_every_system_draws_a_picture_of_each_text(parts):
    systems = [small_glide(parts), small_dalle2(parts)]
    systems += [small_imagen(parts), small_stable(parts)]
    assert len(SYSTEMS) == len(systems)
    for system in systems:
        how = {"sampler": ddim, "steps": 2, "scale": 2.0}
        both = text_to_image(system, TEXTS, **how)
        assert both.shape == (2, 3, 24, 24) and float(both.abs().max()) <= 1
        # A picture follows from its text and its number alone.
        last = text_to_image(system, TEXTS[1:], numbers=[1], **how)
        assert far(both[1:], last) <= 1e-4
        other = text_to_image(system, TEXTS[:1], numbers=[1], **how)
        assert far(both[1:], other) > 1e-3


def test_weights_are_recorded_and_read(tmp_path):
    path = record_parts(tmp_path / "small.safetensors", share=0.0004)
    again, stored = recorded_parts(path), load_file(path)
    assert set(stored) == set(again.state_dict())
    assert all(v.dtype == torch.float16 for v in stored.values())
    with safe_open(path, "pt") as file:
        assert set(file.metadata()) == {"torch", "share", "steps"}
    assert not any(p.requires_grad for p in again.parameters())
    fresh = fresh_parts().state_dict()
    moved = {k.split(".")[0] for k, v in again.state_dict().items() if far(v, fresh[k])}
    assert moved >= set(LESSONS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="make systems"):
        recorded_parts(path)


def test_a_frozen_reader_is_left_alone():
    net = AdmUNet(
        AdmUNetConfig(base_channels=16, attention_levels=(0,), context_channels=32)
    )
    for frozen in (True, False):
        both = Reading(small_reader(), awake(net), frozen=frozen)
        both(
            random(2, 1, 8, 8), torch.tensor([1, 9]), caption_ids(TEXTS)
        ).sum().backward()
        learned = [p.grad is not None for p in both.reader.parameters()]
        assert any(learned) is not frozen


def test_a_painter_hears_a_vector():
    config = AdmUNetConfig(
        base_channels=16, attention_levels=(0,), context_channels=32, vector=True
    )
    net = awake(Painting(AdmUNet(config)))
    z, t, v = random(2, 1, 8, 8), torch.tensor([1, 9]), random(2, 32)
    with torch.no_grad():
        assert net(z, t, v).shape == z.shape
        assert far(net(z, t, v), net(z, t, v.flip(0))) > 1e-3


def test_lessons_without_diffusion_have_a_cost_for_each_example():
    data = captioned_shapes(6, seed=2)
    noise = random(6, 3, 24, 24)
    for net, cost in ((Clip(), match_cost), (Gaps(), gap_cost)):
        lesson = Learning(net, cost, data.shape)
        found = lesson.loss(data.images, torch.ones(6), noise, **data.cond)
        assert found.shape == (6,) and bool(found.isfinite().all())
        assert lesson.with_net(net).cost is cost
    # Who knows nothing of captions pays the logarithm of the number of words.
    gaps = Gaps()
    nn.init.zeros_(gaps.say.weight)
    nn.init.zeros_(gaps.say.bias)
    cost = gap_cost(gaps, data.images, data.cond["ids"], noise)
    assert far(cost.detach(), torch.tensor(math.log(18))) <= 1e-5
    with pytest.raises(ValueError, match="purple"):
        caption_ids(["a purple circle"])


def test_conditions_are_dropped_together():
    x = random(4000, 1)
    told = {"a": torch.ones(4000, 3), "b": torch.ones(4000)}
    batch = Batch(x, torch.ones(4000), x, {**told, "c": x})
    draw = Draw(0, 0, 0, 4000, Machine("cpu"))
    lesson = drop_told(0.25, a=torch.zeros(3), b=torch.tensor(7.0))
    found = lesson(batch, draw).cond
    dropped = found["b"] == 7
    assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(found["a"].sum(1) == 0, dropped) and found["c"] is x
    assert not (drop_told(0.0, b=torch.tensor(7.0))(batch, draw).cond["b"] == 7).any()
    with pytest.raises(ValueError, match="no probability"):
        drop_told(1.5)


@torch.no_grad()
def test_the_parts_of_readers_and_of_the_second_family():
    x, c = random(2, 5, 8), T5Config(9, 8, 4, 16, 1, 2)
    assert far(quick_gelu(x), x / (1 + torch.exp(-1.702 * x))) <= 1e-6
    mask = no_looking_ahead(3, x)
    assert mask.isinf().tolist() == [[i < j for j in range(3)] for i in range(3)]
    layers = awake(reading_layers(8, 16, 2, 2, F.gelu))
    assert (
        far(layers(x, no_looking_ahead(5, x))[:, :2], layers(x[:, :2], mask[:2, :2]))
        <= 1e-5
    )
    added = random(1, 2, 5, 5)
    layer = awake(T5Layer(c))
    assert layer(x, added).shape == x.shape
    assert far(RelativeAttention(c)(x, added), RelativeAttention(c)(x, added)) > 0
    assert Text(x, x[:, 0]).tokens is x
    config = AdmUNetConfig(base_channels=8, block_scale=2.0)
    h, told = random(2, 8, 4, 4), Heard(random(2, 32), x)
    assert far(AdmBlock(8, 8, config)(h, told), h / 2) <= 1e-3
    summary = awake(Summary(8, 12, 2))
    assert summary(x).shape == (2, 12)
    assert far(summary(x.flip(1)), summary(x)) <= 1e-5  # of a set, not of a row
