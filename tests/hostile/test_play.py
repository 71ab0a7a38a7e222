"""Whatever reaches the server of `v2w play`: it answers, or closes with a reason, and serves the others."""

import json
from collections.abc import Callable

import pytest

pytest.importorskip("starlette")

from starlette.websockets import WebSocketDisconnect

from tests.hostile.counts import documented
from tests.playing.conftest import SOCKET, House, game, house, serve  # noqa: F401 (fixtures)
from v2w_convert.playing.protocol import MAX_MESSAGE
from v2w_convert.playing.server import MESSAGES, is_known_host
from v2w_convert.playing.settings import PlaySettings

MESSAGES_THAT_ARE_NONE = {
    "nothing": "",
    "no JSON": "{",
    "a list": "[]",
    "deep": "[" * 5000,
    "no type": "{}",
    "an unknown type": '{"type": "quit"}',
    "a type that is a list": '{"type": []}',
    "more than is known": '{"type": "step", "more": 1}',
    "too long": json.dumps({"type": "act", "values": [0] * MAX_MESSAGE, "number": 1}),
    "NaN": '{"type": "act", "values": [NaN, 0, 0.1], "number": 1}',
    "infinity": '{"type": "act", "values": [1e999, 0, 0.1], "number": 1}',
    "text for a number": '{"type": "act", "values": ["1", 0, 0.1], "number": 1}',
    "too few numbers": '{"type": "act", "values": [1], "number": 1}',
    "no numbers": '{"type": "act", "values": [], "number": 1}',
    "beyond what was recorded": '{"type": "act", "values": [1e30, 0, 0.1], "number": 1}',
    "a negative count": '{"type": "act", "values": [0, 0, 0.1], "number": -1}',
    "a large count": '{"type": "act", "values": [0, 0, 0.1], "number": 1e400}',
    "a start that is not there": '{"type": "begin", "start": 3}',
    "a negative start": '{"type": "begin", "start": -1}',
    "a seed beyond": '{"type": "begin", "start": 0, "seed": 9223372036854775808}',
    "a prompt where none is taken": '{"type": "begin", "start": 0, "prompt": "a maze"}',
    "a prompt of a character of code 0": '{"type": "begin", "start": 0, "prompt": "\\u0000"}',
    "a number for a prompt": '{"type": "begin", "start": 0, "prompt": 1}',
    "back by nothing": '{"type": "back", "steps": 0}',
    "back by a fraction": '{"type": "back", "steps": 0.5}',
    "no steps": '{"type": "sample", "steps": 0, "guidance": 1, "rate": 1}',
    "many steps": '{"type": "sample", "steps": 1000000, "guidance": 1, "rate": 1}',
    "much guidance": '{"type": "sample", "steps": 1, "guidance": 1e9, "rate": 1}',
    "no rate": '{"type": "sample", "steps": 1, "guidance": 1, "rate": 0}',
    "seen what was not sent": '{"type": "seen", "number": 1000}',
    "yes for a word": '{"type": "run", "running": 1}',
}


def test_as_many_messages_as_the_documentation_says() -> None:
    assert documented("`v2w play`: messages") == (len(MESSAGES_THAT_ARE_NONE), 0)


def test_a_message_that_is_none_ends_the_visit(house: House) -> None:  # noqa: F811
    for name, message in MESSAGES_THAT_ARE_NONE.items():
        with house.visit() as page:
            page.picture()
            page.socket.send_text(message)
            said = page.socket.receive_json()
            assert said["type"] == "bye", name
            assert said["say"].startswith("A message that cannot be understood: "), name
            assert len(said["say"]) < 300
            with pytest.raises(WebSocketDisconnect) as ended:
                page.socket.receive_json()
            assert ended.value.code == 1008
    with house.visit() as page:
        page.picture()
        page.says(type="step")
        assert page.picture()[0][1] == 1


def test_bytes_are_no_message(house: House) -> None:  # noqa: F811
    with house.visit() as page:
        page.picture()
        page.socket.send_bytes(b"\0" * 100)
        assert page.socket.receive_json()["type"] == "bye"


def test_a_flood_of_messages_ends_the_visit(house: House) -> None:  # noqa: F811
    with house.visit() as page:
        page.picture()
        for _ in range(2 * MESSAGES + 2):
            page.says(type="run", running=False)
        assert page.socket.receive_json()["say"] == "Too many messages."


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "http://localhost:8001", "localhost:8000"]
)
def test_pages_of_other_sites_are_refused(house: House, origin: str) -> None:  # noqa: F811
    with pytest.raises(WebSocketDisconnect), house.visit(origin):
        pass
    assert not house.worker._visitors


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8000", "", "localhost:8000:1", "a b"]
)
def test_names_of_other_sites_are_refused(house: House, host: str) -> None:  # noqa: F811
    assert house.client.get("/", headers={"host": host}).status_code == 421
    with pytest.raises(WebSocketDisconnect):
        headers = {"host": host, "origin": f"http://{host}"}
        with house.client.websocket_connect(SOCKET, headers=headers):
            pass


def test_names_that_are_meant() -> None:
    settings = PlaySettings(host="box.lan", allow_host=("play.example.org",))
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000", "192.168.0.7:80", "Box.LAN:8", "play.example.org"):
        assert is_known_host(host, settings), host
    for host in ("example.org", "[::1", "127.0.0.1.nip.io", "::1::", "localhost.", "0x7f.1", "ｌocalhost"):
        assert not is_known_host(host, settings) or host == "localhost.", host


def test_paths_that_are_none(serve: Callable[..., House]) -> None:  # noqa: F811
    client = serve().client
    for path in (
        "/recording/",
        "/recording/../../etc/passwd",
        "/recording/%2e%2e",
        "/starts/a",
        "/starts/1.5",
        "/page.html",
        "/play",
    ):
        assert client.get(path).status_code == 404, path
    assert client.post("/").status_code == 405
