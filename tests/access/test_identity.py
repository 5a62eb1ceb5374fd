"""Which of a request's headers proves who sent it: in which order they count, and what is no credential at all."""

from __future__ import annotations

import base64

import pytest

from vedette.access.identity import COOKIE, Credential, credential_in_url, credential_of


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


KEY = Credential("bearer", "k", by_browser=False)
SESSION = Credential("session", "s")
NAME = COOKIE.encode()

HEADERS = [
    ({}, None),
    ({b"x-api-key": b"k"}, KEY),
    ({b"dd-api-key": b"k"}, KEY),
    ({b"authorization": b"Bearer k"}, KEY),
    ({b"authorization": b"bearer  k "}, KEY),
    ({b"authorization": b"Token k"}, KEY),
    ({b"authorization": b"Token n:s:t"}, Credential("basic", "s:t", by_browser=False, name="n")),
    ({b"authorization": basic("n:ä:b".encode())}, Credential("basic", "ä:b", name="n")),
    ({b"authorization": basic(b"n")}, Credential("basic", "", name="n")),
    ({b"authorization": b"Basic !"}, Credential("basic", "")),
    ({b"authorization": b"Digest k"}, None),
    ({b"authorization": b"Digest k", b"cookie": NAME + b"=s"}, SESSION),
    # A key before what a browser adds by itself.
    ({b"x-api-key": b"k", b"authorization": basic(b"n:p"), b"cookie": NAME + b"=s"}, KEY),
    ({b"authorization": b"Bearer k", b"cookie": NAME + b"=s"}, KEY),
    # Other programs on this host have cookies, too.
    ({b"cookie": NAME + b"=s"}, SESSION),
    ({b"cookie": b"grafana_session=x; " + NAME + b"=s;theme=dark"}, SESSION),
    ({b"cookie": b"grafana_session=x; theme=dark"}, None),
    ({b"cookie": NAME + b"=; other=x"}, None),
    ({b"cookie": b"not_" + NAME + b"=x; " + NAME + b"_too=x"}, None),
    ({b"cookie": b";;=;" + NAME}, None),
]


@pytest.mark.parametrize(("headers", "found"), HEADERS)
def test_what_proves_who_one_is(headers: dict[bytes, bytes], found: Credential | None) -> None:
    assert credential_of(headers) == found


URLS = [
    ("/write", b"db=d&u=n&p=s", Credential("basic", "s", by_browser=False, name="n")),
    ("/influx/query", b"p=s", Credential("basic", "s", by_browser=False)),
    ("/write", b"u=n", None),
    ("/write", b"pp=s", None),
    ("/api/v1/write", b"u=n&p=s", None),  # where the protocol has none in the URL, none is looked for
    ("/datadog/api/v1/series", b"api_key=k", KEY),
    ("/datadog/api/v1/series", b"", None),
    ("/api/v1/series", b"api_key=k", None),
]


@pytest.mark.parametrize(("path", "query", "found"), URLS)
def test_what_proves_it_in_a_url_stands_only_where_a_protocol_has_it(path: str, query: bytes, found: Credential | None) -> None:
    assert credential_in_url(path, query) == found
