"""Settings from file, .env, environment and flags, and where each came from."""

import re
from pathlib import Path

import pytest

from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.settings import flag_names, resolve


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def origin(settings, name):
    return next(o for o in settings.origins if o.setting == name)


def test_defaults_need_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(environment={})
    assert settings.path is None and settings.vedette.server.port == 8009
    assert {o.source for o in settings.origins} == {"default"}
    assert {o.setting for o in settings.origins} == set(flag_names())
    assert origin(settings, "storage.retention").text == "30d"
    assert origin(settings, "storage.rollups").text == "5m: 180d, 1h: 2y"
    assert origin(settings, "services.aggregation_types").text == "avg, sum, min, max"
    assert origin(settings, "access.hosts").text == ""
    assert (origin(settings, "storage.sync").text, origin(settings, "storage.segment_size").text) == ("commit", "64MB")
    listening = resolve(environment={}, flags={("server", "listen"): {"xscore": 9090, "botserver": 8080}})
    assert origin(listening, "server.listen").text == "xscore: 9090, botserver: 8080"
    assert origin(resolve(environment={}), "server.listen").text == ""


def test_each_source_wins_over_the_one_before(tmp_path):
    file = write(tmp_path / "p.yml", "vedette: {server: {port: 1001, log_level: debug}, storage: {retention: 5d}}")
    dotenv = write(tmp_path / ".env", "# mine\nexport PORT=1002\nRETENTION_DAYS='6'\n")
    read = {"path": file, "dotenv": dotenv}
    assert resolve(**{**read, "dotenv": None}, environment={}).vedette.server.port == 1001
    settings = resolve(**read, environment={})
    assert (settings.vedette.server.port, origin(settings, "server.port").source) == (1002, f"{dotenv}: PORT")
    assert settings.vedette.storage.retention == 6 * 86_400_000
    assert (settings.vedette.server.log_level, origin(settings, "server.log_level").source) == ("debug", str(file))
    settings = resolve(**read, environment={"PORT": "1003"})
    assert (settings.vedette.server.port, origin(settings, "server.port").source) == (1003, "PORT")
    settings = resolve(**read, environment={"PORT": "1003", "VEDETTE_PORT": "1004"})
    assert (settings.vedette.server.port, origin(settings, "server.port").source) == (1004, "VEDETTE_PORT")
    settings = resolve(**read, environment={"PORT": "1003"}, flags={("server", "port"): 1005})
    assert (settings.vedette.server.port, origin(settings, "server.port").source) == (1005, "--port")


def test_every_setting_has_a_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve(environment={"VEDETTE_STORAGE_OUT_OF_ORDER_WINDOW": "2h", "VEDETTE_ACCESS_HOSTS": "[a.example, b.example]"})
    assert settings.vedette.storage.out_of_order_window == 7_200_000
    assert settings.vedette.access.hosts == ("a.example", "b.example")


def test_a_secret_may_come_from_a_file_and_is_never_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "key", "hunter2\n")
    settings = resolve(environment={"API_KEY_FILE": str(tmp_path / "key")})
    assert settings.vedette.access.api_key == "hunter2"
    assert origin(settings, "access.api_key").text == "<secret>"
    file = write(tmp_path / "p.yml", "vedette: {access: {api_key: hunter3}}")
    assert "<secret>" in (shown := resolve(path=file, environment={}).text) and "hunter3" not in shown


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PORT": "many"}, "PORT: not a port: 'many'"),
        ({"VEDETTE_SERVER_PORT": "70000"}, "VEDETTE_SERVER_PORT: not a port"),
        ({"ALERT_CPU_THRESHOLD": "x"}, "ALERT_CPU_THRESHOLD: not a threshold"),
        ({"RETENTION_DAYS": "-1"}, "RETENTION_DAYS: not a valid duration"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: not a log level: 'loud' (expected debug, info, warning or error)"),
        ({"LOG_LEVEL": "info", "ACCESS_LOG_LEVEL": "debug"}, "LOG_LEVEL and ACCESS_LOG_LEVEL contradict each other"),
        ({"API_KEY_FILE": "/nowhere/key"}, "API_KEY_FILE: /nowhere/key cannot be read"),
        ({"API_KEY_FILE": "/dev/null"}, "API_KEY_FILE: /dev/null is empty"),
        ({"ACCESS_MAX_METRIC_SERIES": "-1"}, "ACCESS_MAX_METRIC_SERIES: -1 where at least 1 is expected"),
        ({"METRICS_COLLECTION_INTERVAL": "0"}, "METRICS_COLLECTION_INTERVAL: must be longer than nothing"),
        ({"ACCESS_AGGREGATION_WINDOW_SECONDS": "0"}, "ACCESS_AGGREGATION_WINDOW_SECONDS: shorter than a second"),
        ({"API_KEY": "a", "API_KEY_FILE": "/dev/null"}, "API_KEY and API_KEY_FILE contradict each other"),
    ],
)
def test_bad_variables_are_named(environment, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as refused:
        resolve(environment=environment)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vedette: {server: {prot: 1}}", "p.yml:1:20: vedette.server.prot: unknown key (did you mean port?)"),
        ("vedete: {}", "p.yml:1:1: vedete: unknown key (did you mean vedette?)"),
        ("remote_read: []", "p.yml:1:1: remote_read: not supported"),
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "multiple scrape configs with job name 'a'"),
        ("remote_write: [{url: 'http://h/', name: a}, {url: 'http://i/', name: a}]", "p.yml: remote_write[1]: found multiple"),
        ("rule_files: [absent.yml]", "rule file absent.yml does not exist"),
    ],
)
def test_bad_files_are_pointed_at(text, said, tmp_path):
    file = write(tmp_path / "p.yml", text)
    with pytest.raises(BadInput) as refused:
        settings = resolve(path=file, environment={}, dotenv=None)
        settings.collect()
        settings.forwards()
        settings.rule_paths()
    assert said in str(refused.value)


