"""Configurations made up at random, of what Debian's amtool knows: Vedette takes what it takes, and refuses what it refuses.

Left out is where the two differ on purpose: names of labels in UTF-8 (amtool is older), `"true"` in quotes, SOCKS, December as month 13.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette.errors import BadInput
from vedette.notify.config import load

R = random.Random()
COUNT = 200


def pick(*values: Any) -> Any:
    """One of them, mostly the first, which is a good one: a file with many faults tells little of each."""
    return values[0] if R.random() < 0.85 else R.choice(values)


def maybe(d, k, *vals, p=0.3):
    if R.random() < p:
        d[k] = pick(*vals)


DUR = ("1m", "30s", "5m", "1h30m", "0s", "1d", "5", "-5m", "1.5h", "")
URL = ("http://h/x", "https://h:1/", "ftp://h/", "h:80", "http://user:p@h/")


def http():
    d = {}
    maybe(d, "proxy_url", "http://p:1", "https://p:1")
    maybe(d, "follow_redirects", True, False)
    maybe(d, "bearer_token", "x", p=0.1)
    maybe(d, "basic_auth", {"username": "u", "password": "p"}, {"password": "p", "password_file": "/x"}, p=0.2)
    maybe(d, "authorization", {"credentials": "c"}, {"type": "Basic"}, {"type": ""}, p=0.2)
    maybe(d, "tls_config", {"insecure_skip_verify": True}, {"server_name": "n"}, p=0.2)
    maybe(d, "enable_http2", False, p=0.1)
    return d


def chan(kind):
    d = {}
    maybe(d, "send_resolved", True, False, p=0.2)
    if kind != "email":
        maybe(d, "http_config", http(), p=0.15)
    if kind == "webhook":
        maybe(d, "url", *URL, p=0.9)
        maybe(d, "max_alerts", 0, 5, -1, p=0.2)
        maybe(d, "url_file", "/etc/x", p=0.1)
    if kind == "slack":
        maybe(d, "api_url", *URL, p=0.7)
        maybe(d, "channel", "#a", p=0.5)
        maybe(d, "fields", [{"title": "t", "value": "v"}], [{"title": "t"}], p=0.2)
        maybe(
            d,
            "actions",
            [{"type": "button", "text": "x", "url": "u"}],
            [{"type": "button", "text": "x"}],
            [{"text": "x", "url": "u"}],
            p=0.3,
        )
        maybe(d, "api_url_file", "/x", p=0.1)
    if kind == "email":
        maybe(d, "to", "a@b", "", p=0.9)
        maybe(d, "smarthost", "h:25", "h", "h:", ":25", p=0.5)
        maybe(d, "from", "a@b", p=0.5)
        maybe(d, "headers", {"Subject": "x"}, {"subject": "a", "Subject": "b"}, p=0.2)
        maybe(d, "require_tls", True, False, p=0.2)
    if kind == "pagerduty":
        maybe(d, "routing_key", "k", p=0.6)
        maybe(d, "service_key", "k", p=0.3)
        maybe(d, "url", *URL, p=0.3)
        maybe(d, "details", {"a": "b"}, p=0.2)
        maybe(d, "severity", "x", p=0.2)
    if kind == "opsgenie":
        maybe(d, "api_key", "k", p=0.7)
        maybe(d, "responders", [{"name": "n", "type": "team"}], [{"type": "team"}], [{"name": "n", "type": "x"}], [{"name": "n"}], p=0.3)
        maybe(d, "priority", "P1", p=0.2)
        maybe(d, "update_alerts", True, p=0.2)
    if kind == "pushover":
        maybe(d, "user_key", "k", p=0.8)
        maybe(d, "token", "k", p=0.8)
        maybe(d, "retry", *DUR, p=0.3)
        maybe(d, "html", True, p=0.2)
    if kind == "victorops":
        maybe(d, "api_key", "k", p=0.8)
        maybe(d, "routing_key", "k", p=0.8)
        maybe(d, "custom_fields", {"a": "b"}, {"entity_id": "x"}, p=0.3)
    if kind == "sns":
        maybe(d, "topic_arn", "arn:aws:sns:us-east-1:1:t", p=0.6)
        maybe(d, "phone_number", "1", p=0.3)
        d["sigv4"] = pick({"access_key": "a", "secret_key": "b", "region": "r"}, {"access_key": "a", "region": "r"})
    if kind == "telegram":
        maybe(d, "bot_token", "k", p=0.8)
        maybe(d, "chat_id", 5, "x", -5, p=0.8)
        maybe(d, "parse_mode", "HTML", "x", "", p=0.3)
    if kind == "wechat":
        maybe(d, "api_secret", "k", p=0.8)
        maybe(d, "corp_id", "k", p=0.8)
        maybe(d, "message_type", "text", "x", p=0.2)
    maybe(d, "bogus", 1, p=0.04)
    return d


KINDS = ["webhook", "slack", "email", "pagerduty", "opsgenie", "pushover", "victorops", "sns", "telegram", "wechat"]
M = ('a="b"', 'a=~"b.*"', 'a=~"("', "a", '{a="b",c!="d"}', "a=b", 'a="b', '"a"="b"x', 'a!~""', "=b", "a==b")


def route(names, depth=0):
    d = {}
    maybe(d, "receiver", *names, "nobody", p=0.6 if depth else 0.97)
    maybe(d, "group_by", ["a"], ["..."], ["...", "a"], ["a", "a"], [""], p=0.3)
    for k in ("group_wait", "group_interval", "repeat_interval"):
        maybe(d, k, *DUR, p=0.12)
    if depth or R.random() < 0.1:
        maybe(d, "matchers", [pick(*M)], [pick(*M), pick(*M)], p=0.5)
        maybe(d, "match", {"a": "b"}, p=0.2)
        maybe(d, "match_re", {"a": "b.*"}, {"a": "("}, p=0.15)
    maybe(d, "continue", True, False, p=0.15)
    if depth or R.random() < 0.05:
        maybe(d, "mute_time_intervals", ["off"], ["nope"], p=0.15)
        maybe(d, "active_time_intervals", ["off"], p=0.1)
    if depth < 2 and R.random() < 0.5:
        d["routes"] = [route(names, depth + 1) for _ in range(R.randint(1, 2))]
    return d


def spec():
    d = {}
    maybe(
        d,
        "times",
        [{"start_time": "09:00", "end_time": "17:00"}],
        [{"start_time": "17:00", "end_time": "09:00"}],
        [{"start_time": "9:00", "end_time": "24:00"}],
        p=0.5,
    )
    maybe(d, "weekdays", ["monday:friday"], ["friday:monday"], ["Sunday"], ["x"], p=0.4)
    maybe(d, "days_of_month", ["1:5"], ["-3:-1"], ["5:1"], ["0"], ["32"], ["-1:1"], p=0.4)
    maybe(d, "months", ["1:3"], ["may:august"], ["december:may"], p=0.3)
    maybe(d, "years", ["2020:2022"], ["2022:2020"], p=0.2)
    return d


def conf():
    names = [f"r{i}" for i in range(R.randint(1, 3))]
    d = {
        "route": route(names),
        "receivers": [{"name": n, **{f"{k}_configs": [chan(k)] for k in R.sample(KINDS, R.randint(0, 1))}} for n in names],
    }
    g = {}
    maybe(g, "smtp_smarthost", "h:25", p=0.5)
    maybe(g, "smtp_from", "x@y", p=0.5)
    maybe(g, "slack_api_url", *URL, p=0.2)
    maybe(g, "opsgenie_api_key", "k", p=0.2)
    maybe(g, "resolve_timeout", *DUR, p=0.1)
    maybe(g, "victorops_api_key", "k", p=0.1)
    maybe(g, "wechat_api_secret", "s", p=0.1)
    maybe(g, "http_config", http(), p=0.1)
    if g:
        d["global"] = g
    if R.random() < 0.4:
        d["time_intervals"] = [{"name": "off", "time_intervals": [spec()]}]
    if R.random() < 0.2:
        d["inhibit_rules"] = [{"source_matchers": [pick(*M)], "target_matchers": [pick(*M)], "equal": ["a"]}]
    maybe(d, "receivers", d["receivers"] + [{"name": "r0"}], p=0.03)
    maybe(d, "route", None, p=0.02)
    return d


def test_what_amtool_takes_is_taken_and_what_it_refuses_is_refused(tmp_path: Path, debian_binary: Callable[[str], str]) -> None:
    amtool = debian_binary("amtool")
    if "version 0.25" not in subprocess.run([amtool, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout:
        pytest.skip("what other versions take is another matter: apt install prometheus-alertmanager of Debian 12")
    R.seed(20261122)
    files = [tmp_path / f"{n:03d}.yml" for n in range(COUNT)]
    for file in files:
        file.write_text(yaml.safe_dump(conf(), sort_keys=False), encoding="utf-8")
    done = subprocess.run([amtool, "check-config", *map(str, files)], capture_output=True, text=True, timeout=60, check=False)
    verdicts = dict(re.findall(r"Checking '([^']+)'\s+(SUCCESS|FAILED)", done.stdout + done.stderr))
    assert len(verdicts) == COUNT and 50 < list(verdicts.values()).count("SUCCESS") < COUNT - 50
    for file in files:
        try:
            load(file)
            ours = "SUCCESS"
        except BadInput as refused:
            ours = f"FAILED: {refused}"
        assert ours.startswith(verdicts[str(file)]), f"{ours}, where amtool says {verdicts[str(file)]}\n{file.read_text()}"
