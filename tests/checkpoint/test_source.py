import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_convert.checkpoint.headers import DTYPES
from v2w_convert.checkpoint.open import open_source
from v2w_convert.checkpoint.source import read_tensor
from v2w_convert.errors import V2WError

INDEX = "diffusion_pytorch_model.safetensors.index.json"
PLAIN = "diffusion_pytorch_model.safetensors"
FP16 = "diffusion_pytorch_model.fp16.safetensors"


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))
    )


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


# What is recognised


@pytest.mark.parametrize("kind", ["plain", "sharded", "fp16", "fp16_sharded"])
def test_every_tensor_of_a_saved_model_is_read_bit_for_bit(kind, saved, tiny_unet):
    source = open_source(saved / kind)
    dtype = torch.float16 if "fp16" in kind else torch.float32
    state = {name: tensor.to(dtype) for name, tensor in tiny_unet.state_dict().items()}
    assert source.tensors.keys() == state.keys()
    assert all(same_bits(read_tensor(info), state[name]) for name, info in source.tensors.items())
    assert source.class_name == "UNetSpatioTemporalConditionModel"
    assert (source.component, source.scheduler, source.others, source.notes) == ("", None, (), ())
    assert source.converted is False
    assert source.files == tuple(shards(saved / kind))
    assert (len(source.files) > 1) == ("sharded" in kind)


