"""Alembic's migrations of the store; `SqlStore.create` runs them."""
