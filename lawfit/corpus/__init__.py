"""A tokenised corpus: memory-mapped uint16 tokens, train and validation split by document, and a manifest with a hash.

Reading one needs numpy alone. `build` makes one from text, `token_files` from tokens that others made, and
`lawfit.corpus.synthetic` one whose entropy is known.
"""

from __future__ import annotations

from lawfit.corpus.files import MANIFEST, Corpus, CorpusError, Manifest, open_corpus, sequence_order

__all__ = ["MANIFEST", "Corpus", "CorpusError", "Manifest", "open_corpus", "sequence_order"]