def test_a_pipeline_lists_its_model_and_all_other_files(pipeline, saved):
    (pipeline / ".git").mkdir()
    (pipeline / ".git" / "config").touch()
    (pipeline / "unet" / ".hidden").touch()
    (pipeline / "unet" / "notes.txt").touch()
    os.mkfifo(pipeline / "fifo")
    source = open_source(pipeline)
    assert source.component == "unet"
    assert source.files == (pipeline / "unet" / PLAIN,)
    assert source.config["num_attention_heads"] == [2, 4]
    assert source.scheduler is not None and source.scheduler["lambda_min_clipped"] == float("-inf")
    assert [str(path) for path in source.others] == [
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/notes.txt",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert source.tensors.keys() == open_source(saved / "plain").tensors.keys()


def test_the_transformer_of_a_pipeline_is_found(pipeline):
    (pipeline / "unet").rename(pipeline / "transformer")
    source = open_source(pipeline)
    assert source.component == "transformer"
    assert Path("transformer/config.json") not in source.others


def test_the_component_of_a_pipeline_is_a_model_folder(pipeline):
    assert open_source(pipeline / "unet").component == ""


def test_a_relative_path_is_read(plain, monkeypatch):
    monkeypatch.chdir(plain)
    source = open_source(Path("."))
    assert source.files == (Path(PLAIN),)
    assert not source.others


def test_a_converted_folder_is_known_by_its_manifest(plain):
    (plain / "v2w.json").write_text("{}")
    (plain / "conditions.safetensors").touch()
    source = open_source(plain)
    assert source.converted is True
    assert source.others == (Path("conditions.safetensors"), Path("v2w.json"))


def test_plain_weights_are_preferred_and_stale_ones_are_not_copied_along(saved, plain):
    shutil.copy(saved / "fp16" / FP16, plain)
    (plain / "diffusion_pytorch_model.bin").touch()
    source = open_source(plain)
    assert source.files == (plain / PLAIN,)
    assert source.others == ()
    assert source.notes == (f"{PLAIN} is read; diffusion_pytorch_model.bin, {FP16} ignored",)


def test_shards_are_preferred_to_one_file_as_diffusers_does(saved, sharded):
    shutil.copy(saved / "plain" / PLAIN, sharded)
    source = open_source(sharded)
    assert sharded / PLAIN not in source.files
    assert source.notes == (f"{INDEX} is read; {PLAIN} ignored",)


def test_shards_may_have_any_name(pipeline):
    unet = pipeline / "unet"
    (unet / PLAIN).rename(unet / "any.safetensors")
    save_file({"added": torch.ones(1)}, unet / "added.safetensors")
    shard_of = dict.fromkeys(load_file(unet / "any.safetensors"), "any.safetensors") | {
        "added": "added.safetensors"
    }
    (unet / INDEX).write_text(json.dumps({"weight_map": shard_of}))
    source = open_source(pipeline)
    assert source.files == (unet / "added.safetensors", unet / "any.safetensors")
    assert source.tensors.keys() == shard_of.keys()
    assert not [path for path in source.others if path.parts[0] == "unet"]
    assert source.notes == ()


def test_a_wrong_total_size_is_reported(sharded):
    size = json.loads((sharded / INDEX).read_text())["metadata"]["total_size"]
    edit(sharded / INDEX, lambda index: index["metadata"].update(total_size=1))
    assert open_source(sharded).notes == (f"{INDEX} says 1 bytes, the shards hold {size}",)


def test_links_within_the_folder_and_within_the_hubs_cache_are_read(plain, tmp_path):
    (plain / PLAIN).rename(plain / "weights")
    (plain / PLAIN).symlink_to("weights")
    (plain / "card.md").symlink_to("weights")
    assert open_source(plain).others == (Path("card.md"), Path("weights"))

    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    (snapshot / "unet").mkdir(parents=True)
    blobs.mkdir()
    (blobs / "card").touch()
    shutil.copy(plain / "weights", blobs / "weights")
    shutil.copy(plain / "config.json", blobs / "config")
    for link, blob in {f"unet/{PLAIN}": "weights", "unet/config.json": "config", "README.md": "card"}.items():
        (snapshot / link).symlink_to(os.path.relpath(blobs / blob, (snapshot / link).parent))
    (snapshot / "model_index.json").write_text("{}")
    source = open_source(snapshot)
    assert source.others == (Path("README.md"), Path("model_index.json"))
    assert source.notes == ()
    assert open_source(snapshot / "unet").tensors.keys() == source.tensors.keys()


def test_links_that_leave_the_folder_are_not_copied_and_are_reported(pipeline, tmp_path):
    (tmp_path / "secret").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (pipeline / "a").symlink_to(tmp_path / "secret")
    (pipeline / "b").symlink_to(tmp_path / "elsewhere")
    (pipeline / "c").symlink_to("nowhere")
    (pipeline / "d").symlink_to(".")
    source = open_source(pipeline)
    assert not {"a", "b", "c", "d"} & {path.parts[0] for path in source.others}
    assert source.notes == ("links are not followed: a, b, c, d ignored",)


# What is refused


def refused(path: Path, *found: str) -> None:
    with pytest.raises(V2WError) as error:
        open_source(path)
    for mention in found:
        assert mention in str(error.value)
    assert str(error.value).isprintable()


def test_a_missing_folder_is_refused(tmp_path):
    refused(tmp_path / "none", f"open {tmp_path / 'none'}: no such folder")
    refused(tmp_path / ("x" * 300), "File name too long")


def test_a_file_instead_of_a_folder_is_refused(plain):
    refused(plain / PLAIN, "weights of a model folder", f"try: {plain}")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    refused(tmp_path / "a", "neither a pipeline", "it has nothing")
    (tmp_path / "b").touch()
    refused(tmp_path, "neither a pipeline", "nor a model", "it has a/, b")


def test_a_pipeline_without_a_denoiser_is_refused(pipeline):
    (pipeline / "unet" / "config.json").unlink()
    refused(pipeline, "neither a pipeline", "it has README.md, model_index.json, scheduler/, unet/, vae/")


def test_a_pipeline_with_two_denoisers_is_refused(pipeline):
    shutil.copytree(pipeline / "unet", pipeline / "transformer")
    refused(pipeline, "both unet and transformer exist")


def test_a_config_without_a_class_is_refused(plain):
    (plain / "config.json").write_text('{"architectures": ["Llama"], "vocab_size": 7}')
    refused(plain, "config.json has no _class_name; it has architectures, vocab_size")
    (plain / "config.json").write_text('{"_class_name": ["Llama"]}')
    refused(plain, "config.json has no _class_name")


@pytest.mark.parametrize("text", ["[]", "{", '{"_class_name": "A", "_class_name": "B"}'])
def test_a_config_that_is_not_one_object_is_refused(plain, text):
    (plain / "config.json").write_text(text)
    refused(plain, f"read {plain / 'config.json'}")


def test_a_folder_without_weights_is_refused(plain):
    (plain / PLAIN).rename(plain / "other.safetensors")
    refused(plain, f"no {PLAIN} in {plain}; it has config.json, other.safetensors")


@pytest.mark.parametrize("name", ["model.ckpt", "a.pt", "a.pth"])
def test_weights_whose_name_does_not_say_what_they_are_are_refused(plain, name):
    (plain / PLAIN).rename(plain / name)
    refused(plain, f"only {name}, whose names do not say what they hold", "rename it")


def test_a_weight_file_without_tensors_is_refused(plain):
    save_file({}, plain / PLAIN)
    refused(plain, f"{PLAIN} holds no tensor")


def test_an_encoder_that_is_not_whole_is_reported(pipeline):
    """Conversion does not need it; it is copied as it is."""
    (pipeline / "text_encoder").mkdir()
    (pipeline / "text_encoder" / "config.json").write_text('{"architectures": ["UMT5EncoderModel"]}')
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (pipeline / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    [note] = open_source(pipeline).notes
    assert note == "text_encoder/ is not whole: 1 of 1 shards are missing: model-00001-of-00002.safetensors"


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_pointer_anywhere_is_refused(pipeline, part):
    (pipeline / part / PLAIN).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(pipeline, f"read {pipeline / part / PLAIN}: a Git LFS pointer", "git lfs pull")


def test_links_out_of_a_makers_folder_are_refused(tmp_path, plain):
    folder = tmp_path / "wan"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "WanModel"}')
    (folder / PLAIN).symlink_to(plain / PLAIN)
    refused(folder, "is a link to", "copy the file itself there")


def test_a_malformed_weight_file_is_refused(plain, sharded):
    for file in (plain / PLAIN, shards(sharded)[1]):
        file.write_bytes(file.read_bytes()[:-1])
        refused(file.parent, f"read {file}", "the file at")


def test_all_missing_shards_are_listed(sharded, saved):
    first, _, third, *_ = shards(sharded)
    first.unlink()
    third.unlink()
    refused(sharded, f"shards are missing: {first.name}, {third.name}", "download the folder again")
    shutil.copy(
        saved / "plain" / PLAIN, sharded
    )  # diffusers leaves the index when it saves one file over shards
    refused(sharded, f"delete the index, if {PLAIN} is the model")


def test_an_index_that_names_an_absent_key_is_refused(sharded):
    name = shards(sharded)[0].name
    edit(sharded / INDEX, lambda index: index["weight_map"].update(ghost=name))
    refused(sharded, f"ghost is in the index but not in {name}")


def test_a_shard_with_an_extra_key_is_refused(sharded):
    file = shards(sharded)[0]
    save_file(load_file(file) | {"extra": torch.zeros(1)}, file)
    refused(sharded, f"extra is in {file.name} but not in the index")


def test_a_key_in_two_shards_is_refused(sharded):
    first, second, *_ = shards(sharded)
    key = min(load_file(first))
    save_file(load_file(second) | {key: torch.zeros(1)}, second)
    refused(sharded, f"{key} is in two shards, {first.name} and {second.name}")


def test_a_key_in_another_shard_than_the_index_says_is_refused(sharded):
    first, second, *_ = shards(sharded)
    key = min(load_file(first))
    edit(sharded / INDEX, lambda index: index["weight_map"].update({key: second.name}))
    refused(sharded, f"{key} is in {first.name}, but the index says {second.name}")


def test_many_faults_are_reported_in_one_short_line(sharded):
    name = shards(sharded)[0].name
    edit(sharded / INDEX, lambda index: index["weight_map"].update({f"ghost{i}": name for i in range(1000)}))
    with pytest.raises(V2WError, match=r"ghost0 is in .*ghost7 is in .*; and 992 more") as error:
        open_source(sharded)
    assert str(error.value).count("ghost") == 8


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors",
        "/etc/passwd",
        "a\\b.safetensors",
        "C:a.safetensors",
        "a\0.safetensors",
        "",
        "..",
        1,
        None,
        ["a.safetensors"],
        "a.safetensors\n",
        ".a.safetensors",
        "a.bin",
        "b/a.safetensors",
    ],
)
def test_an_index_that_points_elsewhere_is_refused(sharded, name):
    key = min(load_file(shards(sharded)[0]))
    edit(sharded / INDEX, lambda index: index["weight_map"].update({key: name}))
    refused(sharded, f"read {sharded / INDEX}", f"{key}: ", "is not a plain name of a safetensors file")


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "b", "a": "b"}}'])
def test_a_malformed_index_is_refused(sharded, text):
    (sharded / INDEX).write_text(text)
    refused(sharded, f"read {sharded / INDEX}")


