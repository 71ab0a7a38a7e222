"""The empty prompt by OpenCLIP's text encoder, which a single file has without its tokenizer.

DynamiCrafter takes the output of the last layer but one, normed (its lvdm/modules/encoders/condition.py,
FrozenOpenCLIPEmbedder, `layer: penultimate`), and Vid2World was trained with the empty prompt only.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_convert.checkpoint.headers import TensorInfo
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError

START, END, PADDING = 49406, 49407, 0  # tokens, as OpenCLIP's tokenizer numbers them
HEAD = 64  # numbers in a head of attention, in every text encoder of OpenCLIP


@torch.no_grad()
def empty_prompt(tensors: Mapping[str, TensorInfo]) -> Tensor:
    """The embedding (n d) float32 of the empty prompt. One layer is in memory at a time.

    Args:
        tensors: The encoder's, by OpenCLIP's names.

    Raises:
        V2WError: They are not those of such an encoder.
    """

    def read(name: str) -> Tensor:
        return read_tensor(tensors[name]).float()

    try:
        positions = read("positional_embedding")
        tokens = torch.full((len(positions),), PADDING)
        tokens[:2] = torch.tensor([START, END])
        x = read("token_embedding.weight")[tokens] + positions
        layers = 1 + max(
            int(name.split(".")[2]) for name in tensors if name.startswith("transformer.resblocks.")
        )
        for i in range(layers - 1):  # all but the last
            prefix = f"transformer.resblocks.{i}."
            block = {name.removeprefix(prefix): read(name) for name in tensors if name.startswith(prefix)}
            x = x + _attention(block, _norm(block, "ln_1", x))
            hidden = F.gelu(
                F.linear(_norm(block, "ln_2", x), block["mlp.c_fc.weight"], block["mlp.c_fc.bias"])
            )
            x = x + F.linear(hidden, block["mlp.c_proj.weight"], block["mlp.c_proj.bias"])
        last = {name: read(name) for name in ("ln_final.weight", "ln_final.bias")}
        return _norm(last, "ln_final", x)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        found = f"its tensors are not those of OpenCLIP's text encoder ({type(error).__name__}: {error})"
        raise V2WError(
            "encode the empty prompt", found, "--conditions with an embedding of your own"
        ) from None


def _attention(block: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Causal attention of tokens (n d)."""
    heads = x.shape[1] // HEAD
    q, k, v = (
        part.unflatten(1, (heads, HEAD)).transpose(0, 1)
        for part in F.linear(x, block["attn.in_proj_weight"], block["attn.in_proj_bias"]).chunk(3, 1)
    )
    seen = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    joined = seen.transpose(0, 1).flatten(1)
    return F.linear(joined, block["attn.out_proj.weight"], block["attn.out_proj.bias"])


def _norm(block: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[1:], block[f"{name}.weight"], block[f"{name}.bias"])
