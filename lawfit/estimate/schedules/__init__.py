"""Loss curves of a few schedules, and what others would reach."""
