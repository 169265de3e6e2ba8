"""PyTorch's embeddings, attention, transformers and others, written out so that torch.fx can follow what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ...errors import BrodmannError
from ..modules import linear_of
from ..nodes import STANDS_FOR
from .recurrent import LAYERS, STEPS, RecurrentCell, RecurrentLayer


def written_out(module: nn.Module) -> nn.Module:
    """Returns a module in which the kinds of `TWINS` do openly what they did, weights kept."""
    return _written_out(module, {})


def _written_out(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in known:
        for name, child in module._modules.items():  # first, so that what stands in several places has one twin
            if child is not None:
                module._modules[name] = _written_out(child, known)
        known[module] = _twin_of(module) if type(module) in TWINS else module
    return known[module]


def _twin_of(module: nn.Module) -> nn.Module:
    """Returns the twin of a module, with the sizes and choices that a network may ask the module for."""
    twin = TWINS[type(module)](module)
    for name, value in vars(module).items():
        if isinstance(value, bool | int | float | str) and not hasattr(twin, name):
            setattr(twin, name, value)
    setattr(twin, STANDS_FOR, type(module))
    return twin


class Embedding(nn.Module):
    """As `nn.Embedding`: row ``x`` of a table."""

    def __init__(self, embedding: nn.Embedding | nn.EmbeddingBag) -> None:
        """Takes the table of an embedding.

        Raises:
            BrodmannError: It rescales its rows as it reads them, or their gradients by how often they are read.
        """
        super().__init__()
        if embedding.scale_grad_by_freq:
            raise BrodmannError(f"{embedding} cannot be converted: leave scale_grad_by_freq out.")
        if embedding.max_norm is not None:
            raise BrodmannError(
                f"{embedding} cannot be converted: its max_norm changes its weights at every call. Leave max_norm out."
            )
        self.weight, self.padding = embedding.weight, embedding.padding_idx

    def forward(self, x: Tensor) -> Tensor:
        """Takes whole numbers (...); returns (..., size)."""
        return functional.embedding(x, self.weight, self.padding)


class EmbeddingBag(Embedding):
    """As `nn.EmbeddingBag` of bags of equal size: sum, mean or largest of rows of a table."""

    def __init__(self, bag: nn.EmbeddingBag) -> None:
        """Takes the table of a bag.

        Raises:
            BrodmannError: As `Embedding`, or some of its rows are left out.
        """
        super().__init__(bag)
        if self.padding is not None:
            raise BrodmannError(f"{bag} cannot be converted: leave padding_idx out.")
        self.mode = bag.mode

    def forward(self, input: Tensor, offsets: None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Takes whole numbers (samples, bag), and perhaps a factor for each; returns (samples, size)."""
        if offsets is not None:
            raise BrodmannError("nn.EmbeddingBag cannot be converted with offsets: pass bags as (samples, bag).")
        rows = super().forward(input)
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(-1)
        if self.mode == "max":
            return rows.max(1).values
        return rows.sum(1) if self.mode == "sum" else rows.mean(1)


class Bilinear(nn.Module):
    """As `nn.Bilinear`: ``x1^T W x2 + b``, a map of the products of both inputs' features."""

    def __init__(self, bilinear: nn.Bilinear) -> None:
        """Takes the weights."""
        super().__init__()
        self.map = linear_of(bilinear.weight.flatten(1), bilinear.bias)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Takes (..., in1) and (..., in2); returns (..., out)."""
        return self.map((input1.unsqueeze(-1) * input2.unsqueeze(-2)).flatten(-2))


class Attention(nn.Module):
    """As `nn.MultiheadAttention`: ``softmax(Q K^T / sqrt(d)) V`` for each head, between linear maps."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Takes the weights of an attention.

        Raises:
            BrodmannError: It adds keys of its own.
        """
        super().__init__()
        if attention.bias_k is not None or attention.add_zero_attn:
            raise BrodmannError(
                "nn.MultiheadAttention cannot be converted: expected one without add_bias_kv and add_zero_attn."
            )
        self.batch_first = attention.batch_first
        self.heads, self.share = attention.num_heads, attention.dropout
        joint = attention.in_proj_weight
        each = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        weights = each if joint is None else joint.chunk(3)
        biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        self.query, self.key, self.value = map(linear_of, weights, biases)
        self.out_proj = linear_of(attention.out_proj.weight, attention.out_proj.bias)
        self.dropout = nn.Dropout(self.share)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Takes (samples, steps, size), masks (samples, keys) and (steps, keys); returns the shape of q, and weights.

        Unless the batch comes first, the tensors are (steps, samples, size). Weights that nobody reads are left out.
        """
        if not self.batch_first:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        q, k, v = (self._of_heads(part) for part in (self.query(query), self.key(key), self.value(value)))
        mask = None if attn_mask is None else added(attn_mask, q)
        if key_padding_mask is not None:
            padding = added(key_padding_mask, q)[:, None, None]
            mask = padding if mask is None else mask + padding
        weights = None
        if self.share or need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.query.out_features / self.heads)
            weights = (scores if mask is None else scores + mask).softmax(-1)
        if self.share:
            weights = self.dropout(weights)
            y = weights @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        return y if self.batch_first else y.transpose(0, 1), weights if need_weights else None

    def _of_heads(self, x: Tensor) -> Tensor:
        """Returns (samples, steps, size) as (samples, heads, steps, size of a head)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)


class _TransformerLayer(nn.Module):
    """What layers of encoders and decoders have in common: attention to their own steps, and two maps."""

    def __init__(self, layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> None:
        """Takes the parts of a layer."""
        super().__init__()
        self.self_attn, self.linear1, self.linear2 = layer.self_attn, layer.linear1, layer.linear2
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.dropout, self.dropout1, self.dropout2 = layer.dropout, layer.dropout1, layer.dropout2
        self.activation, self.norm_first = layer.activation, layer.norm_first

    def _residual(self, x: Tensor, norm: nn.Module, path: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns a value with what a path makes of it; the norm comes before the path, or after the sum."""
        return x + path(norm(x)) if self.norm_first else norm(x + path(x))

    def _attended(self, x: Tensor, norm: nn.Module, mask: Tensor | None, padding: Tensor | None) -> Tensor:
        return self._residual(x, norm, lambda x: self.dropout1(self.self_attn(x, x, x, padding, attn_mask=mask)[0]))

    def _mapped(self, x: Tensor, norm: nn.Module, dropout: nn.Module) -> Tensor:
        return self._residual(x, norm, lambda x: dropout(self.linear2(self.dropout(self.activation(self.linear1(x))))))


