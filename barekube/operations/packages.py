"""apt: repositories whose key is checked before it is trusted, and packages, exact and held."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from pyinfra import host
from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import containerd, openpgp, settings, versions
from barekube.dpkg import is_whole, plan
from barekube.facts.machine import Found, Machine
from barekube.operations import files
from barekube.operations.order import changing, exclusively, refuse, to_come
from barekube.preflight import other_runtime, other_version
from barekube.text import TextFile, changes
from barekube.traces import KUBELET_CONF

BUNDLE_CA = "/etc/barekube/bundle-ca.crt"
_BUNDLE_CONF = "/etc/apt/apt.conf.d/60barekube-bundle"
_RUNTIME = "containerd.io"
# The package by which a host trusts sources on the internet.
_AUTHORITIES = "ca-certificates"
APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300"
    " -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0"
)


# A dpkg that lost power is finished first; apt refuses to work beside its remains. Where it was
# between packages that need each other in one version, the other ones lack. And apt takes a list
# that a power cut emptied for fresh: it looks at the file's time, and not at its size.
FINISH = (
    "dpkg --configure -a --force-confold >/dev/null ||"
    f" {APT} --no-remove --fix-broken install || true;"
    " find /var/lib/apt/lists -maxdepth 1 -type f -empty ! -name lock -delete"
)


class AptKey(FactBase[str | None]):
    """The text of a key file as the host downloads it; None: not known."""

    def command(self, url: str) -> StringCommand:
        # apt-helper knows apt's own CAs and proxies, and is on every Debian.
        return StringCommand(
            "d=$(mktemp -d) && trap 'rm -rf \"$d\"' EXIT"
            " && /usr/lib/apt/apt-helper -qq download-file",
            QuoteString(url),
            '"$d/key" >&2 && cat "$d/key" && echo end',
        )

    def process(self, output: list[str]) -> str:
        if output[-1] != "end":
            raise FactProcessError("the key was cut off; run again")
        return "\n".join(output[:-1]) + "\n"


def key_path_of(name: str | None) -> str:
    return f"/etc/apt/keyrings/barekube-{name}.asc"


def source_path(name: str) -> str:
    return f"/etc/apt/sources.list.d/barekube-{name}.sources"


# What a host has only while it has a bundle: for its distribution's own packages, and, once no
# source is in the bundle any more, for its trust; a mirror without that trust would be of no use.
DEBIAN_OF_BUNDLE = (source_path("debian"), key_path_of("debian"))
TRUST_IN_BUNDLE = (BUNDLE_CA, _BUNDLE_CONF, containerd.MIRROR)


@operation()
def installed(
    wanted: Mapping[str, str | None],
    source: str | None = None,
    trust: Sequence[TextFile] = (),
    node: str | None = None,
    drained: bool = False,
    absent: Sequence[str] = (),
) -> Generator[PyinfraCommand]:
    """Install packages; those with an exact version are held.

    `wanted` maps a name to its exact version (in which {distribution}, {release} and {codename}
    are the host's) or to None, whatever its sources have. `source` names the apt repository of
    group_data that they come from: the host downloads its key, and it is trusted only if the
    fingerprint is the one in group_data. `trust` are files that apt needs before it can reach
    the source. `node` is the version of Kubernetes that a host has to run if it is a node already;
    unless it was `drained` a node keeps its runtime. `absent` are files of ours that are to go.
    One round trip where nothing differs.
    """
    yield from exclusively(_installed(wanted, source, trust, node, drained, absent))


def _installed(
    wanted: Mapping[str, str | None],
    source: str | None,
    trust: Sequence[TextFile],
    node: str | None,
    drained: bool,
    absent: Sequence[str],
) -> Generator[PyinfraCommand]:
    needed = list(trust) or (_trust() if source else [])
    paths = [*(file.path for file in needed), *absent]
    key_path = key_path_of(source)
    if source:
        paths += [source_path(source), key_path]
    asked = list({**wanted, _AUTHORITIES: None})
    found = host.get_fact(Machine, files=paths, packages=asked, secret=[KUBELET_CONF])
    if found is None:
        yield from refuse("its packages cannot be read; mend the error above, then run again")
        return
    exact = versions.written_out(wanted, found.release)
    if KUBELET_CONF in found.files and (wrong := _rolled(found, exact, node, drained)):
        yield from refuse(wrong)
        return
    todo = plan(exact, dict(found.packages))
    files_wanted = list(trust)
    repository = settings.source(source, found.release) if source else None
    if repository:
        files_wanted.append(TextFile(source_path(repository.name), render(repository, key_path)))
    differing = changes(files_wanted, dict(found.files))
    key = found.files.get(key_path)
    trusted = repository is None or (
        key is not None and key.mode == "644" and is_key(repository.fingerprint, key.text())
    )
    going = files.removal(absent, found.files)
    if trusted and not differing and not todo.said and not going:
        host.noop(f"{len(wanted)} packages and their source are as wanted")
        return
    if source and not trust and not to_come("host") and (wrong := _too_early(needed, found)):
        yield from refuse(wrong)
        return
    for change in differing:
        files.say(change)
    if repository and not trusted:
        host.log(f"{key_path}: the key {repository.fingerprint} from {repository.key_url}")
    for phrase in todo.said:
        host.log(phrase)
    for change in differing:
        yield files.write(change.file)
    yield from going
    if repository and not trusted:
        downloaded = yield from _key(repository, key_path)
        if not downloaded:
            return
    if todo.install:
        yield changing(_install(todo.install, source))
    if todo.hold:
        yield changing(f"apt-mark -qq hold {' '.join(todo.hold)}")


def _rolled(
    found: Found, exact: Mapping[str, str | None], version: str | None, drained: bool
) -> str | None:
    """The sentence for a node of which only upgrade.py renews the packages, one after the other."""
    kubelet, runtime = found.packages.get("kubelet"), found.packages.get(_RUNTIME)
    if version and (wrong := other_version(kubelet.version if kubelet else None, version)):
        return wrong
    wanted = exact.get(_RUNTIME)
    if drained or not wanted or not runtime or not is_whole(runtime):
        return None
    return other_runtime(runtime.version, wanted)


def _key(repository: settings.Source, path: str) -> Generator[PyinfraCommand, None, bool]:
    """Download the key and write it, if it is the one of group_data; whether it is."""
    text = host.get_fact(AptKey, url=repository.key_url)
    if text is None:
        yield from refuse(
            f"{repository.key_url} cannot be downloaded; mend the network or group_data's"
            " bundle_url, then run again"
        )
        return False
    if not is_key(repository.fingerprint, text):
        yield from refuse(wrong_key(repository))
        return False
    yield files.write(TextFile(path, text))
    return True


def _install(packages: Sequence[str], source: str | None) -> str:
    only = ""
    if source:
        only = (
            f"-o Dir::Etc::sourcelist={source_path(source)}"
            " -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
        )
    # Error-Mode: a source that does not answer is an error, not a warning.
    return (
        f"{FINISH}; {APT} -o APT::Update::Error-Mode=any {only} update || {{ echo 'a source of"
        " packages, named above, does not answer or is broken; mend it, or the network, then run"
        " again' >&2; exit 1; };"
        f" {APT} --no-install-recommends --allow-change-held-packages --allow-downgrades"
        f" install {' '.join(packages)}"
    )


def _trust() -> list[TextFile]:
    """The files by which this host reaches a source, and which host.py writes."""
    url = host.data.bundle_url
    return trust_of_bundle(url, Path(host.data.bundle_ca).read_text()) if url else []


def _too_early(needed: Sequence[TextFile], found: Found) -> str | None:
    """A sentence where the host does not trust its source yet."""
    lack = ""
    if needed:
        differing = changes(needed, dict(found.files))
        lack = f"{differing[0].file.path} is not as the bundle wants it" if differing else ""
    elif _AUTHORITIES in host.data.host_packages:
        there = found.packages.get(_AUTHORITIES)
        lack = "" if there and there.status == "installed" else f"{_AUTHORITIES} is not installed"
    return f"{lack}; run deploys/host.py first" if lack else None


def trust_of_bundle(url: str, ca: str) -> list[TextFile]:
    """The files by which apt and containerd trust the bundle at `url`; `ca` is its CA's text."""
    machine = url.removeprefix("https://").partition("/")[0].partition(":")[0]
    option = f'Acquire::https::{machine}::CaInfo "{BUNDLE_CA}";\n'
    return [TextFile(BUNDLE_CA, ca), TextFile(_BUNDLE_CONF, option)]


def wrong_key(source: settings.Source) -> str:
    """The sentence for a key that is not the one of group_data."""
    return (
        f"the key at {source.key_url} is not {source.fingerprint}; compare it with what its"
        " publisher says, then correct group_data"
    )


def is_key(fingerprint: str, text: str) -> bool:
    """Whether an armoured key file holds this key and no other."""
    try:
        # A second key in the file would be trusted by apt as well.
        return openpgp.fingerprints(text) == [fingerprint]
    except ValueError:
        return False


def render(source: settings.Source, key_path: str) -> str:
    """The deb822 text of a repository; see sources.list(5)."""
    lines = ["Types: deb", f"URIs: {source.uri}", f"Suites: {source.suite}"]
    if source.components:
        lines.append(f"Components: {source.components}")
    return "\n".join([*lines, f"Signed-By: {key_path}", ""])
