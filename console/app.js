// The page: shows what the server says, and asks the passkey. It decides nothing.

import { ApiError, get, post } from "./api.js";
import { createPasskey, usePasskey } from "./passkeys.js";
import { lamportsFromSol, solFromLamports } from "./sol.js";

const element = (id) => document.getElementById(id);
const POLL_MS = 700;
const STATES = {
  created: "waiting for your approval",
  asserted: "approved, being checked",
  reserved: "approved, about to be signed",
  signed: "signed, being handed to the sender",
  handed: "on its way to the network",
  landed: "landed",
  failed: "failed",
  expired: "expired, nothing was sent",
};
const FIELDS = { to: "send-to", lamports: "send-sol", user_name: "register-name" };

let pending = null; // the reviewed transfer that waits for its approval
let expiryTimer = 0;
let watched = null; // id of the transfer shown in send-status

function say(kind, text, code = "") {
  const message = element("message");
  message.hidden = !text;
  message.dataset.kind = kind;
  message.dataset.code = code;
  message.setAttribute("role", kind === "error" ? "alert" : "status");
  message.textContent = text;
}

function markField(field) {
  for (const id of Object.values(FIELDS)) element(id).removeAttribute("aria-invalid");
  const input = FIELDS[field] && element(FIELDS[field]);
  if (!input) return;
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

// Runs one action of a button: no second click meanwhile, errors shown, a lost session leads back to the login.
async function act(button, doing, action) {
  button.disabled = true;
  markField(null);
  say("info", doing);
  try {
    await action();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) showSignedOut();
    say("error", error.message, error.code ?? "");
    if (error instanceof ApiError) markField(error.field);
  } finally {
    button.disabled = false;
  }
}

function onSubmit(form, button, doing, action) {
  element(form).addEventListener("submit", (event) => {
    event.preventDefault();
    if (!element(button).disabled) act(element(button), doing, action);
  });
}

function onClick(button, doing, action) {
  element(button).addEventListener("click", () => act(element(button), doing, action));
}

function showSignedOut() {
  element("signed-in").hidden = true;
  element("whoami").hidden = true;
  element("signed-out").hidden = false;
  watched = null;
  dropSummary();
}

async function showAccount() {
  const me = await get("/v1/me");
  element("user-name").textContent = me.user_name;
  element("wallet-address").textContent = me.wallet.address;
  const balance = element("wallet-balance");
  const lamports = me.wallet.balance_lamports;
  balance.dataset.lamports = lamports ?? "";
  balance.textContent = lamports === null ? "unknown" : solFromLamports(lamports);
  const left = BigInt(me.limits.daily_lamports) - BigInt(me.limits.spent_lamports);
  element("limit-left").textContent = solFromLamports(left < 0n ? 0n : left);
  element("faucet").hidden = me.faucet_lamports === null;
  if (me.faucet_lamports !== null) element("faucet").textContent = `Get ${solFromLamports(me.faucet_lamports)} test SOL`;
  element("signed-out").hidden = true;
  element("signed-in").hidden = false;
  element("whoami").hidden = false;
}

function cell(text, className = "") {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className;
  return td;
}

function ledgerLink(send) {
  const link = document.createElement("a");
  link.href = send.ledger_url;
  link.target = "_blank";
  link.rel = "noopener";
  link.textContent = "entry";
  link.setAttribute("aria-label", `Ledger entry of the transfer to ${send.to}`);
  return link;
}

async function showSends() {
  const { sends } = await get("/v1/sends");
  element("sends-empty").hidden = sends.length > 0;
  element("sends").hidden = sends.length === 0;
  const rows = sends.map((send) => {
    const row = document.createElement("tr");
    row.dataset.id = send.id;
    row.dataset.state = send.state;
    const ledger = cell("");
    if (send.state === "landed") ledger.append(ledgerLink(send));
    const to = cell(`${send.to.slice(0, 6)}…${send.to.slice(-6)}`);
    to.title = send.to;
    const when = new Date(send.created_unix * 1000).toLocaleString();
    row.append(cell(when), to, cell(solFromLamports(send.lamports), "number"), cell(describe(send), "state"), ledger);
    return row;
  });
  element("sends").tBodies[0].replaceChildren(...rows);
}

function describe(send) {
  const text = STATES[send.state] ?? send.state;
  return send.state === "landed" && send.commitment ? `${text}, ${send.commitment}` : text;
}

function dropSummary() {
  pending = null;
  clearInterval(expiryTimer);
  element("send-summary").hidden = true;
  element("send-form").hidden = false;
}

