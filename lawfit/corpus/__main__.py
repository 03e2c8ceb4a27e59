"""`python -m lawfit.corpus FOLDER`: the default corpus, where only the trainer's packages are installed."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from lawfit.corpus.build import build
from lawfit.corpus.files import CorpusError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lawfit.corpus", description="Corpus of this Python's sources.")
    parser.add_argument("folder", type=Path)
    try:
        print(json.dumps(asdict(build(parser.parse_args().folder))))
    except CorpusError as error:
        sys.exit(f"error: {error}")
