"""Backbones: what chapter 23 does not call itself, and Genie against its authors."""

from __future__ import annotations

import math

import pytest
import torch

from ddpm_lit.book.backbones import Chain, fragments, load_backbones
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.machine import Machine
from ddpm_lit.networks.chains import ChainConfig, ChainLayer, ChainNet
from ddpm_lit.networks.genie import (
    Frames,
    FrameUpdate,
    Genie,
    GenieConfig,
    Layers,
    PairFeatures,
    PairLayer,
    PairTransition,
    PointAttention,
    SingleFeatures,
    StructureLayer,
    Transition,
    Transitions,
    Triangle,
    genie_denoiser,
    genie_from_file,
    genie_schedule,
    turn_of,
    waves,
)
from ddpm_lit.networks.unet import NETWORKS
from ddpm_lit.proteins import (
    AngleCode,
    Angles,
    Folds,
    Report,
    angles_of,
    built,
    folds_of,
    igso3_slope,
    igso3_vectors,
    rotation_from,
    rotation_vector,
    self_conditioned,
    table,
    with_guess,
)
from ddpm_lit.schedules import make_schedule
from ddpm_lit.training import Batch, Draw

FEW = GenieConfig(
    residues=16,
    single=8,
    pair=6,
    offsets=5,
    pair_layers=2,
    triangle=5,
    widen=2,
    layers=2,
    heads=2,
    head_channels=4,
    query_points=2,
    value_points=3,
)
# What the authors' denoiser takes away from the first, sixth and last residue of the
# two chains of `clouds`, padded to 16 residues and masked, at their steps 0 and 699,
# with the weights of `by_formula`. Computed with the classes of aqlaboratory/genie at
# commit 10d1d3aedfb76b358acddcd0f8c12e2cee735d44, in float32.
THEIRS = [
    [
        [0.18723440, 0.13520193, -0.15116763],
        [0.14116669, -0.16121829, -0.21905041],
        [0.29948449, -0.21781254, -0.12150145],
    ],
    [
        [0.13301468, 0.26940966, -0.02572393],
        [-0.17659426, 0.21959352, 0.21120977],
        [0.03597283, -0.22247028, 0.09658742],
    ],
]


@torch.no_grad()
def by_formula(net: torch.nn.Module) -> torch.nn.Module:
    """The network with weights that follow from their names' order and places."""
    for i, (_, weight) in enumerate(sorted(net.named_parameters())):
        place = torch.arange(weight.numel(), dtype=torch.float64)
        weight.copy_((0.3 * torch.sin(1.3 * (i + 1) + 0.7 * place)).view_as(weight))
    return net.requires_grad_(False)


def clouds() -> torch.Tensor:
    """Two chains of 12 residues, by a formula."""
    i = torch.arange(2 * 16 * 3, dtype=torch.float64).view(2, 16, 3)
    return (6 * torch.sin(1 + 0.9 * i + 0.05 * i**1.5))[:, :12].float()


def test_genie_answers_as_its_authors_do():
    ours = by_formula(Genie(FEW))(clouds(), torch.tensor([1, 700]))
    assert (ours[:, [0, 5, 11]] - torch.tensor(THEIRS)).abs().max() < 1e-5


def test_genie_is_equivariant_to_the_last_digits():
    net, z = by_formula(Genie(FEW)).double(), clouds().double()
    turn = rotation_from(torch.tensor([0.3, -1.1, 2.0], dtype=torch.float64))
    t = torch.tensor([1, 700])
    off = net(z @ turn.mT + 50, t) - net(z, t) @ turn.mT
    assert off.abs().max() < 1e-12


def test_genies_schedule_and_denoiser():
    schedule = genie_schedule(10)
    left = torch.cos(torch.arange(11, dtype=torch.float64) / 11 * math.pi / 2) ** 2
    assert torch.allclose(schedule.alpha_bar, left)
    model = genie_denoiser(by_formula(Genie(FEW)), 12)
    assert model.shape(2) == (2, 12, 3) and model.variance == "beta"
    assert torch.equal(
        model(clouds(), 5).noise, model.net(clouds(), torch.tensor([5, 5]))
    )


