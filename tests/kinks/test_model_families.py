"""Networks of other libraries, built from their configurations without weights, against what their papers say of them.

The expected sets are written by hand from the architectures: the activation of the feed-forward part, poolings, norms,
the choice of experts. Everything else in these models, masks, positions, casts and caches, is no kink.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from nonsmooth.kinks import Smoothness, scan

pytestmark = pytest.mark.slow

JUMP, C0, C1, UNKNOWN = Smoothness.DISCONTINUOUS, Smoothness.C0, Smoothness.C1, Smoothness.UNKNOWN
RELU, RELU6 = {("relu", C0)}, {("hardtanh", C0)}
POOL = {("max_pool2d_with_indices", C0)}
EXPERTS = {("topk", C0), ("topk (indices)", JUMP)}

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, **LAYERS}
DECODER = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "max_position_embeddings": 64}
GPT = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
BART = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "pad_token_id": 0,
}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 32, "image_size": 32, "patch_size": 8, **LAYERS}
SPEECH = {
    "hidden_size": 16, "intermediate_size": 32, "conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3],
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, **LAYERS,
}  # fmt: skip
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


@dataclass(frozen=True)
class Family:
    """A model type of transformers, small sizes for it, and what is not smooth in it."""

    name: str
    options: dict[str, Any]
    found: set[tuple[str, Smoothness]] = field(default_factory=set)
    inputs: str = "text"


FAMILIES = [
    # Feed-forward parts with GELU, SiLU or their like, softmax attention, layer norm: smooth.
    *(Family(name, TEXT) for name in ("bert", "roberta", "mpnet", "gpt_neox", "clip_text_model", "fnet")),
    *(Family(name, {**TEXT, "embedding_size": 8}) for name in ("albert", "electra")),
    Family("deberta-v2", {**TEXT, "relative_attention": True, "pos_att_type": ["p2c"], "max_relative_positions": 16}),
    Family("distilbert", {"vocab_size": 64, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    Family("gpt2", GPT),
    Family("gptj", {**GPT, "rotary_dim": 4}),
    Family("xlnet", {"vocab_size": 64, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}),
    Family("longformer", {**TEXT, "attention_window": 4}),
    Family("falcon", {"vocab_size": 64, "hidden_size": 16, **LAYERS}),
    *(Family(name, DECODER) for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "olmo",
                                         "stablelm")),
    Family("mamba", {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    *(Family(name, BART, inputs="text to text") for name in ("bart", "pegasus", "marian")),
    Family("mt5", T5, inputs="text to text"),  # its feed-forward part is gated with GELU, T5's is a ReLU
    *(Family(name, VISION, inputs="image") for name in ("vit", "deit", "beit", "dinov2")),
    Family("swin", {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
                    "window_size": 4}, inputs="image"),
    Family("convnext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, inputs="image"),
    Family("segformer", {**STAGES, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}, inputs="image"),
    Family("poolformer", STAGES, inputs="image"),
    Family("wav2vec2", SPEECH, inputs="sound"),
    # ReLU
    Family("opt", {"vocab_size": 64, "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16, **LAYERS}, RELU),
    Family("t5", T5, RELU, "text to text"),
    Family("mobilebert", {**TEXT, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}, RELU),
    Family("nemotron", DECODER, {("relu", C1)}),  # only its square is used
    Family("resnet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
           RELU | POOL, "image"),
    Family("regnet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4}, RELU,
           "image"),
    Family("bit", {"embedding_size": 8, "hidden_sizes": [32, 32], "depths": [1, 1], "num_groups": 4}, RELU | POOL,
           "image"),
    # ReLU6, hard swish
    Family("mobilenet_v1", {"image_size": 32, "depth_multiplier": 0.25}, RELU6, "image"),
    Family("mobilenet_v2", {"image_size": 32, "depth_multiplier": 0.35}, RELU6, "image"),
    Family("levit", {"image_size": 32, "hidden_sizes": [16, 16, 16], "num_attention_heads": [2, 2, 2],
                     "depths": [1, 1, 1], "key_dim": [8, 8, 8]}, {("hardswish", C0)}, "image"),
    # Norms of activations: global response normalisation
    Family("convnextv2", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, {("linalg_vector_norm", C0)},
           "image"),
    # Experts: the weights have kinks at ties, and the output jumps where another expert is chosen.
    Family("mixtral", {**DECODER, "num_local_experts": 4}, EXPERTS),
    Family("qwen2_moe", {**DECODER, "num_experts": 4, "moe_intermediate_size": 16,
                         "shared_expert_intermediate_size": 16}, EXPERTS),
    Family("olmoe", {**DECODER, "num_experts": 4, "num_experts_per_tok": 2}, EXPERTS),
    Family("switch_transformers", {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1,
                                   "num_sparse_decoder_layers": 1},
           RELU | {("argmax", JUMP), ("max", C0)}, "text to text"),
    # The running maximum that keeps its exponentials from overflowing, written out, and a squared ReLU
    Family("rwkv", {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2}, {("relu", C1), ("maximum", C0)}),
    # A GELU with a derivative of its own, which nothing can know to be one
    Family("bloom", {"vocab_size": 64, "hidden_size": 16, "n_layer": 2, "n_head": 2}, {("GeLUFunction", UNKNOWN)}),
]  # fmt: skip


def inputs_of(kind: str) -> dict[str, torch.Tensor]:
    tokens = torch.arange(16).reshape(2, 8) * 7 % 60 + 3
    return {
        "text": {"input_ids": tokens},
        "text to text": {"input_ids": tokens, "decoder_input_ids": tokens},
        "image": {"pixel_values": torch.randn(2, 3, 32, 32)},
        "sound": {"input_values": torch.randn(1, 800)},
    }[kind]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_of_transformers_has_the_kinks_of_its_architecture(family, training):
    transformers = pytest.importorskip("transformers", reason="the extra `frameworks` is not installed")
    if family.name not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no model type {family.name}")
    torch.manual_seed(0)
    configuration = transformers.CONFIG_MAPPING[family.name](**family.options)
    model = transformers.AutoModel.from_config(configuration).train(training)
    result = scan(model, **inputs_of(family.inputs))
    assert {(o.name, o.smoothness) for o in result.operations} == family.found, str(result)
    assert all(o.source for o in result.operations)
    assert all(o.parameters for o in result.operations if "indices" not in o.name), str(result)


def importable(name: str):
    """A module, or a skip that says why not: torchvision's wheel does not import beside every build of PyTorch."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} does not import here: {error}")


