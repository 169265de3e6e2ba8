"""Files of networks: weights, how the body was built, and the loss, in one safetensors file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from ..areas import Slab
from ..builders import BUILDERS, build
from ..builders.designs import built_from
from ..errors import BrodmannError, CheckpointError, warn
from ..feedback import Feedback
from ..files import as_json, read_tensors, write_tensors
from ..layer import Layer
from ..layers import Constant
from ..losses import Loss
from ..losses.stored import describe_loss, restored_loss
from ..origin import is_ours

ONLY_FOR_LEARNING = ("update", "feedback", "dropout", "pooling", "recompute", "readout_scale", "novelty")
"""Arguments of builders that change how a body starts and learns, and not what it computes from equal weights."""


def check_savable(body: Layer) -> None:
    """Checks that files can hold all that the parts of a body keep.

    Raises:
        BrodmannError: A part keeps something that is not a tensor. Training is not to find that out at its first
            checkpoint.

    Warns:
        UserWarning: A user-defined layer or feedback path keeps a tensor that files do not hold.
    """
    for name, part in body.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            raise BrodmannError(
                f"{type(part).__name__} ('{name}') has extra state, by get_extra_state, which files cannot hold: keep "
                "it in a buffer, with register_buffer."
            )
        if isinstance(part, Layer | Feedback) and not is_ours(part):
            for kept in (kept for kept, value in vars(part).items() if isinstance(value, Tensor)):
                warn(
                    f"{type(part).__name__} ('{name}') keeps the tensor '{kept}' as a plain attribute, which is "
                    f"neither saved nor moved to other devices: keep it with self.register_buffer('{kept}', ...), and "
                    "persistent=False if files need not hold it."
                )


def write_network(path: Path, body: Layer, loss: Loss, settings: dict[str, Any]) -> None:
    """Writes a body, a description of its loss, and JSON-safe settings, atomically."""
    write_tensors(path, body.state_dict(), {**settings, "design": built_from(body), "loss": describe_loss(loss)})


def read_network(path: Path, body: Layer | None, loss: Loss | None) -> tuple[Layer, Loss, dict[str, Any]]:
    """Reads what `write_network` wrote: returns the body with its weights, the loss and the settings.

    Args:
        path: The file.
        body: Built as the saved one; None to build it as the file says.
        loss: None for the one that the file names.

    Raises:
        BrodmannError: The body is not a layer, for example a whole `Network`.
        CheckpointError: The file is missing, damaged, of another design, or needs a body or a loss.
    """
    if not (body is None or isinstance(body, Layer)):
        inside = " give its body." if isinstance(getattr(body, "body", None), Layer) else " build it as the saved one."
        raise BrodmannError(f"Expected body to be the layers of a network, got a {type(body).__name__}:{inside}")
    tensors, options = read_tensors(path)
    if not {"lr", "rates", "clip", "dtype"} <= set(options):
        raise CheckpointError(
            f"{path} does not hold a Network: load files of the baseline with `Backpropagation.load`."
        )
    if not {"design", "loss"} <= set(options):
        raise CheckpointError(f"{path} was written by another version of this package: save the network again.")
    built = body is None
    if body is None:
        body = _built(path, options["design"])
    else:
        _check_design(path, options["design"], built_from(body))
    body.to(torch.float64 if options["dtype"] == "float64" else torch.float32)
    try:
        load_whole(body, tensors)
    except RuntimeError as error:
        raise _misfit(path, str(error), built=built) from None
    return body, restored_loss(path, options["loss"]) if loss is None else loss, options


def _built(path: Path, design: dict[str, Any] | None) -> Layer:
    """Returns the body of a file's design."""
    if design is None:
        raise CheckpointError(
            f"{path} does not say how its body was built: pass a body built by the same code, with the same update "
            "rules."
        )
    return build(design)


def _check_design(path: Path, saved: dict[str, Any] | None, given: dict[str, Any] | None) -> None:
    """Raises if a body of another design than the file's would compute something else; None for an unknown one."""
    if saved is not None and given is not None and (apart := _difference(saved, given)):
        raise CheckpointError(
            f"{path} holds a network of another design: {apart}. Build the body as the saved one was, or leave it out."
        )


def _misfit(path: Path, reason: str, *, built: bool) -> CheckpointError:
    """Returns the error for tensors that do not fit a body, one that was built as the file says or one that came."""
    lines = reason.splitlines()
    first = lines[min(1, len(lines) - 1)].strip()  # PyTorch begins with the class
    if not built:
        return CheckpointError(
            f"{path} does not fit this body: {first.rstrip('.')}. Build the body as the saved one was."
        )
    return CheckpointError(
        f"{path} was written by another version of this package, or of the function that builds its body: train it "
        f"again, or use that version ({first})."
    )


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads all that a module holds, or nothing.

    Args:
        module: What takes it.
        state: Its ``state_dict``; slabs may have any number of slots.

    Raises:
        RuntimeError: The state is that of another module.
    """
    own, state = module.state_dict(), dict(state)
    named = [(f"{name}." if name else "", part) for name, part in module.named_modules(remove_duplicate=False)]
    for prefix, part in named:
        if isinstance(part, Constant):
            part.as_now(state, prefix)
    grown = {prefix + buffer for prefix, part in named if isinstance(part, Slab) for buffer in part.tensors()}
    for name in [name for name in (*own, *state) if name not in state or name not in own]:
        raise RuntimeError(f"{'Missing' if name in own else 'Unexpected'} key {name}.")
    for name, tensor in own.items():
        free, saved = int(name in grown), state[name]
        if saved.ndim != tensor.ndim or saved.shape[free:] != tensor.shape[free:]:
            raise RuntimeError(f"size mismatch for {name}: expected {tuple(tensor.shape)}, got {tuple(saved.shape)}.")
    # Not by `load_state_dict`, which goes through all names for each of the modules: minutes for thousands of layers.
    failed: list[str] = []
    for prefix, part in named:
        part._load_from_state_dict(state, prefix, {}, False, [], [], failed)
    if failed:
        raise RuntimeError(failed[0])
    for _, part in reversed(named):
        for hook in part._load_state_dict_post_hooks.values():
            hook(part, _IncompatibleKeys([], []))


def _difference(saved: dict[str, Any], given: dict[str, Any]) -> str | None:
    """Returns an argument by which bodies of two designs compute differently from equal weights; None if there is none.

    Args:
        saved: Design of a file's body.
        given: Design of another body.
    """
    one, other = every_argument(saved), every_argument(given)
    for name in [*one, *other]:
        if name not in ONLY_FOR_LEARNING and one.get(name) != other.get(name):
            return f"its {name} is {one.get(name)!r}, but that of the body is {other.get(name)!r}"
    return None


def every_argument(description: dict[str, Any]) -> dict[str, Any]:
    """Returns a design with the arguments that it leaves to their defaults."""
    arguments = dict(description)
    name = arguments.pop("builder")
    try:
        bound = inspect.signature(BUILDERS[name]).bind(**arguments)
    except (KeyError, TypeError):  # of another version, or not registered here
        return description
    bound.apply_defaults()
    whole: dict[str, Any] = as_json({"builder": name, **bound.arguments})
    return whole
