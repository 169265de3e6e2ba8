"""Which language models of Hugging Face `from_torch` converts as they are: one of each family, small and untrained.

Run: python benchmarks/language_models.py [--families gpt2 ...] [--steps 2]
Needs transformers, which this package does not. Each family's causal model, or else its masked one, and its encoder
with decoder, are built with two layers of 32 units, without dropout and keeping nothing from call to call, converted
with one area, and compared with themselves on random tokens, of other lengths too, which end in padding where the model
takes a mask. With steps, they also learn that many batches of six sequences by transpose feedback beside themselves
under autograd, in float64 (or float32 where a model knows no other), and two differences are told: the largest of
losses, and of parameters that `to_torch` brings back. A model that cannot be built or called so is none that is tried.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import warnings
from collections import Counter
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from apart import apart, back
from torch import Tensor, nn

from brodmann import SGD, BrodmannError, Network, from_torch

CHARACTERS, STEPS, MOST = 100, 12, 2_000_000
OTHERS = 2, 7, 17  # other lengths
TRANSLATING = "encoder-decoder"
SIZES: dict[str, Any] = {
    "vocab_size": CHARACTERS,
    "hidden_size": 32,
    "embedding_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "ffn_dim": 64,
    "ffn_hidden_size": 64,
    "word_embed_proj_dim": 32,
    "attention_hidden_size": 32,
    "state_size": 4,
    "rescale_every": 0,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_types": [[["global", "local"], 1]],
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_heads": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_encoder_attention_heads": 2,
    "num_decoder_attention_heads": 2,
    "decoder_start_token_id": 1,
    "src_vocab_size": CHARACTERS,
    "tgt_vocab_size": CHARACTERS,
}
"""Of what a configuration has of these."""


class Logits(nn.Module):
    """A model that returns nothing but its logits, and keeps nothing from call to call."""

    def __init__(self, model: nn.Module) -> None:
        """Takes the model."""
        super().__init__()
        self.model = model
        taken = inspect.signature(model.forward).parameters
        self.settings = {"use_cache": False} if "use_cache" in taken else {}
        self.masked = "attention_mask" in taken

    def forward(self, input_ids: Tensor, **others: Tensor) -> Tensor:
        """Takes tokens (samples, steps) and what else there is; returns (samples, steps, characters)."""
        return self.model(input_ids, **others, **self.settings).logits  # type: ignore[no-any-return]


def kinds_of(transformers: Any, family: str) -> dict[str, Any]:
    """Returns what makes the models of a family, by their kind: causal, or else masked; and encoders with decoders."""
    models = transformers.models.auto.modeling_auto
    kinds = {
        "causal": (models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForCausalLM),
        "masked": (models.MODEL_FOR_MASKED_LM_MAPPING_NAMES, transformers.AutoModelForMaskedLM),
        TRANSLATING: (models.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForSeq2SeqLM),
    }
    found = {kind: maker for kind, (families, maker) in kinds.items() if family in families}
    if "causal" in found:
        found.pop("masked", None)
    return found


def built(transformers: Any, family: str, maker: Any) -> Logits:
    """Returns a small model of a family, without dropout.

    Raises:
        ValueError: It is not small, since its sizes have other names.
    """
    config = transformers.AutoConfig.for_model(family)
    for name, size in SIZES.items():
        if hasattr(config, name):
            setattr(config, name, size)
    for name, value in vars(config).items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    if "layer_types" in vars(config):
        config = type(config)(**{**config.to_dict(), "layer_types": None, "num_hidden_layers": 2})
    with torch.device("meta"):
        size = sum(part.numel() for part in maker.from_config(config).parameters())
    if size > MOST:
        raise ValueError(f"it has {size:,} parameters")
    return Logits(maker.from_config(config)).eval()


def inputs(model: Logits, kind: str, count: int, steps: int = STEPS) -> dict[str, Tensor]:
    """Returns random sequences, whose end may be padding where a model takes a mask; with what decoders said, too."""
    given = {"input_ids": torch.randint(3, CHARACTERS, (count, steps))}
    if model.masked:
        given["attention_mask"] = (torch.arange(steps) < torch.randint(steps // 2, steps + 1, (count, 1))).long()
    if kind == TRANSLATING:
        given["decoder_input_ids"] = torch.randint(3, CHARACTERS, (count, steps))
    return given


@torch.no_grad()
def lengths(model: Logits, body: nn.Module, kind: str) -> str:
    """Returns at which other lengths a body answers as the model does.

    Raises:
        ValueError: It answers otherwise.
    """
    same = []
    for steps in OTHERS:
        given = inputs(model, kind, 5, steps)
        try:
            found = body(given)
        except BrodmannError:
            continue
        if not torch.allclose(found, model(**given), atol=1e-4):
            raise ValueError(f"at {steps} steps it answers otherwise than the model")
        same.append(str(steps))
    return f"also for {', '.join(same)} steps" if same else "for this length"


def differences(model: Logits, kind: str, steps: int) -> str:
    """Returns how far losses and parameters under autograd and of what it is converted to are apart at most."""
    before = deepcopy(model.train())
    convert = partial(from_torch, areas=1, routing="layer", feedback="transpose", update=SGD())
    batches = ((inputs(model, kind, 6), torch.randint(0, CHARACTERS, (6, STEPS))) for _ in range(steps))
    network = Network(convert(model, inputs(model, kind, 6)))
    losses = apart(model, network, batches, lr=0.1)
    return f"{losses:.0e}, back {back(network, before, model, inputs(model, kind, 6)):.0e}"


def told_of(model: Logits, kind: str, steps: int) -> str:
    """Converts a model, and tells how far it is from it.

    Raises:
        BrodmannError: It cannot be converted.
    """
    body = from_torch(model, inputs(model, kind, 6), areas=1, routing="layer")
    told = f"converted, {lengths(model, body, kind)}"
    if not steps:
        return told
    try:
        return f"{told}, apart {differences(deepcopy(model).double(), kind, steps)}"
    except (BrodmannError, RuntimeError):  # mostly of a model that knows no float64
        return f"{told}, apart in float32 {differences(model, kind, steps)}"


def main() -> None:
    """Prints a line for every family, and how many were converted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", help="types of models of transformers (default: all of language)")
    parser.add_argument("--steps", type=int, default=0, help="batches to learn beside autograd")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    transformers = importlib.import_module("transformers")
    models = transformers.models.auto.modeling_auto
    maps = (
        models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        models.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        models.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    converted, tried = Counter[str](), Counter[str]()
    for family in arguments.families or sorted(set().union(*maps)):
        for kind, maker in kinds_of(transformers, family).items():
            torch.manual_seed(0)
            name = f"{family}, {kind}"
            try:
                model = built(transformers, family, maker)
                shape = tuple(model(**inputs(model, kind, 6)).shape)
                if shape != (6, STEPS, CHARACTERS):
                    raise ValueError(f"it returns {shape}")
            except Exception as error:  # of whatever a family asks for besides
                print(f"{name:36s} not built: {type(error).__name__} {' '.join(str(error).split())[:120]}", flush=True)
                continue
            tried[kind] += 1
            try:
                print(f"{name:36s} {told_of(model, kind, arguments.steps)}", flush=True)
                converted[kind] += 1
            except BrodmannError as error:
                print(f"{name:36s} refused: {error}", flush=True)
    for kind, count in tried.items():
        print(f"{kind}: {converted[kind]} of {count} converted")
    print(f"transformers {transformers.__version__}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