def test_bad_dotenv_lines_are_pointed_at(tmp_path):
    with pytest.raises(BadInput, match=r"\.env:2: not a NAME=value line"):
        resolve(environment={}, dotenv=write(tmp_path / ".env", "A=1\njust words\n"))


def test_a_dotenv_that_is_no_text_is_named(tmp_path):
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(BadInput, match=r"\.env: cannot be read"):
        resolve(environment={}, dotenv=tmp_path / ".env")


def test_external_labels_expand_as_in_prometheus(tmp_path):
    file = write(
        tmp_path / "p.yml",
        'global: {external_labels: {bar: foo, baz: "foo${TEST}bar", foo: "${TEST}", qux: "foo$${TEST}", xyz: "foo$$bar"}}',
    )
    unset = resolve(path=file, environment={}, dotenv=None).external_labels
    assert unset == Labels.of(bar="foo", baz="foobar", qux="foo${TEST}", xyz="foo$bar")
    given = resolve(path=file, environment={"TEST": "TestValue"}, dotenv=None).external_labels
    assert given == Labels.of(bar="foo", baz="fooTestValuebar", foo="TestValue", qux="foo${TEST}", xyz="foo$bar")


def test_rule_files_are_found_beside_the_configuration(tmp_path):
    (tmp_path / "rules").mkdir()
    for name in ("b.yml", "a.yml"):
        write(tmp_path / "rules" / name, "groups: []")
    file = write(tmp_path / "p.yml", "rule_files: ['rules/*.yml', rules/a.yml, 'none/*.yml']")
    assert resolve(path=file, environment={}, dotenv=None).rule_paths() == [tmp_path / "rules" / n for n in ("a.yml", "b.yml")]


LINKS = {
    "PROMETHEUS_PORT": "tcp://10.0.0.1:9090",
    "VEDETTE_PORT": "tcp://10.0.0.2:8009",
    "VEDETTE_PORT_8009_TCP": "tcp://10.0.0.2:8009",
    "VEDETTE_SERVICE_HOST": "10.0.0.2",
    "VEDETTE_STORAGE_SERVICE_HOST": "10.0.0.3",
    "VEDETTE_STORAGE_SERVICE_PORT_HTTP": "80",
    "VEDETTE_STORAGE_PORT": "tcp://10.0.0.3:80",
    "VEDETTE_STORAGE_PORT_80_TCP_ADDR": "10.0.0.3",
}


def test_what_kubernetes_says_of_other_services_is_no_setting(tmp_path, monkeypatch):
    """Else no server would start beside a service called `prometheus`, or one called as it is itself."""
    monkeypatch.chdir(tmp_path)
    settings = resolve(environment=LINKS)
    assert (settings.vedette.server.port, settings.vedette.server.listen, settings.strangers) == (8009, {}, ())
    assert resolve(environment={**LINKS, "PORT": "9999"}).vedette.server.port == 9999


@pytest.mark.parametrize("text", ["tcp://10.0.0.1", "tcp://10.0.0.1:many", "http://10.0.0.1:80", "x tcp://h:1"])
def test_what_is_no_such_word_is_a_bad_port(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="PROMETHEUS_PORT: not a port"):
        resolve(environment={"PROMETHEUS_PORT": text})


def test_variables_that_are_no_settings_are_found_with_what_may_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / ".env", "VEDETTE_SERVER_PROT=1\n")
    strange = {"VEDETTE_STORAGE_RETENTON": "1d", "VEDETTE_STORAGE_RETENTION": "2d", "VEDETTE_LOGS_XYZZY": "1"}
    others = {"VEDETTE_URL": "http://h", "VEDETTE_ACCESS_API_KEY_FILE": str(write(tmp_path / "key", "k")), "VEDETTE_PROMETHEUS_PORT": "0"}
    settings = resolve(environment={**strange, **others, "VEDETTE_ALERT_CPU_THRESHOLD": "90", "HOME": "/"})
    assert settings.strangers == (
        ("VEDETTE_LOGS_XYZZY", ""),
        ("VEDETTE_SERVER_PROT", "VEDETTE_SERVER_PORT"),
        ("VEDETTE_STORAGE_RETENTON", "VEDETTE_STORAGE_RETENTION"),
    )


def test_no_variable_of_the_documentation_is_strange(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text("utf-8")
    names = {*re.findall(r"`(VEDETTE_[A-Z_]+)`", text)} - {"VEDETTE_"}
    assert "VEDETTE_STORAGE_RETENTION" in names
    for name in names:
        try:
            found = resolve(environment={name: "1"}).strangers
        except BadInput:
            continue  # it is known, and 1 is no value for it
        assert found == (), name
