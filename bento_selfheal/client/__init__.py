"""The clients that users import."""

from bento_selfheal.client.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
