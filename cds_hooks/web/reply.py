"""Answers made of bytes that are ready to be sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Response


class Reply(Response):
    """An answer whose headers go out as they are. Never a redirect, never a status without a body.

    Werkzeug would copy them, look for locations to complete and measure the body once more, in each call.
    """

    #: What every answer carries (see headers.Stamp), added as it is: our own words and a checked request id.
    stamped: list[tuple[str, str]] = []  # noqa: RUF012 - replaced as a whole

    def get_wsgi_response(self, environ: dict[str, Any]) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Body, status and headers; `Content-Length` is among them since the body was set."""
        return self.get_app_iter(environ), self.status, [*self.headers, *self.stamped]


def json_reply(body: bytes, status: int = 200) -> Reply:
    """An answer that holds JSON."""
    return Reply(body, status, content_type="application/json")
