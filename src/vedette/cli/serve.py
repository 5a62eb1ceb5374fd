"""`vedette serve`: ports first, then the data directory, then everything else.

The order matters: a port in use or a locked directory must be one line and exit status 2 before anything is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from vedette import kernels
from vedette.access.guard import may_listen
from vedette.api.services.dialects import DIALECTS
from vedette.app import House
from vedette.cli.connection import Connection
from vedette.clock import SystemClock
from vedette.errors import BadInput
from vedette.logs.settings import parse_address
from vedette.promql.settings import FEATURES
from vedette.settings import ServerSettings, Settings, parse_port, resolve
from vedette.storage.settings import FEATURES as STORED

_log = structlog.get_logger(__name__)

_GRACE_S = 5
_LOADED_S = 60
# Longer than those who ask again and again wait in between: scrapes, dashboards, remote write's 5 s, which would meet
# a closing connection each time were it as short as uvicorn's own 5 s.
_KEEP_ALIVE_S = 75
# After so long a thread of Python lets the others have their turn, if they want one. With CPython's 5 ms the loop, and whatever wants to
# begin a kernel, waited for each of a few busy queries: health took 11 ms beside three of them, not 4, and half as many were answered.
_SWITCH_S = 0.0005


class _Listener(uvicorn.Server):
    """One of several servers in a loop: signals are handled once, for all of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(
    config: Path | None,
    alertmanager_config: Path | None,
    *,
    data: Path | None,
    host: str | None,
    port: str | None,
    listen: list[str],
    insecure: bool,
    features: Sequence[str] = (),
    graphite: str | None = None,
    statsd: str | None = None,
) -> None:
    """Serve until told to stop. Raises `BadInput` for whatever is wrong before the first byte is served."""
    given: dict[tuple[str, str], Any] = {
        ("storage", "data"): data,
        ("server", "host"): host,
        ("server", "port"): _port(port, "--port") if port is not None else None,
        ("server", "listen"): _doors(listen) or None,
        ("server", "insecure"): insecure or None,
        **_both_ways({"graphite": graphite, "statsd": statsd}),
        **dict.fromkeys(_enabled(features), True),
    }
    flags = {name: value for name, value in given.items() if value is not None}

    def read() -> Settings:
        return resolve(path=config, flags=flags, environment=os.environ, alertmanager_path=alertmanager_config)

    settings = read()
    for variable, meant in settings.strangers:
        _log.warning("a variable of the environment is no setting", variable=variable, **({"meant": meant} if meant else {}))
    server = settings.vedette.server
    may_listen(server.host, authenticated=settings.vedette.access.authenticated, insecure=server.insecure)
    for dialect in server.listen:
        _known(dialect, f"server.listen.{dialect}")
    sockets: list[tuple[str | None, socket.socket]] = [(None, _bind(server.host, server.port))]
    for dialect, number in server.listen.items():
        # Of all dialects, the one whose document names the main listener's port is served there already.
        if not ("all" in listen and number == server.port == DIALECTS[dialect]):
            sockets.append((dialect, _bind(server.host, number, "--listen")))
    tls = _tls(server)
    house = House(settings, clock=SystemClock(), read=read)
    house.lock()
    _raise_file_limit()
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(house, sockets, tls))
    # All is written and closed. The interpreter would now wait for threads that compile kernels, for ten seconds and more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _enabled(features: Sequence[str]) -> list[tuple[str, str]]:
    """The settings (section, name) that `--enable-feature` turns on; a name that means nothing here is logged, as Prometheus does."""
    known = {name: (room, setting) for room, names in (("promql", FEATURES), ("storage", STORED)) for name, setting in names.items()}
    found = []
    for name in (n.strip() for text in features for n in text.split(",")):
        if name in known:
            found.append(known[name])
        elif name:
            _log.warning("unknown option for --enable-feature", option=name, known=sorted(known))
    return found


