"""Samples out into files and in again: to the bit, on from where it was interrupted, and pointing at what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vedette.errors import BadInput, LimitExceeded
from vedette.kernels.dump import C_NAN, STALE_NAN, TEXT_NAN
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Histograms, Layout
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE, MetricMetadata
from vedette.model.series import SeriesSet
from vedette.storage import export, importing, parquet
from vedette.storage.export import SUFFIXES, Export, Wanted, Written, write
from vedette.storage.importing import Notes, Stored
from vedette.wire import dump

DAY = 86_400_000
FORMATS = ["parquet", "csv", "openmetrics", "prometheus"]
ODD_NAN = 0x7FF8000000000123

# As the engine would hold them: no empty value, a name for each series.
TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=6)
SERIES = st.dictionaries(TEXTS.filter(lambda n: n != "__name__"), TEXTS, max_size=3).flatmap(
    lambda more: TEXTS.map(lambda name: Labels.of({**more, "__name__": name}))
)
BITS = st.one_of(
    st.sampled_from([TEXT_NAN, STALE_NAN, C_NAN, 1 << 63, 1, 0x7FF0000000000000, 0xFFF0000000000000]),
    st.floats(allow_nan=False).map(lambda v: int(np.float64(v).view(np.uint64))),
)
TIMES = st.integers(-(10**12), 4 * 10**12)
CONTENTS = st.dictionaries(SERIES, st.dictionaries(TIMES, BITS, min_size=1, max_size=5), min_size=1, max_size=4)


def series_set(contents: dict[Labels, dict[int, int]]) -> SeriesSet:
    rows = [sorted(samples.items()) for samples in contents.values()]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    times = np.array([t for row in rows for t, _ in row], dtype=np.int64)
    values = np.array([b for row in rows for _, b in row], dtype=np.uint64).view(np.float64)
    return SeriesSet(LabelTable.from_labels(list(contents)), offsets, times, values)


def contents_of(runs) -> dict[Labels, dict[int, int]]:
    found: dict[Labels, dict[int, int]] = {}
    for run in runs:
        bits = run.values.view(np.uint64)
        for i, labels in enumerate(run.labels):
            span = slice(int(run.offsets[i]), int(run.offsets[i + 1]))
            found.setdefault(labels, {}).update(zip(run.times[span].tolist(), bits[span].tolist(), strict=True))
    return found


def read_back(path, form):
    return contents_of(run for run, _ in importing.pieces(path, form, 0))


@pytest.mark.parametrize("form", FORMATS)
@given(contents=CONTENTS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_stored_comes_back_to_the_bit(tmp_path, form, contents):
    path = tmp_path / f"x{SUFFIXES[form]}"
    written = write(series_set(contents), path, form, metadata=[])
    assert written.samples == sum(map(len, contents.values()))
    assert read_back(path, form) == contents


@pytest.mark.parametrize(("form", "kept"), [("parquet", ODD_NAN), ("csv", ODD_NAN), ("openmetrics", TEXT_NAN), ("prometheus", TEXT_NAN)])
def test_nans_that_nobody_makes_are_kept_where_the_format_has_room(tmp_path, form, kept):
    series = series_set({Labels.of(__name__="m"): {1: ODD_NAN}})
    write(series, tmp_path / "x", form, metadata=[])
    assert read_back(tmp_path / "x", form) == {Labels.of(__name__="m"): {1: kept}}


def test_files_look_as_people_expect():
    up = Labels.of(__name__="up", job="node", path='C:\\"x"\n')
    hits = Labels.of(__name__="hits_total", job="node")
    series = series_set({up: {1_700_000_000_123: int(np.float64(1).view(np.uint64))}, hits: {-5: int(np.float64(2.5).view(np.uint64))}})
    about = [MetricMetadata("hits_total", "counter", "Hits\nso far."), MetricMetadata("up", "gauge")]
    assert b"".join(dump.render(series, "csv")).decode() == (
        '__name__,job,path,timestamp,value\nhits_total,node,,-5,2.5\nup,node,"C:\\""x""\n",1700000000123,1\n'
    )
    assert b"".join(dump.render(series, "openmetrics", metadata=about)).decode() == (
        '# HELP hits Hits\\nso far.\n# TYPE hits counter\nhits_total{job="node"} 2.5 -0.005\n'
        '# TYPE up gauge\nup{job="node",path="C:\\\\\\"x\\"\\n"} 1 1700000000.123\n# EOF\n'
    )
    assert b"".join(dump.render(series, "prometheus", metadata=about)).decode() == (
        '# HELP hits_total Hits\\nso far.\n# TYPE hits_total counter\nhits_total{job="node"} 2.5 -5\n'
        '# TYPE up gauge\nup{job="node",path="C:\\\\\\"x\\"\\n"} 1 1700000000123\n'
    )


def test_a_series_longer_than_a_piece_is_whole(tmp_path):
    many = {t: t << 32 for t in range(200_000)}
    contents = {Labels.of(__name__="a"): {1: 1}, Labels.of(__name__="b"): many, Labels.of(__name__="c"): {2: 2}}
    for form in FORMATS:
        write(series_set(contents), tmp_path / form, form, metadata=[])
        assert read_back(tmp_path / form, form) == contents, form


def test_what_promtool_dumps_is_read(tmp_path):
    path = tmp_path / "x.dump"
    path.write_text('{__name__="up", instance="a b", job="c"} 1 1700000000000\n{__name__="x:y"} NaN 1700000000001\n')
    one = int(np.float64(1).view(np.uint64))
    assert read_back(path, "prometheus") == {
        Labels.of(__name__="up", instance="a b", job="c"): {1_700_000_000_000: one},
        Labels.of(__name__="x:y"): {1_700_000_000_001: TEXT_NAN},
    }


class TestBadFiles:
    @pytest.mark.parametrize(
        ("form", "text", "where", "problem"),
        [
            ("prometheus", "ok 1 1\n\nbad{ 1 2\n", "line 3", "bad"),
            ("prometheus", "a 1 5\nb 1\n", "line 2", "without a timestamp"),
            ("openmetrics", "a 1 5\nb x 1\n# EOF\n", "line 2", "not a number"),
            ("csv", "a,b\n1,2\n", "line 1", "header"),
            ("csv", "__name__,timestamp,value\nm,1,2\nm,1\n", "line 3", "2 cells"),
            ("csv", "__name__,timestamp,value\nm,1,2\nm,x,1\n", "line 3", "invalid literal"),
            ("csv", "__name__,timestamp,value\nm,1,nanny\n", "line 2", "nanny"),
            ("csv", "__name__,timestamp,value\nm,1,nan(0000000000000001)\n", "line 2", "not a NaN"),
            ("csv", "__name__,timestamp,value\nm,1,\udcff\n", "line 2", "UTF-8"),
        ],
    )
    def test_the_line_is_named(self, tmp_path, form, text, where, problem):
        path = tmp_path / "bad"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(BadInput) as refusal:
            read_back(path, form)
        assert str(path) in str(refusal.value)
        assert where in str(refusal.value)
        assert problem in str(refusal.value)

    def test_lines_are_counted_across_pieces(self, tmp_path, monkeypatch):
        monkeypatch.setattr(importing, "_PIECE", 64)
        path = tmp_path / "bad"
        path.write_text("".join(f'm{{i="{i}"}} 1 {i}\n' for i in range(50)) + "bad\n")
        with pytest.raises(BadInput, match="line 51"):
            read_back(path, "prometheus")

    def test_no_parquet_and_other_parquet(self, tmp_path):
        path = tmp_path / "x.parquet"
        path.write_bytes(b"PAR1 is not enough")
        with pytest.raises(BadInput, match="cannot be read"):
            read_back(path, "parquet")
        with parquet.duckdb().connect() as con:
            con.execute(f"COPY (SELECT 1 AS metric) TO '{tmp_path}/y.parquet' (FORMAT parquet)")
        with pytest.raises(BadInput, match="column metric is INTEGER"):
            read_back(tmp_path / "y.parquet", "parquet")

    def test_formats_are_told_by_name_and_by_end(self, tmp_path):
        (tmp_path / "dir").mkdir()
        for name in ("a.csv", "b.om", "-5_10.prom", "2_10.prom"):
            (tmp_path / "dir" / name).write_text("x")
        (tmp_path / "plain").write_text("m 1 1\n# EOF\n")
        found = importing.files_of([tmp_path / "dir", tmp_path / "plain"], None)
        names = [(path.name, form) for path, form in found]
        assert names == [
            ("-5_10.prom", "prometheus"),
            ("a.csv", "csv"),
            ("b.om", "openmetrics"),
            ("2_10.prom", "prometheus"),
            ("plain", "openmetrics"),
        ]
        for path, problem in ((tmp_path / "none", "no such file"), (tmp_path / "unknown", "not known"), (tmp_path / "empty", "no files")):
            if path.name == "unknown":
                path.write_text("m 1 1\n")
            if path.name == "empty":
                path.mkdir()
            with pytest.raises(BadInput, match=problem):
                importing.files_of([path], None)


class TestParquetForPeople:
    def test_sql_reads_it_and_leaves_stale_markers_out(self, tmp_path):
        samples = {1_700_000_000_000: int(np.float64(1.5).view(np.uint64)), 1_700_000_001_000: STALE_NAN}
        write(series_set({Labels.of(__name__="up", job="node"): samples}), tmp_path / "x.parquet", "parquet", metadata=[])
        with parquet.duckdb().connect() as con:
            found = con.execute(
                f"SELECT metric, labels['job'], timestamp::VARCHAR, value FROM '{tmp_path}/*.parquet' WHERE nan_bits IS NULL"
            ).fetchall()
        assert found == [("up", "node", "2023-11-14 22:13:20", 1.5)]

    def test_a_table_of_others_needs_no_bits(self, tmp_path):
        with parquet.duckdb().connect() as con:
            con.execute(
                "COPY (SELECT 'm' AS metric, MAP {'a': '1'} AS labels, make_timestamp(i * 1000) AS timestamp,"
                " CASE WHEN i = 2 THEN NULL WHEN i = 1 THEN 'NaN'::DOUBLE ELSE i END AS value FROM range(4) r(i))"
                f" TO '{tmp_path}/x.parquet' (FORMAT parquet)"
            )
        three = int(np.float64(3).view(np.uint64))
        assert read_back(tmp_path / "x.parquet", "parquet") == {Labels.of(__name__="m", a="1"): {0: 0, 1: TEXT_NAN, 3: three}}

    def test_large_files_come_in_parts_that_know_their_place(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "_ROWS", 7)
        contents = {Labels.of(__name__="m", i=str(i)): {t: t for t in range(5)} for i in range(4)}
        write(series_set(contents), tmp_path / "x", "parquet", metadata=[])
        parts = list(importing.pieces(tmp_path / "x", "parquet", 0))
        assert [at for _, at in parts] == [7, 14, 20]
        assert contents_of(run for run, _ in parts) == contents
        again = list(importing.pieces(tmp_path / "x", "parquet", 14))
        assert sum(len(run.times) for run, _ in again) == 6


def wanted(start=0, end=3 * DAY, **other):
    return Wanted(**({"format": "csv", "tenant": "default", "match": "m", "start": start, "end": end, "source": "here"} | other))


class TestExport:
    def test_a_file_a_day_and_none_for_an_empty_one(self, tmp_path):
        def fetch(start, end, path):
            path.write_text(f"{start}")
            return Written(0 if start == DAY else 1)

        spans = list(Export(tmp_path / "out", wanted(start=DAY - 10)).run(fetch))
        assert sum(span for span, _ in spans) == 3 * DAY - (DAY - 10) + 1
        names = sorted(p.name for p in (tmp_path / "out").glob("*.csv"))
        assert names == [f"{2 * DAY}_{3 * DAY - 1}.csv", f"{3 * DAY}_{3 * DAY}.csv", f"{DAY - 10}_{DAY - 1}.csv"]

    def test_it_goes_on_where_it_was_interrupted(self, tmp_path):
        asked = []

        def fetch(start, end, path):
            asked.append(start)
            path.write_text("half")
            if len(asked) == 3:
                raise KeyboardInterrupt
            return Written(1)

        export = Export(tmp_path / "out", wanted())
        with pytest.raises(KeyboardInterrupt):
            list(export.run(fetch))
        assert export.done() == [(0, DAY - 1), (DAY, 2 * DAY - 1)]
        assert export.gaps() == [(2 * DAY, 3 * DAY)]
        list(Export(tmp_path / "out", wanted()).run(fetch))
        assert asked == [0, DAY, 2 * DAY, 2 * DAY, 3 * DAY]
        assert not list((tmp_path / "out").glob("*.part"))
        assert list(Export(tmp_path / "out", wanted()).run(fetch)) == []

    def test_too_much_for_one_file_becomes_several(self, tmp_path):
        def fetch(start, end, path):
            if end - start >= DAY // 4:
                raise LimitExceeded("too many")
            path.write_text("")
            return Written(1)

        export = Export(tmp_path / "out", wanted(end=DAY - 1))
        list(export.run(fetch))
        assert export.done() == [(i * DAY // 4, (i + 1) * DAY // 4 - 1) for i in range(4)]

    def test_a_moment_that_is_too_much_is_refused(self, tmp_path):
        def fetch(start, end, path):
            raise LimitExceeded("too many series")

        with pytest.raises(LimitExceeded, match="too many series"):
            list(Export(tmp_path / "out", wanted()).run(fetch))

    def test_another_export_is_not_mixed_in(self, tmp_path):
        Export(tmp_path / "out", wanted())
        with pytest.raises(BadInput, match=r"another export lies there \(match 'm'\)"):
            Export(tmp_path / "out", wanted(match="n"))
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").touch()
        with pytest.raises(BadInput, match="not empty"):
            Export(tmp_path / "full", wanted())
        (tmp_path / "out" / "export.json").write_text("{")
        with pytest.raises(BadInput, match=r"export\.json: cannot be read"):
            Export(tmp_path / "out", wanted())


class TestImport:
    @pytest.mark.parametrize("form", FORMATS)
    async def test_it_goes_on_after_the_last_piece_that_was_stored(self, tmp_path, monkeypatch, form):
        monkeypatch.setattr(importing, "_PIECE", 200)
        monkeypatch.setattr(parquet, "_ROWS", 10)
        contents = {Labels.of(__name__="m", i=f'{i}"\n'): {t: t for t in range(10)} for i in range(10)}
        path = tmp_path / "x"
        write(series_set(contents), path, form, metadata=[])
        runs = []

        async def store(run):
            if len(runs) == 3:
                runs.append(None)
                raise LimitExceeded("killed here")
            runs.append(run)
            return Stored(len(run.times))

        def notes():
            return Notes(tmp_path / "notes", "there")

        with pytest.raises(LimitExceeded):
            await importing.run([(path, form)], store, notes(), progress=lambda *_: None)
        before = sum(len(run.times) for run in runs[:3])
        total = await importing.run([(path, form)], store, notes(), progress=lambda *_: None)
        assert total.samples == 100 - before
        assert contents_of(run for run in runs if run is not None) == contents
        assert not (tmp_path / "notes").exists()

    async def test_a_file_that_changed_or_another_target_begins_again(self, tmp_path):
        path = tmp_path / "x.prom"
        path.write_text("m 1 1\n")
        Notes(tmp_path / "notes", "there").note(path, 6)
        assert Notes(tmp_path / "notes", "there").start(path) == 6
        assert Notes(tmp_path / "notes", "elsewhere").start(path) == 0
        path.write_text("m 1 1\nm 2 2\n")
        assert Notes(tmp_path / "notes", "there").start(path) == 0

    async def test_notes_that_cannot_be_kept_do_not_stop_it(self, tmp_path):
        path = tmp_path / "x.prom"
        path.write_text("m 1 1\n")
        (tmp_path / "notes").write_text("{")
        notes = Notes(tmp_path / "notes", "there")
        assert "notes" in notes.problem

        async def store(run):
            return Stored(len(run.times))

        assert (await importing.run([(path, "prometheus")], store, notes, progress=lambda *_: None)).samples == 1

    async def test_a_store_that_asks_to_wait_is_asked_again(self, tmp_path):
        path = tmp_path / "x.prom"
        path.write_text("m 1 1\n")
        tries = []

        async def store(run):
            tries.append(run)
            if len(tries) < 3:
                raise LimitExceeded("later", retry_after=0.001)
            return Stored(1)

        assert (await importing.run([(path, "prometheus")], store, Notes(tmp_path / "n", ""), progress=lambda *_: None)).samples == 1
        assert len(tries) == 3

    async def test_a_series_without_a_name_is_refused(self, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text("job,timestamp,value\na,1,1\n")

        async def store(run):
            raise AssertionError("not to be stored")

        with pytest.raises(BadInput, match=r"x\.csv: a series without a name"):
            await importing.run([(path, "csv")], store, Notes(tmp_path / "n", ""), progress=lambda *_: None)


LAYOUTS = [
    Layout(3, 0.001, (), np.array([-7, 0, 5], dtype=np.int32), np.array([2], dtype=np.int32)),
    Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0), np.arange(3, dtype=np.int32), NO_BUCKETS),
    Layout(-4, 1e-128, (), NO_BUCKETS, NO_BUCKETS),
]
CELL = st.floats(0, 1e300, allow_nan=False)


def with_histograms(samples: list[tuple[int, int, list[float], float, int] | None]) -> SeriesSet:
    """A series `m` of a sample a second, numbers where None stands, else (time, layout, cells, sum, hint)."""
    times = np.arange(len(samples), dtype=np.int64) * 1000
    values, at, found = np.arange(len(samples), dtype=np.float64), [], []
    for i, sample in enumerate(samples):
        if sample is not None:
            layout = LAYOUTS[sample[1]]
            cells = np.array((sample[2] * 8)[: layout.width])
            cells[1] = values[i] = sample[3]
            at.append(i)
            found.append(Histogram(layout, cells, sample[4]))
    native = Histograms.of(at, found) if at else None
    labels = LabelTable.from_labels([Labels.of(__name__="m", le="é\n")])
    return SeriesSet(labels, np.array([0, len(samples)], dtype=np.int64), times, values, native)


NATIVE = st.tuples(
    st.just(0), st.integers(0, 2), st.lists(CELL, min_size=1, max_size=8), st.one_of(CELL, st.just(STALE), st.just(-1.5)), st.integers(0, 3)
)


class TestHistograms:
    @given(samples=st.lists(st.one_of(st.none(), NATIVE), min_size=1, max_size=12))
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_they_come_back_from_parquet_to_the_bit(self, tmp_path, samples):
        series = with_histograms(samples)
        assert write(series, tmp_path / "x", "parquet", metadata=[]) == Written(len(samples))
        ((run, _),) = importing.pieces(tmp_path / "x", "parquet", 0)
        assert run.values.view(np.int64).tolist() == series.values.view(np.int64).tolist()
        if series.histograms is None:
            assert run.histograms is None
            return
        assert run.histograms.at.tolist() == series.histograms.at.tolist()
        for j in range(len(run.histograms)):
            mine, back = series.histograms.sample(j), run.histograms.sample(j)
            assert equal(mine, back)
            assert mine.hint == back.hint

    @pytest.mark.parametrize("form", FORMATS[1:])
    def test_the_other_formats_say_of_which_metrics_they_leave_them_out(self, tmp_path, form):
        native = (0, 0, [1.0], 2.5, 0)
        assert write(with_histograms([None, native, native]), tmp_path / "x", form, metadata=[]) == Written(1, 2, ["m"])
        assert write(with_histograms([native]), tmp_path / "y", form, metadata=[]) == Written(0, 1, ["m"])
        assert not (tmp_path / "y").exists()

    def test_too_many_buckets_for_one_file_are_refused_so_that_it_is_split(self, tmp_path, monkeypatch):
        monkeypatch.setattr(export, "_CELLS", 10)
        native = (0, 0, [1.0], 2.5, 0)
        with pytest.raises(LimitExceeded, match="buckets"):
            write(with_histograms([native, native]), tmp_path / "x", "parquet", metadata=[])
        assert write(with_histograms([native]), tmp_path / "x", "parquet", metadata=[]).samples == 1

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ("schema := 9", "schema 9"),
            ("positive_index := [1, 0, 2]", "do not ascend"),
            ("positive := [1.0]::DOUBLE[]", "not as many"),
            ("positive := [1.0, -1.0, 1.0]::DOUBLE[]", "below zero"),
            ("hint := 'maybe'", "hint 'maybe'"),
            ("schema := -53", "beyond their bounds"),
        ],
    )
    def test_what_can_be_no_histogram_is_refused(self, tmp_path, change, problem):
        write(with_histograms([(0, 0, [1.0], 2.5, 0)]), tmp_path / "x", "parquet", metadata=[])
        with parquet.duckdb().connect() as con:
            con.execute(
                f"COPY (SELECT metric, labels, timestamp, value, nan_bits, struct_update(histogram, {change}) AS histogram"
                f" FROM read_parquet('{tmp_path}/x')) TO '{tmp_path}/y' (FORMAT parquet)"
            )
        with pytest.raises(BadInput, match=problem):
            list(importing.pieces(tmp_path / "y", "parquet", 0))

    def test_another_struct_is_refused(self, tmp_path):
        with parquet.duckdb().connect() as con:
            con.execute(
                "COPY (SELECT 'm' AS metric, MAP {'a': '1'} AS labels, now()::TIMESTAMP AS timestamp, 1.0::DOUBLE AS value,"
                f" {{'count': 1}} AS histogram) TO '{tmp_path}/x' (FORMAT parquet)"
            )
        with pytest.raises(BadInput, match="column histogram is STRUCT"):
            list(importing.pieces(tmp_path / "x", "parquet", 0))


class TestImportedTwice:
    @pytest.mark.parametrize("many", [1, 100])
    async def test_what_is_there_is_left_out_and_the_rest_is_stored(self, open_engine, tools, keyspace, many):
        engine = await open_engine(retention=0)
        rows = [(tools.metric("m", i=str(i)), [(tools.now + k * 1000, float(k)) for k in range(5)]) for i in range(many)]
        await engine.append(tools.batch(rows, keyspace))
        labels = [label for label, _ in rows] + [tools.metric("m", i="new")]
        times = [tools.now + k * 1000 for k in (0, 3, 4, 7)] * len(labels)
        values = [0.0, 3.0, 99.0, 7.0] * len(labels)
        offsets = np.arange(len(labels) + 1) * 4
        run = dump.Run(labels, offsets, np.array(times), np.array(values))
        fresh, known = importing.without_known(run, lambda *asked: engine.select("default", *asked))
        assert known == 2 * many
        left = contents_of([fresh])
        assert sorted(left[labels[0]]) == [tools.now + 4000, tools.now + 7000], "another value at a known time is not the same"
        assert len(left[labels[-1]]) == 4
        found = importing.stored_of(await engine.append(importing.batch_of(fresh, keyspace)))
        assert (found.samples, dict(found.dropped)) == (many + 4, {"duplicate": many})

    async def test_of_histograms_those_that_are_the_same(self, open_engine, keyspace):
        engine = await open_engine(retention=0, out_of_order_window=1 << 50)
        one, other = (0, 0, [1.0], 2.5, 0), (0, 0, [7.0], 2.5, 0)
        stored = with_histograms([one, one, None, one])
        run = dump.Run([stored.labels.row(0)], stored.offsets, stored.timestamps, stored.values, histograms=stored.histograms)
        assert (await engine.append(importing.batch_of(run, keyspace))).samples == 4
        sent = with_histograms([one, other, None, None])
        again = dump.Run(run.labels, sent.offsets, sent.timestamps, sent.values, histograms=sent.histograms)
        fresh, known = importing.without_known(again, lambda *asked: engine.select("default", *asked))
        assert known == 2
        assert fresh.times.tolist() == [1000, 3000]
        assert fresh.histograms.at.tolist() == [0]
        assert equal(fresh.histograms.sample(0), sent.histograms.sample(1))
