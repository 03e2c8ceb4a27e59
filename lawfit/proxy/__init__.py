"""What a proxy run is told and what it says: packs, schedules, shared trunks, run logs and their table.

Shared by those who ask for runs (`launch`), train them (`train`) and read them (`ingest`). Nothing here needs torch.
"""

from __future__ import annotations
