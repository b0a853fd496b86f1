"""python -m bundle build | list | add FILE | serve"""

import argparse
import os
import sys
from pathlib import Path

from barekube import versions
from bundle import archive, build, listing, server, trust
from bundle.errors import BundleError, sentence
from bundle.integrity import Record
from bundle.machine import end_by_sigterm
from bundle.paths import Paths, default_cache


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bundle",
        description="An offline source of Debian packages and images for a cluster.",
    )
    parser.add_argument(
        "--dir", type=Path, help="the bundle's directory (default: ~/.cache/barekube/bundle)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="compile or fetch what is missing")
    make.add_argument(
        "--arch",
        action="append",
        help="amd64 (default), arm64 or arm; may be repeated; what is there of others stays",
    )
    make.add_argument(
        "--kubernetes",
        choices=[versions.FORMER["kubernetes"]],
        help="this release too, to try upgrades from; it stays in the bundle",
    )
    commands.add_parser("list", help="say what is there, what is missing, and what it is for")
    add = commands.add_parser(
        "add", help="take images from an archive, or a file that a lock names"
    )
    add.add_argument("file", type=Path, help="an OCI layout or `docker save` (tar), or Rook's")
    serve = commands.add_parser("serve", help="serve the bundle over HTTPS")
    serve.add_argument("--address", default="127.0.0.1", help="where to listen (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8443, help="where to listen (8443)")
    serve.add_argument(
        "--name", action="append", default=[], help="a further name or address of this server"
    )
    return parser.parse_args()


def _serve(paths: Paths, options: argparse.Namespace) -> None:
    server.check(paths)
    context = trust.server_context(paths, server.names_of(options.address, options.name))
    listening = server.open_server(paths, options.address, options.port, context)
    print(f"serving {paths.bundle} on https://{options.address}:{options.port}/", flush=True)
    print(f"CA: {paths.bundle / 'ca.crt'}", flush=True)
    print(f"key of its apt repositories: {trust.Signer(paths).fingerprint()}", flush=True)
    listening.serve_forever()


def main() -> int:
    """Run one command; 1 and a sentence if it cannot be done."""
    # Keys and half-written files are nobody else's business.
    os.umask(0o022)
    options = _arguments()
    cache = default_cache()
    end_by_sigterm()
    try:
        paths = Paths(cache, (options.dir or cache / "bundle").resolve())
        if options.command == "build":
            return (
                0
                if build.build(paths, options.arch or ["amd64"], former=bool(options.kubernetes))
                else 1
            )
        if options.command == "list":
            print(listing.table(paths, Record(paths.manifest)))
        elif options.command == "add":
            locked = archive.add_locked(paths, options.file)
            for name in [locked] if locked else archive.add(paths, options.file):
                print(f"added {name}")
        else:
            _serve(paths, options)
    except BundleError as problem:
        print(f"bundle: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bundle: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
