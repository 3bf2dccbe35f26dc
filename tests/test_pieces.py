"""Each small part of the package that the others are made of, called by its name."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from small import python

from ddpm_lit.book.plotting import Picture
from ddpm_lit.book.tapes import WrittenTape
from ddpm_lit.book.widgets import (
    Axis,
    Explorer,
    Mark,
    Panel,
    describe_control,
    draw_bars,
    draw_bell,
    draw_curve,
    draw_dots,
    draw_mark,
    draw_panel,
    draw_pixels,
    every_setting,
    needs,
    positions,
    tabulate_panel,
    value_at,
)
from ddpm_lit.data import Dataset
from ddpm_lit.denoiser import Denoiser, check_choice
from ddpm_lit.elbo import ElboTerms
from ddpm_lit.forward import check_same_shape
from ddpm_lit.machine import Machine, pick_device
from ddpm_lit.networks.fast import BitDropout, fast_arithmetic, rounded_factors
from ddpm_lit.networks.unet import ho_init, repeat_and_convolve
from ddpm_lit.recipes import Optim, Speed, check_settings, setting
from ddpm_lit.runs import save_loss_curve
from ddpm_lit.schedules import jump, kept_steps, make_schedule
from ddpm_lit.tape import CudaTape, aside
from ddpm_lit.training import State, fit, seed_of


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_a_channel_is_asked_for_the_controls_that_it_names():
    assert needs(lambda a, b: a) == ["a", "b"] and needs([1, 2]) == []
    settings = {"a": 2.0, "b": 5.0}
    assert value_at(lambda b: 3 * b, settings) == pytest.approx([15])
    assert value_at(torch.ones(2, requires_grad=True), settings).dtype == float


def test_a_control_is_tabulated_at_each_of_its_positions():
    number = ipywidgets.IntSlider(min=1, max=9, step=4)
    word = ipywidgets.Dropdown(options=["x", "y"])
    power = ipywidgets.FloatLogSlider(base=10, min=0, max=2, step=1)
    assert positions(number) == [1, 5, 9] and positions(word) == ["x", "y"]
    assert positions(power) == [1, 10, 100]
    controls = {"n": number, "w": word}
    assert list(every_setting(["w", "n"], controls))[1] == {"w": "x", "n": 5}
    assert len(list(every_setting(["n", "w"], controls))) == 6


def test_a_control_is_described_by_its_name_and_positions():
    said = describe_control("n", ipywidgets.IntSlider(value=5, min=1, max=9, step=4))
    assert said["name"] == "n"
    assert json.loads(json.dumps(said)) == said


LOOK = {"color": "C0", "label": "it"}


def test_each_kind_of_mark_draws_what_it_is_given(axes):
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 2.0])
    draw_curve(axes, {"x": x, "y": y}, {"fill": False, "dashed": True}, LOOK)
    assert np.array_equal(axes.lines[-1].get_ydata(), y)
    draw_dots(axes, {"x": x, "y": y}, {"tick": False}, LOOK)
    assert axes.lines[-1].get_marker() == "o"
    one = {"mean": np.array([0.5]), "deviation": np.array([0.25])}
    draw_bell(axes, one, {"fill": False, "dashed": False}, LOOK)
    places, heights = axes.lines[-1].get_data()
    assert np.trapezoid(heights, places) == pytest.approx(1, abs=1e-4)
    assert places[np.argmax(heights)] == pytest.approx(0.5)
    draw_bars(axes, {"edges": x, "heights": y[:2]}, {"horizontal": False}, LOOK)
    assert [bar.get_height() for bar in axes.patches] == [1, 3]
    grid = {"values": np.eye(3)}
    draw_pixels(axes, grid, {"low": 0, "high": 1, "colors": "gray"}, {})
    assert np.array_equal(axes.images[0].get_array(), np.eye(3))


LINE = Mark("curve", {"x": [0, 1], "y": lambda a: [0, a]}, "it", 1, {"fill": False})
DASHED = replace(LINE, style={"fill": False, "dashed": True})
SHOWN = Panel((DASHED,), Axis("x", 0, 1), Axis("y", 1, 100, log=True), 1.0, 2.0)


def test_a_mark_is_drawn_at_the_settings_of_the_controls(axes):
    draw_mark(axes, DASHED, {"a": 7})
    assert list(axes.lines[0].get_ydata()) == [0, 7]


def test_a_panel_sets_its_axes(axes):
    draw_panel(axes, SHOWN, {"a": 7})
    assert axes.get_yscale() == "log" and axes.get_ylim() == (1, 100)
    assert axes.get_legend() is not None


def test_a_panel_becomes_plain_data():
    control = ipywidgets.IntSlider(value=2, min=2, max=3)
    table = tabulate_panel(SHOWN, {"a": control})
    assert json.loads(json.dumps(table))["marks"][0]["channels"]["y"]["over"] == ["a"]


def test_an_explorer_says_and_shows_what_its_controls_stand_at():
    control = ipywidgets.IntSlider(value=2, min=2, max=3)
    figure = Explorer("A line.", [[SHOWN]], lambda a: f"a = {a}", {"a": control})
    assert figure.said() == "a = 2" and figure.set(a=3) == "a = 3"
    assert figure.page()["says"]["texts"] == ["a = 2", "a = 3"]


def test_a_handle_names_a_control():
    control = ipywidgets.IntSlider(value=2, min=2, max=3)
    dot = replace(LINE, kind="dots", style={"tick": False, "handle": "a"})
    shown = Panel((dot,), Axis("x", 0, 1), Axis("y", 0, 9), 1.0, 2.0)
    figure = Explorer("A dot.", [[shown]], lambda a: f"a = {a}", {"a": control})
    assert figure.page()["rows"][0][0]["marks"][0]["style"]["handle"] == "a"
    with pytest.raises(ValueError, match="no control is called 'a'"):
        Explorer("A dot.", [[shown]], lambda b: f"b = {b}", {"b": control})


def test_a_picture_carries_its_words():
    """For who cannot see it: beside the image and, once saved, within it."""
    data, about = Picture("<svg/>", "A dot.")._repr_mimebundle_()
    assert about["image/svg+xml"]["alt"] == data["text/plain"] == "A dot."


def test_shapes_and_choices_are_checked():
    check_same_shape("a", torch.zeros(2), "b", torch.ones(2))
    with pytest.raises(ValueError, match="they must be equal"):
        check_same_shape("a", torch.zeros(2), "b", torch.zeros(3))
    check_choice("taste", "salt", ("salt", "sugar"))
    with pytest.raises(ValueError, match="taste 'sand' is none of salt, sugar"):
        check_choice("taste", "sand", ("salt", "sugar"))


def test_the_bound_is_the_sum_of_its_terms():
    terms = ElboTerms(torch.ones(2), torch.ones(2, 3), torch.zeros(2))
    assert torch.equal(terms.bound, torch.full((2,), -4.0))


def test_weights_begin_with_the_variance_of_ho_et_al():
    layer = torch.nn.Linear(400, 600)
    ho_init(layer, 0.5)
    assert layer.weight.var().item() == pytest.approx(0.5 / 500, rel=0.02)
    assert not layer.bias.any()


def test_a_device_is_named_or_refused():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="cannot be used here"):
        pick_device("abacus")
    with pytest.raises(ValueError, match="cannot be used here"):
        pick_device("hpu")


def test_a_machine_alone_leaves_a_network_as_it_is():
    machine, net = Machine("cpu"), torch.nn.Linear(1, 1)
    assert machine.wrap(net) is net and machine.place(torch.ones(1)).item() == 1
    with machine.arithmetic(), machine.unshared(net):
        assert (machine.rank, machine.size) == (0, 1)
    net(torch.ones(1)).backward()
    gradient = net.weight.grad.clone()
    machine.share(net)
    assert torch.equal(net.weight.grad, gradient)


class Graph(WrittenTape):
    """A CUDA graph of a processor's."""


