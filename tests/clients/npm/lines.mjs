// What a driver of a TypeScript SDK says and hears: the protocol is that of tests/clients/matrix/lines.py.
import { createInterface } from "node:readline";

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const LONG = 3_600_000; // milliseconds; the SDKs' own default is a minute

// Does what the lines say, until they end. `connect` gives a client that is connected as a line asks for it.
export function drive(connect) {
  const clients = new Map();
  const calls = new Map();

  async function open(asked) {
    clients.set(asked.open, await connect(asked));
    say({ opened: asked.open });
  }

  async function call({ call: id, over, tool, arguments: given, token, limit }) {
    const stop = new AbortController();
    calls.set(id, stop);
    const options = { signal: stop.signal, timeout: limit === null ? LONG : limit * 1000 };
    if (token) {
      options.onprogress = ({ message }) => say({ call: id, heard: message });
    }
    try {
      say({ call: id, result: await clients.get(over).callTool(tool, given, options) });
    } catch (error) {
      say({ call: id, error: stop.signal.aborted ? "cancelled" : String(error) });
    }
  }

  createInterface({ input: process.stdin }).on("line", (line) => {
    const asked = JSON.parse(line);
    if ("open" in asked) {
      open(asked);
    } else if ("cancel" in asked) {
      calls.get(asked.cancel).abort();
    } else {
      call(asked);
    }
  });
}