def _tls(server: ServerSettings) -> ssl.SSLContext | None:
    """What every listener speaks TLS with, None for plain HTTP. Raises `BadInput` naming the file that is no good."""
    if not server.tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, server)
    if server.tls_client_ca_file:
        try:
            context.load_verify_locations(server.tls_client_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"cannot be used: {error}", where=f"server.tls_client_ca_file: {server.tls_client_ca_file}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_certificate(context: ssl.SSLContext, server: ServerSettings) -> None:
    # A key with a passphrase would have OpenSSL ask for it on the terminal.
    try:
        context.load_cert_chain(server.tls_cert_file, server.tls_key_file, password="")
    except (OSError, ssl.SSLError) as error:
        where = f"server.tls_cert_file: {server.tls_cert_file}, {server.tls_key_file}"
        raise BadInput(f"cannot be used: {error}", where=where, hint="expected a PEM certificate and its unencrypted key") from None


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """As many open files as the system allows: its usual default of 1,024 is for programs that know `select` only."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses what it itself names as the most
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _doors(listen: list[str]) -> dict[str, int]:
    """The further listeners that `--listen` asks for: `DIALECT=PORT`, `DIALECT` on its document's port, or `all` of them."""
    found = dict(DIALECTS) if "all" in listen else {}
    for text in listen:
        name, equals, port = text.partition("=")
        if text != "all":
            known = _known(name, "--listen")
            found[known] = _port(port, "--listen") if equals else DIALECTS[known]
    return found


def _port(text: str, option: str) -> int:
    try:
        return parse_port(text)
    except BadInput as error:
        raise BadInput(error.problem, where=option, hint=error.hint) from None


def _both_ways(besides: Mapping[str, str | None]) -> dict[tuple[str, str], str]:
    """The settings of `graphite` and `statsd` that listen over TCP and UDP on one port (of loopback), or at one `host:port`."""
    found: dict[tuple[str, str], str] = {}
    for room, place in besides.items():
        if place is not None:
            try:
                address = parse_address(f"127.0.0.1:{place}" if place.isdigit() else place)
            except BadInput as error:
                raise BadInput(error.problem, where=f"--{room}", hint="expected a port, or host:port") from None
            found |= {(room, "tcp"): address, (room, "udp"): address}
    return found


def _known(name: str, where: str) -> str:
    if name not in DIALECTS:
        raise BadInput(f"unknown dialect {name!r}", where=where, hint="expected one of " + ", ".join(sorted(DIALECTS)))
    return name


def _bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise BadInput(f"cannot resolve the address {host!r}: {error.strerror}", where="--host") from None
    bound = socket.socket(family, kind, proto)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise BadInput(f"cannot listen on {host}:{port}: {error.strerror}", where=flag, hint=f"choose another with {flag}") from None
    bound.setblocking(False)
    return bound


async def _reload(house: House, tls: ssl.SSLContext | None) -> None:
    await house.reload_quietly()
    if tls is not None:
        # New connections get the new certificate; a bad one is logged, and the old one stays.
        try:
            _load_certificate(tls, house.plan.settings.vedette.server)
        except BadInput as error:
            _log.error("certificate not reloaded", reason=str(error))


async def _serve(house: House, sockets: list[tuple[str | None, socket.socket]], tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(house, tls))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload)
    listeners: list[tuple[_Listener, asyncio.Task[None]]] = []
    for dialect, bound in sockets:
        listener = _Listener(
            uvicorn.Config(
                house.asgi(dialect),
                http=Connection,
                timeout_keep_alive=_KEEP_ALIVE_S,
                ws="websockets-sansio",
                # Nobody sends us much over one, and a compressor each would cost more memory than all updates.
                ws_max_size=64 << 10,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        if tls is not None:
            listener.config.load()
            listener.config.ssl = tls
        listeners.append((listener, loop.create_task(listener.serve(sockets=[bound]))))
    addresses, scheme = [bound.getsockname()[:2] for _, bound in sockets], "http" if tls is None else "https"
    try:
        started = loop.create_task(house.start())
        stopping = loop.create_task(stop.wait())
        waiting = loop.create_task(house.explain_waiting(addresses, scheme=scheme))
        await asyncio.wait({started, stopping}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if started.done():
            started.result()
            if kernels.PASSING is not None:
                _log.warning("compiled kernels are lost at the end", hint="name a directory to keep them in with NUMBA_CACHE_DIR")
            # Half a million objects are there for good by now: a collector that goes through them holds everything up for 80 ms,
            # every few minutes. The rest of the kernels are loaded in the background, in less than a minute.
            gc.collect()
            gc.freeze()
            loop.call_later(_LOADED_S, gc.freeze)
            # A request of a thousand alerts makes tens of thousands of objects that stay: to look through them after every 700
            # would take a third of its time.
            gc.set_threshold(20_000, 20, 20)
            house.announce(addresses, scheme=scheme)
            await stopping
        started.cancel()
    finally:
        for listener, _ in listeners:
            listener.should_exit = True
        await asyncio.gather(*(task for _, task in listeners))
        await house.close()
