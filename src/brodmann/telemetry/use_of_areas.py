"""How the samples spread over the areas."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BrodmannError, unknown_name
from ..network import Network, check_network, routers
from ..network.batches import batches_of
from ..network.hooks import watched
from ..routing import Choice, Route
from ..several import Several, check_several, sample_count


@dataclass(frozen=True)
class AreaUsage:
    """How often each area of a router was chosen.

    Attributes:
        layer: Name of the layer that holds the router; ``"router"`` for the one route of a routed body.
        counts: Samples of each area; or rows, if a layer routes several rows of each sample.
        entropy: ``-sum_g q_g log q_g`` of the shares q, in nats.
        effective: Effective areas, ``exp(entropy)``: 1 if one area takes all, G if all take the same.
        dead: Areas that no sample chose.
    """

    layer: str
    counts: tuple[int, ...]
    entropy: float
    effective: float
    dead: int


def area_usage(network: Network, x: Several) -> list[AreaUsage]:
    """Counts the areas that the samples x (batch, ..., in) choose, one entry per router, from input to output."""
    return usage_of(network, area_choices(network, x))


def usage_of(network: Network, choices: dict[str, Tensor]) -> list[AreaUsage]:
    """Counts areas by what `area_choices` returned, one entry per router, from input to output.

    Raises:
        BrodmannError: The choices are those of another network.
    """
    rows: list[AreaUsage] = []
    for name, counts in _counts(network, choices).items():
        share = counts.double() / counts.sum().clamp_min(1)
        entropy = float(torch.special.entr(share).sum())
        rows.append(AreaUsage(name, tuple(counts.tolist()), entropy, math.exp(entropy), int((counts == 0).sum())))
    return rows


def area_counts(network: Network, x: Several) -> dict[str, Tensor]:
    """Returns for each router's layer the number of samples in each area, (areas,)."""
    return _counts(network, area_choices(network, x))


def _counts(network: Network, choices: dict[str, Tensor]) -> dict[str, Tensor]:
    of_name = dict(routers(network))
    for name in choices:
        if name not in of_name:
            raise unknown_name("layer with a router", name, of_name)
    return {name: torch.bincount(area.flatten(), minlength=of_name[name].areas) for name, area in choices.items()}


@torch.no_grad()
def area_choices(network: Network, x: Several) -> dict[str, Tensor]:
    """Returns for each router's layer the area of every sample, (samples,), or of all rows of each, (samples, rows).

    A layer sees several rows of a sample if these are patches of an image, say, or if it is called several times,
    as at every step of a sequence. If its rows are not those of samples, such as those of a table: (rows,).
    """
    check_network(network)
    check_several(x=x)
    samples = sample_count(x)
    if not samples:
        raise BrodmannError("Expected at least one sample to count areas with, got none.")
    choices: dict[str, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))  # of each call in a pass
    calls = Counter[str]()

    def keep(name: str, _: Any, __: Any, output: Route | Choice) -> None:
        choices[name][calls[name]].append(output.area)
        calls[name] += 1

    with watched(routers(network), keep):
        for batch in batches_of(x):
            calls.clear()
            network(batch)
    return {name: _by_sample(list(map(torch.cat, of_calls.values())), samples) for name, of_calls in choices.items()}


def _by_sample(calls: list[Tensor], samples: int) -> Tensor:
    """Returns the areas of the rows of all calls, (rows,) each, by sample, if they are rows of samples."""
    if any(len(area) % samples for area in calls):
        return torch.cat(calls)
    areas = torch.cat([area.reshape(samples, -1) for area in calls], 1)
    return areas[:, 0] if areas.shape[1] == 1 else areas
