"""What counts as the URL of a server."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

# RFC 3986 characters less "?", "#" and "@": no query, fragment or user; and no blank, control character or backslash,
# which URL parsers disagree about. urlsplit itself drops line breaks silently, so this has to come first.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/\[\]!$&'()*+,;=%]{1,2000}")
_QUERY = re.compile(r"[A-Za-z0-9\-._~:/?!$&'()*+,;=%]{0,2000}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9\-_.]{0,251}[A-Za-z0-9_])?")


def base_url(text: str) -> str:
    """Return a plain absolute http(s) URL without its trailing slashes; raise ValueError saying what is wrong."""
    return _checked(text).rstrip("/")


def plain_url(text: str) -> str:
    """Return an absolute http(s) URL as it is, perhaps with a query; raise ValueError saying what is wrong."""
    base, mark, query = text.partition("?")
    if mark and not _QUERY.fullmatch(query):
        raise ValueError("must be a plain URL, without user, fragment, blanks or control characters")
    _checked(base)
    return text


def stays_here(url: str) -> bool:
    """Whether the host of a checked URL is localhost or a loopback address: what is sent there stays here."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host, with or without the brackets of an IPv6 address, is localhost or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _checked(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise ValueError("must be a plain URL, without user, query, fragment, blanks or control characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must be an absolute URL with a valid host and port") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must be an absolute URL that begins with https:// or http://")
    if port == 0 or not _valid_host(parts):
        raise ValueError("must be an absolute URL with a valid host and port")
    if any(step in (".", "..") for step in parts.path.lower().replace("%2e", ".").split("/")):
        raise ValueError("must be a URL whose path has no dot segments")
    return text


def _valid_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if not parts.netloc.startswith("["):
        return bool(_HOST.fullmatch(host))
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
