"""Blobs and their replicas: immutable bytes, and each recorded copy of them."""
