"""Fingerprints of OpenPGP keys, to check a downloaded apt key before a host trusts it."""

import base64
import binascii
import hashlib
import re


def fingerprints(armoured: str) -> list[str]:
    """The fingerprints of all primary keys in an armoured key file, upper-case hex.

    RFC 9580, 5.5.4: a version 4 fingerprint is SHA-1 over 0x99, the length and the key packet;
    version 6 is SHA-256 over 0x9b. Raises ValueError for what is not an armoured public key.
    """
    blocks = re.findall(
        r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[^\n]+: [^\n]*\n)*\s*\n(.*?)"
        r"(?:\n=[^\n]{4})?\n-----END PGP PUBLIC KEY BLOCK-----",
        armoured.replace("\r\n", "\n"),
        re.DOTALL,
    )
    if not blocks:
        raise ValueError("not an armoured OpenPGP public key")
    try:
        data = b"".join(base64.b64decode("".join(b.split()), validate=True) for b in blocks)
    except binascii.Error as error:
        raise ValueError("the key's armour is damaged") from error
    result = []
    while data:
        tag, body, data = _packet(data)
        if tag == 6 and body:
            if body[0] == 4:
                framed = b"\x99" + len(body).to_bytes(2, "big") + body
                result.append(hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper())
            elif body[0] == 6:
                framed = b"\x9b" + len(body).to_bytes(4, "big") + body
                result.append(hashlib.sha256(framed).hexdigest().upper())
    return result


def _packet(data: bytes) -> tuple[int, bytes, bytes]:
    """(tag, body, rest) of the first packet; RFC 9580, 4.2."""
    try:
        head = data[0]
        if head & 0x40:
            tag, first = head & 0x3F, data[1]
            if first < 192:
                start, length = 2, first
            elif first < 224:
                start, length = 3, ((first - 192) << 8) + data[2] + 192
            elif first == 255:
                start, length = 6, int.from_bytes(data[2:6], "big")
            else:
                raise ValueError("the key has a packet of partial length")
        else:
            tag, size = (head >> 2) & 0x0F, (1, 2, 4)[head & 3]
            start, length = 1 + size, int.from_bytes(data[1 : 1 + size], "big")
    except IndexError as error:
        raise ValueError("the key is cut off") from error
    if not head & 0x80 or start + length > len(data):
        raise ValueError("the key is damaged")
    return tag, data[start : start + length], data[start + length :]
