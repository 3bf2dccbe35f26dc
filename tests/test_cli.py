"""The command line: what it means, what it refuses, and what it leaves."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small import (
    SMALL,
    WORDS,
    command,
    different,
    environment,
    finish,
    partials,
    refusal,
    small,
    tensors,
    wait_until,
)

import ddpm_lit
import ddpm_lit.output as output
from ddpm_lit.cli import (
    DERIVED,
    _labels,
    build_parser,
    main,
    run_edit,
    run_evaluate,
    run_export,
    run_info,
    run_inpaint,
    run_sample,
    run_train,
    run_upscale,
)
from ddpm_lit.data import load_digits
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.guidance import between
from ddpm_lit.inpainting import filled, resampled
from ddpm_lit.machine import Machine
from ddpm_lit.models import WEIGHTS, read_model, save_model
from ddpm_lit.networks.unet import UNet, build_unet
from ddpm_lit.output import (
    JOB,
    DeviceNoise,
    _share_of,
    check_output,
    draw_images,
    make_pictures,
    missing_pictures,
    write_samples,
)
from ddpm_lit.recipes import Recipe, UNetConfig, preset
from ddpm_lit.runs import (
    CHECKPOINT,
    RECIPE,
    build_denoiser,
    read_head,
    read_recipe,
    read_run,
    state_tensors,
    train,
)
from ddpm_lit.samplers import ddim, ddpm
from ddpm_lit.schedules import make_schedule
from ddpm_lit.team import Launch, Team
from ddpm_lit.training import State, fit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a small run, which no test changes."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(small(out), progress=False)
    return out


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_LIT_DATA", str(tmp_path / "cache"))


def do(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0


# ------------------------------------------------------------------ one training


def test_command_line_python_recipe_and_loop_give_the_same_bits(tmp_path):
    how = {"dropout": 0.1, "flips": True, "train_steps": 20}
    train(small(tmp_path / "python", **how), progress=False)
    words = ["--dropout=0.1", "--flips", "--train-steps=20", "--quiet"]
    do("train", *WORDS, *words, f"--out={tmp_path / 'words'}")
    for name in ("words", "words/recipe.json", f"words/{CHECKPOINT}"):
        again = f"--out={tmp_path / 'again'}"
        do("train", f"--recipe={tmp_path / name}", again, "--quiet", "--overwrite")
        assert not different(tmp_path / "words", tmp_path / "again")
    assert not different(tmp_path / "python", tmp_path / "words")

    recipe = read_recipe(tmp_path / "python")
    data = load_digits()
    data = type(data)(data.images, data.cond, flips=True)
    team = Team(CPU)
    state = State.fresh(build_denoiser(recipe, data), recipe.optim, team)
    list(fit(state, data, recipe.optim, team))
    named = tensors(tmp_path / "python")
    assert all(torch.equal(v, named[k]) for k, v in state_tensors(state).items())


def test_a_recipe_that_is_not_the_runs_is_not_passed_over(tmp_path, capsys):
    for name, more in (("one", {}), ("two", {"dropout": 0.3})):
        train(small(tmp_path / name, train_steps=4, **more), progress=False)
    words = [f"--recipe={tmp_path / 'two'}", f"--out={tmp_path / 'one'}", "--resume"]
    assert "dropout was 0.0 and is now 0.3" in refusal(capsys, "train", *words)


def test_the_plain_loop_of_chapter_8_is_a_run_without_switches(tmp_path):
    plain = {"subpixel": False, "bit_dropout": False, "sdpa": True}
    recipe = small(tmp_path / "run", **plain, train_steps=10, dropout=0.1)
    train(recipe, progress=False)
    state = State.fresh(
        build_denoiser(recipe, load_digits()), recipe.optim, Machine("cpu")
    )
    list(fit(state, load_digits(), recipe.optim))
    named = tensors(tmp_path / "run")
    assert all(torch.equal(v, named[k]) for k, v in state_tensors(state).items())


def test_the_verbs_can_be_called_by_their_names(tmp_path, trained, files, capsys):
    def words(*given: str) -> argparse.Namespace:
        return build_parser().parse_args(list(given))

    out = str(tmp_path / "run")
    run_train(words("train", f"--out={out}", "--train-steps=2", *WORDS, "--quiet"))
    run_sample(words("sample", out, "--num=2", f"--out={tmp_path / 'grid.png'}"))

    def changes(verb: str, picture: str, *more: str) -> argparse.Namespace:
        sheet = f"--out={tmp_path / verb}.png"
        given = [verb, out, str(files / picture), *more, sheet]
        return words(*given, "--num=2", "--quiet")

    run_edit(changes("edit", "digit.png"))
    run_inpaint(changes("inpaint", "digit.png", f"--mask={files / 'mask.png'}"))
    run_upscale(changes("upscale", "small.png"))
    assert all((tmp_path / f"{v}.png").exists() for v in ("edit", "inpaint", "upscale"))
    scores = str(tmp_path / "scores.json")
    few = ("--num=40", "--steps=2", "--sampler=ab2", f"--out={scores}", "--quiet")
    run_evaluate(words("evaluate", out, *few))
    told = json.loads(Path(scores).read_text())
    assert told["sampler"] == "ab2" and told["scores"]["made"]["pictures"] == 40
    run_info(words("info", out))
    run_export(words("export", out, str(tmp_path / "model"), "--to=folder"))
    assert "step 2 of 2" in capsys.readouterr().out
    named, _ = read_model(tmp_path / "model").net.state_dict(), 0
    assert all(
        torch.equal(v, named[k]) for k, v in read_run(out).net.state_dict().items()
    )


# ------------------------------------------------------------------ labels


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Path:
    """A run that was told labels: pictures of folders, bright cats and dark dogs."""
    place = tmp_path_factory.mktemp("told")
    for name, grey in (("cat", 230), ("dog", 20)):
        (place / "pets" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("L", (8, 8), grey + i).save(place / f"pets/{name}/{i}.png")
    recipe = small(place / "run", data=f"folder:{place / 'pets'}", labels=True)
    train(
        recipe.changed(train_steps=400, objective="v", save_every=400), progress=False
    )
    return place / "run"


def brightness(path: Path) -> np.ndarray:
    """Mean of each picture of a file."""
    return np.load(path)["arr_0"].mean((1, 2, 3))


def test_a_model_is_told_labels_by_name_and_by_number(tmp_path, told, capsys):
    config = read_run(told).net.config
    assert config.label_names == ("cat", "dog") and config.null_label
    data = told.parent / "zoo"
    for name in ("bird", "cat", "dog"):
        (data / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            Image.new("L", (8, 8), 7 * i).save(data / name / f"{i}.png")
    words = ["evaluate", str(told), f"--data=folder:{data}", "--num=40", "--quiet"]
    assert main(words) == 2
    assert "other labels than cat, dog" in capsys.readouterr().err
    for asked in ("dog,cat", "1,0"):
        out = tmp_path / f"{asked}.npz"
        words = ["--label", asked, "--num=12", f"--out={out}", "--quiet"]
        assert main(["sample", str(told), *words]) == 0
        dark, bright = brightness(out).reshape(6, 2).T
        assert dark.mean() + 50 < bright.mean(), "the labels are not obeyed"
    assert (tmp_path / "1,0.npz").read_bytes() == (
        tmp_path / "dog,cat.npz"
    ).read_bytes()
    for words, message in (
        (["--label=cow"], "'cow' is none of cat, dog"),
        (["--label="], "'' is none of cat, dog"),
        (["--guidance=2"], "must be told what to show"),
    ):
        assert message in refusal(capsys, "sample", str(told), *words)


def test_guidance_is_a_part_of_the_job(tmp_path, told, capsys):
    words = ["sample", str(told), "--label=cat", "--num=3", f"--out={tmp_path / 'a'}"]
    assert main([*words, "--guidance=2", "--quiet"]) == 0
    assert "scale" in refusal(capsys, *words, "--guidance=3")
    assert "scale: 2.0, now None" in refusal(capsys, *words)


def test_labels_that_are_always_told_cannot_be_guided(tmp_path, capsys):
    train(small(tmp_path / "run", labels=True, drop=0.0, train_steps=2), progress=False)
    model = str(tmp_path / "run")
    words = ["--label=3", "--guidance=2", f"--out={tmp_path / 'x.png'}"]
    assert "--guidance needs" in refusal(capsys, "sample", model, *words)
    assert "must be told what" in refusal(capsys, "sample", model)


def test_labels_resume_and_own_networks(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small(whole, labels=True, train_steps=12), progress=False)
    for steps in (6, 12):
        recipe = small(parts, labels=True, train_steps=12, save_every=6)
        kept = recipe.changed(train_steps=steps, flat_fraction=1.0)
        train(kept, progress=False, resume=steps == 12)
    train(
        small(whole, labels=True, train_steps=12, save_every=6).changed(
            flat_fraction=1.0
        ),
        progress=False,
        overwrite=True,
    )
    assert not different(whole, parts)
    plain = build_denoiser(small(tmp_path / "x"), load_digits())
    with pytest.raises(ValueError, match="no label can be told"):
        train(small(tmp_path / "x", labels=True), denoiser=plain, progress=False)


# ------------------------------------------------------------------ pictures


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A digit, the same in small, and masks."""
    place = tmp_path_factory.mktemp("files")
    digit = load_digits("test").images[3, 0]
    Image.fromarray(digit.numpy()).save(place / "digit.png")
    small = digit.reshape(4, 2, 4, 2).float().mean((1, 3))
    Image.fromarray(small.to(torch.uint8).numpy()).save(place / "small.png")
    Image.new("L", (5, 5)).save(place / "odd.png")
    hole = Image.new("L", (8, 8))
    hole.save(place / "whole.png")
    hole.paste(255, (4, 0, 8, 8))
    hole.save(place / "mask.png")
    return place


