"""Federation: the text that Prometheus' own handler answers, from the same samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.federation import Federation, endpoints
from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql.parse import parse_selector

NOW_MS = 1_700_000_000_000


@pytest.fixture
def federate(storage: Any, run: Any, serve: Any, clock: ManualClock) -> Callable[..., Any]:
    external: dict[str, str] = {}
    ready = [True]
    federation = Federation(
        storage,
        run,
        clock,
        parse_selector=lambda text: parse_selector(text).matchers,
        tenant_of=lambda scope: "default",
        external_labels=lambda: Labels.of(external),
        ready=lambda: ready[0],
    )
    client: httpx.AsyncClient = serve(routes(endpoints(federation)))

    async def ask(*selectors: str, up: bool = True, **labels: str) -> httpx.Response:
        external.update(labels)
        ready[0] = up
        return await client.get("/federate", params=[("match[]", s) for s in selectors])

    return ask


async def test_the_last_samples_are_text_with_their_times(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m2", foo="b"), (NOW_MS - 1000, 1.5), (NOW_MS - 500, 2.5))
    storage.put(Labels.of(__name__="m1", foo="x", instance="i"), (NOW_MS - 299_000, 10000))
    storage.put(Labels.of(__name__="m1", foo="a"), (NOW_MS, float("inf")))
    storage.put(Labels.of(__name__="old"), (NOW_MS - 300_001, 1))
    storage.put(Labels.of(__name__="gone"), (NOW_MS - 1000, 1), (NOW_MS, STALE))
    answer = await federate('{__name__=~".+"}')
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == (
        "# TYPE m1 untyped\n"
        f'm1{{foo="a",instance=""}} +Inf {NOW_MS}\n'
        f'm1{{foo="x",instance="i"}} 10000 {NOW_MS - 299_000}\n'
        "# TYPE m2 untyped\n"
        f'm2{{foo="b",instance=""}} 2.5 {NOW_MS - 500}\n'
    )


async def test_external_labels_are_added_where_a_series_has_none(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m", zone="mine"), (NOW_MS, 1))
    answer = await federate("m", zone="outer", instance="here", foo='b"r')
    assert answer.text == f'# TYPE m untyped\nm{{zone="mine",foo="b\\"r",instance="here"}} 1 {NOW_MS}\n'


async def test_names_that_need_it_are_quoted(federate: Any, storage: Any) -> None:
    storage.put(Labels.of({"__name__": "a b", "c.d": "e"}), (NOW_MS, 1))
    assert (await federate('{"a b"}')).text == f'# TYPE "a b" untyped\n{{"a b","c.d"="e",instance=""}} 1 {NOW_MS}\n'


async def test_a_series_that_two_selectors_select_comes_once(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m"), (NOW_MS, 1))
    assert (await federate("m", '{__name__="m"}')).text.count("m{") == 1


async def test_nothing_selected_is_nothing(federate: Any, storage: Any) -> None:
    storage.put(Labels.of(__name__="m"), (NOW_MS, 1))
    assert ((await federate()).status_code, (await federate()).text) == (200, "")
    assert (await federate("none")).text == ""


@pytest.mark.parametrize(("selector", "told"), [("m{", "parse error"), ('{a=""}', "at least one non-empty matcher")])
async def test_bad_selectors_are_refused(federate: Any, selector: str, told: str) -> None:
    answer = await federate(selector)
    assert answer.status_code == 400
    assert told in answer.text


async def test_a_server_that_starts_says_so(federate: Any) -> None:
    assert (await federate("m", up=False)).status_code == 503
