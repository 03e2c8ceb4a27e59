"""What was answered to requests with a key of their own, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lawfit.storage import Store, replies

ANSWER = replies.Reply(status=201, media_type="application/json", body=b"{}")


def test_a_key_is_taken_once_and_answered_the_same(store: Store) -> None:
    assert replies.begin(store, "me", "k", "asked") is None
    with pytest.raises(replies.UnderWay):
        replies.begin(store, "me", "k", "asked")
    with pytest.raises(replies.OtherRequest):
        replies.begin(store, "me", "k", "something else")
    assert replies.begin(store, "another", "k", "something else") is None
    replies.finish(store, "me", "k", ANSWER)
    assert replies.begin(store, "me", "k", "asked") == ANSWER


def test_what_failed_or_was_given_up_is_free_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replies.begin(store, "", "k", "asked") is None
    replies.finish(store, "", "k", None)
    assert replies.begin(store, "", "k", "asked") is None
    monkeypatch.setattr(replies, "ABANDONED_SECONDS", -1.0)
    assert replies.begin(store, "", "k", "asked") is None


def test_of_many_at_once_one_is_first(store: Store) -> None:
    def first(_number: int) -> bool:
        try:
            return replies.begin(store, "", "k", "asked") is None
        except replies.UnderWay:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(first, range(24))) == 1
