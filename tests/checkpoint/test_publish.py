"""Uploads to a small server that answers as the Hub does; nothing here reaches the network."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.cli.commands import refused
from tests.conftest import ACTIONS
from v2w_convert.checkpoint.publish import push
from v2w_convert.cli import run

NAME = "someone/world"


class Hub:
    """What was uploaded, and how it answers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.made: list[dict[str, Any]] = []
        self.status = 200
        self.asked: list[str] = []

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The reply to a request; of files that are committed, keep what they hold."""
        self.asked.append(f"{method} {path}")
        if path == "/api/whoami-v2":
            return {"name": "someone", "type": "user", "orgs": []}
        if path == "/api/repos/create":
            self.made.append(json.loads(body))
            return {"url": f"{self.address}/{NAME}", "id": NAME}
        if path.endswith("/preupload/main"):
            wanted = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": x, "uploadMode": "regular", "shouldIgnore": False} for x in wanted]}
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{self.address}/{NAME}/commit/1", "commitOid": "1" * 40, "success": True}
        return {"id": NAME, "sha": "0" * 40, "siblings": []}

    address = ""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = json.dumps(hub.answer(self.command, self.path.split("?")[0], body)).encode()
            self.send_response(hub.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        do_GET = do_POST = do_HEAD = reply

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield hub
    server.shutdown()
    server.server_close()


def test_a_converted_model_is_uploaded_whole(
    hub: Hub, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["convert", tiny_base, "-o", out, "--action-dim", ACTIONS, "--push-to-hub", NAME]
    assert run([str(word) for word in arguments]) == 0
    assert f"uploaded to {hub.address}/{NAME}" in capsys.readouterr().err
    kept = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    del kept["config.yaml"]  # has paths of this machine
    assert hub.files == kept and "v2w.json" in kept
    assert (
        hub.made[0].get("visibility") == "private" or hub.made[0]["private"]
    )  # of older versions of the library


def test_of_a_run_the_model_is_uploaded(
    hub: Hub, tiny_converted: Path, tiny_data: Path, tmp_path: Path
) -> None:
    from v2w_convert import FinetuneSettings, finetune

    folder = tmp_path / "run"
    settings = FinetuneSettings(steps=1, batch=1, frames=6, push_to_hub=NAME, rollout_every=1)
    finetune(tiny_converted, tiny_data, folder, settings)
    first = dict(hub.files)
    folders = {path.split("/")[0] for path in first}
    assert not folders & {"checkpoints", "latents", "config.yaml", ".lock"}
    assert {"v2w.json", "README.md", "loss.png", "log.jsonl", "unet", "vae", "rollouts"} <= folders
    assert "| Data | squares |" in first["README.md"].decode()
    hub.files.clear()
    finetune(tiny_converted, tiny_data, folder, settings)  # finished: only the upload is done again
    assert hub.files.keys() == first.keys()


@pytest.mark.parametrize(
    ("status", "found"),
    [(401, "does not take the token"), (403, "may not write there"), (500, "HfHubHTTPError")],
)
def test_a_refusal_comes_before_any_work(
    status: int, found: str, hub: Hub, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.status = status
    out = tmp_path / "out"
    line = refused(capsys, "convert", tiny_base, "-o", out, "--action-dim", ACTIONS, "--push-to-hub", NAME)
    assert line.startswith(f"v2w: push to {NAME}: ") and found in line
    assert not out.exists() and hub.files == {}


def test_what_cannot_be_pushed_is_refused_without_asking_the_hub(
    hub: Hub,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["convert", tiny_base, "-o", tmp_path / "out", "--action-dim", ACTIONS]
    for name in ("world", "../x/y", "a/b/c", "some one/x"):
        assert "not the id of a repository" in refused(capsys, *base, "--push-to-hub", name)
    assert "nothing to upload" in refused(capsys, *base, "--push-to-hub", NAME, "--dry-run")
    monkeypatch.setattr(huggingface_hub.utils, "get_token", lambda: None)
    monkeypatch.setattr(huggingface_hub.hf_api, "get_token", lambda: None)
    assert "nobody is logged in to the Hub" in refused(capsys, *base, "--push-to-hub", NAME)
    assert hub.asked == []


def test_an_upload_that_fails_leaves_the_folder(hub: Hub, tiny_converted: Path) -> None:
    from v2w_convert.errors import V2WError

    hub.status = 403
    with pytest.raises(V2WError, match="may not write there"):
        push(tiny_converted, NAME)
    assert (tiny_converted / "v2w.json").is_file()
