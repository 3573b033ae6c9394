"""runtime/cron_times.py: against a look at every minute, and against cronsim, the best-kept cron library.

cronsim follows Debian's cron and is what Healthchecks, Home Assistant and Sentry use.  Where it is decided
otherwise here:

  * Asked from within a repeated hour (the second pass), cronsim begins its times of day at the first pass, so
    it may return a moment that passed; here a time is always behind the one that was asked from.
  * For expressions with a star, cronsim puts together midnights and full hours that clocks leave out, and
    returns moments at which clocks show another time; here clocks do show each time.  Only where clocks
    change at midnight, or by less than an hour.
  * cronsim reads a range of one value with a step (`5-5/10`) as `5/10`; here and in Debian it is 5.
"""

from __future__ import annotations

import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.runtime.cron import Cron, parse_cron
from holdfast.runtime.cron_times import newest_time, next_time
from holdfast.runtime.errors import InvalidCron
from holdfast.runtime.zones import offset_seconds, resolve, seconds_of, wall_time, zone

BERLIN = "Europe/Berlin"
# By an hour, by half an hour, at midnight, at other times of the year, a day left out, never.
ZONES = [
    BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "Asia/Beirut",
    "Africa/Casablanca", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns", "Antarctica/Troll", "UTC",
]  # fmt: skip
# Clocks change by whole hours there, and not at midnight.
PLAIN_ZONES = [BERLIN, "America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Sydney", "UTC"]


def at(text: str) -> int:
    """Seconds since 1970 of an ISO text with an offset."""
    return seconds_of(datetime.fromisoformat(text))


def times(text: str, tz: str, start: str, count: int) -> list[str]:
    """The next times, as clocks in the zone show them."""
    found: list[str] = []
    now, cron = at(start), parse_cron(text)
    for _ in range(count):
        following = next_time(cron, now, zone(tz))
        assert following is not None
        assert following > now
        now = following
        found.append(wall_time(now, zone(tz)).strftime("%d %H:%M%z"))
    return found


def test_left_out_once_right_after() -> None:
    """A time of day that clocks leave out comes once, when they are set forward."""
    eve = "2030-03-30T12:00+01:00"
    assert times("30 2 * * *", BERLIN, eve, 2) == ["31 03:00+0200", "01 02:30+0200"]
    # Several of them, and the time at the end of the gap: one moment, one time.
    assert times("0,30 2,3 * * *", BERLIN, eve, 3) == ["31 03:00+0200", "31 03:30+0200", "01 02:00+0200"]
    # Half an hour is left out, at another minute than a full hour.
    assert times("45 2 * * *", "Australia/Lord_Howe", "2030-10-05T12:00+10:30", 2)[0] == "06 02:45+1100"
    assert times("15 2 * * *", "Australia/Lord_Howe", "2030-10-05T12:00+10:30", 2)[0] == "06 02:30+1100"


def test_a_whole_day_left_out() -> None:
    """Samoa had no 30 December 2011: what was to come then came when the 31st began."""
    assert times("30 9 30 12 *", "Pacific/Apia", "2011-12-01T00:00-10:00", 1) == ["31 00:00+1400"]
    assert times("0 */6 29-31 * *", "Pacific/Apia", "2011-12-29T13:00-10:00", 2) == [
        "29 18:00-1000",
        "31 00:00+1400",
    ]


def test_twice_shown_comes_once() -> None:
    """A time of day that clocks show twice comes the first time, also when asked in between."""
    assert times("30 2 * * *", BERLIN, "2030-10-26T12:00+02:00", 2) == ["27 02:30+0200", "28 02:30+0100"]
    assert times("30 2 * * *", BERLIN, "2030-10-27T02:10+01:00", 1) == ["28 02:30+0100"]


def test_intervals_go_by_real_time() -> None:
    """An expression with a star in minute or hour comes twice in a repeated hour and not in a missing one."""
    assert times("*/30 * * * *", BERLIN, "2030-10-27T01:45+02:00", 5) == [
        "27 02:00+0200",
        "27 02:30+0200",
        "27 02:00+0100",
        "27 02:30+0100",
        "27 03:00+0100",
    ]
    assert times("*/30 * * * *", BERLIN, "2030-03-31T01:15+01:00", 3) == [
        "31 01:30+0100",
        "31 03:00+0200",
        "31 03:30+0200",
    ]
    assert times("30 */2 * * *", BERLIN, "2030-03-31T00:45+01:00", 1) == ["31 04:30+0200"]


