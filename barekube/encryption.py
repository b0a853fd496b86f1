"""The keys by which the API servers encrypt Secrets in etcd, and how another one takes over.

Every API server has to know a key before any of them writes with it, and no Secret may be left
that needs a key before that is forgotten (Kubernetes' documentation, "Rotate a decryption key").
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml


class Unreadable(Exception):
    """A file of keys that is not one of ours."""


def name(number: int) -> str:
    """The name of key `number` of group_data's encryption_key."""
    return f"key{number}"


def fresh() -> str:
    """A new key, as the file has it."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def keys(text: str) -> dict[str, str]:
    """{name: the key as base64} of a file, the one that is written with first.

    Raises Unreadable.
    """
    try:
        providers = yaml.safe_load(text)["resources"][0]["providers"]
        return {each["name"]: each["secret"] for each in providers[0]["secretbox"]["keys"]}
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        raise Unreadable from None


@dataclass(frozen=True)
class Step:
    """What is next: the keys that control plane `host` is to have, in this order; `rewrite`: every
    Secret is encrypted anew before that."""

    host: str
    names: tuple[str, ...]
    rewrite: bool = False


def step(there: Mapping[str, Sequence[str]], wanted: str) -> Step | None:
    """The next step from the keys of each control plane (the first is written with); None: all
    have `wanted` and no other."""
    for host, names in there.items():
        # Where there is one API server, nobody else has to know the key before.
        if wanted not in names and len(there) > 1:
            return Step(host, (*names, wanted))
    for host, names in there.items():
        if names[0] != wanted:
            return Step(host, (wanted, *(each for each in names if each != wanted)))
    rest = {host: names for host, names in there.items() if len(names) > 1}
    for host in rest:
        return Step(host, (wanted,), rewrite=len(rest) == len(there))
    return None
