"""Drains: a store that is emptied of all its tenants, cohort by cohort, each by a migration of its own."""
