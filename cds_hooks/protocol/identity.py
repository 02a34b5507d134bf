"""Random UUIDs by the handful: each reading of the system's randomness is a call to the kernel, each answer needs some.

    new_uuid() -> "3f2b…", version 4 (RFC 9562), as unpredictable as uuid.uuid4
"""

from __future__ import annotations

import os
import threading
from typing import Final

_SIZE: Final = 16
_HANDFUL: Final = 64 * _SIZE
#: The two leading bits of the variant (RFC 9562 section 4.1): any hex digit to one of 8, 9, a, b.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


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
    text = _store.take().hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"
