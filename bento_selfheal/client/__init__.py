"""The clients that users import."""

from bento_selfheal.client.async_client import AsyncClient
from bento_selfheal.client.client import Client

__all__ = ["AsyncClient", "Client"]
