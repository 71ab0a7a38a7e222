"""Broken and foreign downloads, and what v2w says of each. `python -m tests.checkpoint.downloads` writes it into the docs."""

import atexit
import contextlib
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoint.originals import original
from tests.conftest import tiny_unet
from v2w_convert.cli import run
from v2w_convert.errors import V2WError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "troubleshooting.md"
START, END = (
    "<!-- downloads: written by python -m tests.checkpoint.downloads -->\n",
    "<!-- end of downloads -->\n",
)
WEIGHTS = "diffusion_pytorch_model"
FILE = f"{WEIGHTS}.safetensors"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3047000000\n".format("0" * 64)


class Case(NamedTuple):
    """A download.

    Attributes:
        title: For the page.
        make: Makes it of a whole pipeline folder `base`, and returns what is given to `v2w convert`.
        more: Arguments.
        converts: Whether it converts.
    """

    title: str
    make: Callable[[Path], Path]
    more: tuple[str, ...] = ()
    converts: bool = False


@functools.cache
def _whole() -> Path:
    """A pipeline folder that converts: unet and vae, in half precision."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    tiny_unet().half().save_pretrained(folder / "unet")
    torch.manual_seed(1)
    vae = AutoencoderKL(block_out_channels=[8], norm_num_groups=4, sample_size=8)
    vae.half().save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text('{"_class_name": "StableVideoDiffusionPipeline"}\n')
    return folder


def write(file: Path, content: str | bytes = b"") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def tensors(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], part: str = "unet"
) -> Callable[[Path], Path]:
    """The weights of a component, changed."""

    def make(base: Path) -> Path:
        file = base / part / FILE
        save_file(change(load_file(file)), file)
        return base

    return make


def config(part: str = "unet", **entries: Any) -> Callable[[Path], Path]:
    def make(base: Path) -> Path:
        file = base / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
        return base

    return make


def instead(name: str, content: str | bytes = b"", part: str = "unet") -> Callable[[Path], Path]:
    """A file in place of a component's weights."""

    def make(base: Path) -> Path:
        (base / part / FILE).unlink()
        write(base / part / name, content)
        return base

    return make


def single(names: dict[str, Any], file: str) -> Callable[[Path], Path]:
    """One file with these tensors; a number stands for a matrix of ones."""

    def make(base: Path) -> Path:
        values = {n: torch.ones(2, 2) if isinstance(v, int) else v for n, v in names.items()}
        save_file(values, base.with_name(file))
        return base.with_name(file)

    return make


def checkpoint(*states: str, model: bool = True) -> Callable[[Path], Path]:
    """A trainer's checkpoint, with the model's folder in it or without."""

    def make(base: Path) -> Path:
        folder = base.with_name("checkpoint-500")
        folder.mkdir()
        if model:
            shutil.move(base / "unet", folder / "unet")
        for name in states:
            write(folder / name)
        return folder

    return make


def runs(base: Path) -> Path:
    for step in (500, 1000):
        write(base.with_name("run") / f"checkpoint-{step}" / "optimizer.bin")
    return base.with_name("run")


def interrupted(base: Path) -> Path:
    (base / "unet" / FILE).unlink()
    write(base / ".cache/huggingface/download/unet" / "a1b2c3d4.0123456789abcdef.incomplete")
    return base


def adapter(base: Path) -> Path:
    return write(base.with_name("lora") / "adapter_config.json", "{}").parent


def cache(base: Path) -> Path:
    home = base.with_name("models--someone--video")
    write(home / "refs" / "main", "0123")
    shutil.move(base, home / "snapshots" / "0123456789ab")
    return home


def experts(base: Path) -> Path:
    for name in ("high_noise_model", "low_noise_model"):
        write(base.with_name("Wan2.2-T2V-A14B") / name / "config.json", '{"_class_name": "WanModel"}')
    return base.with_name("Wan2.2-T2V-A14B")


def shards(base: Path) -> Path:
    (base / "unet" / FILE).rename(base / "unet" / f"{WEIGHTS}-00001-of-00002.safetensors")
    return base


