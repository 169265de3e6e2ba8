"""Update rules of one's own: where they are registered, what they may do, and what they are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BrodmannError,
    CheckpointError,
    CrossEntropy,
    DivergenceError,
    Network,
    UpdateRule,
    mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.builders import design
from brodmann.losses import LOSSES
from brodmann.runs import RunOptions, start_run
from brodmann.runs.assembly import loss_of
from brodmann.updates import UPDATES, Factors, RuleOptimizer

from .parts import X, Y, each_of, message_of


@dataclass(frozen=True)
class Downhill(UpdateRule):
    """Gradient descent under another name: it remembers nothing, and says nothing of it."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        factors.add_to(weight, keep=1.0 - lr * decay, scale=-lr)


@dataclass(frozen=True)
class Elsewhere(UpdateRule):
    """A rule that returns the moved weight instead of moving it."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> Any:
        return weight - lr * factors.dense()


class Listing(Elsewhere):
    """A rule that names its buffers in a list."""

    def state_shapes(self, shape: tuple[int, ...]) -> Any:
        return ["mean"]


CASES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Network(mlp(6, 3, areas=1, update=Elsewhere())).learn(X, Y),
        "Elsewhere.apply should change the weight in place and return nothing.",
    ),
    (
        lambda: design("mlp", Elsewhere(), in_features=6, outputs=3),
        "A design refers to its rule by name: register yours first, with brodmann.updates.UPDATES['elsewhere'] = "
        "Elsewhere.",
    ),
    (
        lambda: AreaLinear(6, 3, update=Listing()),
        "Listing.state_shapes should return a dictionary of buffers' names and shapes, such as {'velocity': shape}, "
        "got list.",
    ),
]


@each_of(CASES)
def test_what_users_may_get_wrong(act: Callable[[], object], message: str) -> None:
    assert message_of(act) == message


@dataclass(frozen=True)
class Seeing(Downhill):
    recursive: ClassVar[bool] = True


def test_a_registered_rule_in_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BrodmannError, match="Unknown update rule 'downhill'"):
        RunOptions(optimiser="downhill").check()
    monkeypatch.setitem(UPDATES, "downhill", Downhill)
    options = RunOptions(optimiser="downhill", decay=0.5)
    options.check()
    assert options.update_rule == Downhill(decay=0.5)
    twin = Backpropagation(3, 2, optimiser="downhill", decay=0.5)
    before = twin.body[0].weight.clone()
    twin.learn_with_output(torch.zeros(2, 3), torch.tensor([0, 1]), lr=0.1)  # no gradient: the decay alone
    torch.testing.assert_close(twin.body[0].weight, 0.95 * before)
    monkeypatch.setitem(UPDATES, "seeing", Seeing)
    with pytest.raises(BrodmannError, match="The rule 'seeing' learns streams in one pass"):
        start_run(replace(options, optimiser="seeing"), tmp_path / "run", compare=True)  # before anything is trained
    assert not (tmp_path / "run").exists()
    with pytest.raises(BrodmannError, match="The rule 'rls' learns streams in one pass"):
        RunOptions(optimiser="rls").check()


@dataclass(frozen=True)
class Returning(Downhill):
    """Moves the weight, and returns it as PyTorch's own operations do."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> Any:
        factors.add_to(weight, keep=1.0 - lr * decay, scale=-lr)
        return weight


def test_a_rule_may_return_the_weight_that_it_moved() -> None:
    torch.manual_seed(0)
    plain = Network(mlp(6, 3, areas=1, update=Downhill()))
    torch.manual_seed(0)
    returning = Network(mlp(6, 3, areas=1, update=Returning()))
    assert torch.equal(plain.learn(X, Y), returning.learn(X, Y))
    assert torch.equal(plain(X), returning(X))


class Constructed(Downhill):
    """A rule with an ``__init__`` of its own."""

    def __init__(self, inertia: float = 0.9, **others: Any) -> None:
        super().__init__(**others)
        object.__setattr__(self, "inertia", inertia)


class Narrow(Downhill):
    """A rule that takes nothing but its own settings."""

    def __init__(self, inertia: float = 0.9) -> None:
        object.__setattr__(self, "decay", 0.1)


@pytest.mark.parametrize("rule", [Constructed(0.5), Narrow()])
def test_a_rule_whose_settings_are_no_fields_is_in_no_design(
    rule: UpdateRule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(UPDATES, type(rule).__name__.lower(), type(rule))
    with pytest.raises(
        BrodmannError, match=r"has settings that are no fields.*: write @dataclass\(frozen=True\) above"
    ):
        design("mlp", rule, in_features=6, outputs=3)
    network = Network(mlp(6, 3, areas=1, update=rule))
    network.save(tmp_path / "own")  # a body as its caller builds it, not another rule
    with pytest.raises(CheckpointError, match="pass a body built by the same code"):
        Network.load(tmp_path / "own")


def test_rules_keep_their_own_decay_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATES, "halving", partial(UPDATES["sgd"], decay=0.5))
    options = [RunOptions(optimiser=name) for name in ("adam", "sgd", "halving")]
    assert [one.weight_decay for one in options] == [0.2, 0.0, 0.5]
    assert options[-1].update_rule.decay == 0.5
    assert RunOptions(optimiser="halving", decay=0.1).update_rule.decay == 0.1


