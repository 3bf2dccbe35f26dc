"""Models as folders and by name on a hub; the hub is played by this machine."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from small import small
from torch import nn

import ddpm_lit
from ddpm_lit import hub
from ddpm_lit.book.models import record_model
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.hub import from_diffusers, load_model, push_model, to_diffusers
from ddpm_lit.models import save_model
from ddpm_lit.networks.mlp import NoiseMLP
from ddpm_lit.networks.unet import UNet
from ddpm_lit.recipes import UNetConfig
from ddpm_lit.runs import train
from ddpm_lit.schedules import make_schedule

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX, NET, SCHEDULER = (
    "model_index.json",
    "unet/config.json",
    "scheduler/scheduler_config.json",
)
THEIRS = "unet/diffusion_pytorch_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def model(objective: str = "noise") -> Denoiser:
    torch.manual_seed(0)
    config = UNetConfig(in_channels=3, base_channels=8, groups=4, head_channels=4)
    net = UNet(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    how = {"size": (3, 8, 12), "variance": "beta_tilde", "clip": False}
    return Denoiser(net, make_schedule("sigmoid", 30), objective, **how)


def same(one: Denoiser, two: Denoiser) -> bool:
    z, t = torch.randn(one.shape(2)), torch.tensor([1, 30])
    settings = [(p.objective, p.size, p.variance, p.clip) for p in (one, two)]
    tables = torch.equal(one.schedule.alpha_bar, two.schedule.alpha_bar)
    kept = one.net.state_dict(), two.net.state_dict()
    weights = all(torch.equal(kept[0][k], v) for k, v in kept[1].items())
    # Where a tensor lies in memory may change the order of additions.
    answers = torch.allclose(one.net(z, t), two.net(z, t), atol=1e-6)
    return weights and answers and tables and settings[0] == settings[1]


def refused(act: Callable[[], Any], *words: str) -> None:
    """It fails with one line that has the words in it."""
    with pytest.raises((ValueError, OSError)) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def change(path: Path, **fields: Any) -> None:
    """Give other values to the fields of a JSON file; a None takes one away."""
    about = {**json.loads(path.read_text("utf-8")), **fields}
    kept = {k: v for k, v in about.items() if v is not None}
    path.write_text(json.dumps(kept), "utf-8")


@pytest.fixture
def ours(tmp_path) -> Path:
    return save_model(model(), tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path) -> Path:
    return to_diffusers(model(), tmp_path / "theirs")


# ------------------------------------------------------------------ the Hub


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A folder that plays the Hub: repositories are folders in it."""
    store = tmp_path / "hub"

    def create(repo_id: str, private: bool | None, exist_ok: bool, token: str | None):
        (store / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload(repo_id: str, folder_path: str, revision: str | None, token: str | None):
        shutil.copytree(folder_path, store / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}"

    def fetch(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        if not (store / repo_id).is_dir():
            raise OSError(f"404:\nno repository {repo_id}")
        return str(store / repo_id)

    def listed(repo_id: str, revision: str | None) -> list[str]:
        found = (store / repo_id).rglob("*")
        return [str(p.relative_to(store / repo_id)) for p in found if p.is_file()]

    asked: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "list_repo_files", listed)
    monkeypatch.setattr(huggingface_hub, "create_repo", create)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(store.__class__, "asked", asked, raising=False)
    return store


def test_a_model_goes_to_the_hub_and_comes_back(store):
    start = model("v")
    assert push_model(start, "hub:ann/digits") == "https://hub/ann/digits"
    files = sorted(p.name for p in (store / "ann/digits").iterdir())
    assert files == [CONFIG, WEIGHTS]
    assert same(start, load_model("hub:ann/digits"))
    to_diffusers(start, store / "bob/ddpm")
    assert same(start, load_model("hub:bob/ddpm"))
    assert same(start, from_diffusers("hub:bob/ddpm"))
    assert same(start, load_model("hub:bob/ddpm@a1b2c3"))
    assert {revision for _, revision, _ in store.asked} == {None, "a1b2c3"}


def test_what_cannot_be_opened_is_refused_before_its_weights_are_fetched(store):
    folder = to_diffusers(model(), store / "bob/ldm")
    change(folder / INDEX, _class_name="LDMPipeline", vqvae=["diffusers", "VQModel"])
    for load in (load_model, from_diffusers):
        refused(lambda load=load: load("hub:bob/ldm"), "vqvae", "system_from_diffusers")
    assert all(patterns == ["*.json"] for *_, patterns in store.asked)


def test_of_several_variants_one_is_fetched(store):
    folder = to_diffusers(model(), store / "bob/ddpm")
    unet, name = folder / "unet", "diffusion_pytorch_model"
    for other in ("fp16.safetensors", "non_ema.safetensors", "bin"):
        (unet / f"{name}.{other}").write_bytes(b"never read")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"never asked")
    (folder / "v1-pruned.safetensors").write_bytes(b"all in one")
    with pytest.warns(UserWarning, match="several weights"):
        load_model("hub:bob/ddpm")
    assert store.asked[-1][2] == ["*.json", "*.txt", f"unet/{name}.safetensors"]
    (unet / f"{name}.safetensors").unlink()
    shards = {"a": f"{name}.fp16-00001-of-00002.safetensors", "b": "c.safetensors"}
    (unet / f"{name}.safetensors.index.fp16.json").write_text(
        json.dumps({"weight_map": shards})
    )
    (unet / f"{name}.fp16.safetensors").unlink()
    (unet / f"{name}.bin").unlink()
    refused(lambda: load_model("hub:bob/ddpm"), "c.safetensors is missing")
    assert store.asked[-1][2][2:] == [
        f"unet/{each}" for each in sorted(shards.values())
    ]