@contextmanager
def capture(graph, stream, pool, capture_error_mode):
    assert (stream, pool, capture_error_mode) == ("stream", "pool", "thread_local")
    with graph:
        yield


def test_a_cuda_tape_is_cut_around_what_no_graph_can_hold(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    tape, x, heard = CudaTape(), torch.ones(1), []
    twice = torch.zeros(1)

    def task():
        twice.copy_(2 * x)
        tape.aside(lambda: heard.append(float(twice)))
        tape.aside(lambda: twice.add_(100))
        return twice + x

    found = tape.record(task)
    assert heard == [], "what is put aside is no part of a recording"
    for value in (3.0, 5.0):
        x.fill_(value)
        tape.replay()
        assert float(found) == 3 * value + 100
    assert heard == [6.0, 10.0]
    torn = CudaTape()
    with pytest.raises(ZeroDivisionError):
        torn.record(lambda: x + 1 / 0)
    graph = torn.parts[0].__self__
    written = len(graph.lines)
    assert float(x + 1) == 6 and len(graph.lines) == written, "it still records"


def test_what_is_put_aside_is_done_at_once_when_nothing_records():
    done: list[int] = []
    aside(lambda: done.append(1))
    assert done == [1]


@dataclass(frozen=True)
class Taste:
    """A configuration."""

    salt: float = setting(0.5, "how much", least=0, below=1)
    herbs: tuple[int, ...] = setting((1,), "which", choices=(1, 2))


def test_a_configuration_names_what_is_wrong_and_makes_lists_tuples():
    good = Taste(herbs=[2, 1])  # type: ignore[arg-type]
    check_settings(good)
    assert good.herbs == (2, 1)
    for wrong, said in (
        (Taste(salt=1.0), "salt = 1.0 must be below 1"),
        (Taste(salt=-1), "salt = -1 must be at least 0"),
        (Taste(salt=True), "salt = True must be a finite number"),
        (Taste(herbs=(3,)), r"herbs = \(3,\) is none of 1, 2"),
    ):
        with pytest.raises(ValueError, match=said):
            check_settings(wrong)


def test_arithmetic_is_put_back_also_after_an_error():
    cpu, a = torch.device("cpu"), torch.ones(2, 2)
    with pytest.raises(ZeroDivisionError), fast_arithmetic(Speed(autocast=True), cpu):
        assert (a @ a).dtype == torch.bfloat16
        _ = 1 / 0
    assert (a @ a).dtype == torch.float32


def test_an_enlarged_picture_has_each_pixel_four_times():
    keep = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        keep.weight.zero_()
        keep.weight[0, 0, 1, 1] = 1
    h = torch.arange(4.0).reshape(1, 1, 2, 2)
    expected = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(repeat_and_convolve(h, keep), expected)


def test_a_seed_depends_on_its_purpose_and_on_each_number():
    seeds = {seed_of(*words) for words in (("a", 1, 2), ("a", 12), ("b", 1, 2), ("a",))}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("a", 1, 2) == seed_of("a", 1, 2)


def test_a_jump_of_one_step_is_that_step():
    schedule = make_schedule("linear", 10)
    assert kept_steps(10, 10) == list(range(10, -1, -1))
    a, b, beta, tilde = jump(7, 6, schedule)
    assert (a, b) == (float(schedule.alpha_bar[7]), float(schedule.alpha_bar[6]))
    assert beta == pytest.approx(float(schedule.beta[7]))
    assert tilde == pytest.approx(float(schedule.beta_tilde[7]))


def test_the_loss_curve_is_drawn_from_the_metrics(tmp_path):
    lines = [{"step": i, "loss": 1 / i, "seconds": 0.1 * i} for i in (1, 2, 3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    save_loss_curve(tmp_path)
    drawn = (tmp_path / "loss.svg").read_bytes()
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


ROUNDED = """
import torch
from ddpm_lit.data import load_digits
from ddpm_lit.networks.fast import rounded_factors
from ddpm_lit.output import draw_images
from ddpm_lit.recipes import Speed
from ddpm_lit.runs import build_denoiser
from ddpm_lit.recipes import preset

{before}
model = build_denoiser(preset("digits", base_channels=8, groups=4, T=9), load_digits())
draw_images(model, 1, steps=2)
places = torch.backends.cuda.matmul, torch.backends.cudnn{conv}
was = [getattr(place, "{name}") for place in places]
for asked, found in ((True, {on!r}), (False, {off!r})):
    with rounded_factors(Speed(tf32=asked), torch.device("cuda")):
        assert [getattr(place, "{name}") for place in places] == [found] * 2
    assert [getattr(place, "{name}") for place in places] == was
with rounded_factors(Speed(tf32=True), torch.device("cpu")):
    assert [getattr(place, "{name}") for place in places] == was
if {before!r}.startswith("torch.backends.fp32"):
    torch.backends.fp32_precision = "ieee"  # of all, and all follow
    assert [getattr(place, "{name}") for place in places] == ["ieee"] * 2
print(torch.get_float32_matmul_precision() if "set_float32" in {before!r} else "")
"""
OLD = {"name": "allow_tf32", "on": True, "off": False, "conv": ""}
NEW = {"name": "fp32_precision", "on": "tf32", "off": "ieee", "conv": ".conv"}


@pytest.mark.parametrize(
    "before, names",
    [
        ("", OLD),
        ("torch.set_float32_matmul_precision('medium')", OLD),
        ("torch.backends.fp32_precision = 'tf32'", NEW),
        ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", NEW),
        ("torch.backends.cudnn.conv.fp32_precision = 'ieee'", NEW),
    ],
)
def test_how_factors_are_rounded_is_put_back_in_either_spelling(before, names):
    said = python(ROUNDED.format(before=before, **names))
    assert ("medium" in said) == ("medium" in before)


def test_gradients_are_rounded_as_the_machine_wants_and_not_cast():
    seen = []

    class Watched(Machine):
        @contextmanager
        def arithmetic(self):
            seen.append("forward")
            yield
            seen.append("done")

        @contextmanager
        def backwards(self):
            seen.append("backward")
            yield
            seen.append("done")

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1))

        def forward(self, z, t):
            h = self.w * z
            h.register_hook(lambda g: seen.append("gradient"))
            return h

    machine, optim = Watched("cpu"), Optim(train_steps=1, batch_size=4, accumulate=2)
    model = Denoiser(Line(), make_schedule("cosine", 9), size=(1,))
    state = State.fresh(model, optim, machine)
    list(fit(state, Dataset(torch.ones(4, 1)), optim, machine))
    step = ["forward", "done", "backward", "gradient", "done"]
    assert seen == 2 * step


def test_a_processor_rounds_no_factors():
    before = torch.get_float32_matmul_precision()
    with rounded_factors(Speed(tf32=True), torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before


def test_dropout_may_drop_nearly_everything():
    h = BitDropout(0.999995)(torch.ones(1000))
    assert h.isfinite().all() and float(h.count_nonzero()) < 5
