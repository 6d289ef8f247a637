"""Locks at stores: what is held or retained in the records is kept by the stores themselves, where they offer that."""