def test_the_hubs_refusal_is_one_line(store, monkeypatch):
    refused(lambda: load_model("hub:nobody/nothing"), "hub:nobody/nothing: 404")

    def broken(**how: Any) -> None:
        raise RuntimeError("a connection\nfailed")

    monkeypatch.setattr(huggingface_hub, "create_repo", broken)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    for ask in (
        lambda: load_model("hub:ann/digits"),
        lambda: push_model(model(), "hub:ann/digits"),
    ):
        with pytest.raises(OSError, match=r"hub:ann/digits: a connection failed"):
            ask()


@pytest.mark.parametrize("name", ["hub:digits", "hub:", "hub:a/b/c", "hub:a/b@"])
def test_there_is_one_spelling_of_a_name(store, name):
    refused(lambda: load_model(name), name, "hub:OWNER/MODEL")
    for wrong in (name, "ann/digits"):
        refused(lambda wrong=wrong: push_model(model(), wrong), wrong, "OWNER/MODEL")
    assert store.asked == []


def test_what_is_not_here_is_said_before_anything_about_the_hub(store, tmp_path):
    push_model(model(), "hub:ann/digits")
    for name in ("runs/nowhere", "ann/digits", "digits", str(tmp_path / "none")):
        for load in (load_model, from_diffusers):
            with pytest.raises(FileNotFoundError, match=f"no folder {name} here"):
                load(name)
    refused(lambda: load_model("runs/nowhere"), "write hub:OWNER/MODEL")
    assert store.asked == []


def test_without_the_hubs_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(lambda: load_model("hub:ann/digits"), "ddpm_lit[hub]")
    refused(lambda: push_model(model(), "hub:ann/digits"), "ddpm_lit[hub]")
    refused(lambda: load_model("ann/digits"), "no folder ann/digits here")


# ------------------------------------------------------------------ writing


