// What two endpoints told the same client, side by side.

// Members of an object have no order in JSON, so they are written in that of their names.
const text = (value) =>
  JSON.stringify(value, (_, inner) => {
    if (typeof inner === "bigint") return inner.toString();
    if (inner === null || typeof inner !== "object" || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });

/** Collects the notifications of one kind from both endpoints and tells what differs. */
export class Comparison {
  constructor(kind) {
    this.kind = kind;
    this.validator = [];
    this.router = [];
    this.surplus = 0;
  }

  /**
   * Leaves out what the validator told of an execution that no block holds: when a slot ends while a transaction is being
   * recorded, Agave executes it again, but still tells the logs of the first try, again and again. `recorded` asks the chain.
   * Where the second try is in the slot of the first, each of the first one's is a repetition of what the block holds, and
   * counts with them. How many there were is part of the verdict. What the router repeats stays a difference.
   */
  keepRecordedOnce(recorded) {
    const kept = new Map(this.validator.filter(recorded).map((told) => [text(told), told]));
    this.surplus = this.validator.length - kept.size;
    this.validator = [...kept.values()];
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
   *
   * `late` names a number that the router may know a little later than the validator, and by how much at most. So it is with
   * the root in a slot notification: the validator reads its newest root when it creates a bank, while plugins are told of
   * banks and of roots by two threads. How often it was late is part of the verdict.
   */
  overlap(key, late = null) {
    const sides = [this.validator, this.router].map((list) => new Map(list.map((value) => [Number(key(value)), value])));
    if (sides.some((side) => side.size === 0)) {
      return this.verdict(0, [{ validator: sides[0].size, router: sides[1].size, problem: "one endpoint sent nothing" }]);
    }
    const first = Math.max(...sides.map((side) => Math.min(...side.keys())));
    const last = Math.min(...sides.map((side) => Math.max(...side.keys())));
    const within = [...new Set([...sides[0].keys(), ...sides[1].keys()])].filter((at) => at >= first && at <= last);
    let timesLate = 0;
    const same = (validator, router) => {
      if (text(validator) === text(router)) return true;
      if (!late || !validator || !router) return false;
      const behind = Number(validator[late.member]) - Number(router[late.member]);
      if (text({ ...router, [late.member]: validator[late.member] }) !== text(validator)) return false;
      timesLate += 1;
      return behind > 0 && behind <= late.max;
    };
    const differences = within
      .filter((at) => !same(sides[0].get(at), sides[1].get(at)))
      .map((at) => ({ at, validator: sides[0].get(at) ?? null, router: sides[1].get(at) ?? null }));
    const verdict = this.verdict(within.length, differences);
    return late ? { ...verdict, [`${late.member}_late`]: timesLate } : verdict;
  }

  verdict(compared, differences) {
    const ok = compared > 0 && differences.length === 0;
    const verdict = { kind: this.kind, ok, compared, differences: differences.length, first_differences: differences.slice(0, 3) };
    return this.surplus ? { ...verdict, validator_told_besides: this.surplus } : verdict;
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