def variants(*names: str) -> Callable[[Path], Path]:
    def make(base: Path) -> Path:
        file = base / "unet" / FILE
        for name in names:
            shutil.copy(file, file.with_name(f"{WEIGHTS}.{name}.safetensors"))
        file.unlink()
        return base

    return make


def onnx(base: Path) -> Path:
    shutil.rmtree(base / "unet")
    write(base / "unet" / "model.onnx")
    return base


def pickled(base: Path) -> Path:
    values = load_file(base / "unet" / FILE)
    (base / "unet" / FILE).unlink()
    torch.save(values, base / "unet" / f"{WEIGHTS}.bin")
    return base


def twin(base: Path) -> Path:
    shutil.copytree(base / "unet", base / "unet_ema")
    return base


def several(base: Path) -> Path:
    _, state = original("ltx-video")
    folder = base.with_name("LTX-Video")
    folder.mkdir()
    for name in ("ltx-video-2b-v0.9.safetensors", "ltx-video-2b-v0.9.5.safetensors"):
        save_file(state, folder / name)
    return folder


def incomplete(base: Path) -> Path:
    _, state = original("wan")
    del state["head.head.weight"]
    save_file(state, base.with_name("wan2.1_t2v_1.3B.safetensors"))
    return base.with_name("wan2.1_t2v_1.3B.safetensors")


def whole_wan(base: Path) -> Path:
    _, state = original("wan")
    save_file(
        {f"model.diffusion_model.{n}": t for n, t in state.items()},
        base.with_name("wan2.1_t2v_1.3B.safetensors"),
    )
    return base.with_name("wan2.1_t2v_1.3B.safetensors")


def wrapped(names: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"module._orig_mod.{n.replace('conv_in.', 'conv_in._fsdp_wrapped_module.')}": t
        for n, t in names.items()
    }


def averaged(names: dict[str, Tensor]) -> dict[str, Tensor]:
    return names | {f"ema.{n}": t.clone() for n, t in names.items()}


def peft(names: dict[str, Tensor]) -> dict[str, Tensor]:
    key = "conv_in"
    rest = {n: t for n, t in names.items() if not n.startswith(key)}
    return rest | {
        f"{key}.base_layer.weight": names[f"{key}.weight"],
        f"{key}.lora_A.default.weight": torch.ones(4, 8),
        f"{key}.lora_B.default.weight": torch.ones(8, 4),
    }


