"""`simples3dms demo`: the whole promise, shown on real servers in a throw-away directory."""
