"""Service principals: programs that act in a tenant or on the platform, by tokens only."""
