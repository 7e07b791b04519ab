// Where the running stack is: a flag, else an environment variable, else the default of `./heliograph up`.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const ENDPOINTS = {
  rpc: ["HELIOGRAPH_RPC", "http://127.0.0.1:8899"],
  pubsub: ["HELIOGRAPH_PUBSUB", "ws://127.0.0.1:8900"],
  router: ["HELIOGRAPH_ROUTER", "ws://127.0.0.1:8910"],
  grpc: ["HELIOGRAPH_GRPC", "http://127.0.0.1:10000"],
  edge: ["HELIOGRAPH_EDGE", "http://localhost:8940"],
  ledger: ["HELIOGRAPH_LEDGER", "http://127.0.0.1:8920"],
  door: ["HELIOGRAPH_DOOR", "http://127.0.0.1:8123"],
  mint: ["HELIOGRAPH_MINT", ""],
  chromium: ["HELIOGRAPH_CHROMIUM", "/usr/bin/chromium"],
  commitment: ["HELIOGRAPH_COMMITMENT", "confirmed"],
  seconds: ["HELIOGRAPH_SECONDS", "90"],
};

export function endpoints() {
  const options = Object.fromEntries(Object.keys(ENDPOINTS).map((name) => [name, { type: "string" }]));
  const { values } = parseArgs({ options });
  const found = {};
  for (const [name, [variable, fallback]] of Object.entries(ENDPOINTS)) {
    found[name] = values[name] ?? process.env[variable] ?? fallback;
  }
  found.deadline = Date.now() + Number(found.seconds) * 1000;
  return found;
}

/** The 64 bytes of the keypair that holds the genesis lamports. */
export function mintBytes(found) {
  if (!found.mint) throw new Error("no mint keypair. Fix: name its file by --mint or HELIOGRAPH_MINT");
  return Uint8Array.from(JSON.parse(readFileSync(found.mint, "utf8")));
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `condition` holds; says what it waited for when the time is over. */
export async function until(found, what, condition) {
  while (Date.now() < found.deadline) {
    const value = await condition();
    if (value) return value;
    await pause(200);
  }
  throw new Error(`not within ${found.seconds} s: ${what}`);
}

/** Prints the summary and ends the process; open sockets of the clients would keep it alive. */
export function finish(summary) {
  console.log(JSON.stringify(summary, (_, value) => (typeof value === "bigint" ? value.toString() : value), 2));
  process.exit(summary.ok ? 0 : 1);
}
