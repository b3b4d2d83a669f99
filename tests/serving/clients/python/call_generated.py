"""Call every question of a server by the client that openapi-python-client generated from its document: URL, DOCUMENT as arguments.

Prints {question: the answer as the client's own types write it}. It runs in the environment of the generated client, without ours.
"""

import importlib
import json
import sys
from pathlib import Path

from revenue_engine_client import Client
from revenue_engine_client.models import Problem

url, document = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
client = Client(base_url=url)
answers = {}
for path in document["paths"].values():
    operation = path.get("post")
    if operation is None:
        continue
    content = operation["requestBody"]["content"]["application/json"]
    one = content["schema"]["oneOf"][0]["$ref"].rpartition("/")[2]
    module = importlib.import_module(f"revenue_engine_client.api.questions.{operation['operationId']}")
    request = getattr(importlib.import_module("revenue_engine_client.models"), one)
    body = request.from_dict(content["examples"]["one"]["value"])
    answer = module.sync(client=client, body=body)
    if answer is None or isinstance(answer, Problem | list):
        sys.exit(f"{operation['operationId']}: {answer}")
    answers[operation["operationId"]] = answer.to_dict()
    listed = module.sync(client=client, body=[body, body])
    if [type(item) for item in listed] != [type(answer)] * 2:
        sys.exit(f"{operation['operationId']}: a list is answered with {listed}")
    wrong = module.sync_detailed(client=client, body=request.from_dict(content["examples"]["one"]["value"]), x_request_timeout_ms=0)
    if wrong.status_code != 422 or wrong.parsed.field != "X-Request-Timeout-Ms":
        sys.exit(f"{operation['operationId']}: a wrong header is answered with {wrong}")
print(json.dumps(answers))
