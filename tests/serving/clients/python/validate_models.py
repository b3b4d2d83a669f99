"""Read answers with the pydantic models that datamodel-code-generator made of a document: ANSWERS, DOCUMENT as arguments.

Each answer, {question: answer}, must be what its model writes again.
"""

import importlib
import json
import sys
from pathlib import Path

answers, document = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
models = importlib.import_module("revenue_engine_models")
for path in document["paths"].values():
    operation = path.get("post")
    if operation is None:
        continue
    content = operation["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"][0]
    model = getattr(models, content["$ref"].rpartition("/")[2])
    answer = answers[operation["operationId"]]
    again = model.model_validate(answer).model_dump(mode="json", by_alias=True)
    if again.keys() != answer.keys():
        sys.exit(f"{operation['operationId']}: {sorted(again.keys() ^ answer.keys())} are in one of the answer and its model")
