"""How fast `v2w convert` is and how much memory it takes, beside plain copying and beside what else rewrites checkpoints.

    python benchmarks/convert.py FOLDER [--size 3 --size 6] [--rounds 5] [--wan] [--ckpt]

In FOLDER a checkpoint is made with the names and shapes of Stable Video Diffusion's denoiser (1.52 billion numbers in
bfloat16, 3 GB, in shards; other sizes have more or fewer layers), of Wan 2.1's smaller one, of whose tensors none
changes, or of DynamiCrafter's in a .ckpt. Every method runs as
a process of its own and measures itself, in turns, on files that the page cache holds; what it wrote is removed.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

MB = 10**6
SVD = {  # of stable-video-diffusion-img2vid-xt; what is not named is the class's default
    "num_attention_heads": [5, 10, 20, 20],
    "num_frames": 25,
    "sample_size": 96,
}
WAN = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}  # Wan 2.1 T2V 1.3B
SHARD = "1GB"


# What is measured. Each runs in a process of its own; what it imports first is not counted.


def cp(source: Path, out: Path) -> Callable[[], object]:
    return lambda: subprocess.run(["cp", "-r", source, out], check=True)


def cp_and_flush(source: Path, out: Path) -> Callable[[], object]:
    def run() -> None:
        subprocess.run(["cp", "-r", source, out], check=True)
        files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
        subprocess.run(["sync", *files], check=True)

    return run


def convert(source: Path, out: Path) -> Callable[[], object]:
    from v2w_convert.checkpoint.open import open_source
    from v2w_convert.families import model_class
    from v2w_convert.plan.registry import plan_for
    from v2w_convert.plan.resolve import resolve
    from v2w_convert.surgery.convert import plan_conversion, write_conversion

    model_class(open_source(source).class_name)

    def run() -> None:
        opened = open_source(source)
        plan = plan_for(opened.class_name, opened.config)
        resolved = resolve(plan, opened.config, opened.scheduler)
        write_conversion(plan_conversion(opened, resolved, action_dim=3), out)

    return run


def convert_without_hashing(source: Path, out: Path) -> Callable[[], object]:
    """As if digests, and reading for them alone, took no time."""
    from v2w_convert.checkpoint import output_files

    class Nothing:
        def update(self, data: object) -> None: ...

        def digest(self) -> bytes:
            return bytes(32)

    output_files.new_digest = Nothing
    output_files.digest_ranges = lambda file, ranges: [bytes(32) for _ in ranges]
    return convert(source, out)


def load_and_save(source: Path, out: Path) -> Callable[[], object]:
    """With the safetensors library, shard by shard; nothing is changed."""
    from safetensors.torch import load_file, save_file

    def run() -> None:
        out.mkdir()
        for file in source.glob("*.safetensors"):
            save_file(load_file(file), out / file.name)

    return run


def diffusers(source: Path, out: Path) -> Callable[[], object]:
    """`from_pretrained` and `save_pretrained`; nothing is changed."""
    import diffusers
    import torch

    kind = getattr(diffusers, json.loads((source / "config.json").read_text())["_class_name"])

    def run() -> None:
        model = kind.from_pretrained(source, torch_dtype=torch.bfloat16)
        model.save_pretrained(out, max_shard_size=SHARD)

    return run


def torch_load_and_save(source: Path, out: Path) -> Callable[[], object]:
    """`torch.load` and safetensors' `save_file`; nothing is changed."""
    import torch
    from safetensors.torch import save_file

    return lambda: save_file(torch.load(source, weights_only=True)["state_dict"], out)


FOLDERS = (cp, cp_and_flush, convert_without_hashing, convert, load_and_save, diffusers)
FILES = (cp, cp_and_flush, convert_without_hashing, convert, torch_load_and_save)


def measure(method: str, source: Path, out: Path) -> None:
    """Run one method here, and print what it took: seconds by clock and by processor, peak of anonymous memory."""
    run = globals()[method](source, out)
    imported, peak, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    clock, before = time.perf_counter(), processor()
    run()
    clock, used = time.perf_counter() - clock, processor() - before
    done.set()
    watching.join()
    print(json.dumps({"wall": clock, "cpu": used, "peak": max(peak, anonymous()), "imported": imported}))