def test_rules_and_losses_are_registered_as_what_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATES, "ready", Adam())
    with pytest.raises(BrodmannError, match=r"UPDATES\['ready'\] to be what makes a rule: its class, .*, got Adam\("):
        RunOptions(optimiser="ready").check()
    for loss in (functional.cross_entropy, nn.CrossEntropyLoss(), CrossEntropy()):
        monkeypatch.setitem(LOSSES, "ready", loss)
        with pytest.raises(BrodmannError, match=r"LOSSES\['ready'\] to be what makes a loss, called without"):
            loss_of(RunOptions(loss="ready"), True)
    for maker in (nn.CrossEntropyLoss, lambda: functional.cross_entropy):
        monkeypatch.setitem(LOSSES, "ready", maker)
        assert loss_of(RunOptions(loss="ready"), True)(X[:, :3], Y, None) == CrossEntropy()(X[:, :3], Y)


@dataclass(frozen=True)
class Rebinding(UpdateRule):
    share: float = 0.9

    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"mean": shape}

    def apply(self, weight: Any, state: dict[str, Any], factors: Factors, lr: float, decay: float) -> None:
        state["mean"] = state["mean"] * self.share + factors.dense()
        weight.sub_(lr * state["mean"])


def test_a_rule_that_replaces_its_state_is_told_and_its_own_options_come_first() -> None:
    assert Rebinding(0.5).share == 0.5
    with pytest.raises(
        BrodmannError, match=r"Rebinding.apply should change its state in place, as in state\['m'\].mul_"
    ):
        Network(mlp(6, 3, areas=1, update=Rebinding())).learn(X, Y)


@dataclass(frozen=True)
class Unmoving(Elsewhere):
    """A rule whose name for the weight comes to mean another tensor."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        weight = weight - lr * factors.dense()


def test_a_rule_that_moves_nothing_is_told() -> None:
    model = nn.Linear(6, 3)
    model(X).sum().backward()  # type: ignore[no-untyped-call]
    optimiser = RuleOptimizer(model.parameters(), Unmoving())
    network = Network(mlp(6, 3, areas=1, update=Unmoving()))
    for act in (optimiser.step, lambda: network.learn(X, Y)):
        with pytest.warns(UserWarning, match="Unmoving.apply changed neither the weight nor its state") as caught:
            act()
    assert {warning.filename for warning in caught} == {__file__}  # where the step is made, not inside the package
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.learn(X, Y, lr=0.0)
        Network(mlp(6, 3, areas=1, update=Adam())).learn(X, Y)
        stored = Network(mlp(6, 3, areas=1, update=Downhill(), storage="bfloat16"))
        stored.learn(X, Y)
        with torch.inference_mode():
            stored.learn(X, Y)


@dataclass(frozen=True)
class Normed(UpdateRule):
    """A rule that takes steps of one length."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        gradient = factors.dense()
        weight.sub_(lr * gradient / gradient.norm())


def test_a_rule_that_divides_by_a_gradient_of_0_is_told() -> None:
    told = r"Normed.apply made a weight of shape \(.*\) NaN or infinite by a finite gradient: look for divisions by a"
    with pytest.raises(DivergenceError, match=told):  # areas start at 0: no gradient comes to the router
        Network(mlp(6, 3, areas=4, update=Normed())).learn(X, Y)
    model = nn.Linear(6, 3)
    (0.0 * model(X)).sum().backward()  # type: ignore[no-untyped-call]
    with pytest.raises(DivergenceError, match=told):
        RuleOptimizer(model.parameters(), Normed()).step()
    Network(mlp(6, 3, areas=1, update=Normed())).learn(X, Y)


@dataclass(frozen=True)
class Centring(Downhill):
    """A rule that works on the factors themselves."""

    def apply(self, weight: Tensor, state: Any, factors: Any, lr: float, decay: float) -> None:
        super().apply(weight, state, factors, lr, decay)
        (factors.delta if factors.x is None else factors.x).sub_(1.0)


def test_a_rule_that_changes_the_factors_is_told() -> None:
    x = X.clone()
    with pytest.raises(BrodmannError, match="Centring.apply changed in place what it was given"):
        Network(mlp(6, 3, areas=1, update=Centring())).learn(x, Y)


def test_a_count_that_is_none_is_refused() -> None:
    @dataclass(frozen=True)
    class Counting(UpdateRule):
        def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
            return {"steps": shape}

        def apply(self, weight: Any, state: dict[str, Any], factors: Factors, lr: float, decay: float) -> None:
            pass

    with pytest.raises(BrodmannError, match="'steps', but that name is reserved for a count of shape"):
        mlp(6, 3, areas=1, update=Counting())


def test_a_rule_that_needs_an_argument_does_not_stand_in_the_way_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Needing(SGD):
        size: float = field(kw_only=True)

    monkeypatch.setitem(UPDATES, "needing", Needing)
    RunOptions(optimiser="adam").check()
    Backpropagation(4, 2)
