# SPDX-License-Identifier: Apache-2.0
"""Which rounds count: those in which the machine's floor stood where it mostly stands. The others
are set aside, and run again."""
import statistics

APART_MAX = 0.20            # of the floor's median
FLOORS = ("nginx", "in-process")
KEYS = ("p50_us", "rps", "cpu_us")
BY = {"p99_us": "p50_us"}   # a tail moves on a steady machine as well


def floor(figures, against):
    """By what a ratio to `against` is judged: itself, where it is a floor."""
    if against in FLOORS:
        return against
    return next((name for name in FLOORS if name in figures), None)


def steady(numbers):
    """Which of them, by index, are near their median."""
    middle = statistics.median(numbers)
    return [i for i, number in enumerate(numbers) if abs(number - middle) <= APART_MAX * middle]


def rounds(figures, against, key):
    """Which rounds, by index, count for ratios of `key` to `against`; without a floor all."""
    name = floor(figures, against)
    if not figures.get(name):
        return list(range(len(next(iter(figures.values()), []))))
    return steady([one[BY.get(key, key)] for one in figures[name]])


def needs(names, bars):
    """[(against, key)] that a case's ratios are made of."""
    found = [("nginx", key) for key in KEYS if "nginx" in names]
    return found + [(bar.against, bar.key) for bar in bars if bar.against in names
                    and (bar.against, bar.key) not in found]


def more(figures, wanted, asked):
    """Is another round to be run? As many as were asked for, and until so many count for each of
    `wanted`; at most twice as many in all."""
    done = min(map(len, figures.values()), default=asked)
    return done < asked or (done < 2 * asked and any(
        len(rounds(figures, *one)) < asked for one in wanted))
