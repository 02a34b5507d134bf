"""What can go wrong, as a small tree: a caller's mistake, a fault in the content, a store that is down.

    CdsHooksError
    ├── Rejected        the request cannot be served; carries what the caller may safely be told
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
