// A person's way through the edge's page, in a real Chromium with a virtual authenticator: register, log in, approve
// "send SOL"; then the ledger and the warehouse must show the transaction. Exit code 0 when they do.

import { readFileSync } from "node:fs";
import { Connection, Keypair, PublicKey, SystemProgram, Transaction, sendAndConfirmTransaction } from "@solana/web3.js";
import { chromium } from "playwright-core";
import { endpoints, finish, mintBytes, until } from "./endpoints.mjs";

const WALLET_LAMPORTS = 2_000_000_000;
const SENT_SOL = "0.25";
const SENT_LAMPORTS = 250_000_000;

const found = endpoints();
const node = new Connection(found.rpc, { commitment: "confirmed", wsEndpoint: found.pubsub });
const userName = `user-${Date.now().toString(36)}`;
const receiver = Keypair.generate().publicKey;
const steps = [];
const problems = [];

// A service that does not answer yet is waited for like one that does not have the transaction yet.
const ask = (url, options) => fetch(url, options).catch(() => null);

const browser = await chromium.launch({ executablePath: found.chromium, headless: true, args: ["--no-sandbox"] });
let outcome = {};
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => problems.push(`page: ${error.message}`));
  page.setDefaultTimeout(Math.max(1_000, found.deadline - Date.now()));
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true,
      isUserVerified: true, automaticPresenceSimulation: true,
    },
  });

  await page.goto(found.edge);
  await page.fill("#register-name", userName);
  await page.click("#register");
  await page.waitForSelector('#message[data-kind="success"]');
  steps.push("registered");

  await page.click("#login");
  await page.waitForSelector("#signed-in:not([hidden])");
  const wallet = (await page.textContent("#wallet-address")).trim();
  steps.push("logged in");

  const mint = Keypair.fromSecretKey(mintBytes(found));
  const funding = new Transaction().add(
    SystemProgram.transfer({ fromPubkey: mint.publicKey, toPubkey: new PublicKey(wallet), lamports: WALLET_LAMPORTS }),
  );
  await sendAndConfirmTransaction(node, funding, [mint]);
  steps.push("funded");
  // The edge learns the balance on its own way; the page shows it when it asks.
  await until(found, `the page shows ${WALLET_LAMPORTS} lamports`, async () => {
    await page.click("#sends-refresh");
    return (await page.getAttribute("#wallet-balance", "data-lamports")) === String(WALLET_LAMPORTS);
  });

  await page.fill("#send-to", receiver.toBase58());
  await page.fill("#send-sol", SENT_SOL);
  await page.click("#send-review");
  await page.waitForSelector("#send-summary:not([hidden])");
  const reviewed = await page.textContent("#summary-text");
  if (!reviewed.includes(receiver.toBase58())) problems.push(`the summary does not name the receiver: ${reviewed}`);
  await page.click("#send-approve");
  steps.push("approved");
  const signature = await until(found, "the page shows that the transfer landed", async () => {
    const status = await page.$("#send-status");
    const [state, id] = [await status.getAttribute("data-state"), await status.getAttribute("data-signature")];
    if (state === "failed" || state === "expired") throw new Error(`the transfer ${state}: ${await page.textContent("#send-status-text")}`);
    return state === "landed" && id;
  });
  steps.push("landed");

  const [status] = (await node.getSignatureStatuses([signature], { searchTransactionHistory: true })).value;
  const received = await node.getBalance(receiver, "confirmed");
  if (!status || status.err) problems.push(`the validator does not have it: ${JSON.stringify(status)}`);
  if (received !== SENT_LAMPORTS) problems.push(`the receiver holds ${received}, not ${SENT_LAMPORTS}`);
  steps.push("on the validator");

  const ledger = await until(found, `the ledger at ${found.ledger} shows it`, async () => {
    const answer = await ask(`${found.ledger}/v1/transactions/${signature}`);
    return answer?.ok && answer.json();
  });
  if (!JSON.stringify(ledger).includes(receiver.toBase58())) problems.push("the ledger's postings do not name the receiver");
  steps.push("in the ledger");

  const rows = await until(found, `the warehouse at ${found.door} shows it`, async () => {
    const query = `SELECT count() FROM transactions WHERE signature = base58Decode('${signature}')`;
    const answer = await ask(`${found.door}/?query=${encodeURIComponent(query)}`, { method: "POST" });
    if (answer && !answer.ok) throw new Error(`the door answered ${answer.status}: ${await answer.text()}`);
    return answer && Number((await answer.text()).trim());
  });
  if (rows !== 1) problems.push(`the warehouse has ${rows} rows of it`);
  steps.push("in the warehouse");
  outcome = { user: userName, wallet, receiver: receiver.toBase58(), signature, slot: status?.slot };
} catch (error) {
  problems.push(error.message);
} finally {
  await browser.close();
}
const version = JSON.parse(readFileSync(new URL("./node_modules/playwright-core/package.json", import.meta.url))).version;
finish({ client: `chromium by playwright-core ${version}`, edge: found.edge, ok: problems.length === 0, steps, ...outcome, problems });
