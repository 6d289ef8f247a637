"""The kinds of store that come with the product; each is loaded by name, through the registry, when first asked for."""
