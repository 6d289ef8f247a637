"""Layers: providers that wrap a provider, one concern each."""
