"""HDF5 files, spoiled: what lies elsewhere, what is no number, what is absurdly large."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.coloured import episodes
from tests.hostile.datasets import Spoil
from tests.hostile.datasets.places import KINDS, in_place, linked

FILE = "a.hdf5"
FRAMES, ACTIONS = "data/demo_0/obs/camera", "data/demo_0/actions"


def write(folder: Path) -> Path:
    """Three episodes in robomimic's layout."""
    import h5py

    folder.mkdir()
    with h5py.File(folder / FILE, "w") as root:
        root.create_group("data").attrs["env_args"] = '{"env_kwargs": {"control_freq": 9}}'
        for number, episode in enumerate(episodes()):
            root.create_dataset(
                f"data/demo_{number}/obs/camera", data=episode.frames, chunks=True, compression="gzip"
            )
            root[f"data/demo_{number}/actions"] = episode.actions
    return folder


def instead(path: str, make: Any) -> Spoil:
    """`make` is called with the group, the name and the folder, in the place of what is at the path."""

    def spoil(folder: Path) -> None:
        import h5py

        with h5py.File(folder / FILE, "a") as root:
            del root[path]
            parent, _, name = path.rpartition("/")
            make(root[parent] if parent else root, name, folder)

    return spoil


def array(**how: Any) -> Any:
    return lambda group, name, folder: group.create_dataset(name, **how)


def external_link(group: Any, name: str, folder: Path) -> None:
    import h5py

    write(folder.parent / "other")
    group[name] = h5py.ExternalLink(str(folder.parent / "other" / FILE), FRAMES)


def soft_link(group: Any, name: str, folder: Path) -> None:
    import h5py

    group[name] = h5py.SoftLink("/data/demo_1")


def virtual(group: Any, name: str, folder: Path) -> None:
    import h5py

    write(folder.parent / "other")
    layout = h5py.VirtualLayout((5, 16, 16, 3), np.uint8)
    layout[:] = h5py.VirtualSource(folder.parent / "other" / FILE, FRAMES, (5, 16, 16, 3))
    group.create_virtual_dataset(name, layout)


def elsewhere(group: Any, name: str, folder: Path) -> None:
    raw = folder.parent / "raw"
    raw.write_bytes(bytes(5 * 16 * 16 * 3))
    group.create_dataset(name, (5, 16, 16, 3), np.uint8, external=[(str(raw), 0, 5 * 16 * 16 * 3)])


def unknown_filter(group: Any, name: str, folder: Path) -> None:
    """Its number is that of a library that HDF5 would look for; the array is written without it."""
    import h5py

    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((5, 16, 16, 3))
    creation.set_filter(4, h5py.h5z.FLAG_OPTIONAL, (8, 8)) if h5py.h5z.filter_avail(4) else None
    creation.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((5, 16, 16, 3))
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_UINT8, space, creation)


def references(group: Any, name: str, folder: Path) -> None:
    import h5py

    group.create_dataset(name, data=[group.ref] * 5, dtype=h5py.ref_dtype)


def texts(group: Any, name: str, folder: Path) -> None:
    import h5py

    group.create_dataset(name, data=["left"] * 5, dtype=h5py.string_dtype())


def junk_pictures(group: Any, name: str, folder: Path) -> None:
    import h5py

    made = group.create_dataset(name, (5,), h5py.vlen_dtype(np.uint8))
    for i in range(5):
        made[i] = np.full(9, 255, np.uint8)


def env_args(value: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        import h5py

        with h5py.File(folder / FILE, "a") as root:
            root["data"].attrs["env_args"] = value

    return spoil


CASES: dict[str, Spoil] = {
    **{f"{FILE} is {kind}": in_place(FILE, make) for kind, make in KINDS.items()},
    f"{FILE} is linked from outside": linked(FILE),
    "no HDF5 file": lambda folder: (folder / FILE).write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 999),
    "an empty file": lambda folder: (folder / FILE).write_bytes(b""),
    **{
        f"{share:.0%} of the file": lambda folder, share=share: os.truncate(
            folder / FILE, int((folder / FILE).stat().st_size * share)
        )
        for share in (0.02, 0.2, 0.5, 0.9, 0.99)
    },
    "frames: a link to another file": instead(FRAMES, external_link),
    "episode: a link by name": instead("data/demo_0", soft_link),
    "frames: a virtual array": instead(FRAMES, virtual),
    "frames: numbers in another file": instead(FRAMES, elsewhere),
    "frames: a filter of a library": instead(FRAMES, unknown_filter),
    "frames: 10 billion": instead(
        FRAMES, array(shape=(10**10, 16, 16, 3), dtype="u1", chunks=(1, 16, 16, 3))
    ),
    "frames: of 8 GB each": instead(
        FRAMES, array(shape=(5, 2**16, 2**16, 3), dtype="u1", chunks=(1, 64, 64, 3))
    ),
    "frames: a chunk of 3 GB": instead(
        FRAMES,
        array(
            shape=(5, 1024, 1024, 3), maxshape=(None, 1024, 1024, 3), dtype="u1", chunks=(1000, 1024, 1024, 3)
        ),
    ),
    "frames: floating point": instead(FRAMES, array(data=np.zeros((5, 16, 16, 3)))),
    "frames: another count": instead(FRAMES, array(data=np.zeros((9, 16, 16, 3), np.uint8))),
    "frames: another size": instead(FRAMES, array(data=np.zeros((5, 16, 32, 3), np.uint8))),
    "frames: packed, and no pictures": instead(FRAMES, junk_pictures),
    "frames: texts": instead(FRAMES, texts),
    "frames: a group": instead(FRAMES, lambda group, name, folder: group.create_group(name)),
    "frames: not there": instead(FRAMES, lambda group, name, folder: None),
    "actions: texts": instead(ACTIONS, texts),
    "actions: references": instead(ACTIONS, references),
    "actions: NaN": instead(ACTIONS, array(data=np.full((5, 2), np.nan))),
    "actions: over float32": instead(ACTIONS, array(data=np.full((5, 2), 1e300))),
    "actions: one number": instead(ACTIONS, array(data=3.0)),
    "actions: other numbers": instead(ACTIONS, array(data=np.zeros((5, 3)))),
    "actions: 10^12 of them": instead(ACTIONS, array(shape=(5, 10**12), dtype="f8", chunks=(1, 1024))),
    "actions: nothing": instead(ACTIONS, array(shape=(0, 2), dtype="f4")),
    "actions: records": instead(ACTIONS, array(data=np.zeros(5, [("x", "f4"), ("y", "f4")]))),
    "env_args: no JSON": env_args("{"),
    "env_args: a number": env_args(3),
    "env_args: no rate": env_args('{"env_kwargs": {"control_freq": "fast"}}'),
    "env_args: a negative rate": env_args('{"env_kwargs": {"control_freq": -20}}'),
    "env_args: 10 MB": env_args("x" * 60_000),
}
