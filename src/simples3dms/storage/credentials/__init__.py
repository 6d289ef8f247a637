"""Credentials: what signs requests to a store, sealed, and versioned."""
