#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time zones and what fires in them, 2020 to 2060, against Python's zoneinfo.

usage: check_zones.py ZONE_TIMES     with PERIGEE_ZONES=all each day of each zone, else a part
"""
import datetime
import hashlib
import os
import pathlib
import subprocess
import sys
import zoneinfo

PROGRAM = sys.argv[1]
EVERYTHING = os.environ.get("PERIGEE_ZONES") == "all"
UTC = datetime.timezone.utc
FIRST, LAST = datetime.date(2020, 1, 1), datetime.date(2060, 12, 31)
FROM = int(datetime.datetime(2020, 1, 1, tzinfo=UTC).timestamp())
TO = int(datetime.datetime(2061, 1, 1, tzinfo=UTC).timestamp())
DAY = 24 * 3600
# Half an hour, two hours, below standard time, midnight, a rule beyond midnight, a date line.
ODD = ["Africa/Casablanca", "America/Havana", "America/Nuuk", "America/St_Johns",
       "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Australia/Lord_Howe",
       "Europe/Dublin", "Europe/Paris", "Pacific/Chatham", "Pacific/Kiritimati", "Africa/Cairo",
       "Asia/Tehran"]
# cron, its minutes of the day, whether it fires on a day; True: for the odd zones alone.
CRONS = [
    ("30 2 * * *", [150], lambda day: True, False),
    ("0 0 * * *", [0], lambda day: True, False),
    ("59,0 23,0-3 * * *", [0, 59, 60, 119, 120, 179, 180, 239, 1380, 1439], lambda day: True, True),
    ("15 1 1,29 3,10 0", [75],
     lambda day: day.month in (3, 10) and (day.day in (1, 29) or day.isoweekday() == 7), False),
]


def ask(*words):
    """{zone: [[number, ...], ...]}"""
    output = subprocess.run([PROGRAM, *map(str, words)], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    found = {}
    for line in output.splitlines():
        name, *numbers = line.split(" ")
        found.setdefault(name, []).append([int(number) for number in numbers])
    return found


def zones():
    """All names, and of those that are the same file one."""
    names = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
    folders = [pathlib.Path(folder) for folder in zoneinfo.TZPATH]
    seen, one_each = set(), []
    for name in names:
        files = [folder / name for folder in folders if (folder / name).is_file()]
        digest = hashlib.sha256(files[0].read_bytes()).digest()
        if digest not in seen:
            one_each.append(name)
        seen.add(digest)
    return names, one_each


def offset_at(zone, at):
    return int(datetime.datetime.fromtimestamp(at, zone).utcoffset().total_seconds())


def check_offsets(name, changes, step):
    zone = zoneinfo.ZoneInfo(name)
    assert changes[0][0] == FROM, (name, changes[0])
    for i, (since, offset) in enumerate(changes):
        until = changes[i + 1][0] if i + 1 < len(changes) else TO
        for at in [*range(since, until, step), until - 1]:
            assert offset_at(zone, at) == offset, f"{name} at {at}: not {offset}"


def instant(zone, local):
    """When clocks first show `local` or later."""
    first, second = (int(local.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    if first <= second:
        return first
    low, high, offset = second, first, offset_at(zone, first)
    while low + 1 < high:  # it does not exist: clocks are put forward after `low`
        middle = (low + high) // 2
        low, high = (low, middle) if offset_at(zone, middle) == offset else (middle, high)
    return high


def expected(name, minutes, fires):
    zone = zoneinfo.ZoneInfo(name)
    found, day = set(), FIRST
    while day <= LAST:
        if fires(day):
            for minute in minutes:
                local = datetime.datetime(day.year, day.month, day.day, minute // 60, minute % 60)
                found.add(instant(zone, local))
        day += datetime.timedelta(days=1)
    return sorted(found)


def main():
    names, one_each = zones()
    offsets = ask("offsets", FROM, TO, *names)
    assert set(offsets) == set(names)
    for name in one_each:
        check_offsets(name, offsets[name], DAY // 4 if EVERYTHING else 30 * DAY)

    odd = [name for name in ODD if name in names]
    count = 0
    for cron, minutes, fires, few in CRONS if EVERYTHING else [CRONS[0], CRONS[3]]:
        some = odd if few or not EVERYTHING else one_each
        # The first and the last day are another in UTC.
        theirs = ask("fires", cron, FROM - DAY, TO + DAY, *some)
        for name in some:
            wanted = [at for at in expected(name, minutes, fires) if FROM + DAY <= at < TO - DAY]
            got = [at for at, in theirs[name] if FROM + DAY <= at < TO - DAY]
            differ = sorted(set(wanted) ^ set(got))
            assert got == wanted, f"{name}, {cron}: {differ[:5]}"
            count += len(got)
    print(f"{len(names)} zones, {len(one_each)} of them different; {count} firings")


main()
