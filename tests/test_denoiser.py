"""The core: one denoiser, one loop and one chain, for any network and any sampler."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import awake
from torch import Tensor, nn

import ddpm_lit.training as training
from ddpm_lit.data import Dataset, load_digits, to_model_range
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.forward import q_sample
from ddpm_lit.guidance import clipped, guided
from ddpm_lit.machine import Machine
from ddpm_lit.mixture import GaussianMixture
from ddpm_lit.models import (
    CONFIG,
    WEIGHTS,
    build_model,
    check_description,
    describe_model,
    in_own_memory,
    read_model,
    save_model,
    unwrapped,
)
from ddpm_lit.networks.chains import ChainConfig, ChainNet
from ddpm_lit.networks.mlp import NoiseMLP
from ddpm_lit.networks.prior import Prior, PriorConfig
from ddpm_lit.networks.unet import UNet
from ddpm_lit.objectives import Prediction, objectives
from ddpm_lit.output import draw_images
from ddpm_lit.parameterization import v_from_x, x_from_noise
from ddpm_lit.recipes import Optim, UNetConfig
from ddpm_lit.samplers import ddpm
from ddpm_lit.sampling import Noise, chain, sample
from ddpm_lit.schedules import at_step, kept_steps, make_schedule
from ddpm_lit.training import (
    EMA,
    PART,
    Shuffle,
    State,
    check_shares,
    draw_batch,
    fit,
    update,
)

S = make_schedule("cosine", 20)
CPU = Machine("cpu")
TINY = UNetConfig(base_channels=8, channel_multipliers=(1, 2), groups=4)
MIXTURE = GaussianMixture([0.4, 0.6], [-0.7, 0.8], [0.1, 0.2])


def randn(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=source)


def tiny(**how: Any) -> Denoiser:
    with training.drawn_from(3, torch.device("cpu")):
        net = UNet(replace(TINY, dropout=how.pop("dropout", 0.0)))
    return Denoiser(net, S, size=(1, 8, 8), **how)


class Told(nn.Module):
    """A network for points that may be told a label; it forgets some on its own."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.inner, self.words = NoiseMLP(5, width, 2), nn.Embedding(3, 4)

    def forward(self, z: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        label = torch.full((len(z),), 2) if label is None else label
        if self.training:
            label = torch.where(torch.rand(len(z)) < 0.2, 2, label)
        words = self.words(label).to(z.dtype)
        return self.inner(torch.cat([z, words], 1), t)[:, :1]


def points(count: int = 512) -> Dataset:
    """Points near -1, told 0, and near 1, told 1."""
    label = torch.arange(count) % 2
    x = (2.0 * label - 1)[:, None] + 0.1 * randn(count, 1).float()
    return Dataset(x, {"label": label, "weight": torch.ones(count)})


def exact(objective: str) -> Denoiser:
    """The mixture's own denoiser, in the words of an objective."""

    def net(z: Tensor, t: Tensor) -> Tensor:
        noise = MIXTURE.noise(z, t, S)
        x = x_from_noise(z, noise, t, S)
        return {"noise": noise, "x": x, "v": v_from_x(x, noise, t, S)}[objective]

    return Denoiser(net, S, objective, size=(1,))


# ------------------------------------------------------------------ what it means


@pytest.mark.parametrize("name", list(objectives()))
def test_a_network_that_answers_right_is_understood_and_has_no_loss(name):
    x, noise = randn(20, 1, 2, 2), randn(20, 1, 2, 2, seed=1)
    t = torch.arange(1, 21)
    right = objectives()[name].target(x, noise, t, S)
    model = Denoiser(lambda z, t: right, S, name)
    found = model(q_sample(x, t, noise, S), t)
    assert isinstance(found, Prediction)
    assert torch.allclose(found.x, x, atol=1e-9)
    assert torch.allclose(found.noise, noise, atol=1e-9)
    assert model.loss(x, t, noise).shape == (20,)
    assert not model.loss(x, t, noise).any()
    off = Denoiser(lambda z, t: right + 1, S, name)
    assert torch.allclose(off.loss(x, t, noise), torch.ones(20).double())


def test_the_three_objectives_take_the_same_way_back():
    z, ends = randn(9, 1), []
    for name in objectives():
        noise = Noise(0, range(9), (1,))
        ends.append(sample(exact(name), S, z, noise=lambda n=noise: n().double()))
    assert torch.allclose(ends[0], ends[1], atol=1e-9)
    assert torch.allclose(ends[0], ends[2], atol=1e-9)


def test_wrong_names_are_refused_at_once():
    for wrong in ({"objective": "score"}, {"variance": "gamma"}):
        name = next(iter(wrong))
        with pytest.raises(ValueError, match=f"{name} '{wrong[name]}' is none of"):
            tiny(**wrong)


def test_a_condition_that_the_network_does_not_know_is_refused():
    model, z, t = tiny(), torch.zeros(2, 1, 8, 8), torch.ones(2, dtype=torch.long)
    assert model.conditions == () and Denoiser(Told(), S).conditions == ("label",)
    with pytest.raises(TypeError, match="label"):
        model(z, 3, label=t)
    with pytest.raises(TypeError, match="colour"):
        model.loss(z, t, z, colour=t)


def test_the_schedule_follows_the_data_and_is_not_used_up():
    with torch.device("meta"):
        net = UNet(TINY)
    model = Denoiser(net, S, size=(1, 8, 8))
    there = torch.zeros(2, 1, 8, 8, device="meta")
    assert model(there, 3).x.device.type == "meta"
    t = torch.ones(2, dtype=torch.long, device="meta")
    assert model.loss(there, t, there).shape == (2,)
    here = model.with_net(lambda z, t: z)
    assert torch.isfinite(here(torch.ones(2, 1, 8, 8), 3).x).all()
    assert S.device.type == "cpu"


# ------------------------------------------------------------------ learning


def test_a_network_learns_its_labels_and_draws_what_they_say():
    optim = Optim(600, batch_size=64, learning_rate=5e-3, warmup_steps=10)
    with training.drawn_from(0, torch.device("cpu")):
        model = Denoiser(Told(), S, size=(1,))
    state = State.fresh(model, optim, CPU)
    losses = torch.stack([loss for loss, _ in fit(state, points(), optim)])
    assert losses[-100:].mean() < 0.6 * losses[:10].mean()
    label = torch.arange(200) % 2
    for scale in (None, 1.0, 2.0):
        predict: Any = partial(state.ema.model, label=label)
        if scale is not None:
            predict = guided(state.ema.model, scale, label=label)
        for way in (predict, clipped(predict, S)):
            noise = Noise(1, range(200), (1,))
            drawn = sample(way, S, noise(), noise=noise)[:, 0]
            right = float(((drawn > 0) == (label == 1)).float().mean())
            assert right > 0.95, f"{right:.0%} as told, guided by {scale}"
    free = sample(state.ema.model, S, noise(), noise=noise)[:, 0]
    assert 50 < int((free > 0).sum()) < 150, "without a label one side is drawn"


def test_guidance_is_a_straight_line_and_clipping_keeps_z():
    model, z = Denoiser(Told(), S).eval(), randn(4, 1).float() * 3
    label = torch.tensor([0, 1, 0, 1])
    told, free = model(z, 7, label=label), model(z, 7)
    for scale, expected in ((0.0, free.x), (1.0, told.x), (3.0, None)):
        found = guided(model, scale, label=label)(z, 7)
        expected = 3 * told.x - 2 * free.x if expected is None else expected
        assert torch.allclose(found.x, expected, atol=1e-5)
        assert torch.allclose(q_sample(found.x, 7, found.noise, S), z, atol=1e-5)
    kept = clipped(lambda z, t: Prediction(5 * z, z), S)(z, 7)
    assert float(kept.x.abs().max()) == 1
    assert torch.allclose(q_sample(kept.x, 7, kept.noise, S), z, atol=1e-6)


def test_what_cannot_learn_is_refused_in_one_line(tmp_path):
    plain = Denoiser(lambda z, t: z, S, size=(1, 8, 8))
    with pytest.raises(ValueError, match="no parameters") as caught:
        State.fresh(plain, Optim(), CPU)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="only networks can be saved"):
        save_model(plain, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    state = State.fresh(tiny(), Optim(), CPU)
    with pytest.raises(ValueError, match="use a multiple of 3"):
        optim, three = Optim(batch_size=8), Machine("cpu")
        three.size = 3
        next(fit(state, load_digits(), optim, three))


def test_the_average_is_of_parameters_and_buffers_are_copied():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(net, 0.5)
    start = [p.clone() for p in net.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p += 1
        net(torch.randn(8, 2))
    ema.update(net)  # d = min(0.5, 1/10)
    for was, mean in zip(start, ema.model.parameters(), strict=True):
        assert torch.allclose(mean, was + 0.9)
    for mine, theirs in zip(ema.model.buffers(), net.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_learning_rate_follows_its_schedule():
    optim = Optim(8, 4, learning_rate=0.01, warmup_steps=2, flat_fraction=0.5)
    state, rates = State.fresh(tiny(), optim, CPU), []
    for _ in fit(state, load_digits(), optim):
        rates.append(state.adam.param_groups[0]["lr"] / 0.01)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_the_loop_is_decided_by_the_seed_and_leaves_the_callers_dice_alone():
    optim, found = Optim(6, 8, seed=5), []
    for callers in (1, 2):
        torch.manual_seed(callers)
        before = torch.get_rng_state()
        state = State.fresh(tiny(dropout=0.3), optim, CPU)
        losses = [float(loss) for loss, _ in fit(state, load_digits(), optim)]
        draw_images(state.ema.model, 2, steps=3)
        noise = Noise(0, range(2), (1, 8, 8))
        list(chain(state.ema.model, S, noise(), noise=noise))
        assert torch.equal(before, torch.get_rng_state())
        found.append(losses)
    assert found[0] == found[1]
    other = State.fresh(tiny(dropout=0.3), optim, CPU)
    other_seed = fit(other, load_digits(), replace(optim, seed=6))
    assert [float(loss) for loss, _ in other_seed] != found[0]


def test_parts_of_a_batch_are_the_batch():
    ends = []
    for parts in (1, 4):
        optim = Optim(10, 8, accumulate=parts)
        state = State.fresh(tiny(), optim, CPU)
        list(fit(state, load_digits(), optim))
        ends.append(
            torch.cat([p.detach().flatten() for p in state.ema.model.parameters()])
        )
    assert float((ends[0] - ends[1]).abs().max()) < 1e-4


def test_a_state_knows_when_it_is_lost_and_a_step_moves_every_weight():
    state = State.fresh(tiny(), Optim(4, 8), CPU)
    before = [p.clone() for p in state.denoiser.parameters()]
    order = Shuffle(20, 0)
    batch = draw_batch(load_digits(), order, 0, state.denoiser, Optim(4, 8), CPU)
    given = (batch.x, batch.t, batch.noise)
    loss, norm = update(state, state.denoiser, Optim(4, 8), CPU, *given)
    assert loss > 0 and norm > 0 and state.is_finite()
    pairs = zip(before, state.denoiser.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)
    with torch.no_grad():
        next(state.denoiser.parameters())[0] = torch.nan
    assert not state.is_finite()


# ------------------------------------------------------------------ what is drawn


def drawn(data: Dataset, step: int, rank: int, size: int, **how: Any) -> Any:
    machine = Machine("cpu")
    machine.rank, machine.size = rank, size
    order, model = Shuffle(len(data), 0), Denoiser(Told(), S)
    return draw_batch(data, order, step, model, Optim(**how), machine)


@pytest.mark.parametrize("batch_size", [1, 10, 64, 65, 100, 200])
def test_a_team_of_any_size_draws_the_batch_of_one(batch_size):
    data = replace(load_digits(), flips=True)
    whole = drawn(data, 3, 0, 1, batch_size=batch_size)
    for size in (each for each in (1, 2, 3, 7, 64) if each <= batch_size):
        parts = [drawn(data, 3, k, size, batch_size=batch_size) for k in range(size)]
        for name in ("x", "t", "noise"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(whole, name)), (name, size)
        labels = torch.cat([part.cond["label"] for part in parts])
        assert torch.equal(labels, whole.cond["label"])


def test_no_process_draws_for_the_others(monkeypatch):
    real, count = torch.randn, []

    def counted(shape, **how):
        count.append(shape[0])
        return real(shape, **how)

    monkeypatch.setattr(torch, "randn", counted)
    for rank in (0, 1, 31, 63):
        count.clear()
        own = len(drawn(load_digits(), 0, rank, 64, batch_size=6400).x)
        assert own == 100 and sum(count) <= own + 2 * PART


def test_batches_are_training_images_as_they_are_and_half_are_mirrored():
    data = load_digits()
    images = to_model_range(data.images)
    for flips in (False, True):
        straight, mirrored = 0, 0
        for step in range(10):
            batch = drawn(replace(data, flips=flips), step, 0, 1, batch_size=80)
            known = images[Shuffle(len(data), 0).take(step * 80, 80)]
            same = (batch.x == known).flatten(1).all(1)
            turned = (batch.x == known.flip(-1)).flatten(1).all(1)
            assert (same | turned).all(), "a batch holds what is no training image"
            straight, mirrored = (
                straight + int(same.sum()),
                mirrored + int((turned & ~same).sum()),
            )
        assert straight == 800 if not flips else 330 < mirrored < 470
    # 800 draws of 1438 are 800 images: none comes twice before all have come.
    assert len(set(Shuffle(len(data), 0).take(0, 1438).tolist())) == 1438


def test_a_batch_holds_only_what_the_network_can_be_told():
    assert drawn(points(), 0, 0, 1, batch_size=4).cond.keys() == {"label"}


def test_train_and_test_digits_are_disjoint():
    first, second = (
        {tuple(image) for image in load_digits(split).images.flatten(1).tolist()}
        for split in ("train", "test")
    )
    assert len(first) > 1400 and len(second) > 350 and not first & second


# ------------------------------------------------------------------ ways back


def deterministic(predict, z, t, s, schedule, noise, past):
    """The way without noise."""
    x, direction, _ = predict(z, t)
    return schedule.signal[s] * x + schedule.spread[s] * direction


def remembers(predict, z, t, s, schedule, noise, past):
    """Two-step: the direction is carried on from the one before."""
    found = predict(z, t)
    past.append(found.x)
    x = found.x if len(past) == 1 else 1.5 * past[-1] - 0.5 * past[-2]
    there = (z - schedule.signal[t] * x) / schedule.spread[t]
    return schedule.signal[s] * x + schedule.spread[s] * there


def twice(predict, z, t, s, schedule, noise, past):
    """Looks ahead, and takes the mean of both views."""
    first = predict(z, t)
    if s == 0:
        return first.x
    ahead = schedule.signal[s] * first.x + schedule.spread[s] * first.noise
    x = (first.x + predict(ahead, s).x) / 2
    there = (z - schedule.signal[t] * x) / schedule.spread[t]
    return schedule.signal[s] * x + schedule.spread[s] * there


@pytest.mark.parametrize("way", [deterministic, remembers, twice])
def test_samplers_of_others_run_in_the_one_chain(way):
    calls, model = [], exact("v")

    def watched(z, t):
        calls.append(t)
        return model(z, t)

    ends = sample(watched, S, randn(4000, 1), sampler=way)
    per_step = 2 if way is twice else 1
    assert len(calls) == 20 * per_step - (way is twice)
    share = float((ends > 0).double().mean())
    assert abs(share - 0.6) < 0.06, f"{share:.0%} of the points are near 0.8"
    again = sample(watched, S, randn(4000, 1), sampler=way)
    assert torch.equal(ends, again), "something is left over from the first chain"


def test_a_known_half_stays_and_the_other_is_drawn():
    known, mask = torch.full((500, 2), 0.8).double(), torch.tensor([1.0, 0.0])
    pair = GaussianMixture([0.5, 0.5], [[-0.8, -0.8], [0.8, 0.8]], [0.1, 0.1])
    model = Denoiser(lambda z, t: pair.noise(z, t, S), S)

    def keeps(predict, z, t, s, schedule, noise, past, **how):
        drawn = ddpm(predict, z, t, s, schedule, noise, past, **how)
        a = schedule.signal[s], schedule.spread[s]
        there = a[0] * known + (a[1] * noise() if s else 0)
        return mask * there + (1 - mask) * drawn

    sampler = partial(keeps, variance="beta_tilde")
    ends = sample(model, S, randn(500, 2), sampler=sampler)
    assert torch.equal(ends[:, 0], known[:, 0])
    assert float((ends[:, 1] > 0).double().mean()) > 0.9, "the halves do not fit"


def test_a_chain_may_begin_anywhere_and_visit_what_it_is_told():
    model, picture = exact("noise"), torch.full((300, 1), 0.8).double()
    begun = q_sample(picture, 6, randn(300, 1), S)
    steps = [s for s, _ in chain(model, S, begun, start=6)]
    assert steps == [5, 4, 3, 2, 1, 0]
    edited = sample(model, S, begun, start=6)
    assert float((edited > 0).double().mean()) > 0.85, "a gentle edit is another one"
    assert [s for s, _ in chain(model, S, begun, steps=[20, 9, 2])] == [9, 2, 0]
    assert [s for s, _ in chain(model, S, begun, steps=4)] == [15, 10, 5, 0]
    for wrong in (0, 21, 2.5, [], [3, 5], [21, 1], [3, 0]):
        with pytest.raises(ValueError, match="steps"):
            list(chain(model, S, begun, steps=wrong))
    with pytest.raises(ValueError, match=r"start = 21 is not in 1..20"):
        list(chain(model, S, begun, start=21))
    whole, tables = [z for _, z in chain(model, S, begun)], at_step(S.signal, 3, begun)
    assert len(whole) == 20 and tables.dtype == torch.float64 == whole[0].dtype


# ------------------------------------------------------------------ in files


def test_a_denoiser_comes_back_from_its_folder(tmp_path):
    model = tiny(objective="v", variance="beta_tilde", clip=True)
    with torch.no_grad():
        model.net.conv_out.weight += 0.1
    before = torch.get_rng_state()
    again = read_model(save_model(model, tmp_path / "deep" / "model"))
    assert torch.equal(before, torch.get_rng_state())
    assert describe_model(again) == describe_model(model)
    assert torch.equal(again.schedule.beta, S.beta) and again.shape(2) == (2, 1, 8, 8)
    z = randn(2, 1, 8, 8).float()
    assert torch.equal(again(z, 3).x, model.eval()(z, 3).x)
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    names = {path.name for path in (tmp_path / "deep" / "model").iterdir()}
    assert names == {CONFIG, WEIGHTS}


def test_a_network_of_your_own_comes_back_too(tmp_path):
    model = Denoiser(Told(), S, "x", size=(1,))
    save_model(model, tmp_path)
    with pytest.raises(ValueError, match="it holds a Told; give such a network as net"):
        read_model(tmp_path)
    again = read_model(tmp_path, Told())
    z, label = randn(2, 1).float(), torch.tensor([0, 1])
    assert torch.equal(again(z, 3, label=label).x, model.eval()(z, 3, label=label).x)
    with pytest.raises(ValueError, match="disagree"):
        read_model(tmp_path, Told(16))


def changed(folder: Path, **fields: Any) -> None:
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": "red"}, "'colour' is unknown here; update ddpm_lit"),
        ({"format": 3}, "newer|update ddpm_lit"),
        ({"objective": "score"}, "objective 'score' is none of"),
        ({"model": {"wings": 2}}, "wings"),
        ({"model": None}, "disagree"),
    ],
)
def test_a_description_of_tomorrow_is_named(tmp_path, fields, message):
    save_model(tiny(), tmp_path)
    changed(tmp_path, **fields)
    with pytest.raises(ValueError, match=message) as caught:
        read_model(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_description_knows_nothing_more_and_nothing_less():
    about = describe_model(tiny())
    check_description(about)
    for name in about:
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            check_description({k: v for k, v in about.items() if k != name})
    wrong = [{"clip": 3}, {"size": [1, 0, 8]}, {"size": [1, 8.0, 8]}, {"size": 8}]
    wrong += [{"objective": 5}, {"network": []}, {"model": [1]}, {"variance": None}]
    for each in wrong:
        with pytest.raises(ValueError, match=f"{min(each)} = "):
            check_description({**about, **each})
    with pytest.raises(ValueError, match="no description"):
        check_description([about])  # type: ignore[arg-type]


def test_a_batch_is_shared_equally_or_not_at_all():
    check_shares(Optim(batch_size=12, accumulate=3), CPU)
    four = Machine("cpu")
    four.size = 4
    with pytest.raises(ValueError, match="a multiple of 12"):
        check_shares(Optim(batch_size=30, accumulate=3), four)


def test_broken_weights_are_named(tmp_path):
    save_model(tiny(), tmp_path)
    about = json.loads((tmp_path / CONFIG).read_text())
    named = load_file(tmp_path / WEIGHTS)
    for value, message in ((torch.nan, "NaN or infinity"), (torch.inf, "NaN or inf")):
        wrong = {**named, "conv_out.bias": torch.full((1,), value)}
        with pytest.raises(ValueError, match=f"conv_out.bias holds {message}"):
            build_model(about, wrong)
    del named["conv_out.bias"]
    save_file(named, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"conv_out.bias"):
        read_model(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=str(tmp_path)):
        read_model(tmp_path)
    with pytest.raises(OSError, match=r"config.json"):
        read_model(tmp_path / "nowhere")


def test_weights_with_half_the_digits_are_added_in_float32(tmp_path):
    save_model(tiny(), tmp_path)
    named = load_file(tmp_path / WEIGHTS)
    half = {k: v if k == "betas" else v.bfloat16() for k, v in named.items()}
    save_file(half, tmp_path / WEIGHTS)
    kinds = {p.dtype for p in read_model(tmp_path).parameters()}
    assert kinds == {torch.float32}


class Dropping(nn.Module):
    """Keeps what it drew in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.drew = nn.Parameter(torch.ones(1)), []

    def forward(self, z, t):
        self.drew.append(torch.rand(3).tolist())
        return self.w * z


def test_every_step_drops_other_entries_and_the_same_again():
    drawn = []
    for seed in (0, 0, 1):
        net, optim = Dropping(), Optim(train_steps=5, batch_size=4, seed=seed)
        state = State.fresh(Denoiser(net, S), optim, CPU)
        assert len(list(fit(state, load_digits(), optim, CPU))) == 5
        drawn.append(net.drew)
    assert len({tuple(row) for row in drawn[0]}) == 5, "a mask is used twice"
    assert drawn[0] == drawn[1] != drawn[2]


# ------------------------------------------------------------------ of one's own


class Loud(Denoiser):
    """A denoiser whose loss is another."""

    def loss(self, *given: Tensor, **cond: Tensor) -> Tensor:
        return 0 * super().loss(*given, **cond) + 7


def test_a_finer_denoiser_stays_one_when_it_is_trained_and_copied():
    model = Loud(tiny().net, S, size=(1, 8, 8))
    other = model.with_net(partial(model.net))  # a function in place of a network
    assert type(other) is Loud and other.net is not model.net
    assert model.with_net(model.net).size == (1, 8, 8) and "net" in model._modules
    state = State.fresh(model, Optim(2, 8), CPU)
    assert [float(loss) for loss, _ in fit(state, load_digits(), Optim(2, 8))] == [7, 7]


def test_a_model_that_was_read_can_be_trained_on_and_half_of_one_stays_frozen(tmp_path):
    save_model(tiny(), tmp_path / "m")
    model, optim = read_model(tmp_path / "m"), Optim(2, 8, warmup_steps=0)
    assert not any(p.requires_grad for p in model.parameters())
    state = State.fresh(model, optim, CPU)
    assert all(p.requires_grad for p in state.denoiser.parameters())
    list(fit(state, load_digits(), optim))
    after = [p.detach().clone() for p in state.denoiser.parameters()]
    fresh = read_model(tmp_path / "m")
    assert not all(map(torch.equal, after, fresh.parameters()))
    fresh.requires_grad_(False)
    fresh.net.conv_out.requires_grad_(True)
    state = State.fresh(fresh, optim, CPU)
    assert sum(p.requires_grad for p in state.denoiser.parameters()) == 2


class Marked(nn.Module):
    """A network with a mask, a counter that is made anew, and two names for one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.b.weight = self.a.weight
        self.register_buffer("mask", torch.arange(64).reshape(8, 8) % 2 == 0)
        self.register_buffer("count", torch.zeros((), dtype=torch.int16))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.count = self.count + 1
        return self.b(self.a(z)) * ~self.mask


def test_masks_counters_and_shared_weights_survive_a_folder_and_an_average(tmp_path):
    model = Denoiser(Marked(), S, size=(1, 8, 8))
    named = in_own_memory(model.net.state_dict())
    assert len({v.data_ptr() for v in named.values()}) == len(named) == 6
    back = read_model(save_model(model, tmp_path / "m"), Marked())
    assert (back.net.mask.dtype, back.net.count.dtype) == (torch.bool, torch.int16)
    pictures = [draw_images(each, 2, steps=3) for each in (model, back)]
    assert torch.equal(*pictures)
    state = State.fresh(model, Optim(3, 8), CPU)
    list(fit(state, load_digits(), Optim(3, 8)))
    assert int(state.ema.model.net.count) == int(model.net.count) == 3
    # Weights that were exchanged for others are followed.
    other = {k: v.clone() + 1 for k, v in model.net.state_dict().items()}
    model.net.load_state_dict(other, assign=True)
    model.net.b.weight = model.net.a.weight
    state.ema.decay = 0.0
    state.ema.update(model)
    for mean, new in zip(state.ema.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mean, new)


def test_a_wrapped_network_is_saved_as_what_it_wraps(tmp_path):
    model = tiny()
    wrapped = model.with_net(torch.compile(model.net))  # compiled when it is called
    assert unwrapped(wrapped.net) is model.net is unwrapped(model.net)
    assert describe_model(wrapped) == describe_model(model)
    back = read_model(save_model(wrapped, tmp_path / "m"))
    assert torch.equal(*(draw_images(each, 2, steps=2) for each in (model, back)))


def test_every_network_with_a_name_here_comes_back_and_a_namesake_is_not_it(tmp_path):
    prior = Prior(PriorConfig(channels=8, inside=8, layers=1, heads=2, tokens=2))
    net = ChainNet(ChainConfig(length=6, width=8, layers=1, heads=2))
    for k, (each, size) in enumerate(((prior, (8,)), (net, (3, 6)))):
        model = Denoiser(each, S, "x", size=size)
        back = read_model(save_model(model, tmp_path / str(k)))
        assert type(back.net) is type(each) and back.net.config == each.config

    namesake = type(
        "UNet", (nn.Module,), {"forward": lambda self, z, t: z.repeat(1, 2, 1, 1)}
    )
    model = Denoiser(namesake(), S, "v+variance", size=(1, 8, 8))
    folder = save_model(model, tmp_path / "namesake")
    assert type(read_model(folder, namesake()).net) is namesake


@pytest.mark.parametrize("size", [[3, 8, 8], [8], [1, 8, 8, 8], [1, 7, 8]])
def test_a_size_that_is_not_the_networks_is_refused(tmp_path, size):
    folder = save_model(tiny(), tmp_path / "m")
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, "size": size}))
    with pytest.raises(ValueError, match=r"size|halved"):
        read_model(folder)


