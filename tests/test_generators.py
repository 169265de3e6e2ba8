"""Draws: one stream for each seed, whoever else draws."""

from __future__ import annotations

import os
import threading
import time

import torch

from brodmann.generators import Draws, undisturbed


def test_a_fork_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Draws(0).going_on():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        with Draws(1).going_on():
            os._exit(0)
    done.set()
    thread.join()
    for _ in range(600):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
    assert (found, status) == (child, 0)


def test_a_stream_goes_on_where_it_stood_and_leaves_the_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(7)
    whole = torch.rand(4)
    torch.manual_seed(5)
    draws = Draws(7)
    with draws.going_on():
        first = torch.rand(2)
    between = torch.rand(1)
    with draws.going_on():
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(torch.cat([between, torch.rand(2)]), expected)


def test_what_is_drawn_undisturbed_is_drawn_as_if_it_had_not_been() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = torch.rand(1)
    with undisturbed():
        torch.manual_seed(9)
        torch.rand(2)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)


def test_what_is_undisturbed_waits_for_a_stream_in_another_thread() -> None:
    """Else it would put the generators back to where they stood in the middle of the stream."""
    started, order = threading.Event(), list[str]()

    def other() -> None:
        started.set()
        with undisturbed():
            order.append("undisturbed")

    thread = threading.Thread(target=other)
    with Draws(7).going_on():
        thread.start()
        started.wait(60)
        time.sleep(0.05)
        order.append("stream")
    thread.join()
    assert order == ["stream", "undisturbed"]
