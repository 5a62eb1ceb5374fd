"""Which addresses are public, and how a URL looks in a log."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from vedette.errors import Undeliverable

if TYPE_CHECKING:
    import httpx


def redacted_url(url: httpx.URL | str, *, hide_path: bool = False) -> str:
    """A URL fit for logs: without its password, and without path and query where those are secrets (webhooks)."""
    # Here, and not above: what only checks addresses needs no client.
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return "<invalid URL>"
    if parsed.password:
        parsed = parsed.copy_with(userinfo=parsed.username.encode() + b":xxxxx")
    if hide_path and parsed.raw_path not in (b"/", b""):
        parsed = parsed.copy_with(raw_path=b"/<secret>", fragment=None)
        return str(parsed).replace("%3Csecret%3E", "<secret>")
    return str(parsed)


async def public_address(url: httpx.URL) -> str:
    """An address of the URL's host, all of whose addresses are public. Raises `Undeliverable` (dns, address)."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Undeliverable(f"the host name {url.host} cannot be resolved: {error}", reason="dns", retryable=True) from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            problem = f"{url.host} is not a public address"
            raise Undeliverable(problem, reason="address", retryable=False)
    if not addresses:
        raise Undeliverable(f"the host name {url.host} has no address", reason="dns", retryable=True)
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, whatever IPv6 form hides an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in ipaddress.ip_network("64:ff9b::/96"):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
    return ip.is_global and not ip.is_multicast
