"""The key ring, sealed values, passwords and tokens: the only place that touches cryptographic libraries."""
