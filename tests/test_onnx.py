"""Networks as files of ONNX: the same answers, the whole story, one line when not."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from ddpm_lit.book.pages import Runnable, run_here
from ddpm_lit.book.plotting import Picture
from ddpm_lit.cli import main
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.hub import load_model, to_onnx
from ddpm_lit.models import save_model
from ddpm_lit.networks.unet import Upsample, build_unet
from ddpm_lit.recipes import UNetConfig
from ddpm_lit.schedules import make_schedule


def model(halved: bool = False, **how: Any) -> Denoiser:
    torch.manual_seed(0)
    config = UNetConfig(base_channels=8, groups=4, channel_multipliers=(1, 2), **how)
    net = build_unet(config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
        if halved:
            parameter.data = parameter.data.half().float()
    return Denoiser(net, make_schedule("cosine", 30), "v", size=(1, 8, 8), clip=True)


def answers(file: Path, **asked: Tensor) -> Tensor:
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(
        session.run(["answer"], {k: v.numpy() for k, v in asked.items()})[0]
    )


def test_the_file_answers_as_the_network_for_any_number_of_pictures(tmp_path) -> None:
    start = model(classes=3, dropout=0.5).train()
    file = to_onnx(start, tmp_path / "net.onnx")
    assert start.net.training, "the network itself was changed"
    for count in (1, 3):
        z, label = torch.randn(start.shape(count)), torch.arange(count)
        t = torch.randint(1, 31, (count,))
        with torch.no_grad():
            want = start.net.eval()(z, t, label=label)
        assert torch.allclose(answers(file, z=z, t=t, label=label), want, atol=1e-5)


def test_what_is_written_is_the_network_for_a_processor(tmp_path) -> None:
    start = model()
    parts = list(map(id, start.net.modules()))
    file = to_onnx(start, tmp_path / "net.onnx")
    assert "Resize" not in {node.op_type for node in onnx.load(file).graph.node}
    assert list(map(id, start.net.modules())) == parts, "the network was changed"


def test_the_file_says_what_its_answers_mean(tmp_path) -> None:
    start = model()
    file = to_onnx(start, tmp_path / "net.onnx")
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    said = {name: json.loads(value) for name, value in about.items()}
    assert said["alpha_bar"] == start.schedule.alpha_bar.tolist()
    assert (said["objective"], said["size"], said["clip"]) == ("v", [1, 8, 8], True)
    assert said["null_label"] is None, "a network without kinds has none"
    assert [put.name for put in session.get_inputs()] == ["z", "t"]


def test_half_precision_is_kept_where_it_loses_nothing(tmp_path) -> None:
    whole = to_onnx(model(), tmp_path / "whole.onnx")
    half = to_onnx(model(halved=True), tmp_path / "half.onnx")
    # But those of doubling, which the exporter has added up: sums need their digits.
    summed = [part for part in model().net.modules() if isinstance(part, Upsample)]
    counts = [sum(p.numel() for p in part.parameters()) for part in (model(), *summed)]
    weights = 4 * (counts[0] - sum(counts[1:]))
    assert whole.stat().st_size - half.stat().st_size > 0.45 * weights
    z, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 30])
    with torch.no_grad():
        want = model(halved=True).net.eval()(z, t)
    assert torch.allclose(answers(half, z=z, t=t), want, atol=1e-5)


def test_what_cannot_be_written_is_refused_in_one_line(tmp_path, monkeypatch) -> None:
    start, file = model(), tmp_path / "net.onnx"
    function = start.with_net(lambda z, t: z)
    shown = model(image_channels=1, shown="low")
    for wrong, cond, words in (
        (start, {"label": torch.zeros(2)}, "nothing called 'label'"),
        (function, {}, "not a function"),
        (shown, {}, "two examples"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            to_onnx(wrong, file, **cond)
        assert "\n" not in str(caught.value) and not file.exists()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"ddpm_lit\[onnx\]"):
        to_onnx(start, file)


def test_a_failing_exporter_leaves_the_log_as_it_was(tmp_path, monkeypatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    log = logging.getLogger("torch.onnx")
    before = log.level
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(RuntimeError):
        to_onnx(model(), tmp_path / "net.onnx")
    assert log.level == before


def test_the_command_writes_one_file(tmp_path, capsys) -> None:
    save_model(model(), tmp_path / "folder")
    out = tmp_path / "net.onnx"
    assert not main(["export", str(tmp_path / "folder"), str(out), "--to", "onnx"])
    assert str(out) in capsys.readouterr().out
    z, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 30])
    with torch.no_grad():
        want = load_model(tmp_path / "folder").net(z, t)
    assert torch.allclose(answers(out, z=z, t=t), want, atol=1e-5)


def test_a_page_gets_the_file_and_what_it_says(tmp_path) -> None:
    file = to_onnx(model(), tmp_path / "net.onnx")
    still = Picture("<svg/>", "Grey.")
    data, about = run_here(file, still, "One.")._repr_mimebundle_()
    bare, _ = Runnable({}, still)._repr_mimebundle_()
    assert bare.keys() == data.keys()
    [page] = [each for mime, each in data.items() if "ddpm-lit" in mime]
    assert page["about"]["objective"] == "v" and page["says"] == "One."
    assert data["image/svg+xml"] == "<svg/>" and about
    with pytest.raises(ValueError, match="no task"):
        run_here(file, Picture("<svg/>", "Grey."), "One.", tasks=("fly",))
