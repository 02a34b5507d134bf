"""Client trust: who a caller is, by the JWT it brings (CDS Hooks 2.0, "Trusting CDS Clients")."""
