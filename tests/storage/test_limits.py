"""What one tenant may store: sizes of labels, numbers of series, samples a second, a window of its own."""

from __future__ import annotations

import asyncio

import pytest

from vedette import configfile
from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.limits import BUILT_IN, Limits, LimitsSettings, TenantLimit, TenantLimits
from vedette.storage.settings import StorageSettings


@pytest.fixture
async def limited(tmp_path, clock):
    """A started engine under limits."""
    engines = []

    async def make(default=None, tenants=None, **settings):
        limits = Limits(LimitsSettings(default or TenantLimits(), tenants or {}), window=3_600_000)
        engine = Engine(StorageSettings(data=tmp_path / "limited", **settings), clock, limits=limits)
        await engine.start()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.close()


def rows(tools, *labels, tenant="default", at=0):
    return SampleBatch.of(canonical(tenant), list(labels), [tools.now + at] * len(labels), [1.0] * len(labels))


def names(engine, tenant="default"):
    return {labels.metric for labels in engine.series(tenant, [[]], -(1 << 62), 1 << 62)}


class TestSizesOfLabels:
    async def test_what_is_too_large_is_dropped_with_its_reason_and_the_rest_stored(self, limited, tools):
        engine = await limited(TenantLimits(max_labels=3, max_label_name_length=9, max_label_value_length=20))
        good = tools.metric("good", a="1", b="2")
        many = tools.metric("many", a="1", b="2", c="3")
        long_name = tools.metric("long_name", a_name_of_16_abc="1")
        long_value = tools.metric("long_value", a="x" * 21)
        appended = await engine.append(rows(tools, many, good, long_name, long_value, tools.metric("fits", a="x" * 20)))
        assert appended.dropped == {"too_many_labels": 1, "label_name_too_long": 1, "label_value_too_long": 1}
        assert (appended.samples, appended.new_series) == (2, 2)
        assert [i >= 0 for i in appended.ids.tolist()] == [False, True, False, False, True]
        assert names(engine) == {"good", "fits"}

    async def test_each_time_it_is_sent_it_is_dropped_with_its_reason_again(self, limited, tools, keyspace):
        engine = await limited(TenantLimits(max_labels=1))
        for at in range(3):
            labels = [tools.metric("m", a="1"), tools.metric("n")]
            appended = await engine.append(SampleBatch.of(keyspace, labels, [tools.now + at] * 2, [1.0, 1.0]))
            assert (appended.samples, appended.dropped) == (1, {"too_many_labels": 1})

    async def test_lengths_are_bytes_and_zero_is_no_limit(self, limited, tools):
        engine = await limited(TenantLimits(max_labels=0, max_label_name_length=0, max_label_value_length=4))
        wide = Labels.of({"__name__": "m", **{f"{i}" * 600: "v" for i in range(10)}}, many="1")
        appended = await engine.append(rows(tools, wide, tools.metric("é" * 2), tools.metric("é" * 3)))
        assert appended.dropped == {"label_value_too_long": 1}
        assert names(engine) == {"m", "éé"}

    async def test_without_settings_only_what_nobody_uses_is_refused(self, limited, tools):
        engine = await limited()
        most = {f"l{i}": "v" for i in range(BUILT_IN.max_labels - 1)}
        appended = await engine.append(
            rows(
                tools,
                tools.metric("fits", **most),
                tools.metric("more", **most, another="v"),
                tools.metric("value", v="x" * BUILT_IN.max_label_value_length),
                tools.metric("longer", v="x" * (BUILT_IN.max_label_value_length + 1)),
                tools.metric("name", **{"n" * (BUILT_IN.max_label_name_length + 1): "v"}),
            )
        )
        assert appended.dropped == {"too_many_labels": 1, "label_value_too_long": 1, "label_name_too_long": 1}
        assert names(engine) == {"fits", "value"}


