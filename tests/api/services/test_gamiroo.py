"""Gamiroo's metric records: the document's examples, paging through all there is, and what is refused."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.api.endpoint import routes
from vedette.api.services import gamiroo
from vedette.api.services.shared import shown_time
from vedette.errors import Unreachable
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE

PATH = gamiroo.PATH
NOON = 1_740_052_800_000
DOCUMENT = [
    {"service_name": "User Service", "metric_name": "CPU_usage", "value": 72.5, "recorded_at": "2025-02-20T12:00:00Z"},
    {"service_name": "Competition Service", "metric_name": "response_time", "value": 150.0, "recorded_at": "2025-02-20T12:01:00Z"},
]


@pytest.fixture
async def records(client: httpx.AsyncClient) -> Any:
    """The document's two records, stored."""
    answer = await client.post(PATH, json=DOCUMENT)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_the_documents_query(client: httpx.AsyncClient, records: Any) -> None:
    query = "?service_name=User%20Service&metric_name=CPU_usage&start_date=2025-02-20T00:00:00Z&end_date=2025-02-20T23:59:59Z"
    answer = await client.get(PATH + query, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    (one,) = answer.json()
    assert one == {"id": records[0]["id"], **DOCUMENT[0]}
    assert isinstance(one["id"], int)
    assert 0 <= one["id"] < 2**53


async def test_all_metrics_in_order_of_time(own: Any, records: Any) -> None:
    answer = await own("gamiroo").get(PATH, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json() == records
    assert "link" not in answer.headers


async def test_unknown_names_and_empty_ranges_are_empty_lists(client: httpx.AsyncClient, records: Any) -> None:
    for query in (
        "service_name=Nobody",
        "metric_name=nothing",
        "service_name=User Service&metric_name=response_time",
        "end_date=2025-02-19",
    ):
        answer = await client.get(f"{PATH}?{query}")
        assert (answer.status_code, answer.json()) == (200, []), query


async def test_a_range_is_inclusive_at_both_ends_in_any_zone(client: httpx.AsyncClient, records: Any) -> None:
    for start, end, found in (
        ("2025-02-20T12:00:00Z", "2025-02-20T12:01:00Z", 2),
        ("2025-02-20T12:00:00", "2025-02-20T12:00:00", 1),
        ("2025-02-20T14:00:00.001+02:00", "2025-02-20T14:01:00+02:00", 1),
        ("1740052800", "1740052859.999", 1),
    ):
        answer = await client.get(PATH, params={"start_date": start, "end_date": end})
        assert len(answer.json()) == found, (start, end)


async def test_what_came_in_through_other_doors_is_there(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "up", "job": "node", "instance": "a"}, (1, 1.0))
    services.put({"__name__": "gone", "job": "node"}, (1, STALE), (2, float("nan")))
    tracked = {"name": "orders", "value": 3, "type": "gauge", "service": "shop"}
    assert (await client.post("/metrics/track", json=tracked)).status_code == 200
    found = (await client.get(f"{PATH}?limit=10")).json()
    assert [(r["service_name"], r["metric_name"], r["value"]) for r in found] == [
        *(("node", "gone", None), ("node", "up", 1.0), ("shop", "orders", 3.0))
    ]
    assert [r["metric_name"] for r in (await client.get(f"{PATH}?service_name=node&metric_name=up")).json()] == ["up"]


async def _all_pages(client: httpx.AsyncClient, url: str) -> list[list[dict[str, Any]]]:
    pages = []
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url", "")
        assert len(pages) < 200
    return pages


@pytest.mark.parametrize("forward", [True, False])
async def test_pages_lead_through_everything_once(client: httpx.AsyncClient, services: Any, forward: bool) -> None:
    rng = np.random.default_rng(5)
    put = Counter[tuple[str, int]]()
    for series in range(7):
        # Many at the same times, which only their ids tell apart.
        for ago in {*range(5), *rng.integers(0, 60 * 24 * 20, 30).tolist()}:
            services.put({"__name__": f"m{series}", "service": "s"}, (ago, float(series)))
            put[f"m{series}", ago] += 1
    start = "&start_date=2023-01-01" if forward else ""
    pages = await _all_pages(client, f"{PATH}?limit=10{start}")
    flat = [r for page in (pages if forward else pages[::-1]) for r in page]
    assert len(flat) == sum(put.values())
    assert len({r["id"] for r in flat}) == len(flat)
    times = [r["recorded_at"] for r in flat]
    assert times == sorted(times)
    assert all(len(page) <= 10 for page in pages)
    if not forward:
        assert pages[0][-1]["recorded_at"] == shown_time(int(services.clock.now() * 1000)), "the newest come first"


async def test_a_request_reads_only_so_much_and_the_link_goes_on(
    client: httpx.AsyncClient, services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gamiroo, "_WINDOWS", 2)
    services.put({"__name__": "m", "service": "s"}, (0, 1.0), (120, 2.0))
    first = await client.get(f"{PATH}?limit=5")
    assert [r["value"] for r in first.json()] == [1.0]
    assert 'rel="next"' in first.headers["link"]
    for start in ("", "&start_date=2023-01-01"):
        pages = await _all_pages(client, f"{PATH}?limit=5{start}")
        assert sorted(r["value"] for page in pages for r in page) == [1.0, 2.0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(times=st.lists(st.lists(st.integers(0, 10**9), max_size=30), max_size=5), limit=st.integers(1, 12), forward=st.booleans())
def test_every_page_size_and_direction_finds_the_same(services: Any, times: list[list[int]], limit: int, forward: bool) -> None:
    """Against sorting all records by (time, id)."""
    storage = services.storage
    storage.tenants.clear()
    expected = []
    for i, own in enumerate(times):
        labels = Labels.of({"__name__": f"m{i}", "service": "s"})
        for when in own:
            storage.put(labels, (NOON + when, 1.0))
        stamps = np.array(sorted(set(own)), dtype=np.int64) + NOON
        ids = gamiroo.record_ids(np.repeat(gamiroo.series_hashes(LabelTable.from_labels([labels])), len(stamps)), stamps)
        expected += zip(stamps.tolist(), ids.tolist(), strict=True)
    room = gamiroo.Gamiroo(services.backend, storage.append)
    asked = gamiroo.Question("", "s", -(1 << 62), gamiroo._LAST_MS, limit, forward)
    found: list[int] = []
    while True:
        page = room._page("default", asked)
        found += [record["id"] for _, record in page.records]
        if page.next is None:
            break
        asked = dataclasses.replace(asked, edge=page.next)
    assert found == [number for _, number in sorted(expected, reverse=not forward)]


async def test_ids_are_the_same_in_every_process() -> None:
    labels = Labels.of({"__name__": "CPU_usage", "service": "User Service"})
    ids = gamiroo.record_ids(gamiroo.series_hashes(LabelTable.from_labels([labels])), np.array([NOON]))
    assert ids.tolist() == [4696694076588184], "clients remember ids: they must never change"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("start_date=yesterday", "start_date"),
        ("end_date=2025-13-01", "end_date"),
        ("start_date=2025-02-21&end_date=2025-02-20", "end_date"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=ten", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=a1.1", "cursor"),
        ("start_date=2025-02-21&cursor=b1.1", "cursor"),
    ],
)
async def test_bad_parameters_are_named(client: httpx.AsyncClient, query: str, name: str) -> None:
    answer = await client.get(f"{PATH}?{query}")
    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert fault["loc"] == ["query", name]
    assert fault["msg"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{}", ["body", "service_name"]),
        (b'[{"service_name": "a", "metric_name": "b", "value": 1}, {"service_name": "a", "value": 1}]', ["body", 1, "metric_name"]),
        (b'{"service_name": "a", "metric_name": "b", "value": "1"}', ["body", "value"]),
        (b'{"service_name": "", "metric_name": "b", "value": 1}', ["body", "service_name"]),
        (b'[{"service_name": "a", "metric_name": "b", "value": 1, "recorded_at": "never"}]', ["body", 0, "recorded_at"]),
        (b"not JSON", ["body"]),
        (b"\xff", ["body"]),
    ],
)
async def test_bad_records_are_pointed_at(client: httpx.AsyncClient, services: Any, body: bytes, place: list[Any]) -> None:
    answer = await client.post(PATH, content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == place
    assert not services.storage.tenants


async def test_one_record_now_and_unicode(client: httpx.AsyncClient, services: Any) -> None:
    answer = await client.post(PATH, json={"service_name": "Bücher \u0007", "metric_name": "größe/€", "value": -0.5})
    assert answer.status_code == 201
    assert answer.json()["recorded_at"] == shown_time(int(services.clock.now() * 1000))
    again = await client.get(PATH, params={"service_name": "Bücher \u0007"})
    assert again.json() == [answer.json()]


async def test_records_that_were_not_stored_are_named(client: httpx.AsyncClient, records: Any) -> None:
    other = [DOCUMENT[1], {**DOCUMENT[0], "value": 1.0}]
    answer = await client.post(PATH, json=other)
    assert answer.status_code == 422
    assert answer.json()["stored"] == 1
    assert [(d["loc"], d["msg"]) for d in answer.json()["detail"]] == [
        (["body", 1, "recorded_at"], "another value is stored for this time: 72.5")
    ]


async def test_storage_that_cannot_be_read_is_a_500_in_json_and_recovers(
    client: httpx.AsyncClient, services: Any, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(services.storage, "select", broken)
        answer = await client.get(f"{PATH}?limit=1")
        assert answer.status_code == 500
        assert set(answer.json()) == {"detail"}
    assert (await client.get(f"{PATH}?limit=1")).status_code == 200


async def test_records_without_a_time_do_not_meet_in_one_millisecond(client: httpx.AsyncClient, services: Any) -> None:
    one = {"service_name": "s", "metric_name": "m"}
    now = int(services.clock.now() * 1000)
    listed = await client.post(PATH, json=[{**one, "value": 1}, {**one, "value": 2}, {**one, "metric_name": "other", "value": 3}])
    assert listed.status_code == 201
    assert [r["recorded_at"] for r in listed.json()] == [shown_time(now), shown_time(now + 1), shown_time(now)]
    assert (await client.post(PATH, json={**one, "value": 4})).json()["recorded_at"] == shown_time(now + 2), "nor those of two requests"
    await services.clock.advance(1)
    assert (await client.post(PATH, json={**one, "value": 5})).json()["recorded_at"] == shown_time(now + 1000)
    assert [r["value"] for r in (await client.get(f"{PATH}?metric_name=m")).json()] == [1, 2, 4, 5]


async def test_while_the_database_is_gone_it_is_a_500_that_says_so(services: Any, serve: Any, storage: Any) -> None:
    gone = True

    async def reach() -> None:
        if gone:
            raise Unreachable("records at PostgreSQL cannot be used", retry_after=1.0)

    client = serve(routes(gamiroo.endpoints(services.backend, storage.append, reach)))
    for answer in (await client.get(PATH), await client.post(PATH, json={"service_name": "s", "metric_name": "m", "value": 1})):
        assert (answer.status_code, answer.json()) == (500, {"detail": "records at PostgreSQL cannot be used"})
    assert (await client.get(f"{PATH}?start_date=never")).status_code == 422, "what is wrong is told all the same"
    gone = False
    assert (await client.get(PATH)).status_code == 200


async def test_while_starting_it_is_a_503_that_says_when(client: httpx.AsyncClient, services: Any) -> None:
    services.ready = False
    answer = await client.get(f"{PATH}?limit=1")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
