"""Random UUIDs by the handful: each reading of the system's randomness is a call to the kernel, each answer needs some.

    new_uuid() -> "3f2b…", version 4 (RFC 9562), as unpredictable as uuid.uuid4
"""

from __future__ import annotations

import os
import threading
import uuid
from typing import Final

_SIZE: Final = 16
_HANDFUL: Final = 64 * _SIZE


class _Store(threading.local):
    """Random bytes of one thread, each used once."""

    def __init__(self) -> None:
        self.left = b""

    def take(self) -> bytes:
        if not self.left:
            self.left = os.urandom(_HANDFUL)
        taken, self.left = self.left[:_SIZE], self.left[_SIZE:]
        return taken


_store = _Store()


def _forget() -> None:
    """A child process must not give out what its parent has: start anew."""
    global _store
    _store = _Store()


os.register_at_fork(after_in_child=_forget)


def new_uuid() -> str:
    """A new random UUID in lower case."""
    return str(uuid.UUID(bytes=_store.take(), version=4))
