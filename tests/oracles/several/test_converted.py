"""Oracle: converted networks of several inputs and outputs learn as under autograd."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import Network, from_torch
from brodmann.several import called_with, of_each
from brodmann.telemetry import alignment

from ..cases import BESIDE_AUTOGRAD
from .parts import SAMPLES


class Denoiser(nn.Module):
    """Takes a sample and how noisy it is; returns a mean and the logarithm of a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.sample, self.time, self.middle = nn.Linear(6, 8), nn.Linear(1, 8), nn.Linear(8, 8)
        self.mean, self.spread = nn.Linear(8, 6), nn.Linear(8, 6)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.middle(torch.relu(self.sample(x) + self.time(noise.unsqueeze(-1)))))
        return self.mean(hidden), self.spread(hidden)


class Captions(nn.Module):
    """An image and a word; two heads, one of which the other reads, and the image as one layer sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.words = nn.Embedding(7, 5)
        self.kind, self.place = nn.Linear(3 * 9 + 5, 4), nn.Linear(4, 2)
        self.pixels = nn.Parameter(0.1 * torch.randn(50, 4))

    def forward(self, image: Tensor, word: Tensor) -> dict[str, Tensor]:
        seen = self.norm(self.look(image))
        kind = self.kind(torch.cat((torch.relu(seen).flatten(1), self.words(word)), -1))
        kind = kind + image.flatten(1) @ self.pixels
        return {"kind": kind, "place": self.place(torch.relu(kind)), "seen": seen}


class Translator(nn.Module):
    """A sequence is read while another one is written; a mask says which steps there are."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.read = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.query, self.key, self.value, self.say = (nn.Linear(8, size) for size in (8, 8, 8, 9))

    def forward(self, source: Tensor, there: Tensor, target: Tensor) -> Tensor:
        memory = self.read(self.words(source))
        scores = self.query(self.words(target)) @ self.key(memory).transpose(1, 2)
        scores = scores.masked_fill(~there[:, None], -torch.inf)
        return self.say(scores.softmax(-1) @ self.value(memory))


def denoising() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    def loss(output: Any, target: Tensor) -> Tensor:
        mean, spread = output
        return ((mean - target).square() * (-spread).exp() + spread).mean()

    return Denoiser(), (torch.randn(SAMPLES, 6), torch.rand(SAMPLES)), torch.randn(SAMPLES, 6), loss


def captioning() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    def loss(output: Any, target: Any) -> Tensor:
        found = functional.cross_entropy(output["kind"], target["kind"])
        return found + functional.mse_loss(output["place"], target["place"]) + output["seen"].square().mean()

    x = {"image": torch.randn(SAMPLES, 2, 5, 5), "word": torch.randint(0, 7, (SAMPLES,))}
    target = {"kind": torch.randint(0, 4, (SAMPLES,)), "place": torch.randn(SAMPLES, 2)}
    return Captions(), x, target, loss


