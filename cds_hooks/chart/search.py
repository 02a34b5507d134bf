"""What to ask an EHR for: one prefetch template, and the same FHIR search, for each query of a plan's Library.

Templates keep to what every client understands: reads and type searches by patient, `_count`, `_sort`, tokens of the
hook's context (CDS Hooks 2.0 "prefetch query restrictions"); no parameter twice (a known client would send it as OR).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: FHIR R4: the parameter that sorts a type by date, newest first ("" = the type has none).
_NEWEST_FIRST: Final = {
    "AllergyIntolerance": "-date", "Condition": "-recorded-date", "Device": "", "DiagnosticReport": "-date",
    "Encounter": "-date", "ImagingStudy": "-started", "MedicationAdministration": "-effective-time",
    "MedicationRequest": "-authoredon", "Observation": "-date", "Procedure": "-date", "ServiceRequest": "-authored",
}  # fmt: skip
#: Types that are read by an id of the hook's context rather than searched.
_READ_BY: Final = {"Patient": "patientId", "Encounter": "encounterId"}
SEARCHABLE: Final = frozenset(_NEWEST_FIRST) | frozenset(_READ_BY)


@dataclass(frozen=True, slots=True)
class Query:
    """One key of the prefetch: a read, or a search of one resource type for the patient."""

    key: str
    type: str
    limit: int | None = None
    required: bool = False
    #: token search parameters: name → "system|code" values, any of which may match
    tokens: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def reads(self) -> str | None:
        """The context field whose id is read, None for a search."""
        return _READ_BY.get(self.type)

    @property
    def template(self) -> str:
        """The prefetch template of the discovery answer."""
        if self.reads:
            return f"{self.type}/{{{{context.{self.reads}}}}}"
        parameters = ["patient={{context.patientId}}"]
        parameters += [f"{name}={','.join(values)}" for name, values in self.tokens]
        if _NEWEST_FIRST[self.type]:
            parameters.append(f"_sort={_NEWEST_FIRST[self.type]}")
        if self.limit:
            parameters.append(f"_count={self.limit}")
        return f"{self.type}?{'&'.join(parameters)}"

    def filled(self, context: Mapping[str, str]) -> str | None:
        """The template with its tokens replaced, None when the context lacks one."""
        text = self.template
        for name, value in context.items():
            text = text.replace(f"{{{{context.{name}}}}}", value)
        return None if "{{" in text else text
