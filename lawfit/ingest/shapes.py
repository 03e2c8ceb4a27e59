"""What people make of tables of runs, made plain tables again: pivots, blocks, lists, percent, names that say more."""

from __future__ import annotations

from typing import Final

from lawfit.findings import Found
from lawfit.ingest.blocks import filled_down
from lawfit.ingest.cell_texts import WORDS_OF, made_numbers, plainly_written, with_words
from lawfit.ingest.lists import one_loss_each
from lawfit.ingest.names_with_values import with_values
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.pivots import unpivoted
from lawfit.ingest.questions import Question
from lawfit.ingest.restated import under_one_header
from lawfit.ingest.table import Table

_BY_HAND: Final = frozenset({"csv", "tsv", "excel", "markdown", "dataframe"})  # where cells may be merged


def shape(table: Table, options: IngestOptions) -> tuple[Table, list[Found], list[Question]]:
    """The table with a row for each run and a number in each cell that has one, what was done, and what is open.

    Raises
    ------
    LogFormatError
        A pivot table that does not say what its columns are.
    """
    table, headers = under_one_header(table)
    table, pivot = unpivoted(table)
    filled, questions = list[Found](), list[Question]()
    if table.format in _BY_HAND or options.fill:
        table, filled, questions = filled_down(table, options)
    table, marks = plainly_written(table)
    table, lists, several = one_loss_each(table, options)
    table, numbers = made_numbers(table, options)
    named = {*options.column_map, *options.held, *options.pool}
    table = with_words(table, lambda column: WORDS_OF + column in named)
    table = with_values(table, named)
    return table, [*headers, *pivot, *filled, *marks, *lists, *numbers], [*questions, *several]