class TestSeries:
    async def test_series_that_are_known_go_on_and_new_ones_wait(self, limited, tools, keyspace):
        engine = await limited(TenantLimits(max_series=2))
        three = [tools.metric(name) for name in "abc"]
        appended = await engine.append(SampleBatch.of(keyspace, three, [tools.now] * 3, [1.0] * 3))
        assert (appended.samples, appended.dropped) == (2, {"series_limit": 1})
        appended = await engine.append(SampleBatch.of(keyspace, three, [tools.now + 1] * 3, [1.0] * 3))
        assert (appended.samples, appended.new_series, appended.dropped) == (2, 0, {"series_limit": 1})
        assert names(engine) == {"a", "b"}

    async def test_the_same_new_series_twice_in_a_batch_is_one(self, limited, tools, keyspace):
        engine = await limited(TenantLimits(max_series=2))
        four = [tools.metric(name) for name in "aacb"]
        appended = await engine.append(SampleBatch.of(keyspace, four, [tools.now + i for i in range(4)], [1.0] * 4))
        assert (appended.samples, appended.dropped) == (3, {"series_limit": 1})
        assert names(engine) == {"a", "c"}

    async def test_each_tenant_has_its_own(self, limited, tools):
        engine = await limited(TenantLimits(max_series=1), {"large": TenantLimits(max_series=3), "free": TenantLimits(max_series=0)})
        four = [tools.metric(name) for name in "abcd"]
        for tenant, stored in {"default": 1, "large": 3, "free": 4}.items():
            assert (await engine.append(rows(tools, *four, tenant=tenant))).samples == stored
        assert engine.tenant_series() == {"default": 1, "large": 3, "free": 4}

    async def test_both_limits_at_once_count_each_sample_once(self, limited, tools):
        engine = await limited(TenantLimits(max_series=1, max_labels=1))
        appended = await engine.append(rows(tools, tools.metric("a"), tools.metric("b", x="1"), tools.metric("c")))
        assert appended.dropped == {"too_many_labels": 1, "series_limit": 1}
        assert appended.samples == 1

    async def test_a_restart_keeps_what_was_stored_and_the_limit(self, limited, tools):
        engine = await limited(TenantLimits(max_series=2))
        await engine.append(rows(tools, tools.metric("a"), tools.metric("b")))
        await engine.close()
        engine = await limited(TenantLimits(max_series=1))
        assert names(engine) == {"a", "b"}
        appended = await engine.append(rows(tools, tools.metric("b"), tools.metric("c"), at=1))
        assert (appended.samples, appended.dropped) == (1, {"series_limit": 1})

    async def test_room_comes_back_when_series_are_gone(self, limited, tools, clock, keyspace):
        engine = await limited(TenantLimits(max_series=1), head_span=60_000)
        await engine.append(rows(tools, tools.metric("a")))
        await engine.flush()
        await clock.advance(4 * 3600)

        async def tried() -> bool:
            when = int(clock.now() * 1000)
            return (await engine.append(SampleBatch.of(keyspace, [tools.metric("b")], [when], [1.0]))).samples == 1

        assert not await tried()
        deadline = asyncio.get_running_loop().time() + 20
        while not await tried():
            assert asyncio.get_running_loop().time() < deadline, "the series that is gone still counts"
            await clock.advance(61)
            await asyncio.sleep(0.005)
        assert engine.counters()["forgotten_series"] == 1

    async def test_while_none_is_gone_no_table_is_made_anew_for_room(self, limited, tools, clock, monkeypatch):
        engine = await limited(TenantLimits(max_series=1))
        looks, due = engine._flusher.forgetting, []
        inner = looks.due
        monkeypatch.setattr(looks, "due", lambda: due.append(inner()) or due[-1])
        await engine.append(rows(tools, tools.metric("a"), tools.metric("b")))
        await clock.advance(61)
        engine._writer.wake()
        deadline = asyncio.get_running_loop().time() + 20
        while looks._again <= clock.monotonic():
            assert asyncio.get_running_loop().time() < deadline, "it does not look"
            await asyncio.sleep(0.005)
        await engine.close()
        assert not any(due)


