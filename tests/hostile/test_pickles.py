"""36 to 47: checkpoints that torch.save wrote, and what only looks like them."""

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import lvdm
from tests.hostile.conftest import Refused

UNET = "model.diffusion_model."
KEY = f"{UNET}time_embed.0.weight"
ALIAS = f"{UNET}time_embed.2.weight"
Change = Callable[[dict[str, Any], Path], Any]


class Calls:
    """Unpickled, it calls."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def stored(change: Change) -> Callable[[dict[str, Any], Path], Any]:
    """A checkpoint whose tensors are changed before they are saved."""

    def make(tensors: dict[str, Any], file: Path) -> None:
        changed = change(tensors, file)
        lvdm.save(tensors if changed is None else changed, file)

    return make


def zipped(change: Callable[[str, bytes], bytes | None] = lambda name, data: data, **how: Any) -> Change:
    """The same archive written by another program."""

    def make(tensors: dict[str, Any], file: Path) -> None:
        lvdm.save(tensors, file)
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as old, zipfile.ZipFile(file, "w", **how) as new:
            for name in old.namelist():
                if (data := change(name, old.read(name))) is not None:
                    new.writestr(name, data)

    return make


def bomb(tensors: dict[str, Any], file: Path) -> None:
    """A storage of a gigabyte of zeros, deflated to a megabyte."""
    zipped(
        lambda name, data: bytes(1 << 28) if name.endswith("/data/0") else data,
        compression=zipfile.ZIP_DEFLATED,
    )(tensors, file)


def doubled(tensors: dict[str, Any], file: Path) -> None:
    lvdm.save(tensors, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(next(n for n in archive.namelist() if n.endswith("/data/0")), b"other")


def flipped(tensors: dict[str, Any], file: Path) -> None:
    """One bit of one tensor's data."""
    lvdm.save(tensors, file)
    data = bytearray(file.read_bytes())
    at = data.find(tensors[KEY].numpy().tobytes())
    assert at > 0
    data[at] ^= 1
    file.write_bytes(data)


def flipped_pickle(tensors: dict[str, Any], file: Path) -> None:
    """One bit of the pickle: another number of steps, say."""
    lvdm.save(tensors, file)
    data = bytearray(file.read_bytes())
    data[data.find(b"global_step")] ^= 1
    file.write_bytes(data)


def legacy(tensors: dict[str, Any], file: Path) -> None:
    torch.save({"state_dict": tensors}, file, _use_new_zipfile_serialization=False)


def tar(tensors: dict[str, Any], file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))


def cut(tensors: dict[str, Any], file: Path) -> None:
    lvdm.save(tensors, file)
    os.truncate(file, file.stat().st_size * 9 // 10)


def header_moved(tensors: dict[str, Any], file: Path) -> None:
    """The list of entries gives another offset for one of them."""
    lvdm.save(tensors, file)
    data = bytearray(file.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 42, 7)
    file.write_bytes(data)


def cyclic(tensors: dict[str, Any], file: Path) -> None:
    loop: dict[str, Any] = {**tensors}
    loop["loop"] = loop
    torch.save(loop, file)


def nested(tensors: dict[str, Any], file: Path) -> None:
    torch.save({"model": {"state_dict": {"module": tensors}}}, file)


def strides(tensors: dict[str, Any], file: Path) -> None:
    """A size that the storage has not."""
    tensors[KEY] = torch.zeros(1, dtype=torch.half).expand(1 << 40)
    lvdm.save(tensors, file)


def pickled(text: bytes) -> Change:
    """An archive with a pickle written by hand."""

    def make(tensors: dict[str, Any], file: Path) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/data.pkl", text)
            archive.writestr("a/byteorder", "little")
            archive.writestr("a/version", "3\n")

    return make


def doubling(times: int) -> bytes:
    """A dictionary with one key: a pair of one pair, which is a pair of one pair, …; hashing it takes 2^times steps."""
    twice = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(times))
    return b"\x80\x02}K\x01K\x01\x86" + twice + b"K\x01s."


def canary(file: Path) -> str:
    return str(file.parent / "ran")


