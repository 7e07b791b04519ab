// The PubSub methods that validators serve only when told to, and slotsUpdates, on the validator and on our router: the same
// subscriptions in every form, the same refusals. transactionSubscribe, which no validator has, is held against getBlock.
// The messages are compared as they are on the wire; @solana/kit only carries them. Wants traffic. Exit code 0 when all agree.

import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { createDefaultSolanaRpcSubscriptionsChannelCreator } from "@solana/kit";
import { Comparison, summary } from "./comparison.mjs";
import { endpoints, finish, pause, until } from "./endpoints.mjs";

const MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
const TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const FINALIZED_BLOCKS = 20;
const FETCHED_BLOCKS = 12;

const found = endpoints();
const abort = new AbortController();
setMaxListeners(0, abort.signal);

/** One connection: calls, and what is told to its subscriptions. */
class Endpoint {
  constructor(url) {
    this.url = url;
    this.lastId = 0;
    this.waiting = new Map();
    this.listeners = new Map();
    this.early = [];
  }

  async open() {
    const create = createDefaultSolanaRpcSubscriptionsChannelCreator({ url: this.url });
    this.channel = await create({ abortSignal: abort.signal });
    this.channel.on("message", (message) => this.receive(message), { signal: abort.signal });
    this.channel.on("error", (problem) => console.error(`${this.url}: ${problem.message}`), { signal: abort.signal });
  }

  receive(message) {
    if (message.id !== undefined) return this.waiting.get(String(message.id))?.(message);
    const listener = this.listeners.get(String(message.params?.subscription));
    // A notification may be here before the answer to the subscription has been handled.
    return listener ? listener(message) : this.early.push(message);
  }

  async call(method, params) {
    this.lastId += 1;
    const id = this.lastId;
    const answer = new Promise((resolve) => {
      this.waiting.set(String(id), resolve);
      setTimeout(resolve, 20_000, { error: { message: "no answer" } });
    });
    await this.channel.send({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) });
    return answer;
  }

  async subscribe(method, params, told) {
    const { result, error } = await this.call(method, params);
    if (error) throw new Error(`${this.url} refuses ${method} ${JSON.stringify(params)}: ${error.message}`);
    const listener = (message) => told({ at: Date.now(), method: message.method, value: message.params.result });
    this.listeners.set(String(result), listener);
    for (const message of this.early.splice(0)) this.receive(message);
  }
}

const sides = { validator: new Endpoint(found.pubsub), router: new Endpoint(found.router) };
await Promise.all(Object.values(sides).map((side) => side.open()));

