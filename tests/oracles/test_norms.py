"""Norms of images whose channels come last: those of PyTorch, and their derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from brodmann import Context, Local, from_torch
from brodmann.conversion.building.norms import ImageNorm


@pytest.mark.parametrize("given", [1, 2, 3])
@pytest.mark.parametrize(("channels", "groups"), [(6, 1), (6, 2), (6, 6)])
@pytest.mark.parametrize("laid", ["in order", "as a view"])
def test_image_norms_are_group_norms_and_so_are_their_errors(given: int, channels: int, groups: int, laid: str) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, channels, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    with torch.no_grad():
        first.mul_(3).add_(100)  # far from 0: variances are no differences of squares
    factors = [torch.randn(channels, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    taken = (first, *factors)[:given]
    expected = functional.group_norm(first, groups, *taken[1:], eps=1e-3)
    error = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    errors = torch.autograd.grad(expected, taken, error)

    last = first.detach().permute(0, 2, 3, 1)
    last = last if laid == "as a view" else last.contiguous()
    layer = Local(ImageNorm(groups, 1e-3))
    x = (last, *(factor.detach() for factor in taken[1:]))
    y, trace = layer.trace(x if given > 1 else last, Context())
    below = layer.learn(trace, error.permute(0, 2, 3, 1), Context())
    torch.testing.assert_close(y.permute(0, 3, 1, 2), expected)
    torch.testing.assert_close(layer(x), y)
    for ours, theirs in zip(below if given > 1 else [below], errors, strict=True):
        torch.testing.assert_close(ours.permute(0, 3, 1, 2) if ours.ndim == 4 else ours, theirs)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4, eps=0.5), nn.RMSNorm(4, eps=0.5), nn.GroupNorm(2, 4, eps=0.5)], ids=str
)
def test_a_norm_keeps_its_eps_where_it_is_converted(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 4), norm, nn.Linear(4, 3))
    body, x = from_torch(model, (6,), areas=1), torch.randn(5, 6)
    torch.testing.assert_close(body(x), model(x))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("make", [partial(nn.GroupNorm, 2), nn.InstanceNorm2d])
def test_norms_of_images_are_image_norms_where_they_are_converted(make: Any, affine: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), make(4, affine=affine), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    body = from_torch(model, (1, 8, 8), areas=1)
    assert any(isinstance(part, ImageNorm) for part in body.modules())
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(body(x), model(x), rtol=1e-4, atol=1e-5)
