"""`segment-do sources oauth`: apps that send with access tokens, and their public keys. Private keys stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segment_do.cli.client import connect, path_part
from segment_do.cli.options import HomeOption, JsonOption
from segment_do.cli.output import note, print_json, print_table, print_text
from segment_do.errors import InvalidRequest

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Apps that send with access tokens (OAuth 2.0), and their public keys.")

_SourceId = Annotated[str, typer.Argument(metavar="SOURCE", help="Id of the source, as `sources list` shows it.")]
_AppId = Annotated[str, typer.Argument(metavar="APP", help="Id of the app, as `sources oauth list` shows it.")]


@app.command()
def add(
    source_id: _SourceId,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The RSA public key, PEM.")],
    name: Annotated[str, typer.Option("--name", help="Name of the new app.")] = "app",
    to: Annotated[str | None, typer.Option("--app", metavar="APP", help="Give this app a further key instead.")] = None,
    kid: Annotated[
        str | None, typer.Option("--kid", help="What clients call the key; default: from its fingerprint.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Register an app with its public key, or a further key of an app."""
    try:
        told = {"publicKey": key.read_text(encoding="ascii")}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The key file {key} cannot be read: {type(error).__name__}.") from None
    if kid is not None:
        told["kid"] = kid
    with connect(home) as platform:
        if to is None:
            made = platform.post(_apps(source_id), {"name": name, **told})
        else:
            made = platform.post(f"{_apps(source_id)}/{path_part(to)}/keys", told)
    _show(made, as_json)


@app.command("list")
def list_(source_id: _SourceId, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the apps of a source with the ids of their keys.

    With --json one object a line.
    """
    with connect(home) as platform:
        apps = platform.get(_apps(source_id))["apps"]
    if as_json:
        print_json(*apps)
    elif apps:
        rows = [
            [one["id"], one["name"], ", ".join(key["kid"] for key in one["keys"]), one["enabled"], one["createdAt"]]
            for one in apps
        ]
        print_table(["id", "name", "keys", "enabled", "created"], rows)
    else:
        note("There are no OAuth apps for this source. `segment-do sources oauth add SOURCE --key FILE` makes one.")


@app.command()
def revoke(
    source_id: _SourceId,
    app_id: _AppId,
    kid: Annotated[str | None, typer.Option("--kid", help="Revoke this key alone.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Revoke an app, or one of its keys; its tokens are refused within a second."""
    path = f"{_apps(source_id)}/{path_part(app_id)}"
    with connect(home) as platform:
        told = platform.delete(path if kid is None else f"{path}/keys/{path_part(kid)}")
    if as_json:
        print_json(told)
    else:
        print_text(f"Revoked {app_id}." if kid is None else f"Revoked the key {kid} of {app_id}.")


@app.command()
def require(
    source_id: _SourceId,
    off: Annotated[bool, typer.Option("--off", help="Take the bare write key again.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Let a source refuse events that come with its write key alone."""
    with connect(home) as platform:
        told = platform.patch(f"/api/sources/{path_part(source_id)}", {"requireOAuth": not off})
    if as_json:
        print_json(told)
    else:
        print_text(f"{source_id} {'takes its write key alone' if off else 'takes access tokens only'}.")


def _apps(source_id: str) -> str:
    return f"/api/sources/{path_part(source_id)}/oauth-apps"


def _show(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    for label, field in (("client id", "id"), ("name", "name"), ("source", "sourceId")):
        print_text(f"{label:<10} {made[field]}")
    for key in made["keys"]:
        print_text(f"{'key id':<10} {key['kid']}")
