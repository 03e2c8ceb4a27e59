"""`lawfit corpus`: make the tokenised text that the trainer reads, and look at it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lawfit.cli.gathered import Options, gathers
from lawfit.cli.main import ExitCode
from lawfit.cli.options import JsonOption, whole_quantity
from lawfit.cli.output import format_count, heading, note, pairs, plain, print_json, progress, show
from lawfit.errors import LawfitError

if TYPE_CHECKING:
    from lawfit.corpus import Manifest
    from lawfit.corpus.documents import Reading

app = typer.Typer(help="Make the tokenised text that runs train on, and look at it.", no_args_is_help=True)

SAMPLE_TOKENS = 400
SAMPLE_LINES = 12
NUMBERS_SHOWN = 40  # where tokens cannot be turned into text
REJECTIONS_SHOWN = 5
EVALUATED = (4096, 256)  # sequences that runs are evaluated on where a grid is silent; tokens of one, as usual

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The corpus: a folder of its own.")]


def _whole(metavar: str, words: str) -> Any:
    return typer.Option(parser=whole_quantity, metavar=metavar, help=words)


@dataclass(frozen=True, kw_only=True)
class Wanted(Options):
    """What of the text makes the corpus, and how it becomes tokens."""

    suffix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Of the files to take from folders; repeatable. [default: .py]", show_default=False
        ),
    ] = None
    text_field: Annotated[str, typer.Option(metavar="NAME", help="Field of a JSON line that holds its text.")] = "text"
    vocab: Annotated[
        int | None,
        typer.Option(
            parser=whole_quantity,
            metavar="V",
            help="Tokens that the new tokenizer knows. [default: 4096]",
            show_default=False,
        ),
    ] = None
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Use the tokenizer of another corpus (its folder or tokenizer.json), not a new one."
        ),
    ] = None
    validation_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of the documents, held out for validation: runs are evaluated on 4,096 sequences of it unless their "
            "grid says eval_sequences.",
        ),
    ] = 0.02
    max_bytes: Annotated[int, _whole("N", "Leave out longer documents, which are often generated.")] = 1_000_000
    cut: Annotated[
        bool, typer.Option("--cut", help="Cut longer documents into pieces of at most --max-bytes instead.")
    ] = False
    ignore_space: Annotated[
        bool, typer.Option("--ignore-space", help="Documents that differ in white space alone count as copies.")
    ] = False

    def reading(self) -> Reading:
        """What is a document."""
        from lawfit.corpus.documents import Reading

        return Reading(
            suffixes=tuple("." + text.removeprefix(".") for text in self.suffix) if self.suffix else Reading.suffixes,
            text_field=self.text_field,
            max_bytes=self.max_bytes,
            cut=self.cut,
            ignore_space=self.ignore_space,
        )


@app.command("build")
@gathers
def build(
    folder: FolderArgument,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Folders, JSON lines (.jsonl) and text files, also with .gz. [default: the sources of this Python]",
            show_default=False,
        ),
    ] = None,
    *,
    wanted: Wanted,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes. [default: one per processor]", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus from text: documents, each kept once, as tokens of a byte-level BPE.

    The same documents and settings give the same corpus, with the same hash, on any machine. Whatever is no document
    is listed in FOLDER/rejected.jsonl with the reason. Exit code 3: broken files or lines were among it.

    Examples: lawfit corpus build corpus;  lawfit corpus build notes ~/notes --suffix .md --suffix .txt;
    lawfit corpus build plays shakespeare.txt --cut --max-bytes 20k --validation-share 0.1
    """
    from lawfit.corpus.build import VOCAB, build
    from lawfit.corpus.documents import BROKEN

    if wanted.vocab is not None and wanted.tokenizer is not None:
        raise typer.BadParameter("a tokenizer has its own vocabulary: give --vocab or --tokenizer, not both")
    vocab = wanted.vocab or VOCAB
    was_there = _is_corpus(folder)
    with progress(f"making {folder}", quiet=as_json) as advance:
        manifest = build(
            folder,
            sources or (),
            vocab=vocab,
            validation_share=wanted.validation_share,
            tokenizer_file=wanted.tokenizer,
            reading=wanted.reading(),
            workers=workers,
            progress=advance,
        )
    _tell(folder, manifest, was_there, as_json)
    if not as_json and wanted.tokenizer is None and manifest.vocab < vocab:
        note(f"there is too little text for a vocabulary of {vocab:,}; it has {manifest.vocab:,}")
    if any(reason in manifest.rejected for reason in BROKEN):
        raise typer.Exit(int(ExitCode.REJECTED))