class EncoderLayer(_TransformerLayer):
    """As `nn.TransformerEncoderLayer`: attention and two maps, each in a residual path with a norm."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Takes (samples, steps, size); returns the same shape."""
        src = self._attended(src, self.norm1, src_mask, src_key_padding_mask)
        return self._mapped(src, self.norm2, self.dropout2)


class DecoderLayer(_TransformerLayer):
    """As `nn.TransformerDecoderLayer`: two attentions, the second to what an encoder read, and two maps."""

    def __init__(self, layer: nn.TransformerDecoderLayer) -> None:
        """Takes the parts of a layer."""
        super().__init__(layer)
        self.multihead_attn, self.norm3, self.dropout3 = layer.multihead_attn, layer.norm3, layer.dropout3

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Takes (samples, steps, size), and what was read, (samples, keys, size); returns the shape of the first."""
        tgt = self._attended(tgt, self.norm1, tgt_mask, tgt_key_padding_mask)
        tgt = self._residual(tgt, self.norm2, lambda x: self._read(x, memory, memory_mask, memory_key_padding_mask))
        return self._mapped(tgt, self.norm3, self.dropout3)

    def _read(self, x: Tensor, memory: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor:
        return self.dropout2(self.multihead_attn(x, memory, memory, padding, attn_mask=mask)[0])


class Decoder(nn.Module):
    """As `nn.TransformerDecoder`: layers one after the other, and perhaps a norm."""

    def __init__(self, stack: nn.TransformerEncoder | nn.TransformerDecoder) -> None:
        """Takes the layers of an encoder or a decoder."""
        super().__init__()
        self.layers, self.norm = stack.layers, stack.norm

    def forward(self, tgt: Tensor, *others: Any, **named: Any) -> Tensor:
        """Takes what each of its layers takes, such as a `DecoderLayer`; returns the shape of the first."""
        for layer in self.layers:
            tgt = layer(tgt, *others, **named)
        return tgt if self.norm is None else self.norm(tgt)


class Encoder(Decoder):
    """As `nn.TransformerEncoder`, likewise."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Takes (samples, steps, size); returns the same shape."""
        return super().forward(src, mask, src_key_padding_mask)


class Transformer(nn.Module):
    """As `nn.Transformer`: a decoder that reads what an encoder makes of another sequence."""

    def __init__(self, transformer: nn.Transformer) -> None:
        """Takes an encoder and a decoder."""
        super().__init__()
        self.encoder, self.decoder = transformer.encoder, transformer.decoder

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Takes two sequences, (samples, steps, size); returns the shape of the second."""
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder(tgt, memory, *masks)


@fx.wrap
def added(mask: Tensor, like: Tensor) -> Tensor:
    """Returns a mask as what is added to scores, in the dtype of a tensor; in a boolean mask, True forbids."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -math.inf)


TWINS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Embedding: Embedding,
    nn.EmbeddingBag: EmbeddingBag,
    nn.Bilinear: Bilinear,
    nn.MultiheadAttention: Attention,
    nn.TransformerEncoderLayer: EncoderLayer,
    nn.TransformerEncoder: Encoder,
    nn.TransformerDecoderLayer: DecoderLayer,
    nn.TransformerDecoder: Decoder,
    nn.Transformer: Transformer,
    **dict.fromkeys(LAYERS, RecurrentLayer),
    **dict.fromkeys(STEPS, RecurrentCell),
}
