"""Answers made of bytes that are ready to be sent."""

from __future__ import annotations

from typing import Any

from flask import Response
from werkzeug.datastructures import Headers


class Reply(Response):
    """An answer whose headers go out as they are. Never a redirect, never a status without a body.

    Werkzeug would copy them, look for locations to complete and measure the body once more, in each call.
    """

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """The headers; `Content-Length` is among them since the body was set."""
        return self.headers


def json_reply(body: bytes, status: int = 200) -> Reply:
    """An answer that holds JSON."""
    return Reply(body, status, content_type="application/json")
