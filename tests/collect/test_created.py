"""Start timestamps from `_created` lines: whose they are, and that they are series no more."""

from __future__ import annotations

import pytest

from vedette.collect.created import Created
from vedette.wire.exposition import exposition_keyspace, parse

NOW = 1_700_000_000_000
SPACE = exposition_keyspace("default")
TEXT = """\
# TYPE hits counter
hits_total{path="a"} 3 # {trace_id="x"} 1
hits_created{path="a"} 1699999000.5
hits_total{path="b"} 4
hits_created{path="b"} 1699998000
# TYPE lat histogram
lat_bucket{le="0.5"} 1
lat_bucket{le="+Inf"} 2
lat_count 2
lat_sum 0.7
lat_created 1699997000
# TYPE size summary
size{quantile="0.5"} 7
size_count 2
size_sum 9
size_created 1699996000
# TYPE up gauge
up 1
# TYPE was_created gauge
was_created 5
# EOF
"""


def read(created: Created, text: str, known: int | None = None):
    return created.taken(parse(text.encode(), SPACE, NOW, openmetrics=True, metadata_known=known))


def told(exposition):
    batch = exposition.batch
    keys = [batch.buffer[lo:hi].tobytes().decode() for lo, hi in zip(batch.key_start, batch.key_end, strict=True)]
    starts = [0] * len(keys) if batch.starts is None else batch.starts.tolist()
    return dict(zip(keys, zip(batch.values.tolist(), starts, strict=True), strict=True))


WANTED = {
    'hits_total{path="a"}': (3.0, 1699999000500),
    'hits_total{path="b"}': (4.0, 1699998000000),
    'lat_bucket{le="0.5"}': (1.0, 1699997000000),
    'lat_bucket{le="+Inf"}': (2.0, 1699997000000),
    "lat_count": (2.0, 1699997000000),
    "lat_sum": (0.7, 1699997000000),
    'size{quantile="0.5"}': (7.0, 1699996000000),
    "size_count": (2.0, 1699996000000),
    "size_sum": (9.0, 1699996000000),
    "up": (1.0, 0),
    "was_created": (5.0, 0),
}


def test_each_series_of_a_family_gets_its_start():
    found = read(Created(), TEXT)
    assert told(found) == WANTED
    assert len(found.explicit) == len(WANTED)
    (exemplar,) = found.batch.exemplars
    batch = found.batch
    assert batch.buffer[batch.key_start[exemplar.row] : batch.key_end[exemplar.row]].tobytes() == b'hits_total{path="a"}'


def test_types_are_remembered_while_the_metadata_stays_the_same():
    created = Created()
    first = read(created, TEXT)
    again = read(created, TEXT.replace("1699999000.5", "1699999500"), first.metadata_hash)
    assert again.batch.metadata == ()
    assert told(again) == WANTED | {'hits_total{path="a"}': (3.0, 1699999500000)}
    changed = read(created, TEXT.replace("# TYPE hits counter", "# TYPE hits unknown").replace("hits_total", "hits"))
    assert told(changed)['hits_created{path="b"}'] == (1699998000.0, 0), "of a family that counts nothing it is a series like others"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-5", "0", "1e300"])
def test_a_time_that_is_none_is_none(value):
    found = told(read(Created(), TEXT.replace("1699999000.5", value)))
    assert found['hits_total{path="a"}'] == (3.0, 0)
    assert 'hits_created{path="a"}' not in found


def test_a_text_without_such_lines_is_left_as_it_is():
    text = "# TYPE up gauge\nup 1\n# EOF\n"
    before = parse(text.encode(), SPACE, NOW, openmetrics=True)
    assert Created().taken(before) is before
