"""Limits: how often one may try to come in, counted in the database for all processes together."""