def pictures(path: Path) -> np.ndarray:
    return np.load(path)["arr_0"].squeeze(-1)


def test_strength_one_is_a_sample_and_less_keeps_some(tmp_path, trained, files):
    made = {}
    for words in (["sample"], ["edit", "1"], ["edit", "0.1"]):
        out = tmp_path / f"{'-'.join(words)}.npz"
        given = [words[0], str(trained), f"--out={out}", "--num=3", "--quiet"]
        if len(words) > 1:
            given += [str(files / "digit.png"), f"--strength={words[1]}"]
        assert main(given) == 0
        made["-".join(words)] = pictures(out).astype(float)
    assert np.array_equal(made["sample"], made["edit-1"])
    digit = np.asarray(Image.open(files / "digit.png"), float)
    near, far = (np.abs(made[f"edit-{s}"] - digit).mean() for s in ("0.1", "1"))
    assert near < far / 2, (near, far)


@pytest.mark.parametrize("fill", [False, True])
def test_what_is_known_stays_exactly(tmp_path, files, fill):
    train(small(tmp_path / "run", fill=fill, train_steps=3), progress=False)
    words = [str(files / "digit.png"), f"--mask={files / 'mask.png'}", "--num=3"]
    again = ["--resamples=2", "--jump=2", "--sampler=ddpm"]
    out = tmp_path / "filled.npz"
    assert main(["inpaint", str(tmp_path / "run"), *words, *again, f"--out={out}"]) == 0
    digit = np.asarray(Image.open(files / "digit.png"))
    made = pictures(out)
    assert np.array_equal(made[..., :4], np.broadcast_to(digit[:, :4], (3, 8, 4)))
    assert len({each.tobytes() for each in made[..., 4:]}) == 3, "all the same"


