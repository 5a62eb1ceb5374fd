"""Jira on a real socket: what is asked in which order, what an issue says, what moves it, what is told when Jira says no."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.notify.test_channels import DEDUP, channel, config, notice, tell

from vedette.errors import BadInput, Undeliverable
from vedette.notify.config import redacted

LABEL = f"ALERT{{{DEDUP}}}"
JSON = {"Content-Type": "application/json"}


def settings(receiver: Any, **more: Any) -> dict[str, Any]:
    own = {"api_url": f"http://127.0.0.1:{receiver.port}/rest/api/2", "project": "OPS", "issue_type": "Bug"}
    return {**own, "http_config": {"basic_auth": {"username": "bot", "password": "hush"}}, **more}


def said(body: object, status: int = 200) -> tuple[int, dict[str, str], str]:
    return status, JSON, json.dumps(body)


def found(category: str = "new") -> tuple[int, dict[str, str], str]:
    return said({"issues": [{"key": "OPS-7", "fields": {"status": {"name": "x", "statusCategory": {"key": category}}}}]})


TRANSITIONS = said({"transitions": [{"id": "11", "name": "Start"}, {"id": "31", "name": "Done"}, {"id": "41", "name": "Again"}]})
NO_CONTENT = (204, {})


def paths(receiver: Any) -> list[str]:
    return [f"{r.method} {r.path.removeprefix('/rest/api/')}" for r in receiver.requests]


async def test_a_group_that_fires_makes_an_issue(receiver: Any) -> None:
    receiver.answers = [said({"issues": []}), said({"id": "1", "key": "OPS-1"}, 201)]
    receipt = await tell(channel("jira", settings(receiver, labels=["prod", "{{ .GroupLabels.alertname }}"])), notice())
    assert receipt.detail == "made OPS-1"
    search, made = receiver.requests
    assert paths(receiver) == ["POST 2/search", "POST 2/issue"]
    assert search.body == {
        "jql": f'statusCategory != Done and project="OPS" and labels="{LABEL}" order by status ASC,resolutiondate DESC',
        "maxResults": 2,
        "fields": ["status"],
    }
    fields = made.body["fields"]
    assert (fields["project"], fields["issuetype"]) == ({"key": "OPS"}, {"name": "Bug"})
    assert fields["summary"].startswith("[FIRING:1] Down") and "# Alerts Firing" in fields["description"]
    assert fields["labels"] == sorted([LABEL, "prod", "Down"]) and "priority" not in fields
    assert made.headers["authorization"].startswith("Basic ") and made.headers["accept-language"] == "en"


@pytest.mark.parametrize(
    ("given", "wanted"), [(["info", "critical", "warning"], "High"), (["info", "warning"], "Medium"), (["info"], "Low"), (["page"], None)]
)
async def test_the_priority_is_that_of_the_worst_alert(receiver: Any, given: list[str], wanted: str | None) -> None:
    receiver.answers = [said({"issues": []}), said({}, 201)]
    alerts = [a.__class__(a.labels.with_({"severity": s}), a.starts_at, a.ends_at) for a, s in zip(notice(count=9).alerts, given)]  # noqa: B905
    told = notice()
    await tell(
        channel("jira", settings(receiver)), told.__class__(*(told.receiver, told.group_key, told.group_labels, alerts, told.now, "", ""))
    )
    assert receiver.requests[1].body["fields"].get("priority") == (wanted and {"name": wanted})


async def test_an_issue_that_is_open_is_written_anew_but_for_what_it_keeps(receiver: Any) -> None:
    receiver.answers = [found(), NO_CONTENT]
    kept = {"description": {"template": "first words", "enable_update": False}, "labels": {"values": ["x"], "enable_update": True}}
    receipt = await tell(channel("jira", settings(receiver, priority="Blocker", **kept)), notice())
    assert receipt.detail == "changed OPS-7" and paths(receiver) == ["POST 2/search", "PUT 2/issue/OPS-7"]
    fields = receiver.requests[1].body["fields"]
    assert "description" not in fields and fields["labels"] == [LABEL, "x"] and fields["priority"] == {"name": "Blocker"}


async def test_what_resolved_is_moved_and_what_fires_again_is_moved_back(receiver: Any) -> None:
    made = settings(receiver, resolve_transition="Done", reopen_transition="Again", reopen_duration="2h", wont_fix_resolution='Won"t Do')
    receiver.answers = [found(), NO_CONTENT, TRANSITIONS, NO_CONTENT]
    assert (await tell(channel("jira", made), notice(firing=False))).detail == "changed OPS-7, Done"
    assert paths(receiver)[2:] == ["GET 2/issue/OPS-7/transitions", "POST 2/issue/OPS-7/transitions"]
    assert receiver.requests[3].body == {"transition": {"id": "31"}}
    assert receiver.requests[0].body["jql"].startswith('resolution != "Won\\"t Do" and statusCategory != Done and project="OPS"')
    receiver.requests.clear()
    receiver.answers = [found("done"), NO_CONTENT, TRANSITIONS, NO_CONTENT]
    assert (await tell(channel("jira", made), notice())).detail == "changed OPS-7, Again"
    assert "(resolutiondate is EMPTY OR resolutiondate >= -120m) and " in receiver.requests[0].body["jql"]
    assert receiver.requests[3].body == {"transition": {"id": "41"}}


async def test_what_resolved_without_an_open_issue_makes_none(receiver: Any) -> None:
    receiver.answers = [said({"issues": []})]
    made = channel("jira", settings(receiver))

    async def leaving() -> None:
        raise AssertionError("nothing is told")

    assert (await made.deliver(notice(firing=False), seconds=5, leaving=leaving)).detail == "resolved, and there is no open issue"
    await made.close()
    assert len(receiver.requests) == 1


async def test_fields_of_ones_own_are_templates_of_any_shape(receiver: Any) -> None:
    receiver.answers = [said({"issues": []}), said({}, 201)]
    fields = {"customfield_1": {"value": "{{ .Status }}"}, "customfield_2": ["{{ len .Alerts }}", 3, False], "duedate": "2026-01-01"}
    await tell(channel("jira", settings(receiver, fields=fields)), notice())
    sent = receiver.requests[1].body["fields"]
    assert (sent["customfield_1"], sent["customfield_2"], sent["duedate"]) == ({"value": "firing"}, [1, 3, False], "2026-01-01")


async def test_version_3_takes_a_document_and_the_clouds_search(receiver: Any) -> None:
    document = {"type": "doc", "version": 1, "content": []}
    three = {"api_url": f"http://127.0.0.1:{receiver.port}/rest/api/3", "description": json.dumps(document), "api_type": "cloud"}
    receiver.answers = [said({"issues": []}), said({}, 201)]
    await tell(channel("jira", settings(receiver, **three)), notice())
    assert paths(receiver) == ["POST 3/search/jql", "POST 3/issue"]
    assert receiver.requests[1].body["fields"]["description"] == document
    receiver.requests.clear()
    receiver.answers = [said({"issues": []}), said({}, 201)]
    await tell(channel("jira", settings(receiver, api_type="cloud")), notice())
    assert paths(receiver) == ["POST 3/search/jql", "POST 2/issue"], "the cloud has the search of version 3 alone"
    made = channel("jira", settings(receiver, **{**three, "description": "plain words"}))
    with pytest.raises(Undeliverable, match="no JSON") as caught:
        await made.deliver(notice(), seconds=5, leaving=None)  # type: ignore[arg-type]  # it never leaves
    assert caught.value.reason == "template" and not caught.value.retryable


@pytest.mark.parametrize(
    ("answers", "words", "retryable"),
    [
        ([(429, {"Retry-After": "7"})], "status 429", True),
        ([(401, {})], "status 401", False),
        ([(200, JSON, "<html>")], "not JSON", True),
        ([said({"issues": [{"key": "../../x"}]})], "names no issue", False),
        ([said({"issues": []}), (502, {})], "status 502", True),
        ([found(), NO_CONTENT, said({"transitions": []})], "no transition 'Done'", False),
    ],
)
async def test_what_jira_refuses(receiver: Any, answers: list[Any], words: str, retryable: bool) -> None:
    receiver.answers = answers
    made = channel("jira", settings(receiver, resolve_transition="Done"))

    async def leaving() -> None:
        pass

    with pytest.raises(Undeliverable, match=words) as caught:
        await made.deliver(notice(firing=len(answers) < 3), seconds=5, leaving=leaving)
    await made.close()
    assert caught.value.retryable is retryable and "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"project": ""}, "missing project in jira_config"),
        ({"issue_type": ""}, "missing issue_type in jira_config"),
        ({"api_type": "server"}, "api_type"),
        ({"summary": {"text": "x"}}, "unknown key text"),
        ({"summary": 3}, "wrong type"),
        ({"labels": "prod"}, "wrong type"),
        ({"labels": [3]}, "labels are texts"),
        ({"description": {"template": "x", "enable_update": "no"}}, "wrong type"),
        ({"fields": {"a": ["{{ .Nope"]}}, r"fields\.a\[0\]"),
        ({"assignee": "x"}, "unknown key"),
    ],
)
def test_what_the_configuration_refuses(receiver: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        config("jira", settings(receiver, **more))


def test_the_url_may_be_the_global_one_and_no_password_is_shown(receiver: Any) -> None:
    own = settings(receiver)
    url = own.pop("api_url")
    with pytest.raises(BadInput, match="missing api_url on jira_config"):
        config("jira", own)
    config("jira", own, {"jira_api_url": url})
    text = yaml.safe_dump({"route": {"receiver": "r"}, "receivers": [{"name": "r", "jira_configs": [{**own, "api_url": url}]}]})
    assert "hush" not in redacted(text) and "issue_type: Bug" in redacted(text)
