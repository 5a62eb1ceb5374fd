"""Matchers, the route tree, inhibition: what Alertmanager's own cases say, and what its configuration refuses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette import configfile
from vedette.errors import BadInput
from vedette.model.alerts import Alert
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify.config import Config, load, parse
from vedette.notify.groups import group_key
from vedette.notify.held import Held
from vedette.notify.inhibition import Inhibition, Inhibitor
from vedette.notify.matchers import parse_matchers
from vedette.notify.route import Route, build, match

MATCHERS = [
    ("foo=bar", [("foo", "=", "bar")]),
    ('foo="bar"', [("foo", "=", "bar")]),
    ('{foo="bar"}', [("foo", "=", "bar")]),
    ("{ foo = bar , baz!=qux, }", [("foo", "=", "bar"), ("baz", "!=", "qux")]),
    ('a=~"b.*",c!~"d|e"', [("a", "=~", "b.*"), ("c", "!~", "d|e")]),
    ('"a b"="c\\"d\\n"', [("a b", "=", 'c"d\n')]),
    ("foo🙂=bar🙂", [("foo🙂", "=", "bar🙂")]),
    ('"\\xf0\\x9f\\x99\\x82"="dΘ"', [("🙂", "=", "dΘ")]),
    ('foo=""', [("foo", "=", "")]),
    ("{}", []),
    ("00=b", [("00", "=", "b")]),
    # Only the classic syntax takes these.
    ("foo=", [("foo", "=", "")]),
    ("foo=bar baz", [("foo", "=", "bar baz")]),
    ("job=~^a{2}$", [("job", "=~", "^a{2}$")]),
    ("foo==bar=", [("foo", "=", "=bar=")]),
]


@pytest.mark.parametrize(("text", "expected"), MATCHERS)
def test_matchers(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(m.name, m.op, m.value) for m in parse_matchers(text)] == expected


@pytest.mark.parametrize("text", ["", "foo", "=bar", '{foo="bar"', 'foo="bar"}', 'foo="bar', "foo=~(", "foo>bar"])
def test_bad_matchers_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_matchers(text)


def acceptance(conformance: Path) -> Any:
    return yaml.safe_load((conformance / "derived/alertmanager_acceptance.yml").read_text())


def tree(route: str) -> Route:
    names = {r for r in [*_receivers(yaml.safe_load(route))] if r}
    text = yaml.safe_dump({"route": yaml.safe_load(route), "receivers": [{"name": n} for n in sorted(names)]})
    config = parse(text)
    assert config.route is not None
    return build(config.route)


def _receivers(route: dict[str, Any]) -> list[str]:
    return [route.get("receiver", ""), *(r for child in route.get("routes", []) for r in _receivers(child))]


def test_route_match_cases(conformance: Path) -> None:
    routing = acceptance(conformance)["routing"][0]
    root = tree(routing["route"])
    for case in routing["cases"]:
        found = match(root, Labels.of(case["labels"]))
        assert len(found) == len(case["routes"]), case
        for got, expected in zip(found, case["routes"], strict=True):
            assert (got.receiver, got.key) == (expected["receiver"], expected["key"])
            assert got.group_by == (None if expected.get("group_by_all") else frozenset(expected.get("group_by", [])))
            for name in ("group_wait", "group_interval", "repeat_interval"):
                if name in expected:
                    assert getattr(got, name) == parse_duration(expected[name])


def test_amtool_routing_cases(conformance: Path) -> None:
    for case in acceptance(conformance)["routing"][1]["cases"]:
        config = load(conformance / "prometheus_alertmanager/cli/testdata" / case["file"])
        assert config.route is not None
        assert [r.receiver for r in match(build(config.route), Labels.of(case["labels"]))] == case["receivers"]


def test_inhibition_cases(conformance: Path) -> None:
    for case in acceptance(conformance)["inhibition"]:
        config = parse(yaml.safe_dump({"route": {"receiver": "a"}, "receivers": [{"name": "a"}], "inhibit_rules": [case["rule"]]}))
        rules = [Inhibition.of(r) for r in config.inhibit_rules if r is not None]
        inhibitor = Inhibitor(rules)
        for a in case["alerts"]:
            inhibitor.put(Held(Alert(Labels.of(a["l"]), 1, 200 if a["active"] else 50), 1), 100)
        for labels, muted in case["muted"]:
            assert (inhibitor.inhibited_by(Labels.of(labels), 100) is not None) == muted, case


def test_alerts_that_match_both_sides_do_not_inhibit_one_another_but_others_do() -> None:
    rule = Inhibition((Matcher("s", "=", "1"),), (Matcher("t", "=", "1"),), ("e",))
    both, source, target = Labels.of(s="1", t="1", n="a"), Labels.of(s="1"), Labels.of(t="1")

    def inhibits(labels: Labels, *standing: Labels) -> Labels | None:
        inhibitor = Inhibitor([rule])
        for one in standing:
            inhibitor.put(Held(Alert(one, 1, 200), 1), 100)
        by = inhibitor.inhibited_by(labels, 100)
        return by.alert.labels if by else None

    assert inhibits(both, both, both.with_({"n": "b"})) is None
    assert inhibits(target, both) == both
    assert inhibits(both, both, source) == source
    assert inhibits(target, source.with_({"e": "x"})) is None


def test_where_one_of_two_inhibiting_alerts_goes_the_other_still_does() -> None:
    inhibitor = Inhibitor([Inhibition((Matcher("s", "=", "1"),), (Matcher("t", "=", "1"),), ("e",))])
    first, second, target = Labels.of(s="1", n="a", e="x"), Labels.of(s="1", n="b", e="x"), Labels.of(t="1", e="x")
    for one in (first, second):
        inhibitor.put(Held(Alert(one, 1, 200), 1), 100)
    inhibitor.drop(first)
    by = inhibitor.inhibited_by(target, 100)
    assert by is not None and by.alert.labels == second
    inhibitor.drop(second)
    assert inhibitor.inhibited_by(target, 100) is None
    inhibitor.drop(second)  # nothing is held of it any more


def test_an_inhibiting_alert_counts_until_it_ends_or_goes_and_each_change_is_a_new_epoch() -> None:
    rule = Inhibition((Matcher("s", "=", "1"),), (Matcher("t", "=", "1"),), ())
    inhibitor, source, target = Inhibitor([rule]), Labels.of(s="1"), Labels.of(t="1")
    inhibitor.put(Held(Alert(source, 1, 200), 1), 100)
    before = inhibitor.epoch
    assert before > 0
    inhibitor.put(Held(Alert(source, 1, 300), 100), 100)
    inhibitor.put(Held(Alert(target, 1, 300), 100), 100)
    assert inhibitor.epoch == before, "news of an alert that inhibits on, or of another, changes nothing"
    assert inhibitor.inhibited_by(target, 299) is not None
    assert inhibitor.inhibited_by(target, 300) is None
    inhibitor.put(Held(Alert(source, 1, 250), 260), 260)
    assert inhibitor.epoch > before
    inhibitor.drop(source)
    assert inhibitor.inhibited_by(target, 100) is None


def test_the_key_of_a_group() -> None:
    root = tree("{receiver: a, group_by: [x], routes: [{receiver: b, match: {a: b}}]}")
    (route,) = match(root, Labels.of(a="b", x="1", y="2"))
    assert group_key(route, route.group_labels(Labels.of(a="b", x='1"', y="2"))) == '{}/{a="b"}:{x="1\\""}'
    (everything,) = match(tree("{receiver: a, group_by: ['...']}"), Labels.of(y="2", x="1"))
    assert group_key(everything, everything.group_labels(Labels.of(y="2", x="1"))) == '{}:{x="1", y="2"}'


def wrong(route: str = "{receiver: a}", receivers: str = "[{name: a}]", more: str = "") -> str:
    return f"route: {route}\nreceivers: {receivers}\n{more}"


BAD = [
    ("", "no route provided in config"),
    ("route: {}\nreceivers: [{name: a}]", "root route must specify a default receiver"),
    (wrong("{receiver: a, match: {x: y}}"), "root route must not have any matchers"),
    (wrong("{receiver: a, continue: true}"), "cannot have continue in root route"),
    (wrong("{receiver: b}"), 'undefined receiver "b" used in route'),
    (wrong("{receiver: a, routes: [{receiver: c}]}"), 'undefined receiver "c" used in route'),
    (wrong(receivers="[{name: a}, {name: a}]"), 'notification config name "a" is not unique'),
    (wrong(receivers="[{}]"), "missing name in receiver"),
    (wrong("{receiver: a, group_by: [x, x]}"), 'duplicated label "x" in group_by'),
    (wrong("{receiver: a, group_by: ['...', x]}"), "cannot have wildcard group_by"),
    (wrong("{receiver: a, group_interval: 0s}"), "route.group_interval: group_interval and repeat_interval cannot be zero"),
    (wrong("{receiver: a, group_wait: soon}"), "route.group_wait: not a valid duration string: 'soon'"),
    (wrong("{receiver: a, routes: [{matchers: ['x']}]}"), "route.routes[0].matchers[0]: bad matcher 'x': expected an operator"),
    (wrong("{receiver: a, routes: [{match_re: {x: '('}}]}"), "route.routes[0].match_re.x: bad regular expression"),
    (wrong("{receiver: a, reciever: b}"), "unknown key (did you mean receiver?)"),
    (wrong(receivers="[{name: a, webhook_configs: [{}]}]"), "exactly one of url & url_file must be configured"),
    (wrong(receivers="[{name: a, webhook_configs: [{url: 'http://x', url_file: y}]}]"), "at most one of url & url_file"),
    (wrong(receivers="[{name: a, webhook_configs: [{url: 'ftp://x'}]}]"), "webhook_configs[0].url: unsupported scheme for URL"),
    (wrong(receivers="[{name: a, slack_configs: [{channel: x}]}]"), "receiver a: no Slack API URL nor App token set"),
    (wrong(receivers="[{name: a, slack_configs: [{api_url: 'http://h', actions: [{text: x, url: u}]}]}]"), "missing type in Slack action"),
    (wrong(receivers="[{name: a, slack_configs: [{api_url: 'http://h', actions: [{text: x, type: b}]}]}]"), "missing name or url in Slack"),
    (
        wrong(receivers="[{name: a, slack_configs: [{api_url: 'http://h', post_updates_to_thread: true}]}]"),
        "post_updates_to_thread: not supported",
    ),
    (wrong(receivers="[{name: a, wechat_configs: [{api_secret: s}]}]"), "no global Wechat CorpID set"),
    (wrong(receivers="[{name: a, email_configs: [{to: b, from: c, smarthost: mail}]}]"), "missing port in address"),
    ("global: {pagerduty_url: 'ftp://h'}\n" + wrong(), "global.pagerduty_url: unsupported scheme"),
    (wrong(receivers="[{name: a, jira_configs: [{project: x}]}]"), "receivers[0].jira_configs[0].issue_type"),
    (wrong(receivers="[{name: a, email_configs: [{}]}]"), "receivers[0].email_configs[0].to: missing to address in email config"),
    (wrong(receivers="[{name: a, email_configs: [{to: x}]}]"), "receiver a: no global SMTP smarthost set"),
    (wrong(receivers="[{name: a, email_configs: [{to: x, smarthost: 'h:25'}]}]"), "receiver a: no global SMTP from set"),
    (wrong(receivers="[{name: a, pagerduty_configs: [{}]}]"), "missing service or routing key in PagerDuty config"),
    (wrong(receivers="[{name: a, pagerduty_configs: [{service_key: x, service_key_file: y}]}]"), "at most one of service_key"),
    (wrong(receivers="[{name: a, webex_configs: [{room_id: x}]}]"), "missing webex_configs.http_config.authorization"),
    (wrong(receivers="[{name: a, incidentio_configs: [{url: 'http://x'}]}]"), "at least one of alert_source_token"),
    (wrong(receivers="[{name: a, msteams_configs: [{}]}]"), "one of webhook_url or webhook_url_file must be configured"),
    (wrong(receivers="[{name: a, sms_configs: [{account_sid: AC1, from: x}]}]"), "sms_configs[0].to: missing to in SMS config"),
    (wrong(receivers="[{name: a, discord_configs: [{webhook_url: 'ftp://x'}]}]"), "webhook_url: unsupported scheme for URL"),
    (wrong(receivers="[{name: a, msteamsv2_configs: [{}]}]"), "one of webhook_url or webhook_url_file must be configured"),
    (wrong(more="time_intervals: [{time_intervals: []}]"), "time_intervals[0].name: missing name in time interval"),
    (wrong(more="time_intervals: [{name: x}, {name: x}]"), 'time interval "x" is not unique'),
    (wrong("{receiver: a, mute_time_intervals: [x]}"), "root route must not have any mute time intervals"),
    (wrong("{receiver: a, active_time_intervals: [x]}"), "root route must not have any active time intervals"),
    (wrong("{receiver: a, routes: [{mute_time_intervals: [x]}]}"), 'undefined time interval "x" used in route'),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_bad_configuration_is_pointed_at(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text, name="am.yml")
    assert expected in str(refused.value)
    assert str(refused.value).startswith("am.yml:")


def test_public_configurations_load_or_are_refused_as_upstream_does(conformance: Path) -> None:
    base = conformance / "prometheus_alertmanager"
    cases = json.loads((conformance / "derived/alertmanager_config_expected.json").read_text())["cases"]
    seen: Counter[str] = Counter()
    for case in cases:
        path = base / case["file"]
        if not path.exists():  # of the part of the corpus that is not here
            continue
        try:
            load(path)
        except BadInput as refused:
            assert str(refused).startswith(str(path))
            assert case["expect"] == "error", f"{path}: {refused}"
            reason = case.get("error_equals", case.get("error_contains", ""))
            # A key that is not known is named in words of our own.
            assert "yaml: unmarshal" in reason or reason in str(refused), f"{refused}, where {reason} is expected"
            seen["refused"] += 1
        else:
            assert case["expect"] == "ok", path
            seen["loaded"] += 1
    assert seen["loaded"] >= 13
    assert seen["refused"] >= 16


def test_secrets_stay_out_of_prints() -> None:
    text = wrong(receivers="[{name: a, webhook_configs: [{url: 'http://host/hunter2'}]}]", more="global: {slack_api_url: hunter2}")
    printed = str(configfile.shown(configfile.compose(text), Config))
    assert "webhook_configs" in printed
    assert "hunter2" not in printed


def test_relative_file_names_are_taken_from_the_files_directory(tmp_path: Path) -> None:
    (tmp_path / "am.yml").write_text(wrong(receivers="[{name: a, webhook_configs: [{url_file: secret}]}]"))
    assert load(tmp_path / "am.yml").receivers[0].webhook_configs[0].url_file == str(tmp_path / "secret")
