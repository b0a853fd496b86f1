"""Makes a bundle whole: what is missing is compiled or fetched, what is there is checked and kept.

Every part has a key, made of everything that it is made from, this package's own code included.
A part whose key is the recorded one, and whose files are all there, is not made again.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from barekube import versions
from bundle import aptrepo, cross, debian, golang, images, packages, registry
from bundle.aptrepo import Repository
from bundle.components import COMPONENTS, FORMER, KUBERNETES, Component, programs_on
from bundle.errors import BundleError
from bundle.golang import Go
from bundle.images import Image
from bundle.integrity import Entry, Part, Record, key_of, sha256
from bundle.machine import need_packages
from bundle.packages import Package
from bundle.paths import Paths
from bundle.trust import Signer, ensure_ca

BUILDABLE: Final = tuple(versions.DEBIAN_ARCHITECTURES)
PAUSE: Final = "pause"
_HERE: Final = Path(__file__).parent


def recipe(*modules: str) -> list[str]:
    """Digests of the code that makes a part: a change of it makes the part again."""
    found = [_HERE / f"{module}.py" for module in modules]
    if "packages" in modules:
        found += sorted(packages.TEXTS.iterdir())
    return [sha256(path) for path in found]


@dataclass(frozen=True)
class Done:
    """A part that is there: was it made now, and which files are it?"""

    made: bool
    files: list[Path]

    def megabytes(self) -> float:
        return sum(path.stat().st_size for path in self.files) / 1e6


@dataclass(frozen=True)
class Step:
    """One part to make."""

    name: str
    make: Callable[[], Done]


class Builder:
    """One build of one bundle."""

    def __init__(self, paths: Paths, architectures: Sequence[str], *, former: bool) -> None:
        self.paths = paths
        # What the bundle holds of others stays as it is.
        self.architectures = list(architectures)
        # With the release that upgrades are tried from?
        self.former = former
        self.record = Record(paths.manifest)
        self.signer = Signer(paths)
        self.go: Go | None = None
        # What this run has found or made: (component or release, architecture) -> its files.
        self._entries: dict[tuple[str, str], Entry] = {}

    def steps(self) -> Iterator[Step]:
        """All parts, what a cluster needs first coming first."""
        for arch in self.architectures:
            # Before the programs: runc for another architecture needs a library from there.
            for release in debian.RELEASES:
                name = f"Debian packages {release} {arch}"
                yield Step(name, partial(self._fetch, release, arch))
            for component in (*COMPONENTS, *(FORMER if self.former else ())):
                own = programs_on(component, arch)
                if own.programs:
                    name = f"{component.name} {component.version} {arch}"
                    yield Step(name, partial(self._compile, own, arch))
            yield Step(f"pause {versions.PAUSE} {arch}", partial(self._pause, arch))
        repositories: dict[Repository, Callable[[str], Done]] = {}
        for component in (KUBERNETES, *(FORMER[:1] if self.former else ())):
            repository = aptrepo.kubernetes_repository(component.version)
            made = packages.kubernetes_packages(component)
            repositories[repository] = partial(self._made_here, repository, made)
        for release, number in debian.RELEASES.items():
            repository = aptrepo.docker_repository(release)
            made = (packages.containerd_package(number, release),)
            repositories[repository] = partial(self._made_here, repository, made)
            repositories[aptrepo.debian_repository(release)] = partial(self._pool, release)
        for repository, fill in repositories.items():
            for arch in self.architectures:
                yield Step(f"packages {repository.name} {arch}", partial(fill, arch))
            yield Step(f"apt {repository.name}", partial(self._index, repository))
        for arch in self.architectures:
            for image in (*images.IMAGES, *(images.FORMER_IMAGES if self.former else ())):
                if arch in versions.CONTROL_PLANES or not image.control_plane:
                    name = f"image {image.name} {arch}"
                    yield Step(name, partial(self._image, name, image, arch))

    # Into the cache

    def _cached(self, name: str, arch: str, entry: Entry, make: Callable[[], Entry]) -> Done:
        present = entry.present()
        entry = entry if present else make()
        self._entries[name, arch] = entry
        return Done(not present, [entry.path(file) for file in entry.files])

    def _toolchain(self) -> Go:
        if self.go is None:
            self.go = golang.find_go(self.paths)
        return self.go

    def _compile(self, component: Component, arch: str) -> Done:
        go = self._toolchain()
        library = self._library(arch) if component.cgo else None
        entry = golang.entry(component, arch, go, self.paths, library)
        make = partial(golang.compile_component, component, arch, go, self.paths, library)
        if not entry.files:
            print(f"      {component.name}: about {component.minutes} min on two cores", flush=True)
        return self._cached(component.name, arch, entry, make)

    def _library(self, arch: str) -> Path | None:
        """The package of the C library that this machine's own apt cannot install for `arch`."""
        if arch == cross.native():
            return None
        system = self._entry(debian.IMAGE_RELEASE, arch)
        return next(system.path(n) for n in system.files if n.startswith(f"{cross.LIBRARY}_"))

    def _pause(self, arch: str) -> Done:
        make = partial(golang.compile_pause, arch, self._toolchain(), self.paths)
        return self._cached(PAUSE, arch, golang.pause_entry(arch, self.paths), make)

    def _fetch(self, release: str, arch: str) -> Done:
        entry = debian.entry(release, arch, self.paths)
        return self._cached(release, arch, entry, partial(debian.fetch, release, arch, self.paths))

    def _entry(self, name: str, arch: str) -> Entry:
        try:
            return self._entries[name, arch]
        except KeyError:
            raise BundleError(f"it needs {name} for {arch}, which could not be had") from None

    def _programs(self, names: Sequence[str], arch: str) -> dict[str, Path]:
        entries = [self._entry(name, arch) for name in names]
        return {program: entry.path(program) for entry in entries for program in entry.files}

    # Into the bundle

    def _recorded(self, name: str, key: str, make: Callable[[], Part]) -> Done:
        part = self.record.parts.get(name)
        current = part is not None and part.key == key
        if part is None or not current:
            part = make()
            self.record.put(name, part)
        return Done(not current, [self.paths.bundle / file for file in part.files])

    def _packages(
        self,
        repository: Repository,
        arch: str,
        inputs: list[str],
        collect: Callable[[Path], list[Path]],
    ) -> Done:
        """Put what `collect` makes in a directory into a repository, if `inputs` are new."""
        key = key_of(
            inputs=inputs,
            recipe=recipe("packages", "aptrepo", "components"),
            versions=sorted(versions.IMAGES.values()),
        )

        name = f"packages {repository.name} {arch}"

        def make() -> Part:
            with tempfile.TemporaryDirectory(dir=self.paths.bundle, prefix=".new-") as work:
                made = collect(Path(work))
                # From here on the old ones are overwritten, one by one.
                self.record.drop(name)
                debs = aptrepo.place(repository, self.paths.www, made)
            notes = {"repository": repository.name, "architecture": arch}
            return Part(key, self._digests(debs), notes)

        return self._recorded(name, key, make)

    def _digests(self, files: Sequence[Path]) -> dict[str, str]:
        return {str(path.relative_to(self.paths.bundle)): sha256(path) for path in files}

    def _made_here(self, repository: Repository, made: Sequence[Package], arch: str) -> Done:
        """Packages that are made of programs, of one architecture."""
        names = sorted({name for package in made for name in package.components})
        inputs = [package.version for package in made]
        for name in names:
            inputs += self._entry(name, arch).files.values()
        debian_arch = versions.DEBIAN_ARCHITECTURES[arch]

        def collect(work: Path) -> list[Path]:
            return [
                packages.make(p, debian_arch, self._programs(p.components, arch), work)
                for p in made
            ]

        return self._packages(repository, arch, inputs, collect)

    def _pool(self, release: str, arch: str) -> Done:
        entry = self._entry(release, arch)

        def collect(work: Path) -> list[Path]:
            return [Path(shutil.copyfile(entry.path(n), work / n)) for n in entry.files]

        repository = aptrepo.debian_repository(release)
        return self._packages(repository, arch, list(entry.files.values()), collect)

    def _index(self, repository: Repository) -> Done:
        """Index a repository of the packages of all architectures that are in it by now."""
        held = {
            part.notes["architecture"]: part.files
            for part in self.record.parts.values()
            if part.notes.get("repository") == repository.name
        }
        if not held:
            raise BundleError("it needs packages, of which none could be had")
        key = key_of(
            held=held,
            signed=sha256(self.paths.bundle / "apt.asc"),
            recipe=recipe("aptrepo"),
        )

        def make() -> Part:
            debs = {self.paths.bundle / file for files in held.values() for file in files}
            names = [versions.DEBIAN_ARCHITECTURES[arch] for arch in sorted(held)]
            files = aptrepo.publish(repository, self.paths.www, debs, names, self.signer)
            return Part(key, self._digests(files))

        return self._recorded(f"apt {repository.name}", key, make)

    def _debs(self, image: Image, arch: str) -> dict[Path, str]:
        """The Debian packages that an image is made of, with their digests."""
        version = debian.PACKAGED.get(image.component)
        if not (version or image.iptables or image.certificates):
            return {}
        release = debian.PACKAGED_RELEASE if version else debian.IMAGE_RELEASE
        system = self._entry(release, arch)
        own = [name for name in system.files if name.startswith(f"{image.component}_{version}")]
        if version and not own:
            tag = image.name.rpartition(":")[2]
            raise BundleError(f"{release} has no {image.component} {tag}")
        needed = system.notes["image"] if image.iptables or image.libraries else ()
        return {
            system.path(name): digest
            for name, digest in system.files.items()
            if name in own
            or (name in needed and (image.iptables or name.startswith(("lib", "zlib"))))
            or (image.certificates and name.startswith("ca-certificates_"))
        }

    def _image(self, name: str, image: Image, arch: str) -> Done:
        debs = self._debs(image, arch)
        programs: dict[str, Path] = {}
        digests: dict[str, str] = {}
        if image.component not in debian.PACKAGED:
            component = self._entry(image.component, arch)
            digests = component.files
            programs = {program: component.path(program) for program in digests}
        key = key_of(
            programs=digests,
            debs={deb.name: digest for deb, digest in debs.items()},
            image=[image.name, dict(image.programs), image.entrypoint, image.user],
            recipe=recipe("images", "oci"),
        )
        make = partial(images.make, image, arch, programs, list(debs), self.paths, key)
        return self._recorded(name, key, make)

    def finish(self) -> None:
        """Publish the images' names, remove what no part owns, hand kubectl to the user."""
        registry.publish(self.paths, self.record)
        owned = set(self.record.digests())
        for top in (self.paths.www, self.paths.registry):
            for path in sorted(top.rglob("*"), reverse=True):
                if path.is_file() and path not in owned:
                    path.unlink()
                elif path.is_dir() and not any(path.iterdir()) and path.name != "sha256":
                    path.rmdir()
        kubernetes = self._entries.get((KUBERNETES.name, cross.native() or ""))
        if kubernetes is not None:
            link = self.paths.cache / "bin/kubectl"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(kubernetes.path("kubectl"))


