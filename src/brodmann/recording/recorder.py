"""Recorder: listens while a function computes, and finds out whether a list of calls would compute the same again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .call import Call
from .function_calls import FunctionCalls
from .leaving import ask_again
from .memory import Piece, View
from .mode import Mode
from .nested import leaves, replaced
from .numbers import Answer, Rate
from .operations import UNWRITTEN, depends_on_numbers, name_of, written_by
from .reporting import report_to

_one_at_a_time = threading.Lock()


class Recorder(Mode):  # type: ignore[no-untyped-call]
    """Records what one thread computes inside its block; the numbers are what they would be without it.

    Attributes:
        calls: What was computed, in order.
        pieces: The memory that it made.
        refusal: Why replaying the calls would not compute the same for other inputs; None if it would.
    """

    def __init__(self, state: Iterable[Tensor]) -> None:
        """Expects that what is recorded changes no earlier tensors but these."""
        super().__init__()
        self.thread = threading.get_ident()
        self.calls: list[Call] = []
        self.pieces: list[Piece] = []
        self.refusal: str | None = None
        self._state = {_storage_of(tensor) for tensor in state}
        self._piece_of: dict[int, int] = {}
        self._alive: list[StorageWeakRef] = []  # so that no other memory gets the identity of one that was freed
        self._answers: dict[tuple[object, str], bool] = {}
        self._inside = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Records what is computed inside the block. Only one thread records at a time."""
        with ExitStack() as stack:
            if not _one_at_a_time.acquire(blocking=False):
                self.refuse("another thread is being recorded")
                yield
                return
            stack.callback(_one_at_a_time.release)
            stack.enter_context(self)
            stack.enter_context(FunctionCalls(self))
            report_to(self)
            stack.callback(report_to, None)
            yield

    def rate(self, value: float) -> Rate:
        """Returns a learning rate that may be another one each time."""
        return Rate(value, (), self)

    def refuse(self, why: str) -> None:
        """Gives up the recording, not what is computed. The first reason is kept."""
        if self.refusal is None and not self._inside:
            self.refusal = why

    def view_of(self, tensor: Tensor) -> View | Tensor:
        """Returns the place of a tensor in memory that was made meanwhile, or the tensor itself; it counts as a use."""
        piece = self._piece_of.get(_storage_of(tensor))
        if piece is None:
            return tensor
        self.pieces[piece].used = len(self.calls)
        return View(piece, tensor.dtype, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))

    def drop(self, number: int, source: int) -> None:
        """Drops a call that makes one tensor, which an earlier call writes in place of what this one was given.

        Args:
            number: Number of the call.
            source: Number of the piece of memory that it was given.
        """
        call = self.calls[number]
        assert call.made is not None
        made = self.pieces[call.made[0].piece]
        within = self.pieces[source].within
        made.within = source if within is None else within
        self.pieces[made.within].used = max(self.pieces[made.within].used, made.used)
        call.dropped = True

    @property
    def draws(self) -> int:
        """How many of the operations that it heard of drew random numbers."""
        tags = (getattr(call.function, "tags", ()) for call in self.calls)  # kernels have none
        return sum(torch.Tag.nondeterministic_seeded in of_call for of_call in tags)

    @property
    def constants(self) -> list[float]:
        """The plain numbers that operations of PyTorch were given, in order: they stay as they are, as rates do not."""
        operations = (call for call in self.calls if name_of(call.function))
        given = (part for call in operations for part in leaves((call.arguments, call.keywords)))
        return [part for part in given if type(part) in (bool, int, float)]

    @property
    def _records(self) -> bool:
        return self.refusal is None and not self._inside

    # What kernels and replayed functions report.

    def hear(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], answer: Any, *, moves: bool = False
    ) -> Any:
        """Takes note of a call that was made, with tensors for addresses; returns the answer for the caller.

        ``moves`` says whether it changed what the network holds.
        """
        if not self._records:
            return answer
        number = len(self.calls)
        self.calls.append(Call(function, self._kept(arguments), answer=answer, moves=moves))
        return answer if answer is None else Answer(answer, number, self)

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], *, moves: bool) -> Any:
        """Makes a call with plain numbers and takes note of it, but not of what goes on inside."""
        plain = [part.plain if isinstance(part, Rate) else part for part in arguments]
        return self.hear(function, arguments, self._unheard(function, *plain), moves=moves)

    def ask(self, part: object, question: str) -> bool:
        """Asks what decides which calls are made, see `asked`."""
        if (part, question) not in self._answers:
            if any(call.moves for call in self.calls):
                self.refuse("what is computed depends on what has moved before")
            answer = self._answers[part, question] = self._unheard(getattr, part, question)
            self.hear(partial(ask_again, part, question, answer), (), None)
        return self._answers[part, question]

    def _unheard(self, function: Callable[..., Any], *arguments: Any) -> Any:
        before, self._inside = self._inside, True
        try:
            return function(*arguments)
        finally:
            self._inside = before

    def keep_from_operations(self, tensor: Tensor) -> None:
        """Takes note that how much of a tensor counts depends on an answer: only kernels may take it."""
        if self._records:
            self.pieces[self._piece_of[_storage_of(tensor)]].for_kernels = True

    # What PyTorch reports.

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Is called for every operation of PyTorch."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._records:
            self._operation(func, args, kwargs, result)
        return result

    def _operation(self, operation: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        """Takes note of an operation, unless it computes nothing, or gives up."""
        returned = [part for part in leaves(result) if part is not None]
        tensors = [part for part in leaves((arguments, keywords)) if isinstance(part, Tensor)]
        looks = any(not isinstance(part, Tensor) for part in returned)
        if looks and not tensors:
            return  # such as of dtypes
        if looks or depends_on_numbers(operation, arguments):
            self.refuse(f"{operation} looks at numbers")
            return
        if name_of(operation) in UNWRITTEN:
            self._make(returned)
            return
        known = {_storage_of(part) for part in tensors}
        new = [part for part in returned if _storage_of(part) not in known]
        changes = operation._schema.is_mutable
        if not changes and returned and not new:
            return  # the same memory, seen in another way
        written = leaves(written_by(operation, arguments, keywords)) if changes else []
        changed = [part for part in written if isinstance(part, Tensor)]
        if why := self._why_not(tensors, returned, new, changed, changes=changes):
            self.refuse(f"{operation} {why}")
            return
        kept = self._kept(arguments), self._kept(keywords)
        made = None if changes else self._make(returned)
        moves = any(_storage_of(part) not in self._piece_of for part in changed)
        self.calls.append(Call(operation, *kept, made=made, moves=moves))

    def _why_not(
        self, tensors: list[Tensor], returned: list[Tensor], new: list[Tensor], changed: list[Tensor], *, changes: bool
    ) -> str | None:
        """Returns why an operation cannot be made again; None if it can.

        Args:
            tensors: What it takes.
            returned: What it returned.
            new: What of that lies in memory of its own.
            changed: What it changes of what it takes.
            changes: Whether it may change anything.
        """
        if any(map(self._for_kernels, tensors)):
            return "takes numbers whose count depends on numbers"
        if changes and new:
            return "changes what it is given, and returns something else"
        if not all(map(self._may_change, changed)):
            return "changes a tensor that belongs to no layer"
        if new and len(new) < len(returned):
            return "returns some of what it is given"
        return None

    def _make(self, tensors: list[Tensor]) -> list[View]:
        """Notes new memory; returns the tensors in it."""
        views = []
        for tensor in tensors:
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
            self._alive.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]
            self._piece_of[storage._cdata] = len(self.pieces)
            self.pieces.append(Piece(storage.nbytes(), len(self.calls), len(self.calls)))
            view = self.view_of(tensor)
            assert isinstance(view, View)
            views.append(view)
        return views

    def _kept(self, arguments: Any) -> Any:
        return replaced(Tensor, self.view_of, arguments)

    def _for_kernels(self, tensor: Tensor) -> bool:
        piece = self._piece_of.get(_storage_of(tensor))
        return piece is not None and self.pieces[piece].for_kernels

    def _may_change(self, tensor: Tensor) -> bool:
        storage = _storage_of(tensor)
        return storage in self._piece_of or storage in self._state


def _storage_of(tensor: Tensor) -> int:
    """Returns what identifies the memory of a tensor while it lives."""
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)
