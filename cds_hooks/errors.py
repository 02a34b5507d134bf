"""What can go wrong, as a small tree: a caller's mistake, a fault in the content, a store that is down.

    CdsHooksError
    ├── Rejected        the request cannot be served; carries what the caller may safely be told
    │   └── Unauthorized    nor does the caller hear why: it did not show who it is, or may not do this
    ├── StorageError    what must be remembered can be neither read nor written
    └── ContentError    a plan, value set, template or case is broken; points at file and element
"""

from __future__ import annotations


class CdsHooksError(Exception):
    """Base of every error that this package raises on purpose."""


class Rejected(CdsHooksError):
    """The request cannot be served: `status` is the HTTP status, the rest becomes an OperationOutcome issue."""

    def __init__(
        self, diagnostics: str, *, status: int = 400, code: str = "invalid", expression: tuple[str, ...] = ()
    ) -> None:
        super().__init__(diagnostics)
        #: Plain words for the caller, free of patient data, tokens and internals.
        self.diagnostics = diagnostics
        #: HTTP status, always 4xx or 503.
        self.status = status
        #: Code of the FHIR value set issue-type (R4 OperationOutcome.issue.code).
        self.code = code
        #: Where in the request, as dotted paths (`context.patientId`).
        self.expression = expression


class Unauthorized(Rejected):
    """The caller has not shown who it is (401), or may not do what it asks (403).

    What it is told is the same whatever was wrong, so that it learns nothing by trying.
    """

    def __init__(self, reason: str, client: str = "", *, status: int = 401) -> None:
        known = status == 403
        super().__init__(
            "This client may not use this service." if known else "A valid token of a known client is needed.",
            status=status, code="forbidden" if known else "login",
        )  # fmt: skip
        #: What was wrong, as one of a few fixed words of ours, for the log and the counters.
        self.reason = reason
        #: The name of the client in the settings that the token claims to be of; empty if of none.
        self.client = client


class StorageError(CdsHooksError):
    """The store is down or full. Its text is for the log: no stored value, no address of a database."""


class ContentError(CdsHooksError):
    """A piece of content is broken. Stops lint, test and start-up."""

    def __init__(self, file: str, element: str, reason: str) -> None:
        super().__init__(f"{file}: {element}: {reason}" if element else f"{file}: {reason}")
        #: Path of the file, relative to the content folder.
        self.file = file
        #: Which element in it (`action[rule-id].condition[0]`).
        self.element = element
        #: What is wrong, in one sentence.
        self.reason = reason
