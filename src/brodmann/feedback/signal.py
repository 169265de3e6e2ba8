"""Signal: what a layer tells its feedback path in an error pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..areas import AreaMap, Slab, map_of_parts
from ..kernels import Groups
from ..processes import Processes
from ..rows import weights_of_rows
from ..several import of_each
from ..updates import check_counts, counted


class Signal(NamedTuple):
    """What one layer offers its feedback path during an error pass.

    Attributes:
        x: Input of the layer, (rows, in).
        delta: Gradient with respect to the layer's output as the feedback sees it, (rows, out).
        part_delta: The same for the area's own part: ``a * delta`` if gated, else ``delta``.
        groups: The rows of each area; while learning, rows of protected areas belong to none.
        output_error: Error at the network's output, (rows, outputs), or None.
        shared: The shared part's weight (slab of one), or None. A path without weight transport does not read it; of
            those here `Transpose` reads it, and `SignSymmetric` its signs.
        areas: The areas' maps, or None; read by the same paths.
        target: What the network's output is compared with, (samples, ...), or None: for paths that carry targets down.
        output: The network's output from before the step, (rows, outputs), or None.
    """

    x: Tensor
    delta: Tensor
    part_delta: Tensor
    groups: Groups
    output_error: Tensor | None
    shared: Slab | None
    areas: AreaMap | None
    target: Tensor | None = None
    output: Tensor | None = None

    def weight_of(self, area: int) -> Tensor:
        """Returns the forward map of an area, ``W0 + D[g]``, (out, in), for paths that read weights, or their signs.

        It has the dtype of x, whatever the weights are stored in.
        """
        return map_of_parts(self.shared, self.areas, area, self.x.dtype)

    @staticmethod
    def joined(several: Sequence[Signal]) -> Signal:
        """Returns one signal for all rows of a layer that stands in several places of a network."""
        if len(several) == 1:
            return several[0]
        errors = [signal.output_error for signal in several if signal.output_error is not None]
        outputs = [signal.output for signal in several if signal.output is not None]
        return several[0]._replace(
            x=torch.cat([signal.x for signal in several]),
            delta=torch.cat([signal.delta for signal in several]),
            part_delta=torch.cat([signal.part_delta for signal in several]),
            groups=Groups.joined([signal.groups for signal in several]),
            output_error=torch.cat(errors) if errors else None,
            output=torch.cat(outputs) if outputs else None,
        )

    def of_all(self, processes: Processes, counts: list[int]) -> Signal:
        """Returns the signal of the rows of all processes; ``counts`` are the numbers of rows of each."""
        output_error, output, target = self.output_error, self.output, self.target
        gated = self.part_delta is not self.delta
        x, delta, area, *part = processes.rows(
            self.x, self.delta, self.groups.of_rows, *([self.part_delta] if gated else []), counts=counts
        )
        return self._replace(
            x=x,
            delta=delta,
            part_delta=part[0] if gated else delta,
            groups=self.groups.of_all(area),
            output_error=None if output_error is None else processes.rows(output_error)[0],
            output=None if output is None else processes.rows(output)[0],
            target=None if target is None else of_each(lambda part: processes.rows(part)[0], target),
        )

    def gradients_of_all(self, processes: Processes) -> Signal:
        """Returns a signal of few rows with the gradients of the rows of all processes, of each area that has some.

        The gradient G of an area, (out, in), is ``I^T G`` and ``(G^T)^T I``: the one of fewer rows is taken. Another
        row, with x = 0, makes the sum of the deltas that of all rows, as biases need it. What looks at single rows, or
        counts them, needs `of_all`; so does a gate, by which areas have other deltas than what they share.
        """
        groups, x, delta = self.groups, self.groups.sort(self.x), self.groups.sort(self.delta)
        (counts,) = processes.summed(torch.bincount(groups.of_rows, minlength=groups.areas))
        chosen = counts.nonzero()[:, 0]
        place = {area: number for number, area in enumerate(chosen.tolist())}
        outputs, inputs = delta.shape[1], x.shape[1]
        weights, biases = delta.new_zeros(len(chosen), outputs, inputs), delta.new_zeros(len(chosen), outputs)
        for area, start, stop in groups.segments:
            torch.mm(delta[start:stop].t(), x[start:stop], out=weights[place[area]])
            biases[place[area]] = delta[start:stop].sum(0)
        weights, biases = processes.summed(weights, biases)
        size = min(inputs, outputs)
        one = torch.eye(size, dtype=delta.dtype, device=delta.device).expand(len(chosen), -1, -1)
        rows, x = (weights.transpose(1, 2), one) if inputs <= outputs else (one, weights)
        rows = torch.cat([rows, (biases - rows.sum(1))[:, None]], 1).flatten(0, 1)
        return self._replace(
            x=torch.cat([x, x.new_zeros(len(chosen), 1, inputs)], 1).flatten(0, 1),
            delta=rows,
            part_delta=rows,
            groups=groups.of_all(chosen.repeat_interleave(size + 1)),
        )

    def repeated(self, weight: Tensor) -> Signal:
        """Returns the signal by which a rule counts each sample ``weight`` times, (samples, ...), see `counted`."""
        check_counts(weight, len(self.x))
        weight = weights_of_rows(weight, len(self.x))
        x, delta, part_delta = counted(weight, self.x, self.delta, self.part_delta)
        return self._replace(x=x, delta=delta, part_delta=part_delta)
