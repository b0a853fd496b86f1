"""python -m bundle.pin [COMPONENT]...: writes go.mod and go.sum of components anew.

For whoever changes a version in the table: the two files are committed, and a build neither changes
them nor takes a module that go.sum does not have.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from barekube import versions
from bundle.components import COMPONENTS, FORMER, LAB_NETWORK, Component
from bundle.errors import BundleError
from bundle.golang import Go, as_tuple, find_go
from bundle.machine import run
from bundle.paths import Paths, default_cache

# The modules whose programs are built; all others are only required by them.
_MODULES = {
    "kubernetes": ("k8s.io/kubernetes",),
    "containerd": ("github.com/containerd/containerd/v2",),
    "runc": ("github.com/opencontainers/runc",),
    "cni-plugins": ("github.com/containernetworking/plugins",),
    "cri-tools": ("sigs.k8s.io/cri-tools",),
    "etcd": tuple(f"go.etcd.io/etcd/{name}/v3" for name in ("server", "etcdctl", "etcdutl")),
    "coredns": ("github.com/coredns/coredns",),
    "traefik": ("github.com/traefik/traefik/v3",),
}


def replacements(
    upstream: Mapping[str, object], version: str, ours: Collection[str] = ()
) -> Iterator[str]:
    """Upstream's own replace lines; Go heeds them only in the main module, so they are copied.

    One that points into its repository becomes the same module as it was published: Kubernetes
    publishes k8s.io/api v0.37.2 with v1.37.2. Where upstream does not publish it, a directory of
    the same name beside our go.mod takes its place; `ours` names those that there are. (etcd's
    modules require each other by version.)
    """
    replaces = upstream.get("Replace") or []
    assert isinstance(replaces, list)  # noqa: S101 - what `go mod edit -json` documents
    for line in replaces:
        old, new = line["Old"]["Path"], line["New"]
        if not new["Path"].startswith("."):
            old_version = line["Old"].get("Version", "")
            yield f"{old} {old_version} => {new['Path']} {new['Version']}".replace("  ", " ")
        elif old.startswith("k8s.io/"):
            yield f"{old} => {old} v0.{version.split('.', 1)[1]}"
        elif (name := Path(new["Path"]).name) in ours:
            yield f"{old} => ./{name}"


def go_mod(component: Component, go: Go) -> str:
    """The text of a component's go.mod, before Go has completed it."""
    version = f"v{component.version}"
    ours = [path.parent.name for path in component.module.glob("*/go.mod")]
    newest = "1.21"
    blocks: dict[str, set[str]] = {"require": set(), "replace": set(), "exclude": set()}
    for module in _MODULES[component.kind]:
        found = json.loads(go.ask("mod", "download", "-json", f"{module}@{version}", cwd=Path("/")))
        upstream = json.loads(go.ask("mod", "edit", "-json", found["GoMod"]))
        newest = max(newest, upstream["Go"], key=as_tuple)
        blocks["require"].add(f"{module} {version}")
        blocks["replace"] |= set(replacements(upstream, component.version, ours))
        blocks["exclude"] |= {f"{x['Path']} {x['Version']}" for x in upstream.get("Exclude") or []}
    text = f"module barekube.lab/bundle/{component.name}\n\ngo {newest}\n"
    for verb, lines in blocks.items():
        if lines:
            text += f"\n{verb} (\n" + "".join(f"\t{line}\n" for line in sorted(lines)) + ")\n"
    return text


def pin(component: Component, go: Go) -> None:
    """Write go.mod, and let Go complete it and go.sum for every architecture."""
    component.module.mkdir(parents=True, exist_ok=True)
    (component.module / "go.mod").write_text(go_mod(component, go))
    (component.module / "go.sum").unlink(missing_ok=True)
    tags = f"-tags={','.join(component.tags)}"
    for arch in versions.ARCHITECTURES.values():
        # Not `go mod tidy`: that wants what the tests of all dependencies need, too.
        run(
            [go.program, "list", "-mod=mod", "-deps", tags, *component.programs.values()],
            what=f"pinning {component.name} for {arch}",
            env={**os.environ, **go.env, "GOARCH": arch, "CGO_ENABLED": str(int(component.cgo))},
            cwd=component.module,
        )


def main() -> int:
    """Pin the components that are named, or all."""
    chosen = sys.argv[1:] or list(_MODULES)
    paths = Paths(default_cache(), default_cache() / "bundle")
    try:
        for component in (*COMPONENTS, *FORMER):
            if component is not LAB_NETWORK and component.kind in chosen:
                pin(component, find_go(paths))
                print(f"{component.module}: pinned to v{component.version}")
    except BundleError as problem:
        print(f"bundle: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
