"""Bodies in protobuf, made up from their descriptions by Google's own library, as they are and damaged: none is a fault of the server's.

What `test_openapi.py` does for all other bodies: schemathesis makes no protobuf.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cramjam
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
from protos import messages

pytestmark = pytest.mark.timeout(600)

NOW = int(time.time())


@dataclass(frozen=True)
class Door:
    """Where messages of a kind are sent; `snappy` bodies are packed so."""

    path: str
    message: Any
    headers: dict[str, str]
    snappy: bool = True


def _typed(proto: str = "") -> dict[str, str]:
    kind = "application/x-protobuf" + (f";proto={proto}" if proto else "")
    return {"Content-Type": kind, "Content-Encoding": "snappy"}


_V2 = "io.prometheus.write.v2"
_OTLP = {"Content-Type": "application/x-protobuf"}
DOORS = {
    "remote write 1.0": Door("/api/v1/write", messages("prometheus")["WriteRequest"], _typed()),
    "remote write 2.0": Door("/api/v1/write", messages(_V2)["Request"], _typed(f"{_V2}.Request")),
    "remote read": Door("/api/v1/read", messages("prometheus")["ReadRequest"], _typed()),
    "OTLP metrics": Door("/api/v1/otlp/v1/metrics", ExportMetricsServiceRequest, _OTLP, snappy=False),
    "OTLP logs": Door("/v1/logs", ExportLogsServiceRequest, _OTLP, snappy=False),
    "Loki push": Door("/loki/api/v1/push", messages("logproto")["PushRequest"], {"Content-Type": "application/x-protobuf"}),
}

_ODD = ["", "a", "__name__", "up", "job", "é😱", "\x00", "a" * 300, '{service="shop"}', '{a="', "(", "7", "\u202e"]
TEXTS = st.sampled_from(_ODD) | st.text(max_size=8)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, math.inf, math.nan])
_KIND = FieldDescriptor


def _whole(low: int, high: int) -> st.SearchStrategy[int]:
    usual = (0, 1, 2, 3, -1, -53, low, high, NOW, NOW * 1000, NOW * 10**9)
    return st.sampled_from([n for n in usual if low <= n <= high]) | st.integers(low, high)


SCALARS: dict[int, st.SearchStrategy[Any]] = {
    _KIND.TYPE_STRING: TEXTS,
    _KIND.TYPE_BYTES: st.binary(max_size=20),
    _KIND.TYPE_BOOL: st.booleans(),
    _KIND.TYPE_DOUBLE: FLOATS,
    _KIND.TYPE_FLOAT: st.floats(width=32),
    _KIND.TYPE_ENUM: st.integers(-2, 7),
}
SCALARS |= {kind: _whole(-(1 << 63), (1 << 63) - 1) for kind in (_KIND.TYPE_INT64, _KIND.TYPE_SINT64, _KIND.TYPE_SFIXED64)}
SCALARS |= {kind: _whole(-(1 << 31), (1 << 31) - 1) for kind in (_KIND.TYPE_INT32, _KIND.TYPE_SINT32, _KIND.TYPE_SFIXED32)}
SCALARS |= {kind: _whole(0, (1 << 64) - 1) for kind in (_KIND.TYPE_UINT64, _KIND.TYPE_FIXED64)}
SCALARS |= {kind: _whole(0, (1 << 32) - 1) for kind in (_KIND.TYPE_UINT32, _KIND.TYPE_FIXED32)}
DEEPEST = 8


def _fill(message: Any, draw: Callable[[Any], Any], depth: int) -> None:
    """Some of a message's fields, at random."""
    for field in message.DESCRIPTOR.fields:
        # What leads further down is nearly always there: an empty message shows nothing.
        if not draw(st.integers(0, 9)) <= (8 if field.message_type and depth < 4 else 6):
            continue
        if field.message_type is not None:
            if depth >= DEEPEST:
                continue
            if field.is_repeated:
                for _ in range(draw(st.integers(0, 2))):
                    _fill(getattr(message, field.name).add(), draw, depth + 1)
            else:
                getattr(message, field.name).SetInParent()
                _fill(getattr(message, field.name), draw, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(SCALARS[field.type], max_size=3)))
        else:
            setattr(message, field.name, draw(SCALARS[field.type]))


@st.composite
def bodies(draw: Any, door: Door) -> bytes:
    """A body: a message that may be anything its description allows, and then, mostly, damage to its bytes."""
    message = door.message()
    _fill(message, draw, 0)
    raw = bytearray(message.SerializeToString())
    for _ in range(draw(st.integers(0, 3))):
        if not raw:
            break
        at = draw(st.integers(0, len(raw) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                raw[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del raw[at:]
            case 2:
                raw[at:at] = draw(st.binary(min_size=1, max_size=12))
            case 3:
                raw[at] = 0xFF
    packed = bytes(cramjam.snappy.compress_raw(bytes(raw))) if door.snappy else bytes(raw)
    if door.snappy and packed and draw(st.integers(0, 9)) == 0:
        packed = packed[: draw(st.integers(0, len(packed) - 1))]
    return packed


@pytest.fixture(scope="module")
def server(module_launch: Any, tools: Any) -> Any:
    return module_launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))


@pytest.mark.parametrize("name", DOORS)
def test_no_message_is_a_fault_of_the_servers(server: Any, name: str) -> None:
    door = DOORS[name]

    @settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
    @given(body=bodies(door))
    def sent(body: bytes) -> None:
        answer = server.post(door.path, content=body, headers=door.headers)
        assert answer.status_code < 500, (answer.status_code, answer.text[:300], body.hex())

    sent()
    assert server.get("/health").json()["status"] == "healthy"
    assert "Traceback" not in server.logged()
    for raw, expected in ((b"", (200, 204)), (b"\xff" * 40, (400,))):
        body = bytes(cramjam.snappy.compress_raw(raw)) if door.snappy else raw
        assert server.post(door.path, content=body, headers=door.headers).status_code in expected, "it reads what it is sent"
