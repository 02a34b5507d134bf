"""The one shape of errors, asserted wherever something fails."""

import json
from typing import Any, cast

from werkzeug.test import TestResponse

SEVERITIES = {"error", "fatal"}


def assert_problem(response: TestResponse, status: int, origin: str | None = "*") -> dict[str, Any]:
    """Assert an OperationOutcome with this status, and all headers of an answer; return its first issue.

    `origin` is the web page that may read it."""
    assert response.status_code == status
    assert response.mimetype == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers.get("Access-Control-Allow-Origin") == origin
    assert response.headers["X-Request-ID"]
    body = json.loads(response.data)
    assert body["resourceType"] == "OperationOutcome"
    assert body["issue"]
    for issue in body["issue"]:
        assert issue["severity"] in SEVERITIES
        assert issue["code"]
        assert len(issue["diagnostics"]) >= 15
        assert all(issue.values())
    text = response.get_data(as_text=True)
    assert "Traceback" not in text
    assert ".py" not in text
    return cast(dict[str, Any], body["issue"][0])
