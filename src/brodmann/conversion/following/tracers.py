"""A PyTorch network followed by torch.fx, which calls it with values that stand for those of samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from ...checks import unwrapped
from ...errors import BrodmannError
from ...origin import line_of, package_of
from ...several import Several, called_with, rows_of
from ..modules import MAPS, is_plain
from ..nodes import FOLLOWED_PACKAGES, TRAINING, caller_of, parts_of
from .alone import same_alone
from .answering import Answering
from .derivatives import OwnDerivative, mark, whole_functions
from .kinds import asking_for_kinds
from .proxies import Followed, is_unknown
from .recurrent import NeedsUnrollingError, Recurrence, cells_after


class Root(nn.Sequential):
    """A network in a module whose only argument is what comes to it: a tensor, or a tuple or dictionary of tensors."""

    def __init__(self, network: nn.Module, sample: Several) -> None:
        """Takes the network, and a few samples in the form in which they come."""
        super().__init__(network)
        self.single, self.named = isinstance(sample, Tensor), isinstance(sample, Mapping)
        self.places: tuple[Any, ...] = tuple(sample if isinstance(sample, Mapping) else range(len(sample)))

    def forward(self, x: Any) -> Any:
        """Calls the network."""
        if self.single:
            return self[0](x)
        parts = {place: x[place] for place in self.places}
        return called_with(self[0], parts if self.named else tuple(parts.values()))


class Following:
    """Follows a network with a few samples by the simplest kind of tracer that can, with which later calls begin."""

    def __init__(self, sample: Several) -> None:
        """Takes the samples."""
        self.sample = sample
        answers = partial(_Answers, sample)  # whose graph holds for samples of one shape
        self._kinds: Any = (_StopsAtMaps, answers, partial(answers, constants=True))
        self._kind = 0
        self._shows_itself = False

    def __call__(self, root: Root, whole: Collection[str]) -> fx.Graph:
        """Returns the graph of a network, in which the modules of some names are single steps.

        It is what the network does when it is not followed, or else what it does when it is told that it is.

        Raises:
            BrodmannError: It cannot be followed.
        """
        failures = []
        found = self._by_kinds(root, whole)
        if isinstance(found, _Failed) and found.was_asked and not self._shows_itself:
            failures.append(found.error)
            self._kind, self._shows_itself = 0, True
            found = self._by_kinds(root, whole)
        if isinstance(found, _Failed):
            raise _untraceable(root, [*failures, found.error])
        return found

    def _by_kinds(self, root: Root, whole: Collection[str]) -> fx.Graph | _Failed:
        """Tries one kind of tracer after the other; a refusal ends it, since no other kind would do better."""
        was_asked = False
        while True:
            tracer = self._kinds[self._kind](kept_whole=whole, shows_itself=self._shows_itself)
            try:
                return self._followed(root, tracer)
            except NeedsUnrollingError as error:
                error.layer.unrolled = True
            except Exception as error:  # from the user's code, which meets proxies instead of tensors
                was_asked = was_asked or tracer.was_asked
                if isinstance(error, BrodmannError) or self._kind + 1 == len(self._kinds):
                    return _Failed(error, was_asked)
                self._kind += 1

    def _followed(self, root: Root, tracer: _StopsAtMaps) -> fx.Graph:
        graph = _graph_of(root, tracer)
        for node in graph.nodes:
            if node.target is cells_after and node.users:
                layer: Any = root.get_submodule(caller_of(node))
                raise NeedsUnrollingError(layer)
        if isinstance(tracer, _Answers) and tracer.asks_whether_alone:
            _check_alone(root, rows_of(self.sample, slice(1)), graph, tracer)
        return graph


class _Failed(NamedTuple):
    """How following a network ended: with the last tracer's error, and whether the network asked if it is followed."""

    error: Exception
    was_asked: bool


def _graph_of(root: Root, tracer: _StopsAtMaps) -> fx.Graph:
    with _unchanged(root), whole_functions():
        return tracer.trace(root)


def _untraceable(root: Root, failures: Sequence[Exception]) -> BrodmannError:
    """Returns the error for a network that failed while it was followed, in one way or more."""
    if any("argument of type" in str(failure) and "cache" in str(failure).lower() for failure in failures):
        return BrodmannError(
            f"{type(root[0]).__name__} cannot be converted: it returns a cache of what it has read. Let it return "
            "none, as models of Hugging Face do that are built with use_cache=False."
        )
    # Told that it is followed, which is tried last, a network does less that could be refused.
    failure = next((failure for failure in reversed(failures) if isinstance(failure, BrodmannError)), failures[0])
    if isinstance(failure, BrodmannError):
        return failure
    told = one_line(failure)
    instead = "Compose its layers with brodmann.Sequential, Residual and Graph."
    if "'indices'" in told:
        instead = (
            "It uses its input as indices: give a few samples of whole numbers, such as tokens[:2], in place of a "
            "shape."
        )
    return BrodmannError(
        f"{type(root[0]).__name__} cannot be converted: torch.fx cannot trace its forward ({told}; "
        f"{line_of(failure)}). {instead}"
    )


