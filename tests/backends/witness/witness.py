"""Says what it saw of each whole request: a line on standard output, and its target as the answer. For gunicorn."""


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    declared = environ.get("CONTENT_LENGTH")
    if declared and int(declared) != len(body):  # it broke off
        raise ConnectionError("an incomplete body")
    target = environ["RAW_URI"].encode("latin-1")
    shown = "".join(chr(b) if 32 < b < 127 else f"\\x{b:02x}" for b in target)
    print("saw", environ["REQUEST_METHOD"], shown, len(body), flush=True)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(target)))])
    return [target if environ["REQUEST_METHOD"] != "HEAD" else b""]
