"""Visits over the socket, of a tiny world."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")  # of the extra `play`

from starlette.websockets import WebSocketDisconnect

from tests.playing.conftest import HERE, House
from v2w_convert.playing.game import Game
from v2w_convert.playing.play import is_private
from v2w_convert.playing.protocol import Sample
from v2w_convert.playing.server import listen
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.visitors import IN_FLIGHT, Visitor
from v2w_convert.world.rollout import Sampling
from v2w_convert.world.together import step_together


def shown(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))


def test_a_visit_begins_with_the_last_observed_frame(house: House, game: Game) -> None:
    with house.visit() as page:
        assert [len(page.hello["starts"]), page.hello["height"], page.hello["width"]] == [3, 16, 16]
        assert [part["labels"] for part in page.hello["parts"]] == [["down", "right", "nothing"]]
        said, picture = page.picture()
        assert said[:3] == (1, 0, 0)
        np.testing.assert_array_equal(shown(picture), game.starts[0].frames[-1])


def test_pictures_are_those_of_a_stream(house: House, game: Game) -> None:
    actions = [[1, -2, 0.1], [0, 2, 0.1]]
    with house.visit() as page:
        page.picture()
        made = []
        for number, values in enumerate(actions, 1):
            low = page.hello["parts"][0]["low"][2]
            values[2] = low
            page.says(type="act", values=values, number=number)
            page.says(type="step")
            said, picture = page.picture()
            assert said[1:3] == (number, number)
            made.append(shown(picture))
    moment = game.begin(0, 0, game.sampling)
    for values, frame in zip(actions, made, strict=True):
        [moment] = game.step([moment], [game.controls.action(values)], game.sampling)
        np.testing.assert_array_equal(shown(moment.pictures[0]), frame)


def test_time_runs_until_it_is_stopped_and_waits_for_the_browser(house: House) -> None:
    with house.visit() as page:
        page.picture()
        page.says(type="run", running=True)
        numbers = [page.picture()[0][0] for _ in range(5)]
        assert numbers == [2, 3, 4, 5, 6]
        unseen = [page.picture(seen=False)[0][0] for _ in range(IN_FLIGHT)]
        time.sleep(0.3)  # nothing more is made: the next message is an answer to the next wish
        [visitor] = house.worker._visitors
        assert visitor.number == unseen[-1]
        page.says(type="seen", number=unseen[-1])
        assert page.picture()[0][0] == unseen[-1] + 1


def test_going_back_and_on_in_another_way(house: House) -> None:
    low = 0.10000000149011612
    with house.visit() as page:
        page.picture()
        first = []
        for _ in range(4):
            page.says(type="step")
            first.append(page.picture()[1])
        page.says(type="back", steps=3)
        said, picture = page.picture()
        assert said[1] == 1
        assert picture == first[0]
        page.says(type="step")
        assert page.picture()[1] == first[1]  # the same action and noise
        page.says(type="back", steps=100)
        assert page.picture()[0][1] == 0
        page.says(type="act", values=[2, 2, low], number=1)
        page.says(type="begin", start=1, seed=7)
        page.picture()
        page.says(type="step")
        assert page.picture()[1] not in first


def test_visitors_do_not_reach_each_other(serve: Callable[..., House]) -> None:
    def play(house: House, busy: bool) -> list[bytes]:
        with house.visit() as one:
            found = [one.picture()[1]]
            if not busy:
                for _ in range(4):
                    one.says(type="step")
                    found.append(one.picture()[1])
                return found
            with house.visit() as other:
                other.picture()
                other.says(type="begin", start=2, seed=9)
                other.picture()
                other.says(type="sample", steps=1, guidance=1.0, rate=1000)
                other.says(type="act", values=[2, 2, one.hello["parts"][0]["low"][2]], number=1)
                for turn in range(4):
                    other.says(type="step")
                    one.says(type="step")
                    found.append(one.picture()[1])
                    other.picture()
                    if turn == 1:
                        other.says(type="back", steps=2)
                        other.picture()
                assert one.hello["token"] != other.hello["token"]
            return found

    alone, together = play(serve(), False), play(serve(), True)
    for one, other in zip(alone, together, strict=True):
        # A batch adds in another order: a shade, where a number falls on the edge of one.
        assert np.abs(shown(one).astype(int) - shown(other)).max() <= 1


def test_sliders_leave_the_rest_of_the_sampling_as_it_is(game: Game) -> None:
    visitor = Visitor(lambda said: None, Sampling(2, 1.0, 0.5, 2.0, 300.0), 5.0, 10)
    visitor.wish(Sample(type="sample", steps=1, guidance=3, rate=7), game)
    assert (visitor.sampling, visitor.rate) == (Sampling(1, 3.0, 0.5, 2.0, 300.0), 7.0)


def test_who_wait_together_are_served_in_one_batch(
    serve: Callable[..., House], game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, sizes = serve(), []

    def counted(streams: list, actions: object) -> object:
        sizes.append(len(streams))
        time.sleep(0.05)
        return step_together(streams, actions)  # type: ignore[arg-type]

    monkeypatch.setattr("v2w_convert.playing.game.step_together", counted)
    with house.visit() as one, house.visit() as other:
        one.picture()
        other.picture()
        one.says(type="step")
        assert one.picture()[0][4] == 1
        one.says(type="run", running=True)
        other.says(type="run", running=True)
        assert max(page.picture()[0][4] for _ in range(4) for page in (one, other)) == 2
    assert 2 in sizes
    assert game._together


def test_prompts_of_visitors(
    serve: Callable[..., House], game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told their own, and those of other lengths are not stepped together."""

    def encoded(prompt: str) -> dict[str, torch.Tensor]:
        tokens = torch.randn(len(prompt), 16, generator=torch.Generator().manual_seed(0))
        return {"text": tokens}

    sizes = []

    def counted(streams: list, actions: object) -> object:
        sizes.append(len(streams))
        return step_together(streams, actions)  # type: ignore[arg-type]

    monkeypatch.setattr("v2w_convert.playing.game.step_together", counted)
    house = serve(replace(game, prompt_conditions=encoded, _together=True))
    with house.visit() as one, house.visit() as other:
        assert one.hello["prompts"]
        seen = []
        for page, prompt in ((one, "left"), (other, "right")):
            page.picture()
            page.says(type="begin", start=0, prompt=prompt)
            page.picture()
            page.says(type="step")
            seen.append(page.picture()[1])
        assert seen[0] != seen[1]
        for page in (one, other):
            page.says(type="run", running=True)
        for _ in range(4):
            one.picture()
            other.picture()
    assert set(sizes) == {1}


