"""Training and sampling steps of the paper's network, against two other libraries.

    python benchmarks/speed.py --threads 2 --out benchmarks/results/speed_cpu.json
    python benchmarks/speed.py --device cuda --batch 128 --out FILE.json

Every case takes one step in turn, round after round, so that all of them see the same
machine; every time is kept, since steps of one round can be compared as pairs. The
peers are diffusers, in the loop of its own training example, and lucidrains'
denoising-diffusion-pytorch, in the loop of its own trainer; a peer that is not
installed has no row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lit import __version__
from ddpm_lit.data import Dataset
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.guidance import clipped
from ddpm_lit.networks.fast import BitDropout, plain_attention, subpixel_upsample
from ddpm_lit.networks.unet import AttentionBlock, ResidualBlock, UNet, Upsample
from ddpm_lit.objectives import Prediction
from ddpm_lit.recipes import Recipe, Speed, preset
from ddpm_lit.runs import build_denoiser
from ddpm_lit.samplers import ddpm
from ddpm_lit.team import Team
from ddpm_lit.training import State, fit

Step = Callable[[], None]


def ours(device: torch.device, batch: int, **switches: bool) -> Step:
    """A whole training step: draw, forward, backward, clip, Adam, average."""
    recipe = preset("cifar10", batch_size=batch, **switches)
    team = Team(device, speed=recipe.speed)
    state = fresh(recipe, team, bool(team.speed.fused_adam))
    at_hand = team.speed.data_on_device
    images = pictures().to(device) if at_hand else pictures()
    steps = fit(state, Dataset(images, flips=True), recipe.optim, team)
    return lambda: next(steps)


def network(recipe: Recipe) -> Denoiser:
    """The recipe's denoiser before its training."""
    return build_denoiser(recipe, Dataset(pictures()))


def fresh(recipe: Recipe, team: Team, fused: bool | None = None) -> State:
    """All that changes while training, before the first step."""
    return State.fresh(network(recipe), recipe.optim, team, fused)


