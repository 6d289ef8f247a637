"""Audit: who did what to which target with what outcome, recorded with the change itself."""