def translating() -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    source, target = torch.randint(0, 9, (SAMPLES, 5)), torch.randint(0, 9, (SAMPLES, 4))
    there = torch.arange(5) < torch.randint(1, 6, (SAMPLES, 1))

    def loss(output: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(output.flatten(0, 1), wanted.flatten())

    return Translator(), (source, there, target), target.roll(-1, 1), loss


class Sequences(nn.Module):
    """PyTorch's own transformer, whose padding comes as an input."""

    def __init__(self, *, norm_first: bool = False) -> None:
        super().__init__()
        self.words, self.say = nn.Embedding(9, 8), nn.Linear(8, 9)
        self.transformer = nn.Transformer(
            8, 2, 2, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
        )

    def forward(self, source: Tensor, padding: Tensor, target: Tensor) -> Tensor:
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        masks = {"tgt_mask": later, "src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return self.say(self.transformer(self.words(source), self.words(target), **masks))


def transforming(*, norm_first: bool = False) -> tuple[nn.Module, Any, Any, Callable[[Any, Any], Tensor]]:
    _, (source, there, target), wanted, loss = translating()
    return Sequences(norm_first=norm_first), (source, ~there, target), wanted, loss


TASKS = {
    "transforming": transforming,
    "transforming, norm first": partial(transforming, norm_first=True),
    "denoising": denoising,
    "captioning": captioning,
    "translating": translating,
}


def channels_last(output: Any) -> Any:
    return of_each(lambda part: part.movedim(1, -1) if part.ndim == 4 else part, output)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("task", TASKS)
@BESIDE_AUTOGRAD
def test_networks_of_several_inputs_and_outputs_learn_as_under_autograd(task: str, rule: Any, optimiser: Any) -> None:
    torch.manual_seed(0)
    model, x, target, loss = TASKS[task]()
    called_with(model, x)  # for batch norms
    model.eval()
    network = Network(from_torch(model, x, areas=1, feedback="transpose", update=rule), loss, lr=0.01)
    model.train()
    theirs = optimiser(model.parameters(), lr=0.01)
    for _ in range(4):
        theirs.zero_grad()
        value = loss(called_with(model, x), target)
        value.backward()
        theirs.step()
        assert float(network.learn(x, target)) == pytest.approx(value.item(), abs=1e-10)
    expected = of_each(Tensor.detach, channels_last(called_with(model.eval(), x)))
    # Biases below a batch norm have no gradient but rounding, which Adam divides by its epsilon.
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("task", TASKS)
def test_they_learn_with_areas_by_feedback_of_their_own_and_go_through_files(task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, target, loss = TASKS[task]()
    called_with(model, x)
    convert = partial(from_torch, model, x, areas=3, routing="layer")
    network = Network(convert(), loss)
    losses = [float(network.learn(x, target)) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]
    network.save(tmp_path / "network.safetensors")
    other = Network.load(tmp_path / "network.safetensors", body=convert(), loss=loss)
    assert torch.equal(other.learn(x, target), network.learn(x, target))
    assert all(abs(row.cosine) <= 1 + 1e-6 for row in alignment(network, x, target))


@pytest.mark.parametrize("batch_norms", ["batch", "running"])
def test_a_batch_norm_that_is_an_output_leaves_the_map_below_it_to_itself(batch_norms: str) -> None:
    """Both are returned: folded into one, the other would be lost."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.map(x)
            return raw, self.norm(raw)

    class Normed(Both):
        def forward(self, x: Tensor) -> Any:
            return [super().forward(x)[1]]

    for model in (Both(), Normed()):
        model(5.0 + torch.randn(20, 4))
        x = torch.randn(6, 4)
        body = from_torch(model, areas=1, batch_norms=batch_norms)
        expected = of_each(Tensor.detach, tuple(model.eval()(x)))
        torch.testing.assert_close(body(x), expected)


def test_padding_is_what_it_is_while_learning() -> None:
    """At inference alone PyTorch's encoder returns 0 there, by a faster way."""

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            return self.encoder(x, src_key_padding_mask=padding)

    torch.manual_seed(0)
    model, x = Reading(), torch.randn(6, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1], [4], [2], [5]])
    body = from_torch(model, (x, padding), areas=1)
    torch.testing.assert_close(body((x, padding)), model(x, padding).detach())
    assert torch.backends.mha.get_fastpath_enabled()


def test_one_tensor_may_come_and_go_in_a_tuple_or_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.readout = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, *, x: Tensor) -> dict[str, Tensor]:
            return {"y": self.readout(self.map(x).relu())}

    x, model = torch.randn(8, 4), Named()
    network = Network(from_torch(model, {"x": x}, areas=1, feedback="direct"), lambda output, _: output["y"].mean())
    for given in (x, {"x": x}, (x,)):
        torch.testing.assert_close(network(given)["y"], model(x=x)["y"].detach())
    network.learn({"x": x}, x)
    chain = from_torch(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ((4,),), areas=1)
    assert torch.equal(chain((x,)), chain(x))


def test_two_inputs_are_two_where_one_tensor_was_shown_for_both() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.map(x - 2.0 * y)

    model, x, y = Difference(), torch.randn(6, 4), torch.randn(6, 4)
    body = from_torch(model, (x, x), areas=1)
    torch.testing.assert_close(body((x, y)), model(x, y).detach())
