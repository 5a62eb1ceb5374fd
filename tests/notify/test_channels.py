"""Each channel against a receiver on a real socket: what arrives, held against what the service publishes of its format."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jsonschema
import pytest
import yaml

from vedette.errors import BadInput, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig
from vedette.notify.channels.sns import signed
from vedette.notify.channels.table import POSTING, channels_of
from vedette.notify.config import Config, parse
from vedette.notify.notice import Channel, Notice, Receipt
from vedette.notify.route import build
from vedette.notify.template import Templates

NOW = 1_700_000_000_000
KEY = '{}:{alertname="Down"}'
DEDUP = hashlib.sha256(KEY.encode()).hexdigest()


def notice(*, firing: bool = True, summary: str = "a is down", count: int = 1) -> Notice:
    ends = NOW + 1000 if firing else NOW - 1
    labels = [Labels.of(alertname="Down", instance=f"a{i}", severity="page") for i in range(count)]
    alerts = [Alert(own, NOW - 5000, ends, Labels.of(summary=summary), "http://g/") for own in labels]
    return Notice("team", KEY, Labels.of(alertname="Down"), alerts, NOW, "http://vedette:8009", "attempt")


def config(kind: str, settings: dict[str, Any], fallback: dict[str, Any] | None = None) -> Config:
    return parse(
        yaml.safe_dump(
            {"global": fallback or {}, "route": {"receiver": "team"}, "receivers": [{"name": "team", f"{kind}_configs": [settings]}]}
        )
    )


def channel(kind: str, settings: dict[str, Any], fallback: dict[str, Any] | None = None) -> Channel:
    given = config(kind, settings, fallback)
    (made,) = channels_of(given.receivers[0], given.global_, lambda c: HttpClient(c, hide_path=True), Templates.load())
    assert made.kind == kind
    return made


async def tell(made: Channel, told: Notice) -> Receipt:
    left: list[bool] = []

    async def leaving() -> None:
        left.append(True)

    try:
        receipt = await made.deliver(told, seconds=5, leaving=leaving)
    finally:
        await made.close()
    assert left == [True]
    return receipt


PAGERDUTY_SCHEMA = {
    "type": "object",
    "required": ["routing_key", "event_action", "payload"],
    "additionalProperties": False,
    "properties": {
        "routing_key": {"type": "string", "minLength": 1},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255},
        "client": {"type": "string"},
        "client_url": {"type": "string"},
        "images": {"type": "array", "items": {"type": "object", "required": ["src"]}},
        "links": {"type": "array", "items": {"type": "object", "required": ["href"]}},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                **{name: {"type": "string"} for name in ("component", "group", "class", "timestamp")},
                "custom_details": {"type": "object"},
            },
        },
    },
}


async def test_pagerduty_triggers_and_resolves_one_incident(receiver: Any) -> None:
    settings = {"routing_key": "secret", "url": receiver.url, "severity": "{{ if eq .CommonLabels.severity `page` }}critical{{ end }}"}
    more = {"class": "net", "details": {"runbook": "{{ .CommonLabels.instance }}.md"}, "links": [{"href": "http://l", "text": "l"}]}
    await tell(channel("pagerduty", {**settings, **more}), notice())
    await tell(channel("pagerduty", settings), notice(firing=False))
    fired, resolved = (r.body for r in receiver.requests)
    for event in (fired, resolved):
        jsonschema.validate(event, PAGERDUTY_SCHEMA)
    assert (fired["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert fired["dedup_key"] == resolved["dedup_key"] == DEDUP
    assert fired["routing_key"] == "secret"
    assert fired["payload"]["summary"] == "[FIRING:1] Down (a0 page)"
    assert (fired["payload"]["severity"], fired["payload"]["class"]) == ("critical", "net")
    details = fired["payload"]["custom_details"]
    assert (details["num_firing"], details["num_resolved"], details["runbook"]) == ("1", "0", "a0.md")
    assert "summary = a is down" in details["firing"]


async def test_slack_webhook(receiver: Any) -> None:
    settings = {
        "api_url": receiver.url,
        "channel": "#alerts",
        "text": "{{ range .Alerts }}{{ .Annotations.summary }}{{ end }}",
        "fields": [{"title": "Severity", "value": "{{ .CommonLabels.severity }}", "short": True}],
        "actions": [{"type": "button", "text": "Runbook", "url": "http://r", "confirm": {"text": "sure?"}}],
    }
    await tell(channel("slack", settings), notice())
    (request,) = receiver.requests
    assert request.path == "/secret-path"
    assert "authorization" not in request.headers
    message = request.body
    assert (message["channel"], message["username"]) == ("#alerts", "Vedette")
    (attachment,) = message["attachments"]
    assert attachment["title"] == "[FIRING:1] Down (a0 page)"
    assert attachment["title_link"] == "http://vedette:8009/alerts?receiver=team"
    assert (attachment["text"], attachment["color"]) == ("a is down", "danger")
    assert attachment["fields"] == [{"title": "Severity", "value": "page", "short": True}]
    assert attachment["actions"] == [{"type": "button", "text": "Runbook", "url": "http://r", "confirm": {"text": "sure?"}}]
    assert attachment["mrkdwn_in"] == ["fallback", "pretext", "text"]


async def test_slack_app_with_a_global_token_file(receiver: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("xoxb-1\n")
    receiver.answers = [(200, {"Content-Type": "application/json; charset=utf-8"}, '{"ok": true}')]
    made = channel("slack", {"channel": "c"}, {"slack_app_token_file": str(tmp_path / "token"), "slack_app_url": receiver.url})
    await tell(made, notice(firing=False))
    assert receiver.requests[0].headers["authorization"] == "Bearer xoxb-1"
    assert receiver.requests[0].body["attachments"][0]["color"] == "good"


@pytest.mark.parametrize(("problem", "retryable"), [("channel_not_found", False), ("rate_limited", True)])
async def test_slack_says_no_with_status_200(receiver: Any, problem: str, retryable: bool) -> None:
    receiver.answers = [(200, {"Content-Type": "application/json"}, f'{{"ok": false, "error": "{problem}"}}')]
    with pytest.raises(Undeliverable, match=f"Slack refused: {problem}") as refused:
        await tell(channel("slack", {"app_token": "t", "app_url": receiver.url}), notice())
    assert refused.value.retryable is retryable


def posted(receiver: Any) -> dict[str, Any]:
    """Settings of a Slack app that changes its messages."""
    return {
        "app_token": "t",
        "app_url": f"http://127.0.0.1:{receiver.port}/api/chat.postMessage",
        "channel": "#ops",
        "update_message": True,
    }


def slack_says(**more: Any) -> tuple[int, dict[str, str], str]:
    return 200, {"Content-Type": "application/json"}, json.dumps({"ok": True, **more})


async def test_slack_changes_the_message_it_sent(receiver: Any) -> None:
    receiver.answers = [slack_says(ts="17.5", channel="C9"), slack_says(ts="17.5", channel="C9")]
    receipt = await tell(channel("slack", posted(receiver)), notice())
    assert receipt.keep is not None and json.loads(receipt.keep) == {"channel": "C9", "ts": "17.5"}
    again = await tell(channel("slack", posted(receiver)), replace(notice(firing=False), kept=receipt.keep))
    first, second = receiver.requests
    assert (first.path, first.body["channel"], "ts" in first.body) == ("/api/chat.postMessage", "#ops", False)
    assert (second.path, second.body["channel"], second.body["ts"]) == ("/api/chat.update", "C9", "17.5")
    assert second.body["attachments"][0]["title"].startswith("[RESOLVED]") and second.headers["authorization"] == "Bearer t"
    assert again.keep == receipt.keep


@pytest.mark.parametrize("problem", ["message_not_found", "edit_window_closed"])
async def test_slack_sends_another_message_where_the_first_is_gone(receiver: Any, problem: str) -> None:
    receiver.answers = [
        (200, {"Content-Type": "application/json"}, f'{{"ok":false,"error":"{problem}"}}'),
        slack_says(ts="18", channel="C9"),
    ]
    made, left = channel("slack", posted(receiver)), []

    async def leaving() -> None:
        left.append(True)

    receipt = await made.deliver(replace(notice(), kept='{"channel":"C9","ts":"17"}'), seconds=5, leaving=leaving)
    await made.close()
    assert [r.path for r in receiver.requests] == ["/api/chat.update", "/api/chat.postMessage"] and "ts" not in receiver.requests[1].body
    assert receipt.keep is not None and json.loads(receipt.keep)["ts"] == "18"


async def test_slack_keeps_nothing_unless_it_is_to_change_messages(receiver: Any) -> None:
    receiver.answers = [slack_says(ts="17.5", channel="C9"), slack_says()]
    plain, bare = {**posted(receiver), "update_message": False}, posted(receiver)
    assert (await tell(channel("slack", plain), notice())).keep is None
    assert (await tell(channel("slack", bare), notice())).keep is None, "an answer that names no message"


async def test_teams_card(receiver: Any) -> None:
    await tell(channel("msteamsv2", {"webhook_url": receiver.url}), notice())
    message = receiver.requests[0].body
    assert message["type"] == "message"
    (attachment,) = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["$schema"]) == ("AdaptiveCard", "http://adaptivecards.io/schemas/adaptive-card.json")
    title, body = card["body"]
    assert (title["type"], title["text"], title["color"]) == ("TextBlock", "[FIRING:1] Down (a0 page)", "Attention")
    assert "  - summary = a is down" in body["text"]
    assert body["wrap"] is True


async def test_opsgenie_creates_and_closes(receiver: Any) -> None:
    base = f"http://127.0.0.1:{receiver.port}/"
    settings = {
        "responders": [{"name": "ops", "type": "team"}, {"username": "{{ .CommonLabels.instance }}", "type": "user"}],
        "tags": "a, {{ .CommonLabels.severity }} ,",
        "priority": "P1",
        "details": {"extra": "x"},
    }
    fallback = {"opsgenie_api_key": "key", "opsgenie_api_url": base}
    await tell(channel("opsgenie", settings, fallback), notice())
    await tell(channel("opsgenie", settings, fallback), notice(firing=False))
    created, closed = receiver.requests
    assert created.path == "/v2/alerts"
    assert created.headers["authorization"] == "GenieKey key"
    assert created.body["alias"] == DEDUP
    assert created.body["message"] == "[FIRING:1] Down (a0 page)"
    assert created.body["responders"] == [{"name": "ops", "type": "team"}, {"username": "a0", "type": "user"}]
    assert (created.body["tags"], created.body["priority"]) == (["a", "page"], "P1")
    assert created.body["details"] == {"alertname": "Down", "instance": "a0", "severity": "page", "extra": "x"}
    assert closed.path == f"/v2/alerts/{DEDUP}/close?identifierType=alias"


async def test_telegram_message(receiver: Any) -> None:
    base = f"http://127.0.0.1:{receiver.port}"
    await tell(channel("telegram", {"chat_id": -100123, "bot_token": "12:ab", "api_url": base}), notice(summary="<a> & b"))
    (request,) = receiver.requests
    assert request.path == "/bot12:ab/sendMessage"
    assert (request.body["chat_id"], request.body["parse_mode"]) == (-100123, "HTML")
    assert request.body["text"] == "<b>[FIRING:1] Down (a0 page)</b>\n&lt;a&gt; &amp; b\n"


async def test_telegram_loses_its_mark_up_rather_than_its_end(receiver: Any) -> None:
    base = f"http://127.0.0.1:{receiver.port}"
    await tell(channel("telegram", {"chat_id": 1, "bot_token": "t", "api_url": base}), notice(summary="<&>" * 100, count=50))
    body = receiver.requests[0].body
    assert "parse_mode" not in body
    assert len(body["text"]) == 4096
    assert body["text"].startswith("[FIRING:50] Down (page)\n<&><&>")


async def test_telegram_says_how_long_to_wait(receiver: Any) -> None:
    receiver.answers = [(429, {"Content-Type": "application/json"}, '{"ok": false, "parameters": {"retry_after": 7}}')]
    made = channel("telegram", {"chat_id": 1, "bot_token": "t", "api_url": f"http://127.0.0.1:{receiver.port}"})
    with pytest.raises(Undeliverable) as refused:
        await tell(made, notice())
    assert (refused.value.retryable, refused.value.retry_after) == (True, 7.0)


async def test_discord_message(receiver: Any) -> None:
    receiver.answers = [(204, {})]
    await tell(channel("discord", {"webhook_url": receiver.url, "username": "watch"}), notice(summary="@everyone " * 1000))
    body = receiver.requests[0].body
    (embed,) = body["embeds"]
    assert (embed["title"], embed["color"], body["username"]) == ("[FIRING:1] Down (a0 page)", 0x992D22, "watch")
    assert len(embed["description"]) == 4096
    assert embed["description"].endswith("…")
    assert body["allowed_mentions"] == {"parse": []}


async def test_discord_calls_whom_the_operator_names(receiver: Any) -> None:
    await tell(channel("discord", {"webhook_url": receiver.url, "content": "<@&42> look"}), notice())
    body = receiver.requests[0].body
    assert (body["content"], body["allowed_mentions"]) == ("<@&42> look", {"parse": ["roles", "users"]})


async def test_sms_by_twilio(receiver: Any) -> None:
    receiver.answers = [(201, {"Content-Type": "application/json"}, '{"sid": "SM1"}')]
    settings = {"account_sid": "AC1", "auth_token": "secret", "from": "+15550001", "to": "+49170", "text": "{{ .Status }}: ä " + "x" * 2000}
    await tell(channel("sms", {**settings, "api_url": f"http://127.0.0.1:{receiver.port}"}), notice())
    (request,) = receiver.requests
    assert request.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"AC1:secret"
    form = {name: value for name, (value,) in parse_qs(request.body).items()}
    assert (form["From"], form["To"], len(form["Body"])) == ("+15550001", "+49170", 1600)
    assert form["Body"].startswith("firing: ä x")


async def test_mattermost_by_a_global_webhook(receiver: Any) -> None:
    settings = {"channel": "ops", "attachments": [{"title": "{{ .Status }}", "color": "#ff0000"}]}
    await tell(channel("mattermost", settings, {"mattermost_webhook_url": receiver.url}), notice())
    body = receiver.requests[0].body
    assert (body["channel"], body["text"]) == ("ops", "[FIRING:1] Down (a0 page)\na is down\n")
    assert body["attachments"] == [{"title": "firing", "color": "#ff0000"}]


async def test_rocketchat_message(receiver: Any) -> None:
    receiver.answers = [(200, {"Content-Type": "application/json"}, '{"success": false, "error": "no such room"}')]
    settings = {"api_url": f"http://127.0.0.1:{receiver.port}/", "token": "t", "token_id": "me", "channel": "#ops"}
    with pytest.raises(Undeliverable, match="no such room"):
        await tell(channel("rocketchat", settings), notice())
    receiver.answers = [(200, {"Content-Type": "application/json"}, '{"success": true}')]
    await tell(channel("rocketchat", settings), notice())
    request = receiver.requests[1]
    assert request.path == "/api/v1/chat.postMessage"
    assert (request.headers["x-auth-token"], request.headers["x-user-id"]) == ("t", "me")
    assert (request.body["channel"], request.body["attachments"][0]["color"]) == ("#ops", "red")


async def test_rocketchat_by_a_global_address_with_buttons(receiver: Any) -> None:
    actions = [{"type": "button", "text": "Runbook", "url": "http://r/{{ .Status }}"}, {"text": "Ack", "msg": "/ack"}]
    made = channel("rocketchat", {"token": "t", "token_id": "i", "actions": actions}, {"rocketchat_api_url": receiver.url})
    await tell(made, notice())
    assert receiver.requests[0].path == "/secret-path/api/v1/chat.postMessage"
    assert receiver.requests[0].body["attachments"][0]["actions"] == [
        {"type": "button", "text": "Runbook", "url": "http://r/firing"},
        {"type": "button", "text": "Ack", "msg": "/ack"},
    ]


async def test_opsgenie_changes_an_alert_that_exists_where_that_is_asked(receiver: Any) -> None:
    settings = {"api_key": "k", "api_url": receiver.url, "update_alerts": True}
    await tell(channel("opsgenie", settings), notice())
    created, message, description = receiver.requests
    assert (created.method, created.path) == ("POST", "/secret-path/v2/alerts")
    assert (message.method, message.path) == ("PUT", f"/secret-path/v2/alerts/{DEDUP}/message?identifierType=alias")
    assert message.body == {"message": created.body["message"]} and message.headers["authorization"] == "GenieKey k"
    assert description.path.endswith("/description?identifierType=alias") and description.body == {
        "description": created.body["description"]
    }
    receiver.requests.clear()
    await tell(channel("opsgenie", settings), notice(firing=False))
    assert [r.path for r in receiver.requests] == [f"/secret-path/v2/alerts/{DEDUP}/close?identifierType=alias"]
    receiver.answers = [(202, {}), (429, {})]
    with pytest.raises(Undeliverable, match="429") as refused:
        await tell(channel("opsgenie", settings), notice())
    assert refused.value.retryable


async def test_victorops_incident(receiver: Any) -> None:
    settings = {"api_key": "k/1", "api_url": f"http://127.0.0.1:{receiver.port}/alert/", "routing_key": "{{ .CommonLabels.severity }}"}
    await tell(channel("victorops", {**settings, "custom_fields": {"host": "{{ .CommonLabels.instance }}"}}), notice())
    await tell(channel("victorops", settings), notice(firing=False))
    fired, resolved = receiver.requests
    assert fired.path == "/alert/k%2F1/page"
    assert (fired.body["message_type"], resolved.body["message_type"]) == ("CRITICAL", "RECOVERY")
    assert fired.body["entity_id"] == resolved.body["entity_id"] == DEDUP
    assert fired.body["host"] == "a0"


async def test_pushover_message(receiver: Any) -> None:
    settings = {"token": "t", "user_key": "u", "api_url": receiver.url, "retry": "30s", "html": True, "message": "<b>{{ .Status }}</b>"}
    await tell(channel("pushover", settings), notice())
    form = {name: value for name, (value,) in parse_qs(receiver.requests[0].body).items()}
    assert (form["token"], form["user"], form["priority"], form["retry"], form["expire"]) == ("t", "u", "2", "30", "3600")
    assert (form["message"], form["html"]) == ("<b>firing</b>", "1")


def test_signature_version_4_of_the_published_example() -> None:
    # post-x-www-form-urlencoded of AWS's own test suite.
    keys = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    at = int(datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp() * 1000)
    headers = signed("http://example.amazonaws.com/", {"Param1": "value1"}, region="us-east-1", keys=keys, now=at, service="service")
    assert headers["X-Amz-Date"] == "20150830T123600Z"
    assert headers["Authorization"].endswith("Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a")


async def test_sns_publishes(receiver: Any) -> None:
    settings = {
        **MINIMAL["sns"],
        "api_url": f"http://127.0.0.1:{receiver.port}/",
        "attributes": {"severity": "{{ .CommonLabels.severity }}"},
    }
    await tell(channel("sns", settings), notice())
    (request,) = receiver.requests
    form = {name: value for name, (value,) in parse_qs(request.body).items()}
    assert (form["Action"], form["TopicArn"], form["Subject"]) == ("Publish", "arn:aws:sns:eu-west-1:1:t", "[FIRING:1] Down (a0 page)")
    assert form["MessageAttributes.entry.1.Value.StringValue"] == "page"
    assert "Credential=AK/" in request.headers["authorization"]
    assert "/eu-west-1/sns/aws4_request" in request.headers["authorization"]


async def test_wechat_takes_a_token_and_a_new_one_when_it_is_refused(receiver: Any) -> None:
    def said(text: str) -> Any:
        return 200, {"Content-Type": "application/json"}, text

    receiver.answers = [said('{"errcode": 0, "access_token": "one"}'), said('{"errcode": 42001, "errmsg": "expired"}')]
    receiver.answers += [said('{"errcode": 0, "access_token": "two"}'), said('{"errcode": 0}')]
    settings = {"api_secret": "s", "corp_id": "c", "to_user": "me", "agent_id": "7"}
    made = channel("wechat", {**settings, "api_url": f"http://127.0.0.1:{receiver.port}"})
    with pytest.raises(Undeliverable, match="42001 expired") as refused:
        await tell(made, notice())
    assert refused.value.retryable
    await tell(made, notice())
    assert [r.path for r in receiver.requests] == [
        "/gettoken?corpid=c&corpsecret=s",
        "/message/send?access_token=one",
        "/gettoken?corpid=c&corpsecret=s",
        "/message/send?access_token=two",
    ]
    assert receiver.requests[3].body["text"]["content"].startswith("[FIRING:1] Down")


MINIMAL: dict[str, dict[str, Any]] = {
    "jira": {"api_url": "{url}", "project": "P", "issue_type": "Bug"},
    "mattermost": {"webhook_url": "{url}"},
    "pushover": {"token": "t", "user_key": "u", "api_url": "{url}"},
    "rocketchat": {"token": "t", "token_id": "i", "api_url": "{url}"},
    "sns": {"topic_arn": "arn:aws:sns:eu-west-1:1:t", "sigv4": {"access_key": "AK", "secret_key": "SK"}, "api_url": "{url}"},
    "victorops": {"api_key": "k", "routing_key": "r", "api_url": "{url}"},
    "wechat": {"api_secret": "s", "corp_id": "c", "to_user": "u", "api_url": "{url}"},
    "discord": {"webhook_url": "{url}"},
    "msteamsv2": {"webhook_url": "{url}"},
    "opsgenie": {"api_key": "k", "api_url": "{url}"},
    "pagerduty": {"routing_key": "k", "url": "{url}"},
    "slack": {"api_url": "{url}"},
    "sms": {"account_sid": "A", "auth_token": "t", "from": "1", "to": "2", "api_url": "{url}"},
    "telegram": {"bot_token": "t", "chat_id": 1, "api_url": "{url}"},
    "webhook": {"url": "{url}"},
    "incidentio": {"url": "{url}", "alert_source_token": "t"},
    "msteams": {"webhook_url": "{url}"},
    "webex": {"room_id": "r", "api_url": "{url}", "http_config": {"authorization": {"credentials": "t"}}},
}


@pytest.mark.parametrize("kind", [key.removesuffix("_configs") for key in POSTING if key != "apprise_configs"])
@pytest.mark.parametrize(("answer", "retryable", "wait"), [((503, {"Retry-After": "3"}), True, 3.0), ((400, {}), False, None)])
async def test_every_channel_says_whether_to_try_again(
    kind: str, answer: tuple[int, dict[str, str]], retryable: bool, wait: float | None, receiver: Any
) -> None:
    receiver.answers = [answer]
    settings = {n: v.format(url=receiver.url) if isinstance(v, str) else v for n, v in MINIMAL[kind].items()}
    with pytest.raises(Undeliverable) as refused:
        await tell(channel(kind, settings), notice())
    assert (refused.value.reason, refused.value.retryable, refused.value.retry_after) == ("status", retryable, wait)
    assert "secret-path" not in str(refused.value)


# apprise imports what Python will drop in a later version.
APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def test_msteams_card_of_the_old_kind(receiver: Any) -> None:
    await tell(channel("msteams", {"webhook_url": receiver.url}), notice())
    await tell(channel("msteams", {"webhook_url": receiver.url}), notice(firing=False))
    fired, resolved = (r.body for r in receiver.requests)
    assert (fired["@type"], fired["@context"], fired["themeColor"]) == ("MessageCard", "http://schema.org/extensions", "8C1A1A")
    assert fired["title"].startswith("[FIRING:1] Down")
    assert resolved["themeColor"] == "2DC72D"


async def test_webex_message(receiver: Any) -> None:
    await tell(channel("webex", {**MINIMAL["webex"], "api_url": receiver.url, "message": "**{{ .Status }}**"}), notice())
    (request,) = receiver.requests
    assert request.body == {"roomId": "r", "markdown": "**firing**"}
    assert request.headers["authorization"] == "Bearer t"


async def test_incidentio_is_the_webhook_with_a_token(receiver: Any) -> None:
    await tell(channel("incidentio", {"url": receiver.url, "alert_source_token": "tok", "max_alerts": 1}), notice(count=2))
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer tok"
    assert (request.body["version"], request.body["groupKey"], request.body["truncatedAlerts"]) == ("4", KEY, 1)


async def test_pagerduty_by_a_service_key_is_the_first_events_api(receiver: Any) -> None:
    settings = {"service_key": "sk", "url": receiver.url, "details": {"host": "{{ .CommonLabels.instance }}"}}
    await tell(channel("pagerduty", settings), notice())
    await tell(channel("pagerduty", settings), notice(firing=False))
    fired, resolved = (r.body for r in receiver.requests)
    assert (fired["service_key"], fired["event_type"], resolved["event_type"]) == ("sk", "trigger", "resolve")
    assert fired["incident_key"] == resolved["incident_key"] == DEDUP
    assert fired["details"]["host"] == "a0"


@APPRISE
async def test_apprise_delivers_by_its_urls_and_says_why_not(receiver: Any) -> None:
    url = f"json://127.0.0.1:{receiver.port}/hook"
    await tell(channel("apprise", {"url": url, "title": "{{ .Status }}", "text": "{{ .CommonLabels.alertname }}"}), notice())
    (request,) = receiver.requests
    assert (request.body["title"], request.body["message"], request.body["type"]) == ("firing", "Down", "failure")
    receiver.answers = [(500, {})]
    with pytest.raises(Undeliverable, match="did not take it") as failed:
        await tell(channel("apprise", {"url": url}), notice())
    assert (failed.value.reason, failed.value.retryable) == ("protocol", True)
    receiver.answers = [None]
    with pytest.raises(Undeliverable, match="did not end within") as failed:
        await tell(channel("apprise", {"url": f"{url}?rto=1", "timeout": "50ms"}), notice())
    assert failed.value.reason == "timeout"


@APPRISE
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "nothing://x"}, "apprise cannot make anything of this nothing URL"),
        ({"url": "json://x", "url_file": "y"}, "at most one of url & url_file"),
        ({}, "exactly one of url & url_file"),
    ],
)
def test_apprise_urls_are_tried_when_the_file_is_read(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        config("apprise", settings)


BAD_TEXTS = [
    ("slack", {"api_url": "http://x", "title": "{{ .Status"}, "slack_configs[0].title: 1:"),
    ("slack", {"api_url": "http://x", "fields": [{"title": "a", "value": "{{ nope }}"}]}, "slack_configs[0].fields[0].value: 1:"),
    ("pagerduty", {"routing_key": "k", "details": {"a": "x\n{{ end }}"}}, "pagerduty_configs[0].details.a: 2:"),
]


@pytest.mark.parametrize(("kind", "settings", "where"), BAD_TEXTS)
def test_a_bad_text_is_refused_when_the_file_is_read(kind: str, settings: dict[str, Any], where: str) -> None:
    with pytest.raises(BadInput) as refused:
        config(kind, settings)
    assert f"receivers[0].{where}" in str(refused.value)


ROUTE_LABELS = """
route:
  receiver: a
  group_by: [alertname]
  labels: {reason: '{{ .GroupLabels.alertname }}', description: 'since {{ routeLabels "reason" }}'}
  routes: [{receiver: b, matchers: [x="y"], labels: {reason: other}}]
