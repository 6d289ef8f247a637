"""Documents, their versions and the uploads that become them."""
