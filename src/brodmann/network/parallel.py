"""Parallel: a network that learns in several processes, which together make the steps of one."""

from __future__ import annotations

import hashlib
import math
import zlib
from contextlib import AbstractContextManager, nullcontext
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from ..areas import Slab
from ..errors import BrodmannError
from ..feedback import Feedback
from ..generators import Draws
from ..layer import Gathering, Layer, Observer
from ..layers import BatchNorm, Recurrent
from ..losses.facts import facts_of, name_of_loss
from ..losses.stored import describe_loss
from ..origin import is_ours
from ..processes import MOST, Processes
from ..routing import Recruiting
from ..several import Several, check_batch, of_each, parts_in, rows_of, sample_count
from ..updates import UpdateRule
from .adjustable import routers
from .agreement import DONE, Agreement, Report, shares_of
from .body_with_loss import check_alone
from .composition import Composition
from .network import Network
from .wrapper import Wrapper

BATCHES = ("whole", "own")


class Parallel(Wrapper):
    """Data-parallel training: every process holds a copy of the network and contributes samples to each step.

    A step is that of one process on all of the samples, up to rounding, and leaves the same network in every process,
    bit for bit. Each computes outputs and errors of its own samples. Then processes exchange

    - the gradient of what has one map, as is usual;
    - the rows of what has areas, ``(x, delta, area)``, from which every process computes the updates of the areas that
      were chosen: the traffic is that of the samples, however many areas there are. If gradients are smaller, as for
      patches of images, they are sent instead.

    All processes call `learn`, or `learn_with_output`, together. The loss that it returns is that of the samples of all
    processes. If a step fails in one process, by one of the errors that `Network.learn` names or because the batch is
    too small to be shared, it fails in all of them, and no network has moved.

    Batch norms use the samples of their own process, as under PyTorch's ``DistributedDataParallel``; running
    statistics are the mean over processes. Steps are not captured.

    A loss of your own is taken for a mean over samples, unless its attributes ``sums`` or ``counts_for`` say otherwise.

    Source: our choice; for one map as all data-parallel training.

    Attributes:
        network: The network of this process.
        processes: Who makes the steps; ``processes.bytes_sent`` counts the bytes that went to each of the others.
    """

    def __init__(self, network: Network, group: Any = None, *, batches: str = "whole") -> None:
        """Takes over the state of the first process's network, so that all begin alike.

        Args:
            network: Built by the same code in all processes. Weights, feedback and the rule's buffers become those of
                the first process; learning rate, loss, ``rates`` and the like stay, and must be the same in all.
            group: Group of `torch.distributed` to which this process belongs. Default None: all processes.
            batches: ``"whole"`` (default): every process is given the same batches, as by a `Trainer` of the same seed,
                takes its own share of each, and returns the output of the whole batch. ``"own"``: every process is
                given samples of its own, as by a ``DistributedSampler``, perhaps more or fewer than the others, and
                returns their output.

        Raises:
            BrodmannError: There is no process group, the networks differ, or one of them holds what cannot learn so: a
                router that recruits areas, or a layer of your own that learns and is not a `brodmann.layer.Gathering`.
        """
        super().__init__(network)
        if batches not in BATCHES:
            raise BrodmannError(f"Expected batches to be one of {', '.join(BATCHES)}, got {batches!r}.")
        self.processes, self._whole = Processes(group), batches == "whole"
        self._steps = 0  # by a user-defined loss
        self._described: tuple[Any, str] | None = None  # the loss of the last step
        self._ruled: tuple[list[UpdateRule], int] | None = None  # the rules of the last step
        self.copy_first()

    def _look(self) -> None:
        """Looks for the parts of the network that steps ask; raises if one of them cannot learn so."""
        parts = dict(self.network.body.named_modules())
        for name, part in parts.items():
            _check_part(name, part)
        self._composition = Composition(parts.values())
        self._layers = [part for part in parts.values() if isinstance(part, Layer)]
        self._routers = [router for _, router in routers(self.network)]
        self._slabs = [part for part in parts.values() if isinstance(part, Slab)]
        self._own_path = any(isinstance(part, Feedback) and not is_ours(part) for part in parts.values())
        self._recurrent = any(isinstance(part, Recurrent) for part in parts.values())

    def _check_parts(self) -> None:
        if not self._composition.is_same():
            raise BrodmannError(
                "A part of the network was put in another's place, with weights that differ from process to process: "
                "call copy_first() in all processes after such a change."
            )

    def _step(
        self,
        x: Several,
        target: Several,
        weight: Tensor | None,
        lr: float | None,
        observe: Observer | None,
        *,
        with_output: bool,
    ) -> tuple[Tensor, Any]:
        agreement, batch = Agreement(self.processes), 0.0
        seed = int(torch.randint(2**52, (), device="cpu"))  # as a float64 can tell it
        draws: AbstractContextManager[None] = nullcontext()
        try:
            check_batch(x, target, weight)
            check_alone(x)
            self._check_parts()
            if self._whole:
                self._check_size(sample_count(x))
                self._check_loss(x, target, weight)
                batch = _checksum(*parts_in(x), *parts_in(target), *([] if weight is None else [weight]))
                x, target, weight = self._share_of(x, target, weight)
                # All have the same seed, and their samples masks of their own.
                draws = Draws(seed + self.processes.rank).going_on()
            facts = facts_of(self.network.loss)
            with draws:
                pending, error, loss = self.network.forward_pass(x, target, weight, lr, observe)
                report = Report(
                    DONE,
                    lr=pending.context.lr,
                    batch=batch,
                    settings=self._settings(weight),
                    shapes=self._shapes(x, weight),
                    seed=seed,
                    counts=facts.counts_for(target, weight, sample_count(x)),
                    loss=float(loss),
                )
                error, loss = agreement.agree(error, loss, report, sums=facts.sums)
                context = pending.context._replace(processes=self.processes)
                self.network.error_pass(pending._replace(context=context), error)
        except Exception as error:
            agreement.give_up(error)
            raise
        if with_output and self._whole:
            return loss, of_each(lambda part: self.processes.rows(part)[0], pending.output)
        return loss, pending.output

    @property
    def shares_batches(self) -> bool:
        """Whether every process is given whole batches, as a `Trainer` gives them."""
        return self._whole

    def check_equal(self) -> None:
        """Checks that all processes hold the same network, bit for bit; all call it together, now and then.

        Raises:
            BrodmannError: They do not, for example because processors of different kinds round differently.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.learning_state().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        digests = self.processes.numbers_of_each("a comparison of networks", *digest.digest()[:MOST])
        if apart := [rank for rank, of_rank in enumerate(digests) if of_rank != digests[0]]:
            raise BrodmannError(
                f"Processes {', '.join(map(str, apart))} hold other networks than process 0: give all of them the same "
                "settings and, with batches='whole', the same batches, and run them on processors of one kind."
            )

    def copy_first(self) -> None:
        """Takes over the state of the first process's network.

        All processes call it together after a change there, or once all have put another layer in the place of one.

        Raises:
            BrodmannError: The networks differ in more than numbers, or hold what cannot learn so, see `Parallel`.
        """
        self._look()
        state, processes = self.network.learning_state(), self.processes
        forms = processes.from_first({name: (tuple(part.shape), part.dtype) for name, part in state.items()})
        device = next((part.device for part in state.values()), None)
        received = {}
        for name, (shape, dtype) in forms.items():
            own = state[name].contiguous() if processes.rank == 0 else torch.empty(shape, dtype=dtype, device=device)
            received[name] = processes.tensor_from_first(own)
        try:
            fits = {name: part.dtype for name, part in state.items()} == {
                name: kind for name, (_, kind) in forms.items()
            }
            if fits and processes.rank:
                self.network.load_learning_state(received)
        except RuntimeError:
            fits = False
        if others := [rank for rank, (right,) in enumerate(processes.numbers_of_each("a network", fits)) if not right]:
            raise BrodmannError(
                f"The network of process {others[0]} has other parts than that of process 0: build it by the same "
                "code, with the same arguments, in all of them."
            )

    def _share_of(self, x: Several, target: Several, weight: Tensor | None) -> tuple[Several, Several, Tensor | None]:
        """Returns this process's share of a batch."""
        rows = self.processes.share_of(sample_count(x))
        return rows_of(x, rows), rows_of(target, rows), None if weight is None else weight[rows]

    def _check_size(self, samples: int) -> None:
        if samples < self.processes.count:
            raise BrodmannError(
                f"Expected a sample for each of the {self.processes.count} processes that share a batch, got a batch "
                f"of {samples}: leave it out if it is the last one of an epoch, or choose another batch size."
            )

    def _settings(self, weight: Tensor | None) -> float:
        """Returns a number that stands for everything but the batch that must be the same in all processes."""
        network = self.network
        frozen = [layer.frozen_here for layer in self._layers]
        protected = [sorted(router.protected) for router in self._routers]
        rules, loss = self._number_of_rules(), self._description_of(network.loss)
        return zlib.crc32(repr((network.clip, network.rates, loss, rules, frozen, protected, weight is None)).encode())

    def _number_of_rules(self) -> int:
        """Returns a number that stands for the rules of all weights, with the settings of ours."""
        rules = [slab.update_rule for slab in self._slabs]
        if self._ruled is None or not all(map(is_, rules, self._ruled[0])):
            named = [repr(rule) if is_ours(rule) else type(rule).__name__ for rule in rules]
            self._ruled = rules, zlib.crc32(repr(named).encode())
        return self._ruled[1]

    def _description_of(self, loss: Any) -> str:
        """Returns the name and options of a loss; looked at once, since weights of classes may be many."""
        if self._described is None or self._described[0] is not loss:
            self._described = loss, repr(describe_loss(loss))
        return self._described[1]

    def _shapes(self, x: Several, weight: Tensor | None) -> float:
        """Returns a number that stands for the shapes that processes must have in common."""
        matter = self._own_path or (self._recurrent and self.network.clip is not None)
        of_samples = [part.shape[1:] for part in parts_in(x)] if matter else None
        return zlib.crc32(repr((of_samples, None if weight is None else weight.shape[1:])).encode())

    def _check_loss(self, x: Several, target: Several, weight: Tensor | None) -> None:
        """Raises if a user-defined loss of a batch is not the mean, or the sum, of the losses of its shares.

        It looks in the first step, and each time again after twice as many: at first outputs hardly differ.
        """
        loss: Any = self.network.loss
        facts = facts_of(loss)
        if facts.known:
            return
        self._steps += 1
        if self._steps & (self._steps - 1):  # no power of two
            return
        shares = [self.processes.share_of(sample_count(x), rank) for rank in range(self.processes.count)]
        with torch.no_grad():
            output = self.network(x)
            whole = loss(output, target, weight)
            parts = [(rows_of(target, rows), None if weight is None else weight[rows]) for rows in shares]
            losses = [loss(rows_of(output, rows), *part) for rows, part in zip(shares, parts, strict=True)]
        counts = [facts.counts_for(*part, rows.stop - rows.start) for rows, part in zip(shares, parts, strict=True)]
        factors = shares_of(counts, sums=facts.sums)
        made = sum(factor * float(value) for factor, value in zip(factors, losses, strict=True))
        if math.isfinite(whole) and not math.isclose(whole, made, rel_tol=1e-3, abs_tol=1e-6):
            raise BrodmannError(
                f"The loss of a batch, {float(whole):.6g}, is not the mean of those of its shares, {made:.6g}: give "
                f"{name_of_loss(loss)} an attribute sums = True if it is a sum over samples, or a method "
                "counts_for(target, weight, samples) that returns what it divides by."
            )


def _check_part(name: str, part: nn.Module) -> None:
    """Raises if a part cannot learn in several processes."""
    if isinstance(part, Recruiting):
        raise BrodmannError(
            f"The router '{name}' recruits areas, for which it would have to see the samples of all processes: build "
            "it without novelty."
        )
    if isinstance(part, Layer) and part.moves and not isinstance(part, Gathering | BatchNorm):
        raise BrodmannError(
            f"Layer '{name}' is a {type(part).__name__}, which learns only from the samples of its own process: make "
            "it a brodmann.layer.Gathering, which hands over what it learns from."
        )


def _checksum(*parts: Tensor) -> float:
    """Returns a number that differs for different batches, even if only the order of their samples differs."""
    places = torch.arange(1, len(parts[0]) + 1, dtype=torch.float64)
    sums = (part.reshape(len(part), -1).sum(1, dtype=torch.float64).nan_to_num().cpu() for part in parts)
    return sum(float(of_samples @ places) for of_samples in sums)