def test_a_picture_is_made_ready_as_those_of_the_run_were(tmp_path, files, capsys):
    how = {"crop": False, "background": "black", "train_steps": 2}
    train(small(tmp_path / "run", **how, size=8), progress=False)
    wide, digit = Image.new("LA", (16, 8)), np.zeros((8, 8))
    wide.paste((255, 255), (0, 0, 4, 8))  # left: white; the rest is transparent
    wide.save(tmp_path / "wide.png")
    digit[:, :2] = 255
    mask = Image.new("L", (16, 8))
    mask.paste(255, (8, 0, 16, 8))
    mask.save(tmp_path / "hole.png")
    out, hole = tmp_path / "filled.npz", f"--mask={tmp_path / 'hole.png'}"
    words = [str(tmp_path / "run"), str(tmp_path / "wide.png"), hole, f"--out={out}"]
    assert main(["inpaint", *words, "--num=1"]) == 0
    assert "all of it is scaled to 8 x 8" in capsys.readouterr().err
    # A pixel beside an edge sees both sides of it.
    known = np.r_[0:1, 3:4]
    assert np.array_equal(pictures(out)[0][:, known], digit[:, known])


@pytest.mark.parametrize(
    "lesson", [{}, {"enlarge": 2}, {"enlarge": 2, "most_level": 9}]
)
def test_pictures_are_enlarged(tmp_path, files, lesson):
    train(small(tmp_path / "run", **lesson, train_steps=3), progress=False)
    model, out = str(tmp_path / "run"), tmp_path / "large.npz"
    more = ["--level=5"] if "most_level" in lesson else []
    words = [str(files / "small.png"), "--num=2", f"--out={out}", "--quiet"]
    assert main(["upscale", model, *words, *more]) == 0
    assert pictures(out).shape == (2, 8, 8)
    config = read_run(model).net.config
    assert config.shown == ("smaller:2" if lesson else "")
    assert config.levels == ("most_level" in lesson)


def test_a_model_that_was_taught_to_enlarge_does(tmp_path, files):
    """Shown what it has learned to use, it makes what it was shown."""
    recipe = small(tmp_path / "run", enlarge=2, objective="x", train_steps=400)
    train(recipe.changed(batch_size=32, save_every=400), progress=False)
    out = tmp_path / "large.npz"
    words = [str(files / "small.png"), "--num=4", f"--out={out}", "--quiet"]
    assert main(["upscale", str(tmp_path / "run"), *words]) == 0
    again = pictures(out).reshape(4, 4, 2, 4, 2).mean((2, 4))
    asked = np.asarray(Image.open(files / "small.png"), float)
    assert np.abs(again - asked).mean() < 0.5 * np.abs(asked - asked.mean()).mean()


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, trained, files, capsys):
    for name, lesson in (("larger", {"enlarge": 2}), ("filler", {"fill": True})):
        train(small(tmp_path / name, **lesson, train_steps=2), progress=False)
    digit, odd = str(files / "digit.png"), str(files / "odd.png")
    for words, message in (
        (["edit", trained, digit, "--strength=1.5"], "strength = 1.5"),
        (["edit", trained, files / "none.png"], "none.png cannot be read"),
        (["upscale", trained, files / "none.png"], "none.png cannot be read"),
        (["edit", trained, digit, "--label=3"], "--label means nothing"),
        (["edit", tmp_path / "larger", digit], "use upscale"),
        (["sample", tmp_path / "filler"], "use inpaint"),
        (["evaluate", tmp_path / "filler", "--num=60"], "use inpaint"),
        (["inpaint", trained, digit, f"--mask={odd}"], "make them equal"),
        (["inpaint", trained, digit, f"--mask={files / 'whole.png'}"], "nowhere white"),
        (
            [
                "inpaint",
                trained,
                digit,
                f"--mask={files / 'mask.png'}",
                "--resamples=0",
            ],
            "0",
        ),
        (["upscale", trained, odd], "odd.png is no 8 x 8"),
        (["sample", "~no-such-user/run"], "begins with ~"),
        (["sample", trained, "--steps=0", "--spacing=angle"], "0"),
        (["upscale", tmp_path / "larger", digit], "is not 4 x 4"),
        (
            ["upscale", trained, files / "small.png", "--level=3"],
            "--level means nothing",
        ),
    ):
        out = f"--out={tmp_path / ('x.json' if words[0] == 'evaluate' else 'x.png')}"
        assert message in refusal(capsys, *map(str, words), out), words
    assert not (tmp_path / "x.png").exists()
    for lesson, message in (
        ({"enlarge": 3}, "3 times smaller"),
        ({"enlarge": 2, "fill": True}, "choose one"),
        ({"most_level": 5}, "give enlarge"),
    ):
        with pytest.raises(ValueError, match=message):
            train(small(tmp_path / "new", **lesson), progress=False)


