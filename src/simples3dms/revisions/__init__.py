"""The database schema's revisions (Alembic): expand, backfill, contract."""
