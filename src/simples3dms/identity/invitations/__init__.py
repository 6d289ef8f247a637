"""Invitations: a place in a tenant for whoever holds a link, once and for a time."""
