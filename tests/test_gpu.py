"""What only a GPU can show: recordings, resumed runs and large jobs.

    python -m pytest -c /dev/null --noconftest tests/test_gpu.py

Without one, every test is reported as skipped; the same promises are kept on any
processor by chapter 81's tape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpm_lit.data import load_digits
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.output import DeviceNoise, draw_images
from ddpm_lit.recipes import Optim, Recipe, Speed, preset
from ddpm_lit.runs import CHECKPOINT, build_denoiser, read_tensors, train
from ddpm_lit.schedules import make_schedule
from ddpm_lit.tape import CudaTape, Replayed
from ddpm_lit.team import Team, _average
from ddpm_lit.training import State, fit

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that runs CUDA"
)
GPU = torch.device("cuda")


def recipe(out: Path | str = "nowhere", **changes: Any) -> Recipe:
    """A small network with dropout, trained for a dozen steps."""
    return preset(
        "digits",
        **{
            "train_steps": 12,
            "batch_size": 32,
            "base_channels": 16,
            "dropout": 0.2,
            "warmup_steps": 5,
            "save_every": 12,
            "samples": 0,
            "tensorboard": False,
            "out": str(out),
            "device": "cuda",
            **changes,
        },
    )


def after(**switches: Any) -> tuple[Tensor, list[Tensor]]:
    """Losses and all weights after the steps of the recipe."""
    asked, data = recipe(**switches), load_digits()
    team = Team(GPU, speed=asked.speed)
    state = State.fresh(build_denoiser(asked, data), asked.optim, team)
    losses = [loss for loss, _ in fit(state, data, asked.optim, team)]
    weights = [*state.denoiser.parameters(), *state.ema.model.parameters()]
    return torch.stack(losses), [p.detach() for p in weights]


@pytest.mark.parametrize("switches", [{"accumulate": 2}, {"autocast": False}, {}])
def test_a_recorded_step_is_the_same_step(switches):
    """Up to the rounding of the learning rate, which a tensor holds in float32."""
    straight, taped = (
        after(compile=False, graph=on, **switches) for on in (False, True)
    )
    torch.testing.assert_close(straight[0], taped[0], rtol=2e-3, atol=2e-4)
    for one, other in zip(straight[1], taped[1], strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=2e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(tmp_path, compiled):
    """Seven steps, five of them after three that were watched, then the rest."""
    whole = recipe(tmp_path / "whole", compile=compiled)
    train(whole, progress=False)
    parts = recipe(tmp_path / "parts", compile=compiled, save_every=7)

    class Stop(Exception):
        pass

    def stopped(self: Any, *given: Any) -> None:
        saved(self, *given)
        raise Stop

    from ddpm_lit.runs import Run

    saved = Run.save
    Run.save = stopped
    try:
        with pytest.raises(Stop):
            train(parts, progress=False)
    finally:
        Run.save = saved
    train(parts, progress=False, resume=True)
    one, other = (
        read_tensors(tmp_path / name / CHECKPOINT, "") for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_step_that_looks_at_a_number_goes_on_without_a_recording(capsys):
    looks = Replayed(lambda x: x + float(x.sum()))
    x = torch.ones(2, device=GPU)
    assert [looks(x).tolist() for _ in range(6)] == [[3.0, 3.0]] * 6
    assert capsys.readouterr().err.count("cannot be recorded") == 1


def test_a_tape_repeats_with_what_lies_in_memory():
    tape, x = CudaTape(), torch.ones(3, device=GPU)
    assert tape.watch(lambda: 2 * x).tolist() == [2, 2, 2]
    twice = tape.record(lambda: 2 * x)
    x.fill_(5)
    tape.replay()
    assert twice.tolist() == [10, 10, 10]


def test_a_tape_is_cut_around_what_no_graph_can_hold():
    tape, x, heard = CudaTape(), torch.ones(3, device=GPU), []

    def task() -> Tensor:
        twice = 2 * x
        tape.aside(lambda: heard.append(float(twice.sum())))
        tape.aside(lambda: twice.add_(100))
        return twice + x

    found = tape.record(task)
    assert heard == []
    for value in (3.0, 5.0):
        x.fill_(value)
        tape.replay()
        assert found.tolist() == [3 * value + 100] * 3
    assert heard == [18.0, 30.0]


def test_gradients_averaged_between_recordings_are_those_of_the_whole_step(tmp_path):
    """A team of one, made to talk as if it were many."""
    from torch import distributed

    class Talking(Team):
        def share(self, model: nn.Module) -> None:
            _average(model, 1)

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        found = []
        for kind in (Team, Talking):
            asked, data = recipe(compile=False, graph=True), load_digits()
            team = kind(GPU, speed=asked.speed)
            state = State.fresh(build_denoiser(asked, data), asked.optim, team)
            losses = [loss for loss, _ in fit(state, data, asked.optim, team)]
            weights = [p.detach() for p in state.denoiser.parameters()]
            found.append([torch.stack(losses), *weights])
        assert all(map(torch.equal, *found)), "a talk changes the step"
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("how", [{}, {"source": DeviceNoise}])
def test_pictures_of_a_recorded_network_are_those_of_the_network(how):
    net = build_denoiser(recipe(), load_digits()).net
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05)
    model = Denoiser(net.eval(), make_schedule("cosine", 20), size=(1, 8, 8), clip=True)
    plain, taped = (
        draw_images(
            model,
            70,
            batch_size=batch,
            team=Team(GPU, speed=Speed(graph=on, autocast=False, tf32=False)),
            **how,
        ).int()
        for on, batch in ((False, 70), (True, 33))
    )
    assert int((plain - taped).abs().max()) <= 1
    assert len({tuple(picture.flatten().tolist()) for picture in plain}) == 70


def test_the_average_and_the_rate_follow_their_schedules_when_recorded():
    asked, data = recipe(graph=True, compile=False), load_digits()
    optim = Optim(10, 16, learning_rate=0.01, warmup_steps=2, flat_fraction=0.5)
    team = Team(GPU, speed=asked.speed)
    state = State.fresh(build_denoiser(asked, data), optim, team)
    by_hand = [p.detach().clone() for p in state.denoiser.parameters()]
    rates = []
    for n, _ in enumerate(fit(state, data, optim, team)):
        rates.append(float(state.adam.param_groups[0]["lr"]) / 0.01)
        decay = min(optim.ema_decay, (1 + n) / (10 + n))
        for mean, new in zip(by_hand, state.denoiser.parameters(), strict=True):
            mean.lerp_(new.detach(), 1 - decay)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    for mean, average in zip(by_hand, state.ema.model.parameters(), strict=True):
        torch.testing.assert_close(mean, average)
