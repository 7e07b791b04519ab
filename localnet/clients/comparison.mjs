// What two endpoints told the same client, side by side.

const text = (value) =>
  JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? inner.toString() : inner));

/** Collects the notifications of one kind from both endpoints and tells what differs. */
export class Comparison {
  constructor(kind) {
    this.kind = kind;
    this.validator = [];
    this.router = [];
  }

  /** The same number of notifications, equal one by one and in the same order. */
  sequence() {
    const differences = [];
    const length = Math.max(this.validator.length, this.router.length);
    for (let at = 0; at < length; at += 1) {
      const [validator, router] = [text(this.validator[at]), text(this.router[at])];
      if (validator !== router) differences.push({ at, validator: this.validator[at] ?? null, router: this.router[at] ?? null });
    }
    return this.verdict(length, differences);
  }

  /** Equal one by one after sorting by `key`: for notifications whose order is not promised. */
  set(key) {
    const order = (a, b) => (text(key(a)) < text(key(b)) ? -1 : 1);
    this.validator.sort(order);
    this.router.sort(order);
    return this.sequence();
  }

  /**
   * Endless notifications (slots, roots): both must tell the same about every key that lies within what both saw, because
   * the two subscriptions do not begin and end at the same instant.
   */
  overlap(key) {
    const sides = [this.validator, this.router].map((list) => new Map(list.map((value) => [Number(key(value)), value])));
    if (sides.some((side) => side.size === 0)) {
      return this.verdict(0, [{ validator: sides[0].size, router: sides[1].size, problem: "one endpoint sent nothing" }]);
    }
    const first = Math.max(...sides.map((side) => Math.min(...side.keys())));
    const last = Math.min(...sides.map((side) => Math.max(...side.keys())));
    const within = [...new Set([...sides[0].keys(), ...sides[1].keys()])].filter((at) => at >= first && at <= last);
    const differences = within
      .filter((at) => text(sides[0].get(at)) !== text(sides[1].get(at)))
      .map((at) => ({ at, validator: sides[0].get(at) ?? null, router: sides[1].get(at) ?? null }));
    return this.verdict(within.length, differences);
  }

  verdict(compared, differences) {
    const ok = compared > 0 && differences.length === 0;
    return { kind: this.kind, ok, compared, differences: differences.length, first_differences: differences.slice(0, 3) };
  }
}

export function summary(client, found, verdicts) {
  return {
    client,
    validator: found.pubsub,
    router: found.router,
    commitment: found.commitment,
    ok: verdicts.every((verdict) => verdict.ok),
    kinds: verdicts,
  };
}
