// SOL and lamports as exact decimal text: amounts never become floating-point numbers.

const DECIMALS = 9;

// "1.5" → 1500000000n. Throws with a sentence for the user.
export function lamportsFromSol(text) {
  const match = /^(\d{1,10})(?:[.,](\d*))?$/.exec(text.trim());
  if (!match) throw new RangeError("Write the amount in digits, such as 0.25.");
  const [, whole, fraction = ""] = match;
  if (fraction.length > DECIMALS) throw new RangeError("SOL has nine decimals at most.");
  const lamports = BigInt(whole + fraction.padEnd(DECIMALS, "0"));
  if (lamports === 0n) throw new RangeError("Send more than 0 SOL.");
  return lamports;
}

// 1500000000n or "1500000000" → "1.5"
export function solFromLamports(lamports) {
  const digits = BigInt(lamports).toString().padStart(DECIMALS + 1, "0");
  const fraction = digits.slice(-DECIMALS).replace(/0+$/, "");
  return digits.slice(0, -DECIMALS) + (fraction && `.${fraction}`);
}
