"""The empty prompt of a single file, beside transformers' CLIP with the same weights."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from tests.cli.commands import printed, refused
from tests.lvdm import checkpoint, save, tiny_denoiser
from v2w_convert.surgery.manifest import read_manifest

WIDTH = 128  # two heads
PREFIX = "cond_stage_model.model."


def clip() -> transformers.CLIPTextModel:
    """As OpenCLIP's ViT-H, but small: GELU, 77 tokens, all of its vocabulary."""
    config = transformers.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=WIDTH // 64,
        hidden_act="gelu",
    )
    torch.manual_seed(0)
    model = transformers.CLIPTextModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return model


def as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its tensors by OpenCLIP's names."""
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    found = {new: state[old] for old, new in names.items()}
    for i in range(3):
        old, new = f"encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            found[f"{new}attn.out_proj.{kind}"] = state[f"{old}self_attn.out_proj.{kind}"]
            for a, b in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                found[f"{new}{b}.{kind}"] = state[f"{old}{a}.{kind}"]
    return {f"{PREFIX}{name}": tensor for name, tensor in found.items()}


def test_the_empty_prompt_of_a_file_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = clip()
    unet = tiny_denoiser(context_dim=WIDTH)
    tensors = checkpoint(unet.state_dict()) | as_open_clip(model.state_dict())
    file = save(tensors, tmp_path / "model.ckpt")
    arguments = ["convert", file, "-o", tmp_path / "out", "--action-dim", 3]
    line = refused(capsys, *arguments, "--prompt", "a red ball")
    assert "the file has no tokenizer: only the empty prompt can be encoded" in line
    result = printed(capsys, *arguments)
    assert not any("no prompt" in note or "cond_stage_model" in note for note in result["notes"])
    assert printed(capsys, *arguments)["already_converted"]
    assert read_manifest(tmp_path / "out").prompt == ""

    tokens = torch.tensor([[49406, 49407, *[0] * 75]])
    with torch.no_grad():
        hidden = model(tokens, output_hidden_states=True).hidden_states[-2]
        expected = getattr(model, "text_model", model).final_layer_norm(hidden)[0]
    found = load_file(tmp_path / "out/conditions.safetensors")["text"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_encoder_that_is_damaged_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = as_open_clip(clip().state_dict())
    del encoder[f"{PREFIX}transformer.resblocks.1.ln_1.bias"]
    file = save(checkpoint(tiny_denoiser(context_dim=WIDTH).state_dict()) | encoder, tmp_path / "model.ckpt")
    line = refused(capsys, "convert", file, "-o", tmp_path / "out", "--action-dim", 3)
    assert "not those of OpenCLIP's text encoder (KeyError: 'ln_1.bias')" in line
    assert not (tmp_path / "out").exists()
