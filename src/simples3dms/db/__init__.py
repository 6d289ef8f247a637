"""Units of work over PostgreSQL, the roles that isolate tenants, and the embedded server."""
