"""Tiny models in the layouts in which their makers publish them: the inverse of what diffusers' mappings do."""

import re
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.loaders import single_file_utils
from torch import Tensor

from tests.tiny import tiny_model
from v2w_convert.checkpoint.layouts import hunyuan_video as HUNYUAN_MODULE

State = dict[str, Tensor]
Renames = list[tuple[str, str]]


class Original(NamedTuple):
    """A layout: its plan, a tiny model that the layout can have, what its file is of that model, and diffusers' name."""

    plan: str
    config: Mapping[str, Any]
    make: Callable[[State], State]
    kind: str


def renamed(state: State, renames: Renames) -> State:
    """The same tensors under other names, the regular expressions applied in order."""

    def name(old: str) -> str:
        for pattern, new in renames:
            old = re.sub(pattern, new, old)
        return old

    return {name(old): tensor for old, tensor in state.items()}


WAN: Renames = [
    (r"^condition_embedder\.(time|text)_embedder\.linear_1", r"\1_embedding.0"),
    (r"^condition_embedder\.(time|text)_embedder\.linear_2", r"\1_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"),
    (r"^condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"^condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"attn1", "self_attn"),
    (r"attn2", "cross_attn"),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.add_([kv])_proj\.", r".\1_img."),
    (r"\.norm_added_k\.", ".norm_k_img."),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
    (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
    (r"^(blocks\.\d+)\.scale_shift_table", r"\1.modulation"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out", "head.head"),
]
LTX_VIDEO: Renames = [
    (r"^proj_in", "patchify_proj"),
    (r"^time_embed", "adaln_single"),
    (r"norm_([qk])\b", r"\1_norm"),
    (r"^", "model.diffusion_model."),
]
COSMOS: Renames = [
    (r"^time_embed\.t_embedder", "t_embedder.1"),
    (r"^time_embed\.norm", "affline_norm"),
    (r"^transformer_blocks\.(\d+)\.", r"blocks.block\1."),
    (r"\.attn1\.", ".blocks.0.block.attn."),
    (r"\.attn2\.", ".blocks.1.block.attn."),
    (r"\.ff\.net\.0\.proj", ".blocks.2.block.layer1"),
    (r"\.ff\.net\.2", ".blocks.2.block.layer2"),
    (r"\.norm1\.linear_([12])", r".blocks.0.adaLN_modulation.\1"),
    (r"\.norm2\.linear_([12])", r".blocks.1.adaLN_modulation.\1"),
    (r"\.norm3\.linear_([12])", r".blocks.2.adaLN_modulation.\1"),
    (r"attn\.to_([qkv])\.", r"attn.to_\1.0."),
    (r"attn\.norm_([qk])\.", r"attn.to_\1.1."),
    (r"^patch_embed\.proj", "x_embedder.proj.1"),
    (r"^learnable_pos_embed", "extra_pos_embedder"),
    (r"^norm_out\.linear_([12])", r"final_layer.adaLN_modulation.\1"),
    (r"^proj_out", "final_layer.linear"),
    (r"^", "net."),
]
MOCHI: Renames = [
    (r"^patch_embed\.proj", "x_embedder.proj"),
    (r"^time_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
    (r"^time_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
    (r"^time_embed\.pooler", "t5_y_embedder"),
    (r"^time_embed\.caption_proj", "t5_yproj"),
    (r"^transformer_blocks", "blocks"),
    (r"norm1\.linear", "mod_x"),
    (r"norm1_context\.linear(_1)?", "mod_y"),
    (r"attn1\.norm_([qk])\b", r"attn.\1_norm_x"),
    (r"attn1\.norm_added_([qk])\b", r"attn.\1_norm_y"),
    (r"attn1\.to_out\.0", "attn.proj_x"),
    (r"attn1\.to_add_out", "attn.proj_y"),
    (r"ff\.net\.0\.proj", "mlp_x.w1"),
    (r"ff\.net\.2", "mlp_x.w2"),
    (r"ff_context\.net\.0\.proj", "mlp_y.w1"),
    (r"ff_context\.net\.2", "mlp_y.w2"),
    (r"^norm_out\.linear", "final_layer.mod"),
    (r"^proj_out", "final_layer.linear"),
]
HUNYUAN_VIDEO: Renames = [
    (r"^x_embedder", "img_in"),
    (r"^context_embedder\.time_text_embed\.timestep_embedder\.linear_1", "txt_in.t_embedder.mlp.0"),
    (r"^context_embedder\.time_text_embed\.timestep_embedder\.linear_2", "txt_in.t_embedder.mlp.2"),
    (r"^context_embedder\.time_text_embed\.text_embedder\.linear_([12])", r"txt_in.c_embedder.linear_\1"),
    (r"^context_embedder\.proj_in", "txt_in.input_embedder"),
    (r"^context_embedder\.token_refiner\.refiner_blocks", "txt_in.individual_token_refiner.blocks"),
    (r"(individual_token_refiner.*)norm_out\.linear", r"\1adaLN_modulation.1"),
    (r"(individual_token_refiner.*)attn\.to_out\.0", r"\1self_attn_proj"),
    (r"(individual_token_refiner.*)ff\.net\.0\.proj", r"\1mlp.fc1"),
    (r"(individual_token_refiner.*)ff\.net\.2", r"\1mlp.fc2"),
    (r"^time_text_embed\.timestep_embedder\.linear_1", "time_in.mlp.0"),
    (r"^time_text_embed\.timestep_embedder\.linear_2", "time_in.mlp.2"),
    (r"^time_text_embed\.guidance_embedder\.linear_1", "guidance_in.mlp.0"),
    (r"^time_text_embed\.guidance_embedder\.linear_2", "guidance_in.mlp.2"),
    (r"^time_text_embed\.text_embedder\.linear_1", "vector_in.in_layer"),
    (r"^time_text_embed\.text_embedder\.linear_2", "vector_in.out_layer"),
    (r"^single_transformer_blocks(.*)attn\.norm_([qk])\b", r"single_blocks\1\2_norm"),
    (r"^single_transformer_blocks(.*)norm\.linear", r"single_blocks\1modulation.linear"),
    (r"^single_transformer_blocks(.*)proj_out", r"single_blocks\1linear2"),
    (r"^single_transformer_blocks", "single_blocks"),
    (r"^transformer_blocks", "double_blocks"),
    (r"attn\.norm_([qk])\b", r"img_attn_\1_norm"),
    (r"attn\.norm_added_([qk])\b", r"txt_attn_\1_norm"),
    (r"attn\.to_out\.0", "img_attn_proj"),
    (r"attn\.to_add_out", "txt_attn_proj"),
    (r"norm1\.linear", "img_mod.linear"),
    (r"norm1_context\.linear", "txt_mod.linear"),
    (r"ff\.net\.0\.proj", "img_mlp.fc1"),
    (r"ff\.net\.2", "img_mlp.fc2"),
    (r"ff_context\.net\.0\.proj", "txt_mlp.fc1"),
    (r"ff_context\.net\.2", "txt_mlp.fc2"),
    (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    (r"^proj_out", "final_layer.linear"),
]


def joined(state: State, parts: list[str], whole: str) -> State:
    """Tensors NAME + each of `parts`, one under the other, as NAME + `whole`."""
    result = dict(state)
    for name in state:
        if name.endswith(parts[0]):
            start = name.removesuffix(parts[0])
            result[start + whole] = torch.cat([result.pop(start + part) for part in parts])
    return result


def swapped(state: State, *names: str) -> State:
    """The two halves of these tensors exchanged."""
    ends = tuple(names)
    return {n: torch.cat(t.chunk(2)[::-1]) if n.endswith(ends) else t for n, t in state.items()}


def mochi(state: State) -> State:
    for part, axis in {"to_{}": "x", "add_{}_proj": "y"}.items():
        state = joined(state, [f".attn1.{part.format(c)}.weight" for c in "qkv"], f".attn.qkv_{axis}.weight")
    return swapped(
        renamed(state, MOCHI),
        "mlp_x.w1.weight",
        "mlp_y.w1.weight",
        "final_layer.mod.weight",
        "final_layer.mod.bias",
    )


def hunyuan_video(state: State) -> State:
    single = {n: t for n, t in state.items() if n.startswith("single_")}
    refiner = {n: t for n, t in state.items() if "token_refiner" in n}
    double = {n: t for n, t in state.items() if n not in {**single, **refiner}}
    for end in ("weight", "bias"):
        split = [f"attn.to_{c}.{end}" for c in "qkv"]
        single = joined(single, [*split, f"proj_mlp.{end}"], f"linear1.{end}")
        refiner = joined(refiner, split, f"self_attn_qkv.{end}")
        double = joined(double, split, f"img_attn_qkv.{end}")
        double = joined(double, [f"attn.add_{c}_proj.{end}" for c in "qkv"], f"txt_attn_qkv.{end}")
    state = {**double, **refiner, **single}
    return swapped(
        renamed(state, HUNYUAN_VIDEO),
        "final_layer.adaLN_modulation.1.weight",
        "final_layer.adaLN_modulation.1.bias",
    )


def cosmos(state: State) -> State:
    more = {"net.pos_embedder.seq": torch.arange(4.0), "net.logvar.0.freqs": torch.ones(3)}
    return {**renamed(state, COSMOS), **more}


ORIGINALS = {
    "wan": Original("wan", {"num_attention_heads": 1, "attention_head_dim": 128}, lambda s: renamed(s, WAN), "wan-"),
    "wan, image to video": Original(
        "wan",
        {"num_attention_heads": 1, "attention_head_dim": 128, "in_channels": 12, "image_dim": 16, "added_kv_proj_dim": 128},
        lambda s: renamed(s, WAN),
        "wan-",
    ),
    "ltx-video": Original(
        "ltx-video",
        {"num_attention_heads": 32, "attention_head_dim": 6, "cross_attention_dim": 192},
        lambda s: renamed(s, LTX_VIDEO),
        "ltx-video",
    ),
    "hunyuan-video": Original(
        "hunyuan-video",
        {"num_attention_heads": 1, "attention_head_dim": 128, "rope_axes_dim": [16, 56, 56], "mlp_ratio": 2},
        hunyuan_video,
        "hunyuan-video",
    ),
    "mochi": Original("mochi", {"num_layers": 48}, mochi, "mochi-1-preview"),
    "cosmos": Original("cosmos", {"concat_padding_mask": True, "in_channels": 16, "out_channels": 16}, cosmos, "cosmos-1.0"),
}  # fmt: skip


def original(name: str) -> tuple[Any, State]:
    """A tiny model of diffusers, in half precision, and the tensors that its makers' file of it would have."""
    case = ORIGINALS[name]
    model = tiny_model(case.plan, case.config).half()
    return model, case.make({n: t.detach() for n, t in model.state_dict().items()})


def narrow_hunyuan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diffusers' mapping of HunyuanVideo, which knows the width 3072, map a model of width 128."""
    mapping = single_file_utils.convert_hunyuan_video_transformer_to_diffusers

    def narrow(code: types.CodeType) -> types.CodeType:
        constants = tuple(
            narrow(c) if isinstance(c, types.CodeType) else 128 if c == 3072 else c for c in code.co_consts
        )
        return code.replace(co_consts=constants)

    patched = types.FunctionType(narrow(mapping.__code__), mapping.__globals__, mapping.__name__)
    monkeypatch.setattr(single_file_utils, mapping.__name__, patched)
    monkeypatch.setattr(HUNYUAN_MODULE, "WIDTH", 128)