TORCHVISION = {
    "resnet18": RELU | POOL, "vgg11": RELU | POOL, "densenet121": RELU | POOL, "mobilenet_v2": RELU6,
    "mobilenet_v3_small": RELU | {("hardswish", C0), ("hardsigmoid", C0)}, "efficientnet_b0": set(),
    "convnext_tiny": set(), "vit_b_32": set(), "swin_t": set(), "regnet_y_400mf": RELU, "squeezenet1_1": RELU | POOL,
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_model_of_torchvision_has_the_kinks_of_its_architecture(name):
    model = importable("torchvision.models").get_model(name, weights=None).eval()
    result = scan(model, torch.randn(1, 3, 224, 224))
    assert {(o.name, o.smoothness) for o in result.operations} == TORCHVISION[name], str(result)


TIMM = {
    "resnet18": RELU | POOL, "vit_tiny_patch16_224": set(), "mobilenetv3_small_050": RELU | {
        ("hardswish", C0), ("hardsigmoid", C0)}, "efficientnet_b0": set(), "convnext_atto": set(),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm_has_the_kinks_of_its_architecture(name):
    model = importable("timm").create_model(name, pretrained=False).eval()
    result = scan(model, torch.randn(1, 3, 224, 224))
    assert {(o.name, o.smoothness) for o in result.operations} == TIMM[name], str(result)