def test_genies_file_opens_or_is_refused(tmp_path):
    net = by_formula(Genie(FEW))
    path = tmp_path / "epoch=1.ckpt"
    theirs = {f"model.{name}": value for name, value in net.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": theirs}, path)
    again, t = genie_from_file(path, FEW), torch.tensor([5, 9])
    assert torch.equal(again(clouds(), t), net(clouds(), t))
    for wrong, message in (
        ({}, "is missing, expected"),
        ({**theirs, "model.more": torch.ones(1)}, r"more is \[1\], expected missing"),
        (
            {**theirs, "model.structure_net.net.0.ipa.head_weights": torch.ones(3)},
            r"head_weights is \[3\], expected \[2\]",
        ),
    ):
        torch.save({"state_dict": wrong}, path)
        with pytest.raises(ValueError, match=message):
            genie_from_file(path, FEW)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="no checkpoint that is safe to read") as told:
        genie_from_file(path, FEW)
    assert "\n" not in str(told.value)
    with pytest.raises(OSError):
        genie_from_file(tmp_path / "nothing.ckpt")


def test_the_parts_of_genie_keep_the_shapes_that_they_say():
    s, p, z = torch.randn(2, 5, 8), torch.randn(2, 5, 5, 6), clouds()[:, :5]
    frames = Frames(torch.eye(3).expand(2, 5, 3, 3), z)
    assert SingleFeatures(FEW)(z, torch.tensor([1, 2])).shape == s.shape
    assert PairFeatures(FEW)(s, z).shape == p.shape
    for part in (Triangle(FEW, True), PairTransition(FEW), PairLayer(FEW)):
        assert part(p).shape == p.shape
    assert PointAttention(FEW)(s, p, frames).shape == s.shape
    assert Transition(8)(s).shape == Transitions(8)(s).shape == s.shape
    moved = FrameUpdate(FEW)(s, frames)
    assert moved.place.shape == (2, 5, 3) and moved.turn.shape == (2, 5, 3, 3)
    assert StructureLayer(FEW)(s, p, frames)[0].shape == s.shape
    assert next(iter(Layers(Transition(8)).state_dict())) == "net.0.linear_1.weight"
    points = torch.randn(2, 5, 4, 3)
    assert torch.allclose(moved.back(moved.out(points)), points, atol=1e-4)


def test_waves_and_quaternions():
    found = waves(torch.tensor([0, 3]), 16, 4)
    assert torch.equal(found[0], torch.tensor([1.0, 0, 1, 0]))
    rates = [math.pi / 16**power for power in (0, 1, 1, 2)]
    ways = (math.cos, math.sin, math.cos, math.sin)
    expected = [f(3 * rate) for f, rate in zip(ways, rates, strict=True)]
    assert torch.allclose(found[1], torch.tensor(expected), atol=1e-6)
    half = torch.tensor(math.tan(0.4), dtype=torch.float64)
    zero = torch.zeros_like(half)
    about_x = rotation_from(torch.tensor([0.8, 0, 0], dtype=torch.float64))
    assert torch.allclose(turn_of(half, zero, zero), about_x)


def test_a_chain_network_hears_its_guess_and_refuses_another_length():
    net = NETWORKS["ChainNet"](ChainConfig(length=6, width=16, layers=1, heads=2))
    assert (
        isinstance(net, ChainNet) and ChainLayer(16, 2)(torch.ones(1, 6, 16)).ndim == 3
    )
    z, t = torch.randn(2, 3, 6), torch.tensor([4, 9])
    torch.nn.init.normal_(net.leave.weight)
    assert torch.equal(net(z, t), net(z, t, guess=torch.zeros_like(z)))
    assert not torch.equal(net(z, t), net(z, t, guess=z))
    with pytest.raises(ValueError, match="7 places; it knows 6"):
        net(torch.zeros(1, 3, 7), t[:1])
    with pytest.raises(ValueError, match="cannot be shared by 3 heads"):
        ChainConfig(width=16, heads=3)


