// Sends every message of a WebSocket back as it came, compressed where the client can.
'use strict'
const { WebSocketServer } = require('ws')

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true }, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`)
})
server.on('connection', (socket) => {
  // Whoever breaks the rules is closed by ws itself.
  socket.on('error', () => {})
  socket.on('message', (message, binary) => socket.send(message, { binary }))
})
