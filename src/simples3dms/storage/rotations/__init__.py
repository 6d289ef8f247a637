"""Rotations: a store's credential replaced in stages, without a restart and without a failed request."""