def test_a_guess_is_told_in_half_of_the_examples_and_remembered():
    schedule = make_schedule("cosine", 100)
    told: list[bool] = []

    def net(z, t, guess=None):
        told.append(guess is not None and bool(guess.any()))
        return z

    model = Denoiser(net, schedule, "x")
    x, t = torch.ones(64, 1, 4), torch.full((64,), 50)
    draw = Draw(0, 0, 0, 64, Machine("cpu"))
    batch = with_guess(model)(Batch(x, t, torch.randn(64, 1, 4), {}), draw)
    shown = batch.cond["guess"].flatten(1).any(1).float().mean()
    assert 0.3 < shown < 0.7 and not batch.cond["guess"].requires_grad
    told.clear()
    predict = self_conditioned(model)
    for step in (100, 60, 20, 100, 50):  # a second chain begins without a guess
        predict(x, step)
    assert told == [False, True, True, False, True]


def test_rotations_have_vectors_and_widths():
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(rotation_vector(rotation_from(zero)), zero)
    for angle in (math.pi, math.pi - 1e-9, 3.0, 1e-9):
        v = angle * torch.tensor([-0.36, 0.48, 0.8], dtype=torch.float64)
        back = rotation_from(rotation_vector(rotation_from(v)))
        assert (back - rotation_from(v)).abs().max() < 1e-12, angle
    source = torch.Generator().manual_seed(0)
    assert igso3_vectors(100, 2.5, source).norm(dim=1).max() <= math.pi
    slope = igso3_slope(torch.tensor([0.01, math.pi], dtype=torch.float64), 0.02)
    assert slope.isfinite().all() and slope[0] == pytest.approx(-25, rel=0.01)
    for sigma in (0.0, 3.1):
        with pytest.raises(ValueError, match=r"is not in 0.001\.\.3"):
            igso3_slope(torch.ones(1), sigma)


def test_a_chain_is_built_of_equal_bonds():
    angles = Angles(torch.full((1, 6), 1.6), torch.full((1, 5), 0.9))
    x = built(angles, bond=2.0)
    assert (x[:, 1:] - x[:, :-1]).norm(dim=2).sub(2).abs().max() < 1e-5
    assert x.mean(1).abs().max() < 1e-6


def test_the_book_carries_fifty_chains():
    chains = load_backbones()
    assert len(chains) == len({chain.name for chain in chains}) == 50
    assert all(len(chain.structure) == len(chain.places) for chain in chains)
    assert max(float(chain.places.mean(0).abs().max()) for chain in chains) < 0.01
    assert fragments(chains[:2], 20).shape[1:] == (20, 3)
    assert fragments([Chain("none", chains[0].places, "")], 20).shape[2] == 3
    assert "radius" in table({"none": Report(1, 0, 0, 0, 1, 0)})


def test_a_code_of_angles_keeps_bends_possible():
    code = AngleCode(torch.zeros(3, 1), torch.ones(3, 1))
    z = torch.tensor([[[0.0, 1.6, 9.0], [1, 1, 0], [0, 1, 0]]])
    found = angles_of(code.chains(z))
    assert torch.allclose(found.bend, torch.tensor([[1.3, 1.6, 2.8]]), atol=1e-5)
    assert torch.allclose(found.twist, torch.tensor([[0, math.pi / 4]]), atol=1e-5)


def test_a_straight_chain_is_stretched_and_a_coil_is_a_helix():
    coil = built(Angles(torch.full((1, 8), 1.59), torch.full((1, 7), 0.87)))
    none = torch.zeros(1, 7, dtype=torch.bool)
    for x, expected in (
        (coil, Folds(~none, none, none)),
        (coil * torch.tensor([1.0, 1.0, -1.0]), Folds(none, ~none, none)),
        (
            built(Angles(torch.full((1, 8), 2.1), torch.full((1, 7), 3.0))),
            Folds(none, none, ~none),
        ),
    ):
        for found, wanted in zip(folds_of(x), expected, strict=True):
            assert torch.equal(found, wanted)
