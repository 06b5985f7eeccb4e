"""The clients that users import."""

from .client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
