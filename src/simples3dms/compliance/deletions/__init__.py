"""Deleting a tenant: asked for, confirmed, worked off by fenced steps, and certified."""
