"""The description agrees with the routes, because both are made from the same endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.responses import Response

from vedette.api import openapi
from vedette.api.endpoint import Endpoint, Param, routes
from vedette.api.services import access_layer
from vedette.clock import ManualClock
from vedette.ingest.settings import TrackSettings


async def nothing(request: Any) -> Response:
    return Response()


ENDPOINTS = [
    Endpoint("/a", nothing, "Ask", ("GET", "POST"), (Param("q", "text", "What.", required=True), Param("m[]", "texts", "Many."))),
    Endpoint("/a/{name}", nothing, "One", tag="other", answer={"type": "object"}),
    *access_layer.endpoints(None, tenant_of=str, clock=ManualClock(), settings=TrackSettings()),  # type: ignore[arg-type]  # never called
]


@pytest.fixture
def document() -> Any:
    # Through JSON, so that what a client reads is what is checked.
    return json.loads(json.dumps(openapi.document(ENDPOINTS, version="1.2.3")))


def test_every_route_is_described_and_nothing_else(document: Any) -> None:
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    served = {(r.path, m.lower()) for r in routes(ENDPOINTS) for m in r.methods or () if m not in ("HEAD", "OPTIONS")}
    assert described == served


def test_parameters_of_a_get_are_in_the_query_and_of_a_post_in_the_form(document: Any) -> None:
    operations = document["paths"]["/a"]
    assert [(p["name"], p["in"], p["required"]) for p in operations["get"]["parameters"]] == [("q", "query", True), ("m[]", "query", False)]
    form = operations["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert (set(form["properties"]), form["required"]) == ({"q", "m[]"}, ["q"])
    (in_path,) = document["paths"]["/a/{name}"]["get"]["parameters"]
    assert (in_path["name"], in_path["in"], in_path["required"]) == ("name", "path", True)


def test_operations_have_names_of_their_own(document: Any) -> None:
    names = [o["operationId"] for operations in document["paths"].values() for o in operations.values()]
    assert len(names) == len(set(names)) == 5


def test_schemas_are_schemas(document: Any) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            contents = [operation.get("requestBody", {}).get("content", {}), operation["responses"]["200"]["content"]]
            for content in contents:
                for media in content.values():
                    Draft202012Validator.check_schema(media["schema"])


def test_the_example_is_valid(document: Any) -> None:
    schema = document["paths"]["/metrics/track"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator(schema).validate(schema["example"])


async def test_it_is_served(serve: Any) -> None:
    described = openapi.endpoint(ENDPOINTS, version="1.2.3")
    body = (await serve(routes([described])).get("/openapi.json")).json()
    assert body["info"] == {"title": "Vedette", "version": "1.2.3", "license": {"name": "MIT", "identifier": "MIT"}}
