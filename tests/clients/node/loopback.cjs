// server-everything listens on every interface, on a port that somebody has to choose. Here it listens to this machine
// only, on a free port, and writes where that is, and nothing else.
const net = require("node:net");
const { listen } = net.Server.prototype;

console.log = () => {};
net.Server.prototype.listen = function (_port, ...rest) {
  this.once("listening", () => process.stdout.write(`http://127.0.0.1:${this.address().port}/mcp\n`));
  return listen.call(this, { host: "127.0.0.1", port: 0 }, ...rest);
};