def processor() -> float:
    """Seconds of this process and of those that it waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def anonymous() -> int:
    """Bytes of this process that no file backs: RssAnon in /proc/self/status, imports included."""
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


# Checkpoints to measure with.


def fill(path: Path, count: int, seed: int) -> None:
    """Append `count` bytes that are finite numbers in bfloat16 and float16, and do not repeat from page to page."""
    import numpy as np

    generator = np.random.default_rng(seed)
    with path.open("ab") as stream:
        while count:
            numbers = generator.integers(0, 2**16, min(count, 2**25) // 2, dtype=np.uint16)
            numbers &= 0xBBFF  # the highest bits of the exponent are 0: small numbers
            stream.write(numbers.tobytes())
            count -= 2 * len(numbers)


def svd(folder: Path, size: float) -> Path:
    """A model folder of about `size` GB: more layers in each block, or fewer."""
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    def made(layers: int) -> Any:
        with torch.device("meta"):
            return UNetSpatioTemporalConditionModel(**SVD, layers_per_block=layers)

    def gigabytes(model: Any) -> float:
        return sum(tensor.numel() * 2 for tensor in model.state_dict().values()) / 1e9

    return save(min(map(made, range(1, 20)), key=lambda model: abs(gigabytes(model) - size)), folder)


def wan(folder: Path) -> Path:
    import torch
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        return save(WanTransformer3DModel(**WAN), folder)


def save(model: Any, folder: Path) -> Path:
    """A model folder, in shards, of a model on the meta device."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards

    from v2w_convert.checkpoint.output import safetensors_header

    folder.mkdir(parents=True)
    model.save_config(folder)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    split = split_torch_state_dict_into_shards(
        state,
        max_shard_size=SHARD,
        filename_pattern="diffusion_pytorch_model{suffix}.safetensors",
    )
    for number, (name, tensors) in enumerate(split.filename_to_tensors.items()):
        infos = [(tensor, "BF16", tuple(state[tensor].shape)) for tensor in tensors]
        (folder / name).write_bytes(safetensors_header(infos, {"format": "pt"}))
        fill(folder / name, sum(state[tensor].numel() * 2 for tensor in tensors), number)
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    if split.is_sharded:
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def dynamicrafter(folder: Path) -> Path:
    """A .ckpt as Lightning writes it, of DynamiCrafter's denoiser at full width in float16 and a tiny autoencoder."""
    import numpy as np
    import torch

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests import lvdm
    from v2w_convert.families.dynamicrafter import DynamiCrafterUNet

    with torch.device("meta"):
        model = DynamiCrafterUNet()
    folder.mkdir(parents=True)
    raw, at, unet = folder / "raw", 0, {}
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    fill(raw, 2 * sum(int(np.prod(shape)) for shape in shapes.values()), 0)
    for name, shape in shapes.items():
        unet[name] = torch.from_numpy(np.memmap(raw, np.float16, "r+", at, shape))
        at += 2 * unet[name].numel()
    file = lvdm.save(lvdm.checkpoint(unet, frames=16), folder / "model.ckpt")
    raw.unlink()
    return file


def compare(
    title: str, make: Callable[[Path], Path], methods: Sequence[Callable], rounds: int, folder: Path
) -> None:
    source = make(folder / "source")
    files = [path for path in (source.rglob("*") if source.is_dir() else [source]) if path.is_file()]
    size = sum(file.stat().st_size for file in files)
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            while stream.read(2**24):
                pass
    found: dict[str, list[dict[str, float]]] = {method.__name__: [] for method in methods}
    for number in range(rounds + 1):
        for method in methods:
            out = folder / "out"
            command = [sys.executable, __file__, "--measure", method.__name__, str(source), str(out)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            if number:  # the first round warms up
                found[method.__name__].append(json.loads(done.stdout.splitlines()[-1]))
            shutil.rmtree(out) if out.is_dir() else out.unlink()
            os.sync()  # what one wrote is not flushed at the next one's expense

    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    print(f"\n{title}: {size / 1e9:.2f} GB, {len(files)} files, {rounds} rounds\n")
    print(
        "| method | CPU s | × cp | × cp_and_flush | wall s (fastest … slowest) | × cp | × cp_and_flush "
        "| peak anonymous MB | of these imports |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, took in middle.items():
        walls = sorted(run["wall"] for run in found[name])
        ratios = [
            f"{statistics.median(a[key] / b[key] for a, b in zip(found[name], found[other], strict=True)):.2f}"
            for key in ("cpu", "wall")
            for other in ("cp", "cp_and_flush")
        ]
        spread = f"{took['wall']:.2f} ({walls[0]:.2f} … {walls[-1]:.2f})"
        memory = [f"{took[key] / MB:.0f}" for key in ("peak", "imported")]
        cells = [name, f"{took['cpu']:.2f}", *ratios[:2], spread, *ratios[2:], *memory]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="where to make and remove checkpoints; three times the size is used"
    )
    parser.add_argument("--size", type=float, action="append", help="GB; may be given several times (3)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a method; may be given several times (all)")
    parser.add_argument("--wan", action="store_true", help="also Wan 2.1 1.3B, whose tensors all stay")
    parser.add_argument("--ckpt", action="store_true", help="also DynamiCrafter's layout, as a pickle")
    arguments = parser.parse_args()
    chosen = arguments.only or [method.__name__ for method in FOLDERS]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for size in arguments.size or [3.0]:
            folder = Path(scratch) / f"{size:g}"
            compare(
                "UNetSpatioTemporalConditionModel",
                partial(svd, size=size),
                [method for method in FOLDERS if method.__name__ in chosen],
                arguments.rounds,
                folder,
            )
            shutil.rmtree(folder)
        if arguments.wan:
            compare("WanTransformer3DModel", wan, FOLDERS, arguments.rounds, Path(scratch) / "wan")
            shutil.rmtree(Path(scratch) / "wan")
        if arguments.ckpt:
            compare(
                "DynamiCrafterUNet, .ckpt", dynamicrafter, FILES, arguments.rounds, Path(scratch) / "ckpt"
            )


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