class TestWindow:
    async def test_a_tenant_may_fill_in_more_of_the_past(self, limited, tools):
        engine = await limited(
            tenants={"slow": TenantLimits(out_of_order_window=86_400_000), "strict": TenantLimits(out_of_order_window=0)}
        )
        hours = {"default": {1: 1, 2: 0}, "slow": {1: 1, 24: 1, 25: 0}, "strict": {0: 1, 1: 0}}
        for tenant, tries in hours.items():
            await engine.append(rows(tools, tools.metric("m"), tenant=tenant))
            for back, stored in tries.items():
                appended = await engine.append(rows(tools, tools.metric("m"), tenant=tenant, at=-back * 3_600_000))
                assert appended.samples == stored, (tenant, back)


class TestRate:
    def test_bursts_are_taken_and_made_up_for(self):
        limits = Limits(LimitsSettings(TenantLimits(samples_per_second=100)))
        limits.count("a", 5_000, 0.0)  # a thousand were saved: forty seconds are owed
        with pytest.raises(TenantLimit, match="tenant 'a' sends more than its 100 samples a second") as refusal:
            limits.count("a", 1, 1.0)
        assert refusal.value.retry_after == 39.0
        limits.count("b", 1, 1.0)
        with pytest.raises(TenantLimit):
            limits.count("a", 1, 40.0)
        limits.count("a", 1, 40.1)

    def test_a_steady_stream_below_the_rate_is_never_refused(self):
        limits = Limits(LimitsSettings(TenantLimits(samples_per_second=100)))
        for second in range(0, 600, 15):
            limits.count("a", 1_499, float(second))

    def test_without_a_limit_nothing_is_counted(self):
        limits = Limits()
        for _ in range(10):
            limits.count("a", 1 << 40, 0.0)

    def test_another_limit_is_in_force_at_once(self):
        limits = Limits(LimitsSettings(TenantLimits(samples_per_second=1)))
        limits.count("a", 1_000, 0.0)
        limits.replace(LimitsSettings(tenants={"a": TenantLimits(samples_per_second=500)}))
        limits.count("a", 1_000, 0.0)
        assert limits.of("b").samples_per_second == 0


class TestSettings:
    def test_a_tenant_says_only_what_differs(self):
        text = "default: {max_series: 10, max_labels: 5}\ntenants: {ci: {max_series: 2, out_of_order_window: 1d}}"
        limits = Limits(configfile.parse(text, LimitsSettings), window=7)
        ci, other = limits.of("ci"), limits.of("other")
        assert (ci.max_series, ci.max_labels, ci.max_label_name_length, limits.window("ci")) == (2, 5, 1024, 86_400_000)
        assert (other.max_series, limits.window("other"), limits.longest_window) == (10, 7, 86_400_000)
        assert limits.in_series == {"ci": 2}

    @pytest.mark.parametrize(
        ("text", "where"), [("default: {max_labels: -1}", "max_labels"), ("tenants: {a: {max_serie: 1}}", "tenants.a")]
    )
    def test_mistakes_are_pointed_at(self, text, where):
        with pytest.raises(BadInput) as refusal:
            configfile.parse(text, LimitsSettings, name="vedette.yml")
        assert "vedette.yml:1" in str(refusal.value)
        assert where in str(refusal.value)

    def test_they_print_as_they_are_written(self):
        assert str(TenantLimits(max_series=3, out_of_order_window=1000)) == "{max_series: 3, out_of_order_window: 1000ms}"
        again = configfile.parse(f"default: {TenantLimits(max_series=3, out_of_order_window=1000)}", LimitsSettings)
        assert again.default == TenantLimits(max_series=3, out_of_order_window=1000)

    def test_it_is_of_the_family_of_limits(self):
        assert issubclass(TenantLimit, LimitExceeded)