def test_a_prompt_is_refused_where_none_can_be_encoded(house: House) -> None:
    with house.visit() as page:
        assert not page.hello["prompts"]
        page.says(type="begin", start=0, prompt="left")
        while "bytes" in (message := page.socket.receive()):
            pass
        assert "the model takes none here" in message["text"]


@pytest.mark.parametrize(
    ("settings", "private"),
    [({}, True), ({"host": "0.0.0.0"}, False), ({"allow_host": ("play.example",)}, False)],
)
def test_prompts_of_visitors_are_for_this_machine_alone(settings: dict[str, Any], private: bool) -> None:
    own = PlaySettings(port=0, **settings)
    with listen(own) as listening:
        assert is_private(listening, own) is private


def test_the_one_too_many_is_told(house: House) -> None:
    with house.visit(), house.visit():
        with house.visit() as third:
            assert third.hello == {
                "type": "bye",
                "say": "All 2 places are taken. Try again in a few minutes.",
            }
            with pytest.raises(WebSocketDisconnect) as ended:
                third.socket.receive_json()
            assert ended.value.code == 1013
    with house.visit() as page:  # there is room again
        assert page.hello["type"] == "hello"


def test_who_does_nothing_is_sent_away(serve: Callable[..., House]) -> None:
    for seconds in (
        0.5,
        5,
        50,
    ):  # on a busy machine, the first picture may take longer than the first of these
        house, pictures = serve(idle=seconds / 60), 0
        with house.visit() as page:
            page.says(type="run", running=True)
            while "bytes" in (message := page.socket.receive()):  # pictures that arrive are no sign of life
                pictures += 1
                page.says(type="seen", number=int.from_bytes(message["bytes"][:4], "little"))
            assert "Nothing was pressed" in message["text"]
        assert not house.worker._visitors
        if pictures > 1:
            return
    pytest.fail("no picture came")


