"""Program: a recording that is computed again for other inputs, call after call, in memory that is there already."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .bindings import quick
from .call import Call
from .leaving import DoesNotFit, Outdated
from .memory import LINE, View, placed
from .nested import leaves, replaced
from .numbers import Answer, Rate
from .recorder import Recorder

_ZEROS = {"zeros", "zeros_like", "new_zeros"}
_ONES = {"ones", "ones_like", "new_ones"}
_Step = tuple[Callable[..., Any], list[Any], dict[str, Any]]


class Program:
    """The calls of a recording, without the Python between them."""

    def __init__(self, recorder: Recorder, inputs: Sequence[Tensor], outputs: Any, rate: float | None) -> None:
        """Lays out the memory of a recording.

        Args:
            recorder: What recorded it, without a refusal.
            inputs: The tensors that it was computed from, which become the program's own.
            outputs: What was computed: tensors, in any structure.
            rate: Learning rate with which it was recorded, None if there was none.
        """
        results = replaced(Tensor, recorder.view_of, outputs)
        begins, size = placed(recorder.pieces)
        self._inputs, self._rate = [_Input(tensor) for tensor in inputs], rate
        self._first: list[_Step] = []  # what changes nothing that was there before
        self._rest: list[_Step] = []
        self._rated: list[tuple[Any, Any, Rate]] = []  # arguments or keywords, and where in them
        self._receivers: dict[int, list[tuple[list[Any], int]]] = defaultdict(list)  # of answers, by the call
        self._room = _room(size)

        def lay(values: Any) -> Any:
            """Returns values with tensors in the place of views."""
            return replaced(View, lambda view: view.tensor(self._room, begins), values)

        self.outputs = lay(results)
        for own in self._inputs:
            own.see([], {"outputs": self.outputs}, by_address=False)
        for number, call in enumerate(recorder.calls):
            if not call.dropped:
                step = self._step(number, call, lay)
                (self._rest if self._rest or call.moves else self._first).append(step)
        self._draws = recorder.draws > 0
        self._held = recorder.calls  # the tensors whose addresses kernels have

    def _step(self, number: int, call: Call, lay: Callable[[Any], Any]) -> _Step:
        """Returns what makes a call again, in the memory laid out; notes where numbers that change stand in it."""
        function, arguments, keywords = call.function, list(lay(call.arguments)), lay(call.keywords)
        by_address = takes_addresses(function)
        for own in self._inputs:
            own.see(arguments, keywords, by_address=by_address)
        for place, argument in enumerate(arguments):
            if isinstance(argument, Answer):
                self._receivers[argument.call].append((arguments, place))
                arguments[place] = int(argument)
            elif isinstance(argument, Tensor) and by_address:
                arguments[place] = _address(argument)
        if call.made is not None:
            function, arguments, keywords = _into(function, arguments, keywords, lay(call.made))
        elif call.answer is not None:
            function = partial(_answered, function, self._receivers[number], call.answer)
        for given, places in ((arguments, enumerate(arguments)), (keywords, keywords.items())):
            rates = [(place, value) for place, value in places if isinstance(value, Rate)]
            for place, rate in rates:
                self._rated.append((given, place, rate))
                given[place] = rate.plain
        return quick(function, arguments, keywords), arguments, keywords

    @property
    def memory(self) -> int:
        """Bytes of what it computes."""
        return self._room.nbytes

    def run(self, inputs: Sequence[Tensor], rate: float | None) -> Any:
        """Computes it again; returns the outputs, which the next call overwrites.

        Args:
            inputs: In shape and dtype as recorded, contiguous.
            rate: Learning rate, above 0, None if it was recorded without one.

        Raises:
            DoesNotFit: The step would go another way. The generator is as it was.
            Outdated: So would all later steps.
        """
        for own, given in zip(self._inputs, inputs, strict=True):
            own.become(given)
        if rate is not None and rate != self._rate:
            self._go_by(rate)
        drawn = torch.get_rng_state() if self._draws else None
        try:
            for function, arguments, keywords in self._first:
                function(*arguments, **keywords)
        except (RuntimeError, IndexError, DoesNotFit) as why:  # such as a target that is not a class: an ordinary call
            if drawn is not None:  # says so
                torch.set_rng_state(drawn)
            raise (Outdated if isinstance(why, Outdated) else DoesNotFit) from None
        for function, arguments, keywords in self._rest:
            function(*arguments, **keywords)
        return self.outputs

    def _go_by(self, rate: float) -> None:
        """Passes on the multiples of a learning rate; raises a `DoesNotFit` if one of a tiny rate rounds to 0."""
        values = [multiple.at(rate) for *_, multiple in self._rated]
        for value, (arguments, place, _) in zip(values, self._rated, strict=True):
            if value == 0 and arguments[place] != 0:  # an ordinary call moves nothing there
                raise DoesNotFit
        self._rate = rate
        for value, (arguments, place, _) in zip(values, self._rated, strict=True):
            arguments[place] = value


class _Input:
    """A tensor from which a program computes: calls get another in its place, or it is overwritten."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.storage = tensor, tensor.untyped_storage().data_ptr()
        self.given = tensor
        self.places: list[tuple[list[Any], int, bool]] = []
        self.itself = True  # no call takes a part of it, or holds it inside something else

    def see(self, arguments: list[Any], keywords: dict[str, Any], *, by_address: bool) -> None:
        """Looks for it in a call."""
        for place, argument in enumerate(arguments):
            if argument is self.tensor:
                self.places.append((arguments, place, by_address))
            elif any(map(self._shares, leaves(argument))):
                self.itself = False
        if any(map(self._shares, leaves(keywords))):
            self.itself = False

    def _shares(self, part: Any) -> bool:
        return isinstance(part, Tensor) and part.untyped_storage().data_ptr() == self.storage

    def become(self, given: Tensor) -> None:
        """Takes the numbers of a tensor, contiguous, of the same shape and dtype."""
        if self.itself:
            self.given = given  # kernels hold no more than its address
            address = given.data_ptr()
            for arguments, place, by_address in self.places:
                arguments[place] = address if by_address else given
        else:
            ctypes.memmove(self.tensor.data_ptr(), given.data_ptr(), given.nbytes)  # a fifth of the time of `copy_`