BLOCK = "model.diffusion_model.blocks.0.self_attn.q"
CASES: tuple[Case, ...] = (
    Case("Git LFS pointers", instead(FILE, LFS)),
    Case("A download that was interrupted", interrupted),
    Case("A web page in place of a file", instead(FILE, "<!DOCTYPE html><html><title>Sign in</title></html>" + " " * 99)),
    Case("Shards without their index", shards),
    Case("A repository in the Hub's cache", cache),
    Case("GGUF", lambda base: write(base.with_name("wan2.1-t2v-14b-Q4_K_M.gguf"), b"GGUF\3\0\0\0" + bytes(64))),
    Case("bitsandbytes", config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})),
    Case("Scaled fp8", single({f"{BLOCK}.weight": 1, f"{BLOCK}.scale_weight": 1}, "wan2.1_t2v_14B_fp8_scaled.safetensors")),
    Case("fp8", tensors(lambda t: {n: v.to(torch.float8_e4m3fn) if v.dim() > 1 else v for n, v in t.items()})),
    Case("A LoRA", single({"transformer.blocks.0.attn1.to_q.lora_A.weight": 1, "transformer.blocks.0.attn1.to_q.lora_B.weight": 1}, "pytorch_lora_weights.safetensors")),
    Case("A LoRA's folder", adapter),
    Case("A LoRA that is not merged", tensors(peft)),
    Case("A trainer's checkpoint", checkpoint("optimizer.bin", "scheduler.bin", "random_states_0.pkl")),
    Case("A trainer's checkpoint without a config", checkpoint("optimizer.bin", "random_states_0.pkl", "model.safetensors", model=False)),
    Case("DeepSpeed's shards", checkpoint("latest", "zero_to_fp32.py", "global_step500/x", model=False)),
    Case("The folder of a training run", runs),
    Case("Weights and their average (EMA), in folders", twin),
    Case("Weights and their average (EMA), in a file", tensors(averaged)),
    Case("Flax", instead("diffusion_flax_model.msgpack")),
    Case("ONNX", onnx),
    Case("Two variants", variants("bf16", "fp16")),
    Case("An autoencoder that is not served", config("vae", _class_name="AutoencoderDC")),
    Case("An autoencoder without weights", instead("readme.txt", part="vae")),
    Case("An autoencoder that is not its config's", config("vae", block_out_channels=[16])),
    Case("CogVideoX in SAT's layout", single({"model.diffusion_model.mixins.patch_embed.proj.weight": 1, "model.diffusion_model.transformer.layers.0.attention.query_key_value.weight": 1}, "mp_rank_00_model_states.safetensors")),
    Case("Stable Video Diffusion in one file", single({"model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight": 1}, "svd_xt.safetensors")),
    Case("Cosmos Predict2 in its makers' layout", single({"net.x_embedder.proj.1.weight": 1, "net.blocks.0.self_attn.q_proj.weight": 1}, "cosmos_predict2_2B.safetensors")),
    Case("The two models of Wan 2.2 A14B in their makers' layout", experts),
    Case("A file that is not whole", incomplete),
    Case("A folder of several models", several),
    Case("An image model", single({"model.diffusion_model.input_blocks.0.0.weight": 1}, "sd15.safetensors")),
    Case("An encoder's file", single({"encoder.block.0.layer.0.SelfAttention.q.weight": 1}, "umt5.safetensors")),
    Case("A diffusers model in a file without a config", single({"condition_embedder.time_proj.weight": 1}, "model.safetensors")),
    # These convert.
    Case("Names that a wrapper has lengthened", tensors(wrapped), converts=True),
    Case("What torch.save wrote (`.bin`)", pickled, converts=True),
    Case("The average of the weights, chosen", tensors(averaged), ("--ema",), converts=True),
    Case("A variant, chosen", variants("bf16", "fp16"), ("--variant", "fp16"), converts=True),
    Case("Wan 2.1 in its makers' layout, or ComfyUI's", whole_wan, converts=True),
)  # fmt: skip


@contextlib.contextmanager
def made(case: Case) -> Iterator[Path]:
    """The download in a folder of its own, which becomes the current one; the path is relative to it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        try:
            yield case.make(shutil.copytree(_whole(), Path("base")))
        finally:
            os.chdir(before)


def said(command: str, base: Path, *more: str) -> list[str]:
    """What `v2w COMMAND` says: its one line where it refuses, else its notes."""
    output = ["-o", "out", "--action-dim", "3"] if command == "convert" else []
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()) as out:
        code = run([command, str(base), *output, *more, "--json"])
    printed = json.loads(out.getvalue().splitlines()[-1])
    if code == 0:
        return [f"{base}: {note}" for note in printed["notes"]]
    assert code == 2
    error = printed["error"]
    return [f"v2w: {V2WError(error['asked'], error['found'], error['try'])}"]


def block(case: Case, base: Path, lines: list[str]) -> str:
    """What the page shows of a download."""
    command = " ".join(["$ v2w convert", str(base), *case.more, "-o out …"])
    return "\n".join([f"### {case.title}", "", "```text", command, *lines, "```", ""])


def section() -> str:
    """The page's section."""
    refused: list[str] = []
    converts: list[str] = []
    for case in CASES:
        with made(case) as base:
            entry = block(case, base, said("convert", base, *case.more))
        (converts if case.converts else refused).append(entry)
    return "\n".join(
        [
            START,
            f"{len(refused)} downloads that are refused, word for word. `v2w inspect` says the same. The exit code is 2, and "
            "nothing is written.\n",
            *refused,
            "## Downloads that convert\n",
            "What is done is said, and so is what is assumed.\n",
            *converts,
            END,
        ]
    )


def written(page: str, text: str) -> str:
    """The page with `text` as its section."""
    return page[: page.index(START)] + text + page[page.index(END) + len(END) :]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8"), section()), "utf-8")
