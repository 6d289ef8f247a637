"""Sessions of browsers: kept as digests, ended by time, by hand, and by what changes an account."""
