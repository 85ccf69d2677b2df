"""Values of prompt flags that name a part of a packaged set."""

import json


def disclaimer(column: str, split: str) -> str:
    return json.dumps({"dataset": "packaged:disclaimer", "split": split, "column": column})
