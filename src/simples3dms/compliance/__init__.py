"""What the law may ask of an operator: a tenant that ends, a person who is forgotten, a person who asks."""
