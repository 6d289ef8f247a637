"""Notices: what a tenant's people are told of its migrations, recorded with the change and sent by mail."""