def pictures() -> torch.Tensor:
    """Random bytes of CIFAR-10's shape; the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (512, 3, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def diffusers_network(device: torch.device) -> torch.nn.Module:
    """The same network in diffusers, dropout included."""
    from diffusers import UNet2DModel

    c = preset("cifar10").model
    kinds = ["Attn" * (i in c.attention_levels) for i in range(len(c.channels))]
    net = UNet2DModel(
        sample_size=32,
        in_channels=c.in_channels,
        out_channels=c.in_channels,
        block_out_channels=c.channels,
        layers_per_block=c.blocks_per_level,
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in kinds[::-1]],
        add_attention=c.middle_attention,
        attention_head_dim=c.head_channels,
        dropout=c.dropout,
        norm_num_groups=c.groups,
        norm_eps=c.norm_eps,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=c.frequency_shift,
    )
    with torch.device("meta"):
        same = sum(p.numel() for p in UNet(c).parameters())
    assert sum(p.numel() for p in net.parameters()) == same, "another network"
    return net.to(device)


def diffusers_step(
    device: torch.device,
    batch: int,
    bf16: bool = False,
    fused: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
) -> Step:
    """The loop of diffusers' train_unconditional.py: AdamW, clip, EMAModel."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    net = diffusers_network(device).train()
    if channels_last:
        net.to(memory_format=torch.channels_last)
    settings = {"lr": 1e-4, "betas": (0.95, 0.999), "weight_decay": 1e-6, "eps": 1e-8}
    optimizer = torch.optim.AdamW(net.parameters(), **settings, fused=fused)
    average = EMAModel(
        net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    average.to(device)
    scheduler, images = DDPMScheduler(1000), pictures()
    called = torch.compile(net) if compiled else net

    def step() -> None:
        picked = torch.randint(len(images), (batch,))
        x = (images[picked].float() / 127.5 - 1).to(device)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (batch,), device=device)
        z = scheduler.add_noise(x, noise, t)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(called(z, t).sample.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(net.parameters())

    return step


def lucidrains_step(device: torch.device, batch: int, bf16: bool = False) -> Step:
    """The loop of lucidrains' Trainer with its network of 35.7 million parameters.

    Another architecture: dim 64 has as many parameters and fewer operations.
    """
    diffusion = lucidrains_model(device)
    from ema_pytorch import EMA

    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average, images = EMA(diffusion, beta=0.995, update_every=10), pictures()

    def step() -> None:
        picked = torch.randint(len(images), (batch,))
        x = (images[picked].float() / 255).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = diffusion(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    return step


def lucidrains_model(device: torch.device) -> torch.nn.Module:
    """lucidrains' diffusion with the network of its examples."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # it is used for reading data only, which we do not
        for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
        sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]
        pytorch_fid = types.ModuleType("fid_evaluation")
        pytorch_fid.FIDEvaluation = object
        module = "denoising_diffusion_pytorch.fid_evaluation"
        sys.modules.setdefault(module, pytorch_fid)
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    net = Unet(dim=64, dim_mults=(1, 2, 4, 8), flash_attn=False)
    return GaussianDiffusion(net, image_size=32, timesteps=1000).to(device)


def shapes(batch: int) -> dict[str, list[list[torch.Size]]]:
    """Switch -> the shapes that each part it concerns is given, for one batch."""
    found: dict[str, list] = {"subpixel": [], "bit_dropout": [], "sdpa": []}

    def note(name: str, given: tuple[torch.Tensor, ...]) -> None:
        found[name].append([each.shape for each in given])

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        note("sdpa", qkv)
        return plain_attention(*qkv)

    config = preset("cifar10").model
    with torch.device("meta"):
        net = UNet(config).train()
        for module in net.modules():
            if isinstance(module, Upsample):
                module.register_forward_pre_hook(
                    lambda _, given: note("subpixel", given)
                )
            elif isinstance(module, ResidualBlock):
                module.dropout.register_forward_pre_hook(
                    lambda _, given: note("bit_dropout", given)
                )
            elif isinstance(module, AttentionBlock):
                module.attend = attend
        net(torch.empty(batch, 3, 32, 32), torch.ones(batch, dtype=torch.int64))
    return found


def there_and_back(
    parts: list[tuple[Callable[..., torch.Tensor], list[torch.Size]]],
    device: torch.device,
) -> Step:
    """Forward and backward, in bfloat16, through some parts one after the other."""
    like = {"device": device, "dtype": torch.bfloat16, "requires_grad": True}
    inputs = [[torch.randn(shape, **like) for shape in given] for _, given in parts]

    def step() -> None:
        for (part, _), given in zip(parts, inputs, strict=True):
            with torch.autocast(device.type, torch.bfloat16):
                answer = part(*given)
            answer.backward(torch.ones_like(answer))

    return step


def parts_alone(device: torch.device, batch: int) -> dict[str, Callable[[], Step]]:
    """What a switch concerns, alone, as often as a step needs it: off and on."""
    recipe, team = preset("cifar10"), Team(device)

    def part(name: str, on: bool, given: list[torch.Size]) -> Callable:
        """The part of the network that gets such inputs, its switch off or on."""
        if name == "subpixel":
            real = Upsample(given[0][1]).to(device)
            return partial(subpixel_upsample, conv=real.conv) if on else real
        if name == "bit_dropout":
            return (BitDropout if on else torch.nn.Dropout)(recipe.model.dropout)
        return F.scaled_dot_product_attention if on else plain_attention

    def through(name: str, on: bool) -> Step:
        uses = shapes(batch)[name]
        parts = [(part(name, on, given), given) for given in uses]
        return there_and_back(parts, device)

    def update(on: bool) -> Step:
        state = fresh(recipe, team, fused=on)
        for parameter in state.denoiser.parameters():
            parameter.grad = torch.randn_like(parameter)
        return lambda: state.adam.step()

    def average(on: bool) -> Step:
        state = fresh(recipe, team)
        return lambda: state.ema.update(state.denoiser, foreach=on)

    names = ("subpixel", "bit_dropout", "sdpa")
    cases = {name: partial(through, name) for name in names}
    cases |= {"fused_adam": update, "foreach_ema": average}
    return {
        f"{name} {'on' if on else 'off'}": partial(case, on)
        for name, case in cases.items()
        for on in (False, True)
    }


def our_sampling(device: torch.device, batch: int, **switches: bool) -> Step:
    """One step back, noise and clipping included."""
    team = Team(device, speed=Speed(**switches), training=False)
    model = network(preset("cifar10")).to(device).eval()
    working = model.with_net(team.wrap(model.net))
    z = torch.randn(batch, 3, 32, 32, device=device)

    def answer(z: torch.Tensor, t: int) -> Prediction:
        with team.arithmetic():
            found = working(team.place(z), t)
        return Prediction(found.x.to(z.dtype), found.noise.to(z.dtype))

    tables = model.schedule.to("cpu")
    predict, noise = clipped(answer, model.schedule), partial(torch.randn_like, z)

    @torch.no_grad()
    def step() -> None:
        ddpm(predict, z, 500, 499, tables, noise, [])

    return step


def diffusers_sampling(device: torch.device, batch: int, bf16: bool = False) -> Step:
    """The loop of diffusers' DDPMPipeline."""
    from diffusers import DDPMScheduler

    net, scheduler = diffusers_network(device).eval(), DDPMScheduler(1000)
    z = torch.randn(batch, 3, 32, 32, device=device)

    @torch.no_grad()
    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            guess = net(z, 499).sample
        scheduler.step(guess.float(), 499, z)

    return step


def lucidrains_sampling(device: torch.device, batch: int) -> Step:
    """p_sample of lucidrains' GaussianDiffusion."""
    diffusion = lucidrains_model(device).eval()
    z = torch.randn(batch, 3, 32, 32, device=device)

    @torch.no_grad()
    def step() -> None:
        diffusion.p_sample(z, 499)

    return step


def cases(device: torch.device, batch: int) -> dict[str, dict[str, Callable[[], Step]]]:
    """What is measured: kind of step -> name -> how to make it."""
    gpu = device.type == "cuda"
    plain = {"compile": False}
    training = {
        "diffusers, its example": lambda: diffusers_step(device, batch),
        "diffusers, bf16, fused": lambda: diffusers_step(device, batch, True, True),
        "diffusers, bf16, fused, channels_last": lambda: diffusers_step(
            device, batch, True, True, True
        ),
        "lucidrains, float32": lambda: lucidrains_step(device, batch),
        "lucidrains, bf16": lambda: lucidrains_step(device, batch, True),
        "ddpm_lit, float32": lambda: ours(device, batch, autocast=False),
        "ddpm_lit, bf16": lambda: ours(device, batch, autocast=True),
    }
    if gpu:
        training["diffusers, bf16, fused, channels_last, compile"] = lambda: (
            diffusers_step(device, batch, True, True, True, True)
        )
        training["ddpm_lit, bf16, no compile"] = lambda: ours(
            device, batch, autocast=True, **plain
        )
    usual = Team(device, speed=Speed(autocast=True)).speed
    ablation = {"all": lambda: ours(device, batch, autocast=True)}
    for name, on in vars(usual).items():
        if name in ("tf32", "compile", "data_on_device") and not gpu:
            continue
        word = "without" if on else "with"
        ablation[f"{word} {name}"] = lambda name=name, on=on: ours(
            device, batch, **{"autocast": True, name: not on}
        )
    sampling = {
        "diffusers, its pipeline": lambda: diffusers_sampling(device, batch),
        "diffusers, bf16": lambda: diffusers_sampling(device, batch, True),
        "lucidrains, float32": lambda: lucidrains_sampling(device, batch),
        "ddpm_lit, float32": lambda: our_sampling(device, batch, autocast=False),
        "ddpm_lit, bf16": lambda: our_sampling(device, batch, autocast=True),
    }
    parts = parts_alone(device, batch)
    kinds = {"training": training, "ablation": ablation, "parts": parts}
    return {**kinds, "sampling": sampling}


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def held(device: torch.device) -> int:
    """Bytes of GPU memory that are in use."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def measure(
    makers: dict[str, Callable[[], Step]], device: torch.device, rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds of each case, its first two steps left out; on a GPU also its memory."""
    gpu = device.type == "cuda"
    steps: dict[str, Step] = {}
    own: dict[str, int] = {}  # bytes that a case keeps between its steps
    for name, make in makers.items():
        before = held(device)
        try:
            torch.manual_seed(0)
            steps[name] = make()
        except ImportError as error:
            print(f"{name}: not measured, {error}", file=sys.stderr)
        own[name] = held(device) - before
    times: dict[str, list[float]] = {name: [] for name in steps}
    peak = dict.fromkeys(steps, 0)
    repeats = 10 if gpu else 1
    for number in range(rounds + 2):
        for name, step in steps.items():
            before = held(device)
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            wait(device)
            started = time.perf_counter()
            for _ in range(repeats):
                step()
            wait(device)
            times[name].append((time.perf_counter() - started) / repeats)
            if gpu:  # the others' share was there before
                most = torch.cuda.max_memory_allocated() - before
                peak[name] = max(peak[name], own[name] + most)
                own[name] += held(device) - before
        print(f"round {number}", file=sys.stderr, flush=True)
    rows: dict[str, dict[str, Any]] = {}
    for name, all_times in times.items():
        kept = all_times[2:]
        rows[name] = {
            "seconds": round(statistics.median(kept), 4),
            "least": round(min(kept), 4),
            "most": round(max(kept), 4),
            "times": [round(each, 4) for each in kept],
        }
        if gpu:
            rows[name]["peak GiB"] = round(peak[name] / 2**30, 2)
    return rows


def ceiling(device: torch.device) -> dict[str, float]:
    """Rate of a large matrix product in GFLOP/s, for each kind of number."""
    size = 2048 if device.type == "cpu" else 8192
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.randn(2, size, size, device=device).to(dtype)
        times = []
        for _ in range(12):
            wait(device)
            started = time.perf_counter()
            a @ b
            wait(device)
            times.append(time.perf_counter() - started)
        found[str(dtype).removeprefix("torch.")] = round(
            2 * size**3 / statistics.median(times[2:]) / 1e9, 1
        )
    return found


def operations() -> float:
    """GFLOP of one forward pass for one image."""
    config = preset("cifar10").model
    with torch.device("meta"):
        net = UNet(config)
        z, t = torch.empty(1, 3, 32, 32), torch.ones(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        net(z, t)
    return counter.get_total_flops() / 1e9


def profile(step: Step) -> dict[str, float]:
    """Seconds of a step by kind of operation, slowest first."""
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_cpu_time_total)
    return {row.key: round(row.self_cpu_time_total / 1e6, 4) for row in rows[:16]}


def versions() -> dict[str, str]:
    """Of everything that was measured."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"ddpm_lit": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "denoising-diffusion-pytorch"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    lines = [f"{threads} threads"]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(': ')[2]}, {threads} threads"
    return lines[0]


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    # Kinds of an older measurement stay, when only some are asked for.
    before = json.loads(args.out.read_text("utf-8")) if args.only else {}
    result: dict[str, Any] = before or {
        "command": f"python benchmarks/speed.py --device {args.device} --batch "
        f"{args.batch} --threads {args.threads} --rounds {args.rounds}",
        "commits": {},
        "versions": versions(),
        "device": device_name(device, args.threads),
        "batch": args.batch,
        "rounds": args.rounds,
        "forward GFLOP per image": round(operations(), 3),
        "ceiling GFLOP/s": ceiling(device),
    }
    for kind, makers in cases(device, args.batch).items():
        if not args.only or kind in args.only:
            result[kind] = measure(makers, device, args.rounds)
            result["commits"][kind] = commit
            if kind in ("training", "ablation"):
                for row in result[kind].values():
                    row["images/s"] = round(args.batch / row["seconds"], 1)
            args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if device.type == "cpu" and not args.only:
        step = ours(device, args.batch, autocast=True)
        step()
        result["profile of ddpm_lit, bf16"] = profile(step)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
