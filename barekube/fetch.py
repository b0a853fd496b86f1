"""Files that a lock names, fetched once onto this machine and kept by their SHA-256."""

import os
from pathlib import Path

import urllib3

from barekube.rook import Upstream

CACHE = Path.home() / ".cache/barekube/downloads"


class NotFetched(Exception):
    """A file cannot be had: a sentence."""


def fetched(file: Upstream, bundle: str | None, ca: str | None) -> bytes:
    """What a file holds: kept from an earlier run, else of `bundle` or of its own address.

    `bundle` is the address of one, whose server `ca` (a file) speaks for. Raises NotFetched for
    what is not there, and for what is not what the lock names.
    """
    kept = CACHE / file.sha256
    try:
        if kept.exists() and file.is_(content := kept.read_bytes()):
            return content
    except OSError as error:
        raise NotFetched(f"{kept} cannot be read ({error.strerror}); remove it") from None
    url = f"{bundle}/files/{file.sha256}" if bundle else file.url
    remedy = "run `python -m bundle add FILE` with it" if bundle else f"put it at {kept} yourself"
    try:
        with urllib3.PoolManager(ca_certs=ca if bundle else None) as pool:
            answer = pool.request("GET", url, timeout=urllib3.Timeout(connect=10, read=60))
    except urllib3.exceptions.HTTPError as error:
        raise NotFetched(
            f"{file.title} cannot be fetched from {url} ({type(error).__name__}); {remedy}"
        ) from None
    if answer.status != 200:
        raise NotFetched(
            f"{file.title} cannot be fetched from {url} (answer {answer.status}); {remedy}"
        )
    if not file.is_(answer.data):
        raise NotFetched(
            f"{file.title} at {url} is not the file that the lock names (another SHA-256); nothing"
            " of it is applied: find out who changed it"
        )
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(answer.data)
        new.rename(kept)
    except OSError as error:
        raise NotFetched(f"{kept} cannot be written ({error.strerror}); mend that") from None
    return answer.data