# ------------------------------------------------------------------ options


def options(verb: str) -> dict[str, argparse.Action]:
    """Option -> what the parser of a verb knows of it."""
    verbs = next(a for a in build_parser()._actions if a.dest == "verb")
    assert isinstance(verbs.choices, dict)
    found = verbs.choices[verb]._actions
    return {o: a for a in found for o in a.option_strings if o.startswith("--")}


def test_every_option_has_a_meaning_and_its_usual_value():
    train_options = options("train")
    for part in fields(Recipe):
        for each in fields(getattr(Recipe(), part.name)):
            if each.name in DERIVED:
                continue
            action = train_options["--" + each.name.replace("_", "-")]
            assert action.help and action.help.startswith(
                each.metadata["help"].replace("%", "%%")
            )
            assert "(usually " in action.help and action.default is None
    for verb in ("train", "sample", "info", "export"):
        for name, action in options(verb).items():
            assert action.help, f"{verb} {name} says nothing"
    for name, action in options("sample").items():
        known = ("(" in action.help) or name in ("--help", "--quiet")
        assert known, f"sample {name} does not say its usual value"


SHARED = {  # option -> words that stand in its help for train, and for sample
    "--out": ("folder of the run", "folder"),
    "--batch-size": ("of all processes together", "of all processes together"),
    "--variance": ("of the sampler's noise", "of the sampler's noise"),
    "--clip": ("in [-1, 1]", "to [-1, 1]"),
    "--no-clip": ("in [-1, 1]", "to [-1, 1]"),
    "--autocast": ("bfloat16", "bfloat16"),
    "--no-autocast": ("bfloat16", "bfloat16"),
    "--compile": ("torch.compile", "torch.compile"),
    "--no-compile": ("torch.compile", "torch.compile"),
    "--graph": ("recorded once", "CUDA graphs"),
    "--no-graph": ("recorded once", "CUDA graphs"),
    "--seed": ("decides every", "decides every"),
    "--device": ("cpu, cuda", "cpu, cuda"),
    "--quiet": ("", ""),
    "--help": ("", ""),
}


def test_no_option_has_two_meanings():
    one, two = options("train"), options("sample")
    assert set(one) & set(two) == set(SHARED)
    for name, (first, second) in SHARED.items():
        assert first in one[name].help, (name, one[name].help)
        assert second in two[name].help, (name, two[name].help)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--train-step=3"],
        ["train", "--over"],
        ["train", "--learning-rat", "3"],
        ["train", "--steps=3"],
        ["train", "--train-steps=many"],
        ["train", "--train-steps=3.0"],
        ["train", "--channel-multipliers=a"],
        ["train", "--preset=digits", "--recipe=x"],
        ["sample", "x", "--nu=3"],
        ["sample", "x", "--sampler=magic"],
        ["sample"],
        ["fly"],
        [],
    ],
)
def test_what_the_parser_refuses_is_one_line_and_status_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr()
    assert stopped.value.code == 2 and said.out == ""
    assert len(said.err.strip().splitlines()) == 1 and "error: " in said.err


def test_bad_values_are_one_line_and_nothing_is_written(tmp_path, capsys, trained):
    (tmp_path / "file").write_text("x")
    out = tmp_path / "run"
    for words, message in (
        (["train", "--data=cats"], "unknown data set 'cats'"),
        (["train", f"--data={tmp_path}"], "write folder:"),
        (["train", "--data=folder:"], "names nothing"),
        (["train", f"--data=folder:{tmp_path / 'x'}"], "is not a folder"),
        (["train", "--preset=imagenet"], "unknown preset 'imagenet'"),
        (["train", "--train-steps=0"], "train_steps = 0"),
        (["train", "--learning-rate=nan"], "learning_rate = nan"),
        (["train", "--device=abacus"], "abacus"),
        (["train", "--resume"], "no run in"),
        (["train", "--batch-size=9", "--accumulate=2"], "cannot be divided"),
    ):
        assert message in refusal(capsys, *words, f"--out={out}")
    assert "file" in refusal(capsys, "train", *WORDS, f"--out={tmp_path / 'file/run'}")
    for words, message in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([trained, "--num=0"], "--num 0 must be at least 1"),
        ([trained, "--batch-size=0"], "--batch-size 0"),
        ([trained, "--steps=0"], "steps = 0"),
        ([trained, "--steps=21"], "steps = 21"),
        ([trained, "--device=abacus"], "abacus"),
    ):
        assert message in refusal(capsys, "sample", *words, f"--out={out}")
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == ["file"]


def test_a_traceback_is_shown_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DDPM_LIT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="cats"):
        main(["train", "--data=cats"])
    monkeypatch.delenv("DDPM_LIT_TRACEBACK")
    refusal(capsys, "train", "--data=cats")


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"ddpm-lit {ddpm_lit.__version__}\n"


