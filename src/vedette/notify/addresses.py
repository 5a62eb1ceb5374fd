"""The addresses that settings name: URLs, and mail servers with the TLS that is asked of them."""

from __future__ import annotations

from vedette.errors import BadInput

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_SMTP_PORT = 25


def parse_url(text: str) -> str:
    """An http or https URL. What Alertmanager prints for a secret passes, so that its output can be read again."""
    if text and text != "<secret>" and not text.startswith(("http://", "https://")):
        raise BadInput("unsupported scheme for URL", hint="expected http:// or https://")
    return text


def split_smarthost(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; the port is 25 where there is none. Raises `BadInput`."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, _SMTP_PORT
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"not an address: {text}", hint="expected host:port")
    return host.strip("[]"), int(port)


def parse_smarthost(text: str) -> str:
    """`host:port` as `alertmanager.yml` has it, where the port must stand. Raises `BadInput`."""
    if text and ":" not in text:
        raise BadInput(f"address {text}: missing port in address", hint="expected host:port, such as smtp.example.org:587")
    split_smarthost(text or "none:25")
    return text


def needs_tls(host: str, port: int) -> bool:
    """Whether TLS is asked for where nobody says: not on port 25, where relays of one's own house listen, nor on this machine."""
    return port != _SMTP_PORT and host not in LOOPBACK
