"""Run folders: each file empty, cut, garbage, a pipe, a folder, a link; and files that are whole but of another run."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.outcomes import READ, REFUSED, documented, of_command, some, strict, violations
from v2w_convert.checkpoint.headers import read_header

STEPS = 2
OPTIONS = ["--steps", STEPS, "--batch", 2, "--frames", 6, "--checkpoint-every", 1, "--seed", 3]
KEPT = "conv_in.weight"
FEW, MANY = 3, 60  # of the cases, always the same


@pytest.fixture(scope="module")
def unfinished(tiny_converted: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which only the model is not written yet."""
    run = tmp_path_factory.mktemp("runs") / "run"
    outcome, said = of_command("finetune", tiny_converted, "--data", tiny_data, "-o", run, *OPTIONS)
    assert outcome == READ, said
    for file in run.iterdir():
        if file.name not in ("run.json", "log.jsonl", "checkpoints", "latents", "config.yaml", "loss.png"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    return run


def shard(run: Path, name: str) -> Path:
    """The file of encoded data that has tensors of that name."""
    files = sorted(run.glob("latents/*/00000.safetensors"))
    return next(file for file in files if any(key.endswith(name) for key in read_header(file)))


def newest(run: Path) -> Path:
    return run / f"checkpoints/step-{STEPS}"


FILES: dict[str, Callable[[Path], Path]] = {
    "run.json": lambda run: run / "run.json",
    "log.jsonl": lambda run: run / "log.jsonl",
    "config.yaml": lambda run: run / "config.yaml",
    ".lock": lambda run: run / ".lock",
    "loss.png": lambda run: run / "loss.png",
    "sha256.json": lambda run: newest(run) / "sha256.json",
    **{
        name: lambda run, name=name: newest(run) / f"{name}.safetensors"  # type: ignore[misc]
        for name in ("model", "average", "optimizer")
    },
    "latents": lambda run: shard(run, ".latents"),
    "conditions": lambda run: shard(run, ".image_latents"),
    "all checkpoints": lambda run: run / "checkpoints",
    "all latents": lambda run: run / "latents",
    "a checkpoint": newest,
}


def without(file: Path) -> Path:
    """The place of a file, which is gone."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    return file


def victim(file: Path) -> Path:
    """Something outside of the run that nothing may change."""
    place = next(parent for parent in file.parents if parent.name == "home") / "victim"
    place.write_text("all my work")
    return place


def victims(file: Path) -> Path:
    place = victim(file).with_name("victims")
    (place / "step-1").mkdir(parents=True)
    (place / "step-1/thesis.tex").write_text("all my work")
    return place


FAULTS: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: without(file).touch(),
    "garbage": lambda file: without(file).write_bytes(bytes(range(256)) * 9),
    "cut": lambda file: file.is_file() and os.truncate(file, file.stat().st_size // 2),
    "200 MB": lambda file: os.truncate(file if file.is_file() else without(file), 2 * 10**8) if file.is_file() else None,
    "gone": without,
    "a pipe": lambda file: os.mkfifo(without(file)),
    "a folder": lambda file: without(file).mkdir(),
    "a device": lambda file: without(file).symlink_to("/dev/zero"),
    "a link to a file": lambda file: without(file).symlink_to(victim(file)),
    "a link to a folder": lambda file: without(file).symlink_to(victims(file)),
    "a link to nothing": lambda file: without(file).symlink_to(file.parent / "nothing"),
    "a link to itself": lambda file: without(file).symlink_to(file.name),
}  # fmt: skip


def rehashed(run: Path) -> None:
    """Have the checkpoint's hashes be those of its files: whoever changes one can change the other."""
    folder = newest(run)
    names = ("model", "average", "optimizer")
    files = {f"{name}.safetensors": folder / f"{name}.safetensors" for name in names}
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    (folder / "sha256.json").write_text(json.dumps(hashes))


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """A file of a checkpoint, or of the latents, with other tensors, and hashes to go with it."""

    def spoil(run: Path) -> None:
        file = FILES[name](run)
        held = load_file(file)
        save_file(change(held) or held, file)
        rehashed(run)

    return spoil


def of(
    change: Callable[[torch.Tensor], torch.Tensor], name: str = KEPT
) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda held: held | {name: change(held[name]).contiguous()}


def untrained(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same, with the last step to be made again."""
    return lambda run: (spoil(run), shutil.rmtree(newest(run)))[0]


def begun(spoil: Callable[[Path], Any]) -> Callable[[Path], None]:
    """The same, with encoding not ended: it goes on with what is there."""

    def stop(run: Path) -> None:
        folder = FILES["latents"](run).parent
        spoil(run)
        folder.rename(folder.with_name(f".{folder.name}.begun"))

    return stop


def raw(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (FILES[name](run).write_bytes(content), rehashed(run))[1]


def log(*lines: str) -> Callable[[Path], Any]:
    return lambda run: (run / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))


def record(**entries: Any) -> Callable[[Path], Any]:
    def spoil(run: Path) -> None:
        said = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(said | entries))

    return spoil


LATENTS, ACTIONS = "00000000.latents", "00000000.actions"
LIES: dict[str, Callable[[Path], Any]] = {
    "an empty state, hashed": raw("optimizer", b""),
    "a pickle for a state, hashed": raw("optimizer", b"cos\nsystem\n(S'touch ran'\ntR."),
    "a state of garbage, hashed": raw("optimizer", bytes(99)),
    "no state, hashed": tensors("optimizer", lambda held: {"a": torch.ones(1)}),
    "weights of another shape": tensors("model", of(lambda x: x[:1])),
    "weights of another dtype": tensors("model", of(torch.Tensor.double)),
    "weights that are NaN": tensors("model", of(lambda x: x * torch.nan)),
    "a weight too few": tensors("model", lambda held: held.pop(KEPT) is None or held),
    "a weight too many": tensors("model", lambda held: held | {"evil": torch.ones(1)}),
    "averages that are NaN": tensors("average", of(lambda x: x * torch.nan)),
    "averages of another shape": tensors("average", of(lambda x: x[:1])),
    "moments of another shape": tensors("optimizer", of(lambda x: x[:1], f"exp_avg/{KEPT}")),
    "moments that are infinite": tensors("optimizer", of(lambda x: x / 0 + 1 / x.new_zeros(()), f"exp_avg_sq/{KEPT}")),
    "a moment too few": tensors("optimizer", lambda held: held.pop(f"exp_avg/{KEPT}") is None or held),
    "steps of another dtype": tensors("optimizer", of(torch.Tensor.long, f"step/{KEPT}")),
    "a step after the last": lambda run: newest(run).rename(run / "checkpoints/step-99"),
    "a step without end": lambda run: newest(run).rename(run / f"checkpoints/step-{'9' * 200}"),
    "a step in other digits": lambda run: newest(run).rename(run / "checkpoints/step-\u0663"),
    "a checkpoint of an earlier version": lambda run: ((newest(run) / "optimizer.safetensors").rename(newest(run) / "state.pt")),
    "an empty log": log(),
    "a log of nonsense": log("[1]", "2"),
    "a log of a step that is text": log('{"step": "1", "loss": 1}'),
    "a log of a step that is none": log('{"loss": 1}'),
    "a log of a loss that is text": log('{"step": 1, "loss": "low"}'),
    "a log of a loss that is NaN": log('{"step": 1, "loss": NaN}', '{"step": 2, "loss": 1}'),
    "a log of a loss of 1e999": log('{"step": 1, "loss": 1e999}', '{"step": 2, "loss": 1}'),
    "a log of a loss that is null": log('{"step": 1, "loss": null}', '{"step": 2, "loss": 1}'),
    "a log of a loss of 400 digits": log(f'{{"step": 1, "loss": {"9" * 400}}}', '{"step": 2, "loss": 1}'),
    "a log of one step": log('{"step": 1, "loss": 1}'),
    "a log of a step twice": log('{"step": 1, "loss": 1}', '{"step": 1, "loss": 1}', '{"step": 2, "loss": 1}'),
    "a log backwards": log('{"step": 2, "loss": 1}', '{"step": 1, "loss": 1}'),
    "a log that is deep": log('{"step": ' + "[" * 4000),
    "a log in another encoding": lambda run: (run / "log.jsonl").write_text('{"step": 1}', encoding="utf-16"),
    "a log of a line without end": lambda run: (run / "log.jsonl").write_text('{"step": 1, "a": "' + "x" * 10**6),
    "a record of a list": record(settings=[1]),
    "a record of text": record(converted="evil"),
    "a record of another run": record(settings={"\x1b[31msteps": "\u202e"}),
    "a record of NaN": lambda run: (run / "run.json").write_text('{"settings": {"lr": NaN}}'),
    "a record of nothing": lambda run: (run / "run.json").write_text("{}"),
    "latents of another shape": tensors("latents", of(lambda x: x[:, :1], LATENTS)),
    "latents of other lengths": tensors("latents", lambda held: of(lambda x: x[:7], LATENTS)(held) | of(lambda x: x[:7], ACTIONS)(held)),
    "latents of another dtype": tensors("latents", of(torch.Tensor.float, LATENTS)),
    "latents that are NaN": untrained(tensors("latents", lambda held: {k: v * torch.nan if "latents" in k else v for k, v in held.items()})),
    "latents without actions": tensors("latents", lambda held: held.pop(ACTIONS) is None or held),
    "actions that are infinite": tensors("latents", lambda held: {k: v + torch.inf if "actions" in k else v for k, v in held.items()}),
    "actions of more numbers": tensors("latents", lambda held: {k: torch.cat([v, v], 1) if "actions" in k else v for k, v in held.items()}),
    "an episode of another name": tensors("latents", lambda held: held | {"evil.latents": held[LATENTS].clone(), "evil.actions": held[ACTIONS].clone()}),
    "an episode too few": tensors("latents", lambda held: held.pop(ACTIONS) is None or held.pop(LATENTS) is None or held),
    "latents begun, of another shape": begun(tensors("latents", of(lambda x: x[:, :1], LATENTS))),
    "latents begun, of a far episode": begun(tensors("latents", lambda held: held | {"99999999.latents": held[LATENTS].clone(), "99999999.actions": held[ACTIONS].clone()})),
    "latents begun, of shards that are not the first": begun(lambda run: FILES["latents"](run).rename(FILES["latents"](run).with_name("00005.safetensors"))),
    "pictures of another shape": tensors("conditions", lambda held: {k: v[..., :1].contiguous() for k, v in held.items()}),
    "pictures of too few frames": tensors("conditions", lambda held: {k: v[:1].contiguous() for k, v in held.items()}),
    "pictures that are NaN": untrained(tensors("conditions", lambda held: {k: v * torch.nan for k, v in held.items()})),
    "no pictures": tensors("conditions", lambda held: {"a": torch.ones(1)}),
    "no latents": tensors("latents", lambda held: {"a": torch.ones(1)}),
    "the same latents twice": lambda run: shutil.copy(FILES["latents"](run), FILES["latents"](run).with_name("00001.safetensors")),
}  # fmt: skip
MUST_SAY = {
    "an empty state, hashed": "optimizer.safetensors",
    "weights that are NaN": KEPT,
    "a step after the last": "step-99",
    "an empty log": "log.jsonl",
    "latents that are NaN": "not finite",
}


def every() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    for name, place in FILES.items():
        for fault, spoil in FAULTS.items():
            yield f"{name}: {fault}", lambda run, place=place, spoil=spoil: spoil(place(run))  # type: ignore[misc]


def resumed(
    case: str, spoil: Callable[[Path], Any], unfinished: Path, home: Path, converted: Path, data: Path
) -> tuple[str, str]:
    """What becomes of the run: outside of it nothing changes, and nothing in it is taken for a model unless it is one."""
    shutil.rmtree(home, ignore_errors=True)
    run = shutil.copytree(unfinished, home / "run")
    spoil(run)
    outcome, said = of_command("finetune", converted, "--data", data, "-o", run, *OPTIONS)
    kept = {path.name for path in home.iterdir() if path.name != "run"}
    texts = [
        path.read_text() for path in (home / "victim", home / "victims/step-1/thesis.tex") if path.exists()
    ]
    if any(text != "all my work" for text in texts) or kept - {"victim", "victims"}:
        outcome = f"changed what lies outside: {kept}"
    if ("victims" in kept) != (home / "victims/step-1/thesis.tex").exists():
        outcome = "deleted what lies outside"
    if outcome == REFUSED and (run / "v2w.json").exists():
        outcome = "refused, and left a model"
    if outcome == READ:
        for file in (run / "log.jsonl", run / "run.json", run / "v2w.json"):
            strict(file)
    return outcome, said


def test_counts() -> None:
    assert documented("run folders: files") == (MANY, 0)
    assert documented("run folders: what is of another run") == (len(LIES), 0)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_files_of_a_run_that_are_none_are_refused_or_made_again(
    count: int, unfinished: Path, tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    found = {}
    for case, spoil in some(every(), count, seed=count):
        found[case], _ = resumed(case, spoil, unfinished, tmp_path / "home", tiny_converted, tiny_data)
    assert not violations(found)


ACCEPTED = {"a step without end", "a step in other digits"}  # they are no checkpoints


@pytest.mark.parametrize(
    "case", [c if c in MUST_SAY else pytest.param(c, marks=pytest.mark.slow) for c in LIES]
)
def test_what_is_of_another_run_is_refused(
    case: str, unfinished: Path, tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    outcome, said = resumed(case, LIES[case], unfinished, tmp_path / "home", tiny_converted, tiny_data)
    assert outcome == (READ if case in ACCEPTED else REFUSED), (case, outcome, said)
    assert MUST_SAY.get(case, "") in said
    assert not list(Path.cwd().glob("ran"))