function showSummary(begun) {
  pending = begun;
  element("summary-text").textContent = begun.summary.text;
  element("send-form").hidden = true;
  element("send-summary").hidden = false;
  element("summary-title").focus();
  const end = Date.now() + begun.summary.expires_in_seconds * 1000;
  const tick = () => {
    const left = Math.max(0, Math.round((end - Date.now()) / 1000));
    element("summary-expiry").textContent = left ? `Approve within ${left} seconds.` : "The time is over; cancel and review again.";
  };
  clearInterval(expiryTimer);
  expiryTimer = setInterval(tick, 1000);
  tick();
}

function showStatus(send) {
  const status = element("send-status");
  status.hidden = false;
  Object.assign(status.dataset, { state: send.state, commitment: send.commitment ?? "", id: send.id, signature: send.signature ?? "" });
  const problem = send.problem ? ` ${send.problem.message}` : "";
  element("send-status-text").textContent = `${solFromLamports(send.lamports)} SOL to ${send.to}: ${describe(send)}.${problem}`;
  const link = element("send-ledger");
  link.hidden = send.state !== "landed";
  if (send.ledger_url) link.href = send.ledger_url;
}

const isFinal = (send) => send.state === "failed" || send.state === "expired" || (send.state === "landed" && send.commitment === "finalized");

// Follows one transfer until nothing can change any more. A missed answer is only a missed answer.
async function watch(id) {
  watched = id;
  let landed = false;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (watched !== id) return;
    let send;
    try {
      send = await get(`/v1/sends/${id}`);
    } catch (error) {
      if (error.status === 401) return showSignedOut();
      continue;
    }
    if (watched !== id) return;
    showStatus(send);
    const final = isFinal(send);
    if (final || (send.state === "landed" && !landed)) {
      landed = send.state === "landed";
      if (landed) say("success", "The transfer landed.");
      else say("error", send.problem?.message ?? "The transfer did not happen.", send.problem?.code ?? "");
      await Promise.all([showAccount(), showSends()]).catch(() => {});
    }
    if (final) return;
  }
}

onSubmit("register-form", "register", "Follow your browser to make a passkey…", async () => {
  const begun = await post("/v1/register/begin", { user_name: element("register-name").value });
  const credential = await createPasskey(begun.publicKey);
  const made = await post("/v1/register/finish", { ceremony_id: begun.ceremony_id, credential });
  element("login-name").value = made.user_name;
  element("register-name").value = "";
  say("success", `Welcome, ${made.user_name}. Your wallet is ${made.wallet_address}. Now log in with your passkey.`);
  element("login").focus();
});

onSubmit("login-form", "login", "Follow your browser to use your passkey…", async () => {
  const begun = await post("/v1/login/begin", { user_name: element("login-name").value || null });
  const credential = await usePasskey(begun.publicKey);
  const { user_name } = await post("/v1/login/finish", { ceremony_id: begun.ceremony_id, credential });
  await Promise.all([showAccount(), showSends()]);
  say("success", `You are logged in as ${user_name}.`);
});

onClick("logout", "Logging out…", async () => {
  await post("/v1/logout");
  showSignedOut();
  say("success", "You are logged out.");
});

onClick("wallet-copy", "", async () => {
  await navigator.clipboard.writeText(element("wallet-address").textContent);
  say("success", "The address is copied.");
});

onClick("faucet", "Asking the faucet…", async () => {
  const before = element("wallet-balance").dataset.lamports;
  await post("/v1/faucet");
  for (let tries = 0; tries < 30 && element("wallet-balance").dataset.lamports === before; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    await showAccount();
  }
  say("success", "The test SOL is on its way.");
});

onSubmit("send-form", "send-review", "Preparing the transaction…", async () => {
  let lamports;
  try {
    lamports = lamportsFromSol(element("send-sol").value);
  } catch (error) {
    markField("lamports");
    throw error;
  }
  showSummary(await post("/v1/send/begin", { to: element("send-to").value, lamports: lamports.toString() }));
  say("info", "");
});

element("send-cancel").addEventListener("click", () => {
  dropSummary();
  say("info", "Nothing was sent.");
});

onClick("send-approve", "Follow your browser to approve with your passkey…", async () => {
  const { approval_id, publicKey } = pending;
  const credential = await usePasskey(publicKey);
  let send;
  try {
    send = await post("/v1/send/finish", { approval_id, credential });
  } catch (error) {
    // An approval answers once: whatever was refused is reviewed again.
    dropSummary();
    throw error;
  }
  dropSummary();
  element("send-form").reset();
  say("info", "Approved.");
  showStatus(send);
  watch(send.id);
  await showSends();
});

onClick("sends-refresh", "", () => Promise.all([showAccount(), showSends()]));

try {
  await showAccount();
  await showSends();
} catch (error) {
  showSignedOut();
  if (error.status !== 401) say("error", error.message, error.code ?? "");
}
