"""The key of the hashes: without it, nobody can tell from the database whether a patient is in it."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from cds_hooks.errors import ContentError

NAME: Final = "store.key"
_LEAST: Final = 32  # characters


class Key:
    """Makes keyed hashes (HMAC-SHA-256, cut to 128 bits) of words."""

    def __init__(self, secret: str) -> None:
        # A copy of it costs a fifth of what it costs to begin anew.
        self._begun: Final = hmac.new(secret.encode(), digestmod="sha256")

    def fingerprint(self, kind: str, *words: str) -> str:
        """32 hex digits. Lengths stand before the words, so that no two lists of words are written alike."""
        told = "".join(f"{len(word)}:{word}" for word in (kind, *words))
        mark = self._begun.copy()
        mark.update(told.encode("utf-8", "surrogatepass"))
        return mark.hexdigest()[:32]


def read_key(path: Path) -> Key:
    """The key in a file; raises ContentError if there is none that is long enough."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ContentError(str(path), "storage.key_file", f"cannot be read: {reason}") from None
    return checked(text, str(path), "storage.key_file")


def checked(text: str, where: str, element: str) -> Key:
    """The key of a text; raises ContentError if it is too short to be a secret."""
    if len(text) < _LEAST:
        reason = f"the key must have {_LEAST} characters or more; `openssl rand -hex 32` makes one"
        raise ContentError(where, element, reason)
    return Key(text)


def own_key(folder: Path) -> Key:
    """The key in the data folder, made there the first time, for this user's eyes only.

    Of several processes that make one at the same moment, one wins and the others read its key. Raises ContentError.
    """
    path = folder / NAME
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=folder, prefix=NAME)  # mode 0600
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_hex(32) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, path)  # fails if the name is taken: a key is never overwritten
            except FileExistsError:
                pass
            finally:
                os.unlink(draft)
        except OSError as error:
            raise ContentError(str(path), "", f"the key cannot be written: {error.strerror or error}") from None
    return read_key(path)
