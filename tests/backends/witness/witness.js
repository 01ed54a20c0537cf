// Says what it saw of each whole request: a line on standard output, and its target as the answer.
const http = require("node:http");

// A byte that is not visible.
const escape = (c) => "\\x" + c.charCodeAt(0).toString(16).padStart(2, "0");

const server = http.createServer((request, response) => {
  let length = 0;
  request.on("data", (piece) => (length += piece.length));
  request.on("end", () => {
    console.log(`saw ${request.method} ${request.url.replace(/[^!-~]/g, escape)} ${length}`);
    const target = Buffer.from(request.url, "latin1");
    response.writeHead(200, { "Content-Length": target.length }).end(target);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
