"""Caches: stores in front of others, whose content is no copy and may be lost at any moment."""
