-- Accepted transactions and what became of them. A row is written before the caller is answered.
CREATE TABLE sender.transactions (
    id                      uuid PRIMARY KEY,
    signature               bytea NOT NULL UNIQUE CHECK (octet_length(signature) = 64),
    wire                    bytea NOT NULL,
    -- NULL: legacy
    version                 smallint,
    fee_payer               bytea NOT NULL CHECK (octet_length(fee_payer) = 32),
    -- The nonce's value when nonce_account is set
    recent_blockhash        bytea NOT NULL CHECK (octet_length(recent_blockhash) = 32),
    nonce_account           bytea CHECK (octet_length(nonce_account) = 32),
    -- Heights of the blocks that may hold it; NULL while unknown. Not exact: the range is wider than the truth.
    first_block_height      bigint,
    last_valid_block_height bigint,
    lifetime_exact          boolean NOT NULL DEFAULT false,
    state                   text NOT NULL DEFAULT 'accepted'
                            CHECK (state IN ('accepted', 'sending', 'landed', 'failed', 'expired')),
    -- True when nothing can change the state any more
    settled                 boolean NOT NULL DEFAULT false,
    -- The block that holds it
    slot                    bigint,
    blockhash               bytea CHECK (octet_length(blockhash) = 32),
    commitment              text CHECK (commitment IN ('processed', 'confirmed', 'finalized')),
    error                   jsonb,
    -- Who proved that it is in no block
    expiry_proof            text CHECK (expiry_proof IN ('stream', 'validator')),
    attempts                bigint NOT NULL DEFAULT 0,
    attempts_acked          bigint NOT NULL DEFAULT 0,
    recent_attempts         jsonb NOT NULL DEFAULT '[]',
    accepted_at             timestamptz NOT NULL DEFAULT now(),
    landed_at               timestamptz,
    settled_at              timestamptz,
    CHECK ((state IN ('landed', 'failed')) = (slot IS NOT NULL)),
    CHECK ((state = 'expired') = (expiry_proof IS NOT NULL))
);

-- Resumed after a restart.
CREATE INDEX transactions_open ON sender.transactions (accepted_at) WHERE NOT settled;
CREATE INDEX transactions_by_state ON sender.transactions (state, accepted_at DESC, id DESC);

-- A caller's intent: one key, one transaction, for ever. Several keys may name the same transaction.
CREATE TABLE sender.idempotency_keys (
    key            text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 255),
    transaction_id uuid NOT NULL REFERENCES sender.transactions (id),
    created_at     timestamptz NOT NULL DEFAULT now()
);

-- Where a restarted reader of the canonical stream begins, so that it regains the blocks that open transactions need.
-- Moves in the same database transaction as the states that the records before it led to.
CREATE TABLE sender.positions (
    topic     text NOT NULL,
    partition integer NOT NULL,
    "offset"  bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