def test_an_index_that_names_nothing_is_refused(sharded):
    (sharded / INDEX).write_text('{"weight_map": {}}')
    refused(sharded, f"{INDEX} holds no tensor")


def test_weights_linked_from_outside_are_refused(plain, sharded, pipeline, tmp_path):
    for number, file in enumerate([plain / PLAIN, shards(sharded)[1], sharded / INDEX, pipeline / "unet"]):
        file.rename(tmp_path / f"moved{number}")
        file.symlink_to(tmp_path / f"moved{number}")
        refused(
            plain if number == 0 else pipeline if number == 3 else sharded, "is a link to", f"moved{number}"
        )
        if number == 1:
            file.unlink()
            (tmp_path / "moved1").rename(file)


def test_a_shard_that_is_not_a_file_is_refused(sharded):
    file = shards(sharded)[0]
    file.unlink()
    os.mkfifo(file)
    refused(sharded, f"read {file}: not a regular file")
    file.unlink()
    file.symlink_to("nowhere")
    refused(sharded, f"read {file}: no such file")


def test_a_folder_that_cannot_be_listed_is_refused(plain, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", fail)
    refused(plain, "Permission denied")


# Reading a tensor


@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.torch])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (3, 0)])
def test_a_tensor_is_read_bit_for_bit(dtype, shape, tmp_path):
    kind = getattr(torch, DTYPES[dtype].torch or "")
    count = torch.Size(shape).numel()
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(256, (count * kind.itemsize,), dtype=torch.uint8, generator=generator)
    if dtype == "BOOL":
        bits %= 2
    tensor = bits.view(kind).reshape(shape)
    # One odd byte before it, so that it does not lie on an even address in the file.
    header = {
        "pad": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "a": {"dtype": dtype, "shape": shape, "data_offsets": [1, 1 + len(bits)]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "config.json").write_text('{"_class_name": "Any"}')
    (tmp_path / PLAIN).write_bytes(len(text).to_bytes(8, "little") + text + b"\7" + bytes(bits.tolist()))
    source = open_source(tmp_path)
    read = read_tensor(source.tensors["a"])
    assert same_bits(read, tensor)
    assert same_bits(read, load_file(tmp_path / PLAIN)["a"])


def test_a_tensor_owns_its_memory(plain):
    infos = open_source(plain).tensors
    info = max(infos.values(), key=lambda info: info.stop)
    before = (plain / PLAIN).read_bytes()
    first, second = read_tensor(info), read_tensor(info)
    first.zero_()
    assert second.any()
    assert first.untyped_storage().nbytes() == info.stop - info.start
    assert (plain / PLAIN).read_bytes() == before


def test_a_file_truncated_since_it_was_opened_is_refused(plain):
    info = list(open_source(plain).tensors.values())[-1]
    (plain / PLAIN).write_bytes((plain / PLAIN).read_bytes()[:-1])
    with pytest.raises(V2WError, match=f"{PLAIN}: it now ends before byte {info.stop}"):
        read_tensor(info)
    (plain / PLAIN).unlink()
    with pytest.raises(V2WError, match=f"{PLAIN}: No such file"):
        read_tensor(info)


def test_a_dtype_that_torch_cannot_hold_is_refused(plain):
    info = next(iter(open_source(plain).tensors.values()))
    with pytest.raises(V2WError, match="dtype F6_E2M3, which torch cannot hold"):
        read_tensor(replace(info, dtype="F6_E2M3"))