def test_saving_again_replaces_a_model_and_nothing_else(tmp_path, theirs):
    other = model("x")
    to_diffusers(other, theirs)
    assert same(other, load_model(theirs))
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("rain")
    for folder in (tmp_path / "diary", save_model(model(), tmp_path / "ours")):
        before = sorted(folder.rglob("*"))
        with pytest.raises(FileExistsError, match="new folder"):
            to_diffusers(other, folder)
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"_class_name": "StableDiffusionPipeline"},
        {"_diffusers_version": "0.42.1"},
        {"vae": ["diffusers", "AutoencoderKL"]},
    ],
)
def test_another_pipeline_is_not_written_over(theirs, fields):
    change(theirs / INDEX, **fields)
    before = (theirs / THEIRS).read_bytes()
    with pytest.raises(FileExistsError, match="new folder"):
        to_diffusers(model("x"), theirs)
    assert (theirs / THEIRS).read_bytes() == before


@pytest.mark.parametrize("name", ["unet_ema/config.json", "unet/model.fp16.bin"])
def test_a_folder_with_files_of_others_is_not_written_over(theirs, name):
    (theirs / name).parent.mkdir(exist_ok=True)
    (theirs / name).write_text("{}")
    with pytest.raises(FileExistsError, match="new folder"):
        to_diffusers(model("x"), theirs)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), SafetensorError("No space left")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(
    tmp_path, monkeypatch, error
):
    def full(named: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(hub, "save_file", full)
    act = lambda: to_diffusers(model(), tmp_path / "new")  # noqa: E731
    refused(act, str(tmp_path / "new" / THEIRS), "No space left")
    assert not [p for p in tmp_path.rglob("*") if "partial" in p.name]
    assert not (tmp_path / "new" / THEIRS).exists()
    monkeypatch.undo()
    assert same(load_model(act()), model())


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    refused(lambda: to_diffusers(model(), tmp_path / "taken"), str(tmp_path / "taken"))


def test_files_have_the_mode_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        to_diffusers(model(), tmp_path / "new")
    finally:
        os.umask(before)
    files = [p for p in (tmp_path / "new").rglob("*") if p.is_file()]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o640} and len(files) == 4


def test_only_networks_that_have_a_form_there_are_written(tmp_path):
    schedule = make_schedule("linear", 30)
    for wrong in (
        Denoiser(NoiseMLP(), schedule, size=(1,)),
        Denoiser(lambda z, t: z, schedule, size=(1, 8, 8)),
        Denoiser(model().net, schedule),
    ):
        refused(lambda wrong=wrong: to_diffusers(wrong, tmp_path / "new"), "U-Net")
    assert list(tmp_path.iterdir()) == []


def test_a_network_in_wrappers_is_written_like_itself(tmp_path):
    start = model()
    for i, net in enumerate((torch.compile(start.net), nn.DataParallel(start.net))):
        folder = to_diffusers(start.with_net(net), tmp_path / str(i))
        assert same(start, load_model(folder))


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize("objective", ["noise", "x", "v"])
def test_every_objective_goes_both_ways(tmp_path, objective):
    start = model(objective)
    for folder in (
        save_model(start, tmp_path / "ours"),
        to_diffusers(start, tmp_path / "theirs"),
    ):
        found = load_model(folder)
        assert same(start, found) and not found.training
        assert not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_can_be_sampled_from(tmp_path, dtype):
    start = model()
    start.net.to(dtype)
    save_model(start, tmp_path / "ours")
    to_diffusers(start, tmp_path / "theirs")
    for name in ("ours", "theirs"):
        found = load_model(tmp_path / name)
        answer = found.net(torch.randn(found.shape(2)), torch.tensor([1, 30]))
        assert answer.dtype == torch.float32
        assert torch.equal(found.net.conv_in.weight, start.net.conv_in.weight.float())


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        (NET, "layers_per_block", "two"),
        (NET, "block_out_channels", 3),
        (NET, "norm_num_groups", 7),
        (NET, "sample_size", [9, 12]),
        (NET, "sample_size", "64"),
        (NET, "sample_size", 2.5),
        (NET, "_class_name", ["UNet2DModel"]),
        (NET, "_class_name", "UNet2DConditionModel"),
        (NET, "down_block_types", 5),
        (NET, "a_field_of_tomorrow", 1),
        (SCHEDULER, "trained_betas", 3),
        (SCHEDULER, "trained_betas", [0.5, 2.0]),
        (SCHEDULER, "_class_name", "EDMEulerScheduler"),
        (SCHEDULER, "a_field_of_tomorrow", 1),
    ],
)
def test_settings_that_do_not_fit_end_in_one_line(theirs, file, field, value):
    change(theirs / file, **{field: value})
    refused(lambda: load_model(theirs), str(theirs))


