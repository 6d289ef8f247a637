"""Transfers: one blob from one store to another, read, hashed, written, proved and recorded."""
