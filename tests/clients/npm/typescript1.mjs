// Drives the TypeScript SDK 1.x, which has one era.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { drive } from "./lines.mjs";

drive(async ({ url, grant, command, env }) => {
  const client = new Client({ name: "matrix", version: "1" });
  const [program, ...args] = command ?? [];
  await client.connect(
    command
      ? new StdioClientTransport({ command: program, args, env })
      : new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${grant}` } } }),
  );
  return { callTool: (name, given, options) => client.callTool({ name, arguments: given }, undefined, options) };
});