@pytest.mark.parametrize("words", [["info"], ["train", "--help"]])
def test_who_reads_no_further_is_no_error(trained, words):
    """As `| head -1` does, only sooner: nobody reads at all."""
    words = [*words, str(trained)] if words == ["info"] else words
    here, there = os.pipe()
    os.close(here)
    process = command(*words, stdout=there, stderr=subprocess.PIPE)
    os.close(there)
    _, said = process.communicate(timeout=120)
    assert said == "" and process.returncode in (0, 141, -signal.SIGPIPE)


def test_without_a_terminal_plain_lines_and_quiet_says_nothing(tmp_path, capsys):
    words = ["train", *WORDS, "--train-steps=30"]
    do(*words, f"--out={tmp_path / 'a'}")
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"step {n} of 30" for n in (10, 20, 30)
    ]
    assert "loss" in lines[0] and "images/s" in lines[0] and "%|" not in said.err
    assert said.out.count("\n") == 1 and "samples.png" not in said.out
    do(*words, f"--out={tmp_path / 'b'}", "--quiet")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "b" / "samples.png").exists()
    do(*words, f"--out={tmp_path / 'c'}", "--quiet", "--samples=2")
    assert (tmp_path / "c" / "samples.png").exists()
    assert "samples.png" in capsys.readouterr().out
    do("sample", tmp_path / "b", "--num=2", f"--out={tmp_path / 'x.png'}")
    assert capsys.readouterr().err == ""


def test_info_says_what_a_run_is(trained, capsys):
    do("info", trained)
    said = capsys.readouterr().out
    assert "step 40 of 40" in said and "T = 20" in said and "predicts noise" in said
    do("info", trained / CHECKPOINT, "--json")
    about = json.loads(capsys.readouterr().out)
    assert about["step"] == 40 and about["recipe"]["optim"]["train_steps"] == 40
    assert about["size"] == [1, 8, 8] and about["network"] == "UNet"


def test_a_folder_may_have_a_dot_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    do("train", *WORDS, "--train-steps=10", "--out=lr0.001", "--quiet")
    assert read_head(tmp_path / "lr0.001" / CHECKPOINT).step == 10
    do("sample", "lr0.001", "--num=2", "--out=seed1.5", "--quiet")
    names = sorted(p.name for p in (tmp_path / "seed1.5").iterdir())
    assert names == ["000000.png", "000001.png", JOB]


# ------------------------------------------------------------------ samples


def read_folder(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.png")}


def test_samples_come_in_three_forms(tmp_path, trained):
    for place in ("grid.png", "all.npz", "folder"):
        do("sample", trained, "--num=5", f"--out={tmp_path / place}", "--quiet")
    stored = np.load(tmp_path / "all.npz")["arr_0"]
    assert stored.shape == (5, 8, 8, 1)
    for i in range(5):
        one = Image.open(tmp_path / "folder" / f"{i:06d}.png")
        assert np.array_equal(np.asarray(one), stored[i, :, :, 0])
    assert not partials(tmp_path)
    for place in ("grid.jpg", "all.npy", "grid.tif"):
        with pytest.raises(ValueError, match="must end in"):
            check_output(place)


def test_sampling_that_was_killed_goes_on_and_makes_the_same(tmp_path, trained):
    folder, calm = tmp_path / "killed", tmp_path / "calm"
    words = ["sample", trained, "--num=400", "--batch-size=4", "--quiet"]
    process = command(*words, f"--out={folder}")
    wait_until(lambda: len(read_folder(folder)) >= 12, "twelve pictures")
    process.kill()
    process.communicate()
    for left in (folder / "000399.png.partial", *folder.glob("*.partial")):
        left.write_bytes(b"half")
        os.utime(left, (0, 0))  # a day later
    (folder / "000000.png").write_bytes(b"")  # what a power cut may leave
    before = {name: held for name, held in read_folder(folder).items() if held}
    assert 11 <= len(before) < 400, "it was not killed in the middle"
    said = finish(command(*words, f"--out={folder}"))
    assert f"wrote {400 - len(before)} images" in said and f"{len(before)} were" in said
    do(*words, f"--out={calm}")
    assert read_folder(folder) == read_folder(calm)
    assert before.items() <= read_folder(folder).items(), "pictures were made anew"
    assert not partials(folder)


def test_pictures_of_another_job_are_not_mixed(tmp_path, trained, capsys):
    folder = tmp_path / "folder"
    words = ["sample", trained, "--num=2", f"--out={folder}", "--quiet"]
    do(*words)
    before = read_folder(folder)
    other = tmp_path / "other"
    train(small(other, train_steps=10), progress=False)
    for more, name in (
        (["--seed=1"], "seed"),
        (["--steps=5"], "steps"),
        (["--variance=beta"], "variance"),
        (["--no-clip"], "clip"),
    ):
        assert f"another {name}" in refusal(capsys, *words, *more)
    said = refusal(capsys, "sample", other, *words[2:])
    assert "another model" in said and read_folder(folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for place in ("mine", "mine/letter.txt", "mine/letter.txt/x"):
        refusal(capsys, *words[:3], f"--out={tmp_path / place}", "--quiet")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / JOB).write_text("{")
    (tmp_path / "torn" / "000007.png").write_bytes(b"of whom?")
    said = refusal(capsys, *words[:3], f"--out={tmp_path / 'torn'}")
    assert "torn" in said, "it does not say which file is damaged"
    do(*words[:2], "--num=3", *words[3:])
    assert len(read_folder(folder)) == 3


def test_a_job_may_be_a_list_of_steps_and_knows_what_it_tells(tmp_path, trained):
    model, team = read_run(trained), Team(CPU, training=False)
    for steps in ([20, 9, 1], (20, 9, 1)):
        made = write_samples(model, 2, tmp_path / "some", team, steps=steps)
        assert made == (2 if isinstance(steps, list) else 0)
    job = json.loads((tmp_path / "some" / JOB).read_text())
    assert missing_pictures(tmp_path / "some", 4, job) == [2, 3]


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, z, t):
        return self.function(z, t)


