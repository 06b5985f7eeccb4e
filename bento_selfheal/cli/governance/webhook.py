"""The command that tries webhooks."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bento_selfheal.cli.app import AsJson, app
from bento_selfheal.cli.governance.acts import note
from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import SettingsError

if TYPE_CHECKING:
    from bento_selfheal.config.webhooks.webhook import Webhook

webhooks = typer.Typer(help="Webhooks, which tell other systems of events.", no_args_is_help=True)
app.add_typer(webhooks, name="webhook")


@webhooks.command("test")
def try_webhooks(
    name: Annotated[str | None, typer.Argument(help="Name of one; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send an event of the kind `test` and show what comes back.

    The SELFHEAL_ settings say to whom, so run it where the service runs. The exit code is 1 unless
    each answers with a status of success.
    """
    from bento_selfheal.config.settings import load_model_settings

    settings = load_model_settings()
    chosen = [hook for hook in settings.webhooks if name in (None, hook.name)]
    if not chosen:
        known = ", ".join(hook.name for hook in settings.webhooks)
        named = f"there is no {name!r}; there are {known}" if known else "none is set"
        raise SettingsError(f"webhooks: {named}")
    replies = [_tried(hook, settings.model) for hook in chosen]
    if as_json:
        typer.echo(json.dumps(replies))
    else:
        for reply in replies:
            _print(reply)
    note(settings, "webhook_test", {"replies": [
        {name: reply[name] for name in ("name", "status", "taken")} for reply in replies
    ]})  # fmt: skip
    if not all(reply["taken"] for reply in replies):
        raise typer.Exit(1)


def _tried(hook: Webhook, model: str) -> dict[str, Any]:
    """What came back, as JSON values."""
    from bento_selfheal.core.records import Event
    from bento_selfheal.webhooks.bodies import Service
    from bento_selfheal.webhooks.sender import Sender

    sender, now = Sender(hook), time.time()
    detail = {"reason": "`bento-selfheal webhook test` was called", "hook": hook.name}
    try:
        # Its own kind of id: receivers that leave out known ids must not leave out a later event.
        reply = sender.send(Event("test", detail, now, seq=int(now)), Service("test", model))
    finally:
        sender.close()
    return {
        "name": hook.name, "host": hook.host, "template": hook.template, "status": reply.status,
        "taken": reply.taken, "answer": reply.said,
    }  # fmt: skip


def _print(reply: dict[str, Any]) -> None:
    status = "no answer" if reply["status"] is None else f"HTTP {reply['status']}"
    said = f": {reply['answer']}" if reply["answer"] else ""
    style = "" if reply["taken"] else "bold"
    say(Console(), f"{reply['name']} ({reply['template']}, {reply['host']}): {status}{said}", style)