@app.command("import")
def import_(
    folder: FolderArgument,
    train: Annotated[Path, typer.Option(metavar="FILE", help="Training tokens, such as nanoGPT's train.bin.")],
    validation: Annotated[Path, typer.Option(metavar="FILE", help="Validation tokens, such as nanoGPT's val.bin.")],
    vocab: Annotated[int, _whole("V", "Every token is smaller. (A meta.pkl is not read: pickles can run programs.)")],
    bytes_per_token: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="X",
            help="Of the validation text. Without it there are no bits per byte.",
            show_default=False,
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Refer to the files instead of copying them; they must stay as they are.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus from tokens that others made: files of 16-bit unsigned tokens without a header.

    Example: lawfit corpus import owt --train train.bin --validation val.bin --vocab 50257
    """
    from lawfit.corpus.token_files import import_tokens

    was_there = _is_corpus(folder)
    with progress(f"making {folder}", quiet=as_json) as advance:
        manifest = import_tokens(
            folder, train, validation, vocab=vocab, bytes_per_token=bytes_per_token, link=link, progress=advance
        )
    _tell(folder, manifest, was_there, as_json)


@app.command("synthetic")
def synthetic(
    folder: FolderArgument,
    tokens: Annotated[int, _whole("D", "Of the training part.")] = 10_000_000,
    validation_tokens: Annotated[int, _whole("D", "Of the validation part.")] = 2_500_000,
    vocab: Annotated[int, _whole("V", "From 8 to 4096.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same source and tokens.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus from a source whose entropy is known, which no model's loss can beat.

    Token frequencies follow Zipf's law, and each token depends on the two before it.

    Example: lawfit corpus synthetic zipf --tokens 100M --vocab 1024
    """
    from lawfit.corpus.synthetic import build_synthetic

    was_there = _is_corpus(folder)
    with progress(f"making {folder}", quiet=as_json) as advance:
        manifest = build_synthetic(
            folder, tokens=tokens, validation_tokens=validation_tokens, vocab=vocab, seed=seed, progress=advance
        )
    _tell(folder, manifest, was_there, as_json)


@app.command("show")
def show_(
    folder: FolderArgument,
    check: Annotated[bool, typer.Option("--check", help="Read all tokens and compare them with the hash.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a corpus is made of, and show how the first document of its validation part reads."""
    from lawfit.corpus import CorpusError, open_corpus
    from lawfit.corpus.files import content_hash

    corpus = open_corpus(folder)
    manifest = corpus.manifest
    if check and (found := content_hash(folder, manifest.vocab)) != manifest.hash:
        raise CorpusError(
            f"{folder} is damaged: its tokens have the hash {found}, its manifest says {manifest.hash}; make it again"
        )
    sample = _sample(folder, corpus.validation[:SAMPLE_TOKENS].tolist())
    if as_json:
        print_json({**_document(folder, manifest), "sample": sample, "checked": check})
        return
    rejections = _rejections(folder)
    show(
        pairs(_rows(folder, manifest) + ([("Check", "the tokens agree with the hash")] if check else [])),
        plain(""),
        heading("How validation begins"),
        plain("\n".join(sample.splitlines()[:SAMPLE_LINES])),
    )
    if rejections:
        show(plain(""), heading(f"Left out (all in {folder / 'rejected.jsonl'})"), pairs(rejections))


def _is_corpus(folder: Path) -> bool:
    from lawfit.corpus.files import read_manifest

    return read_manifest(folder) is not None


def _tell(folder: Path, manifest: Manifest, was_there: bool, as_json: bool) -> None:
    if as_json:
        print_json({**_document(folder, manifest), "unchanged": was_there})
        return
    show(pairs(_rows(folder, manifest)))
    sequences, length = EVALUATED
    if (held_out := (manifest.validation_tokens - 1) // length) < sequences:
        note(
            f"! validation holds {held_out:,} sequences of {length} tokens, and runs are evaluated on {sequences:,} "
            "unless their grid asks for fewer (eval_sequences in its base)"
        )
    note("nothing to do: the folder holds this very corpus" if was_there else f"next: lawfit corpus show {folder}")


def _document(folder: Path, manifest: Manifest) -> dict[str, Any]:
    content = dataclasses.asdict(manifest)
    bytes_per_token = manifest.bytes_per_token
    return {"schema": "lawfit.corpus/1", "folder": str(folder), **content, "bytes_per_token": bytes_per_token}


def _rows(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    train, validation = format_count(manifest.train_tokens), format_count(manifest.validation_tokens)
    documents = f", from {manifest.documents:,} documents" if manifest.documents else ""
    rows = [
        ("Corpus", str(folder)),
        ("Hash", manifest.hash),
        ("Made from", "; ".join(manifest.sources)),
        ("Tokens", f"{train} for training, {validation} for validation{documents}"),
        ("Vocabulary", f"{manifest.vocab:,}"),
    ]
    if manifest.bytes_per_token is not None:
        rows.append(("Text", f"{manifest.bytes_per_token:.2f} bytes per token"))
    elif manifest.entropy is None:
        rows.append(("Text", "unknown, so that runs will have no bits per byte; --bytes-per-token says how long it is"))
    if manifest.entropy is not None:
        rows.append(("Entropy", f"{manifest.entropy:.4f} nats per token: the floor of the loss"))
        rows.append(("", f"{manifest.validation_entropy:.4f} on this validation part"))
    left_out = [f"{manifest.duplicates:,} copies"] if manifest.duplicates else []
    left_out += [f"{count:,} {reason}" for reason, count in manifest.rejected.items()]
    if manifest.skipped and not manifest.rejected:
        left_out.append(f"{manifest.skipped:,} that are no documents")
    return [*rows, ("Left out", ", ".join(left_out))] if left_out else rows


def _sample(folder: Path, tokens: list[int]) -> str:
    """The first document of some tokens as text, or as numbers where nothing turns them into text."""
    from lawfit.corpus.files import TOKENIZER

    try:
        from lawfit.corpus.bpe import load_tokenizer, require_tokenizers

        require_tokenizers()
        tokenizer = load_tokenizer(folder / TOKENIZER)
    except LawfitError:
        return f"tokens {' '.join(map(str, tokens[:NUMBERS_SHOWN]))} ..."
    end = tokens.index(0, 1) if 0 in tokens[1:] else len(tokens)
    return str(tokenizer.decode(tokens[1:end]))


def _rejections(folder: Path) -> list[tuple[str, str]]:
    from lawfit.corpus.files import REJECTED

    path = folder / REJECTED
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8") as file:
        for line, _ in zip(file, range(REJECTIONS_SHOWN), strict=False):
            item = json.loads(line)
            place = item["source"] if item["line"] is None else f"{item['source']}, line {item['line']}"
            rows.append((item["reason"], f"{place}: {item['detail']}"))
    return rows
