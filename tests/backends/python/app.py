"""A little application that keeps its session in headers: plain WSGI, nothing but the standard library."""
import json, os, sys, time
from socketserver import ThreadingMixIn
from urllib.parse import parse_qsl, quote
from wsgiref.simple_server import WSGIServer, make_server


def compact(value):
    # DEL is the one character that JSON leaves as it is and a header can't carry.
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def app(environ, start_response):
    session = json.loads(environ.get("HTTP_X_SESSION_DATA", "{}"))
    method, path = environ["REQUEST_METHOD"].replace("HEAD", "GET"), environ["PATH_INFO"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    form = dict(parse_qsl(environ["QUERY_STRING"]) + parse_qsl(body.decode(errors="replace")))
    status, kind, text, directives = "200 OK", "text/plain", "", []

    def ask(name, value):
        directives.append((f"X-Session-{name}", compact(value)))

    if (method, path) == ("GET", "/slow"):
        time.sleep(int(form.get("ms", 0)) / 1000)
        method, path = ("POST", "/" + form["then"]) if "then" in form else ("GET", "/")
    match method, path:
        case "GET", "/":
            user, cart = quote(session.get("user_id", "-"), safe=""), compact(session.get("cart", []))
            text = f"user={user} visits={session.get('visits', 0)} cart={cart}\nhits={session.get('hits', 0)}\n"
        case "POST", "/login":
            ask("Set", {"user_id": form.get("user", "nobody")})
            ask("Cycle-Key", True)
            status = "303 See Other"
        case "POST", "/logout":
            ask("Flush", True)
            status = "303 See Other"
        case "POST", "/cart/add":
            ask("Set", {"cart": session.get("cart", []) + [form.get("item", "nothing")]})
            status = "303 See Other"
        case "POST", "/visit":
            ask("Set", {"visits": session.get("visits", 0) + 1})
            text = f"visits={session.get('visits', 0) + 1}\n"
        case "GET" | "POST", "/count":  # an increment, so that parallel requests all count
            ask("Increment", {"hits": 1})
            text = f"hits={session.get('hits', 0) + 1}\n"
        case "GET", "/headers":
            kind, text = "application/json", compact({k: v for k, v in environ.items() if k.startswith("HTTP_")}) + "\n"
        case _:
            status, text = "404 Not Found", "not found\n"
    directives += [("X-Session-Nonce", environ.get("HTTP_X_SESSION_NONCE", ""))] if directives else []
    location = [("Location", "/")] if status.startswith("303") else []
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), *location, *directives])
    return [text.encode() if environ["REQUEST_METHOD"] != "HEAD" else b""]


if __name__ == "__main__":
    Server = type("Server", (ThreadingMixIn, WSGIServer), {"daemon_threads": True, "request_queue_size": 128})
    server = make_server("127.0.0.1", int((sys.argv[1:] or [os.environ.get("PORT", 8000)])[0]), app, Server)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
