"""Convolutions: patches are those of PyTorch, and all patches of an image follow the image's area."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from brodmann import (
    RLS,
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    ChannelsLast,
    Context,
    Convolution,
    Direct,
    LeastChange,
    Local,
    Network,
    Patches,
    Routed,
    Router,
    Sequential,
    convnet,
)
from brodmann.baselines import Backpropagation
from brodmann.bench.case import Case
from brodmann.bench.estimate import core_hours
from brodmann.bench.tasks import run_case
from brodmann.builders import FEEDBACKS
from brodmann.cli import main
from brodmann.runs import RunOptions
from brodmann.telemetry import alignment, area_usage, class_conflict
from brodmann.training import Schedule, Trainer, evaluate

from .blobs import write_blobs
from .oracles.cases import LAYERS

Pair = tuple[int, int]


@st.composite
def windows(draw: st.DrawFn) -> tuple[dict[str, Pair], tuple[int, int, int, int]]:
    """Draws a window and the shape of images that hold at least one."""
    pair = {"size": (1, 4), "stride": (1, 3), "padding": (0, 2), "dilation": (1, 3)}
    window = {name: (draw(st.integers(*ends)), draw(st.integers(*ends))) for name, ends in pair.items()}
    spans = [
        d * (k - 1) + 1 - 2 * p for k, p, d in zip(window["size"], window["padding"], window["dilation"], strict=True)
    ]
    height, width = (max(1, span) + draw(st.integers(0, 5)) for span in spans)
    return window, (draw(st.integers(0, 3)), draw(st.integers(1, 3)), height, width)


@pytest.mark.usefixtures("double")
@given(drawn=windows(), seed=st.integers(0, 100))
def test_patches_and_a_map_are_a_convolution_and_errors_go_down_its_transpose(
    drawn: tuple[dict[str, Pair], tuple[int, int, int, int]], seed: int
) -> None:
    window, shape = drawn
    torch.manual_seed(seed)
    images, weight = torch.randn(shape), torch.randn(5, shape[1], *window["size"])
    patches = Patches(**window)
    x = images.movedim(1, -1).requires_grad_()
    rows = patches(x)
    matrix = weight.movedim(1, -1).flatten(1)
    found = rows @ matrix.t()
    if len(images):
        options = {name: pair for name, pair in window.items() if name != "size"}
        torch.testing.assert_close(found, functional.conv2d(images, weight, **options).movedim(1, -1))
    error = torch.randn_like(rows)
    traced, trace = patches.trace(x.detach(), Context())
    assert torch.equal(traced, rows)
    torch.testing.assert_close(patches.learn(trace, error, Context()), torch.autograd.grad(rows, x, error)[0])
    error = torch.randn_like(found)
    if len(images):
        torch.testing.assert_close(
            patches.error_through(matrix, error, trace), patches.learn(trace, error @ matrix, Context())
        )


def test_a_window_prints_and_names_what_it_is() -> None:
    assert str(Patches((1, 3), stride=2, padding=(0, 1))) == "Patches((1, 3), stride=2, padding=(0, 1))"
    assert str(Patches(3, dilation=2)) == "Patches(3, stride=1, padding=0, dilation=2)"
    with pytest.raises(BrodmannError, match=r"at least 3 x 5 pixels, including their padding of \(0, 1\), got"):
        Patches((3, 3), padding=(0, 1), dilation=(1, 2))(torch.zeros(1, 2, 5, 1))
    with pytest.raises(BrodmannError, match="Expected stride to be a whole number of at least 1, got 0"):
        Patches(3, stride=(1, 0))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("path", FEEDBACKS)
def test_inference_computes_what_learning_does_and_survives_saving(path: str, layer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, 32), torch.arange(6) % 3
    network = Network(convnet((2, 4, 4), 3, channels=(3,), feedback=path, update=SGD(), **LAYERS[layer]), lr=0.05)
    losses = [float(network.learn(x, y)) for _ in range(8)]
    assert losses[-1] < losses[0]
    torch.testing.assert_close(network(x), network.body.trace(x, Context())[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network.merged()(x), network(x), rtol=1e-4, atol=1e-5)
    followed = network(x.clone().requires_grad_())
    assert followed.requires_grad
    torch.testing.assert_close(followed.detach(), network(x), rtol=1e-5, atol=1e-6)
    network.save(tmp_path / "network.safetensors")
    loaded = Network.load(tmp_path / "network.safetensors")
    assert torch.equal(loaded.learn(x, y), network.learn(x, y))
    assert torch.equal(loaded(x), network(x))


def test_a_convolution_says_what_does_not_fit() -> None:
    layer = Convolution(Patches(3), AreaLinear(9, 4, areas=1))
    _, trace = layer.trace(torch.zeros(2, 5, 5, 1), Context())
    with pytest.raises(BrodmannError, match=r"Expected an error of shape \(2, 3, 3, 4\) and torch.float32"):
        layer.learn(trace, torch.zeros(2, 3, 3, 5), Context())


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_twin_of_a_convolutional_network_is_pytorchs_own_convolutions(optimiser: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    twin = Backpropagation(50, 3, shape=(2, 5, 5), channels=(3, 4), optimiser=optimiser)
    assert sum(isinstance(part, nn.Conv2d) for part in twin.modules()) == 2
    rule = SGD() if optimiser == "sgd" else Adam()
    network = Network(convnet((2, 5, 5), 3, channels=(3, 4), areas=1, feedback="transpose", update=rule))
    maps = [part for part in twin.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    for (_, layer), map_ in zip(network.area_layers(), maps, strict=True):
        weight = map_.weight.detach()
        if weight.ndim == 2:  # of the readout: features lie channels last
            weight = weight.unflatten(1, (4, 1, 1))
        layer.shared.value[0] = weight.movedim(1, -1).flatten(1)
    x, y = torch.randn(12, 50), torch.arange(12) % 3
    torch.testing.assert_close(network(x), twin(x))
    assert torch.equal(twin(x.reshape(-1, 2, 5, 5)), twin(x))
    with pytest.raises(BrodmannError, match=r"Expected images \(samples, 50\) or \(samples, 2, 5, 5\), got"):
        twin(x[:, 1:])
    with pytest.raises(BrodmannError, match=r"got \(12, 5, 5, 2\): bring channels to the front, as by x.movedim"):
        network(x.reshape(-1, 5, 5, 2))
    for _ in range(5):
        torch.testing.assert_close(
            network.learn(x, y, lr=0.01), twin.learn_with_output(x, y, lr=0.01)[0], rtol=1e-9, atol=1e-11
        )
    assert network.active_parameters() == twin.active_parameters()
    twin.save(tmp_path / "twin.safetensors")
    assert torch.equal(Backpropagation.load(tmp_path / "twin.safetensors")(x), twin(x))


def test_the_command_line_trains_convolutions_beside_their_twin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    arguments = ["train", "digits", "--channels", "4", "6", "--areas", "3", "--epochs", "2", "--out", out]
    main([*arguments, "--compare", "--no-figures", "--json"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["channels"] == [4, 6]
    assert result["backpropagation"]["channels"] == [4, 6]
    assert result["backpropagation"]["total_parameters"] == 4 * 10 + 6 * 37 + 10 * 25
    main(["evaluate", out])
    assert f"{result['test_accuracy']:.4f}" in capsys.readouterr().out
    main(["train", "--resume", out, "--channels", "4", "6", "--no-figures"])
    patchwise = str(tmp_path / "patchwise")
    main(
        [
            "train",
            "digits",
            "--channels",
            "4",
            "--areas",
            "3",
            "--epochs",
            "1",
            "--routing",
            "layer",
            "--out",
            patchwise,
        ]
    )
    assert (Path(patchwise) / "figures" / "classes.png").is_file()
    for wrong, message in (
        (["--resume", out, "--channels", "4"], "in which --channels is (4, 6): leave (4,) out"),
        (
            ["digits", "--channels", "4", "--residual"],
            "--residual cannot be combined with --channels: leave one of them out.",
        ),
        ([str(write_blobs(tmp_path / "blobs.npz", 40, 9, 4)), "--channels", "4"], "has the shape (9,): leave it out."),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["train", *wrong])
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_a_case_of_the_benchmark_may_ask_for_convolutions() -> None:
    case = Case("own", "convolutions", RunOptions("digits", areas=2, channels=(4,), epochs=1))
    row = run_case(case)
    assert row["total"] > 0
    assert row["test"] > 0.1
    assert core_hours([case], 1)["own"] > 0


@pytest.mark.parametrize("areas", [1, 4])
def test_images_may_come_as_images_or_flat(areas: int) -> None:
    torch.manual_seed(0)
    network = Network(convnet((2, 4, 4), 3, channels=(4,), areas=areas))
    x = torch.randn(6, 32)
    assert torch.equal(network(x.reshape(6, 2, 4, 4)), network(x))
    other = copy.deepcopy(network)
    assert torch.equal(network.learn(x, torch.arange(6) % 3), other.learn(x.reshape(6, 2, 4, 4), torch.arange(6) % 3))
    assert torch.equal(network(x), other(x))


def test_a_router_of_whole_samples_gives_their_rows_one_area() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6, 4)
    of_samples = Network(Routed(Router(24, 8), AreaLinear(4, 3, areas=8, router=None, feedback=None)))
    of_rows = Network(Routed(Router(4, 8), AreaLinear(4, 3, areas=8, router=None, feedback=None)))
    assert [sum(line.counts) for network in (of_samples, of_rows) for line in area_usage(network, x)] == [5, 30]
    assert of_samples(x).shape == of_rows(x).shape == (5, 6, 3)
    of_samples.learn(x, torch.arange(30).reshape(5, 6) % 3)
    with pytest.raises(
        BrodmannError, match=r"an input of shape \(\.\.\., 24\), or \(samples, \.\.\.\) of 24 numbers each"
    ):
        of_samples(torch.randn(5, 7, 4))


def test_weights_of_samples_count_for_all_their_rows() -> None:
    torch.manual_seed(0)
    network = Network(convnet((1, 4, 4), 3, channels=(4, 5), pool=1, update=RLS(), areas=1))
    twin = copy.deepcopy(network)
    x, y = torch.randn(6, 16), torch.arange(6) % 3
    network.learn(x, y, torch.tensor([2.0, 1, 1, 1, 1, 1]))
    twin.learn(torch.cat([x[:1], x]), torch.cat([y[:1], y]))
    torch.testing.assert_close(network(x), twin(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["direct", Direct, partial(LeastChange, path=partial(Direct, outputs=3))])
def test_direct_feedback_reaches_every_pixel_by_numbers_of_its_own(path: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, 64), torch.arange(6) % 3
    network = Network(convnet((1, 8, 8), 3, channels=(4, 5, 6), areas=1, feedback=path, update=SGD()), lr=0.0)
    _, *convolutions = (layer for layer in network.body.modules() if isinstance(layer, Convolution))
    assert len(convolutions) == 2
    output_error = torch.randn(6, 3)
    for layer, side, channels in zip(convolutions, (4, 2), (4, 5), strict=True):
        before = torch.randn(6, side, side, channels)
        z, trace = layer.trace(before, Context())
        below = layer.learn(trace, torch.randn_like(z), Context(output_error=output_error))
        assert below is not None
        assert below.shape == before.shape
        inner = layer.map.feedback.path if isinstance(layer.map.feedback, LeastChange) else layer.map.feedback
        assert inner.matrix.shape == (3, side * side * 9 * channels)  # type: ignore[union-attr]
        if inner is layer.map.feedback:
            of_patches = (output_error @ inner.matrix).reshape(6, side, side, -1)  # type: ignore[operator]
            expected = functional.fold(
                of_patches.reshape(6, side * side, 3, 3, channels).permute(0, 4, 2, 3, 1).reshape(6, -1, side * side),
                (side, side),
                3,
                padding=1,
            )
            torch.testing.assert_close(below, expected.movedim(1, -1), rtol=1e-5, atol=1e-5)
            rank = torch.linalg.matrix_rank(below.flatten(1))
            assert int(rank) == 3  # every sample's own, not one error for all pixels
            assert float(below.flatten(1, 2).std(1).min()) > 0
    losses = [float(network.learn(x, y, lr=0.02)) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_the_twin_must_fit_machine_and_images() -> None:
    with pytest.raises(BrodmannError, match="This network needs at least"):
        Backpropagation(64, 3, shape=(1, 8, 8), channels=(10**7, 10**7))
    with pytest.raises(BrodmannError, match=r"Expected images of 50 numbers, got images of shape \(1, 8, 8\)"):
        Backpropagation(50, 3, shape=(1, 8, 8), channels=(3,))


def test_all_patches_of_an_image_follow_its_area_and_no_other_area_moves() -> None:
    torch.manual_seed(0)
    network = Network(convnet((1, 6, 6), 3, channels=(4, 5), areas=4, shared="off"))
    network.allocate()
    x, y = torch.randn(200, 36), torch.randint(0, 3, (200,))
    area = network.body.router(x).area  # type: ignore[union-attr,operator]
    chosen = int(area[0])
    before = copy.deepcopy(network.learning_state())
    network.learn(x[area == chosen], y[area == chosen])
    maps = 0
    for name, part in network.area_layers():
        assert part.areas is not None
        old = before[f"body.{name}.areas.weight.value"]
        for other in range(4):
            slot = int(part.areas.slot[other])
            same = torch.equal(part.areas.weight.value[slot], old[slot])
            assert same == (other != chosen)
            maps += not same
    assert maps == 3


def test_a_route_of_samples_serves_rows_of_samples_alone() -> None:
    inner = AreaLinear(3, 2, areas=2, router=None, feedback=None)
    route = Router(4, 2).route(torch.randn(5, 4))
    with pytest.raises(BrodmannError, match=r"has 5 rows, but this layer got 10: .* shape \(samples, \.\.\."):
        inner.trace(torch.randn(10, 3), Context(route=route))
    out, _ = inner.trace(torch.randn(5, 2, 3), Context(route=route))
    assert out.shape == (5, 2, 2)
    assert route.groups_of(10) is route.groups_of(10)


def test_sequences_may_follow_one_area_each() -> None:
    torch.manual_seed(0)
    body = Sequential(
        Local(lambda x: x.reshape(-1, 3, 4)),
        AreaLinear(4, 6, areas=4, router=None, feedback=None),
        Local(lambda h: h.relu().mean(1)),
        AreaLinear(6, 2, areas=4, router=None),
    )
    network = Network(Routed(Router(12, 4), body))
    x = torch.randn(300, 12)
    network_loss = [float(network.learn(x, (x.sum(1) > 0).long())) for _ in range(200)]
    assert network_loss[-1] < 0.5 * network_loss[0]


def test_a_convolutional_network_reads_digits() -> None:
    x, y = load_digits(return_X_y=True)
    samples, target = torch.from_numpy(x).float() / 16, torch.from_numpy(y).long()
    torch.manual_seed(0)
    network = Network(convnet((1, 8, 8), 10, channels=(16, 32)))
    Trainer(network, (samples[:1400], target[:1400]), schedule=Schedule(epochs=8)).run()
    assert evaluate(network, samples[1400:], target[1400:])["accuracy"] > 0.85  # 0.87 to 0.88 with seeds 0 to 4


def test_what_describes_networks_describes_convolutional_ones() -> None:
    torch.manual_seed(0)
    network = Network(convnet((1, 4, 4), 3, channels=(4,), areas=4, feedback="transpose"))
    x, y = torch.randn(20, 16), torch.arange(20) % 3
    network.learn(x, y)
    assert [round(line.cosine, 5) for line in alignment(network, x, y)] == [1.0, 1.0]
    assert [sum(line.counts) for line in area_usage(network, x)] == [20]
    for routing in ("network", "layer"):
        network = Network(convnet((1, 4, 4), 3, channels=(4,), areas=4, routing=routing))
        with pytest.raises(
            BrodmannError, match="can be measured only for layers with one row per sample, not for convolutions"
        ):
            class_conflict(network, x, y)


def test_pooling_takes_channels_last() -> None:
    x = torch.randn(2, 4, 6, 3)
    expected = functional.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(ChannelsLast(nn.MaxPool2d(2))(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (8, 8)}, "Expected the shape of an image, (channels, height, width), got (8, 8)."),
        ({"shape": (1, 0, 8)}, "Expected shape to be a whole number of at least 1, got 0."),
        ({"channels": 8}, "Expected channels to be a list, one number for each convolution, got 8."),
        ({"channels": ()}, "Expected channels to be a list, one number for each convolution, got ()."),
        ({"channels": (8, 0)}, "Expected channels to be a whole number of at least 1, got 0."),
        ({"shape": (1, 3, 8)}, "Images of 3 x 8 pixels are too small for 2 convolutions of size 3 with poolings of 2"),
        ({"channels": (10**7, 10**7)}, "This network needs at least "),
        ({"outputs": None}, "Expected outputs to be a whole number of at least 1, got None."),
        ({"router": {"dimension": "8"}}, "Expected dimension to be a whole number of at least 1, got '8'."),
        ({"pool": 0}, "Expected pool to be a whole number of at least 1, got 0."),
    ],
)
def test_what_a_convolutional_network_cannot_be(arguments: dict, message: str) -> None:
    with pytest.raises(BrodmannError) as caught:
        convnet(**{"shape": (1, 8, 8), "outputs": 3} | arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("areas", [1, 4])
def test_samples_of_another_size_are_refused(areas: int) -> None:
    network = Network(convnet((1, 4, 4), 3, channels=(4,), areas=areas))
    with pytest.raises(BrodmannError, match=r"Expected (images \(samples, 16\)|an input of shape \(\.\.\., 16\))"):
        network(torch.randn(3, 15))
    with pytest.raises(BrodmannError, match=r"Expected (images|an input of shape)"):
        network.learn(torch.randn(3, 1, 4, 5), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(BrodmannError, match="Expected x to be a tensor, got ndarray"):
        network(torch.randn(3, 16).numpy())
    with pytest.raises(BrodmannError, match=r"of at least 3 x 3 pixels, including their padding of 0, got \(2, 8, 8\)"):
        Patches(3)(torch.randn(2, 8, 8))


def test_a_convolution_says_what_it_is_made_of() -> None:
    with pytest.raises(
        BrodmannError, match="Expected a convolution of Patches and an AreaLinear, got AreaLinear and Patches"
    ):
        Convolution(AreaLinear(9, 4), Patches(3))  # type: ignore[arg-type]
