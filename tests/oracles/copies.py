"""Networks that are to be equal: those that went through a file, a copy or a pickle go on as the original does."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import torch
from torch import Tensor

from brodmann import Layer, Network


def assert_same_state(one: Network, other: Network) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def assert_copies_go_on_alike(network: Network, body: Layer, x: Tensor, y: Tensor, folder: Path) -> None:
    """Lets all learn one step; ``body`` is one of the same kind, for the file."""
    network.save(folder / "network.safetensors")
    others = [
        Network.load(folder / "network.safetensors", body=body),
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ]
    loss = network.learn(x, y)
    for other in others:
        assert torch.equal(other.learn(x, y), loss)
        assert torch.equal(other(x), network(x))
