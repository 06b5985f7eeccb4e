"""The setting of webhooks: who is told of events, and in which form."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import Url
from pydantic_core import ValidationError as NoUrl

from bento_selfheal.config.groups import Group
from bento_selfheal.config.validation import Positive
from bento_selfheal.core.log.told import TELLS

EVERY = "*"
PREFIX = "whsec_"
"""What a signing secret begins with, as Standard Webhooks has it."""
SECRET_BYTES = (24, 64)
ROUTING_KEY = re.compile(r"[A-Za-z0-9]{20,64}")
MOST_WEBHOOKS = 20
LONGEST_URL = 2000


class Webhook(BaseModel):
    """A receiver of events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    url: SecretStr
    kinds: Annotated[tuple[str, ...], Field(min_length=1)]
    secret: SecretStr = SecretStr("")
    template: Literal["json", "slack", "pagerduty"] = "json"
    hours: Positive = 72.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        try:
            url = Url(given)
        except NoUrl:
            raise ValueError("not a URL") from None
        if url.scheme not in ("http", "https") or not url.host or len(given) > LONGEST_URL:
            raise ValueError("a URL of http or https is needed")
        return value

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - TELLS.keys() - {EVERY})
        if unknown:
            raise ValueError(f"no event is of the kind {unknown[0]!r}; kinds: {', '.join(TELLS)}")
        return value

    @model_validator(mode="after")
    def _secret_fits(self) -> Self:
        secret = self.secret.get_secret_value()
        if self.template == "slack" and secret:
            raise ValueError("secret: Slack checks no signature; its URL is the secret")
        if self.template == "pagerduty" and not ROUTING_KEY.fullmatch(secret):
            raise ValueError("secret: the integration key of PagerDuty's Events API v2 is needed")
        if self.template == "json" and secret and not _is_key(secret):
            low, high = SECRET_BYTES
            raise ValueError(f"secret: {PREFIX} and the base64 of {low} to {high} bytes are needed")
        return self

    @property
    def host(self) -> str:
        """Where it sends to; the rest of the URL may be a secret."""
        url = Url(self.url.get_secret_value())
        return f"{url.host}:{url.port}" if url.port else str(url.host)

    @property
    def key(self) -> bytes:
        """What bodies are signed with; empty where they are not."""
        secret = self.secret.get_secret_value() if self.template == "json" else ""
        return base64.b64decode(secret.removeprefix(PREFIX))

    @property
    def told_of(self) -> tuple[str, ...]:
        """The kinds of events that it is told of."""
        return tuple(TELLS) if EVERY in self.kinds else tuple(dict.fromkeys(self.kinds))


class WebhookSettings(Group):
    """Telling other systems."""

    webhooks: Annotated[tuple[Webhook, ...], Field(max_length=MOST_WEBHOOKS)] = ()
    """Receivers that the runner tells of events: a table `[[webhooks]]` each in `selfheal.toml`, or
    a JSON list such as `[{"name": "on-call", "url": "https://…", "kinds": ["retrain_needed"]}]`.
    See [Operations](operations.md#webhooks)."""

    @model_validator(mode="after")
    def _distinct_webhooks(self) -> Self:
        names = [hook.name for hook in self.webhooks]
        if len(set(names)) < len(names):
            raise ValueError(f"webhooks: two of them have the same name; their names are {names}")
        return self


def _is_key(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith(PREFIX) and SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]
