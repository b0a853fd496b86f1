"""A machine that nobody reaches: port 9 of loopback, on which nothing listens."""

control_plane = [
    (
        "cp-1",
        {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": 9,
            "address": "192.0.2.11",
            "ssh_strict_host_key_checking": "no",
        },
    )
]
workers: list[str] = []
