"""A PyTorch network as a graph of torch.fx, whose functions leave their inputs as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property, partial, wraps
from threading import RLock
from typing import Any, ParamSpec, TypeVar

import numpy
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from ..errors import BrodmannError, warn
from ..generators import generator_states
from ..several import Several, called_with, rows_of
from .alone import same_alone
from .answering import Answering
from .batch_norms import make_norms
from .convertible import unwrapped
from .derivatives import OwnDerivative, mark, whole_functions
from .in_place import leave_out_writing
from .kinds import asking_for_kinds
from .lines import place_of
from .maps import MAPS, is_plain
from .nodes import FOLLOWED_PACKAGES, Followed, is_unknown, package_of, parts_of
from .questions import Questions, questions_of
from .recurrent import Cells, NeedsUnrollingError, Recurrence, RecurrentLayer
from .rewriting import write_out_parts
from .ties import write_out_tied
from .training_mode import (
    TRAINING,
    joining_values,
    keep_from_training,
    leave_out_dropouts,
    modules_that_differ,
    modules_that_draw,
    taking_tensors,
)

P = ParamSpec("P")
R = TypeVar("R")

_ALONE = RLock()


def exclusively(function: Callable[P, R]) -> Callable[P, R]:
    """As the function, but without autocast, whose numbers differ, and in one thread at a time.

    `torch.fx` replaces methods of all modules while it follows one.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _ALONE, torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return call


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


def traced(root: Root, sample: Several) -> tuple[fx.GraphModule, Questions | None]:
    """Returns what a network computes, in which the modules of PyTorch and maps of other classes are single steps.

    Beside it, what the network asked about sizes, if it did: it computes something else where the answers differ.

    Functions and modules that would write into their input return what they would write instead. Biases of functions
    are sums of their own. Modules without parameters that do more in training mode, such as stochastic depth, are
    single steps too. A few samples (samples, ...) answer what the network asks about sizes.

    Raises:
        BrodmannError: The network cannot be followed, writes into what others read, or does something else with a
            single sample than with several.

    Warns:
        UserWarning: Other modules do more in training mode, which is left out.
    """
    whole: Collection[str] = ()
    twin = deepcopy(root).train()  # what is written into buffers in training mode must not be found at inference
    follow = _Following(sample)
    graph, before = follow(root, whole), generator_states()
    for part, other in zip(root.modules(), twin.modules(), strict=True):
        if isinstance(part, RecurrentLayer) and isinstance(other, RecurrentLayer):
            other.unrolled = part.unrolled
    training = follow(twin, whole)
    differ = {*modules_that_differ(graph, training)}
    if drawn := generator_states() != before:  # by the network itself: values of nodes move no generator
        differ.update(modules_that_draw(deepcopy(twin), sample))
    if whole := [name for name in taking_tensors(root, sample) if name in differ] if differ else []:
        graph = follow(root, whole)
        if (kept := joining_values(graph, whole)) != whole:
            whole = kept
            graph = follow(root, whole)
        before = generator_states()
        training = follow(twin, whole)
        drawn = generator_states() != before
    if (left := modules_that_differ(graph, training)) or drawn:
        kinds = dict.fromkeys(type(root.get_submodule(name)).__name__ for name in left or ["0"])
        warn(
            f"What {', '.join(kinds)} does only in training mode is left out. To keep random draws made there, "
            "put them into a separate module that holds no parameters, takes one tensor, or several by place that "
            "are real and depend on the input, and returns one. Or make the noise an input of the network.",
        )
    asked = questions_of(graph, root, training, twin, sample)
    drawing = {name for name, part in root.named_modules() if isinstance(part, _DropoutNd)}.union(whole)
    leave_out_dropouts(graph, training, drawing, type(root[0]).__name__)
    keep_from_training(root, training)
    make_norms(graph, training, root)
    leave_out_writing(graph, root, sample)
    write_out_tied(graph, root)
    write_out_parts(graph, root)
    found = fx.GraphModule(root, graph)
    found.graph.eliminate_dead_code()
    return found, asked


class _StopsAtMaps(fx.Tracer):
    """Stops at PyTorch's own modules and at maps of other classes, not at functions that would hide parameters."""

    others: Collection[str] = ()
    """Names of further modules at which it stops."""
    shows_itself = False
    """Whether a network that asks whether it is being followed is told so."""
    was_asked = False
    """Whether the network asked."""

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
        of_its_own = isinstance(m, MAPS) and not is_plain(m)
        stops = isinstance(m, (*MAPS, Recurrence)) or module_qualified_name in self.others
        return not of_its_own and (stops or super().is_leaf_module(m, module_qualified_name))

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
        if isinstance(a, Cells):
            raise NeedsUnrollingError(a.layer)
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


class _FollowsBuffers(_StopsAtMaps):
    """As `_StopsAtMaps`, but buffers are traced too, so the network may slice them to the input's size."""

    proxy_buffer_attributes = True


class _Answers(Answering, _StopsAtMaps):
    """As `_StopsAtMaps`, but questions about sizes are answered from samples."""


class OfFunctions(fx.Tracer):
    """Traces functions of a network again, as when they are unpickled: sizes of the input may slice buffers."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether it stops at a module."""
        return isinstance(m, OwnDerivative) or super().is_leaf_module(m, module_qualified_name)


class _Following:
    """Follows a network with a few samples by the simplest kind of tracer that can, with which later calls begin."""

    def __init__(self, sample: Several) -> None:
        """Takes the samples."""
        self.sample = sample
        answers = partial(_Answers, sample)  # whose graph holds for samples of one shape
        kinds: Any = (_StopsAtMaps, _FollowsBuffers, answers, partial(answers, constants=True))
        # What a network does when it is not followed, or else what it does when it is told that it is.
        self._ways = [(shows_itself, kind) for shows_itself in (False, True) for kind in kinds]

    def __call__(self, root: Root, whole: Collection[str]) -> fx.Graph:
        """Returns the graph of a network, in which the modules of some names are single steps.

        Raises:
            BrodmannError: It cannot be followed.
        """
        failures: dict[bool, Exception] = {}  # the last one of each way
        was_asked = False
        while self._ways:
            shows_itself, kind = self._ways[0]
            refused = isinstance(failures.get(shows_itself), BrodmannError)  # which no other kind would do better
            if not refused and (was_asked or not shows_itself or not failures):
                tracer = kind()
                tracer.others, tracer.shows_itself = whole, shows_itself
                try:
                    return self._followed(root, tracer)
                except NeedsUnrollingError as error:
                    error.layer.unrolled = True
                    continue
                except Exception as error:  # from the user's own code, which meets proxies instead of tensors
                    failures[shows_itself], was_asked = error, was_asked or tracer.was_asked
            del self._ways[0]
        raise _untraceable(root, list(failures.values()))

    def _followed(self, root: Root, tracer: _StopsAtMaps) -> fx.Graph:
        with _unchanged(root), whole_functions():
            graph = tracer.trace(root)
        if isinstance(tracer, _Answers) and tracer.asks_whether_alone:
            _check_alone(root, rows_of(self.sample, slice(1)), graph, tracer)
        return graph


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
        f"{place_of(failure)}). {instead}"
    )


def _check_alone(root: Root, sample: Several, graph: fx.Graph, several: _Answers) -> None:
    """Raises where a graph that was made for several samples does for one what the network would not do."""
    tracer = _Answers(sample, alone=True, constants=several.constants)
    tracer.others, tracer.shows_itself = several.others, several.shows_itself
    try:
        with _unchanged(root), whole_functions():
            alone = tracer.trace(root)
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
