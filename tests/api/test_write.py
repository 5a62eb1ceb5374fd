"""Remote write over HTTP: what is stored, what is refused and how its sender hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import cramjam
import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.write import WriteSettings, endpoints
from vedette.errors import LimitExceeded
from vedette.model.labels import Labels
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.limits import TenantLimit
from vedette.wire import remote_write
from vedette.wire.remote_write import render

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
UP = Labels.of(__name__="up", job="node")
BODY = render([UP], [0, 2], [1000, 2000], [1.0, 0.0])


@pytest.fixture
def client(storage: Any, run: Any, serve: Any) -> httpx.AsyncClient:
    settings = WriteSettings(max_body_bytes=10_000, max_decoded_bytes=20_000)
    made: httpx.AsyncClient = serve(routes(endpoints(storage.append, run=run, tenant_of=lambda scope: "default", settings=settings)))
    return made


@pytest.mark.parametrize("path", ["/api/v1/write", "/api/v1/push"])
async def test_samples_are_stored_before_they_are_acknowledged(client: httpx.AsyncClient, storage: Any, path: str) -> None:
    answer = await client.post(path, content=BODY, headers=HEADERS)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "2"
    assert storage.tenants["default"] == {UP: {1000: 1.0, 2000: 0.0}}


async def test_a_body_in_pieces(client: httpx.AsyncClient, storage: Any) -> None:
    async def pieces() -> Any:
        for i in range(0, len(BODY), 7):
            yield BODY[i : i + 7]

    assert (await client.post("/api/v1/write", content=pieces(), headers=HEADERS)).status_code == 204
    assert storage.tenants["default"] == {UP: {1000: 1.0, 2000: 0.0}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Encoding": "Snappy"},
        {"Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"},
        {"Content-Type": "application/x-protobuf; charset=utf-8"},
    ],
)
async def test_headers_that_mean_remote_write_one(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/api/v1/write", content=BODY, headers=headers)).status_code == 204


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Type", "application/json"),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request"),
        ("Content-Encoding", "gzip"),
        ("Content-Encoding", "zstd"),
    ],
)
async def test_other_protocols_are_refused_by_name(client: httpx.AsyncClient, storage: Any, header: str, value: str) -> None:
    answer = await client.post("/api/v1/write", content=BODY, headers={**HEADERS, header: value})
    assert answer.status_code == 415
    assert value.split("=")[-1] in answer.text
    assert storage.appends == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "snappy"),
        (b"not snappy at all", "snappy"),
        (BODY[:-3], "snappy"),
        (b"\xff\xff\xff\xff\x0f" + BODY, "declares 4294967295 bytes"),
        (bytes(cramjam.snappy.compress_raw(b"\x0a\x7f")), "byte"),
        (render([Labels([("b", "1"), ("__name__", "x")])], [0, 1], [1], [1.0]), "out of order"),
        (render([Labels([("__name__", "x"), ("a", "1"), ("a", "2")])], [0, 1], [1], [1.0]), "given twice"),
        (render([Labels([("", "x")])], [0, 1], [1], [1.0]), "empty name"),
        (render([Labels([("a", "x")])], [0, 1], [1], [1.0]), "no metric name"),
    ],
)
async def test_broken_bodies_are_refused_for_good_and_store_nothing(
    client: httpx.AsyncClient, storage: Any, body: bytes, told: str
) -> None:
    answer = await client.post("/api/v1/write", content=body, headers=HEADERS)
    assert answer.status_code == 400
    assert told in answer.text
    assert answer.text.endswith("\n")
    assert storage.tenants == {}


async def test_small_bodies_need_no_thread_once_the_kernel_is_compiled(storage: Any, serve: Any) -> None:
    threads = 0

    async def run(function: Callable[..., Any], *args: Any) -> Any:
        nonlocal threads
        threads += 1
        return function(*args)

    client = serve(routes(endpoints(storage.append, run=run, tenant_of=lambda scope: "default")))
    for body, status in ((b"broken", 400), (BODY, 204), (BODY, 204), (BODY[:-3], 400)):
        assert (await client.post("/api/v1/write", content=body, headers=HEADERS)).status_code == status
    assert threads == 2, "the first that decoded, and what came before it"
    large = render(
        [Labels.of(__name__="x", n=f"{i}{'é' * (i % 50)}") for i in range(5000)], range(5001), range(5000), [0.1 * i for i in range(5000)]
    )
    assert len(large) > 64 << 10
    assert (await client.post("/api/v1/write", content=large, headers=HEADERS)).status_code == 204
    assert threads == 3


async def test_between_steps_of_bodies_that_come_together_others_have_their_turn(
    storage: Any, run: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def noted(step: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **limits: int) -> Any:
            happened.append("step")
            return step(*args, **limits)

        return done

    async def turns() -> None:
        while True:
            happened.append("turn")
            await asyncio.sleep(0)

    for name in ("decompress", "decode"):
        monkeypatch.setattr(remote_write, name, noted(getattr(remote_write, name)))
    client = serve(routes(endpoints(storage.append, run=run, tenant_of=lambda scope: "default")))
    body = render([Labels.of(__name__="x", n=f"{i}") for i in range(1500)], range(1501), range(1500), [0.1 * i for i in range(1500)])
    assert 4 << 10 < len(body) < 64 << 10
    assert (await client.post("/api/v1/write", content=body, headers=HEADERS)).status_code == 204
    happened.clear()
    other = asyncio.create_task(turns())
    answers = await asyncio.gather(*(client.post("/api/v1/write", content=body, headers=HEADERS) for _ in range(4)))
    other.cancel()
    assert [answer.status_code for answer in answers] == [204] * 4
    assert happened.count("step") == 8
    assert "step step" not in " ".join(happened)


async def test_a_body_over_the_limit(client: httpx.AsyncClient, storage: Any) -> None:
    async def undeclared() -> Any:
        for _ in range(11):
            yield b"x" * 1000

    assert (await client.post("/api/v1/write", content=b"x" * 10_001, headers=HEADERS)).status_code == 413
    assert (await client.post("/api/v1/write", content=undeclared(), headers=HEADERS)).status_code == 413
    assert storage.appends == 0


async def test_a_body_that_decodes_to_too_much(client: httpx.AsyncClient) -> None:
    body = bytes(cramjam.snappy.compress_raw(b"\x0a" + b"\x00" * 30_000))
    answer = await client.post("/api/v1/write", content=body, headers=HEADERS)
    assert answer.status_code == 400
    assert "20000" in answer.text


async def test_a_full_disk_is_a_reason_to_come_back(client: httpx.AsyncClient, storage: Any) -> None:
    storage.failing = LimitExceeded("the disk is full", retry_after=4.2)
    answer = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    storage.failing = LimitExceeded("the engine is closing")
    answer = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    storage.failing = None
    assert (await client.post("/api/v1/write", content=BODY, headers=HEADERS)).status_code == 204


async def test_a_fault_of_ours_is_a_five_hundred_without_its_insides(client: httpx.AsyncClient, storage: Any) -> None:
    storage.failing = RuntimeError("secret insides")
    answer = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
    assert answer.status_code == 500
    assert "secret" not in answer.text


Dropping = Callable[[dict[str, int]], Awaitable[httpx.Response]]


@pytest.fixture
def dropping(run: Any, serve: Any) -> Dropping:
    async def answer(dropped: dict[str, int]) -> httpx.Response:
        async def append(batch: SampleBatch) -> Appended:
            return Appended(ids=batch.offsets[:-1], samples=2 - sum(dropped.values()), dropped=dropped)

        client = serve(routes(endpoints(append, run=run, tenant_of=lambda scope: "default")))
        response: httpx.Response = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
        return response

    return answer


async def test_the_sender_hears_of_what_it_did_wrong_only(dropping: Dropping) -> None:
    assert (await dropping({"relabelled": 2})).status_code == 204
    late = await dropping({"too_old": 1, "relabelled": 1})
    assert (late.status_code, late.text) == (400, "samples not stored: 1 too old; the others of this request are stored\n")
    assert (await dropping({"duplicate": 1})).status_code == 400
    beyond = await dropping({"series_limit": 2})
    assert (beyond.status_code, beyond.headers["retry-after"]) == (429, "60")
    assert "2 samples" in beyond.text
    large = await dropping({"too_many_labels": 1, "label_name_too_long": 1})
    assert (large.status_code, "1 too many labels, 1 label name too long" in large.text) == (400, True)


async def test_a_tenant_that_sends_too_much_is_told_when_to_come_back(client: httpx.AsyncClient, storage: Any) -> None:
    storage.failing = TenantLimit("tenant 'default' sends more than its 5 samples a second", retry_after=2.5)
    answer = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert "5 samples a second" in answer.text


async def test_all_requests_together_are_bounded(storage: Any, run: Any, serve: Any) -> None:
    settings = WriteSettings(max_held_bytes=len(BODY) - 1)
    client = serve(routes(endpoints(storage.append, run=run, tenant_of=lambda scope: "default", settings=settings)))
    for _ in range(2):  # the first refusal must give back what it held
        answer = await client.post("/api/v1/write", content=BODY, headers=HEADERS)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_each_tenant_has_its_own_series(storage: Any, run: Any, serve: Any) -> None:
    def tenant_of(scope: Any) -> str:
        return dict(scope["headers"]).get(b"x-tenant", b"default").decode()

    client = serve(routes(endpoints(storage.append, run=run, tenant_of=tenant_of)))
    for tenant in ("alice", "bob"):
        await client.post("/api/v1/write", content=BODY, headers={**HEADERS, "X-Tenant": tenant})
    assert storage.tenants == {"alice": {UP: {1000: 1.0, 2000: 0.0}}, "bob": {UP: {1000: 1.0, 2000: 0.0}}}


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(storage: Any, run: Any) -> None:
    (endpoint, _) = endpoints(storage.append, run=run, tenant_of=lambda scope: "default", settings=WriteSettings())
    messages = [{"type": "http.request", "body": BODY[:10], "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await endpoint.handler({"type": "http", "method": "POST", "path": endpoint.path, "headers": []}, receive, send)  # type: ignore[call-arg,arg-type]
    assert (sent, storage.appends) == ([], 0)
