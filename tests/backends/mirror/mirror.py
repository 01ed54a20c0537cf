"""Shows every header of the request as the application has it: WSGI for gunicorn, ASGI for uvicorn."""


def wsgi(environ, start_response):
    environ["wsgi.input"].read()
    lines = [f"{k}\t{v}\n" for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))]
    directives = [("X-Session-Set", '{"a":1}')] if environ["PATH_INFO"] == "/set" else []
    start_response("200 OK", [("Content-Type", "text/plain"), *directives])
    return ["".join(lines).encode("latin-1")]


async def asgi(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    lines = b"".join(k + b"\t" + v + b"\n" for k, v in scope["headers"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(lines))]
    if scope["path"] == "/set":
        headers.append((b"x-session-set", b'{"a":1}'))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": lines})
