"""Migrations: a tenant moved from one store to another while people work, proven, and reversible until finalized."""
