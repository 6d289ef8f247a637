"""What is written down of copies in parts, so that whoever comes next goes on with them."""