class Labelled(torch.nn.Module):
    def forward(self, z, t, label=None):
        return z if label is None else z - label.reshape(-1, 1, 1, 1)


def test_pictures_of_other_labels_are_not_mixed(tmp_path, trained):
    model = read_run(trained).with_net(Labelled())
    one, team = torch.ones(4), Team(CPU, training=False)
    write_samples(model, 2, tmp_path / "some", team, label=one)
    with pytest.raises(FileExistsError, match="another told; give"):
        write_samples(model, 4, tmp_path / "some", team, label=2 * one)


def test_a_job_may_grow_and_one_that_was_refused_leaves_its_folder_free(
    tmp_path, trained
):
    model, team = read_run(trained).with_net(Labelled()), Team(CPU, training=False)
    folder, label = tmp_path / "some", torch.arange(4.0)
    for count, made in ((2, 2), (4, 2), (3, 0)):
        assert write_samples(model, count, folder, team, label=label[:count]) == made
    assert len(json.loads((folder / JOB).read_text())["told"]) == 4
    assert missing_pictures(tmp_path / "other", 2, {"seed": 1, "told": None}) == [0, 1]
    assert write_samples(model, 2, tmp_path / "other", team, seed=2) == 2


def test_two_jobs_may_write_one_file(tmp_path, trained):
    """Each finishes its own; the last one stays."""
    model, team = read_run(trained), Team(CPU, training=False)
    path, other = tmp_path / "sheet.npz", tmp_path / "other.npz"

    def between(z, t):
        if not other.exists():
            other.touch()
            write_samples(model, 5, path, team, seed=1, steps=2)
        return model.net(z, t)

    write_samples(model.with_net(Function(between)), 2, path, team, steps=2)
    write_samples(model, 2, other, team, steps=2)
    assert path.read_bytes() == other.read_bytes() and not partials(tmp_path)


def test_broken_weights_and_broken_pictures_are_errors(tmp_path, trained, capsys):
    model = read_run(trained)
    save_model(model, tmp_path / "model")
    named = load_file(tmp_path / "model" / WEIGHTS)
    for value in (torch.nan, torch.inf):
        bad = {**named, "conv_out.bias": torch.full((1,), value)}
        save_file(bad, tmp_path / "model" / WEIGHTS)
        for place in ("grid.png", "all.npz", "folder"):
            words = [tmp_path / "model", "--num=2", f"--out={tmp_path / place}"]
            assert "NaN or infinity" in refusal(capsys, "sample", *words)
    # Finite numbers, and still NaN comes out.
    huge = {k: v if k == "betas" else v * 1e30 for k, v in named.items()}
    save_file(huge, tmp_path / "model" / WEIGHTS)
    for place in ("grid.png", "all.npz", "folder"):
        words = [tmp_path / "model", "--num=2", f"--out={tmp_path / place}", "--quiet"]
        assert "NaN" in refusal(capsys, "sample", *words)
    pictures = [p for p in tmp_path.rglob("*") if p.suffix in (".png", ".npz")]
    assert pictures == [] and not partials(tmp_path)


def test_samples_wait_for_no_disk(tmp_path, trained, monkeypatch, capsys):
    def full(*rest: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "save_pictures", full)
    monkeypatch.setattr(output, "_rows", full)
    for place in ("folder", "all.npz"):
        words = [trained, "--num=2", f"--out={tmp_path / place}", "--quiet"]
        assert "No space left" in refusal(capsys, "sample", *words)
    assert not partials(tmp_path)


# ------------------------------------------------------------------ own pictures


def draw(folder: Path, count: int, *sizes: tuple[int, int], seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


QUICK = [*WORDS[2:], "--train-steps=4", "--quiet"]


def test_pictures_of_any_size_are_trained_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "my cats", 6, (20, 30), (40, 17))
    do("train", "--data=folder:my cats", "--size=16", *QUICK)
    said = capsys.readouterr().err
    assert "6 pictures of 16 x 16, 3 channel(s): a network of" in said
    assert "4 steps of 8" in said and "runs/my cats" in said, "the choice is not told"
    recipe = read_recipe(tmp_path / "runs" / "my cats")
    assert recipe.data.size == 16 and recipe.model.in_channels == 3
    do("sample", "runs/my cats", "--num=2", "--out=two.png", "--quiet")
    line = refusal(capsys, "train", "--data=folder:my cats", *QUICK, "--out=other")
    assert "--size" in line and not Path("other").exists()


