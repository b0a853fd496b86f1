"""Digests: what was made is recorded, and one flipped byte is refused by name.

Two records exist. An Entry is a directory of the cache that says in digests.json what it was made
from (its key) and the SHA-256 of each file. A bundle's Record says the same of each of its parts.
Both are checked whole at every start: hashing a gigabyte takes less than a second a core, and size
and time of a file would not show a flipped byte.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import BundleError


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(**made_from: object) -> str:
    """A short digest of everything that a part is made from; anything JSON can hold."""
    text = json.dumps(made_from, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a file so that an interruption leaves the old one or the new one, never half of one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    new.replace(path)


def check(digests: Mapping[Path, str]) -> set[Path]:
    """Compare files with their recorded digests; return those that are missing.

    Raises BundleError that names the first file whose content is not what was recorded.
    """
    # hashlib releases the interpreter's lock, so threads use all cores.
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: sha256(path) if path.is_file() else None, digests)
        missing = set()
        for (path, wanted), digest in zip(digests.items(), found, strict=True):
            if digest is None:
                missing.add(path)
            elif digest != wanted:
                raise BundleError(
                    f"{path}: its sha256 is not the recorded one; "
                    "delete it and run python -m bundle build"
                )
    return missing


def _load(path: Path) -> dict[str, Any]:
    """The JSON object in a record, or an empty one where there is no record yet."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BundleError(f"{path}: not a record; delete it and run python -m bundle build")
    return content


class Entry:
    """A directory of the cache, complete or absent."""

    NAME = "digests.json"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._record = _load(directory / self.NAME)

    @property
    def files(self) -> dict[str, str]:
        """Each file's name and SHA-256; empty where nothing is cached."""
        return dict(self._record.get("files", {}))

    @property
    def notes(self) -> dict[str, Any]:
        """What its maker wanted to remember with it."""
        return dict(self._record.get("notes", {}))

    def path(self, name: str) -> Path:
        return self.directory / name

    def present(self) -> bool:
        """Is it there, whole? Raises BundleError for a file that has changed."""
        digests = {self.path(name): digest for name, digest in self.files.items()}
        return bool(digests) and not check(digests)

    def fill(self, source: Path, names: Iterable[str], notes: Mapping[str, Any]) -> None:
        """Take files from `source`, a directory on the same disk, in place of what was here."""
        self._record = {
            "files": {name: sha256(source / name) for name in sorted(names)},
            "notes": dict(notes),
        }
        new = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for name in self.files:
            (source / name).rename(new / name)
        write(new / self.NAME, json.dumps(self._record, indent=1) + "\n")
        shutil.rmtree(self.directory, ignore_errors=True)
        new.rename(self.directory)


@dataclass
class Part:
    """One part of a bundle: what it was made from, its files, and what `list` says of it."""

    key: str
    # Path below the bundle's directory -> SHA-256.
    files: dict[str, str]
    # For an image: its name, platform and the descriptor of its manifest.
    notes: dict[str, Any] = field(default_factory=dict)


class Record:
    """manifest.json of a bundle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, Part] = {}
        for name, part in _load(path).get("parts", {}).items():
            try:
                self.parts[name] = Part(**part)
            except TypeError:
                raise BundleError(
                    f"{path}: not a record; delete it and run python -m bundle build"
                ) from None

    def digests(self) -> dict[Path, str]:
        """Every file of every part, with its recorded digest."""
        top = self.path.parent
        return {top / file: sha for part in self.parts.values() for file, sha in part.files.items()}

    def check(self) -> set[Path]:
        """Forget the parts of which a file is missing, and return those files.

        Raises BundleError that names a file whose content is not what was recorded.
        """
        missing = check(self.digests())
        for name, part in list(self.parts.items()):
            if any(self.path.parent / file in missing for file in part.files):
                del self.parts[name]
        return missing

    def put(self, name: str, part: Part) -> None:
        """Record a part that is whole on disk."""
        self.parts[name] = part
        self.save()

    def drop(self, name: str) -> None:
        """Forget a part whose files are about to change."""
        if self.parts.pop(name, None):
            self.save()

    def save(self) -> None:
        parts = {name: vars(part) for name, part in sorted(self.parts.items())}
        write(self.path, json.dumps({"parts": parts}, indent=1) + "\n")
