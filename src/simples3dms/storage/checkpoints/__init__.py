"""Checkpoints of a tenant's audit, kept as objects in its own stores: out of the reach of whoever owns the database."""
