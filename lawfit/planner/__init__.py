"""What to run next: which small runs would tell most about a target, for what they cost."""
