"""Operations that look at one sample at a time, made to rows block by block as they are computed: no matrix of all rows is held.

What they are is in `functions.py` and `binary.py`; here is how they are put behind what computes the rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vedette.promql import labelsets
from vedette.promql.evaluation import Evaluation
from vedette.promql.values import Bools, Floats, Rows, Value

Change = Callable[[Floats, Bools], None]
"""`change(values, present)` changes a block of rows in place; it may run on several threads at once."""


def changed(ev: Evaluation, value: Value, change: Change, *, renamed: bool) -> Rows | None:
    """Rows with `change` made to each block, and without metric names where `renamed`.

    None where `value` is a matrix already, or where rows without their names could be equal: that only a matrix tells.
    """
    if not isinstance(value, Rows) or value.made is not None:
        return None
    labels, drop = value.labels, value.drop
    if renamed and ev.delayed_names:
        drop = np.ones(len(value), dtype=np.bool_)
    elif renamed:
        if not labelsets.unique_without_names(labels):
            return None
        labels = ev.recurring.kept(labels, labelsets.METADATA, without=True)

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        value.fill(lo, hi, values, present)
        # How NumPy takes what is no number is a matter of each thread.
        with np.errstate(all="ignore"):
            change(values[: hi - lo], present[: hi - lo])

    return Rows(labels, value.n, fill, drop, samples=value.samples, begins=value.begins, held=value.held, depth=value.depth + 1)
