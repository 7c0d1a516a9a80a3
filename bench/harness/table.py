# SPDX-License-Identifier: Apache-2.0
"""From rounds to rows: medians, quartiles, ratios of one round's figures, and what is refused."""
import statistics

from harness import steady

SPREAD_MAX = 0.20
KEYS = ("p50_us", "p99_us", "rps", "cpu_us")
TITLES = {"p50_us": "p50", "p99_us": "p99", "rps": "req/s", "cpu_us": "CPU"}


def quartiles(numbers):
    if len(numbers) == 1:
        return numbers[0], numbers[0], numbers[0]
    return tuple(statistics.quantiles(numbers, n=4, method="inclusive"))


def spread(numbers):
    """How far apart the quartiles are, as a part of the median."""
    low, middle, high = quartiles(numbers)
    return (high - low) / middle if middle else 0


def column(rounds, key, which=None):
    return [one[key] for i, one in enumerate(rounds) if which is None or i in which]


def ratios(figures, server, against, key, which=None):
    """Of each round (`which`: of those): the two were measured one after the other."""
    pairs = zip(column(figures[server], key, which), column(figures[against], key, which))
    return [mine / theirs for mine, theirs in pairs if theirs]


HEAD = (f"{'  server':<13}{'p50 us':>10}{'p99 us':>10}{'req/s':>9}{'CPU us':>9}{'+-':>5}"
        f"{'p50 x':>8}{'req/s x':>8}{'CPU x':>8}")


def rows(case, figures, asked):
    """One row a server, of the rounds that count; where too few do, of all, without a ratio."""
    for server, rounds in figures.items():
        row = {"case": case.name, "server": server, "rounds": rounds, "spread": {}, "set_aside": {}}
        for key in KEYS:
            which = steady.rounds(figures, "nginx", key)
            row["set_aside"][key] = [i for i in range(len(rounds)) if i not in which]
            if len(which) < asked:
                which = None
            low, row[key], high = quartiles(column(rounds, key, which))
            row["spread"][key] = [low, high]
            if key in steady.KEYS and server not in steady.FLOORS and "nginx" in figures:
                row[f"{key}_ratio"] = statistics.median(
                    ratios(figures, server, "nginx", key, which)) if which else None
        yield row


def set_aside(figures, asked):
    """Lines on the rounds of a case that do not count, and on what is refused for that."""
    aside, refused = [], []
    for key in steady.KEYS:
        done, count = len(figures["nginx"]), len(steady.rounds(figures, "nginx", key))
        if count < done:
            aside.append(f"{done - count} for {TITLES[key]}")
        if count < asked:
            refused.append(f"refused: no ratio of {TITLES[key]}: {count} of the {asked} rounds "
                           "that it takes")
    far = f"nginx was more than {steady.APART_MAX:.0%} from its median"
    return [f"set aside, as {far}:", f"  of {len(figures['nginx'])} rounds {', '.join(aside)}",
            *refused] if aside else []


def show_case(case, figures, notes, asked):
    print(f"{case.name}")
    for row in rows(case, figures, asked):
        cells = "".join(f"{show_ratio(row, key):>{width}}" for key, width in
                        (("p50_us", 8), ("rps", 8), ("cpu_us", 8)))
        low, high = row["spread"]["p50_us"]
        apart = (high - low) / row["p50_us"] if row["p50_us"] else 0
        print(f"  {row['server']:<11}{row['p50_us']:>10.1f}{row['p99_us']:>10.1f}{row['rps']:>9.0f}"
              f"{row['cpu_us']:>9.1f}{apart:>5.0%}{cells}".rstrip())
    for note in [*(set_aside(figures, asked) if "nginx" in figures else ()), *notes]:
        print(f"  {note}")
    print(flush=True)


def show_ratio(row, key):
    if f"{key}_ratio" not in row:
        return ""
    value = row[f"{key}_ratio"]
    return "refused" if value is None else f"{value:.2f}"


# --- the bars ------------------------------------------------------------------------------------

def judge(bar, figures, absent, asked):
    """One row of the table of bars; `asked`: so many rounds must count."""
    row = {"case": bar.case, "what": f"{bar.server} {TITLES[bar.key]} / {bar.against}",
           "wanted": f"{bar.sign} {bar.value:g}", "bar": bar.value, "sign": bar.sign,
           "measured": None, "quartiles": None}
    case = figures.get(bar.case, {})
    missing = [server for server in (bar.server, bar.against) if server not in case]
    if missing:
        row["met"] = absent.get((bar.case, missing[0]), "not measured")
        return row
    which = steady.rounds(case, bar.against, bar.key)
    if len(which) < asked:
        row["met"] = f"refused: {len(which)} of {asked}"
        return row
    row["rounds"] = len(which)
    low, row["measured"], high = quartiles(ratios(case, bar.server, bar.against, bar.key, which))
    row["quartiles"] = [low, high]
    reached = (row["measured"] <= bar.value if bar.sign == "<=" else row["measured"] >= bar.value)
    row["met"] = "yes" if reached else "NO"
    return row


def show_bars(found):
    print(f"{'bar':<25}{'':<25}{'wanted':>8}{'is':>6}  {'met':<14}")
    for row in found:
        measured = "" if row["measured"] is None else f"{row['measured']:.2f}"
        print(f"{row['case']:<25}{row['what']:<25}{row['wanted']:>8}{measured:>6}  {row['met']}")
    met = sum(row["met"] == "yes" for row in found)
    short = sum(row["met"] == "NO" for row in found)
    print(f"{met} met, {short} short, {len(found) - met - short} not judged")


# --- figures beside a bar of their own -----------------------------------------------------------

def figure(what, numbers, unit, bar=None, sign="<=", floor=()):
    """One row: the median of `numbers` against `bar`; refused where `floor`, what the bar or the
    numbers are made of, moved too far."""
    low, middle, high = quartiles(numbers)
    row = {"what": what, "unit": unit, "bar": bar, "sign": sign, "measured": middle,
           "quartiles": [low, high], "all": numbers}
    unsteady = spread(floor) if len(floor) > 1 else 0
    if bar is None:
        row["met"] = ""
    elif unsteady > SPREAD_MAX:
        row["met"] = f"refused: {unsteady:.0%}"
    else:
        row["met"] = "yes" if (middle <= bar if sign == "<=" else middle >= bar) else "NO"
    return row


def show_figures(found):
    print(f"{'what':<36}{'median':>8}{'quartiles':>15}{'bar':>10}  met")
    for row in found:
        low, high = (digits(number) for number in row["quartiles"])
        bar = "" if row["bar"] is None else f"{row['sign']} {digits(row['bar'])}"
        what = f"{row['what']}, {row['unit']}" if row["unit"] else row["what"]
        print(f"{what:<36}{digits(row['measured']):>8}{f'{low} {high}':>15}{bar:>10}  "
              f"{row['met']}".rstrip())


def digits(number):
    return f"{number:.2f}" if abs(number) < 10 else f"{number:.1f}" if abs(number) < 1e4 \
        else f"{number:.0f}"
