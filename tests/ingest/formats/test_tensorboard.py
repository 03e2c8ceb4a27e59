"""TensorBoard's files beyond the golden ones: checksums, kinds of values, folders of one run, texts with settings."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from lawfit.errors import LogFormatError
from lawfit.ingest import events
from lawfit.ingest.crc32c import masked_crcs
from lawfit.ingest.events import Damaged, read_events
from tests.ingest.formats.logs import GOLDEN, curves, one_table, rows, tables
from tests.ingest.formats.wires import crc32c, event, masked, message, record, simple, tensor, varint


def write(folder: Path, *written: bytes, name: str = "events.out.tfevents.1.host.1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"".join(map(record, written)))
    return path


def numbers(path: Path, tag: str) -> dict[int, float]:
    steps, values = read_events(path).scalars[tag].ascending()
    return dict(zip(steps.tolist(), values.tolist(), strict=True))


class TestChecksum:
    def test_the_published_values(self) -> None:
        """RFC 3720, B.4: of 32 zeros, 32 ones, and ascending bytes."""
        for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
            assert crc32c(data) == crc
            assert masked_crcs(np.frombuffer(data, np.uint8)[None])[0] == masked(data)

    @pytest.mark.parametrize("count", [1, 3, 100])
    @pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 47, 1023, 1024, 1025, 1027, 1028, 3000])
    def test_agrees_with_bit_by_bit(self, length: int, count: int, rng: np.random.Generator) -> None:
        rows_of_bytes = rng.integers(0, 256, (count, length), dtype=np.uint8)
        found = masked_crcs(rows_of_bytes)
        assert found[0] == masked(rows_of_bytes[0].tobytes())
        assert found[-1] == masked(rows_of_bytes[-1].tobytes())

    def test_a_damaged_number_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, *(event(n, simple("loss", 3.0)) for n in range(1, 50)))
        data = bytearray(path.read_bytes())
        place = data.index(struct.pack("<f", 3.0), 1000)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(Damaged, match=r"the checksum of the record at byte [0-9,]+ is wrong"):
            read_events(path)
        with pytest.raises(LogFormatError, match=r"checksum.*damaged, copy it again"):
            tables(path)

    def test_a_damaged_length_is_no_cut_tail(self, tmp_path: Path) -> None:
        path = write(tmp_path, *(event(n, simple("loss", 3.0)) for n in range(1, 50)))
        data = bytearray(path.read_bytes())
        data[5] = 0x7F  # a record of 140 GB
        path.write_bytes(data)
        with pytest.raises(Damaged, match="the checksum of the length at byte 0 is wrong"):
            read_events(path)

    def test_skipping_them_is_an_option_that_is_stated(self, tmp_path: Path) -> None:
        path = write(tmp_path, *(event(n, simple("loss", 3.0)) for n in range(1, 5)))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(LogFormatError):
            tables(path)
        (table,) = tables(path, "tensorboard-unverified")
        assert len(table.curves[0].steps) == 4
        assert any("checksums were not verified, as asked" in note for note in table.notes)
        (folder,) = tables(tmp_path, "tensorboard-unverified")
        assert folder.rows == table.rows


class TestValues:
    def test_every_point_of_every_kind(self, tmp_path: Path) -> None:
        """Several values in a record, tags of one length, steps of one and more bytes, a zero that is not written."""
        written = [event(0, simple("aaa", 9.0))]
        for n in range(1, 400):
            written.append(event(n, simple("aaa", n), simple("bbb", -n)))
            written.append(event(n, simple("ccc", n / 2)))
        path = write(tmp_path, *written)
        assert numbers(path, "aaa") == {0: 9.0, **{n: float(n) for n in range(1, 400)}}
        assert numbers(path, "bbb") == {n: -float(n) for n in range(1, 400)}
        assert numbers(path, "ccc") == {n: n / 2 for n in range(1, 400)}

    @pytest.mark.parametrize(
        ("dtype", "content", "number"),
        [
            (1, message(4, struct.pack("<f", 2.5)), 2.5),
            (2, message(4, struct.pack("<d", 0.1)), 0.1),
            (3, message(4, struct.pack("<i", -7)), -7.0),
            (9, message(4, struct.pack("<q", 2**40)), float(2**40)),
            (14, message(4, struct.pack("<f", 2.5)[2:]), 2.5),
            (19, message(4, struct.pack("<e", 2.5)), 2.5),
            (1, message(5, struct.pack("<f", 2.5)), 2.5),
            (1, varint(5 << 3 | 5) + struct.pack("<f", 2.5), 2.5),
            (2, message(6, struct.pack("<d", 0.1)), 0.1),
            (1, b"", 0.0),
        ],
        ids=["f4", "f8", "i4", "i8", "bf16", "f2", "float_val", "unpacked", "double_val", "zero"],
    )
    def test_tensors(self, tmp_path: Path, dtype: int, content: bytes, number: float) -> None:
        path = write(tmp_path, *(event(n, tensor("loss", dtype, content)) for n in range(1, 9)))
        assert numbers(path, "loss") == dict.fromkeys(range(1, 9), number)

    def test_what_is_no_number_is_passed_over(self, tmp_path: Path) -> None:
        image = tensor("image", 1, message(4, bytes(16)), shape=message(2, varint(1 << 3) + b"\x04"))
        histogram = message(1, b"weights") + message(5, bytes(40))
        path = write(tmp_path, event(1, image, histogram, simple("loss", 3.0)), event(2, simple("loss", 2.0)))
        assert set(read_events(path).scalars) == {"loss"}

    def test_negative_steps_and_wide_ones(self, tmp_path: Path) -> None:
        path = write(tmp_path, *(event(n, simple("loss", 1.0)) for n in (-5, 2**40, 2**62)))
        assert list(numbers(path, "loss")) == [-5, 2**40, 2**62]

    def test_over_chunks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path, *(event(n, simple("loss", n)) for n in range(1, 500)))
        whole = numbers(path, "loss")
        monkeypatch.setattr(events, "_CHUNK", 333)
        assert numbers(path, "loss") == whole
        assert len(whole) == 499

    def test_a_tail_in_writing_is_said(self, tmp_path: Path) -> None:
        path = write(tmp_path, *(event(n, simple("loss", n)) for n in range(1, 10)))
        whole = path.read_bytes()
        for length in range(len(whole) - 40, len(whole)):
            path.write_bytes(whole[:length])
            found = read_events(path)
            assert found.cut
            assert len(found.scalars["loss"]) == 8
        assert any("in the middle of a record" in note for note in one_table(path).notes)

    def test_bytes_that_are_no_event(self, tmp_path: Path) -> None:
        with pytest.raises(Damaged, match="the record at byte 0 is no event"):
            read_events(write(tmp_path, b"\x2a\xff\xff\x03abc"))


class TestRuns:
    def test_a_restart_goes_on_with_the_run(self, tmp_path: Path) -> None:
        write(tmp_path / "a", *(event(n, simple("loss", n)) for n in (1, 2, 3)), name="events.out.tfevents.1.h.1.0")
        write(tmp_path / "a", *(event(n, simple("loss", -n)) for n in (3, 4)), name="events.out.tfevents.2.h.1.0")
        table = one_table(tmp_path)
        assert {k: (list(s), list(v)) for k, (s, v) in curves(table, "a").items()} == {
            "train_loss": ([1, 2, 3, 4], [1.0, 2.0, -3.0, -4.0])
        }

    def test_keras_writes_train_and_validation_apart(self, tmp_path: Path) -> None:
        for part, number in (("train", 3.0), ("validation", 3.5)):
            write(tmp_path / "run" / part, *(event(n, simple("epoch_loss", number)) for n in (1, 2)))
        (row,) = rows(one_table(tmp_path)).values()
        assert (row["final_train_loss"], row["final_val_loss"]) == (3.0, 3.5)

    def test_add_scalars_makes_folders_below_the_run(self, tmp_path: Path) -> None:
        write(tmp_path / "run", event(1, simple("lr", 1e-3)), event(2, simple("lr", 1e-3)))
        for part, number in (("loss_train", 3.0), ("loss_val", 3.5)):
            write(tmp_path / "run" / part, *(event(n, simple("loss", number)) for n in (1, 2)))
        (row,) = rows(one_table(tmp_path)).values()
        assert (row["final_train_loss"], row["final_val_loss"]) == (3.0, 3.5)

    def test_the_id_stays_when_a_folder_moves(self, tmp_path: Path) -> None:
        shutil.copytree(GOLDEN / "tensorboard" / "low", tmp_path / "another name")
        here = rows(one_table(tmp_path))
        assert here["another name"]["run_id"] == rows(one_table(GOLDEN / "tensorboard"))["low"]["run_id"]

    def test_settings_in_a_text(self, tmp_path: Path) -> None:
        """As the callback of the Hugging Face Trainer writes them."""
        args = json.dumps({"learning_rate": 3e-3, "weight_decay": 0.1}, indent=2)
        text = tensor("args/text_summary", 7, message(8, args.encode()), shape=message(2, b"\x08\x01"))
        prose = tensor("notes/text_summary", 7, message(8, b"all went well"))
        write(tmp_path / "a", event(0, text), event(0, prose), event(1, simple("loss", 3.0)))
        (row,) = rows(one_table(tmp_path)).values()
        assert (row["config.learning_rate"], row["config.weight_decay"]) == (3e-3, 0.1)

    def test_the_logs_of_the_trainer_by_themselves(self, tmp_path: Path) -> None:
        for name in ("low", "middle"):
            shutil.copytree(GOLDEN / "huggingface" / name / "runs", tmp_path / name)
        found = rows(one_table(tmp_path)).values()
        assert sorted(row["config.learning_rate"] for row in found) == [1e-3, 3e-3]
        assert all(row["status"] == "finished" for row in found)
