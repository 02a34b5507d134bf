"""FHIRPath with a third truth value: the tables, the strict parse, and what happens on odd data."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_logic import COLOURS, NOW, SYSTEM, UNREADABLE, Call, collected, colour, compiler, judged

from cds_hooks.reasoning.fhirpath import ExpressionError, names_in, parse
from cds_hooks.reasoning.nodes import Collection, Verdict

T, F, U = True, False, None
NAMES = {T: "%t", F: "%f", U: "%u"}
RED, BLUE = {"code": colour("red"), "n": 1}, {"code": colour("blue"), "n": 2}
OPEN = {"code": colour("red"), "when": "2025"}  # `within` cannot tell
CALL = Call({
    "t": Collection([True]), "f": Collection([False]), "u": Collection([], complete=False), "none": Collection([]),
    "two": Collection([RED, BLUE]), "some": Collection([RED, BLUE], complete=False),
    "red": Collection([RED]), "someRed": Collection([RED], complete=False),
    "resources": Collection([{"resourceType": "Observation", "id": "o"}, {"resourceType": "Device", "id": "d"}]),
    "mixed": Collection([RED | {"when": "2026-11-20"}, OPEN]), "open": Collection([OPEN]),
})  # fmt: skip
IS_WARM, IS_COLD = "code.memberOf(%`vs-warm`)", "code.memberOf(%`vs-cold`)"
RECENT = "when.within(%span)"
CALL.constants = {**CALL.constants, "span": {"value": 12, "code": "mo"}}


def verdict(text: str) -> Verdict:
    return judged(text, CALL)


# --- Tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "table"),
    [  # rows: left true, false, unknown; columns: right true, false, unknown
        ("and", [[T, F, U], [F, F, F], [U, F, U]]),
        ("or", [[T, T, T], [T, F, U], [T, U, U]]),
        ("xor", [[F, T, U], [T, F, U], [U, U, U]]),
        ("implies", [[T, F, U], [T, T, T], [T, U, U]]),
    ],
)
def test_operators(operator: str, table: list[list[Verdict]]) -> None:
    found = [[verdict(f"{NAMES[left]} {operator} {NAMES[right]}") for right in (T, F, U)] for left in (T, F, U)]
    assert found == table


@pytest.mark.parametrize(("value", "expected"), [(T, F), (F, T), (U, U)])
def test_not(value: Verdict, expected: Verdict) -> None:
    assert verdict(f"{NAMES[value]}.not()") is expected


@pytest.mark.parametrize(
    ("criterion", "then", "otherwise", "expected"),
    [
        (T, T, F, T), (T, F, T, F), (F, T, F, F), (F, F, T, T), (T, U, F, U), (F, T, U, U),
        (U, T, F, F), (U, F, T, T),  # the branch for "not known true", as FHIRPath has it for an empty criterion
    ],
)  # fmt: skip
def test_iif(criterion: Verdict, then: Verdict, otherwise: Verdict, expected: Verdict) -> None:
    assert verdict(f"iif({NAMES[criterion]}, {NAMES[then]}, {NAMES[otherwise]})") is expected


def test_iif_without_otherwise_and_with_an_explicit_unknown() -> None:
    assert collected("iif(%t, 'a')", CALL) == Collection(["a"])
    assert collected("iif(%f, 'a')", CALL) == Collection([])
    assert verdict("iif(%f, true, {})") is None


def test_what_does_not_matter_is_not_read() -> None:
    call = Call(CALL.values)
    for text in ("%f and %u", "%t or %u", "iif(%t, true, %u)"):
        judged(text, call)
    assert "u" not in call.read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # collections that are whole
        ("%two.exists()", T),
        ("%none.exists()", F),
        ("%none.empty()", T),
        ("%two.empty()", F),
        (f"%two.exists({IS_WARM})", T),
        (f"%red.exists({IS_COLD})", F),
        (f"%two.all({IS_WARM})", F),
        (f"%red.all({IS_WARM})", T),
        (f"%none.all({IS_WARM})", T),
        # what may hold more
        ("%some.exists()", T),
        ("%u.exists()", U),
        ("%u.empty()", U),
        ("%some.empty()", F),
        (f"%some.exists({IS_WARM})", T),
        (f"%someRed.exists({IS_COLD})", U),
        (f"%someRed.where({IS_COLD}).empty()", U),
        (f"%some.all({IS_WARM})", F),
        (f"%someRed.all({IS_WARM})", U),
        (f"%u.all({IS_WARM})", U),
        ("%someRed.code.exists()", T),
        ("%someRed.nothing.exists()", U),
        ("%someRed.first().exists()", U),
        ("%someRed.count() = 1", U),
        # items for which the criterion cannot be decided
        (f"%mixed.exists({RECENT})", T),
        (f"%open.exists({RECENT})", U),
        (f"%open.where({RECENT}).empty()", U),
        (f"%mixed.where({RECENT}).empty()", F),
        (f"%mixed.all({RECENT})", U),
        (f"%open.where({RECENT} and {IS_COLD}).empty()", T),
        (f"%open.exists({RECENT} or {IS_WARM})", T),
        # … and what that leaves open: nothing but questions about these very items
        (f"%open.where({RECENT}).exists({IS_COLD})", F),
        (f"%open.where({RECENT}).exists({IS_WARM})", U),
        (f"%mixed.where({RECENT}).all({IS_WARM})", T),
        (f"%mixed.where({RECENT}).where({IS_COLD}).empty()", T),
        (f"%mixed.where({RECENT}).exists(n = 1)", T),
        (f"%mixed.where({RECENT}).exists(n = 2)", U),  # the other item has no n
        (f"%open.where({RECENT}).code.exists()", U),
        (f"%open.where({RECENT}).nothing.exists()", F),
        (f"%open.where({RECENT}).count() = 1", U),
        (f"%two.where({IS_WARM}).count() = 1", T),
        (f"%two.where({IS_WARM}).count() + 1 > %two.count()", F),
        (f"1 < %mixed.where({RECENT}).count()", U),
        (f"(%open.where({RECENT}) | %two).exists(n = 3)", U),
        (f"(%open.where({RECENT}) | %two).exists({IS_COLD} and n = 1)", F),
        (f"(%open.where({RECENT}) | %open).all({IS_WARM} or n = 3)", T),
        (f"(%open.where({RECENT}) | %u).exists({IS_COLD})", U),
        (f"%open.where({RECENT}).intersect(%open).exists({IS_COLD})", F),
        (f"%open.where({RECENT}).intersect(%open).exists({IS_WARM})", U),
        (f"%open.intersect(%open.where({RECENT})).exists()", U),
        (f"%red.intersect(%open.where({RECENT})).exists()", F),
        (f"%open.where({RECENT}).intersect(%u).exists({IS_COLD})", U),
        # set operations
        ("(%two | %none).exists()", T),
        ("(%none | %none).exists()", F),
        ("(%none | %u).exists()", U),
        ("(%red | %u).exists()", T),
        (f"(%red | %u).exists({IS_COLD})", U),
        ("%two.intersect(%red).exists()", T),
        ("%red.intersect(%none).exists()", F),
        ("%red.intersect(%u).exists()", U),
        ("%some.intersect(%red).exists()", T),
        ("%someRed.intersect(%none).empty()", U),
        # a leaf is unknown when a name in it is not whole
        ("%two.count() = 2", T),
        ("%two.count() > %u.count()", U),
        ("{}", U),
        # resources are of the type that they name, and of what it derives from
        ("%resources.ofType(Observation).count() = 1", T),
        ("%resources.ofType(FHIR.Device).exists()", T),
        ("%resources.ofType(DomainResource).count() = 2", T),
        ("%resources.ofType(Patient).exists()", F),
        # singleton evaluation
        ("%red", T),
        ("%two", U),
        ("%none", U),
    ],
)
def test_collections(text: str, expected: Verdict) -> None:
    assert verdict(text) is expected


@pytest.mark.parametrize(
    ("text", "items", "complete"),
    [
        (f"%two.where({IS_WARM})", [RED], True),
        (f"%some.where({IS_WARM})", [RED], False),
        (f"%mixed.where({RECENT})", [RED | {"when": "2026-11-20"}], False),
        ("%two.n", [1, 2], True),
        ("%some.n", [1, 2], False),
        ("%two | %red", [RED, BLUE], True),
        ("%some | %red", [RED, BLUE], False),
        ("%two.intersect(%some)", [RED, BLUE], False),
        ("%two.select(n)", [1, 2], True),
        ("%some.select(n)", [], False),
        ("%two.code.coding.code | 'green'", ["red", "blue", "green"], True),
    ],
)
def test_values(text: str, items: list[Any], complete: bool) -> None:
    assert collected(text, CALL) == Collection(items, complete)


# Else two problems of the same code would put that code twice into the reason of a new order.
def test_union_is_without_duplicates() -> None:
    twice = Call({"twice": Collection([RED, dict(RED, n=3)])})
    assert collected("%twice.code.coding.code | {}", twice).items == ["red"]
    assert collected("%twice.code.coding | {}", twice).items == [{"system": SYSTEM, "code": "red"}]


def test_the_same_content_in_two_resources_is_not_the_same_resource() -> None:
    one, two = ({**RED, "resourceType": "Basic"} for _ in range(2))
    call = Call({"one": Collection([one]), "two": Collection([two])})
    assert len(collected("%one | %two", call).items) == 2
    assert collected("%one.intersect(%two)", call).items == []


# --- Our own functions, on and without data -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "item", "expected"),
    [
        (IS_WARM, RED, T),
        (IS_WARM, BLUE, F),
        (IS_WARM, {}, F),  # nothing is a member of nothing; FHIR's memberOf() would give empty
        (RECENT, {"when": "2026-11"}, T),
        (RECENT, {"when": "2025"}, U),
        (RECENT, {}, U),
        (RECENT, {"when": {"a": "b"}}, U),
        ("when.after(then)", {"when": "2026", "then": "2025"}, T),
        ("when.after(then)", {"when": "2026"}, U),
        ("ref.resolve().exists()", {"ref": {"reference": "#c"}, "contained": [{"id": "c"}]}, T),
        ("ref.resolve().exists()", {"ref": {"reference": "#d"}, "contained": [{"id": "c"}]}, U),
        ("ref.resolve().exists()", {"ref": UNREADABLE}, U),
        ("ref.resolve().exists() or true", {"ref": UNREADABLE}, T),
        ("ref.resolve().exists()", {}, F),
    ],
)
@pytest.mark.parametrize("form", ["{}", "%item.exists({})"])  # on the current item, and below a named input
def test_own_functions(form: str, text: str, item: dict[str, Any], expected: Verdict) -> None:
    call = Call({"item": Collection([item])}, CALL.constants)
    assert judged(form.format(text), call, [item]) is expected


def test_translate_done_and_latest() -> None:
    old = {"resourceType": "Observation", "effectiveDateTime": "2020", "id": "old"}
    new = {"resourceType": "Observation", "effectivePeriod": {"start": "2025-01"}, "id": "new"}
    undated = {"resourceType": "Observation", "id": "undated"}
    call = Call({"all": Collection([undated, old, new]), "undated": Collection([undated]), "red": Collection([RED])})
    assert collected("%all.latest().id", call).items == ["new"]
    assert collected("%undated.latest().id", call).items == ["undated"]
    assert collected("%all.done()", call).items == ["2020", {"start": "2025-01"}]
    assert collected("%red.code.translate(%`cm-paler`).coding.code", call).items == ["pink"]
    assert collected("%red.nothing.translate(%`cm-paler`)", call) == Collection([])


def test_a_contained_resource_is_found_from_an_inner_element() -> None:
    item = {"resourceType": "Basic", "contained": [{"id": "c"}], "part": [{"ref": {"reference": "#c"}}]}
    call = Call({"item": Collection([item])})
    assert judged("%item.exists(part.exists(ref.resolve().exists()))", call) is True
    assert judged("%item.part.exists(ref.resolve().exists())", call) is None


ODD = [None, "", "x", 0, True, [], {}, [[]], {"coding": "x"}, {"coding": [None]}, {"reference": []}, [None], [{}], 1.5]


@pytest.mark.parametrize(
    "text",
    [
        IS_WARM, RECENT, "code.exists()", "code.coding.where(code = 'red').exists()", "n > 1", "status = 'a'",
        "code.translate(%`cm-paler`).exists()", "ref.resolve().exists()", "when.after(then)", "done().within(%span)",
        "latest().code.exists()", "status in ('a' | 'b')", "status.matches('a')", "value.value < 3",
        "(code | status).memberOf(%`vs-words`)", "extension.value.exists()", "when.toString() = 'x'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "%item.exists({})", "%item.where({}).empty()"])
def test_odd_data_never_raise(form: str, text: str) -> None:
    for value in ODD:
        names = ("code", "when", "then", "ref", "n", "status", "value", "extension")
        for item in (dict.fromkeys(names, value), {"resourceType": value}, value):
            call = Call({"item": Collection([item])}, CALL.constants)
            assert judged(form.format(text), call, [item]) in (True, False, None)


# --- Strict parse ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "active = true garbage", "a b", "a.", ".a", "a..b", "(a", "a)", "a and", "and a", "a = ", "'a", "a'",
        "a.where(b", "a.where(b))", "%", "%`vs-x", "a[", "a[0", "{", "}", "a ! b", "a == b", "a && b", "a // b\nc d",
        "@", "a,b", "a.where()b", "1 2", "/* open", "%a %b", "a;b", "a.exists() exists()",
    ],
)  # fmt: skip
def test_broken_expressions_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


VALID = [
    "%hfs.where(code.memberOf(%`vs-warm`) and status in ('a' | 'b')).exists()",
    "iif(%a.exists(), %b, {})",
    "(a | b).first() != 'it\\'s'.lower()",
    "a.b[0] >= -1.5 and @2026-01 <= today()",
]


def shape(node: dict[str, Any]) -> Any:
    below = [shape(one) for one in node.get("children", [])]
    return node["type"], node.get("text"), node.get("terminalNodeText"), below


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(VALID), st.data())
def test_a_corrupted_expression_is_another_one_or_an_error(valid: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(valid) - 1))
    inserted = data.draw(st.sampled_from(["", *"().,%`'|[]{}=! a0\\\n$@/"]))
    corrupted = valid[:place] + inserted + valid[place + (not inserted) :]
    try:
        tree = parse(corrupted)
        compiler().compile(corrupted)
    except ExpressionError:
        return
    blank = "".join(corrupted.split()) == "".join(valid.split()) or corrupted in VALID
    assert blank or shape(tree) != shape(parse(valid)) or "//" in corrupted


@pytest.mark.parametrize("text", VALID)
def test_valid_expressions_and_their_names(text: str) -> None:
    assert shape(parse(text)) == shape(parse(f"  {text}\n"))
    assert names_in(parse("%a.where(%`b-c` = %a)")) == ("a", "b-c")


@pytest.mark.parametrize("text", ["%red.latest(1)", "%red.done().within()", "%red.exists(when.within())"])
def test_a_wrong_number_of_arguments_is_refused_at_start(text: str) -> None:
    with pytest.raises(ExpressionError):
        compiler("red").compile(text)


@pytest.mark.parametrize(
    "text", ["%red.done().within({})", "%red.done().within(%word)", "%red.exists(when.within({}))"]
)
def test_an_argument_of_the_wrong_kind_leaves_it_open(text: str) -> None:
    dated = {"resourceType": "Observation", "effectiveDateTime": "2026", "when": "2026"}
    assert judged(text, Call({"red": Collection([dated])})) is None


@pytest.mark.parametrize(
    ("date", "moved"), [("2026-01-31", "2026-02-07"), ("2026", "2026-01-08"), ("soon", None), (None, None), ({}, None)]
)
def test_plus(date: Any, moved: str | None) -> None:
    call = Call({"one": Collection([{"resourceType": "Observation", "effectiveDateTime": date}])})
    assert collected("%one.done().plus(%sevenDays)", call).items == ([moved] if moved else [])


# Any chart may hold a date at the end of the calendar.
def test_plus_beyond_the_calendar() -> None:
    call = Call({"one": Collection([{"resourceType": "Observation", "effectiveDateTime": "9999-12-31"}])})
    assert collected("%one.done().plus(%sevenDays)", call).items == []


def test_members_are_found_by_words_too() -> None:
    assert judged("code.memberOf(%`vs-words`)", this=[{"code": {"text": "all aglow, glowing"}}]) is True
    assert judged("code.memberOf(%`vs-words`)", this=[{"code": {"text": "aglow"}}]) is False


def test_the_tables_use_what_they_say() -> None:
    """The building blocks above are what their names promise."""
    assert NOW.year == 2026
    assert COLOURS.value_sets
    for value, name in NAMES.items():
        assert verdict(name) is value
    assert all(verdict(f"{a} and {b}") in (T, F, U) for a, b in itertools.product(NAMES.values(), repeat=2))
