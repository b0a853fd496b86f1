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
from bundle import aptrepo, debian, golang, images, packages, registry
from bundle.aptrepo import Repository
from bundle.components import COMPONENTS, FORMER, KUBERNETES, Component
from bundle.errors import BundleError
from bundle.golang import Go
from bundle.images import Image
from bundle.integrity import Entry, Part, Record, key_of, sha256
from bundle.machine import need_packages
from bundle.packages import Package
from bundle.paths import Paths
from bundle.trust import Signer, ensure_ca

# What can be built today. The other architectures need cross compilers for runc and pause.
BUILDABLE: Final = ("amd64",)
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
            for component in (*COMPONENTS, *(FORMER if self.former else ())):
                name = f"{component.name} {component.version} {arch}"
                yield Step(name, partial(self._compile, component, arch))
            yield Step(f"pause {versions.PAUSE} {arch}", partial(self._pause, arch))
            for release in debian.RELEASES:
                name = f"Debian packages {release} {arch}"
                yield Step(name, partial(self._fetch, release, arch))
        for component in (KUBERNETES, *(FORMER[:1] if self.former else ())):
            name = f"apt pkgs.k8s.io {versions.kubernetes_minor(component.version)}"
            yield Step(name, partial(self._kubernetes, component))
        for release in debian.RELEASES:
            yield Step(f"apt download.docker.com {release}", partial(self._docker, release))
            yield Step(f"apt Debian {release}", partial(self._pool, release))
        for arch in self.architectures:
            for image in (*images.IMAGES, *(images.FORMER_IMAGES if self.former else ())):
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
        entry = golang.entry(component, arch, go, self.paths)
        make = partial(golang.compile_component, component, arch, go, self.paths)
        if not entry.files:
            print(f"      {component.name}: about {component.minutes} min on two cores", flush=True)
        return self._cached(component.name, arch, entry, make)

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

    def _repository(
        self, repository: Repository, inputs: list[str], collect: Callable[[Path], list[Path]]
    ) -> Done:
        """Publish a repository of what `collect` puts into a directory, if `inputs` are new."""
        name = f"apt {repository.path} {repository.suite}".rstrip()
        key = key_of(
            inputs=[*inputs, sha256(self.paths.bundle / "apt.asc")],
            architectures=self.architectures,
            recipe=recipe("packages", "aptrepo", "components"),
            versions=sorted(versions.IMAGES.values()),
        )

        def make() -> Part:
            with tempfile.TemporaryDirectory(dir=self.paths.bundle, prefix=".new-") as work:
                debs = collect(Path(work))
                names = [versions.DEBIAN_ARCHITECTURES[arch] for arch in self.architectures]
                files = aptrepo.publish(repository, self.paths.www, debs, names, self.signer)
            return Part(
                key, {str(path.relative_to(self.paths.bundle)): sha256(path) for path in files}
            )

        return self._recorded(name, key, make)

    def _made_here(self, repository: Repository, made: Sequence[Package]) -> Done:
        """Publish packages that are made of programs."""
        names = sorted({name for package in made for name in package.components})
        inputs = [package.version for package in made]
        for arch in self.architectures:
            for name in names:
                inputs += self._entry(name, arch).files.values()

        def collect(work: Path) -> list[Path]:
            return [
                packages.make(
                    package,
                    versions.DEBIAN_ARCHITECTURES[arch],
                    self._programs(package.components, arch),
                    work,
                )
                for arch in self.architectures
                for package in made
            ]

        return self._repository(repository, inputs, collect)

    def _kubernetes(self, component: Component) -> Done:
        return self._made_here(
            aptrepo.kubernetes_repository(component.version),
            packages.kubernetes_packages(component),
        )

    def _docker(self, release: str) -> Done:
        package = packages.containerd_package(debian.RELEASES[release], release)
        return self._made_here(aptrepo.docker_repository(release), [package])

    def _pool(self, release: str) -> Done:
        entries = [self._entry(release, arch) for arch in self.architectures]
        inputs = [digest for entry in entries for digest in entry.files.values()]

        def collect(work: Path) -> list[Path]:
            return [
                Path(shutil.copyfile(entry.path(name), work / name))
                for entry in entries
                for name in entry.files
            ]

        return self._repository(aptrepo.debian_repository(release), inputs, collect)

    def _debs(self, image: Image, arch: str) -> dict[Path, str]:
        """The Debian packages that an image is made of, with their digests."""
        packaged = image.component == debian.BUSYBOX
        if not (packaged or image.iptables or image.certificates):
            return {}
        release = debian.BUSYBOX_RELEASE if packaged else debian.IMAGE_RELEASE
        system = self._entry(release, arch)
        debs = {
            system.path(name): digest
            for name, digest in system.files.items()
            if (image.iptables and name in system.notes["image"])
            or (image.certificates and name.startswith("ca-certificates_"))
            or (packaged and name.startswith(f"{debian.BUSYBOX}_1%3a{versions.BUSYBOX}-"))
        }
        if packaged and not debs:
            raise BundleError(f"{release} has no {debian.BUSYBOX} {versions.BUSYBOX}")
        return debs

    def _image(self, name: str, image: Image, arch: str) -> Done:
        debs = self._debs(image, arch)
        programs: dict[str, Path] = {}
        digests: dict[str, str] = {}
        if image.component != debian.BUSYBOX:
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
        kubernetes = self._entries.get((KUBERNETES.name, self.architectures[0]))
        if kubernetes is not None:
            link = self.paths.cache / "bin/kubectl"
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(kubernetes.path("kubectl"))


def build(paths: Paths, architectures: Sequence[str], *, former: bool = False) -> bool:
    """Make a bundle whole, if `former` with the release that upgrades are tried from, which then
    stays. Returns False if a part could not be made; each is named."""
    unknown = [arch for arch in architectures if arch not in BUILDABLE]
    if unknown:
        raise BundleError(f"{unknown[0]} cannot be built yet, only {', '.join(BUILDABLE)}")
    with paths.locked():
        builder = Builder(paths, architectures, former=former)
        builder.record.check()
        need_packages()
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
