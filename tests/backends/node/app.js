// A little application that keeps its session in headers: node:http, no packages.
const http = require("node:http");

// What JSON leaves as it is and a header can't carry is escaped.
const escape = (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
const compact = (value) => JSON.stringify(value).replace(/[\u007f-\uffff]/g, escape);

async function app(request, response) {
  const { pathname, searchParams } = new URL(`http://localhost${request.url}`);
  const session = JSON.parse(request.headers["x-session-data"] ?? "{}");
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  const form = Object.fromEntries([...searchParams, ...new URLSearchParams(body)]);
  const ask = (name, value) => response.setHeader(`X-Session-${name}`, compact(value));
  const text = (text, type = "text/plain") =>
    response.setHeader("Content-Type", `${type}; charset=utf-8`).end(text + "\n");
  const home = () => response.writeHead(303, { Location: "/" }).end();

  let route = `${request.method === "HEAD" ? "GET" : request.method} ${pathname}`;
  if (route === "GET /slow") {
    await new Promise((wake) => setTimeout(wake, form.ms ?? 0));
    route = form.then ? `POST /${form.then}` : "GET /";
  }
  const nonce = request.headers["x-session-nonce"];
  if (nonce) response.setHeader("X-Session-Nonce", nonce);
  const { user_id: user = "-", visits = 0, hits = 0, cart = [] } = session;
  switch (route) {
    case "GET /":
      return text(`user=${encodeURIComponent(user)} visits=${visits} cart=${compact(cart)}\nhits=${hits}`);
    case "POST /login":
      ask("Set", { user_id: form.user ?? "nobody" });
      ask("Cycle-Key", true);
      return home();
    case "POST /logout":
      ask("Flush", true);
      return home();
    case "POST /cart/add":
      ask("Set", { cart: [...cart, form.item ?? "nothing"] });
      return home();
    case "POST /visit":
      ask("Set", { visits: visits + 1 });
      return text(`visits=${visits + 1}`);
    case "GET /count":
    case "POST /count": // an increment, so that parallel requests all count
      ask("Increment", { hits: 1 });
      return text(`hits=${hits + 1}`);
    case "GET /headers": {
      const cgi = ([name, value]) => ["HTTP_" + name.toUpperCase().replaceAll("-", "_"), value];
      const seen = Object.fromEntries(Object.entries(request.headers).map(cgi));
      return text(JSON.stringify(seen), "application/json");
    }
    default:
      response.statusCode = 404;
      return text("not found");
  }
}

const server = http.createServer((request, response) =>
  // An upload that breaks off ends this request, not the process.
  app(request, response).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  }),
);
server.keepAliveTimeout = 60_000; // longer than proxy.backend_idle_timeout
server.listen(process.argv[2] ?? process.env.PORT ?? 8000, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
