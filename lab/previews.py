"""Transcripts of previews on the lab, for docs/previews.md:

    .venv/bin/python -m lab.previews

It ends the lab that there is, boots a fresh one, previews site.py on it, runs it, previews it
again, breaks something on each host, and previews it a third time; then site.py mends it.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_PAGE: Final = _ROOT / "docs/previews.md"
_LAB: Final = ["python", "-m", "lab"]
_SITE: Final = ["pyinfra", "lab/inventory.py", "deploys/site.py"]
_PREVIEW: Final = [*_SITE, "--dry", "--diff"]
# pyinfra's table repeats what was said of each host.
_TABLE: Final = re.compile(r" +(Operation +Change|deploys/\S+ \| )")
_SCHEDULER: Final = "/etc/kubernetes/manifests/kube-scheduler.yaml"
_BREAK: Final = {
    "cp-1": "kubectl --kubeconfig /etc/kubernetes/admin.conf patch clusterrole traefik-internal"
    ' --type=json -p \'[{"op":"add","path":"/rules/0/verbs/-","value":"update"}]\';'
    f" echo '# by hand' >>{_SCHEDULER}",
    "worker-1": "echo '# by hand' >>/etc/containerd/config.toml; rm /etc/sysctl.d/90-barekube.conf",
    "worker-2": "systemctl stop kubelet; echo 1 >/proc/sys/kernel/panic",
}


def _run(words: list[str], script: str | None = None) -> str:
    """What a command says; it ends the program if it fails."""
    program = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    done = subprocess.run(program, cwd=_ROOT, input=script, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(words)}: failed")
    return done.stdout + done.stderr


def _section(title: str, words: str) -> str:
    lines = [each.rstrip() for each in _run(_PREVIEW).splitlines() if not _TABLE.match(each)]
    said = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return f"## {title}\n\n{words}\n\n```\n$ {' '.join(_PREVIEW)}\n{said}\n```\n"


def main() -> None:
    """Write the page."""
    _run([*_LAB, "down"])
    _run([*_LAB, "up"])
    parts = [
        "# Previews of the lab\n\nWritten by `make previews`; pyinfra's table is left out.\n",
        _section("Fresh", "Machines on which nothing was ever done."),
    ]
    _run([*_SITE, "-y"])
    parts.append(_section("Converged", "After site.py."))
    for host, script in _BREAK.items():
        _run([*_LAB, "ssh", host, "sudo", "sh", "-es"], script)
    broken = "\n".join(f"{host:<9} {script}" for host, script in _BREAK.items())
    parts.append(_section("Drifted", f"After this, by hand:\n\n```\n{broken}\n```"))
    _PAGE.parent.mkdir(exist_ok=True)
    _PAGE.write_text("\n".join(parts))
    _run([*_SITE, "-y"])
    print(f"written: {_PAGE.relative_to(_ROOT)}")


if __name__ == "__main__":
    main()