def build(paths: Paths, architectures: Sequence[str], *, former: bool = False) -> bool:
    """Make a bundle whole for these architectures, if `former` with the release that upgrades are
    tried from. What it holds of others stays. Returns False if a part could not be made; each is
    named."""
    unknown = [arch for arch in architectures if arch not in BUILDABLE]
    if unknown:
        raise BundleError(f"{unknown[0]} cannot be built, only {', '.join(BUILDABLE)}")
    with paths.locked():
        builder = Builder(paths, architectures, former=former)
        builder.record.check()
        need_packages(cross.needed(builder.architectures))
        ensure_ca(paths)
        builder.signer.ensure_key()
        try:
            return _run(builder)
        finally:
            builder.signer.close()


def _run(builder: Builder) -> bool:
    steps = list(builder.steps())
    began = time.monotonic()
    table, failed = [], []
    for number, step in enumerate(steps, 1):
        started = time.monotonic()
        head = f"[{number:2}/{len(steps)}] {step.name}"
        try:
            done = step.make()
        except BundleError as problem:
            failed.append(step.name)
            print(f"{head}: {problem}", flush=True)
            continue
        if done.made:
            seconds = time.monotonic() - started
            table.append(f"{seconds:7.0f} s {done.megabytes():7.0f} MB  {step.name}")
        print(f"{head}: {'made' if done.made else 'is there'}", flush=True)
    builder.finish()
    if not failed:
        # Gigabytes that only a build which was cut off has a use for.
        shutil.rmtree(builder.paths.cache / "go/build", ignore_errors=True)
    if table:
        print("\nMade now:", *table, sep="\n")
    total = sum(path.stat().st_size for path in builder.record.digests()) / 1e6
    print(f"{builder.paths.bundle}: {total:.0f} MB, {time.monotonic() - began:.0f} s")
    if failed:
        print(f"{len(failed)} of {len(steps)} parts are missing: {', '.join(failed)}")
    return not failed
