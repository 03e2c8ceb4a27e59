"""Critical batches as if measured."""

from __future__ import annotations

import numpy as np

from lawfit.estimate.critical.batch import CriticalBatch, CriticalStatus
from lawfit.laws.critical_batch import DOUBLING


def measured(value_tokens: float, params: float, tokens: float, *, log_sd: float = 0.03) -> CriticalBatch:
    reach = float(np.exp(1.645 * log_sd))
    return CriticalBatch(
        definition=DOUBLING,
        value_tokens=value_tokens,
        low_tokens=value_tokens / reach,
        high_tokens=value_tokens * reach,
        level=0.9,
        status=CriticalStatus.INSIDE,
        estimator="E4",
        params=params,
        tokens=tokens,
        loss=None,
        log_sd=log_sd,
        form_log_sd=0.05,
    )
