"""Reconciles: compare what a store lists of a tenant with what the records say, in both directions."""
