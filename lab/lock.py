"""One lab at a time on a machine: whose it is, and who is changing it.

The namespace, the wires and the guests' memory have one name each, whoever's lab it is.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.paths import CACHE, MEMORY

_LOCK: Final = Path("/run/barekube-lab.lock")
# In the guests' memory, so that it is gone with the lab.
_OWNER: Final = MEMORY / "owner"
_CHECKOUT: Final = Path(__file__).resolve().parents[1]


@contextmanager
def held() -> Iterator[None]:
    """Nobody else changes this machine's lab meanwhile.

    Raises LabError if somebody is at it, or if the lab is another one's.
    """
    with _LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another `python -m lab` is at work; wait for it") from None
        checkout, cache = _owner()
        if cache != str(CACHE) and Path(checkout).is_dir():
            raise LabError(
                f"the lab of {checkout} (cache {cache}) is up; run `python -m lab down` there first"
            )
        yield


def own() -> None:
    """Say whose the lab is from now on: any checkout's with this cache."""
    _OWNER.write_text(f"{_CHECKOUT}\n{CACHE}\n")


def abandoned() -> bool:
    """Whether a lab is up whose checkout is gone, and with it whoever could end it."""
    return _owner()[1] != str(CACHE)


def _owner() -> tuple[str, str]:
    try:
        checkout, cache = _OWNER.read_text().splitlines()
    except (FileNotFoundError, ValueError):
        # A lab that was cut off while it was made is anybody's.
        return str(_CHECKOUT), str(CACHE)
    return checkout, cache
