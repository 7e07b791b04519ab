// Unmodified @triton-one/yellowstone-grpc against our router: every unary method, and a stream whose transactions, accounts and
// blocks equal what the validator's RPC says. Then the same slots again from the log. Exit code 0 when all of it holds.

import Yellowstone, { CommitmentLevel } from "@triton-one/yellowstone-grpc";
import { Connection, Keypair, SystemProgram, Transaction } from "@solana/web3.js";
import bs58 from "bs58";
import { endpoints, finish, mintBytes, pause, until } from "./endpoints.mjs";

const TRANSFERS = 6;
const SLOTS = 12;

const found = endpoints();
const node = new Connection(found.rpc, { commitment: "confirmed" });
const mint = Keypair.fromSecretKey(mintBytes(found));
const payer = Keypair.generate();
const problems = [];
const check = (holds, what) => {
  if (!holds) problems.push(what);
};

// The package is CommonJS: its class is the default of the default.
const Client = Yellowstone.default ?? Yellowstone;
const client = new Client(found.grpc, undefined, undefined);
await client.connect?.();

/** The block as the validator's RPC says: web3.js cannot read this form. */
async function getBlock(slot) {
  const config = { transactionDetails: "signatures", rewards: false, maxSupportedTransactionVersion: 0, commitment: "confirmed" };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "getBlock", params: [slot, config] });
  const reply = await fetch(found.rpc, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { result, error } = await reply.json();
  if (!result) throw new Error(`getBlock ${slot}: ${JSON.stringify(error)}`);
  return result;
}

/** Opens a stream and sorts what comes into lists. */
async function open(request) {
  const stream = await client.subscribe();
  const got = { signatures: new Map(), metas: new Map(), accounts: [], slots: [], ended: null };
  stream.on("data", (update) => {
    if (update.transaction) {
      const { slot, transaction } = update.transaction;
      const of = got.signatures.get(Number(slot)) ?? [];
      of.push(bs58.encode(transaction.signature));
      got.signatures.set(Number(slot), of);
    }
    if (update.blockMeta) got.metas.set(Number(update.blockMeta.slot), update.blockMeta);
    if (update.account) got.accounts.push({ slot: Number(update.account.slot), lamports: Number(update.account.account.lamports) });
    if (update.slot) got.slots.push({ slot: Number(update.slot.slot), status: update.slot.status });
  });
  stream.on("error", (error) => { got.ended = error.message; });
  stream.on("end", () => { got.ended ??= "ended"; });
  await new Promise((resolve, reject) => stream.write(request, (error) => (error ? reject(error) : resolve())));
  return { stream, got };
}

const everything = {
  accounts: { payer: { account: [payer.publicKey.toBase58()], owner: [], filters: [] } },
  slots: { all: { filterByCommitment: true } },
  transactions: { all: { accountInclude: [], accountExclude: [], accountRequired: [] } },
  transactionsStatus: {},
  blocks: {},
  blocksMeta: { all: {} },
  entry: {},
  accountsDataSlice: [],
  commitment: CommitmentLevel.CONFIRMED,
};

const live = await open(everything);
const sent = [];
for (let index = 0; index < TRANSFERS; index += 1) {
  const { blockhash } = await node.getLatestBlockhash();
  const transaction = new Transaction({ feePayer: mint.publicKey, recentBlockhash: blockhash }).add(
    SystemProgram.transfer({ fromPubkey: mint.publicKey, toPubkey: payer.publicKey, lamports: 1_000_000 + index }),
  );
  transaction.sign(mint);
  const signature = bs58.encode(transaction.signature);
  await node.sendRawTransaction(transaction.serialize(), { skipPreflight: true });
  await until(found, `${signature} is confirmed`, async () => {
    const { value } = await node.getSignatureStatus(signature);
    return value && value.confirmationStatus !== "processed" ? value : null;
  });
  sent.push(signature);
}
await until(found, `the stream tells ${SLOTS} blocks and every transfer`, () => {
  if (live.got.ended) throw new Error(`the stream ended: ${live.got.ended}`);
  const told = new Set([...live.got.signatures.values()].flat());
  return live.got.metas.size >= SLOTS && sent.every((signature) => told.has(signature));
});

// Every block in the middle of what was told equals the chain's.
const slots = [...live.got.metas.keys()].sort((a, b) => a - b).slice(1, -1);
for (const slot of slots) {
  const block = await getBlock(slot);
  const told = live.got.signatures.get(slot) ?? [];
  check(live.got.metas.get(slot).blockhash === block.blockhash, `slot ${slot}: another blockhash`);
  check(JSON.stringify([...told].sort()) === JSON.stringify([...block.signatures].sort()), `slot ${slot}: other transactions`);
}
const balance = await node.getBalance(payer.publicKey, "confirmed");
check(live.got.accounts.at(-1)?.lamports === balance, `the account's last update is not its balance of ${balance}`);

// The same slots from the log.
const replay = await open({ ...everything, fromSlot: String(slots[0]) });
await until(found, "the replay has told the same blocks", () => {
  if (replay.got.ended) throw new Error(`the replay ended: ${replay.got.ended}`);
  return slots.every((slot) => replay.got.metas.has(slot));
});
for (const slot of slots) {
  const [first, again] = [live, replay].map(({ got }) => JSON.stringify([...(got.signatures.get(slot) ?? [])].sort()));
  check(first === again, `slot ${slot}: the replay tells other transactions`);
}

const tip = await client.getLatestBlockhash(CommitmentLevel.CONFIRMED);
const valid = await client.isBlockhashValid(tip.blockhash, CommitmentLevel.CONFIRMED);
check(valid.valid, "the newest blockhash is said to be invalid");
check((await client.ping(7)).count === 7, "ping does not answer with its count");
check(Number((await client.getSlot(CommitmentLevel.CONFIRMED)).slot) >= slots.at(-1), "getSlot is behind the stream");
check(Number((await client.getBlockHeight(CommitmentLevel.CONFIRMED)).blockHeight) > 0, "no block height");
check(JSON.parse((await client.getVersion()).version).version !== undefined, "no version");
const replayInfo = await client.subscribeReplayInfo?.();
if (replayInfo) check(Number(replayInfo.firstAvailable) <= slots[0], "the replay is said to begin later than it does");

await pause(0);
finish({ ok: problems.length === 0, blocks: slots.length, transactions: [...live.got.signatures.values()].flat().length, accounts: live.got.accounts.length, problems });
