"""The restore guard: nothing is removed from a store by a database that is older than what it once was."""
