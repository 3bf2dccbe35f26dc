"""Models as folders and by name on a hub; the hub is played by this machine."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

from ddpm_lit.cli import build_parser, run_export
from ddpm_lit.hub import Pretrained, load_model, to_diffusers
from ddpm_lit.networks.unet import UNet, UNetConfig
from ddpm_lit.recipes import preset
from ddpm_lit.scale import train_at_scale
from ddpm_lit.schedules import make_schedule
from ddpm_lit.training import TrainState, save_checkpoint


def model() -> Pretrained:
    torch.manual_seed(0)
    config = UNetConfig(in_channels=3, base_channels=8, groups=4, head_channels=4)
    net = UNet(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Pretrained(net, make_schedule("sigmoid", 30), (8, 12), "beta_tilde", False)


def same(one: Pretrained, two: Pretrained) -> bool:
    z, t = torch.randn(one.shape(2)), torch.tensor([1, 30])
    settings = [(p.image_size, p.variance, p.clip) for p in (one, two)]
    tables = torch.equal(one.schedule.alpha_bar, two.schedule.alpha_bar)
    answers = torch.equal(one.model(z, t), two.model(z, t))
    return answers and tables and settings[0] == settings[1]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A folder that plays the Hub: repositories are folders in it."""
    store = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, name: str, private: bool | None, exist_ok: bool) -> None:
            (store / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str):
            shutil.copytree(folder_path, store / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}"

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        if not (store / name).is_dir():
            raise OSError(f"404: no repository {name}")
        return str(store / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    return store


def test_the_hubs_three_verbs(hub):
    start = model()
    assert start.push_to_hub("ann/digits") == "https://hub/ann/digits"
    files = sorted(p.name for p in (hub / "ann/digits").iterdir())
    assert files == ["config.json", "model.safetensors"]
    assert same(start, Pretrained.from_pretrained("ann/digits"))
    assert same(start, load_model("ann/digits"))
    to_diffusers(
        start.model,
        start.schedule,
        hub / "bob/ddpm",
        image_size=(8, 12),
        variance="beta_tilde",
        clip=False,
    )
    assert same(start, load_model("bob/ddpm"))
    with pytest.raises(OSError, match="404"):
        load_model("nobody/nothing")


def test_saving_again_replaces_a_model_and_nothing_else(tmp_path):
    start = model()
    start.save_pretrained(tmp_path / "model")
    start.save_pretrained(tmp_path / "model")
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("rain")
    for write in (
        lambda: start.save_pretrained(tmp_path / "diary"),
        lambda: to_diffusers(start.model, start.schedule, tmp_path / "diary"),
        lambda: to_diffusers(start.model, start.schedule, tmp_path / "model"),
    ):
        with pytest.raises(FileExistsError, match="new folder"):
            write()
    assert [p.name for p in (tmp_path / "diary").iterdir()] == ["monday.txt"]


def test_another_pipeline_is_not_written_over(tmp_path):
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline"}')
    start = model()
    with pytest.raises(FileExistsError, match="new folder"):
        to_diffusers(start.model, start.schedule, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["model_index.json"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_can_be_sampled_from(tmp_path, dtype):
    start = model()
    start.model.to(dtype)
    start.save_pretrained(tmp_path / "ours")
    to_diffusers(start.model, start.schedule, tmp_path / "theirs", image_size=(8, 12))
    for name in ("ours", "theirs"):
        found = load_model(tmp_path / name)
        answer = found.model(torch.randn(found.shape(2)), torch.tensor([1, 30]))
        assert answer.dtype == torch.float32
        kept = found.model.conv_in.weight
        assert torch.equal(kept, start.model.conv_in.weight.float())


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("unet/config.json", "layers_per_block", "two"),
        ("unet/config.json", "block_out_channels", 3),
        ("scheduler/scheduler_config.json", "trained_betas", 3),
    ],
)
def test_settings_of_the_wrong_kind_end_in_one_line(tmp_path, file, field, value):
    start = model()
    to_diffusers(start.model, start.schedule, tmp_path / "model", image_size=(8, 12))
    path = tmp_path / "model" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ValueError):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", None, "is missing"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "holds no settings"),
        ("config.json", '{"library_name": "ddpm_lit"}', "is damaged"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", "junk", "is damaged"),
    ],
)
def test_damaged_models_are_named(tmp_path, file, content, reason):
    model().save_pretrained(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises((ValueError, OSError), match=reason):
        Pretrained.from_pretrained(tmp_path)


def test_weights_of_another_network_are_named(tmp_path):
    model().save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    about["model"]["base_channels"] = 16
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="damaged"):
        Pretrained.from_pretrained(tmp_path)


def test_what_is_nowhere_is_named(tmp_path):
    for name in (tmp_path / "none", "runs/no/such"):
        with pytest.raises(FileNotFoundError, match="train one with"):
            load_model(name)


def test_without_the_hubs_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"ddpm_lit\[hub\]"):
        load_model("ann/digits")
    with pytest.raises(ValueError, match=r"ddpm_lit\[hub\]"):
        model().push_to_hub("ann/digits")


def test_a_run_is_a_model_with_the_settings_of_its_recipe(tmp_path):
    recipe = preset(
        "digits",
        out=str(tmp_path / "run"),
        steps=2,
        variance="beta",
        base_channels=8,
        groups=4,
        T=20,
        tensorboard=False,
        device="cpu",
    )
    trained = train_at_scale(recipe, progress=False)
    found = load_model(tmp_path / "run")
    assert found.variance == "beta" and found.image_size == (8, 8)
    again = load_model(tmp_path / "run" / "checkpoint.safetensors")
    assert same(found, again)
    z, t = torch.randn(found.shape(2)), torch.tensor([1, 20])
    assert torch.allclose(found.model(z, t), trained.model(z, t), atol=1e-6)


def test_a_checkpoint_of_chapter_8_is_a_model_too(tmp_path):
    config = preset("digits", out=str(tmp_path), T=20).train
    state = TrainState.fresh(config, torch.device("cpu"))
    sized = type(config)(**{**vars(config), "image_size": (8, 8)})
    save_checkpoint(state, sized, make_schedule("cosine", 20))
    assert load_model(tmp_path).schedule.T == 20


@pytest.mark.parametrize("form", ["diffusers", "hub"])
def test_a_run_is_exported_in_both_forms(tmp_path, form):
    start = model()
    start.save_pretrained(tmp_path / "start")
    words = ["export", str(tmp_path / "start"), str(tmp_path / "out"), "--to", form]
    run_export(build_parser().parse_args(words))
    assert same(start, load_model(tmp_path / "out"))
