"""The inside of a client process: answers the calls that come over its standard input, one JSON object a line."""

import json
import sys


def serve(calls):
    """Returns when the input ends. `calls` has a function for each name."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": calls[request["call"]](*request["args"])}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
