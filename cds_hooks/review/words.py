"""Plain words for what FHIR and CDS Hooks name, and for the values in FHIR resources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cds_hooks.chart import dates
from cds_hooks.chart.reading import codings, done_at

HOOKS: Final = {"patient-view": "chart opened", "order-select": "order picked", "order-sign": "orders signed"}
INDICATORS: Final = {
    "info": "information: good to know, no hurry",
    "warning": "warning: look before going on",
    "critical": "critical: danger, act now",
}
READ: Final = {"full": "read in full", "abstract": "abstract or excerpt only", "not-verified": "not verified"}
CHANGES: Final = {"create": "adds an order", "update": "changes the order", "delete": "removes the order"}
RESOURCES: Final = {
    "AllergyIntolerance": "allergy", "Condition": "problem", "DiagnosticReport": "report", "Encounter": "visit",
    "MedicationAdministration": "drug given", "MedicationRequest": "drug order", "ServiceRequest": "order",
}  # fmt: skip
ELEMENTS: Final = {
    "code": "what is ordered", "orderDetail": "details", "note": "note", "bodySite": "body site",
    "reasonCode": "reason", "reasonReference": "reason, linked to", "supportingInfo": "attached",
    "occurrenceDateTime": "planned date", "performerType": "asked of", "medicationCodeableConcept": "drug",
}  # fmt: skip


def apart(name: str) -> str:
    """`orderDetail` as `order detail`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def element(path: str) -> str:
    """The name of a resource's element: `note[+].text` is a note."""
    root = path.split(".")[0].removesuffix("[+]").removesuffix("[-]")
    return ELEMENTS.get(root, apart(root))


def resource(kind: str) -> str:
    """The name of a kind of resource."""
    return RESOURCES.get(kind, apart(kind))


def hook(name: str) -> str:
    """When a hook is called."""
    return HOOKS.get(name, name)


class Speaker:
    """Says FHIR values in words: knows the names of code systems, and of the resources that references point to."""

    def __init__(self, systems: Mapping[str, str], name_of: Any, known: Sequence[Mapping[str, Any]] = ()) -> None:
        self._systems: Final = systems
        self._name_of: Final = name_of  # concept or resource → its best name
        self._known: Final = {f"{item.get('resourceType')}/{item.get('id')}": item for item in known}

    def knowing(self, resources: Sequence[Mapping[str, Any]]) -> Speaker:
        """The same, for references to these resources."""
        return Speaker(self._systems, self._name_of, resources)

    def system(self, url: str | None) -> str:
        """The name of a code system; without one, the end of its address."""
        return self._systems.get(url or "") or (url or "no system").rsplit("/", 1)[-1]

    def say(self, value: Any) -> str:
        """A value in words."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            return "; ".join(dict.fromkeys(self.say(item) for item in value))
        return self._mapping(value) if isinstance(value, dict) else str(value)

    def _mapping(self, value: dict[str, Any]) -> str:
        if "reference" in value:
            return self.reference(str(value["reference"]))
        if "coding" in value or ("system" in value and "code" in value and "value" not in value):
            return self._concept(value)
        if "value" in value and "unit" in value:
            number = value["value"]
            unit = str(value["unit"])
            return f"{number} {unit.removesuffix('s') if number == 1 else unit}"
        if set(value) == {"text"}:
            return str(value["text"])
        return ", ".join(f"{apart(key)} {self.say(item)}" for key, item in value.items())

    def _concept(self, value: dict[str, Any]) -> str:
        codes = [f"{self.system(system)} {code}" for system, code in codings(value)]
        name = self._name_of(value) or value.get("display")
        if name is None or (codes and name == value.get("code")):
            return ", ".join(codes)
        return f"{name} [{', '.join(codes)}]" if codes else str(name)

    def reference(self, name: str) -> str:
        """What a reference points to, by name if it is known."""
        kind = resource(name.split("/")[0])
        found = self._known.get(name)
        called = self._name_of(found) if found else None
        return f"{kind} “{called}”" if called else f"{kind} {name.rsplit('/', 1)[-1]}"

    def listed(self, resources: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Resources by kind and name, with their value and day if they have them."""
        return tuple(self._listed(item) for item in resources)

    def _listed(self, item: Mapping[str, Any]) -> str:
        """`observation: Temperature = 37 (2026-05-01)`."""
        said = f"{resource(str(item.get('resourceType')))}: {self._name_of(item) or item.get('id')}"
        values = [self.say(value) for key, value in item.items() if key.startswith("value")]
        day = dates.day(done_at(item))
        return said + (f" = {values[0]}" if values else "") + (f" ({day})" if day else "")


def flat(text: Any) -> str:
    """Text of the content in one line."""
    return " ".join(str(text or "").split())


def phrases(pattern: str) -> tuple[str, ...]:
    """A text pattern as phrases: `…` any letters, `[x]` may be missing, `x / y` either, `'X'` in exactly this case."""
    return tuple(dict.fromkeys(_phrase(part) for part in _alternatives(pattern)))


def _alternatives(pattern: str) -> list[str]:
    parts, depth = [""], 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


_REWRITES: Final = (
    (r"\(\?-i:([^()]*)\)", r"'\1'"), (r"\(\?!([^()]*)\)", r"(not “\1”)"), (r"\( \\w\+\)\{[^}]*\}", " …"),
    (r"\\w[*+]", "…"), (r"\[ ?-? ?\]\??", " "), (r"\[(\w)(\w)\]", r"(\1/\2)"), (r"\(([^()]*)\)\?", r"[\1]"),
    (r" \?", " "), (r"-\?", "-"), (r"(\w)\?", r"[\1]"), (r"\|", " / "), (r"\\b", ""), (r"\\", ""),
)  # fmt: skip


def _phrase(part: str) -> str:
    open_start, open_end = (not re.search(edge, part) for edge in (r"^(\(\?-i:)?\\b", r"\\b\)?$"))
    for old, new in _REWRITES:
        part = re.sub(old, new, part)
    return ("…" if open_start else "") + part.strip("…") + ("…" if open_end else "")
