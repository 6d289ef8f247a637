"""Placement: what a tenant wants, and the router that decides by it."""
