"""Recordings: where memory lies, and numbers that change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from brodmann.recording import Answer, Program, Rate, Recorder
from brodmann.recording.bindings import quick
from brodmann.recording.memory import LINE, Piece, placed


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.integers(0, 20)), max_size=40))
def test_what_is_needed_at_the_same_time_lies_apart(drawn: list[tuple[int, int, int]]) -> None:
    pieces = [Piece(size, made, made + lasts) for size, made, lasts in sorted(drawn, key=lambda piece: piece[1])]
    begins, end = placed(pieces)
    assert all(begin % LINE == 0 and begin + piece.size <= end for begin, piece in zip(begins, pieces, strict=True))
    for number, (begin, piece) in enumerate(zip(begins, pieces, strict=True)):
        for other_begin, other in list(zip(begins, pieces, strict=True))[:number]:
            if other.made <= piece.used and piece.made <= other.used:
                assert begin + piece.size <= other_begin or other_begin + other.size <= begin


def test_equal_pieces_one_after_the_other_share_their_memory() -> None:
    assert placed([Piece(100, k, k + 1) for k in range(0, 20, 2)])[1] == 128


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def refuse(self, why: str) -> None:
        self.reasons.append(why)


def test_multiples_of_a_rate_follow_it_in_the_same_order_of_products() -> None:
    told = Told()
    multiple = 0.3 * (Rate(0.1, (), told) * 3) * 0.7
    assert isinstance(multiple, Rate)
    assert multiple.plain == 0.1 * 3 * 0.3 * 0.7
    assert multiple > 0
    assert bool(multiple)
    assert multiple.at(0.77) == 0.77 * 3 * 0.3 * 0.7
    assert not told.reasons


@pytest.mark.parametrize(
    "compute",
    [
        lambda number: 1 - number,
        lambda number: number + 1,
        lambda number: number - 1,
        lambda number: 2 / number,
        lambda number: number**2,
        lambda number: number * number,
    ],
)
@pytest.mark.parametrize("kind", [lambda told: Rate(4.0, (), told), lambda told: Answer(4, 0, told)])
def test_whatever_else_is_computed_is_right_and_gives_the_recording_up(kind: Any, compute: Any) -> None:
    told = Told()
    number = kind(told)
    result = compute(number)
    assert bool(torch.as_tensor(result == compute(type(number).__base__(4))).all())
    assert told.reasons
    assert not isinstance(result, Rate | Answer)


@pytest.mark.parametrize("compute", [lambda number: -number, lambda number: number * torch.ones(2)])
def test_answers_are_no_rates(compute: Any) -> None:
    told = Told()
    assert bool(torch.as_tensor(compute(Answer(4, 0, told)) == compute(4)).all())
    assert told.reasons


RATED: dict[str, Callable[[Tensor, Tensor, float], object]] = {
    "rate times tensor": lambda weight, x, lr: weight.sub_(lr * x),
    "tensor times rate": lambda weight, x, lr: weight.sub_(x * lr),
    "product in place": lambda weight, x, lr: weight.add_(x.clone().mul_(lr)),
    "alpha": lambda weight, x, lr: weight.sub_(x, alpha=lr),
    "negative alpha": lambda weight, x, lr: torch.Tensor.add_(weight, x, alpha=-lr),
    "value": lambda weight, x, lr: weight.addcmul_(x, x, value=-2 * lr),
    "a sum": lambda weight, x, lr: weight.copy_(torch.add(weight, x, alpha=lr)),
    "a quotient": lambda weight, x, lr: weight.add_(x / lr),
    "one of several numbers": lambda weight, x, lr: weight.add_(0.5, alpha=lr),
}


@pytest.mark.parametrize("way", RATED)
def test_operations_that_are_given_a_rate_follow_it(way: str) -> None:
    move, x, state = RATED[way], torch.randn(3), torch.randn(3)
    recorder = Recorder([state])
    with torch.no_grad(), recorder.listening():
        move(state, x, recorder.rate(0.3))
    assert recorder.refusal is None
    program = Program(recorder, [x], state, 0.3)
    for rate in (0.3, 0.1, 1.0, 0.3):
        given, expected = torch.randn(3), state.clone()
        move(expected, given, rate)
        with torch.no_grad():
            program.run([given], rate)
        assert torch.equal(state, expected)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, lr: torch.clamp(x, -lr, lr),
        lambda x, lr: x.add(0.3, alpha=lr),
        lambda x, lr: lr - x,
        lambda x, lr: torch.softmax(x * 1.0, 0) - torch.tensor(lr),
    ],
)
def test_where_it_is_not_sure_which_number_is_the_rate_the_recording_is_given_up(compute: Any) -> None:
    recorder = Recorder([])
    with torch.no_grad(), recorder.listening():
        compute(torch.randn(3), recorder.rate(0.3))
    assert recorder.refusal is not None


def test_a_rate_that_becomes_a_plain_number_gives_the_recording_up() -> None:
    told = Told()
    assert float(Rate(4.0, (), told)) == 4.0
    assert told.reasons


def test_a_program_computes_what_was_recorded_for_other_inputs() -> None:
    state = torch.zeros(3)

    def function(x: Tensor, y: Tensor) -> Tensor:
        hidden = torch.relu(x @ y)[:, 1:].softmax(1)
        state.add_(hidden.sum(0)[:1])
        top, place = hidden.max(1)
        return hidden.index_select(0, place.clamp(max=3)) + top.unsqueeze(1) * 2 - torch.zeros_like(hidden)

    inputs = torch.randn(4, 5), torch.randn(5, 4)
    recorder = Recorder([state])
    with torch.no_grad(), recorder.listening():
        outputs = function(*inputs)
    assert recorder.refusal is None
    program = Program(recorder, inputs, outputs, 1.0)
    for _ in range(3):
        others = torch.randn(4, 5), torch.randn(5, 4)
        before = state.clone()
        with torch.no_grad():
            found, after = program.run(others, 1.0).clone(), state.clone()
        state.copy_(before)
        assert torch.equal(found, function(*others))
        assert torch.equal(state, after)


ATEN = torch.ops.aten
ROW, NUMBER = torch.ones(3), torch.ones(())
CALLED: dict[str, tuple[Any, list[Any], dict[str, Any], Any]] = {
    "a sum": (ATEN.add.out, [ROW, ROW], {"alpha": 2.0, "out": ROW}, torch.add),
    "a sum with a number": (ATEN.add.out, [ROW, 2.0], {"out": ROW}, torch.add),
    "a sum in place": (ATEN.add_.Tensor, [ROW, NUMBER], {}, torch.Tensor.add_),
    "tensors in a list": (ATEN.stack.out, [[ROW, ROW]], {"out": torch.ones(2, 3)}, torch.stack),
    "another overload": (ATEN.mul_.Scalar, [ROW, 2.0], {}, ATEN.mul_.Scalar._op),
    "a number for a tensor": (ATEN.add_.Scalar, [ROW, 2.0], {}, ATEN.add_.Scalar._op),
    "no binding": (ATEN.rsub.Scalar_out, [ROW, 1], {"out": ROW}, ATEN.rsub.Scalar_out._op),
    "nothing written": (ATEN.add.Tensor, [ROW, ROW], {}, ATEN.add.Tensor),
    "a plain function": (len, [ROW], {}, len),
}


@pytest.mark.parametrize("call", CALLED)
def test_bindings_are_taken_where_they_call_the_same_operation_and_only_there(call: str) -> None:
    operation, arguments, keywords, expected = CALLED[call]
    assert quick(operation, arguments, keywords) is expected


def test_only_one_thread_records_and_hears_of_itself_alone() -> None:
    first, second = Recorder([]), Recorder([])

    def other() -> None:
        second.thread = threading.get_ident()
        with second.listening():
            torch.ones(3).add(1)

    with first.listening():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert second.refusal == "another thread is being recorded"
    assert not first.calls
