#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes MMDB files (MaxMind DB, version 2.0) for tests: small ones, in both forms we read.

usage: tests/geo/mmdb.py FOLDER      writes what lies beside this file
"""
import ipaddress
import pathlib
import struct
import sys
import time

MARKER = b"\xab\xcd\xefMaxMind.com"
MADE_S = 1795824000  # 2026-11-28, so that the files are the same each time

# block, country, latitude, longitude. Nested ones are cut as a MMDB needs it: the longest holds.
BLOCKS = (
    ("10.0.0.0/8", "DE", 52.5, 13.4),
    ("10.1.0.0/16", "FR", 48.9, 2.3),
    ("10.1.2.0/24", "CH", 47.4, 8.5),
    ("10.1.2.3/32", "JP", 35.7, 139.7),
    ("10.200.0.0/13", "BR", -23.5, -46.6),
    ("127.0.0.0/8", "DE", 52.5, 13.4),
    ("127.66.0.0/16", "JP", 35.7, 139.7),
    ("127.67.0.0/16", "US", 40.7, -74.0),
    ("127.68.0.0/16", "EU", 50.0, 10.0),  # no country of ISO 3166-1
    ("192.0.2.0/25", "SE", 59.3, 18.1),
    ("203.0.113.0/24", "FR", 48.9, 2.3),
    ("203.0.113.128/27", "IT", 41.9, 12.5),
    ("2001:db8::/32", "NL", 52.4, 4.9),
    ("2001:db8:1::/48", "US", 40.7, -74.0),
    ("2001:db8:1:8000::/49", "CA", 43.7, -79.4),
    ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128", "AU", -33.9, 151.2),
)

KOSOVO = (
    ("10.0.0.0/8", "DE", 52.5, 13.4),
    ("10.1.0.0/16", "XK", None, None),
    ("10.2.0.0/16", "XK", 42.2, 20.7),
    ("10.3.0.0/16", "EU", None, None),
)


def control(kind, size):
    first = 0 if kind > 7 else kind << 5
    if size < 29:
        head, more = size, b""
    elif size < 285:
        head, more = 29, bytes([size - 29])
    else:
        head, more = 30, struct.pack(">H", size - 285)
    return bytes([first | head]) + (bytes([kind - 7]) if kind > 7 else b"") + more


def encode(value):
    if isinstance(value, str):
        text = value.encode()
        return control(2, len(text)) + text
    if isinstance(value, float):
        return control(3, 8) + struct.pack(">d", value)
    if isinstance(value, dict):
        return control(7, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(map(encode, value))
    kind, number = value  # 5: uint16, 6: uint32, 9: uint64
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return control(kind, len(data)) + data


def flat(country, latitude, longitude):
    return {"city": "Somewhere", "country_code": country, "latitude": latitude,
            "longitude": longitude}


def nested(country, latitude, longitude):
    return {"continent": {"code": "XX"}, "country": {"iso_code": country},
            "location": {"accuracy_radius": (5, 50), "latitude": latitude, "longitude": longitude},
            "registered_country": {"iso_code": "US"}}


def country_only(country, latitude, longitude):
    return {"country_code": country}


def perhaps_placed(country, latitude, longitude):
    placed = flat(country, latitude, longitude)
    return country_only(country, None, None) if latitude is None else placed


def number_only(country, latitude, longitude):
    return {"autonomous_system_number": (6, 64496)}


def build(blocks, form, version=6, record_bits=28, made_s=MADE_S, kind="Perigee-Test"):
    """The bytes of a file; blocks as in BLOCKS."""
    data, offsets = b"", {}
    tree = [[None, None]]
    for block, *place in sorted(blocks, key=lambda row: ipaddress.ip_network(row[0]).prefixlen):
        net = ipaddress.ip_network(block)
        if net.version == 6 and version == 4:
            continue
        bits = format(int(net.network_address), f"0{net.max_prefixlen}b")[:net.prefixlen]
        if net.version == 4 and version == 6:
            bits = "0" * 96 + bits
        if tuple(place) not in offsets:
            offsets[tuple(place)] = len(data)
            data += encode(form(*place))
        leaf, node = ("data", offsets[tuple(place)]), 0
        for bit in map(int, bits[:-1]):
            below = tree[node][bit]
            if not isinstance(below, int):  # cut what was wider
                tree.append([below, below])
                tree[node][bit] = below = len(tree) - 1
            node = below
        tree[node][int(bits[-1])] = leaf

    def record(value):
        if value is None:
            return len(tree)
        return value if isinstance(value, int) else len(tree) + 16 + value[1]

    nodes = b""
    for left, right in tree:
        left, right = record(left), record(right)
        if record_bits == 28:
            nodes += (left & 0xffffff).to_bytes(3, "big")
            nodes += bytes([(left >> 24) << 4 | right >> 24])
            nodes += (right & 0xffffff).to_bytes(3, "big")
        else:
            nodes += b"".join(side.to_bytes(record_bits // 8, "big") for side in (left, right))
    metadata = {"node_count": (6, len(tree)), "record_size": (5, record_bits),
                "ip_version": (5, version), "database_type": kind, "languages": ["en"],
                "binary_format_major_version": (5, 2), "binary_format_minor_version": (5, 0),
                "build_epoch": (9, int(made_s)), "description": {"en": "for tests"}}
    return nodes + bytes(16) + data + MARKER + encode(metadata)


FILES = {
    "flat.mmdb": lambda: build(BLOCKS, flat),
    "nested.mmdb": lambda: build(BLOCKS, nested, record_bits=24),
    "four.mmdb": lambda: build(BLOCKS, flat, version=4, record_bits=32),
    "numbers.mmdb": lambda: build(BLOCKS, number_only),
    "kosovo.mmdb": lambda: build(KOSOVO, perhaps_placed),
    "countries.mmdb": lambda: build(BLOCKS, country_only),
}


def write(path, blocks, form=flat, **settings):
    """For other tests: a file as of now, unless told."""
    settings.setdefault("made_s", time.time())
    pathlib.Path(path).write_bytes(build(blocks, form, **settings))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    lines = [f"{block} {country} {latitude} {longitude}\n"
             for block, country, latitude, longitude in BLOCKS]
    (folder / "blocks.txt").write_text("".join(lines))
