# SPDX-License-Identifier: Apache-2.0
"""Schedules: more replicas at times of the day, in a zone, while the clock is what it is."""
import datetime
import json
import os
import signal
import time

import pytest

from deadline import until
from perigee import DIGITS
from test_clock import HOUR, _jumping  # noqa: F401: the fixture `jumping`

MODEL = DIGITS / "digits.onnx"
DAY = 24 * HOUR


def spec(*windows, more="", name="digits"):
    listed = "".join(f"\n    - {window}" for window in windows)
    return f"name: {name}\nmodel: {MODEL}\nscale:\n  max: 4{more}\n  schedule:{listed or ' []'}\n"


def apply(one, text, **how):
    return one.cli("apply", "-f", "-", stdin=text.encode(), **how)


def replicas(one, name="digits"):
    return sum(row["state"] == "ready" for row in one.json("show", name)["replicas"])


def test_a_window_raises_and_its_end_lowers(perigee):
    apply(perigee, spec('{cron: "* * * * *", for: 1h, min: 2}',
                        '{cron: "* * * * *", tz: Asia/Tokyo, for: 2h, min: 3}',
                        '{cron: "0 0 1 1 *", tz: Europe/Paris, for: 1m, min: 4}'))
    until("three replicas", lambda: replicas(perigee) == 3)
    shown = perigee.json("show", "digits")
    assert shown["schedule"]["min"] == 3
    assert [window["holds"] for window in shown["schedule"]["windows"]][:2] == [True, True]
    assert "at least 3 now" in perigee.cli("show", "digits").text
    assert shown["pops"][0]["floors"] == [{"min": minimum, "replicas": minimum}
                                          for minimum in (2, 3, 4)]
    kinds = [json.loads(line)["kind"] for line in
             perigee.cli("events", "digits", "--json").text.splitlines()]
    assert "schedule_changed" in kinds
    apply(perigee, spec())
    until("one replica", lambda: replicas(perigee) == 1)
    assert perigee.json("show", "digits")["schedule"] is None
    perigee.cli("delete", "digits", "--yes")


def test_show_says_what_happens_next(perigee):
    now = datetime.datetime.now(datetime.timezone.utc)
    # Not within minutes of it, so that the test does not run over the edge.
    at = (now + datetime.timedelta(hours=3)).replace(minute=0)
    apply(perigee, spec(f'{{cron: "0 {at.hour} * * *", for: 90m, min: 2}}'))
    end = at + datetime.timedelta(minutes=90)
    day = "" if at.date() == now.date() else f"{at:%a} "
    last = f"{end:%H:%M}" if end.date() == at.date() else f"{end:%a %H:%M}"
    text = perigee.json("show", "digits")["schedule"]["text"]
    assert text == f"{day}{at:%H:%M} UTC: at least 2 until {last}"
    assert f"at least 0 now; {text}" in " ".join(perigee.cli("show", "digits").text.split())
    perigee.cli("delete", "digits", "--yes")


BAD = {
    "never": ('{cron: "0 0 30 2 *", for: 1h, min: 2}', "it never comes"),
    "fields": ('{cron: "0 8 * *", for: 1h, min: 2}', "it needs five"),
    "zone": ('{cron: "0 8 * * *", tz: Europe/Pariss, for: 1h, min: 2}',
             "scale.schedule[0].tz: there is no time zone 'Europe/Pariss'; did you mean "
             "Europe/Paris?"),
    "path": ('{cron: "0 8 * * *", tz: ../../etc/passwd, for: 1h, min: 2}',
             "is no name of a time zone"),
    "folder": ('{cron: "0 8 * * *", tz: Europe, for: 1h, min: 2}', "there is no time zone"),
    "leap-seconds": ('{cron: "0 8 * * *", tz: right/Europe/Paris, for: 1h, min: 2}',
                     "time zone"),
    "above-max": ('{cron: "0 8 * * *", for: 1h, min: 5}', "is above scale.max (4)"),
    "too-long": ('{cron: "0 8 * * *", for: 400d, min: 2}', "is not within 1m to 366d"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(perigee, case):
    window, says = BAD[case]
    answer = apply(perigee, spec(window), status=1)
    assert says in " ".join(answer.said.split())
    assert perigee.json("endpoints")["items"] == []


def set_clock(one, hour, minute):
    """Of tomorrow, so that it goes forward at first."""
    midnight = time.time() // DAY * DAY
    one.ahead(int(midnight + DAY + hour * HOUR + minute * 60 - time.time()))


def test_the_time_of_the_day(jumping):
    """Into windows and out of them by a clock that is set, forward and back."""
    set_clock(jumping, 3, 0)
    apply(jumping, spec('{cron: "0 8 * * *", tz: Etc/GMT-2, for: 10h, min: 2}',
                        '{cron: "0 12 * * *", tz: Etc/GMT-2, for: 1h, min: 3}'))
    until("one replica", lambda: replicas(jumping) == 1)
    for hour, wanted in ((6, 2), (10, 3), (12, 2), (17, 1), (7, 2)):
        set_clock(jumping, hour, 30)
        until(f"{wanted} replicas at {hour}", lambda wanted=wanted: replicas(jumping) == wanted)
    assert jumping.json("show", "digits")["schedule"]["text"] == \
        "12:00 Etc/GMT-2: at least 3 until 13:00"


def test_it_goes_on_while_control_stands_still(jumping):
    def ready():
        return jumping.metric("perigee_replicas", state="ready")

    set_clock(jumping, 3, 0)
    apply(jumping, spec('{cron: "0 8 * * *", for: 10h, min: 3}'))
    until("one replica", lambda: ready() == 1)
    control = jumping.role_pid("control")
    os.kill(control, signal.SIGSTOP)
    try:
        set_clock(jumping, 8, 1)
        until("three replicas", lambda: ready() == 3)
        set_clock(jumping, 18, 0)
        until("one replica again", lambda: ready() == 1)
    finally:
        os.kill(control, signal.SIGCONT)