/** The validator's RPC; whole numbers come as text, so that none is rounded. */
async function rpc(method, params) {
  const response = await fetch(found.rpc, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  const wire = await response.text();
  const exact = wire.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (token) => (/^-?\d+$/.test(token) ? `"${token}"` : token));
  const { result, error } = JSON.parse(exact);
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

// ---- what is refused is refused alike ----

const many = { encoding: "json", extra: 1 };
const refusals = new Comparison("refusals and answers");
for (const [method, params] of [
  ["blockSubscribe", undefined],
  ["blockSubscribe", []],
  ["blockSubscribe", { filter: "all" }],
  ["blockSubscribe", ["all", { commitment: "processed" }]],
  ["blockSubscribe", ["all", { commitment: "certain" }]],
  ["blockSubscribe", ["some"]],
  ["blockSubscribe", [{ mentionsAccountOrProgram: "nobody" }]],
  ["blockSubscribe", [{ mentions: MEMO }]],
  ["blockSubscribe", ["all", { encoding: "base65" }]],
  ["blockSubscribe", ["all", { transactionDetails: "most" }]],
  ["blockSubscribe", ["all", { showRewards: 1 }]],
  ["blockSubscribe", ["all", { maxSupportedTransactionVersion: 256 }]],
  ["blockSubscribe", ["all", many, many]],
  ["blockUnsubscribe", ["x"]],
  ["blockUnsubscribe", [18446744073709551615n]],
  ["blockUnsubscribe", [-1]],
  ["voteSubscribe", [1]],
  ["voteSubscribe", {}],
  ["voteUnsubscribe", []],
  ["slotsUpdatesSubscribe", ["all"]],
  ["slotsUpdatesUnsubscribe", [18446744073709551615n]],
  ["slotsUpdatesUnsubscribe", undefined],
  ["voteSubscribe", 5],
  ["blockSubscribe", "all"],
  ["slotsUpdatesSubscribe", false],
  ["slotsUpdatesSubscribe", { a: [true, null, "x", 1.5] }],
  ["blocksSubscribe", []],
  ["slotsUpdatesSubscribe", null],
]) {
  for (const [name, side] of Object.entries(sides)) {
    const { result, error } = await side.call(method, params);
    refusals[name].push({ method, params: params ?? null, error: error ?? null, subscribed: result !== undefined });
  }
}

// ---- the same subscriptions on both ----

const blockForms = {
  "all json": ["all", { commitment: "confirmed", encoding: "json", showRewards: true, maxSupportedTransactionVersion: 1 }],
  "all jsonParsed": ["all", { commitment: "confirmed", encoding: "jsonParsed", showRewards: true, maxSupportedTransactionVersion: 1 }],
  "all base58": ["all", { commitment: "confirmed", encoding: "base58", maxSupportedTransactionVersion: 1 }],
  "all base64 finalized": ["all", { maxSupportedTransactionVersion: 1 }],
  "all accounts": ["all", { commitment: "confirmed", transactionDetails: "accounts", showRewards: true, maxSupportedTransactionVersion: 1 }],
  "all signatures": ["all", { commitment: "confirmed", transactionDetails: "signatures" }],
  "all none": ["all", { commitment: "confirmed", transactionDetails: "none", showRewards: true }],
  "all legacy only": ["all", { commitment: "confirmed", encoding: "json" }],
  "all up to version 0": ["all", { commitment: "confirmed", encoding: "base64", maxSupportedTransactionVersion: 0 }],
  "mentions memo": [{ mentionsAccountOrProgram: MEMO }, { commitment: "confirmed", encoding: "base64", maxSupportedTransactionVersion: 1 }],
  "mentions token": [{ mentionsAccountOrProgram: TOKEN }, { commitment: "confirmed", encoding: "json", maxSupportedTransactionVersion: 1 }],
};
const blocks = Object.entries(blockForms).map(([form, params]) => ({ form, params, comparison: new Comparison(`blockSubscribe ${form}`) }));
const votes = new Comparison("voteSubscribe");
const updates = { validator: [], router: [] };
for (const [name, side] of Object.entries(sides)) {
  await side.subscribe("slotsUpdatesSubscribe", [], ({ value }) => updates[name].push(value));
  await side.subscribe("voteSubscribe", [], ({ value }) => votes[name].push(value));
  for (const { params, comparison } of blocks) {
    await side.subscribe("blockSubscribe", params, ({ value }) => comparison[name].push(value));
  }
}

const transactionForms = {
  json: { encoding: "json", transactionDetails: "full", showRewards: true, maxSupportedTransactionVersion: 1 },
  jsonParsed: { encoding: "jsonParsed", transactionDetails: "full", showRewards: false, maxSupportedTransactionVersion: 1 },
  base64: { encoding: "base64", transactionDetails: "full", showRewards: true, maxSupportedTransactionVersion: 1 },
  "up to version 0": { encoding: "base64", transactionDetails: "full", showRewards: true, maxSupportedTransactionVersion: 0 },
  accounts: { encoding: "json", transactionDetails: "accounts", showRewards: true, maxSupportedTransactionVersion: 1 },
  signatures: { encoding: "json", transactionDetails: "signatures", showRewards: false },
};
const transactions = Object.entries(transactionForms).map(([form, options]) => ({ form, options, told: [] }));
for (const { options, told } of transactions) {
  await sides.router.subscribe("transactionSubscribe", [{}, { ...options, commitment: "confirmed" }], ({ value }) => told.push(value));
}

const finalized = blocks.find(({ form }) => form === "all base64 finalized").comparison;
const enough = (name) => finalized[name].length >= FINALIZED_BLOCKS && updates[name].some(({ type }) => type === "root");
await until(found, `${FINALIZED_BLOCKS} finalized blocks from both`, () => enough("validator") && enough("router")).catch((problem) => console.error(problem.message));
await pause(2_000);

// Now nothing more is taken in.
const seen = (list) => list.splice(0);
const taken = {
  updates: { validator: seen(updates.validator), router: seen(updates.router) },
  transactions: transactions.map(({ form, options, told }) => ({ form, options, told: seen(told) })),
};
for (const comparison of [votes, ...blocks.map(({ comparison }) => comparison)]) {
  comparison.validator = seen(comparison.validator);
  comparison.router = seen(comparison.router);
}

// ---- verdicts ----

const slotOf = ({ context }) => context.slot;

/**
 * By slot, the last word counts: when a validator cannot show a block, it says so at every later slot again until it can;
 * the router says it once. A block that the validator found incomplete and did not tell again is left out and counted.
 */
function blockVerdict(comparison) {
  const last = new Map(comparison.validator.map((told) => [String(slotOf(told)), told]));
  const unready = [...last.values()].filter(({ value }) => value.err === "BlockStoreError").map((told) => String(slotOf(told)));
  const kept = (told) => !unready.includes(String(slotOf(told)));
  comparison.validator = comparison.validator.filter(kept);
  comparison.router = comparison.router.filter(kept);
  const twice = comparison.router.length - new Set(comparison.router.map((told) => String(slotOf(told)))).size;
  const verdict = comparison.overlap(slotOf);
  return { ...verdict, ok: verdict.ok && twice === 0, router_told_twice: twice, validator_found_incomplete: unready.length };
}

/**
 * The same steps of the same slots; when each was told is each one's own and only measured. Confirmation: the validator
 * tells the slot that the votes were for, plugins also its ancestors. Those the router alone tells must be older than one
 * that both tell, and are counted.
 */
function updateVerdicts() {
  const types = new Set([...taken.updates.validator, ...taken.updates.router].map(({ type }) => type));
  return [...types].sort().map((type) => {
    const comparison = new Comparison(`slotsUpdatesSubscribe ${type}`);
    const lateness = [];
    const at = new Map();
    for (const name of ["validator", "router"]) {
      for (const { type: _, timestamp, ...step } of taken.updates[name].filter((update) => update.type === type)) {
        comparison[name].push(step);
        const slot = String(step.slot);
        if (at.has(slot)) lateness.push(Math.abs(Number(timestamp - at.get(slot))));
        else at.set(slot, timestamp);
      }
    }
    let withDescendant = 0;
    if (type === "optimisticConfirmation") {
      const told = new Set(comparison.validator.map(({ slot }) => String(slot)));
      const newest = comparison.validator.reduce((max, { slot }) => (slot > max ? slot : max), 0n);
      const explained = ({ slot }) => !told.has(String(slot)) && slot < newest;
      withDescendant = comparison.router.filter(explained).length;
      comparison.router = comparison.router.filter((step) => !explained(step));
    }
    return { ...comparison.overlap(({ slot }) => slot), confirmed_with_descendant: withDescendant, timestamps_apart_ms_max: Math.max(0, ...lateness) };
  });
}

/**
 * The validator tells a vote when it hears of it, the router when it has landed and succeeded. So what the router tells the
 * validator has told; what the validator alone tells must not have landed: the chain is asked. A vote is known by its voter,
 * last slot and hash; of several transactions that carry it, the router tells the one that landed.
 */
async function voteVerdict() {
  const name = ({ votePubkey, slots, hash }) => `${votePubkey} ${slots.at(-1)} ${hash}`;
  const told = new Map(votes.validator.map((vote) => [name(vote), vote]));
  const landed = new Set(votes.router.map(name));
  const ends = votes.router.map(({ slots }) => slots.at(-1));
  const [first, last] = [ends.reduce((a, b) => (a < b ? a : b), ends[0] ?? 0n), ends.reduce((a, b) => (a > b ? a : b), 0n)];
  const statuses = async (signatures) => {
    const all = [];
    for (let at = 0; at < signatures.length; at += 200) {
      const { value } = await rpc("getSignatureStatuses", [signatures.slice(at, at + 200), { searchTransactionHistory: true }]);
      all.push(...value);
    }
    return all;
  };
  const alone = [...told.values()].filter((vote) => !landed.has(name(vote)) && vote.slots.at(-1) > first && vote.slots.at(-1) < last);
  const fates = await statuses(alone.map(({ signature }) => signature));
  const lost = alone.filter((_, at) => fates[at] && fates[at].err === null);
  // Told from another transaction than the one the validator heard of first.
  const others = votes.router.filter((vote) => told.has(name(vote)) && told.get(name(vote)).signature !== vote.signature);
  const firsts = await statuses(others.map((vote) => told.get(name(vote)).signature));
  const sentAgain = new Set(others.filter((_, at) => !firsts[at] || firsts[at].err !== null).map(name));
  const comparison = new Comparison("voteSubscribe");
  for (const vote of votes.router.filter((vote) => vote.slots.at(-1) > first && vote.slots.at(-1) < last && !sentAgain.has(name(vote)))) {
    comparison.router.push(vote);
    comparison.validator.push(told.get(name(vote)) ?? null);
  }
  comparison.validator.push(...lost);
  return { ...comparison.sequence(), never_landed: alone.length - lost.length, landed_when_sent_again: sentAgain.size };
}

/** Every transaction of the newest blocks as getBlock shows it, none twice and none left out but those of a higher version. */
async function transactionVerdict({ form, options, told }) {
  const comparison = new Comparison(`transactionSubscribe ${form} (validator: getBlock)`);
  const slots = [...new Set(told.map(({ slot }) => Number(slot)))].sort((a, b) => a - b).slice(-FETCHED_BLOCKS);
  for (const slot of slots) {
    const { encoding, transactionDetails, showRewards } = options;
    const block = await rpc("getBlock", [slot, { commitment: "confirmed", encoding, transactionDetails, rewards: showRewards, maxSupportedTransactionVersion: 1 }]);
    if (transactionDetails === "signatures") {
      block.signatures.forEach((signature, index) => comparison.validator.push({ signature, slot, transactionIndex: index }));
    } else {
      block.transactions.forEach((transaction, index) => {
        if (Number(transaction.version) > options.maxSupportedTransactionVersion) return;
        const { signatures } = transaction.transaction;
        comparison.validator.push({ transaction, slot, transactionIndex: index, ...(signatures ? { signature: signatures[0] } : {}) });
      });
    }
    for (const { signature, ...rest } of told.filter((one) => Number(one.slot) === slot)) {
      const named = options.encoding !== "base64" ? { signature } : {};
      comparison.router.push({ ...rest, slot, transactionIndex: Number(rest.transactionIndex), ...named });
    }
  }
  return comparison.sequence();
}

const verdicts = [refusals.sequence(), ...updateVerdicts(), await voteVerdict(), ...blocks.map(({ comparison }) => blockVerdict(comparison))];
for (const form of taken.transactions) verdicts.push(await transactionVerdict(form));
abort.abort();
finish(summary(`PubSub carried by @solana/kit ${JSON.parse(readFileSync(new URL("./node_modules/@solana/kit/package.json", import.meta.url))).version}`, found, verdicts));
