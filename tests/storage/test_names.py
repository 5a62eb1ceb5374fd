"""Series by local numbers, for backends whose samples are elsewhere: those that nobody sends any more are forgotten."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from vedette.kernels.series_table import DROPPED
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage import names as module
from vedette.storage.limits import BUILT_IN
from vedette.storage.names import Names


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(module, "_LEAST", 3)


def batch(space, numbers):
    rows = [Labels.of(__name__="m", i=str(i)) for i in numbers]
    return SampleBatch.of(space, rows, [0] * len(rows), [0.0] * len(rows))


def met(names, space, numbers):
    rows, refused, _ = names.rows_of(batch(space, numbers), BUILT_IN)
    assert refused == {}
    return rows


def labels(names, rows):
    return [Labels.decode(key).get("i") for key in names.keys_of(rows)]


def test_what_is_met_no_more_is_forgotten_and_the_rest_keeps_its_handle():
    names, space = Names(), canonical()
    first = met(names, space, range(20))
    handles = names.handles(first)
    assert names.forget_idle() is None
    met(names, space, range(10))
    assert names.forget_idle() is None, "met since the look before the last"
    met(names, space, range(10))
    numbers = names.forget_idle()
    assert numbers is not None
    assert (len(names), names.forgotten) == (10, 10)
    assert (numbers[first[:10]] >= 0).all()
    assert (numbers[first[10:]] < 0).all()
    assert labels(names, numbers[first[:10]]) == [str(i) for i in range(10)]
    assert names.by_handle(handles).tolist() == [*numbers[first[:10]].tolist(), *[DROPPED] * 10]
    assert names.by_tenant() == {"default": 10}
    again = met(names, space, range(20))
    assert labels(names, again) == [str(i) for i in range(20)]
    assert names.handles(again)[:10].tolist() == handles[:10].tolist()
    assert not set(names.handles(again)[10:].tolist()) & set(handles.tolist())


@pytest.mark.parametrize("way", ["handles", "met"])
def test_series_that_are_sent_by_their_handles_alone_stay(way):
    names, space = Names(), canonical()
    rows = met(names, space, range(20))
    handles = names.handles(rows)
    for _ in range(5):
        if way == "handles":
            names.by_handle(handles[:8])
        else:
            names.met(np.concatenate([rows[:8], np.array([DROPPED])]))
        numbers = names.forget_idle()
        if numbers is not None:
            rows = numbers[rows]
    assert labels(names, names.by_handle(handles)[:8]) == [str(i) for i in range(8)]
    assert len(names) == 8


def test_a_few_are_not_worth_it():
    names, space = Names(), canonical()
    met(names, space, range(20))
    for _ in range(6):
        met(names, space, range(16))
        assert names.forget_idle() is None
    assert len(names) == 20


def test_tenants_and_closed_senders_stay_apart():
    names = Names()
    a, b = canonical("a"), canonical("b")
    met(names, a, range(12))
    met(names, b, range(4))
    for _ in range(4):
        met(names, b, range(4))
        names.forget_idle()
    assert names.by_tenant() == {"a": 0, "b": 4}
    a.close()
    names.forget_closed()
    assert labels(names, met(names, canonical("a"), [3])) == ["3"]


def test_numbers_stay_while_somebody_holds_them():
    names, space = Names(), canonical()
    met(names, space, range(20))
    names.forget_idle()
    names.forget_idle()
    done = threading.Event()

    def forget():
        names.forget_idle()
        done.set()

    with names.held():
        thread = threading.Thread(target=forget)
        thread.start()
        assert not done.wait(0.05), "it waits for whoever holds numbers"
        assert len(names) == 20
    thread.join(20)
    assert done.is_set()
    assert len(names) == 0
