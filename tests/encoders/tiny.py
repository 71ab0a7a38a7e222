"""Tiny real encoders of transformers, with tokenizers of letters, built from a fixed seed and without a network."""

from collections.abc import Callable
from typing import Any

import torch
import transformers

LETTERS = [chr(ord("a") + i) for i in range(26)]


def t5_tokenizer(length: int = 512) -> Any:
    """Of letters, as sentencepiece would write them."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -1.0)]
    return transformers.T5Tokenizer(
        vocab=[*pieces, *((letter, -2.0) for letter in LETTERS)], extra_ids=0, model_max_length=length
    )


def t5(width: int, kind: str = "T5EncoderModel", vocabulary: int = 32) -> Any:
    """An encoder whose tokens are `width` numbers."""
    config = {"T5EncoderModel": transformers.T5Config, "UMT5EncoderModel": transformers.UMT5Config}[kind]
    return _seeded(
        getattr(transformers, kind),
        config(vocab_size=vocabulary, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2),
    )


def clip_tokenizer() -> Any:
    """Of letters, each alone and at the end of a word."""
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77
    )


def clip_text(width: int) -> Any:
    """A text encoder whose tokens, and pooled token, are `width` numbers."""
    config = transformers.CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return _seeded(transformers.CLIPTextModel, config)


def clip_vision(width: int, projected: bool, size: int = 224) -> Any:
    """An image encoder; `projected`: one vector of `width` numbers, else that many for each patch."""
    config = transformers.CLIPVisionConfig(
        hidden_size=8 if projected else width,
        projection_dim=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=size,
        patch_size=size // 16,
    )
    kind = transformers.CLIPVisionModelWithProjection if projected else transformers.CLIPVisionModel
    return _seeded(kind, config)


def image_processor(size: int = 224) -> Any:
    """CLIP's preparation of pictures."""
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )


def language_tokenizer() -> Any:
    """Of bytes, for language models: every text has its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="right"
    )


def chat_tokenizer() -> Any:
    """The same, with a template for conversations."""
    tokenizer = language_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}"
        "{% else %}{{ m['content'][0]['text'] }}{% endif %};{% endfor %}"
    )
    return tokenizer


def byte_tokenizer() -> Any:
    """ByT5's, which needs no vocabulary."""
    return transformers.ByT5Tokenizer()


def llama(width: int) -> Any:
    """A language model whose tokens are `width` numbers."""
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    return _seeded(transformers.LlamaModel, config)


def gemma(width: int) -> Any:
    """A language model whose tokens are `width` numbers."""
    config = transformers.Gemma2Config(
        vocab_size=300,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
    )
    return _seeded(transformers.Gemma2Model, config)


def qwen_text(width: int) -> Any:
    """A language model whose tokens are `width` numbers."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

    config = Qwen2_5_VLTextConfig(
        vocab_size=300,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [width // 8, width // 16, width // 16],
        },
    )
    return _seeded(transformers.Qwen2_5_VLTextModel, config)


def qwen_vl() -> Any:
    """A language model that reads pictures too; its tokens are 16 numbers."""
    text = {
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    return _seeded(transformers.Qwen2VLForConditionalGeneration, config)


def siglip(width: int) -> Any:
    """An image encoder of `width` numbers for each of 729 patches."""
    config = transformers.SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=54,
        patch_size=2,
    )
    return _seeded(transformers.SiglipVisionModel, config)


def siglip_processor() -> Any:
    """SigLIP's preparation of pictures."""
    return transformers.SiglipImageProcessor(size={"height": 54, "width": 54})


def no_guidance() -> Any:
    """A guider that guides nothing."""
    from diffusers.guiders import ClassifierFreeGuidance

    return ClassifierFreeGuidance(guidance_scale=1.0)


def _seeded(kind: Callable[[Any], Any], config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config).eval()