def test_back_over_midnight() -> None:
    """Where clocks are set back over midnight the evening is repeated, and the new day had begun before."""
    zone_name = "America/Santiago"  # 24:00 becomes 23:00
    assert times("*/30 * 6 4 *", zone_name, "2030-04-06T23:15-03:00", 4) == [
        "06 23:30-0300",
        "06 23:00-0400",
        "06 23:30-0400",
        "06 00:00-0400",
    ]


FIELDS = {
    "minute": (0, 59, []),
    "hour": (0, 23, []),
    "day": (1, 31, ["L"]),
    "month": (1, 12, ["JAN", "oct"]),
    "weekday": (0, 7, ["SUN", "fri", "MON#2", "5L"]),
}


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, names: list[str]) -> str:
    """One field."""
    value = st.integers(low, high)

    @st.composite
    def part(draw: st.DrawFn) -> str:
        kind = draw(st.sampled_from(["value", "range", "step", "name"]))
        if kind == "name" and names:
            return draw(st.sampled_from(names))
        if kind == "range":
            first, last = sorted((draw(value), draw(value)))
            return f"{first}-{last}" + draw(st.sampled_from(["", "/2", "/7"] if first < last else [""]))
        return str(draw(value)) if kind == "value" else f"*/{draw(st.integers(1, high))}"

    return draw(st.one_of(st.just("*"), st.lists(part(), min_size=1, max_size=3).map(",".join)))


@st.composite
def expressions(draw: st.DrawFn, often: bool = False) -> str:
    """Expressions; `often` such that come on many days."""
    parts = [draw(fields(*FIELDS[name])) for name in ("minute", "hour")]
    if often:
        parts += draw(st.sampled_from(["* * *", "* * 0,3-6", "1-7,L * 5,6,0", "*/2 * *"])).split()
    else:
        parts += [draw(fields(*FIELDS[name])) for name in ("day", "month", "weekday")]
    return " ".join(parts)


@st.composite
def moments(draw: st.DrawFn, zones: list[str]) -> tuple[str, int]:
    """A zone and a moment, most often within two days of a change of its clocks."""
    name = draw(st.sampled_from(zones))
    moment = draw(st.integers(at("2010-01-01T00:00Z"), at("2037-01-01T00:00Z")))
    if draw(st.integers(0, 3)):
        tz = zone(name)
        for step in range(120):
            low, high = moment + step * 7 * 86_400, moment + (step + 1) * 7 * 86_400
            if offset_seconds(low, tz) != offset_seconds(high, tz):
                moment = resolve_change(low, high, name) + draw(st.integers(-2 * 86_400, 86_400))
                break
    return name, moment


def resolve_change(low: int, high: int, name: str) -> int:
    """The moment of a change, to the minute."""
    tz = zone(name)
    while high - low > 60:
        middle = (low + high) // 2
        same = offset_seconds(middle, tz) == offset_seconds(low, tz)
        low, high = (middle, high) if same else (low, middle)
    return high // 60 * 60


