"""UUIDs: well-formed, never twice, also over threads and after a fork."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cds_hooks.protocol.identity import new_uuid


def test_well_formed_and_random() -> None:
    made = [uuid.UUID(new_uuid()) for _ in range(1000)]
    assert {one.version for one in made} == {4}
    assert {one.variant for one in made} == {uuid.RFC_4122}
    assert len(set(made)) == 1000


def test_no_thread_gives_what_another_gave() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_uuid(), range(8000)))
    assert len(set(made)) == 8000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_repeat_its_parent() -> None:
    new_uuid()
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sink, "".join(new_uuid() for _ in range(70)).encode())
        os._exit(0)
    os.close(sink)
    told = b""
    while block := os.read(source, 4096):
        told += block
    os.close(source)
    os.waitpid(child, 0)
    theirs = {told[start : start + 36].decode() for start in range(0, len(told), 36)}
    assert len(theirs) == 70
    assert theirs.isdisjoint(new_uuid() for _ in range(70))
