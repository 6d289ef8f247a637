"""Tenants: the isolation boundary and owner of every row."""
