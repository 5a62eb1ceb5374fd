"""A server that asks who one is: the commands beside it, TLS, rules of a tenant. Three people at every endpoint: `test_tenants.py`."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.e2e import patient

PASSWORD = "correct horse"
SECRET = "a-secret-of-more-than-thirty-two-bytes"
MARK = "acme_metric"
HIDDEN = "hidden-of-acme"


def vedette(data: Path, *words: str, stdin: str = "", check: bool = True) -> str:
    """One command beside the server; what it printed."""
    command = [sys.executable, "-m", "vedette", *words, "--data", str(data)]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env={**os.environ, "JWT_SECRET": SECRET}, cwd=data, check=False
    )
    assert (done.returncode == 0) == check, done.stderr
    return done.stdout.strip() if check else done.stderr.strip()


def token(data: Path, name: str, role: str, tenant: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + vedette(data, "token", "jwt", name, "--role", role, "--tenant", tenant)}


def test_a_tenants_rules_fire_for_it_alone(launch: Any, tools: Any) -> None:
    server = launch.vedette(env=tools.environment(JWT_SECRET=SECRET, VEDETTE_HOST_ENABLED="false"))
    data = launch.folder / "data"
    alice, charlie = token(data, "alice", "admin", "acme"), token(data, "charlie", "admin", "other")
    group = {"name": "g", "interval": "1s", "rules": [{"alert": HIDDEN, "expr": f"{MARK} > 1"}]}
    made = server.post("/config/v1/rules/acme", content=json.dumps(group), headers=alice)
    assert made.status_code in (200, 201, 202), made.text

    def firing(headers: dict[str, str]) -> list[Any]:
        body = tools.write_body([({"__name__": MARK}, [(int(time.time() * 1000), 42.0)])])
        assert server.post("/api/v1/write", content=body, headers={**tools.write_headers, **headers}).status_code == 204
        answer = server.client.get(server.url + "/api/v2/alerts", headers=headers)
        return [a["labels"]["alertname"] for a in answer.json()]

    tools.eventually(lambda: firing(alice) == [HIDDEN], "Alice's rule fires")
    assert firing(charlie) == []
    assert HIDDEN not in server.client.get(server.url + "/api/v1/rules", headers=charlie).text
    assert HIDDEN in server.client.get(server.url + "/api/v1/rules", headers=alice).text
    assert HIDDEN in server.client.get(server.url + "/api/v1/alerts", headers=alice).text


def test_the_commands_work_beside_a_running_server(launch: Any, tools: Any) -> None:
    server = launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    data = launch.folder / "data"
    assert server.get("/api/v1/query", query="1").status_code == 200
    assert "alice may log in as admin" in vedette(data, "user", "add", "alice", "--role", "admin", stdin=PASSWORD + "\n")
    tools.eventually(lambda: server.get("/api/v1/query", query="1").status_code == 401, "the server asks who one is")
    ours = httpx.BasicAuth("alice", PASSWORD)
    assert server.client.get(server.url + "/api/v1/query", params={"query": "1"}, auth=ours).status_code == 200

    key = vedette(data, "token", "create", "push", "--scope", "write", "--expires", "1d")
    bearer = {"Authorization": f"Bearer {key}"}
    body = tools.write_body([({"__name__": "up_there"}, [(int(time.time() * 1000), 1.0)])])
    tools.eventually(
        lambda: server.post("/api/v1/write", content=body, headers={**tools.write_headers, **bearer}).status_code == 204, "the key works"
    )
    assert server.client.get(server.url + "/api/v1/query", params={"query": "1"}, headers=bearer).status_code == 403
    identity = key.split("_")[1]
    assert identity in vedette(data, "token", "list")
    vedette(data, "token", "revoke", identity)
    tools.eventually(
        lambda: server.post("/api/v1/write", content=body, headers={**tools.write_headers, **bearer}).status_code == 401, "it is revoked"
    )

    assert "there is a user alice" in vedette(data, "user", "add", "alice", stdin=PASSWORD + "\n", check=False)
    assert "10 to 1024 characters" in vedette(data, "user", "add", "bob", stdin="short\n", check=False)
    assert "admin" in vedette(data, "user", "list")
    for words in (("token", "create", "x"), ("user", "add", "x"), ("user", "change", "alice")):
        refused = vedette(data, *words, "--tenant", "acme", stdin=PASSWORD + "\n", check=False)
        assert "there is no tenant acme (vedette tenant add acme" in refused
    vedette(data, "tenant", "add", "acme", "--title", "Acme Ltd")
    assert vedette(data, "token", "create", "x", "--tenant", "acme").startswith("vdt_")
    vedette(data, "token", "revoke", vedette(data, "token", "list").splitlines()[-1].split()[0])
    assert "Acme Ltd" in vedette(data, "tenant", "list")
    vedette(data, "user", "change", "alice", "--disable")
    vedette(data, "user", "remove", "alice")
    tools.eventually(lambda: server.get("/api/v1/query", query="1").status_code == 200, "the last user is gone")


def test_a_revoked_key_is_out_at_once_on_every_listener(launch: Any, tools: Any) -> None:
    ports = {name: launch.free_port() for name in ("botserver", "xscore")}
    listens = [word for name, port in ports.items() for word in ("--listen", f"{name}={port}")]
    server = launch.vedette(*listens, env=tools.environment(API_KEY="root-key", VEDETTE_HOST_ENABLED="false"))
    root = {"Authorization": "Bearer root-key"}
    made = server.post("/api/v1/access/keys", json={"name": "push", "role": "admin"}, headers=root).json()["data"]
    paths = {
        f"{server.url}/api/v1/query?query=1",
        f"{server.url}/api/v1/labels",
        f"http://127.0.0.1:{ports['botserver']}/api/v1/monitoring/metrics",
        f"http://127.0.0.1:{ports['xscore']}/api/metrics",
    }

    def statuses() -> set[int]:
        return {server.client.get(path, headers={"X-API-Key": made["key"]}).status_code for path in paths}

    assert statuses() == {200}
    assert statuses() == {200}, "remembered by now"
    revoked = server.client.delete(f"{server.url}/api/v1/access/keys/{made['id']}", headers=root)
    assert revoked.status_code == 200
    assert statuses() == {401}


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_path.write_bytes(key.private_bytes(*form))
    return cert_path, key_path


def test_tls_and_its_renewal(launch: Any, tools: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "first")
    tls = {"VEDETTE_SERVER_TLS_CERT_FILE": str(cert), "VEDETTE_SERVER_TLS_KEY_FILE": str(key)}
    server = launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false", **tls), ca=cert)
    assert server.url.startswith("https://")
    assert server.client.get(server.url + "/health").status_code == 200
    with pytest.raises(httpx.TransportError):
        patient.get(server.url.replace("https", "http") + "/health")
    certificate(tmp_path, "second")
    server.popen.send_signal(1)

    def renewed() -> bool:
        context = ssl.create_default_context(cafile=str(cert))
        return patient.get(server.url + "/health", verify=context).status_code == 200

    tools.eventually(renewed, "new connections see the new certificate")


def test_clients_must_show_a_certificate_where_that_is_asked(launch: Any, tools: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    folders = {name: tmp_path / name for name in ("friend", "stranger")}
    for folder in folders.values():
        folder.mkdir()
    shown = {name: certificate(folder, name) for name, folder in folders.items()}

    def context(name: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(cert))
        if name:
            made.load_cert_chain(*shown[name])
        return made

    tls = {"CERT_FILE": str(cert), "KEY_FILE": str(key), "CLIENT_CA_FILE": str(shown["friend"][0])}
    env = tools.environment(VEDETTE_HOST_ENABLED="false", **{f"VEDETTE_SERVER_TLS_{name}": value for name, value in tls.items()})
    server = launch.vedette(env=env, ca=context("friend"))
    assert server.get("/api/v1/query", query="1").status_code == 200
    for name in ("", "stranger"):
        with httpx.Client(verify=context(name), timeout=patient.SECONDS) as client, pytest.raises(httpx.TransportError):
            client.get(server.url + "/health")
    assert server.get("/health").status_code == 200


def test_a_certificate_that_is_no_good_is_one_line(launch: Any, tools: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing of the kind")
    command = [sys.executable, "-m", "vedette", "serve", "--port", str(launch.free_port()), "--data", str(tmp_path / "d")]
    env = tools.environment(VEDETTE_SERVER_TLS_CERT_FILE=str(bad), VEDETTE_SERVER_TLS_KEY_FILE=str(bad))
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=patient.SECONDS, check=False)
    assert done.returncode == 2
    assert "server.tls_cert_file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    alone = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=tools.environment(VEDETTE_SERVER_TLS_CERT_FILE=str(bad)),
        timeout=patient.SECONDS,
        check=False,
    )
    assert alone.returncode == 2
    assert "tls_key_file" in alone.stderr
