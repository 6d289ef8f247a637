"""Small tools with no knowledge of the product."""