def test_a_folder_may_move_and_may_not_change(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "cats", 4, (16, 16))
    do("train", "--data=folder:cats", *QUICK)
    do("train", "--data=folder:cats", "--resume", "--quiet", "--train-steps=6")
    shutil.move("cats", "moved")
    more = ["--resume", "--quiet", "--out=runs/cats"]
    assert "cats" in refusal(capsys, "train", *more, "--train-steps=6")
    do("train", "--data=folder:moved", *more, "--train-steps=8")
    assert read_head(tmp_path / "runs/cats" / CHECKPOINT).step == 8
    draw(tmp_path / "cats", 4, (16, 16), seed=1)
    more = [*more, "--data=folder:cats"]
    capsys.readouterr()
    assert main(["train", *more, "--train-steps=8"]) == 2
    assert "are not those that the run began with" in capsys.readouterr().err


def test_a_run_within_the_folder_is_no_data_and_a_tilde_is_home(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "cats", 4, (16, 16))
    do("train", "--data=folder:~/cats", "--out=~/cats/run", *QUICK, "--samples=2")
    assert (tmp_path / "cats" / "run" / "samples.png").exists()
    again = ["--data=folder:~/cats", "--out=~/cats/run", "--resume", "--quiet"]
    do("train", *again, "--train-steps=6")
    assert read_head(tmp_path / "cats/run" / CHECKPOINT).step == 6
    do("info", "~/cats/run")
    do("sample", "~/cats/run", "--num=2", "--out=~/drawn", "--quiet")
    assert len(read_folder(tmp_path / "drawn")) == 2
    assert not (tmp_path / "~").exists(), "a folder that is called ~"
    assert "holds a training run" in refusal(
        capsys, "train", "--data=folder:cats/run", "--out=x"
    )


def test_a_preset_of_pictures_that_are_others_keeps_to_its_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "cats", 4, (8, 8))
    do("train", "--preset=digits", "--data=folder:cats", "--out=x", *WORDS, *QUICK[-2:])
    recipe = read_recipe("x")
    assert recipe.model.base_channels == 8 and recipe.model.in_channels == 3
    assert recipe == preset(
        "digits", **{**SMALL, "train_steps": 4, "out": "x"}
    ).changed(data="folder:cats", in_channels=3)
    assert (tmp_path / "x" / RECIPE).exists()


