"""The yardstick: a Flask application that parses the body with orjson and answers one constant card."""

from __future__ import annotations

import time

import orjson
from flask import Flask, Response, request

CARD = {
    "uuid": "0e0f1a52-6c7c-4b7e-9d3e-5b6a4f3c2d10",
    "summary": "A constant card",
    "indicator": "info",
    "detail": "It says the same to everyone.",
    "source": {"label": "Benchmark"},
}
SERVICE = {
    "hook": "patient-view",
    "id": "bare",
    "title": "Bare",
    "description": "Answers a constant card",
    "prefetch": {},
}


def create_app() -> Flask:
    """Return the application. Takes no settings, so that it can be served as a factory."""
    app = Flask(__name__)

    @app.get("/health/ready")
    def ready() -> Response:
        return answer({"status": "ready"})

    @app.get("/cds-services")
    def discovery() -> Response:
        return answer({"services": [SERVICE]})

    @app.post("/cds-services/<service>")
    def call(service: str) -> Response:
        try:
            body = orjson.loads(request.get_data(cache=False))
        except orjson.JSONDecodeError:
            return answer({"cards": []}, 400)
        if "fhirServer" in body:  # stands for the wait for an EHR
            time.sleep(0.3)
        return answer({"cards": [CARD]})

    return app


def answer(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, mimetype="application/json")