@pytest.mark.parametrize("file", [CONFIG, INDEX, NET, SCHEDULER])
def test_json_is_read_or_refused(tmp_path, ours, theirs, file):
    folder = ours if file == CONFIG else theirs
    path, start = folder / file, model()
    text = path.read_text("utf-8")
    path.write_text("\ufeff" + text, "utf-8")
    assert same(start, load_model(folder)), "a byte-order mark was not read over"
    for wrong in ("{", "", "[]", "3", "null", text + "}", text + text, "\0"):
        path.write_text(wrong, "utf-8")
        refused(lambda: load_model(folder), str(path))
    for wrong in (b"\xff\xfe{}", text.encode("utf-16")):
        path.write_bytes(wrong)
        refused(lambda: load_model(folder), str(path), "is not JSON")
    path.write_text(POINTER)
    refused(lambda: load_model(folder), str(path), "git-lfs pointer", "git lfs pull")
    path.unlink()
    if file != INDEX:
        name = path.name if file == SCHEDULER else str(path)
        # Without its own page a folder of ours looks like one of theirs.
        refused(lambda: load_model(folder), name)


@pytest.mark.parametrize(
    "file", [WEIGHTS, THEIRS, THEIRS.replace(".safe", ".fp16.safe")]
)
def test_files_of_weights_are_read_or_refused(ours, theirs, file):
    folder = ours if file == WEIGHTS else theirs
    path = folder / file
    if folder == theirs:
        (theirs / THEIRS).rename(path)
    whole = path.read_bytes()
    assert same(model(), load_model(folder))
    for wrong in (b"", b"junk", whole[:100], whole[:-4], whole + b"\0"):
        path.write_bytes(wrong)
        refused(lambda: load_model(folder), str(path), "is damaged")
    path.write_text(POINTER)
    refused(lambda: load_model(folder), str(path), "git-lfs pointer", "git lfs pull")
    path.unlink()
    refused(lambda: load_model(folder), path.parent.name, "safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_none_is_an_error_with_its_tensors_name(ours, theirs, value):
    for path, name in (
        (ours / WEIGHTS, "conv_out.weight"),
        (theirs / THEIRS, "mid_block.resnets.0.conv1.weight"),
    ):
        named = load_file(path)
        named[name].view(-1)[3] = value
        save_file(named, path)
    refused(lambda: load_model(ours), str(ours), "conv_out.weight", "NaN")
    refused(lambda: load_model(theirs), str(theirs), "resnets.0.conv1.weight", "NaN")


def changed(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The weights of a folder with one fault each, and the tensor at fault."""
    whole = load_file(path)
    yield "conv_in.bias", {k: v for k, v in whole.items() if k != "conv_in.bias"}
    yield "conv_in.gain", {**whole, "conv_in.gain": torch.ones(1)}
    yield "conv_in.bias", {**whole, "conv_in.bias": torch.ones(3)}


def test_weights_of_another_network_are_named(ours, theirs):
    for path, folder in ((ours / WEIGHTS, ours), (theirs / THEIRS, theirs)):
        for name, wrong in list(changed(path)):
            save_file(wrong, path)
            refused(lambda folder=folder: load_model(folder), str(folder), name)
    named = dict(changed(theirs / THEIRS))
    wrong = {**named["conv_in.gain"], "conv_in.bias": torch.ones(8, dtype=torch.int8)}
    del wrong["conv_in.gain"]
    save_file(wrong, theirs / THEIRS)
    refused(lambda: load_model(theirs), "conv_in.bias", "whole numbers")
    twice = {
        **wrong,
        "conv_in.bias": torch.ones(8),
        "module.conv_in.bias": torch.ones(8),
    }
    save_file(twice, theirs / THEIRS)
    refused(lambda: load_model(theirs), "conv_in.bias twice")


def test_pickles_hold_weights_or_are_refused(theirs):
    named = load_file(theirs / THEIRS)
    (theirs / THEIRS).unlink()
    path = theirs / "unet" / "diffusion_pytorch_model.bin"
    torch.save(named, path)
    assert same(model(), load_model(theirs))
    for wrong in ([1, 2], {"conv_in.bias": [1.0]}, {}, torch.ones(3), nn.Linear(1, 1)):
        torch.save(wrong, path)
        refused(lambda: load_model(theirs), str(path))
    for junk in (b"", b"junk", b"\x80\x04."):
        path.write_bytes(junk)
        refused(lambda: load_model(theirs), str(path), "is damaged")
    path.write_text(POINTER)
    refused(lambda: load_model(theirs), str(path), "git-lfs pointer")


def test_shards_are_those_of_their_index(theirs):
    named = load_file(theirs / THEIRS)
    (theirs / THEIRS).unlink()
    half, unet = len(named) // 2, theirs / "unet"
    shards = [dict(list(named.items())[:half]), dict(list(named.items())[half:])]
    map_ = {}
    for i, shard in enumerate(shards, 1):
        name = f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        save_file(shard, unet / name)
        map_ |= dict.fromkeys(shard, name)
    refused(lambda: load_model(theirs), "no weights", "unet")  # no index yet
    for index in (
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ):
        path = unet / index
        path.write_text(json.dumps({"metadata": {}, "weight_map": map_}))
        assert same(model(), load_model(theirs))
        for wrong in ({}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": 3}):
            path.write_text(json.dumps(wrong))
            refused(lambda path=path: load_model(theirs), str(path), "weight_map")
        # Only files beside the index are read.
        path.write_text(json.dumps({"weight_map": {"a": "../config.json"}}))
        refused(lambda: load_model(theirs), str(unet / "config.json"))
        path.unlink()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"_class_name": None}, ["None"]),
        ({"_class_name": "StableDiffusionPipeline"}, ["StableDiffusionPipeline"]),
        ({"_class_name": "KarrasVePipeline"}, ["KarrasVePipeline"]),
        ({"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}, ["vqvae"]),
        ({"vae": ["diffusers", "AutoencoderKL"]}, ["vae", "latents"]),
        ({"text_encoder": ["transformers", "CLIPTextModel"]}, ["text_encoder"]),
        ({"requires_safety_checker": True}, ["requires_safety_checker"]),
        ({"unet": ["diffusers", "UNet2DConditionModel"]}, ["UNet2DConditionModel"]),
        ({"scheduler": ["diffusers", "EulerDiscreteScheduler"]}, ["EulerDiscrete"]),
        ({"scheduler": 3}, ["3", "scheduler"]),
    ],
)
def test_a_pipeline_is_a_network_and_a_scheduler(theirs, fields, words):
    change(theirs / INDEX, **fields)
    refused(lambda: load_model(theirs), *words)


def test_an_absent_part_and_a_missing_index_do_no_harm(theirs):
    change(theirs / INDEX, vae=[None, None], _diffusers_version="0.1.1")
    assert same(model(), load_model(theirs))
    (theirs / INDEX).unlink()
    assert same(model(), load_model(theirs))


def first_form(folder: Path) -> dict[str, Any]:
    """Write the page of words as the first form had it."""
    about = {
        "library_name": "ddpm_lit",
        "model": asdict(model().net.config),
        "image_size": [8, 12],
        "variance": "beta_tilde",
        "clip": False,
    }
    (folder / CONFIG).write_text(json.dumps(about))
    return about


def test_a_model_in_our_first_form_is_opened(ours):
    first_form(ours)
    assert same(model(), load_model(ours))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("model", 3),
        ("model", {}),
        ("image_size", None),
        ("image_size", 3),
        ("variance", None),
        ("variance", 3),
        ("clip", None),
        ("library_name", None),
        ("library_name", "another"),
    ],
)
def test_a_first_form_that_is_damaged_is_named(ours, field, value):
    about = first_form(ours)
    change(ours / CONFIG, **{field: value})
    refused(lambda: load_model(ours), str(ours))
    (ours / CONFIG).write_text(json.dumps({**about, "colour": "red"}))
    refused(lambda: load_model(ours), "colour")


@pytest.mark.parametrize("form", [0, 3, "2", [2]])
def test_a_form_of_tomorrow_is_refused(ours, form):
    change(ours / CONFIG, format=form)
    refused(lambda: load_model(ours), "format", "update ddpm_lit")


@pytest.mark.parametrize("field", ["objective", "size", "clip", "network", "model"])
def test_a_description_with_a_hole_is_refused(ours, field):
    change(ours / CONFIG, **{field: None})
    refused(lambda: load_model(ours), str(ours), field)


def test_a_network_of_your_own_takes_its_weights(tmp_path, theirs):
    torch.manual_seed(1)
    start = Denoiser(NoiseMLP(), make_schedule("linear", 30), "x", size=(1,))
    save_model(start, tmp_path / "mlp")
    refused(lambda: load_model(tmp_path / "mlp"), "NoiseMLP", "net")
    assert same(start, load_model(tmp_path / "mlp", net=NoiseMLP()))
    refused(lambda: load_model(theirs, net=NoiseMLP()), "diffusers")


def test_a_run_and_a_checkpoint_are_read_as_runs_are(tmp_path, ours, monkeypatch):
    start, asked = model(), []

    def read(
        path: Path, average: bool = True, net: nn.Module | None = None
    ) -> Denoiser:
        asked.append((path, average, net))
        return start

    monkeypatch.setattr(hub, "holds_run", lambda folder: folder == tmp_path)
    monkeypatch.setattr(hub, "read_run", read)
    file, net = tmp_path / "checkpoint.safetensors", NoiseMLP()
    file.write_bytes(b"")
    assert load_model(tmp_path) is start
    assert load_model(str(file), average=False, net=net) is start
    assert asked == [(tmp_path, True, None), (file, False, net)]
    assert load_model(ours) is not start


@pytest.mark.parametrize("device", ["nowhere", "meta", "cuda:99"])
def test_a_device_that_is_not_here_is_named_first(ours, theirs, device):
    for load in (
        lambda: load_model(ours, device=device),
        lambda: load_model("runs/nowhere", device=device),
        lambda: from_diffusers(theirs, device=device),
    ):
        refused(load, device)


def test_an_empty_folder_is_no_model(tmp_path):
    refused(lambda: load_model(tmp_path), str(tmp_path / CONFIG), "missing")


# ------------------------------------------------------------------ of the package


@pytest.mark.parametrize(("name", "seven"), [("fashion", "sneaker"), ("mnist", "")])
def test_a_model_of_the_package_opens_by_name(name, seven):
    model = load_model(f"book:{name}")
    assert model.size == (1, 28, 28) and model.conditions == ("label",)
    assert "".join(model.net.config.label_names[7:8]) == seven
    assert sum(p.numel() for p in model.parameters()) <= 1_500_000
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(OSError, match="choose book:fashion or book:mnist"):
        load_model("book:nothing")


def test_the_models_of_the_package_are_small_and_in_half_precision():
    folder = Path(ddpm_lit.__file__).parent / "book"
    names = sorted(path.parent.name for path in folder.glob("*/config.json"))
    assert names == ["fashion", "mnist"]
    for name in names:
        assert (folder / name / "model.safetensors").stat().st_size < 3_000_000


def test_a_run_is_recorded_in_half_precision(tmp_path):
    recipe = small(tmp_path / "run", train_steps=2, save_every=2)
    trained = train(recipe, progress=False)
    folder = record_model(tmp_path / "run", "name", tmp_path / "package")
    assert folder == tmp_path / "package" / "name"
    kept = load_model(folder)
    for mine, theirs in zip(kept.parameters(), trained.parameters(), strict=True):
        assert torch.equal(mine, theirs.half().float())