@pytest.mark.slow
def test_a_visit_that_fails_can_begin_again_and_ends_no_other(
    serve: Callable[..., House], game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = serve()
    with house.visit() as one, house.visit() as other:
        one.picture()
        other.picture()
        other.says(type="step")
        other.picture()
        [_, victim] = house.worker._visitors
        stream = victim.past[-1].stream
        stream.state = stream.state._replace(
            sites={
                site: {name: value * np.nan for name, value in kept.items()}
                for site, kept in stream.state.sites.items()
            }
        )
        one.says(type="run", running=True)
        other.says(type="run", running=True)
        assert "not finite" in other.socket.receive_json()["say"]
        assert [one.picture()[0][0] for _ in range(8)][-1] == 9
        other.says(type="begin", start=0)
        other.picture()
        other.says(type="step")
        assert other.picture()[0][1] == 1


def test_a_visit_begins_from_a_picture_of_ones_own(house: House, game: Game) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*game.size, 3), np.uint8)
    with house.visit() as page:
        page.picture()
        page.socket.send_bytes(picture.tobytes())
        for _ in range(2):  # and begun again
            page.says(type="begin", start=1, own=True)
            said, first = page.picture()
            assert said[1] == 0
            np.testing.assert_array_equal(shown(first), picture)
            page.says(type="step")
            _, second = page.picture()
            begun = game.begin(1, 0, game.sampling, picture)
            resting = game.controls.action(game.controls.resting())
            assert second == game.step([begun], [resting], game.sampling)[0].pictures[0]
        page.says(type="begin", start=1)
        np.testing.assert_array_equal(shown(page.picture()[1]), game.starts[1].frames[-1])


def test_a_picture_of_another_size_or_none_ends_the_visit(house: House) -> None:
    with house.visit() as page:
        page.picture()
        page.socket.send_bytes(bytes(767))
        assert "767 bytes, where 16 x 16 pixels of 3 are 768" in page.socket.receive_json()["say"]
    with house.visit() as page:
        page.picture()
        page.says(type="begin", start=0, own=True)
        assert "none was sent" in page.socket.receive_json()["say"]


def test_a_recording(house: House) -> None:
    with house.visit() as page:
        page.picture()
        for _ in range(5):
            page.says(type="step")
            page.picture()
        page.says(type="back", steps=2)
        page.picture()
        response = house.client.get(f"/recording/{page.hello['token']}")
        assert response.headers["content-disposition"] == 'attachment; filename="converted.mp4"'
        with av.open(io.BytesIO(response.content)) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
            assert float(video.streams.video[0].average_rate) == 5
        assert len(frames) == 4  # of six, two were taken back
        assert frames[0].shape == (128, 128, 3)
        assert house.client.get("/recording/of-another").status_code == 404
    assert house.client.get(f"/recording/{page.hello['token']}").status_code == 404


def test_the_page_and_its_pictures(house: House, game: Game) -> None:
    response = house.client.get("/")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in response.text.replace(HERE, "")
    assert "https://" not in response.text
    for number, start in enumerate(game.starts):
        picture = house.client.get(f"/starts/{number}")
        assert picture.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(shown(picture.content), start.frames[-1])
    assert house.client.get("/starts/3").status_code == 404
    assert house.client.get("/starts/-1").status_code == 404
    assert house.client.get("/starts/99999999999999999999").status_code == 404
