"""Rollout: which kinds of stores are there for whom, and what tenants may bring."""
