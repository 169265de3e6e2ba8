"""Maps: the shared part and the areas' own parts of a layer, how they compute and how they move."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..areas import AreaMap, Slab
from ..autograd import unrecorded
from ..checks import check_whole
from ..errors import BrodmannError
from ..feedback import Feedback, Shape, Signal, follows_alone, let_learn, path_reads_rows
from ..held import Held
from ..kernels import Groups
from ..layer import Context, Gathering
from ..routing import Chosen, Route
from ..rows import repeat_rows
from ..storage import computing
from ..updates import UpdateRule, rule_reads_rows
from .weights import move_with_follower


class Maps(Gathering):
    """Abstract: a layer whose map is a shared part ``W0 x + b0``, the areas' own parts ``D[g] x + d[g]``, or both.

    Attributes:
        in_features: Size of a sample.
        out_features: Size of the output.
        budget: Largest number of areas.
        shared_mode: Whether there is a shared part, and whether it learns, see `AreaLinear`.
        gated: Whether the gate multiplies the area's part.
        pooling: Extra decay on the areas' own parts.
        shared: ``W0``, (1, out, in), with biases ``b0``, (1, out), or None.
        areas: ``D`` and ``d`` of all areas, or None if there is only the shared part.
        feedback: Its feedback path, or None.
        merged: Whether `merge_parts` made it a layer for inference only.
    """

    shared = Held[Slab | None]()
    areas = Held[AreaMap | None]()
    feedback = Held[Feedback | None]()
    update_rule: UpdateRule

    def __init__(self, shape: Shape, biases: Tensor | None, *, shared: str, gated: bool, pooling: float) -> None:
        """Starts both parts, without a feedback path: if there is a shared part, areas start at zero beside it.

        Args:
            shape: Sizes, rule and storage of the maps, and the weights with which they start.
            biases: With which biases, (out,), or None.
            shared: As for `AreaLinear`, as is the rest.
            gated: Whether the gate multiplies the area's part.
            pooling: Extra decay on the areas' own parts.
        """
        super().__init__()
        self.in_features, self.out_features, self.budget = shape.in_features, shape.out_features, shape.areas
        self.shared_mode, self.gated, self.pooling, self._update_rule = shared, gated, pooling, shape.update
        weight, rule = shape.equal_start, shape.update
        self.shared = self.areas = self.feedback = None
        if shared != "off":
            own = None if biases is None else biases[None].clone()
            self.shared = Slab(shape.stored(weight[None].clone()), rule, own)
        if shape.areas > 1 or shared != "learned":
            if shared != "off":
                weight, biases = torch.zeros_like(weight), None if biases is None else torch.zeros_like(biases)
            self.areas = AreaMap(shape.areas, shape.stored(weight), biases, rule)
        self.merged = False

    @torch.inference_mode(False)
    @torch.no_grad()
    def as_linear(self, area: int | None = None) -> nn.Linear:
        """Returns the map of an area, ``W0 + D[g]`` and ``b0 + d[g]``, as PyTorch's: a copy, which autograd can train.

        Args:
            area: ``g``. Default None: the only one.

        Raises:
            BrodmannError: There are several areas and none is named, there is none of that number, or a gate scales its
                part.
        """
        if area is None and self.budget > 1:
            raise BrodmannError(f"A layer of {self.budget} areas has one map for each of them: name an area.")
        if area is not None:
            check_whole(0, area=area)
            if area >= self.budget:
                raise BrodmannError(f"Expected an area from 0 to {self.budget - 1}, got {area}.")
        if self.gated and self.budget > 1:
            raise BrodmannError(
                "This layer is gated: what an area adds is scaled for each sample, so that no nn.Linear computes the "
                "same. Build the layer with gated=False."
            )
        slabs = [] if self.shared is None else [(self.shared, 0)]
        if self.areas is not None:
            slabs.append((self.areas.weight, int(self.areas.slot[area or 0])))
        number = computing(self._map.dtype)
        linear: nn.Linear = skip_init(  # type: ignore[no-untyped-call]  # which draws nothing
            nn.Linear, self.in_features, self.out_features, bias=self.biased, device=self._map.device, dtype=number
        )
        for parameter in linear.parameters():
            parameter.zero_()
        for slab, at in slabs:
            linear.weight.add_(slab.value[at])
            if slab.bias is not None:
                linear.bias.add_(slab.bias.value[at])
        return linear

    @unrecorded
    def merge_parts(self) -> None:
        """Folds the shared part into the areas' maps, ``W0 + D[g]``, for inference: one product per sample, not two.

        No output changes beyond rounding. The layer no longer learns: its feedback and the rule's buffers are dropped.
        A gated layer keeps both parts, and one without areas or without a shared part has nothing to fold.
        """
        shared, areas = self.shared, self.areas
        if shared is not None and areas is not None and not self.gated:
            for own, common in zip(areas.weight.slabs(), shared.slabs(), strict=True):
                own.value.add_(common.value)
            self.shared, self.shared_mode = None, "off"
        for weight in (self.shared, None if areas is None else areas.weight):
            for slab in () if weight is None else weight.slabs():
                slab.forget()
        self.feedback, self.merged = None, True

    def _weights(self) -> list[Tensor]:
        """Returns the weights from which the output is computed."""
        parts = [self.shared, None if self.areas is None else self.areas.weight]
        return [slab.value for part in parts if part is not None for slab in part.slabs()]

    @property
    def one_map(self) -> Tensor | None:
        """The map (out, in), if there is only the shared part; None if it depends on the area."""
        return self.shared.value[0] if self.shared is not None and self.areas is None else None

    @property
    def biased(self) -> bool:
        """Whether its maps have biases."""
        slab = self.shared if self.areas is None else self.areas.weight
        return slab is not None and slab.bias is not None

    @property
    def _map(self) -> Tensor:
        """One of the layer's weights, (slots, out, in): there is a shared part, or there are areas."""
        if self.shared is not None:
            return self.shared.value
        assert self.areas is not None
        return self.areas.weight.value

    def _followed(self, rows: Tensor, choice: Chosen) -> Tensor:
        """Computes the output by operations that autograd and compilers know."""
        out: Tensor | None = None
        if self.shared is not None:
            out = self.shared(rows)
        if self.areas is not None:
            count = rows.shape[0]
            area = rows.new_zeros(count, dtype=torch.int64) if choice is None else repeat_rows(choice.area, count)
            own = self.areas(rows, area)
            if self.gated and choice is not None:
                own = repeat_rows(choice.gate, count)[:, None] * own
            out = own if out is None else out + own
        assert out is not None
        return out

    def _output(
        self, rows: Tensor, route: Route | None, groups: Groups, slot: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Computes the output, (rows, out), by compiled kernels, and the areas' own part of it, if there are any.

        For ``slot`` see `AreaMap.product`.
        """
        own = part = None if self.areas is None else self.areas.product(rows, groups, slot)
        if own is not None and self.gated and route is not None:
            part = repeat_rows(route.gate, own.shape[0])[:, None] * own
        out = part if self.shared is None else self.shared.product(rows, groups, beside=part)
        assert out is not None
        return out, own

    def move_by_rows(self, signal: Signal, context: Context, *, grown: bool) -> None:
        """Moves both parts, and the feedback weights, by what each row computed.

        Args:
            signal: The rows; forward weights have not moved yet.
            context: That of the step.
            grown: Whether areas grow by themselves, see `Rates`.
        """
        rule, rates, lr, feedback = self.update_rule, context.rates, context.lr_of(self), self.feedback
        learned = self.shared_mode == "learned"
        area_rate = rates.of_areas(beside_learned=learned, scale_free=rule.scale_free, grown=grown)
        decay = rule.decay
        area_decay = decay + self.pooling
        shared_lr, feedback_lr = lr * rates.shared, lr * rates.feedback
        x, delta, groups, shared, areas = signal.x, signal.delta, signal.groups, signal.shared, signal.areas
        follower = None
        if feedback is not None and rates.feedback:
            follower = feedback.follower
            let_learn(feedback, signal, feedback_lr, decay, feedback_lr * area_rate, area_decay)
        if learned and rates.shared:
            assert shared is not None
            beside = None if follower is None else follower.target(feedback_lr, decay)
            shared.learn(delta, x, groups, shared_lr, decay, follower=beside)
        elif follower is not None:
            follower.learn(delta, x, groups, feedback_lr, decay)
        if areas is not None and area_rate:
            areas.learn(signal.part_delta, x, groups, lr * area_rate, area_decay)

    @property
    def learns_by_gradient(self) -> bool:
        """Whether the gradient of its one map says how all of its weights move, so that nothing needs rows."""
        if self.one_map is None or self.merged or rule_reads_rows(self.update_rule):
            return False
        return follows_alone(self.feedback)

    @property
    def learns_by_gradients_of_areas(self) -> bool:
        """Whether gradients of areas say how all of its weights move, which are computed and stored in one dtype."""
        by_rows = self.gated or rule_reads_rows(self.update_rule) or path_reads_rows(self.feedback)
        return not by_rows and self._map.dtype != torch.bfloat16

    def move_by_gradient(self, gradient: Tensor, of_bias: Tensor, context: Context) -> None:
        """Moves the one map, and feedback weights that follow it, by (out, in) and (out,): see `learns_by_gradient`."""
        assert self.shared is not None
        gradient, of_bias = context.summed(gradient, of_bias)
        lr, feedback_lr = context.lr_of(self, "shared"), context.lr_of(self, "feedback")
        with context.same_draws():
            move_with_follower(self.shared, self.feedback, gradient, lr, feedback_lr, of_bias)
