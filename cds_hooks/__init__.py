"""A CDS Hooks server whose clinical content is FHIR data."""

__version__ = "0.1.0"