CASES: dict[str, tuple[Change, list[str]]] = {
    "36 os.system": (stored(lambda t, f: t.update(x=Calls(os.system, f"touch {canary(f)}"))), ["system", "could run code"]),
    "36 builtins.exec": (stored(lambda t, f: t.update(x=Calls(exec, f"open({canary(f)!r}, 'w')"))), ["exec", "could run code"]),
    "36 a name put together": (pickled(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."), ["os system", "could run code"]),
    "36 an old opcode": (pickled(b"(S'true'\nios\nsystem\n."), ["os system", "could run code"]),
    "36 a function of torch's": (stored(lambda t, f: t.update(x=Calls(torch.load, "/etc/passwd"))), ["load", "could run code"]),
    "37 a tar": (tar, []),
    "37 an old pickle": (legacy, ["before version 1.6"]),
    "38 a class of Lightning's": (pickled(b"cpytorch_lightning.callbacks\nModelCheckpoint\n)R."), ["pytorch_lightning", "ModelCheckpoint"]),
    "38 a class with an escape sequence": (pickled(b"c\x1b[31mevil\nRed\n)R."), ["x1b[31mevil Red"]),
    "39 a deflated bomb": (bomb, ["compressed"]),
    "40 one number expanded to 2^40": (strides, [KEY, "expanded"]),
    "43 an empty pickle": (pickled(b""), []),
    "41 an entry twice": (doubled, ["2 times"]),
    "42 a bit of a tensor": (flipped, ["damaged", "checksum"]),
    "42 a bit of the pickle": (flipped_pickle, ["data.pkl"]),
    "42 an entry that is elsewhere": (header_moved, ["not where the file says"]),
    "43 cut": (cut, []),
    "43 a zip's first bytes": (lambda t, f: f.write_bytes(b"PK\x03\x04"), []),
    "43 no pickle": (zipped(lambda name, data: None if name.endswith("data.pkl") else data), []),
    "43 a pickle that ends at once": (pickled(b"\x80\x02"), []),
    "43 a pickle of nothing": (pickled(b"\x80\x02N."), ["NoneType"]),
    "43 a pickle of 9 MB": (pickled(b"\x80\x02" + b"N0" * 4_500_000 + b"N."), ["over the limit"]),
    "45 a sparse tensor": (stored(lambda t, f: t.update({KEY: t[KEY].float().to_sparse()})), [KEY, "sparse"]),
    "45 a meta tensor": (stored(lambda t, f: t.update({KEY: t[KEY].to("meta")})), [KEY]),
    "45 a quantized tensor": (stored(lambda t, f: t.update({KEY: torch.quantize_per_tensor(t[KEY].float(), 0.1, 0, torch.qint8)})), []),
    "45 a conjugate": (stored(lambda t, f: t.update({KEY: t[KEY].to(torch.complex64).conj()})), [KEY]),
    "46 numbers for names": (stored(lambda t, f: t.update({7: torch.ones(2)})), ["7: not a tensor name"]),
    "46 an escape sequence in a name": (stored(lambda t, f: t.update({"\x1b[31mk\n": torch.ones(2)})), ["x1b[31mk"]),
    "46 nested wrappers": (nested, ["model"]),
    "46 a key of tuples within tuples, each twice": (pickled(doubling(60)), ["tuple", "10000 objects"]),
    "46 a list": (lambda t, f: torch.save([t], f), ["list"]),
    "46 nothing": (lambda t, f: torch.save({}, f), ["no tensors by name"]),
    "47 neither": (lambda t, f: f.write_bytes(b"GGUF" * 100), []),
}  # fmt: skip


@pytest.fixture
def tensors(lvdm_file: Path) -> dict[str, Any]:
    return torch.load(lvdm_file, weights_only=True)["state_dict"]


@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.*quantize", "ignore:.*quantized")
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_pickle_is_refused(
    case: str, tensors: dict[str, Any], home: Path, refused: Refused
) -> None:
    make, mentions = CASES[case]
    file = home / "model.ckpt"
    make(tensors, file)
    refused("convert", file, "-o", home / "out", "--action-dim", 3, mentions=[str(file), *mentions])
    assert not (home / "ran").exists()


def test_44_two_names_of_one_tensor_are_both_read(
    tensors: dict[str, Any], home: Path, converts: Callable[..., str]
) -> None:
    """Accepted: both are written, in full."""
    tensors[f"{UNET}input_blocks.0.0.bias"] = tensors[f"{UNET}init_attn.0.norm.bias"]
    lvdm.save(tensors, home / "model.ckpt")
    converts("inspect", home / "model.ckpt")


def test_46_a_cycle_is_harmless(tensors: dict[str, Any], home: Path, converts: Callable[..., str]) -> None:
    """Accepted: tensors are taken from the first level; all else is left aside, and named."""
    cyclic(tensors, home / "model.ckpt")
    assert "ignored: loop" in converts("inspect", home / "model.ckpt")


def test_46_an_optimizer_beside_the_weights_is_ignored(
    tensors: dict[str, Any], home: Path, refused: Refused, converts: Callable[..., str]
) -> None:
    """Accepted: `state_dict`, else `module`, else the file itself; never a guess between weights and averages."""
    state = {"state_dict": tensors, "optimizer_states": [{"state": {0: torch.ones(3)}}], "ema": dict(tensors)}
    torch.save(state, home / "model.ckpt")
    refused("inspect", home / "model.ckpt", mentions=["average over training (ema.*)", "--no-ema"])
    output = converts("inspect", home / "model.ckpt", "--no-ema")
    assert "optimizer_states" in output and "average over training (ema.*) is ignored" in " ".join(
        output.split()
    )


def test_47_the_format_is_recognised_by_content(
    lvdm_file: Path, home: Path, plain: Path, refused: Refused, converts: Any
) -> None:
    """Accepted: the first bytes tell what a file is. In a folder, the index's and diffusers' names count."""
    (home / "model.safetensors").write_bytes(lvdm_file.read_bytes())
    converts("inspect", home / "model.safetensors")
    weights = plain / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(lvdm_file.read_bytes())
    refused("inspect", plain, mentions=[weights.name, "torch.save wrote", ".bin"])


def test_54_a_transposed_tensor_is_refused(tensors: dict[str, Any], home: Path, refused: Refused) -> None:
    """Refused, where the list would have it read: bytes are copied in order, never put in order."""
    tensors[KEY] = tensors[KEY].T.contiguous().T
    lvdm.save(tensors, home / "model.ckpt")
    refused(
        "convert", home / "model.ckpt", "-o", home / "out", "--action-dim", 3, mentions=[KEY, ".contiguous()"]
    )
