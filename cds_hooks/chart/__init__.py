"""The data: prefetch templates, FHIR client, gathering what is missing, tolerant reading, the indexed Chart."""
