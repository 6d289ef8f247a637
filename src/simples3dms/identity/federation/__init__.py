"""Sign-in through identity providers (OpenID Connect), of the platform and of tenants."""
