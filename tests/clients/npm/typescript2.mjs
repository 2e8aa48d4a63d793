// Drives the TypeScript SDK 2.x, in either era.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { drive } from "./lines.mjs";

drive(async ({ url, grant, command, env, era }) => {
  const client = new Client({ name: "matrix", version: "1" }, { versionNegotiation: { mode: era } });
  const [program, ...args] = command ?? [];
  await client.connect(
    command
      ? new StdioClientTransport({ command: program, args, env })
      : new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${grant}` } } }),
  );
  return { callTool: (name, given, options) => client.callTool({ name, arguments: given }, options) };
});