receivers: [{name: a}, {name: b}]
"""


def test_labels_of_routes_are_inherited_and_may_ask_for_one_another() -> None:
    given = parse(ROUTE_LABELS).route
    assert given is not None
    root = build(given)
    words = Templates.load().over(replace(notice(), route_labels=root.labels))
    assert words.route_labels() == {"reason": "Down", "description": "since Down"}
    below = Templates.load().over(replace(notice(), route_labels=root.routes[0].labels))
    assert below.text('{{ routeLabels "description" }}') == "since other"
    assert below.text('{{ routeLabels "unknown" }}') == ""


def test_labels_of_a_route_that_ask_for_themselves_fail() -> None:
    words = Templates.load().over(replace(notice(), route_labels=(("a", '{{ routeLabels "b" }}'), ("b", '{{ routeLabels "a" }}'))))
    with pytest.raises(Undeliverable, match="asks for itself"):
        words.route_labels()


async def test_a_webhook_has_the_labels_of_its_route(receiver: Any) -> None:
    told = replace(notice(), route_labels=(("reason", "{{ .GroupLabels.alertname }}!"),))
    await tell(channel("webhook", {"url": receiver.url}), told)
    assert receiver.requests[0].body["routeLabels"] == {"reason": "Down!"}


async def test_a_webhook_with_a_payload_of_ones_own(receiver: Any) -> None:
    payload = {
        "text": "{{ .CommonAnnotations.summary }}",
        "{{ .Receiver }}": ["{{ len .Alerts }}", 2, True, None, "{{ .Alerts | len }} alerts"],
        "labels": "{{ .CommonLabels | toJson }}",
        "nothing": "{{ with .CommonLabels.nope }}x{{ end }}",
        "since": "2026-01-01",
    }
    url = f"http://127.0.0.1:{receiver.port}/{{{{ .GroupLabels.alertname }}}}?n={{{{ len .Alerts }}}}"
    summary = 'disk: "full"\n{{ .Status }}'
    await tell(channel("webhook", {"url": url, "payload": payload}), notice(summary=summary))
    (request,) = receiver.requests
    assert request.path == "/Down?n=1" and request.headers["idempotency-key"] == "attempt"
    assert request.body == {
        "text": summary,  # what senders wrote is no template
        "team": [1, 2, True, None, "1 alerts"],
        "labels": {"alertname": "Down", "instance": "a0", "severity": "page"},
        "nothing": None,
        "since": "2026-01-01",
    }


@pytest.mark.parametrize(("payload", "body"), [("{{ .Status }}", "firing"), (["{{ .Status }}", 1.5], ["firing", 1.5]), ("[]", [])])
async def test_a_payload_may_be_of_any_shape(receiver: Any, payload: Any, body: Any) -> None:
    await tell(channel("webhook", {"url": receiver.url, "payload": payload}), notice())
    assert receiver.requests[0].body == body


@pytest.mark.parametrize("settings", [{"url": "http://h/{{ .Nope"}, {"url": "http://h", "payload": {"a": ["{{ end }}"]}}])
def test_templates_of_a_webhook_are_parsed_when_the_file_is_read(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"webhook_configs\[0\]"):
        config("webhook", settings)


async def test_nothing_leaves_where_a_template_fails(receiver: Any) -> None:
    made = channel("slack", {"api_url": receiver.url, "text": "{{ .Nope }}"})
    left: list[bool] = []

    async def leaving() -> None:
        left.append(True)

    with pytest.raises(Undeliverable, match="can't evaluate field Nope"):
        await made.deliver(notice(), seconds=5, leaving=leaving)
    await made.close()
    assert (left, receiver.requests) == ([], [])


async def test_one_that_hangs_is_given_up_in_time(receiver: Any) -> None:
    receiver.answers = [None]
    made = channel("discord", {"webhook_url": receiver.url})

    async def leaving() -> None:
        await asyncio.sleep(0)

    with pytest.raises(Undeliverable) as failed:
        await made.deliver(notice(), seconds=0.05, leaving=leaving)
    await made.close()
    assert failed.value.reason == "timeout"


@pytest.mark.parametrize(("kind", "told"), [("webhook", True), ("slack", False)])
async def test_an_endless_answer_is_cut_and_a_yes_only_where_the_status_says_all(receiver: Any, kind: str, told: bool) -> None:
    """A webhook that answered 2xx has the notification: to fail would be to tell it again after each `group_interval`."""
    receiver.answers = [(200, {"Content-Type": "application/json"}, "x" * ((1 << 20) + 1))]
    made = channel(kind, {"url" if kind == "webhook" else "api_url": receiver.url})
    if told:
        assert (await tell(made, notice())).detail == "2xx, answer longer than 1048576 bytes"
        return
    with pytest.raises(Undeliverable, match="answer longer than") as failed:
        await tell(made, notice())
    assert (failed.value.reason, failed.value.retryable) == ("too_large", False)


async def test_a_refusal_with_an_endless_answer_is_a_refusal(receiver: Any) -> None:
    receiver.answers = [(500, {}, "x" * ((1 << 20) + 1))]
    with pytest.raises(Undeliverable) as failed:
        await tell(channel("webhook", {"url": receiver.url}), notice())
    assert (failed.value.reason, failed.value.retryable) == ("status", True)


def test_relative_files_of_all_channels_are_taken_from_the_files_directory(tmp_path: Path) -> None:
    from vedette.notify.config import load

    text = "global: {slack_api_url_file: s, smtp_tls_config: {ca_file: ca}}\nroute: {receiver: a}\ntemplates: ['*.tmpl']\nreceivers:\n"
    text += "- {name: a, telegram_configs: [{chat_id: 1, bot_token_file: t}], slack_configs: [{http_config: {bearer_token_file: b}}]}\n"
    (tmp_path / "am.yml").write_text(text)
    found = load(tmp_path / "am.yml")
    assert found.global_.slack_api_url_file == str(tmp_path / "s")
    assert found.global_.smtp_tls_config is not None
    assert found.global_.smtp_tls_config.ca_file == str(tmp_path / "ca")
    assert found.receivers[0].telegram_configs[0].bot_token_file == str(tmp_path / "t")
    slack = found.receivers[0].slack_configs[0].http_config
    assert isinstance(slack, HttpConfig)
    assert slack.bearer_token_file == str(tmp_path / "b")
    assert found.templates == (str(tmp_path / "*.tmpl"),)
