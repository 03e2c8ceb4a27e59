"""The best weight decay of a sweep and the law of AdamW's timescale."""
