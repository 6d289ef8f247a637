"""Scrubs: look at every replica of a tenant in a store, or read it back, and have bad ones repaired, within a cap."""
