"""What a caller may do."""

from cds_hooks.protocol.caller import ANONYMOUS, Caller


def test_services_are_all_or_those_named() -> None:
    assert ANONYMOUS.may_call("any")
    some = Caller("hospital-a", services=frozenset({"this"}))
    assert some.may_call("this")
    assert not some.may_call("that")
    assert not Caller("hospital-a", services=frozenset()).may_call("this")
