"""Settings of a training: what decides how it goes on, beside the tensors of its network, as checkpoints hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..files import as_json
from ..losses.stored import describe_loss
from ..network import Network
from ..network.files import every_argument
from .learner import Learner

if TYPE_CHECKING:
    from .trainer import Trainer


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """Returns the settings of a training, as JSON can hold them."""
    pace, schedule, network, held_out = trainer.pace, trainer.schedule, trainer.network, trainer.held_out
    rules = {str(getattr(part, "update_rule", None)) for _, part in network.named_modules()} - {"None"}
    settings = {
        "samples": len(trainer.samples),
        "the digest of the data": trainer.samples.digest,
        "loss": describe_loss(network.loss),
        "rules": sorted(rules),
        "epochs": pace.epochs,
        "batch_size": pace.batch_size,
        "lr": float(trainer.lr),
        "shape": pace.shape if isinstance(pace.shape, str) else getattr(pace.shape, "__name__", "one of its own"),
        **{name: getattr(schedule, name) for name in ("warmup", "seed", "patience", "metric")},
        "validation samples": 0 if held_out is None else len(held_out),
        "the digest of the validation data": "" if held_out is None else held_out.digest,
        **{f"the network's {name}": value for name, value in _design(network).items()},
    }
    if isinstance(network, Network):  # its own may be replaced between steps
        settings |= network.adjustments()
    return as_json(settings)


def go_on_with(trainer: Trainer, before: dict[str, Any]) -> list[str]:
    """Gives the network what of a checkpoint's settings may be replaced; returns in words which others have changed."""
    network = trainer.network
    if isinstance(network, Network) and "rates" in before:
        network.adjust({name: before.pop(name) for name in network.adjustments() if name in before})
    now = settings_of(trainer)
    return [
        f"{name} was {old!r}, is now {now[name]!r}"
        for name, old in before.items()
        if name in now and old != now[name]  # a body changed by hand has no design to compare
    ]


def _design(network: Learner) -> dict[str, Any]:
    """Returns the arguments that a network was built with, if they are known, but for those that its rules tell."""
    design = getattr(network, "design", None) or {}
    whole = every_argument(design) if "builder" in design else design
    return {name: value for name, value in whole.items() if name not in ("update", "optimiser", "momentum", "decay")}
