"""One GET to a FHIR server: bounded in time and size, tried again where that helps, and never raising.

`requests` bounds only the wait for each read from the socket, so a server that sends a byte now and then holds a call
as long as it likes, in the headers as well as in the body. Here the time left applies to the answer as a whole: the
socket is given a shorter timeout before each read (`_Clocked`).

Not bounded: resolving a name. Whoever waits for a call has to stop waiting at its own deadline.
"""

from __future__ import annotations

import http.client
import io
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util.connection import create_connection

from cds_hooks import __version__
from cds_hooks.chart.resolving import Resolver, Unreachable

_BLOCK = 65536  # bytes per read
_BACKOFF = 0.05  # seconds before the second attempt, doubled before each further one
_PASSING = frozenset({429, 502, 503, 504})  # states of a server that may be over in a moment
_TOKEN = re.compile(r"[!-~]+", re.ASCII)  # visible ASCII: nothing that could end or split the header


@dataclass(frozen=True, slots=True)
class Answer:
    """What one GET brought: a JSON document, or a problem in a few words without URL, id or token."""

    document: Any = None
    problem: str | None = None
    #: Seconds to wait at least before another attempt makes sense; None if none does.
    again_after: float | None = None


class Transport:
    """Sends GETs through one pool of connections. Safe to use from many threads; nothing changes after creation."""

    def __init__(
        self,
        *,
        max_bytes: int,
        attempts: int,
        pool: int,
        clock: Callable[[], float],
        accept: str = "application/fhir+json",
        resolver: Resolver | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """Set limits: decoded bytes per answer, attempts per GET, connections kept per server; clock in seconds.

        `ca_file` holds the certificates (PEM) of the authorities to trust instead of the public ones.
        """
        self._max_bytes = max_bytes
        self._attempts = attempts
        self._clock = clock
        self._session = _session(pool, accept, resolver or Resolver())
        self._session.verify = True if ca_file is None else str(ca_file)
        # Below this level urllib3 writes URLs, and with them identifiers of patients, to the log.
        logging.getLogger("urllib3").setLevel(logging.ERROR)

    def get(
        self, url: str, token: str | None, deadline: float, pass_on: Mapping[str, str] = MappingProxyType({})
    ) -> Answer:
        """GET a JSON document. Token and headers go to whatever the URL names: the caller has checked that."""
        if token is not None and not _TOKEN.fullmatch(token):
            return Answer(problem="bad token")
        headers = dict(pass_on) if token is None else {**pass_on, "Authorization": f"Bearer {token}"}
        answer = self._once(url, headers, deadline)
        for attempt in range(1, self._attempts):
            pause = self._pause(attempt, answer.again_after, deadline)
            if pause is None:
                break
            time.sleep(pause)
            answer = self._once(url, headers, deadline)
        return answer

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._session.close()

    def _pause(self, attempt: int, wish: float | None, deadline: float) -> float | None:
        """Seconds to wait before the next attempt, None for no more: a wish beyond the deadline is not heeded."""
        left = deadline - self._clock()
        short: float = _BACKOFF * 2 ** (attempt - 1)
        if wish is None or left <= short:
            return None
        return wish if short < wish < left else short

    def _once(self, url: str, headers: dict[str, str], deadline: float) -> Answer:
        left = deadline - self._clock()
        if left <= 0:
            return Answer(problem="timeout")
        limit: Any = Timeout(total=left)  # passed through to urllib3; the types of requests know numbers only
        try:
            with self._session.get(url, headers=headers, timeout=limit, stream=True, allow_redirects=False) as response:
                return self._read(response, deadline)
        except (requests.RequestException, HTTPError, OSError) as error:
            return Answer(problem=_problem(error), again_after=0.0 if _hung_up(error) else None)

    def _read(self, response: requests.Response, deadline: float) -> Answer:
        status = response.status_code
        if 300 <= status < 400:
            return Answer(problem="redirect")
        if status != 200:
            wait = _seconds(response.headers.get("Retry-After")) if status in _PASSING else None
            return Answer(problem=f"status {status}", again_after=wait)
        body = bytearray()
        while block := response.raw.read1(_BLOCK, decode_content=True):
            body += block
            if len(body) > self._max_bytes:
                return Answer(problem="too large")
            if self._clock() >= deadline:
                return Answer(problem="timeout")
        return _parsed(bytes(body))


def _parsed(body: bytes) -> Answer:
    try:
        return Answer(orjson.loads(body))
    except orjson.JSONDecodeError:  # also for bad UTF-8, NaN and more than 1,024 levels
        return Answer(problem="not JSON")


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After header; 0 if there is none or it is a date."""
    return float(retry_after) if retry_after and re.fullmatch(r"[0-9]{1,9}", retry_after, re.ASCII) else 0.0


def _cause(error: Exception) -> object:
    """What requests has wrapped, or the error itself."""
    return error.args[0] if isinstance(error, requests.ConnectionError) and error.args else error


def _problem(error: Exception) -> str:
    """A failure in a few words. The text of the error is not used: it holds the URL."""
    if isinstance(error, requests.Timeout | ReadTimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS error"
    if isinstance(getattr(_cause(error), "reason", None), _Private):
        return "private address"
    broken = isinstance(_cause(error), ProtocolError | DecodeError | requests.exceptions.InvalidHeader)
    return "broken off" if broken else "unreachable"


def _hung_up(error: Exception) -> bool:
    """Whether the connection ended before the answer began, as kept connections do when a server tires of them."""
    cause = _cause(error)
    return cause is not error and isinstance(cause, ProtocolError) and isinstance(cause.args[-1], ConnectionError)


# --- requests and urllib3, made to keep to the rules ---------------------------------------------------------------


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Never see a redirect: even with allow_redirects=False requests would read its whole body, without limit."""
        return None


def _session(pool: int, accept: str, resolver: Resolver) -> requests.Session:
    """A session without proxies and netrc (trust_env), cookies, own retries and redirects."""
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update({"Accept": accept, "Accept-Encoding": "gzip", "User-Agent": f"cds-hooks/{__version__}"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(resolver, pool_connections=pool, pool_maxsize=pool, max_retries=0))
    return session


class _Clocked(io.RawIOBase):
    """The reading side of a socket whose timeout, as found at creation, is the time left for all reads together."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        limit = sock.gettimeout()
        self._end = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read what is there into the buffer; raises TimeoutError once the time is up."""
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        """Close this and the socket's own reader, which lets the socket go."""
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that has to arrive, headers and body, within the timeout that the socket has when it begins."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Clocked(sock, self.fp.detach()))


class _Private(NewConnectionError):
    """The name leads to where it may not lead."""


class _Pinned(HTTPConnection):
    """A connection to an address that was checked, not to whatever the name leads to when it is looked up again."""

    response_class = _Response
    resolver: Resolver

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that takes the call, within the timeout for all of them together."""
        limit = self.timeout if isinstance(self.timeout, int | float) else None
        end = None if limit is None else time.monotonic() + limit
        try:
            addresses = self.resolver.addresses(self.host, self.port)
        except Unreachable:
            raise _Private(self, "a private address") from None
        except (OSError, UnicodeError):
            raise NewConnectionError(self, "no such name") from None
        failed: OSError = TimeoutError()
        for address in addresses:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                return create_connection((address, self.port), left, self.source_address, self.socket_options)
            except OSError as error:
                failed = error
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, "timed out") from None
        raise NewConnectionError(self, "refused") from None


class _PinnedTls(_Pinned, HTTPSConnection):
    """The same with TLS: the certificate is that of the name, wherever it leads."""


class _Adapter(HTTPAdapter):
    def __init__(self, resolver: Resolver, **settings: Any) -> None:
        self._resolver = resolver
        super().__init__(**settings)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        mine = {"resolver": self._resolver}  # urllib3 makes connections from a class, so it is the class that knows
        plain, tls = type("_Http", (_Pinned,), mine), type("_Https", (_PinnedTls,), mine)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("_HttpPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }
