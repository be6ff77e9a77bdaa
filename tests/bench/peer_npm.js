// peer_npm.js FILE: takes the orders of server.c; overwrites FILE with npm's write-file-atomic.
const fs = require('fs');
const writeFile = require('write-file-atomic');

const line = Buffer.alloc(64);
for (;;) {
  const n = fs.readSync(0, line);
  if (n === 0) break;
  const [size, count] = line.toString('latin1', 0, n).split(' ').map(Number);
  const image = Buffer.alloc(size);
  const begin = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    image.writeUInt32LE(i, 0);
    writeFile.sync(process.argv[2], image);
  }
  fs.writeSync(1, `${count} ${process.hrtime.bigint() - begin}\n`);
}
