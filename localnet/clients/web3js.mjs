// Unmodified @solana/web3.js against the validator's own PubSub and our router: the same subscriptions on both, traffic, and
// every notification must be the same. Exit code 0 when they are.

import { readFileSync } from "node:fs";
import { Connection, Keypair, PublicKey, SystemProgram, Transaction, TransactionInstruction } from "@solana/web3.js";
import { Comparison, summary } from "./comparison.mjs";
import { endpoints, finish, mintBytes, pause, until } from "./endpoints.mjs";

const MEMO = new PublicKey("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const TRANSFERS = 8;

const found = endpoints();
const { commitment } = found;
const sides = {
  validator: new Connection(found.rpc, { commitment, wsEndpoint: found.pubsub }),
  router: new Connection(found.rpc, { commitment, wsEndpoint: found.router }),
};
const node = sides.validator;
const mint = Keypair.fromSecretKey(mintBytes(found));
const payer = Keypair.generate();
const receiver = Keypair.generate();
const program = Keypair.generate().publicKey; // no such program runs; accounts that it owns are told to its subscribers
const owned = Keypair.generate();

const accounts = new Comparison("onAccountChange");
const programAccounts = new Comparison("onProgramAccountChange");
const logs = new Comparison("onLogs");
const signatures = new Comparison("onSignature");
const slots = new Comparison("onSlotChange");
const roots = new Comparison("onRootChange");

const plain = (account) => ({
  lamports: account.lamports,
  owner: account.owner.toBase58(),
  executable: account.executable,
  rentEpoch: String(account.rentEpoch),
  data: Buffer.from(account.data).toString("base64"),
});

async function subscribed() {
  const pending = () =>
    Object.values(sides).flatMap((side) => Object.values(side._subscriptionsByHash)).filter((s) => s.state === "pending" || s.state === "subscribing");
  await until(found, "every subscription is acknowledged by both endpoints", () => pending().length === 0);
}

async function sign(instructions, signers) {
  const { blockhash, lastValidBlockHeight } = await node.getLatestBlockhash(commitment);
  const transaction = new Transaction({ feePayer: signers[0].publicKey, blockhash, lastValidBlockHeight }).add(...instructions);
  transaction.sign(...signers);
  return transaction;
}

async function landed(signature) {
  return until(found, `${signature} is confirmed`, async () => {
    const { value } = await node.getSignatureStatus(signature);
    return value && value.confirmationStatus !== "processed" ? value : null;
  });
}

// Subscribes to the signature on both sides before the transaction is handed in.
let expectedSignatures = 0;
async function send(instructions, signers) {
  const transaction = await sign(instructions, signers);
  const signature = (await import("bs58")).default.encode(transaction.signature);
  for (const [side, connection] of Object.entries(sides)) {
    connection.onSignature(signature, (result, context) => signatures[side].push({ signature, slot: context.slot, err: result.err }), commitment);
  }
  expectedSignatures += 1;
  await subscribed();
  await node.sendRawTransaction(transaction.serialize(), { skipPreflight: true });
  await landed(signature);
  return signature;
}

const transfer = (from, to, lamports) => SystemProgram.transfer({ fromPubkey: from.publicKey, toPubkey: to.publicKey, lamports });
const memo = (words) => new TransactionInstruction({ programId: MEMO, keys: [], data: Buffer.from(words) });

const funding = await sign([transfer(mint, payer, 5_000_000_000)], [mint]);
await landed(await node.sendRawTransaction(funding.serialize()));

for (const [side, connection] of Object.entries(sides)) {
  connection.onAccountChange(receiver.publicKey, (account, context) => accounts[side].push({ slot: context.slot, ...plain(account) }), { commitment });
  connection.onProgramAccountChange(program, ({ accountId, accountInfo }, context) => programAccounts[side].push({ slot: context.slot, pubkey: accountId.toBase58(), ...plain(accountInfo) }), { commitment });
  connection.onLogs(receiver.publicKey, (told, context) => logs[side].push({ slot: context.slot, ...told }), commitment);
  connection.onSlotChange((told) => slots[side].push(told));
  connection.onRootChange((root) => roots[side].push(root));
}
await subscribed();

const rent = await node.getMinimumBalanceForRentExemption(16);
for (let at = 0; at < TRANSFERS; at += 1) {
  await send([transfer(payer, receiver, 1_000_000 + at), memo(`transfer ${at}`)], [payer]);
  await pause(150);
}
await send([SystemProgram.createAccount({ fromPubkey: payer.publicKey, newAccountPubkey: owned.publicKey, lamports: rent, space: 16, programId: program })], [payer, owned]);
await send([transfer(payer, owned, 7)], [payer]);
// Fails in its second instruction: logs and signature notifications carry the error, the receiver's account does not change.
await send([transfer(payer, receiver, 5), transfer(payer, receiver, 10n ** 15n)], [payer]);

const expected = { accounts: 1, programAccounts: 2, logs: TRANSFERS + 1, signatures: expectedSignatures, roots: 5 };
const complete = (side) =>
  signatures[side].length >= expected.signatures && new Set(logs[side].map((told) => told.signature)).size >= expected.logs &&
  programAccounts[side].length >= expected.programAccounts && roots[side].length >= expected.roots &&
  accounts[side].at(-1)?.lamports === accounts[side === "router" ? "validator" : "router"].at(-1)?.lamports;
await until(found, "both endpoints sent everything", () => complete("validator") && complete("router")).catch((problem) => console.error(problem.message));
await pause(1_000); // what is sent twice would come now

const logged = [...new Set(logs.validator.map(({ signature }) => signature))];
const { value: statuses } = await node.getSignatureStatuses(logged, { searchTransactionHistory: true });
const slotOf = new Map(logged.map((signature, at) => [signature, statuses[at]?.slot]));
logs.keepRecordedOnce(({ slot, signature }) => slotOf.get(signature) === slot);

finish(summary(`@solana/web3.js ${JSON.parse(readFileSync(new URL("./node_modules/@solana/web3.js/package.json", import.meta.url))).version}`, found, [
  accounts.sequence(),
  programAccounts.sequence(),
  logs.set((told) => [told.slot, told.signature]),
  signatures.set((told) => told.signature),
  slots.overlap((told) => told.slot, { member: "root", max: 2 }),
  roots.overlap((root) => root),
]));
