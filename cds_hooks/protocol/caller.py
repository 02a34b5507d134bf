"""Who calls: what the rest of the house may know of a client, once it is known to be that client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the settings, speaking for one tenant. Holds no token and no claim beyond these."""

    #: The client's name in the settings, never a string that it chose; empty for the anonymous caller.
    name: str = ""
    #: The tenant that its token named, printable and at most 256 characters; None if it named none.
    tenant: str | None = None
    #: Ids of the services it may call; None for all.
    services: frozenset[str] | None = None
    #: FHIR base URLs it may name; None for whatever `[fhir] allowed` says, which is for development.
    fhir_servers: tuple[str, ...] | None = None

    def may_call(self, service_id: str) -> bool:
        """Whether the settings let this caller use the service."""
        return self.services is None or service_id in self.services


@dataclass(frozen=True, slots=True)
class Admission:
    """A caller who was let in, and in which ways less surely than usual: "stale-keys", "replay-guard-local"."""

    caller: Caller
    notes: tuple[str, ...] = ()


#: Whoever calls a server without clients in its settings: a server for development, on loopback.
ANONYMOUS: Final = Caller()
