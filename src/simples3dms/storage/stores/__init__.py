"""Stores: configured places, granted to tenants, and the providers that talk to them."""
