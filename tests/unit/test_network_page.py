"""The network page's manifests, and the scripts of its server run with a stand-in for wget."""

import re
import subprocess
from pathlib import Path

import pytest

from barekube import manifests, versions
from bundle import images

DIRECTORY = Path(__file__).parents[2] / "manifests/network-page"
OBJECTS = {manifests.title(each): each for _, each in manifests.read(DIRECTORY)}
POD = OBJECTS["DaemonSet network-page/network-page"]["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]
PAGE = OBJECTS["ConfigMap network-page/network-page"]["data"]
SCRIPTS = OBJECTS["ConfigMap network-page/network-page-server"]["data"]
# Answers by the end of the URL it is asked for, and keeps what it was called with.
WGET = """\
#!/bin/sh
echo "$@" >>{calls}
case $* in
{cases}
*) echo "wget: can't connect to remote host: Connection refused" >&2; exit 1 ;;
esac
"""
PEERS = "*range+.Router.Connections*) printf '192.0.2.21:6783 192.0.2.22:41234 ' ;;"
OTHER = "*http://192.0.2.21:6786/cgi-bin/report?own) printf other ;;"


def test_the_namespace_comes_first_and_all_is_of_the_stage_ingress() -> None:
    assert next(iter(OBJECTS)) == "Namespace network-page"
    labels = [each["metadata"]["labels"] for each in OBJECTS.values()]
    assert {each[manifests.STAGE_LABEL] for each in labels} == {"ingress"}
    assert {each["app.kubernetes.io/managed-by"] for each in labels} == {"barekube"}


def test_the_server_may_do_nothing_but_read_and_answer() -> None:
    assert POD["hostNetwork"] is True
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert SERVER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [next(iter(set(volume) - {"name"})) for volume in POD["volumes"]] == ["projected"]


def test_its_port_is_the_same_wherever_it_stands() -> None:
    assert SERVER["ports"] == [{"name": "http", "containerPort": 6786, "hostPort": 6786}]
    assert "$(HOST_IP):6786" in SERVER["command"]
    assert "http://$node:6786/" in SCRIPTS["report"]


def test_its_image_is_that_of_the_table_and_has_every_program_that_it_calls() -> None:
    assert SERVER["image"] == versions.IMAGES["busybox"]
    (image,) = (image for image in images.IMAGES if image.name == SERVER["image"])
    assert SERVER["command"][0] in image.applets
    for script in SCRIPTS.values():
        # Besides these it uses what is built into busybox's shell.
        assert script.startswith("#!/bin/sh\n") and "timeout 5 wget " in script
    assert {"sh", "timeout", "wget"} <= set(image.applets)


def test_the_page_takes_nothing_from_elsewhere_and_makes_no_html_of_what_it_is_told() -> None:
    assert "default-src 'none'" in PAGE["index.html"]
    for text in PAGE.values():
        assert not re.search(r"https?:|//\w+\.", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", PAGE["page.js"]
    )
    assert not re.search(r"<[^>]* (style|on\w+)=", PAGE["index.html"])


def run(
    tmp_path: Path, script: str, query: str = "", method: str = "GET", cases: str = ""
) -> tuple[str, str]:
    """(status, text) that a script answers; `cases` is what wget knows."""
    calls = tmp_path / "calls"
    calls.touch()
    wget = tmp_path / "wget"
    wget.write_text(WGET.format(calls=calls, cases=cases))
    wget.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", SCRIPTS[script]],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "REQUEST_METHOD": method,
            "QUERY_STRING": query,
            "HOST_IP": "192.0.2.11",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    head, _, text = done.stdout.partition("\n\n")
    assert head.startswith("Status: ") and "Cache-Control: no-store" in head
    assert done.stderr == ""
    return head.splitlines()[0].removeprefix("Status: "), text.removesuffix("\n")


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_status_and_report_are_what_weave_beside_it_says(tmp_path: Path) -> None:
    weave = "*http://127.0.0.1:6784/status) echo fine ;; *Accept:*json*/report) echo {} ;;"
    assert run(tmp_path, "status", cases=weave) == ("200 OK", "fine")
    assert run(tmp_path, "report", cases=weave) == ("200 OK", "{}")


@pytest.mark.parametrize("script", ["status", "report"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered_and_nothing_asked_for_the_rest(
    tmp_path: Path, script: str, method: str
) -> None:
    answer = run(tmp_path, script, method=method, cases="*) echo {} ;;")
    assert answer == ("405 Method Not Allowed", "only GET is answered")
    assert asked(tmp_path) == []


@pytest.mark.parametrize("script", ["status", "report"])
def test_a_weave_that_is_silent_is_said_to_be(tmp_path: Path, script: str) -> None:
    assert run(tmp_path, script) == ("502 Bad Gateway", "Weave on this node does not answer")


def test_another_node_is_asked_by_the_server_that_runs_there(tmp_path: Path) -> None:
    assert run(tmp_path, "report", "node=192.0.2.21", cases=PEERS + OTHER) == ("200 OK", "other")
    assert len(asked(tmp_path)) == 2


def test_a_node_knows_itself(tmp_path: Path) -> None:
    own = "*http://192.0.2.11:6786/cgi-bin/report?own) printf own ;;"
    assert run(tmp_path, "report", "node=192.0.2.11", cases=own) == ("200 OK", "own")


@pytest.mark.parametrize(
    "query",
    [
        "node=",
        "node=localhost",
        "node=192.0.2.21:80",
        "node=192.0.2.21/../x",
        "node=$(id)",
        "node=192.0.2.21&node=192.0.2.22",
        "node=%31",
        "node=::1",
        "format={{.}}",
        "own=1",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(tmp_path: Path, query: str) -> None:
    status, _ = run(tmp_path, "report", query, cases="*) echo {} ;;")
    assert status == "400 Bad Request"
    assert asked(tmp_path) == []


@pytest.mark.parametrize("node", ["192.0.2.2", "92.0.2.21", "198.51.100.1", "1", "6783"])
def test_it_is_no_proxy_to_an_address_that_weave_does_not_speak_with(
    tmp_path: Path, node: str
) -> None:
    status, text = run(tmp_path, "report", f"node={node}", cases=PEERS + OTHER)
    assert (status, text) == ("404 Not Found", f"Weave on this node knows nobody at {node}")
    assert len(asked(tmp_path)) == 1


def test_a_node_that_is_silent_and_one_whose_weave_is_are_told_apart(tmp_path: Path) -> None:
    answer = run(tmp_path, "report", "node=192.0.2.21", cases=PEERS)
    assert answer == ("502 Bad Gateway", "it does not answer")
    refused = (
        "*report?own) echo 'wget: server returned error: HTTP/1.1 502 Bad Gateway' >&2; exit 1"
    )
    answer = run(tmp_path, "report", "node=192.0.2.21", cases=f"{PEERS}{refused} ;;")
    assert answer == ("502 Bad Gateway", "its Weave does not answer")