def _check_alone(root: Root, sample: Several, graph: fx.Graph, several: _Answers) -> None:
    """Raises if a graph that was made for several samples does for one what the network would not do."""
    as_before: Any = {name: getattr(several, name) for name in ("constants", "kept_whole", "shows_itself")}
    try:
        alone = _graph_of(root, _Answers(sample, alone=True, **as_before))
        same = same_alone(graph, alone, root, sample)
    except Exception:  # of a network, or a graph, that does not take one sample
        same = False
    if not same:
        raise BrodmannError(
            f"{type(root[0]).__name__} cannot be converted: it treats a sample that comes alone differently than "
            "several, as with `if len(x) > 1`. All it may do differently is to spread what is the same for all "
            "samples, by expand or repeat."
        )


@contextmanager
def _unchanged(root: nn.Module) -> Iterator[None]:
    """Restores what modules hold, which a network that remembers sizes replaces while it is followed."""
    holders = [held for part in root.modules() for held in (part.__dict__, *part.__dict__.values())]
    held = [(holder, dict(holder)) for holder in holders if isinstance(holder, dict)]
    lists = [(holder, list(holder)) for holder in holders if isinstance(holder, list)]
    try:
        yield
    finally:
        for holder, before in held:
            added = [(key, part) for key, part in holder.items() if not (is_unknown(key) or isinstance(part, fx.Proxy))]
            holder.clear()  # as a whole, since a size that is no longer followed cannot be looked up
            holder.update(added)  # what torch.fx added stays, such as constants
            holder.update(before)
        for several, whole in lists:
            several[:] = whole


def one_line(error: Exception) -> str:
    """Returns an error's kind and text on one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


class _StopsAtMaps(fx.Tracer):
    """Stops at PyTorch's own modules and at maps of other classes, not at functions that would hide parameters."""

    was_asked = False
    """Whether the network asked whether it is being followed."""

    def __init__(self, *, kept_whole: Collection[str], shows_itself: bool) -> None:
        """Takes the names of further modules at which it stops, and whether it tells a network that it is followed."""
        super().__init__()
        self.kept_whole, self.shows_itself = kept_whole, shows_itself

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        with asking_for_kinds(self.is_tensor, self._is_followed):
            return super().trace(root, concrete_args)

    def _is_followed(self) -> bool:
        self.was_asked = True
        return self.shows_itself

    def is_tensor(self, node: fx.Node) -> bool:
        """Raises, since there are no values yet by which to answer."""
        raise fx.proxy.TraceError("isinstance(x, Tensor) asks what a value is")

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        shows = type(m) is nn.PReLU or (isinstance(m, MAPS) and not is_plain(m))
        stops = isinstance(m, (*MAPS, Recurrence)) or module_qualified_name in self.kept_whole
        return not shows and (stops or super().is_leaf_module(m, module_qualified_name))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if (inside := unwrapped(m)) is not m:
            return inside(*args, **kwargs)
        if isinstance(m, _ConvTransposeNd) and len(args) + len(kwargs) > 1:  # given the size of what it returns
            return forward(*args, **kwargs)
        try:
            self.path_of_module(m)
        except NameError:  # one that is no part of the network, such as an activation that a package holds
            held = [*m.parameters(), *m.buffers()]
            if not held and not any(isinstance(part, _BatchNorm) for part in m.modules()):
                return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Followed(node, self)

    def create_arg(self, a: Any) -> Any:
        # NumPy's numbers pass for Python's, and are written as `np.float64(...)` into code that knows no `np`.
        return super().create_arg(a.item() if isinstance(a, numpy.generic) else a)

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *others: Any, **more: Any
    ) -> Any:
        function = kind == "call_function" and not isinstance(target, OwnDerivative)
        hides = function and package_of(target) not in FOLLOWED_PACKAGES
        if hides and any(map(self._is_parameter, parts_of((args, kwargs)))):
            return target(*args, **kwargs)
        made = super().create_proxy(kind, target, args, kwargs, *others, **more)
        if kind == "call_module":
            made.node.meta[TRAINING] = self.root.get_submodule(target).training
        if not torch.is_grad_enabled():
            mark(made.node, self.root.get_submodule(target) if kind == "call_module" else None)
        return made

    def _is_parameter(self, part: Any) -> bool:
        if isinstance(part, fx.Proxy):
            return part.node.op == "get_attr" and part.node.target in self._names
        return isinstance(part, nn.Parameter)

    @cached_property
    def _names(self) -> set[str]:
        """Names of the network's parameters."""
        return {name for name, _ in self.root.named_parameters(remove_duplicate=False)}


class _Answers(Answering, _StopsAtMaps):
    """As `_StopsAtMaps`, but questions about sizes are answered from samples, and buffers may be cut to a size."""
