// Unmodified @solana/kit against the validator's own PubSub and our router, as web3js.mjs does it with the older client.

import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import {
  address, appendTransactionMessageInstructions, createKeyPairSignerFromBytes, createSolanaRpc, createSolanaRpcSubscriptions,
  createTransactionMessage, generateKeyPairSigner, getBase64EncodedWireTransaction, getSignatureFromTransaction, lamports, pipe,
  setTransactionMessageFeePayerSigner, setTransactionMessageLifetimeUsingBlockhash, signTransactionMessageWithSigners,
} from "@solana/kit";
import { getCreateAccountInstruction, getTransferSolInstruction } from "@solana-program/system";
import { Comparison, summary } from "./comparison.mjs";
import { endpoints, finish, mintBytes, pause, until } from "./endpoints.mjs";

const MEMO = address("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const TRANSFERS = 8;

const found = endpoints();
const { commitment } = found;
const rpc = createSolanaRpc(found.rpc);
const sides = {
  validator: createSolanaRpcSubscriptions(found.pubsub),
  router: createSolanaRpcSubscriptions(found.router),
};
const abort = new AbortController();
setMaxListeners(0, abort.signal); // one listener for every subscription
const mint = await createKeyPairSignerFromBytes(mintBytes(found));
const [payer, receiver, owned] = await Promise.all([generateKeyPairSigner(), generateKeyPairSigner(), generateKeyPairSigner()]);
const program = (await generateKeyPairSigner()).address;

const kinds = {
  accounts: new Comparison("accountNotifications"),
  programs: new Comparison("programNotifications"),
  logs: new Comparison("logsNotifications"),
  signatures: new Comparison("signatureNotifications"),
  slots: new Comparison("slotNotifications"),
  roots: new Comparison("rootNotifications"),
};

// Opens the same subscription on both endpoints and collects what each tells; returns once both have acknowledged it.
async function listen(kind, request, told = (value) => value) {
  await Promise.all(Object.entries(sides).map(async ([side, subscriptions]) => {
    const notifications = await request(subscriptions).subscribe({ abortSignal: abort.signal });
    (async () => {
      for await (const notification of notifications) kinds[kind][side].push(told(notification));
    })().catch((problem) => {
      if (!abort.signal.aborted) console.error(`${kinds[kind].kind} of the ${side} ended: ${problem.message}`);
    });
  }));
}

async function sign(instructions, feePayer) {
  const { value: blockhash } = await rpc.getLatestBlockhash({ commitment }).send();
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (m) => setTransactionMessageFeePayerSigner(feePayer, m),
    (m) => setTransactionMessageLifetimeUsingBlockhash(blockhash, m),
    (m) => appendTransactionMessageInstructions(instructions, m),
  );
  return signTransactionMessageWithSigners(message);
}

async function handIn(transaction) {
  const signature = getSignatureFromTransaction(transaction);
  await rpc.sendTransaction(getBase64EncodedWireTransaction(transaction), { encoding: "base64", skipPreflight: true }).send();
  await until(found, `${signature} is confirmed`, async () => {
    const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
    return status && status.confirmationStatus !== "processed";
  });
}

let expectedSignatures = 0;
async function send(instructions, feePayer = payer) {
  const transaction = await sign(instructions, feePayer);
  const signature = getSignatureFromTransaction(transaction);
  expectedSignatures += 1;
  await listen("signatures", (side) => side.signatureNotifications(signature, { commitment }), ({ context, value }) => ({ signature, slot: context.slot, err: value.err }));
  await handIn(transaction);
}

const transfer = (source, destination, amount) => getTransferSolInstruction({ source, destination: destination.address, amount: lamports(amount) });
const memo = (words) => ({ programAddress: MEMO, data: new TextEncoder().encode(words) });

await handIn(await sign([transfer(mint, payer, 5_000_000_000n)], mint));

await listen("accounts", (side) => side.accountNotifications(receiver.address, { commitment, encoding: "base64" }));
await listen("programs", (side) => side.programNotifications(program, { commitment, encoding: "base64" }));
await listen("logs", (side) => side.logsNotifications({ mentions: [receiver.address] }, { commitment }));
await listen("slots", (side) => side.slotNotifications());
await listen("roots", (side) => side.rootNotifications());

for (let at = 0; at < TRANSFERS; at += 1) {
  await send([transfer(payer, receiver, 1_000_000n + BigInt(at)), memo(`transfer ${at}`)]);
  await pause(150);
}
const space = 16n;
const rent = await rpc.getMinimumBalanceForRentExemption(space).send();
await send([getCreateAccountInstruction({ payer, newAccount: owned, lamports: rent, space, programAddress: program })]);
await send([transfer(payer, owned, 7n)]);
await send([transfer(payer, receiver, 5n), transfer(payer, receiver, 10n ** 15n)]);

const complete = (side) =>
  kinds.signatures[side].length >= expectedSignatures && new Set(kinds.logs[side].map(({ value }) => value.signature)).size >= TRANSFERS + 1 &&
  kinds.programs[side].length >= 2 && kinds.roots[side].length >= 5 && kinds.accounts[side].length >= 1;
await until(found, "both endpoints sent everything", () => complete("validator") && complete("router")).catch((problem) => console.error(problem.message));
await pause(1_000);
abort.abort();

const logged = [...new Set(kinds.logs.validator.map(({ value }) => value.signature))];
const { value: statuses } = await rpc.getSignatureStatuses(logged, { searchTransactionHistory: true }).send();
const slotOf = new Map(logged.map((signature, at) => [signature, statuses[at]?.slot]));
kinds.logs.keepRecordedOnce(({ context, value }) => slotOf.get(value.signature) === context.slot);

finish(summary(`@solana/kit ${JSON.parse(readFileSync(new URL("./node_modules/@solana/kit/package.json", import.meta.url))).version}`, found, [
  kinds.accounts.sequence(),
  kinds.programs.sequence(),
  kinds.logs.set(({ context, value }) => [context.slot.toString(), value.signature]),
  kinds.signatures.set((told) => told.signature),
  kinds.slots.overlap((told) => told.slot, { member: "root", max: 2 }),
  kinds.roots.overlap((root) => root),
]));
