"""Takeouts: everything of a tenant, listed once and for all, to be fetched version by version."""