def look_at_every_minute(cron: Cron, start: int, end: int, name: str) -> list[int]:
    """All times in [start, end), found without any calendar arithmetic."""
    tz = zone(name)
    found: set[int] = set()
    if cron.by_clock:
        wall = (wall_time(start, tz) - timedelta(days=3)).replace(tzinfo=None, fold=0, second=0)
        while True:
            if wall.hour in cron.hours and wall.minute in cron.minutes and cron.is_day(wall.date()):
                moment = resolve(wall, tz)
                if moment >= end:
                    break
                found.add(moment)
            elif wall.hour == wall.minute == 0 and resolve(wall, tz) > end + 86_400:
                break
            wall += timedelta(minutes=1)
    else:
        for moment in range(-(start // -60) * 60, end, 60):
            shown = wall_time(moment, tz)
            if shown.hour in cron.hours and shown.minute in cron.minutes and cron.is_day(shown.date()):
                found.add(moment)
    return sorted(moment for moment in found if start <= moment < end)


@settings(max_examples=40, deadline=None)
@given(expressions(often=True), moments(ZONES))
@example("*/30 * * * *", ("America/Santiago", at("2030-04-06T23:15-03:00")))
@example("0,30 0-5 * * *", ("Pacific/Apia", at("2011-12-29T13:00-10:00")))
@example("*/20 1-3 * * *", ("Australia/Lord_Howe", at("2030-04-07T01:00+11:00")))
@example("0 0 * * *", ("Africa/Cairo", at("2030-04-25T12:00+02:00")))
def test_is_what_a_look_at_every_minute_finds(text: str, place: tuple[str, int]) -> None:
    """Forwards and backwards: all times of two days, each once and in order."""
    name, start = place
    cron, tz = parse_cron(text), zone(name)
    end = start + 2 * 86_400
    wanted = look_at_every_minute(cron, start, end, name)
    forwards: list[int] = []
    moment: int | None = start - 1
    while moment is not None and (moment := next_time(cron, moment, tz)) is not None and moment < end:
        forwards.append(moment)
    assert forwards == wanted
    backwards: list[int] = []
    moment = end
    while (moment := newest_time(cron, moment - 1, start, tz)) is not None:
        backwards.append(moment)
    assert backwards[::-1] == wanted


def sim_times(text: str, name: str, after: int, count: int) -> list[int]:
    """What cronsim finds."""
    found: list[int] = []
    for one in CronSim(text, wall_time(after, ZoneInfo(name))):
        found.append(seconds_of(one.astimezone(UTC)))
        if len(found) == count:
            break
    return found


@settings(max_examples=150, deadline=None)
@given(expressions(), moments(PLAIN_ZONES))
def test_is_what_cronsim_finds(text: str, place: tuple[str, int]) -> None:
    """The next times of any expression, in zones and at moments where nothing is decided otherwise."""
    name, after = place
    tz = zone(name)
    try:
        cron = parse_cron(text)
    except InvalidCron:
        return  # never comes; cronsim gives up after fifty years
    if cron.by_clock and wall_time(after, tz).fold:
        after += 3 * 3600  # out of the repeated hour
    wanted = sim_times(text, name, after, 4)
    found: list[int] = []
    moment: int | None = after
    for _ in wanted:
        assert moment is not None
        moment = next_time(cron, moment, tz)
        assert moment is not None
        found.append(moment)
    assert found == wanted
    # And back again.
    for later, earlier in zip(reversed(found[1:]), reversed(found[:-1]), strict=True):
        assert newest_time(cron, later - 1, after, tz) == earlier


def test_where_it_is_decided_otherwise_than_cronsim() -> None:
    """The differences that the head of this file lists are there: else the list would be wrong by now."""
    asked = at("2030-10-27T02:10+01:00")
    assert sim_times("30 2 * * *", BERLIN, asked, 1)[0] < asked
    midnight = at("2030-09-06T12:00-04:00")  # clocks leave out 0:00 to 1:00 on the 8th
    theirs = sim_times("*/15 0 8 9 *", "America/Santiago", midnight, 1)[0]
    assert wall_time(theirs, zone("America/Santiago")).hour == 1
    ours = next_time(parse_cron("*/15 0 8 9 *"), midnight, zone("America/Santiago"))
    assert ours is not None
    assert wall_time(ours, zone("America/Santiago")).strftime("%Y-%m-%d %H:%M") == "2031-09-08 00:00"


def test_far_away() -> None:
    """A time may be decades away; behind the last year of a datetime there is none."""
    assert times("0 0 * 2 MON#5", BERLIN, "2044-03-01T00:00+01:00", 1) == ["29 00:00+0100"]
    assert next_time(parse_cron("@yearly"), at("9990-06-01T00:00Z"), zone(BERLIN)) is None
    assert next_time(parse_cron("* * * * *"), at("9995-06-01T00:00Z"), zone(BERLIN)) is None


def test_back_to_where_it_began() -> None:
    """Backwards nothing is found before the given beginning."""
    cron, tz = parse_cron("0 3 * * *"), zone(BERLIN)
    first = at("2030-06-10T03:00+02:00")
    assert newest_time(cron, first + 3600, first, tz) == first
    assert newest_time(cron, first + 3600, first + 1, tz) is None
    hourly = parse_cron("@hourly")
    assert newest_time(hourly, first + 3599, first + 1, tz) is None
    assert newest_time(hourly, first + 3600, first + 1, tz) == first + 3600


@pytest.mark.parametrize(
    "name", ["Europe/Berlim", "", "Europe", "../etc/passwd", "/etc/passwd", 5, "x" * 500, "a\0b", "\udc00"]
)
def test_no_such_zone(name: object) -> None:
    """A name that is no zone is refused, and the error says where data come from."""
    with pytest.raises(InvalidCron, match="IANA name"):
        zone(name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_utc_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without zone data UTC works; another zone's error tells how to get them."""
    zoneinfo.reset_tzpath(to=[])
    for module in ("tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Europe"):
        monkeypatch.setitem(sys.modules, module, None)
    try:
        ZoneInfo.clear_cache()
        assert zone("UTC") is UTC
        with pytest.raises(InvalidCron, match=r"pip install holdfast\[tz\]"):
            zone(BERLIN)
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache()
