"""Which FHIR servers may be called, and which URLs are theirs. No input or output happens here.

A FHIR base URL comes from the caller of a hook, and a next link from whatever answered: both are hostile until
proven plain. So a URL is never repaired. It is taken apart by one strict pattern, and what is sent later is put
together again from the parts that were checked; nothing that another parser might read differently survives.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urljoin

_LONGEST = 8192  # characters of a URL; opaque paging tokens run to a few thousand
_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL = re.compile(
    rf"(https?)://(\[[0-9a-f:.]{{2,45}}\]|{_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?(/[^?#]*)?(?:\?([^#]*))?",
    re.IGNORECASE | re.ASCII,
)
_PATH = re.compile(r"(?!//)(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*", re.ASCII)
# Dot segments, also with a path parameter ("..;x"), and encodings that a server may decode into a separator or a dot.
_STEPS = re.compile(r"/\.{1,2}(?:[/;]|$)|%(?:2e|2f|5c|25|3b)", re.IGNORECASE | re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]|%(?![0-9A-Fa-f]{2})", re.ASCII)
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)  # as last label: some resolvers read the host as IPv4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def encoded(query: str) -> str:
    """Percent-encode what is unsafe in a query, as UTF-8, and leave what is encoded already as it is.

    `|`, spaces, brackets, quotes, control and non-ASCII characters are encoded, and a `%` that starts no encoding.
    `+`, `&`, `=` and `,` mean something and stay.
    """
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="replace"), query)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A URL taken apart: lower-case scheme and host (IPv6 in brackets), port as a number, path, query without `?`."""

    scheme: str
    host: str
    port: int
    path: str
    query: str


def _parts(url: str) -> _Parts | None:
    """Take an absolute URL apart; None if it is anything but a plain http or https URL.

    No user information, fragment, backslash, control character, dot segment, trailing dot of the host, and no IPv4
    address in other than its usual form.
    """
    found = _URL.fullmatch(url) if len(url) <= _LONGEST else None
    if found is None:
        return None
    scheme, host, path = found[1].lower(), _host(found[2].lower()), found[4] or ""
    port = int(found[3]) if found[3] else _PORTS[scheme]
    if host is None or not 0 < port < 65536 or _STEPS.search(path) or not _PATH.fullmatch(path):
        return None
    return _Parts(scheme, host, port, path, found[5] or "")


def _host(host: str) -> str | None:
    """The host in its one canonical form; None for addresses that are none, or IPv4 in the clothes of IPv6."""
    try:
        if host.startswith("["):
            address = ipaddress.IPv6Address(host[1:-1])
            return None if address.ipv4_mapped else f"[{address}]"
        return str(ipaddress.IPv4Address(host)) if _NUMERIC.fullmatch(host.rpartition(".")[2]) else host
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The base URL of a FHIR server in canonical form: what its own URLs begin with."""

    scheme: str
    host: str
    port: int
    #: Empty or `/path`, never with a slash at its end.
    path: str

    @classmethod
    def parse(cls, text: str) -> BaseUrl | None:
        """Read a base URL, with or without slashes at its end; None if it is no plain http or https base URL."""
        parts = _parts(text.rstrip("/"))
        if parts is None or "?" in text:
            return None
        return cls(parts.scheme, parts.host, parts.port, parts.path)

    def __str__(self) -> str:
        """The URL without a slash at its end."""
        return self.origin + self.path

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`, the port only where it is not the scheme's own."""
        return f"{self.scheme}://{self.host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def address(self) -> Address | None:
        """The host as an IP address if it is one."""
        try:
            return ipaddress.ip_address(self.host.strip("[]"))
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine: 127.0.0.0/8, ::1 or the name localhost."""
        return self.host == "localhost" or (self.address is not None and self.address.is_loopback)

    def covers(self, other: BaseUrl) -> bool:
        """Whether the other URL has the same scheme, host and port, and this path or one below it."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and f"{other.path}/".startswith(f"{self.path}/")

    def resolve(self, link: str) -> str | None:
        """The absolute URL of a link (absolute, or relative to this base), encoded; None if it is not below the base.

        `Condition?patient=1`, `?_getpages=…` and `http://host/fhir?_getpages=…` are below `http://host/fhir`;
        `/Condition`, `../x` and `http://host/fhir-other` are not.
        """
        head, _, query = link.partition("?")
        if not link or "\\" in head or not head.isprintable() or " " in head:
            return None
        try:
            parts = _parts(urljoin(f"{self.origin}{self.path}/", f"{head}?{encoded(query)}" if query else head))
        except ValueError:  # urljoin on a broken IPv6 host
            return None
        if parts is None or not self.covers(BaseUrl(parts.scheme, parts.host, parts.port, parts.path)):
            return None
        return self.origin + parts.path + (f"?{parts.query}" if parts.query else "")


class AllowList:
    """The FHIR servers that may be called.

    Judges what is written in the URL. What its name leads to is judged when a connection is made (`resolving`).
    """

    def __init__(self, bases: Iterable[str] = (), *, here: bool = True) -> None:
        """Take the FHIR base URLs from the settings; none at all means this machine only, any port and path.
        Without `here` none means none.

        Raises ValueError if one of them is no plain http or https base URL.
        """
        self._bases = tuple(_listed(base) for base in bases)
        self._here = here and not self._bases

    def refusal(self, base: str) -> str | None:
        """Why this base URL may not be called, in plain words that do not repeat it; None if it may."""
        asked = BaseUrl.parse(base)
        if asked is None:
            return "not a plain http or https base URL"
        if asked.scheme == "http" and not asked.loopback:
            return "plain http to another machine"
        if any(listed.covers(asked) for listed in self._bases) or (asked.loopback and self._here):
            return None
        if asked.address is not None and not asked.address.is_global:
            return "an address that is not public, and not on the list of FHIR servers"
        return "not an address of this machine" if self._here else "not on the list of FHIR servers"

    def name(self, base: str) -> str:
        """The entry of the list that covers a base URL, "other" if none does: a word that no caller chose."""
        asked = BaseUrl.parse(base)
        return next((str(listed) for listed in self._bases if asked and listed.covers(asked)), "other")


def _listed(base: str) -> BaseUrl:
    parsed = BaseUrl.parse(base)
    if parsed is None:
        raise ValueError(f"{base!r} is not a plain http or https base URL")
    return parsed
