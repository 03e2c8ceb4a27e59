"""What is said and asked while a file is read: one sentence each, a question with the flags that answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lawfit.words import Sentence, Spoken, named, option, say, tell

_FIELDS: Final = {
    "lr": "learning rate (lr)",
    "batch": "batch size (batch_tokens or batch_sequences)",
    "params": "parameter count (params)",
    "tokens": "training tokens (tokens, or steps)",
    "loss": "loss",
}
_VOTES: Final = {
    "larger": "it is the larger one in every row",
    "varies": "it alone varies between runs",
    "config": "it stands among what was configured",
    "peak": "its name says peak",
    "base": "it is a base rate, which is what muP carries over",
    "not_base": "it is the rate that the run was set to",
    "name": "its name is the more usual one",
}
_SIGNS: Final = {
    "logged": "stands among what was logged, where the last value of a schedule is kept",
    "zero": "is zero in every row, as at the end of a schedule",
    "floor": "is {low:lr} in every row, where schedules end and few runs begin",
    "minimum": "is the lowest rate of the schedule in every row",
    "low": "holds {low:lr} to {high:lr}, where schedules end and few runs begin",
    "nearly": "holds rates that are nearly and not quite the same ({low:lr} to {high:lr}), as last values are",
    "constant": "is {low:lr} in every row beside a column of schedules",
}
_TURNED: Final = {
    "bits": "'{column}' times ln 2, in nats per token",
    "perplexity": "the logarithm of '{column}', a perplexity: nats per token",
    "score": "1 - '{column}', a score of which higher is better",
    "percent_score": "1 - '{column}' / 100, a score of which higher is better",
}


def flags(choice: Sequence[Mapping[str, str]]) -> str:
    """A choice as it is given."""
    return " ".join(option(each["option"], each["value"]) for each in choice)


def _take(column: str, field: str = "loss") -> str:
    """How a column is taken as a field."""
    return option("map", f"{column}={field}")


def _asked(data: Mapping[str, Any]) -> str:
    said = [flags(choice) for at, choice in enumerate(data["choices"]) if not (data["taken"] and at == data["safe"])]
    if data["taken"]:
        return tell(data["why"]) + (f"; if not, say {', or '.join(said)}" if said else "")
    return f"{tell(data['why'])}; say {', or '.join(said)}" if said else tell(data["why"])


def _doubted(data: Mapping[str, Any]) -> str:
    questions = [tell(question) for question in data["questions"]]
    if len(questions) == 1:
        return f"{data['file']}: {questions[0]}"
    return f"{data['file']}: {len(questions)} questions are open, and nothing was stored" + "".join(
        f"\n  {number}. {question}" for number, question in enumerate(questions, start=1)
    )


def _missing(data: Mapping[str, Any]) -> str:
    lacking = ", ".join(_FIELDS[name] for name in data["missing"])
    more = f" and {data['more']} more" if data["more"] else ""
    hints = "".join(f"; {tell(hint)}" for hint in data["hints"])
    return f"it has no column for: {lacking}; its columns are {', '.join(data['columns'])}{more}{hints}"


def _nothing(data: Mapping[str, Any]) -> str:
    why = "without the size of the models and the length of the runs there is nothing to fit"
    return f"{data['file']}: {_missing(data)}; {why}"


def _names(columns: Sequence[str], between: str = ", ") -> str:
    return between.join(f"'{column}'" for column in columns)


def _votes(data: Mapping[str, Any]) -> str:
    said = "; ".join(f"for '{vote['column']}', {_VOTES[vote['reason']]}" for vote in data["votes"])
    return f"which of {_names(data['columns'])} is the peak learning rate? {said}"


def _lr_is(data: Mapping[str, Any]) -> str:
    why = ", ".join(_VOTES[reason] for reason in data["reasons"])
    return f"the learning rate is '{data['column']}', not '{data['other']}': {why}"


def _settings(data: Mapping[str, Any]) -> str:
    first, *also = data["columns"]
    levels = ", ".join(data["levels"][:6]) + (", ..." if len(data["levels"]) > 6 else "")
    beside = f" (with {_names(also)})" if also else ""
    if not data["groups"]:
        return say(
            "at scales that they share, the levels of '{first}'{beside} have learning rates of their own: {levels}; is "
            "it a setting, whose levels are recipes of their own, or do they belong to one sweep?",
            {**data, "first": first, "beside": beside, "levels": levels},
        )
    return say(
        "runs of equal scale, learning rate, batch and weight decay differ in '{first}'{beside}: {levels}, in "
        "{groups:count setting}; is it a setting, whose levels are recipes of their own, or are they seeds?",
        {**data, "first": first, "beside": beside, "levels": levels},
    )


def _odd_sizes(data: Mapping[str, Any]) -> str:
    said = "{params:q} parameters"
    if data["tokens"] is not None:
        said += " and {tokens:q} tokens ({each:q} per parameter)"
    if data["batch"] is not None:
        said += " at a batch of {batch:q} tokens"
    return f"{_names(data['columns'], ' and ')}: " + say(said, data) + " in the median run; in which unit are they?"


def _loss_is(data: Mapping[str, Any]) -> str:
    others = f"the file also has {_names(data['others'])} ({_take('COLUMN')} to take another)"
    return f"the loss is '{data['column']}'; {others}"


def _watched(data: Mapping[str, Any]) -> str:
    many = {"runs": "run", "curves": "point", "targets": "row", "losses": "row"}[data["of"]]
    said = [say(f"{{inserted:count {many}}} new", data)] if data["inserted"] else []
    said += [say(f"{{updated:count {many}}} changed", data)] if data["updated"] else []
    said += [say("{points:,} points of curves", data)] if data["points"] and data["of"] == "runs" else []
    if not said:
        return say("{file}: {rows:count row}, nothing new", data)
    of = f" of {', '.join(data['recipes'])}" if data["recipes"] else ""
    runs = "; ".join(
        f"'{run['name']}' "
        + ("diverged" if run["loss"] is None else f"{run['loss']:.4g}")
        + (f" at step {run['steps']:,}" if run["steps"] is not None else "")
        for run in data["runs"]
    )
    return f"{data['file']}: {', '.join(said)}{of}" + (f" ({runs})" if runs else "")


def _watched_rejection(data: Mapping[str, Any]) -> str:
    line = f", line {data['line']}" if data["line"] not in (None, 1) else ""  # logs of runs have no lines
    column = f"'{data['column']}': " if data["column"] not in (None, "status") else ""
    return f"{data['file']}{line}: {column}{data['reason']}"


def _watched_all(data: Mapping[str, Any]) -> str:
    said = say("{seconds:time} of watching: {inserted:,} new, {updated:,} changed, {points:,} points of curves", data)
    waiting = data["waiting"]
    return said + (
        say("; {waiting:count file} left, not readable or with open questions", {"waiting": len(waiting)})
        if waiting
        else ""
    )


WORDS: Final[Mapping[str, Sentence]] = {
    "asked": _asked,
    "doubted": _doubted,
    "bad_mapping": "the mapping file {path} cannot be used: {why}",
    # what is missing
    "missing_columns": _missing,
    "nothing_to_fit": _nothing,
    "no_sequence_length": "the batch size '{column}' is in sequences, and no column says how many tokens one has",
    "one_devices_share": "'{column}' is one device's share: add the accumulation steps and devices, or the whole batch",
    "devices_unclear": "'{other}' beside '{column}': the devices that share a step's batch are not known (--set "
    "devices=N, or --map '{column}=devices')",
    "empty_columns": "empty in every row: {columns:join , }",
    "shape_is_no_count": "the shape of a model ({columns:join , }) is no parameter count",
    "score_column": "'{column}' is a score, of which higher is better",
    "altered_loss": "'{column}' is a loss that something was done to, by its name: give the loss itself, or say with "
    "--unit that it is a logarithm",
    "looks_like_a_curve": "a column 'step' suggests a training curve; runs have one row each, not one per step",
    "no_constant": named(
        "'{name}' cannot be set; {close_one}there are {fields:join , }",
        close_one=lambda of: f"did you mean '{of['close'][0]}'? " if of["close"] else "",
    ),
    "no_family": "'{family}' is no family whose parameters are counted; there are {families:join , }",
    "no_live_run": "run '{run}' cannot be stored: {why}",
    "no_size": "{file}: {why}",
    "no_such_level": "{file}: no row has {column} {level}",
    "no_curves": "{file} is no table of curves: that has a run, a step and a loss in each row, and its columns are "
    "{columns:join , }",
    "no_targets": "{file} is no table of steps to a target: that has steps_to_target and target_loss, and its columns "
    "are {columns:join , }",
    # which column
    "two_columns": lambda of: (
        f"both {_names(of['columns'][:2], ' and ')} can be the {of['field']}"
        + (f" (and {_names(of['columns'][2:])})" if of["columns"][2:] else "")
    ),
    "headers_between": "{count:count header} between the rows: cells are read under the names above them",
    "points_or_runs": "rows under one '{column}' ({names} of them) differ in nothing but '{by}' and what came of it: "
    "points of one run, of which the last counts (run_id), or runs of their own (extra)?",
    "unnamed_points": "'{column}' may say how far a run was, as rows of equal settings differ in nothing else "
    "({rows} rows, {runs} settings): which column names the runs, if they are points on the way of some?",
    "points_of_runs": "the last row of each run ('{column}'): {left_out:,} rows on the way of {runs:,} are left out",
    "could_be_too": named(
        "{field} is '{column}'; '{other}' could be it too and holds other values ({take} to take that)",
        take=lambda of: _take(of["other"], of["field"]),
    ),
    "which_lr": _votes,
    "lr_is": _lr_is,
    "lr_decayed": named(
        "'{column}' may be what a schedule had come down to, not the peak: it {sign_said}; is it the configured rate?",
        sign_said=lambda of: _SIGNS[of["sign"]],
    ),
    "lr_and_decay": "'{column}' holds decays of weights as people choose them (up to {high:g}), and '{other}' rates "
    "({low:g} to {top:g}): have the two changed places?",
    "base_rate": "'{column}' is a base rate: is it the learning rate itself (in muP it is what carries over), or is it "
    "multiplied by a factor?",
    "first_rate": "'{column}' is where the schedule begins, and '{other}' says that it rises from there: is it "
    "the peak, or is the peak a multiple of it?",
    "multiplied_rate": "'{column}' may have to be multiplied by '{other}' beside it; if it is the rate already",
    "rate_multiples": "'{column}' holds multiples ({low:g} to {high:g}) of a learning rate that it does not say",
    "lr_by_its_words": lambda of: (
        f"{_names(of['columns'])} may hold learning rates: is one of them the configured peak?"
    ),
    "rate_elsewhere": lambda of: (
        f"no column is the learning rate, and '{of['column']}' shows that it was varied"
        + (f" ('{of['text']}')" if of["text"] else "")
        + ": is the peak in it?"
    ),
    "batch_of_one_device": "'{column}' is the same as '{other}', one device's share: is it the whole batch?",
    "accumulated": "'{column}' stands beside '{accumulation}' ({factor:g}): is it the batch of a step, or one part?",
    "sizes_in": named("'{column}' holds sizes such as {size} ({take})", take=lambda of: _take(of["column"], "params")),
    "n_d_l": "'{column}' is taken as the loss, as it stands beside N and D",
    "active_params": named(
        "params is '{column}', the active ones: '{other}' counts experts that do not work on a token ({take} to take "
        "that)",
        take=lambda of: _take(of["other"], "params"),
    ),
    "loss_is": _loss_is,
    "loss_by_its_words": "'{column}' is taken as the loss by its words ('{words:join _}' is not known)",
    "smoothed_loss": named(
        "the loss is '{column}': smoothed, so less noisy than '{raw}' ({take} to take that)",
        take=lambda of: _take(of["raw"]),
    ),
    "further_losses": named(
        "further validation losses: {columns:join , } ({take} takes that one)", take=lambda of: _take(of["first"])
    ),
    "loss_instead": "the loss is read from '{column}', as {empty:join and } holds no number in any row",
    "few_smoothed": "the loss is '{column}': the smoothed '{smoothed}' stands in only {filled} of {rows} rows",
    "objective": "'{column}' is taken as a loss in nats per token: its name does not say what it measures",
    "unbounded_score": lambda of: (
        f"'{of['column']}' is a score by its name, of which higher is better, and "
        + (
            "only you know whether it is a share of 1 or of 100 %"
            if of.get("bounded")
            else "it has no upper bound that would make a loss of it; take a loss or an error instead"
        )
    ),
    "tokens_of_steps": "tokens are steps x batch size: the file has no column for them",
    # units
    "batch_unit": "'{column}' does not say whether it counts tokens or sequences",
    "batch_below_sequence": "'{column}' is taken as sequences: {batch:g} tokens are less than one of {seq_len:g}",
    "batch_too_many": "'{column}' is taken as tokens: in sequences of {seq_len:g}, a run would have {steps:.2g} steps",
    "batch_of_samples": "'{column}' counts {unit}, as '{tokens}' does: {unit} stand in for tokens",
    "product_is_samples": "'{column}' x steps is '{tokens}' in every row: both count the samples of a batch, which "
    "stand in for tokens",
    "product_is_tokens": "'{column}' x steps is '{tokens}' in every row: it counts tokens",
    "product_is_sequences": "'{column}' x steps x sequence length are the tokens in every row: it counts sequences",
    "product_is_length": "'{column}' is taken as sequences of {seq_len} tokens: tokens / (steps x batch) in every row",
    "unit_is": "'{column}' is read {unit}",
    "unit_hinted": named(
        "'{column}' ({low:g} to {high:g}): is it {unit}?{plainly}",
        plainly=lambda of: " Plain numbers would be {each:q} tokens per parameter" if of["each"] else "",
    ),
    "read_as": lambda of: say(
        "{count:count cell} of '{column}': '{text}' is read as {number:.10g}, first at line {line}", of
    ),
    "metric_turned": named("the loss is {turned}", turned=lambda of: _TURNED[of["kind"]]),
    "steps_disagree": "'{column}' is {ratio:.3g} times '{steps}' x batch in the median row: which of them is the run's "
    "(extra leaves one out), or is the batch one device's, or in another unit?",
    "steps_logged": "tokens would be '{column}' x batch: does it count steps of the optimizer, or what was logged?",
    "odd_sizes": _odd_sizes,
    "negative_rates": "'{column}' holds {low:g} to {high:g}: are they logarithms of learning rates?",
    "high_rates": "'{column}' holds {low:g} to {high:g}, and few peak learning rates are 1 or more: are they multiples "
    "of another rate?",
    "high_loss": lambda of: say(
        "'{column}' holds {low:g} to {high:g}, more than guessing costs with any vocabulary"
        + (f"; {_names(of['others'])} would fit" if of["others"] else ": is it a perplexity?"),
        of,
    ),
    "constant_loss": "'{column}' is {low:.4g} in every row, and {others:join , } is not: which one is the runs' loss?",
    "samples_and_tokens": "'{column}' counts samples, and '{other}' tokens: how many tokens has a sample?",
    "tokens_of_pass": "'{column}' stands beside '{other}' of up to {high:g}: does it count all passes, or one?",
    "unfinished_or_setting": "'{column}' is {top} in most rows and down to {low:g} in others: did those runs stop on "
    "their way, or is it a setting?",
    "tokens_of_data": "'{column}' is {low:q} in every row, whatever the size of the model: did each run see all of "
    "them, once?",
    "odd_batch": "'{column}' would be steps of {low:.6g} to {high:.6g} tokens, which hardly anybody trains with",
    "mixed_units": "'{column}' holds {low:.6g} to {high:.6g} in {rows:count row}, first at line {line}, and "
    "{low_of_rest:.6g} to {high_of_rest:.6g} in the others: are they in another unit? Then write all rows in one",
    "percent_or_share": "'{column}' says percent and holds {low:.4g} to {high:.4g}: are they of 100, or shares of 1?",
    "shares": "'{column}' holds {low:.4g} to {high:.4g}, and a loss in nats is hardly below one in all runs: what does "
    "it measure?",
    "bits_or_nats": "'{column}' is {ratio:.3g} times '{other}' in every row: in which unit is it?",
    "training_loss": "the loss is '{column}', on training data: a file without validation data says it no better",
    "rising_loss": "'{column}' rises with {by} throughout, and a loss falls: is it a score, of which higher is better?",
    "no_markdown_table": "{file} holds no table with a rule of dashes below its header",
    "one_of_tables": "the table of line {line} is read; the file has others, in line {others:join , }",
    # shapes of tables
    "pivot": "read as a pivot table: losses by '{rows}' (rows) and '{columns}' (columns {levels:join , }), "
    "{count:count run}",
    "pivot_of_what": "{file} looks like a pivot table (rows of '{rows}', columns {columns:join , }, ...), and its "
    "header does not say what its columns are: write 'lr \\ batch_tokens' into its corner, or batch_tokens=65536 above "
    "each column",
    "filled_down": "{columns:join , } stand in the first row of each of {blocks:count block}, and are those of the "
    "rows below",
    "empty_below": "'{column}' is empty in {empty} of {rows:count row}: is it as in the row above, or not known?",
    "several_in_cell": "'{column}' has cells with several numbers, such as {text}: are they losses of several seeds, "
    "or of one run, of which the last counts?",
    "seeds_in_cell": "'{column}' has losses of several seeds in a cell, such as {text}: each is a run, as you said",
    "last_of_list": "'{column}' holds lists such as {text}: the loss is the last number; the others are not kept, as "
    "their steps are not said",
    "spread_left_out": "'{column}' holds numbers with their spread: of {text} the number before it is read",
    "marks_left_out": "'{column}' has marks around numbers: {text} is read without them",
    "percent_cells": "'{column}' is in percent: {text} is read as a share of 1",
    "sizes_in_names": "the names in '{column}' have sizes in them, such as '{text}' (--map '{column}=params')",
    "reruns": "{runs:count row} without an id or seed repeat {settings:count setting} of all that the file says: they "
    "count as seeds of each other",
    # charts
    "chart_of_time": "{file} is a chart of W&B along '{axis}': curves are stored by steps; choose Step as its x axis "
    "and save it again",
    "chart_alone": lambda of: say(
        "{file} is a chart of W&B: curves of {runs:count run} ({names:join , }"
        + (", ...) " if of["runs"] > len(of["names"]) else ") ")
        + "without any settings, and the store has none of these runs; ingest the runs first (the table of runs, saved "
        "as CSV; the folder wandb/; or wandb://ENTITY/PROJECT), or all in one command",
        of,
    ),
    "two_runs_of_a_name": "{file}: two runs in the store are called '{name}' ({keys:join , }): write their ids in "
    "place of the name",
    # of a server
    "wandb_uri": "{uri}: a project on W&B's server is named wandb://ENTITY/PROJECT",
    "wandb_missing": "wandb://: runs on W&B's server need wandb; install it with pip install 'lawfit[wandb]'",
    "wandb_no_key": "wandb://: there is no key for {host}; say wandb login once, or set WANDB_API_KEY",
    "wandb_refused": "W&B's server refuses: {why}",
    "wandb_no_answer": "{uri}: W&B's server gave no answer: {why}",
    "wandb_empty": "{uri} holds no run",
    # along a watch
    "watched": _watched,
    "watched_note": "{note}",
    "watched_rejection": _watched_rejection,
    "watched_rejections": "{file}: {more:count row} more cannot be used",
    "watched_waits": "{why}",
    "watch_nowhere": "{place}: there is no such file or folder to watch",
    "watched_all": _watched_all,
    # settings and seeds
    "settings_or_seeds": _settings,
    "setting_tied": named(
        "each level of '{column}' ({shown}) has values of '{to}' to itself: is it a setting, whose levels are recipes "
        "of their own, or do they belong to one sweep?",
        shown=lambda of: ", ".join(of["levels"]),
    ),
    "unlike_seeds": "rows of which all settings are equal, in {settings:count setting}, differ by {percent:.2g} % in "
    "'{column}' in the median, far more than seeds do: which column says what was varied?",
    "only": "only rows with {column} {level} are read; {left_out:count row} left out, as you said",
    "line_in_writing": "the line has no end, and a process has the file open to write: half may be missing; it is "
    "taken once it is whole",
    "no_line_end": "the last line has no line end: if the file is in writing, its last cell may be cut off",
    "unreadable": "cannot be read: {reason}",
    "unreadable_folder": "this folder cannot be read, and what is in it is missing: {reason}",
    "links_to_nowhere": "{links:count link} passed over, with nothing at the other end: {names}",
    "losses_alone": named(
        "no learning rate was logged, so these rows are evidence for laws of the loss alone: there will be no law of "
        "the learning rate or the batch ({take}, or {fixed}, if there was one)",
        take=lambda _: _take("COLUMN", "lr"),
        fixed=lambda _: option("set", "lr=RATE"),
    ),
    "varies_inside": Spoken(
        terminal="inside a recipe these settings vary too: {names:join , }; a fit holds at one level of each, which "
        "lawfit fit --at NAME=VALUE chooses",
        http="inside a recipe these settings vary too: {names:join , }; a fit holds at one level of each, which `at` "
        "of POST /v1/fits chooses",
    ),
    "no_pair": Spoken(
        terminal="--{option} takes NAME=VALUE, got '{value}'", http="{option} takes NAME=VALUE, got '{value}'"
    ),
    "packed": "{file} is packed with gzip; send what is in it",
    "not_sent": "{file} is of the format {format}, which is not taken so; there are {formats:join , }",
    "too_large": "{file} would be too large when it is unpacked",
    "several_sources": named(
        "{place} holds {count} sources: {names:join , }; name one of them, or {say}",
        say=lambda _: option("format", "NAME"),
    ),
    "of_export": Spoken(
        terminal="{file} was written by lawfit export and says itself what its columns, recipes and units are; leave "
        "out all options but --dry-run",
        http="{file} is an export, which says itself what its columns, recipes and units are; leave out all parameters "
        "but dry_run",
    ),
    "in_several_recipes": named(
        "{file}: run '{run}' is in the recipes {recipes:join , }; say which with {say}",
        say=lambda _: option("recipe", "NAME"),
    ),
    "partly_said": lambda of: say(
        "'{column}' is empty in {empty:count row}, which are kept apart from those with {level}; "
        f"if they are the same, say {option(of['option'], of['level'])}",
        of,
    ),
    "unread": "columns that nothing was read from: {columns:join , }",
    "pooled": "runs that differ in {columns:join , } are seeds of each other, as you said",
}
