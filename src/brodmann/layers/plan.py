"""Plan: what each node of a `Graph` reads, and what follows from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple


class Node(NamedTuple):
    """A node of a `Graph`.

    Attributes:
        holder: Name of the first node that has its layer, under which the graph holds it.
        reads: Names of the values that it reads.
        last: Which of them it is the last to read: values of nodes, unless they are returned.
    """

    holder: str
    reads: tuple[str, ...]
    last: tuple[str, ...] = ()


Plan = dict[str, Node]
"""The nodes by their names, from input to output."""


def unread(plan: Plan, returned: Collection[str]) -> list[str]:
    """Returns the nodes that no other node reads, and that are not returned."""
    return sorted(plan.keys() - {source for node in plan.values() for source in node.reads} - set(returned))


def with_last_reads(plan: Plan, returned: Collection[str]) -> Plan:
    """Returns the plan in which each node names the values that no later node reads."""
    last_reader = {source: name for name, node in plan.items() for source in node.reads}
    last: dict[str, list[str]] = {name: [] for name in plan}
    for source, reader in last_reader.items():
        if source in plan and source not in returned:
            last[reader].append(source)
    return {name: node._replace(last=tuple(last[name])) for name, node in plan.items()}


def repeated(plan: Plan) -> set[str]:
    """Returns the nodes that share their layer with other nodes."""
    places = Counter(node.holder for node in plan.values())
    return {name for name, node in plan.items() if places[node.holder] > 1}


def leading_to(plan: Plan, name: str) -> set[str]:
    """Returns the nodes and inputs whose values come to a node, directly or not, and the node itself."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting.extend(plan[source].reads if source in plan else ())
    return found
