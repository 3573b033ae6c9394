"""The on-disk format: every prefix in one place.

Everything lies in the main database of one LMDB environment.  A value on disk is a CRC-32 of key and payload
(4 bytes, big-endian) and the payload.  `number` is an actor's compact integer, `type` the two-byte number of
an actor type, `key` an encoded key (keys.py), times are milliseconds since 1970 in eight bytes.

    01 name                               META         of the whole folder: META_...
    02 type name                          TYPE         -> type
    03 type key                           DIRECTORY    -> number
    04 number 01                          FIELDS       declared fields of an actor, one record
    04 number 02 key                      STORAGE      self.storage
    04 number 03 name                     ALARM        an actor's alarm by name
    04 number 04 table 00 key             ROW          a table of one actor
    04 number 05 table 00 index values key  ROW_INDEX  -> key
    04 number 06 call nth                 REPLY        reply to a call made by or for a workflow, while needed
    04 number 07 position                 JOURNAL      a run's records
    04 number 08 n                        EMITTED      the n-th progress event of a run
    04 number 09 id                       EVENT_ID     ids of events that a run got, against doubles
    04 number 0A step nth                 HEARTBEAT    what a long step told last, for its next attempt
    04 number 0B type key                 CHILD        children of a run that have not ended
    05 time number name                   DUE          alarms by due time -> type, key
    06 number name                        DEAD_ALARM   alarms whose retries are spent
    07 time fullkey                       EXPIRY       keys with a ttl, by the time they end
    08 type table 00 number key           SHARED_ROW   a table shared by all actors of a type
    09 type table 00 index values number key  SHARED_INDEX -> number key
    0A type index values number           FIELD_INDEX  declared fields by value -> key
    0B type table                         TABLE        a table's fields and indexes (for `check`)
    0C label values created type number   RUN_LABEL    runs of all workflows by ref, tenant, tag, state -> key
    0D time n number                      AUDIT        what was done from outside
    0E commit                             CHANGE       the runs that a commit changed, while somebody watches

The numbers of new actors rise, so what an actor writes lies together and new actors are appended: a quarter
of the cost of random places.
"""

from __future__ import annotations

from typing import Final

from .keys import decode_number, encode_number

FORMAT: Final = 1

META: Final = b"\x01"
TYPE: Final = b"\x02"
DIRECTORY: Final = b"\x03"
DATA: Final = b"\x04"
DUE: Final = b"\x05"
DEAD_ALARM: Final = b"\x06"
EXPIRY: Final = b"\x07"
SHARED_ROW: Final = b"\x08"
SHARED_INDEX: Final = b"\x09"
FIELD_INDEX: Final = b"\x0a"
TABLE: Final = b"\x0b"
RUN_LABEL: Final = b"\x0c"
AUDIT: Final = b"\x0d"
CHANGE: Final = b"\x0e"

META_FORMAT: Final = META + b"format"  # -> the number of this format, msgpack
META_AUDIT: Final = META + b"audit"  # -> how many AUDIT records there are, eight bytes
META_FEED: Final = META + b"feed"  # -> [commit from which on there are CHANGE rows, until when, in ms]
META_COMMIT: Final = META + b"commit"  # -> [sequence of the last commit, next actor number, next type number]

# Kinds below DATA + number.
FIELDS: Final = b"\x01"
STORAGE: Final = b"\x02"
ALARM: Final = b"\x03"
ROW: Final = b"\x04"
ROW_INDEX: Final = b"\x05"
REPLY: Final = b"\x06"
JOURNAL: Final = b"\x07"
EMITTED: Final = b"\x08"
EVENT_ID: Final = b"\x09"
HEARTBEAT: Final = b"\x0a"
CHILD: Final = b"\x0b"

# What the payload of a STORAGE key begins with.
PLAIN: Final = b"\x00"  # then the value
EXPIRES: Final = b"\x01"  # then eight bytes, the time at which it ends, and the value


def data_prefix(number: int) -> bytes:
    """What every key of the actor with this number starts with."""
    return DATA + encode_number(number)


def time_bytes(time_ms: int) -> bytes:
    """A time in milliseconds as eight bytes in order."""
    return max(0, time_ms).to_bytes(8, "big")


def due_key(due_ms: int, number: int, name: bytes) -> bytes:
    """Where the alarm `name` of an actor stands in the order of due times."""
    return DUE + time_bytes(due_ms) + encode_number(number) + name


def split_due_key(key: bytes) -> tuple[int, int, bytes]:
    """Due time in milliseconds, actor number and alarm name of a `due_key`."""
    number, end = decode_number(key, 9)
    return int.from_bytes(key[1:9], "big"), number, key[end:]


def expiry_key(expires_ms: int, key: bytes) -> bytes:
    """Where a key with a ttl stands in the order of expiry."""
    return EXPIRY + time_bytes(expires_ms) + key
