"""What an operation asks of its caller: told by method and path alone."""

from __future__ import annotations

import pytest

from vedette.access.permits import need_of
from vedette.access.principal import SCOPES, Principal
from vedette.api import logs_elastic
from vedette.api.logs import LogBackend

POSTS = frozenset(["/api/v1/query"])

# Of Elasticsearch's operations those that anybody with a good credential may ask: none says what lines there are.
ASKED_FIRST = {
    "/_license",
    "/_xpack",
    "/_index_template/{name}",
    "/_component_template/{name}",
    "/_template/{name}",
    "/_data_stream/{name}",
    "/_cluster/health",
    "/_cat/health",
    "/_ilm/policy/{name}",
    "/_ingest/pipeline/{name}",
}
WRITER = Principal("shipper", "operator", "acme", scopes=("write",), kind="api_key")


def need(method: str, path: str) -> str:
    return need_of(method, path, reading_posts=POSTS)


def test_of_elasticsearchs_operations_those_that_tell_nothing_of_data_ask_for_any_credential() -> None:
    backend = LogBackend(None, None, None, None)  # type: ignore[arg-type]  # nothing of it is used: only the paths are looked at
    found = {e.path: need("GET", e.path.format(name="logs")) for e in logs_elastic.endpoints(backend) if "GET" in e.methods}
    assert {path for path, asked in found.items() if asked == "known"} == ASKED_FIRST
    assert {path for path, asked in found.items() if asked != "known"} == {"/_cat/indices", "/_cat/indices/{name}"}
    assert found["/_cat/indices"] == "read"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/", "/_license", "/_index_template/filebeat-8", "/loki/api/v1/status/buildinfo", "/ping", "/datadog/api/v1/validate"]
)
def test_a_key_that_only_writes_may_ask_what_shippers_ask(method: str, path: str) -> None:
    assert need(method, path) == "known"
    assert WRITER.may("known")


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/ready", "nothing"),
        ("POST", "/write", "write"),
        ("POST", "/api/v2/write", "write"),
        ("POST", "/query", "write"),
        ("GET", "/query", "read"),
        ("PUT", "/prometheus/api/v1/import/csv", "write"),
        ("POST", "/api/put", "write"),
        ("POST", "/datadog/api/v2/series", "write"),
        ("POST", "/writes", "alerts"),
        ("GET", "/_licenses", "read"),
        ("GET", "/_cat", "read"),
        ("GET", "/_cat/indices/shop", "read"),
        ("GET", "/_cat/healthy", "read"),
        ("GET", "/shop/_license", "read"),
        ("GET", "/loki/api/v1/labels", "read"),
        ("GET", "/api/v1/status/config", "read"),
        ("GET", "/explore", "read"),
        ("GET", "//", "read"),
        ("PUT", "/_index_template/filebeat", "write"),
        ("PUT", "/_component_template/logs", "write"),
        ("PUT", "/_ilm/policy/filebeat", "write"),
        ("PUT", "/_ingest/pipeline/x", "write"),
        ("DELETE", "/_license", "alerts"),
        ("POST", "/_data_stream/logs", "alerts"),
        ("POST", "/", "alerts"),
        ("POST", "/_bulk", "write"),
        ("POST", "/api/v1/query", "read"),
        ("GET", "/api/v1/audit", "admin"),
    ],
)
def test_all_else_asks_for_what_it_did(method: str, path: str, asked: str) -> None:
    assert need(method, path) == asked
    assert WRITER.may(asked) == (asked in ("write", "nothing"))  # type: ignore[arg-type]


def test_no_scope_is_needed_for_being_known_and_none_is_won_by_it() -> None:
    for scope in SCOPES:
        confined = Principal("k", "admin", "acme", scopes=(scope,))
        assert confined.may("known")
        assert [one for one in SCOPES if confined.may(one)] == [scope]
