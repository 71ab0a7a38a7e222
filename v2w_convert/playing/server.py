"""The server of the page: who may ask for what, and the sockets of those who are there."""

import asyncio
import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError
from v2w_convert.playing.game import Game
from v2w_convert.playing.protocol import MAX_MESSAGE, Seen, read_wish
from v2w_convert.playing.recording import as_mp4
from v2w_convert.playing.settings import PlaySettings
from v2w_convert.playing.visitors import MAX_GUIDANCE, Visitor, now
from v2w_convert.playing.worker import Worker

try:
    import uvicorn
    import websockets  # noqa: F401 (by uvicorn)
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    raise V2WError("play", f"{error.name} is not installed", "pip install 'v2w-convert[play]'") from None

PAGE = Path(__file__).with_name("page.html")
MESSAGES = 200  # a second that a visitor may send
MAX_WAITING = 64  # messages for a browser that does not read; of pictures there are fewer anyway
PATIENCE = 5.0  # seconds for a last word to a browser that does not listen
FULL, AGAINST_RULES, GOING = 1013, 1008, 1001  # of RFC 6455

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]


def application(game: Game, settings: PlaySettings, worker: Worker) -> App:
    """The ASGI application, whose `worker` is running."""
    page, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    encoding = asyncio.Semaphore(1)

    async def show_page(request: Request) -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    async def thumbnail(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(game.starts):
            return PlainTextResponse("There is no such start.", 404, headers)
        picture = game.thumbnail(number)
        kind = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
        return Response(picture, media_type=kind, headers=headers)

    async def recording(request: Request) -> Response:
        visitor = worker.find(request.path_params["token"])
        pictures = [] if visitor is None else worker.recorded(visitor)
        if not pictures:
            return PlainTextResponse("There is no such recording.", 404, headers)
        async with encoding:
            video = await asyncio.to_thread(as_mp4, pictures, game.fps)
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", game.name)[:60] or "world"
        attached = {"Content-Disposition": f'attachment; filename="{name}.mp4"'}
        return Response(video, media_type="video/mp4", headers=headers | attached)

    async def play(browser: WebSocket) -> None:
        if not _same_origin(browser):
            await browser.close(AGAINST_RULES)
            return
        await browser.accept()
        with suppress(WebSocketDisconnect, RuntimeError):  # the browser has left
            await _visit(browser, game, settings, worker)

    routes = [
        Route("/", show_page),
        Route("/starts/{number:int}", thumbnail),
        Route("/recording/{token}", recording),
        WebSocketRoute("/play", play),
    ]
    return _only_known_hosts(Starlette(routes=routes), settings)


async def _visit(browser: WebSocket, game: Game, settings: PlaySettings, worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    outbox: asyncio.Queue[bytes | dict[str, object]] = asyncio.Queue()

    def put(message: bytes | dict[str, object]) -> None:
        if isinstance(message, bytes) or outbox.qsize() < MAX_WAITING:
            outbox.put_nowait(message)

    def send(message: bytes | dict[str, object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(put, message)

    visitor = worker.enter(send)
    if visitor is None:
        places = (
            f"All {settings.visitors} places are taken"
            if settings.visitors > 1
            else "The only place is taken"
        )
        await _end(browser, f"{places}. Try again in a few minutes.", FULL)
        return
    sending = None
    try:
        await browser.send_json(_hello(game, settings, visitor))
        sending = asyncio.create_task(_send(browser, outbox))
        why, code = await _listen(browser, settings, worker, visitor)
    finally:
        worker.leave(visitor)
        if sending is not None:
            sending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await sending
    await _end(browser, why, code)


async def _listen(
    browser: WebSocket, settings: PlaySettings, worker: Worker, visitor: Visitor
) -> tuple[str, int]:
    """Take messages until there is a reason to end, which is returned with the code of closing."""
    alive, second, count = now(), 0, 0
    while True:
        left = alive + settings.idle * 60 - now()
        try:
            message = await asyncio.wait_for(browser.receive(), max(left, 0))
        except TimeoutError:
            return f"Nothing was pressed for {settings.idle:g} minutes: this visit has ended.", GOING
        count = count + 1 if int(now()) == second else 1
        second = int(now())
        if count > MESSAGES:
            return "Too many messages.", AGAINST_RULES
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        wish = None
        try:
            if (picture := message.get("bytes")) is not None:
                worker.picture(visitor, picture)
            else:
                wish = read_wish(message["text"])
                worker.wish(visitor, wish)
        except (ValueError, V2WError) as error:
            return f"A message that cannot be understood: {error}", AGAINST_RULES
        if not isinstance(wish, Seen):
            alive = now()


async def _send(browser: WebSocket, outbox: "asyncio.Queue[bytes | dict[str, object]]") -> None:
    while True:
        message = await outbox.get()
        if isinstance(message, bytes):
            await browser.send_bytes(message)
        else:
            await browser.send_json(message)


async def _end(browser: WebSocket, why: str, code: int) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await browser.send_json({"type": "bye", "say": why})
            await browser.close(code)


def _hello(game: Game, settings: PlaySettings, visitor: Visitor) -> dict[str, object]:
    height, width = game.size
    return {
        "type": "hello",
        "world": game.name,
        "data": game.data,
        "prompt": settings.prompt,
        "prompts": game.prompt_conditions is not None,
        "trained": game.trained,
        "height": height,
        "width": width,
        "fps": game.fps,
        "rate": visitor.rate,
        "steps": game.steps,
        "sampling": {"steps": visitor.sampling.steps, "guidance": visitor.sampling.guidance},
        "max_guidance": MAX_GUIDANCE,
        "rewind": visitor.rewind,
        "parts": game.controls.described(),
        "resting": game.controls.resting(),
        "rests": game.controls.rests,
        "together": game.pictures_per_step,
        "starts": [{"name": f"episode {start.episode}", "tasks": list(start.tasks)} for start in game.starts],
        "token": visitor.token,
    }


def _page() -> tuple[str, str]:
    """The page, and the policy that lets its own style and script alone be used, and nothing be loaded from elsewhere."""
    text = PAGE.read_text(encoding="utf-8")
    hashes = {
        tag: base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        for tag in ("style", "script")
        if (found := re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL))
    }
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _only_known_hosts(app: App, settings: PlaySettings) -> App:
    """Answers only browsers that reach it by a name that is meant, or by an address.

    So no page of another site can make a name of its own stand for this machine (DNS rebinding).
    """

    async def checked(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or not is_known_host(hosts[0], settings):
                if scope["type"] == "websocket":
                    await receive()
                    await send({"type": "websocket.close", "code": AGAINST_RULES})
                else:
                    said = "This name is not known here. The server's user can allow it by --allow-host.\n"
                    await PlainTextResponse(said, 421)(scope, receive, send)
                return
        await app(scope, receive, send)

    return checked


def is_known_host(host: str, settings: PlaySettings) -> bool:
    """Whether a Host header is an address, localhost, or a name that the settings allow, with any port."""
    name = re.sub(r":\d{1,5}$", "", host).lower().rstrip(".")
    if name in {"localhost", settings.host.lower(), *(other.lower() for other in settings.allow_host)}:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _same_origin(browser: WebSocket) -> bool:
    """Whether the page that opens the socket is the one from here: browsers let any page open a socket to any site."""
    origin, host = browser.headers.get("origin", ""), browser.headers.get("host", "")
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def listen(settings: PlaySettings) -> socket.socket:
    """A socket that listens, before anything heavy is done.

    Raises:
        V2WError: The address is none of this machine, the port is taken, or it may not be used.
    """
    asked = f"listen on {settings.host}, port {settings.port}"
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        found = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise V2WError(asked, str(error), "--host 127.0.0.1") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise V2WError(asked, error.strerror or str(error), "--port 0 for one that is free") from None
    return found


def address_of(listening: socket.socket, settings: PlaySettings) -> str:
    """The page's address for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: App, listening: socket.socket, settings: PlaySettings, picture: int) -> None:
    """Serve until a signal ends it, which is raised then as elsewhere; a visitor's picture has `picture` bytes."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=max(4 * MAX_MESSAGE, picture),
        ws_per_message_deflate=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=32_768,
        limit_concurrency=2 * settings.visitors + 64,
        timeout_graceful_shutdown=2,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
