"""The proxy trainer: many small language models in one program. `pack.json` in, one `run.jsonl` per run out."""