def test_python_m_is_the_command_line_too(tmp_path):
    line = [sys.executable, "-m", "ddpm_lit", "train", "--data=cats"]
    done = subprocess.run(
        line, capture_output=True, text=True, env=environment(), cwd=tmp_path
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("ddpm-lit train: error: unknown data set 'cats'")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ said in vain


def test_a_preset_of_other_data_does_not_go_on_with_a_run(tmp_path, capsys):
    out = f"--out={tmp_path / 'run'}"
    assert main(["train", "--data=digits", "--train-steps=2", *WORDS, out]) == 0
    line = refusal(capsys, "train", "--preset=mnist", "--resume", *WORDS, out)
    assert "holds a run on digits" in line and "mnist" in line
    words = ["--preset=digits", "--resume", "--train-steps=3", *WORDS, out]
    assert main(["train", *words]) == 0
    words = ["--preset=digits", "--labels", "--train-steps=2", *WORDS, f"{out}2"]
    assert main(["train", *words]) == main(["train", *words, "--resume"]) == 0


def test_numbers_that_are_none_and_a_picture_over_itself_are_refused(
    tmp_path, trained, capsys
):
    out = f"--out={tmp_path / 'x.png'}"
    line = refusal(capsys, "sample", trained, "--guidance=nan", out)
    assert line.endswith("--guidance nan is no number")
    picture = tmp_path / "cat.png"
    Image.new("L", (8, 8)).save(picture)
    before = picture.read_bytes()
    line = refusal(capsys, "edit", trained, picture, f"--out={picture}")
    assert "is the picture itself" in line and picture.read_bytes() == before


def test_labels_may_be_listed_with_spaces():
    config = UNetConfig(classes=3, label_names=("cat", "dog", "cow"))
    assert _labels("cow, cat", config) == [2, 0]


def test_a_job_tells_what_its_functions_have_seen(tmp_path, trained):
    model, team = read_run(trained), Team(CPU, training=False)
    folders = iter(range(99))

    def differ(**pairs: Any) -> None:
        name, (one, other) = next(iter(pairs.items()))
        folder = tmp_path / str(next(folders))
        assert write_samples(model, 1, folder, team, steps=2, **{name: one}) == 1
        assert write_samples(model, 2, folder, team, steps=2, **{name: one}) == 1
        with pytest.raises(FileExistsError, match="another"):
            write_samples(model, 3, folder, team, steps=2, **{name: other})

    differ(sampler=(resampled(ddpm, 2), resampled(ddpm, 3)))
    differ(sampler=(resampled(ddpm, 2), resampled(ddim, 2)))
    known, mask = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    mask[..., :4, :] = 0
    differ(sampler=(filled(ddpm, known, mask), filled(ddpm, known + 1, mask)))
    tells = [partial(scaled, between(scale, 0, 9)) for scale in (3.0, 9.0)]
    differ(tell=tells)
    differ(tell=[partial(scaled, 1, size=(k, 2)) for k in (1, 2)])
    differ(tell=[partial(scaled, [torch.full((2,), k)]) for k in (1.0, 2.0)])
    differ(tell=[Scaled(3.0), Scaled(9.0)])

    def again(model: Any, **cond: Any) -> Any:
        past.append(1)  # a memory is no part of the job
        return again and partial(model, **cond)

    past: list[int] = []
    for count, made in ((1, 1), (2, 1)):
        found = write_samples(model, count, tmp_path / "m", team, steps=2, tell=again)
        assert found == made and past
    late = lambda model, **cond: unknown and partial(model, **cond)  # noqa: E731
    with pytest.raises(NameError):
        write_samples(model, 1, tmp_path / "late.png", team, steps=2, tell=late)
    unknown = True


def scaled(scale: Any, model: Any, size: Any = None, **cond: Any) -> Any:
    """A way to tell that is given its scale by place."""
    return partial(model, **cond)


@dataclass(frozen=True)
class Scaled:
    """The same as an object."""

    scale: float

    def __call__(self, model: Any, **cond: Any) -> Any:
        return partial(model, **cond)


def test_noise_of_a_device_is_shared_out_in_whole_parts(trained):
    model = read_run(trained)
    how = {"steps": 2, "source": DeviceNoise}
    whole = draw_images(model, 150, **how)
    found, drawn = torch.zeros_like(whole), []
    for rank in range(2):
        team = Team(CPU, Launch(rank, 2, 0), training=False)
        mine = _share_of(range(150), team, how)
        drawn.append(len(DeviceNoise(0, mine, (1,)).sources))
        for numbers, pictures in make_pictures(model, mine, team=team, **how):
            found[list(numbers)] = pictures
    assert torch.equal(found, whole) and drawn == [2, 1]


# ------------------------------------------------------------------ begin with a model


def test_a_training_begins_with_a_model_and_goes_on_with_its_chain(tmp_path):
    """The model has another network, schedule and objective than the recipe."""
    net = UNet(UNetConfig(base_channels=12, channel_multipliers=(1,), groups=3))
    chain = make_schedule("linear", 30)
    start = save_model(Denoiser(net, chain, "v", size=(1, 8, 8)), tmp_path / "start")
    words = [word for word in WORDS if word[:3] not in ("--b", "--g", "--T")]
    out = f"--out={tmp_path / 'run'}"
    words += ["--batch-size=8", "--learning-rate=1e-9", out]
    assert main(["train", f"--from={start}", "--train-steps=2", *words]) == 0
    found = read_run(tmp_path / "run")
    assert (found.objective, found.schedule.T) == ("v", 30)
    assert torch.allclose(found.schedule.beta, chain.beta)
    for mine, theirs in zip(found.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert main(["train", "--resume", "--train-steps=4", *words]) == 0
    again = read_run(tmp_path / "run")
    assert read_head(tmp_path / "run" / CHECKPOINT).step == 4
    assert torch.equal(again.schedule.beta, found.schedule.beta)
    # Killed before the first checkpoint, and done again from the recipe alone.
    (tmp_path / "run" / CHECKPOINT).unlink()
    for more in (["--resume", out], [f"--recipe={tmp_path / 'run'}", f"{out}2"]):
        made = tmp_path / more[-1].rpartition("/")[2]
        assert main(["train", "--train-steps=2", "--learning-rate=1e-9", *more]) == 0
        new = read_run(made)
        assert torch.equal(new.schedule.beta, found.schedule.beta)
        for mine, theirs in zip(new.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"give load_model\("):
        train(read_recipe(made).changed(out=str(tmp_path / "new")), progress=False)


def test_pictures_and_lesson_follow_the_model_that_one_begins_with(tmp_path, capsys):
    folder = tmp_path / "pets"
    for name in ("cat", "dog"):
        for i in range(4):
            (folder / name).mkdir(parents=True, exist_ok=True)
            picture = np.full((20, 30, 3), 40 * i + 9 * len(name), np.uint8)
            Image.fromarray(picture).save(folder / name / f"{i}.png")
    config = UNetConfig(
        base_channels=8, groups=4, classes=2, label_names=("cat", "dog"), in_channels=3
    )
    model = Denoiser(
        build_unet(config), make_schedule("cosine", 20), "v", size=(3, 8, 8)
    )
    start = save_model(model, tmp_path / "start")
    out = f"--out={tmp_path / 'run'}"
    words = ["train", f"--from={start}", "--train-steps=2", "--batch-size=4"]
    words += ["--samples=0", "--device=cpu", "--no-tensorboard", "--quiet"]
    assert main([*words, f"--data=folder:{folder}", out]) == 0
    recipe = read_recipe(tmp_path / "run")
    assert (recipe.data.size, recipe.lesson.labels) == (8, True)
    assert recipe.model == config
    (folder / "dog").rename(folder / "cow")

    def last_line(*more: str) -> str:
        capsys.readouterr()
        assert main([*words, *more, f"{out}2"]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "other labels than cat, dog" in last_line(f"--data=folder:{folder}")
    line = last_line("--data=digits", "--size=16")
    assert "(3, 8, 8)" in line and "(3, 16, 16)" in line
    for more, said in (
        (["--base-channels=8"], "--base-channels is that of"),
        (["--T=7"], "--T is that of"),
        (["--resume"], "--resume goes on"),
    ):
        assert said in last_line(f"--data=folder:{folder}", *more)
    assert not (tmp_path / "run2").exists()
    line = refusal(capsys, "train", f"--from={tmp_path / 'none'}", f"{out}2")
    assert "none" in line
