"""What a tenant has and where, in numbers that cost the same for ten documents and ten million."""
