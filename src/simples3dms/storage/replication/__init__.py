"""Replication lag: how many copies stores are owed, and for how long already."""
