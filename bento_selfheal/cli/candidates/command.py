"""Commands that let a newly packaged model earn its place."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from bento_selfheal.cli.app import app
from bento_selfheal.cli.operate import LOCAL, AsJson, Token, Url, service
from bento_selfheal.cli.terminal import say
from bento_selfheal.core.candidates.candidate import DEFAULT_LABELS, DEFAULT_RAMP, failures
from bento_selfheal.core.text import counted
from bento_selfheal.errors import SettingsError


@app.command()
def candidate(
    tag: Annotated[str, typer.Argument(help="Tag of a packaged model.")],
    ramp: Annotated[
        str, typer.Option(help="Percent of the requests that it answers, step by step.")
    ] = ",".join(f"{share:g}" for share in DEFAULT_RAMP),
    min_labels: Annotated[
        int, typer.Option(min=1, help="Labelled rows that each step takes at least.")
    ] = DEFAULT_LABELS,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Withdraw it: it answers nothing any more.")
    ] = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Let it serve, whatever the evidence.")
    ] = False,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Let a packaged model earn its place: in shadow first, then on a growing share of requests.

    It is promoted where labels prove it better than the healed model that serves, and withdrawn
    where they prove it worse, or it fails.
    """
    if withdraw and promote:
        raise typer.BadParameter("give one of --withdraw and --promote")
    with service(url, token) as client:
        if withdraw or promote:
            done = client.end_candidate(tag, promote=promote)
        else:
            done = client.begin_candidate(tag, ramp=_shares(ramp), min_labels=min_labels)
    words = "is promoted by the runner" if promote else "is withdrawn"
    begun = "answers copies of live rows" if not done.get("share") else "answers live requests"
    if as_json:
        typer.echo(json.dumps(done))
    else:
        say(Console(), f"{done['tag']} {words if withdraw or promote else begun}")


@app.command()
def candidates(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """List candidates: where each stands on its ramp, and the evidence for and against it."""
    with service(url, token) as client:
        found = client.candidates()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for one in found:
        say(Console(), _line(one))
    if not found:
        say(Console(), "there is no candidate; begin one with `bento-selfheal candidate TAG`")


def _line(one: dict[str, Any]) -> str:
    evidence, counts = one["evidence"], one["counts"]
    lift = evidence.get("lift", {})
    told = (
        f"{counted(evidence['labels'], 'label')}, lift {lift['mean']:+.3f} "
        f"[{lift['low']:+.3f}, {lift['high']:+.3f}]"
        if lift else "no labels yet"
    )  # fmt: skip
    failed = failures(counts)
    share = f"answers {one['share']:.0%}" if one["state"] == "running" else one["state"]
    why = f": {one['reason']}" if one["reason"] else ""
    return f"{one['id']} {one['tag']} {share}, {told}, {counted(failed, 'failure')}{why}"


def _shares(ramp: str) -> list[float]:
    try:
        return [float(share) for share in ramp.split(",")]
    except ValueError:
        raise SettingsError(
            f"--ramp: {ramp!r} is no list of percentages, such as 0,10,100"
        ) from None
