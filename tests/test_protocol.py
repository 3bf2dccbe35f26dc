"""The scores of papers, with a stand-in for the package that computes them."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import refusal, small
from torch.utils.data import DataLoader, Dataset

import ddpm_lit.evaluation as evaluation
import ddpm_lit.output as output
from ddpm_lit.cli import main
from ddpm_lit.evaluation import (
    LEAST,
    PUBLISHED,
    check_sets,
    inception_weights,
    load_fidelity,
    published_scores,
)
from ddpm_lit.runs import train

FOUND = {
    "inception_score_mean": 9.0,
    "inception_score_std": 0.1,
    "frechet_inception_distance": 3.0,
    "kernel_inception_distance_mean": 0.002,
    "kernel_inception_distance_std": 0.001,
    "precision": 0.7,
    "recall": 0.6,
    "f_score": 0.65,
}


@pytest.fixture
def asked(monkeypatch) -> list[dict[str, Any]]:
    """What a stand-in for torch-fidelity was asked."""
    calls: list[dict[str, Any]] = []

    def calculate_metrics(**how: Any) -> dict[str, float]:
        calls.append(how)
        return FOUND

    package = SimpleNamespace(calculate_metrics=calculate_metrics)
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    return calls


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A file that passes for Inception's weights."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(evaluation, "INCEPTION_SHA256", sha256)
    return path


def pictures(count: int, seed: int, channels: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    shape = (count, channels, 4, 4)
    return torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_made_pictures_come_first_as_bytes_in_three_colours(asked, weights, channels):
    made, real = pictures(2049, 0, channels), pictures(2050, 1, channels)
    scores = published_scores(made, real, weights)
    (how,) = asked
    for name, images in (("input1", made), ("input2", real)):
        data = how[name]
        assert isinstance(data, Dataset) and len(data) == len(images)
        batch = next(iter(DataLoader(data, batch_size=5)))
        assert batch.dtype == torch.uint8 and batch.shape == (5, 3, 4, 4)
        assert torch.equal(batch, images[:5].expand(-1, 3, -1, -1))
    assert how["feature_extractor_weights_path"] == str(weights)
    assert how.get("feature_extractor") == "inception-v3-compat"
    assert all(how[score] for score in ("fid", "kid", "prc", "isc"))
    assert not how["cuda"] and not how["verbose"] and how["save_cpu_ram"]
    assert scores == {
        "pictures": 2049,
        "against": 2050,
        "fid": 3.0,
        "kid": 0.002,
        "kid_spread": 0.001,
        "precision": 0.7,
        "recall": 0.6,
        "inception": 9.0,
    }


def test_what_inception_cannot_score_is_refused_in_one_line(asked, weights):
    fine, two = pictures(2049, 0), pictures(2049, 1, 2)
    for made, real, words in (
        (fine[:2048], fine, "2048 made and 2049 real pictures are too few"),
        (fine, fine[:2048], "at least 2049 and 2049 are needed"),
        (fine[:, :, :2], fine, "(1, 2, 4) and (1, 4, 4) cannot be compared"),
        (two, two, "torch.uint8 with 2 channels"),
        (fine.float(), fine, "torch.float32 with 1 channels"),
    ):
        with pytest.raises(ValueError) as caught:
            published_scores(made, real, weights)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not asked
    for least in (LEAST, PUBLISHED):
        check_sets((least[0], 1, 2), (least[1], 1, 2), least)


@pytest.mark.parametrize("error", [ImportError("No module"), RuntimeError("nms")])
def test_a_package_that_cannot_be_loaded_says_what_to_install(monkeypatch, error):
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "torch_fidelity":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    with pytest.raises(ValueError, match=r"'ddpm_lit\[evaluate\]'") as caught:
        load_fidelity()
    assert str(error) in str(caught.value)


def test_other_weights_are_refused_unopened(asked, tmp_path):
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(b"another")
    with pytest.raises(ValueError, match="not with 6726825d"):
        inception_weights(path)
    with pytest.raises(ValueError, match="not with 6726825d"):
        published_scores(pictures(2049, 0), pictures(2049, 1), path)
    with pytest.raises(OSError, match="nowhere"):
        inception_weights(tmp_path / "nowhere.pth")
    assert not asked


def test_the_name_of_the_weights_holds_their_sum():
    name = evaluation.INCEPTION.rpartition("/")[2]
    assert evaluation.INCEPTION_SHA256[:8] in name
    assert len(evaluation.INCEPTION_SHA256) == 64


# ------------------------------------------------------------------ command line


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(small(out, train_steps=2), progress=False)
    return out


def test_what_cannot_be_scored_is_refused_before_a_picture_is_made(
    run, weights, asked, monkeypatch, capsys, tmp_path
):
    def sampled(*_: Any, **__: Any) -> None:
        raise AssertionError("pictures were made before the refusal")

    monkeypatch.setattr(output, "draw_images", sampled)
    inception = f"inception:{weights}"
    for words, said in (
        (["--num=39"], "39 made and 1438 real pictures are too few; at least 40"),
        (["--num=2048", "--protocol", inception], "at least 2049 and 2049"),
        (["--num=2049", "--protocol", inception], "1438 real pictures are too few"),
        (["--protocol=inception:nowhere"], "nowhere"),
        (["--protocol", f"inception:{run / 'recipe.json'}"], "sha256 begins with"),
        (["--data=folder:photos", "--num=40"], "photos"),
    ):
        assert said in refusal(capsys, "evaluate", run, *words)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    said = refusal(capsys, "evaluate", run, "--protocol", inception)
    assert "pip install 'ddpm_lit[evaluate]'" in said
    assert not asked


def test_the_command_line_writes_the_scores_of_papers(
    run, weights, asked, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(evaluation, "PUBLISHED", (4, 4))
    out = tmp_path / "scores.json"
    words = ["evaluate", str(run), "--num=5", "--steps=1", "--quiet", f"--out={out}"]
    assert main([*words, f"--protocol=inception:{weights}"]) == 0
    (how,) = asked
    assert len(how["input1"]) == 5 and len(how["input2"]) == 1438
    told = json.loads(out.read_text())
    assert told["protocol"] == f"inception:{weights}"
    assert told["scores"]["made"]["fid"] == FOUND["frechet_inception_distance"]
    assert "fid" in capsys.readouterr().out
