# What the scripts of bare commands have in common; sourced. It needs set -eu.
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

on() { # host; the script comes on stdin
	host=$1
	.venv/bin/python -m lab ssh "$host" sudo sh -es >"$log/$host" 2>&1 || {
		echo "$host: failed" >&2
		tail -n 20 "$log/$host" >&2
		return 1
	}
}

step() { echo "$(date +%s) $1"; }
