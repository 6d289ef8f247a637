"""The typed Python client of the HTTP API."""

from simples3dms.client.client import Client
from simples3dms.client.errors import ApiProblem, ServerUnreachable

__all__ = ["ApiProblem", "Client", "ServerUnreachable"]