def test_a_folder_is_named_as_the_shell_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save_model(tiny(), "~/m")
    left = tmp_path / "m" / f"{WEIGHTS}.0123abcd.partial"
    left.touch()  # of a process that was killed
    save_model(tiny(), "~/m")
    assert read_model("~/m").size == (1, 8, 8) and not (tmp_path / "~").exists()


def test_examples_are_had_one_by_one_and_all_that_is_known_is_of_them():
    data = load_digits()
    x, known = data[3]
    assert x.shape == (1, 8, 8) and torch.equal(x, data[torch.tensor([3])][0][0])
    batch, told = next(iter(torch.utils.data.DataLoader(data, 4)))
    assert batch.shape == (4, 1, 8, 8) and told["label"].shape == (4,)
    assert known["label"].ndim == 0 and sum(1 for _ in data) == len(data)
    with pytest.raises(ValueError, match="label is known of 3 examples"):
        Dataset(torch.zeros(2, 1), {"label": torch.zeros(3)})


def test_steps_may_be_counted_by_any_whole_number():
    assert kept_steps(20, np.int64(2)) == kept_steps(20, 2)
    for wrong in (2.0, np.float64(2)):
        with pytest.raises(ValueError, match="whole number"):
            kept_steps(20, wrong)


def test_pictures_are_drawn_at_rest_in_any_precision_and_of_a_known_size():
    model = tiny(dropout=0.3)
    awake(model.net)
    model.train().net.conv_in.eval()
    one, two = (draw_images(model, 2, steps=3) for _ in range(2))
    assert torch.equal(one, two) and model.net.training
    assert not model.net.conv_in.training, "a part that was at rest is woken"
    half = draw_images(model.bfloat16(), 2, steps=3).int()
    assert float((half - one.int()).abs().float().mean()) < 20
    with pytest.raises(ValueError, match="no size"):
        draw_images(Denoiser(tiny().net, S), 2)
