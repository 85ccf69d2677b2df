"""Makes a packaged prompt set from a pool of pairs: `python tools/split_prompts.py POOL.jsonl NAME [SIZE SIZE SIZE]`.

The pool has one object a line: kind, bad, good, and any further keys, which are kept. The sizes are those of the parts
direction, search and report. Near-duplicate pairs are clustered first and never straddle parts.
"""

import json
import sys
from pathlib import Path

from heretic.prompts.files import read_rows
from heretic.prompts.loading import SETS
from heretic.prompts.partition import clusters, split_into_parts

ORDER = ["kind", "bad", "good", "reading"]
SIZES = {"direction": 200, "search": 100, "report": 100}


def main(pool: Path, name: str, sizes: dict[str, int]) -> None:
    pairs = read_rows(pool)
    groups = clusters([pair["bad"] for pair in pairs], [pair["good"] for pair in pairs])
    parts = split_into_parts(groups, [pair["kind"] for pair in pairs], sizes)
    lines = [
        json.dumps(
            {"part": part} | {key: pairs[i][key] for key in sorted(pairs[i], key=ORDER.index)}, ensure_ascii=False
        )
        for part, indices in parts.items()
        for i in indices
    ]
    (SETS / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(pairs)} pairs, {len(groups)} clusters (largest {max(map(len, groups))}): {len(lines)} pairs in {name}")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], dict(zip(SIZES, map(int, sys.argv[3:]), strict=True)) if sys.argv[3:] else SIZES
    )