def takes_addresses(function: Callable[..., Any]) -> bool:
    """Whether a function is a compiled one, which takes addresses for tensors."""
    return hasattr(function, "argtypes")


def _address(tensor: Tensor) -> int:
    """Returns where a tensor begins, also if it is empty now, as that of the areas that have rows may be."""
    return tensor.untyped_storage().data_ptr() + int(tensor.storage_offset()) * tensor.itemsize


def _room(size: int) -> Tensor:
    """Returns memory, (bytes,), that begins with a cache line."""
    room = torch.empty(size + LINE, dtype=torch.uint8, device="cpu")  # whatever the default device is
    return room[-room.data_ptr() % LINE :][:size]


def _answered(
    function: Callable[..., int], receivers: list[tuple[list[Any], int]], recorded: int, *arguments: Any
) -> None:
    """Calls what returns a whole number, and passes it to the calls that take it."""
    answer = function(*arguments)
    if takes_addresses(function) and (answer < 0) != (recorded < 0):  # see `Answer`
        raise DoesNotFit
    for others, place in receivers:
        others[place] = answer


def _into(operation: Any, arguments: list[Any], keywords: dict[str, Any], made: list[Tensor]) -> _Step:
    """Returns what computes an operation of PyTorch into tensors that are there."""
    name = operation.overloadpacket.__name__
    if name in _ZEROS:
        return torch.ops.aten.zero_.default, made, {}
    if name in _ONES:
        return torch.ops.aten.fill_.Scalar, [*made, 1], {}
    writing = _writing(operation, len(made))
    if writing is not None:
        overload, names = writing
        return overload, arguments, {**keywords, **dict(zip(names, made, strict=True))}

    def compute(*arguments: Any, **keywords: Any) -> None:
        result = [part for part in leaves(operation(*arguments, **keywords)) if part is not None]
        for own, part in zip(made, result, strict=True):
            own.copy_(part)

    return compute, arguments, keywords


def _writing(operation: Any, count: int) -> tuple[Any, list[str]] | None:
    """Returns the form of an operation that writes what it computes into given tensors, and what it calls them.

    None if PyTorch has none, and for losses, some of which give what they write into the shape of all their terms
    before they sum these. That of a convolution or a norm computes and then copies, as is done if there is none.
    """
    packet = operation.overloadpacket
    if packet.__name__.endswith("_loss"):
        return None
    wanted = [(argument.name, str(argument.type)) for argument in operation._schema.arguments]
    for name in packet.overloads():
        overload = getattr(packet, name)
        given = [argument for argument in overload._schema.arguments if not argument.is_out]
        names = [argument.name for argument in overload._schema.arguments if argument.is_out]
        if len(names) == count and [(argument.name, str(argument.type)) for argument in given] == wanted:
            return overload, names
    return None
