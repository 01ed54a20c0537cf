// Shows every header and trailer of the request as node:http has it: joined, and as it came.
const http = require("node:http");

const server = http.createServer({ maxHeaderSize: 65536 }, (request, response) => {
  request.resume().on("end", () => {
    const lines = Object.entries({ ...request.headers }).concat(Object.entries({ ...request.trailers }));
    for (const raw of [request.rawHeaders, request.rawTrailers])
      for (let n = 0; n < raw.length; n += 2) lines.push([raw[n], raw[n + 1]]);
    if (request.url.startsWith("/set")) response.setHeader("X-Session-Set", '{"a":1}');
    response.end(lines.map(([name, value]) => `${name}\t${value}\n`).join(""));
  });
});
server.maxHeadersCount = 0;
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
