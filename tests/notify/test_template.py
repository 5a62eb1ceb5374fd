"""Alertmanager's templates: data, functions, the default texts, files of one's own, and what a bad one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.errors import BadInput, Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.channels.webhook import payload
from vedette.notify.notice import Notice
from vedette.notify.receivers import EmailConfig, OpsgenieConfig, PagerdutyConfig, SlackConfig, TelegramConfig
from vedette.notify.template import Templates

NOW = 1_700_000_200_000
FIRING = Alert(
    Labels.of(alertname="Down", instance="a:1", severity="page"),
    1_700_000_000_000,
    NOW + 1000,
    Labels.of(summary="a is <down>"),
    "http://prometheus/graph?g0.expr=up",
)
RESOLVED = Alert(Labels.of(alertname="Down", instance="b:1", severity="page"), 1_700_000_000_000, 1_700_000_100_000)


def notice(*alerts: Alert) -> Notice:
    return Notice(
        "team", '{}:{alertname="Down"}', Labels.of(alertname="Down"), alerts or (FIRING, RESOLVED), NOW, "http://vedette:8009", "key"
    )


def text(source: str, *alerts: Alert, templates: Templates | None = None) -> str:
    return (templates or Templates.load()).over(notice(*alerts)).text(source)


TEXTS = [
    ("{{ .Receiver }} {{ .Status }} {{ .ExternalURL }}", "team firing http://vedette:8009"),
    ("{{ len .Alerts }}/{{ .Alerts.Firing | len }}/{{ .Alerts.Resolved | len }}", "2/1/1"),
    ("{{ .GroupLabels.alertname }} {{ .CommonLabels.severity }} [{{ .CommonLabels.instance }}]", "Down page []"),
    ("{{ range .Alerts }}{{ .Labels.instance }} {{ .Status }};{{ end }}", "a:1 firing;b:1 resolved;"),
    ('{{ .CommonLabels.SortedPairs.Names | join "," }}', "alertname,severity"),
    ('{{ (.CommonLabels.Remove (stringSlice "alertname")).Values | join "," }}', "page"),
    ("{{ .CommonLabels.SortedPairs }}", "alertname=Down, severity=page"),
    ('{{ with index .Alerts 0 }}{{ .StartsAt.Format "15:04" }} {{ .EndsAt.IsZero }} {{ since .StartsAt }}{{ end }}', "22:13 true 3m20s"),
    ('{{ (index .Alerts 1).EndsAt | tz "Europe/Berlin" | date "15:04 MST" }}', "23:15 CET"),
    ("{{ (index .Alerts 0).StartsAt | since | humanizeDuration }}", "3m 20s"),
    ("{{ (index .Alerts 0).Fingerprint }}", FIRING.fingerprint),
    ('{{ "x" | toUpper }} {{ title "ab cd" }} {{ trimSpace " a " }} {{ urlUnescape "a%20b" }}', "X Ab Cd a a b"),
    ('{{ reReplaceAll "(.):1" "$1!" "a:1" }} {{ match "a.*" "ba" }}', "a! true"),
    ("{{ .CommonLabels }} [{{ .CommonAnnotations }}]", "alertname=Down, severity=page []"),
    ('{{ .CommonLabels.Remove (stringSlice "severity") | printf "%s" }}', "alertname=Down"),
    (
        "{{ (index .Alerts 0) | toJson }}",
        '{"status":"firing","labels":{"alertname":"Down","instance":"a:1","severity":"page"},'
        '"annotations":{"summary":"a is \\u003cdown\\u003e"},'
        '"startsAt":"2023-11-14T22:13:20Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus/graph?g0.expr=up",'
        f'"fingerprint":"{FIRING.fingerprint}"}}',
    ),
    ("{{ .CommonLabels.SortedPairs | toJson }}", '[{"Name":"alertname","Value":"Down"},{"Name":"severity","Value":"page"}]'),
    ('{{ title "heLLO wORLD foo-bar it\'s" }}', "Hello World Foo-Bar It's"),
    ("{{ with index .Alerts 1 }}{{ .EndsAt.Sub .StartsAt }} {{ (.EndsAt.Sub .StartsAt).Milliseconds }}{{ end }}", "1m40s 100000"),
    ("{{ with index .Alerts 1 }}{{ (.StartsAt.Add 60000000000).Unix }} {{ .EndsAt.After .StartsAt }}{{ end }}", "1700000060 true"),
    (
        "{{ with index .Alerts 1 }}{{ .StartsAt.Before .EndsAt }} {{ .StartsAt.Equal .EndsAt }} {{ .StartsAt.YearDay }}{{ end }}",
        "true false 318",
    ),
    (
        "{{ with index .Alerts 1 }}{{ (.EndsAt.Sub .StartsAt).Truncate 60000000000 }} {{ (.StartsAt.Sub .EndsAt).Abs }}{{ end }}",
        "1m0s 1m40s",
    ),
    (
        "{{ with index .Alerts 1 }}{{ (.EndsAt.Sub .StartsAt).Round 60000000000 }} {{ .StartsAt.Sub .EndsAt | toJson }}{{ end }}",
        "2m0s -100000000000",
    ),
    ("{{ .CommonLabels | toJson }}", '{"alertname":"Down","severity":"page"}'),
    ('{{ (dict "a" 1).a }} {{ append (list 1) 2 | len }}', "1 2"),
    ('{{ template "__subject" . }}', "[FIRING:1] Down (page)"),
]


@pytest.mark.parametrize(("source", "expected"), TEXTS)
def test_text(source: str, expected: str) -> None:
    assert text(source) == expected


def test_a_receivers_name_is_a_pattern_that_matches_it() -> None:
    named = Notice("ops.(eu)+web-hook", "k", Labels(), (FIRING,), NOW, "", "")
    assert Templates.load().over(named).text("{{ .Receiver }}") == r"ops\.\(eu\)\+web-hook"
    assert payload(named)["receiver"] == r"ops\.\(eu\)\+web-hook"


@pytest.mark.parametrize("source", ['{{ (index .Alerts 0).StartsAt.Add "1m" }}', "{{ (index .Alerts 0).StartsAt.Sub 5 }}"])
def test_times_take_times_and_spans(source: str) -> None:
    with pytest.raises(Undeliverable, match="expected time"):
        text(source)


def test_subjects() -> None:
    assert text('{{ template "__subject" . }}', RESOLVED) == "[RESOLVED] Down (b:1 page)"
    assert text('{{ template "__subject" . }}', FIRING, FIRING) == "[FIRING:2] Down (a:1 page)"


def test_the_default_texts_render() -> None:
    templates = Templates.load()
    words = templates.over(notice())
    configs = [
        SlackConfig(api_url="http://x"),
        PagerdutyConfig(routing_key="x"),
        OpsgenieConfig(api_key="x"),
        TelegramConfig(chat_id=1),
        EmailConfig(to="x"),
    ]
    seen = 0
    for config in configs:
        for name in config.__dataclass_fields__:
            source = getattr(config, name)
            if isinstance(source, str) and "{{ template" in source:
                words.html(source) if name == "html" else words.text(source)
                seen += 1
    assert seen >= 15
    listed = words.text('{{ template "opsgenie.default.description" . }}')
    assert listed.startswith(
        "Alerts Firing:\nLabels:\n - alertname = Down\n - instance = a:1\n - severity = page\nAnnotations:\n - summary = a is <down>\n"
    )
    assert "Alerts Resolved:" in listed
    for name in templates.definitions:
        assert not name.startswith("email.default") or words.text(f'{{{{ template "{name}" . }}}}')


def test_html_is_escaped() -> None:
    evil = Alert(Labels.of(alertname="Down", x="<script>"), FIRING.starts_at, NOW + 1, Labels.of(summary="<img>"), "javascript:alert(1)")
    page = Templates.load().over(notice(evil)).html('{{ template "email.default.html" . }}')
    assert "<script>" not in page
    assert "<img>" not in page
    assert "javascript:" not in page
    assert "x = &lt;script&gt;" in page
    assert 'href="http://vedette:8009/alerts?receiver=team"' in page


def test_files_add_to_the_defaults_and_replace_them(tmp_path: Path) -> None:
    (tmp_path / "a.tmpl").write_text('{{ define "mine" }}{{ template "__subject" . }}!{{ end }}')
    (tmp_path / "b.tmpl").write_text('{{ define "__subject" }}changed{{ end }}')
    templates = Templates.load([str(tmp_path / "*.tmpl"), str(tmp_path / "none*")])
    assert text('{{ template "mine" . }}', templates=templates) == "changed!"


def test_a_bad_file_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "bad.tmpl").write_text("line one\n{{ nothing }}")
    with pytest.raises(BadInput, match=r"bad\.tmpl:2:4: function \"nothing\" not defined"):
        Templates.load([str(tmp_path / "bad.tmpl")])


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('{{ template "none" . }}', 'template "none" not defined'),
        ("{{ .Nothing }}", "can't evaluate field Nothing"),
        ("{{ range .Alerts }}{{ range 2000000 }}{{ end }}{{ end }}", "took more than"),
        ('{{ readFile "/etc/passwd" }}', "not defined"),
        ('{{ tz "Nowhere" (index .Alerts 0).StartsAt }}', "unknown time zone"),
        ('{{ .CommonLabels.Remove "x" }}', "expected []string"),
    ],
)
def test_a_text_that_fails_is_a_failure_with_its_reason(source: str, problem: str) -> None:
    with pytest.raises(Undeliverable) as failed:
        text(source)
    assert problem in str(failed.value)
    assert (failed.value.reason, failed.value.retryable) == ("template", False)


def test_thousands_of_alerts_fit() -> None:
    many = [Alert(Labels.of(alertname="Down", instance=f"i{i}", a="b", c="d"), 1, NOW + 1, Labels.of(summary="s")) for i in range(5000)]
    assert text('{{ template "opsgenie.default.description" . }}', *many).count("alertname = Down") == 5000
