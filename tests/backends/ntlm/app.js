// Authenticates connections as IIS does by NTLM: a challenge, an answer to it, and from then on whatever comes over that
// connection is the user's. The messages have NTLM's shape; the answer is an HMAC of the challenge, with the user's
// name for the password. `/bye` closes the connection behind its response.
//
//     node tests/backends/ntlm/app.js

const { createHmac, randomBytes } = require('node:crypto');
const http = require('node:http');

const SIGNATURE = Buffer.from('NTLMSSP\0');

const message = (type, rest) => Buffer.concat([SIGNATURE, Buffer.from([type, 0, 0, 0]), rest]).toString('base64');

let connections = 0;

const server = http.createServer((request, response) => {
  const { socket } = request;
  const [scheme, token] = (request.headers.authorization ?? '').split(' ');
  const answer = (status, headers, text) => {
    if (request.url === '/bye') response.setHeader('Connection', 'close');
    response.writeHead(status, { 'X-Connection': socket.number, ...headers });
    response.end(`${text}\n`);
  };
  const refuse = (challenges) => answer(401, { 'WWW-Authenticate': challenges }, 'who are you?');
  if (/^ntlm$/i.test(scheme)) {
    const bytes = Buffer.from(token ?? '', 'base64');
    if (!bytes.subarray(0, 8).equals(SIGNATURE)) return refuse(['NTLM']);
    if (bytes[8] === 1) {
      socket.user = undefined;
      socket.challenge = randomBytes(8);
      return refuse([`NTLM ${message(2, socket.challenge)}`]);
    }
    const [proof, user] = [bytes.subarray(12, 44), bytes.subarray(44).toString()];
    const { challenge } = socket;
    socket.challenge = undefined;
    if (bytes[8] !== 3 || !challenge || !createHmac('sha256', user).update(challenge).digest().equals(proof)) {
      return refuse(['NTLM']);
    }
    socket.user = user;
  }
  if (socket.user === undefined) return refuse(['Negotiate', 'NTLM']);
  return answer(200, {}, `you are ${socket.user}`);
});

server.keepAliveTimeout = 60_000; // longer than proxy.backend_idle_timeout
server.on('connection', (socket) => { socket.number = ++connections; });
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
