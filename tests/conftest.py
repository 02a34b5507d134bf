"""Makes the helpers of this folder importable from every test, whichever folder is run."""
