"""`v2w play`."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import jsonschema
import pytest

pytest.importorskip("starlette")  # of the extra `play`

from tests.cli.commands import SCHEMAS, refused


def test_mistakes(tiny_converted: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no frames to begin from" in refused(capsys, "play", tiny_converted)
    assert "no such folder" in refused(capsys, "play", tiny_converted / "none", "--data", data)
    found = ["play", tiny_converted, "--data", data, "--port", 0]
    assert "the longest episode has 24 frames" in refused(capsys, *found, "--history", 25)
    assert "timesteps" in refused(capsys, *found, "--steps", 100_000)
    assert "a maze" not in refused(capsys, *found, "--prompt", "a maze")
    assert "--port" in refused(capsys, *found[:-1], 65536)
    assert "listen on host.invalid" in refused(capsys, *found, "--host", "host.invalid")


def test_a_port_that_is_taken(tiny_converted: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(capsys, "play", tiny_converted, "--data", data, "--port", port)
    assert f"port {port}: Address already in use (try: --port 0" in line


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130)])
def test_it_serves_until_it_is_stopped(
    tiny_converted: Path, data: Path, number: int, code: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "v2w_convert", "play", tiny_converted, "--data", data, "--port", 0]
    with (tmp_path / "said").open("w") as said:
        server = subprocess.Popen(
            [*map(str, command), "--host", "0.0.0.0", "--json"],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # `pytest … &` ignores it
        )
    assert server.stdout is not None
    try:
        with server.stdout as printed:
            result = json.loads(printed.readline())
        jsonschema.validate(result, json.loads((SCHEMAS / "play.schema.json").read_text(encoding="utf-8")))
        with urllib.request.urlopen(result["url"], timeout=60) as page:
            assert b"<canvas" in page.read()
        server.send_signal(number)
        assert server.wait(60) == code
    finally:
        server.kill()
        server.wait()
    said = (tmp_path / "said").read_text().splitlines()
    # on a slow machine, it says what it is at while it loads
    warned, untrained, begun, ended = [line for line in said if not line.startswith("play: ")]
    assert warned.startswith("warning: whoever reaches 0.0.0.0 can play")
    assert "actions have no effect yet" in untrained
    assert result["url"] in begun
    assert ended.endswith("ed: the page is closed")
