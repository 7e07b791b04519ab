-- The ledger: what every transaction of every confirmed block moved, in double entry. Amounts are raw integer units.
-- Tables are unqualified: the connection's search_path is the schema `ledger`.

-- One row; a newer writer raises the epoch and thereby stops an older one at its next commit.
CREATE TABLE writer (
    only_row BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    epoch    BIGINT NOT NULL
);
INSERT INTO writer (epoch) VALUES (0);

-- Where to continue in the canonical topic. Moves in the transaction that writes what was read before it.
CREATE TABLE positions (
    topic       TEXT NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE TABLE slots (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot             BIGINT NOT NULL,
    blockhash        TEXT NOT NULL,
    parent_slot      BIGINT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('confirmed', 'finalized', 'abandoned')),
    block_time       BIGINT,
    transactions     BIGINT NOT NULL,
    lamports_exact   BIGINT NOT NULL,
    lamports_unknown BIGINT NOT NULL,
    lamports_broken  BIGINT NOT NULL,
    tokens_exact     BIGINT NOT NULL,
    tokens_unknown   BIGINT NOT NULL,
    tokens_broken    BIGINT NOT NULL,
    recorded_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (slot, blockhash)
);

CREATE TABLE block_transactions (
    block_id                BIGINT NOT NULL REFERENCES slots (id),
    tx_index                BIGINT NOT NULL,
    slot                    BIGINT NOT NULL,
    signature               TEXT NOT NULL,
    is_vote                 BOOLEAN NOT NULL,
    success                 BOOLEAN NOT NULL,
    fee                     NUMERIC(39, 0) NOT NULL,
    lamport_identity        TEXT NOT NULL CHECK (lamport_identity IN ('exact', 'unknown', 'broken')),
    lamport_identity_reason TEXT,
    token_identity          TEXT NOT NULL CHECK (token_identity IN ('exact', 'unknown', 'broken')),
    token_identity_reason   TEXT,
    PRIMARY KEY (block_id, tx_index)
);
CREATE INDEX block_transactions_signature ON block_transactions (signature);
CREATE INDEX block_transactions_not_exact ON block_transactions (token_identity, token_identity_reason)
    WHERE token_identity <> 'exact' OR lamport_identity <> 'exact';

-- A transaction's state is its block's.
CREATE VIEW transactions AS
SELECT t.*, s.state, s.blockhash, s.block_time
FROM block_transactions t
JOIN slots s ON s.id = t.block_id;

-- tx_index -1: what the block credits outside its transactions. Per (block, transaction, reversal, asset) the sum is 0.
CREATE TABLE postings (
    block_id BIGINT NOT NULL REFERENCES slots (id),
    tx_index BIGINT NOT NULL,
    reversal BOOLEAN NOT NULL,
    ordinal  INTEGER NOT NULL,
    slot     BIGINT NOT NULL,
    account  TEXT NOT NULL,
    asset    TEXT NOT NULL,
    amount   NUMERIC(39, 0) NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (block_id, tx_index, reversal, ordinal)
);
CREATE INDEX postings_account ON postings (account, slot);

-- Entries are never changed; a mistake or an abandoned block is answered by further entries.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger entries are append-only: % on % refused', TG_OP, TG_TABLE_NAME;
END $$;
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON block_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Sums of postings, kept in the transaction that writes them. `observed` is the balance on chain after the newest entry
-- that told it; `observed - net` is therefore what the account held before this ledger's first entry.
CREATE TABLE balances (
    account        TEXT NOT NULL,
    asset          TEXT NOT NULL,
    net            NUMERIC(39, 0) NOT NULL,
    observed       NUMERIC(39, 0),
    observed_slot  BIGINT,
    PRIMARY KEY (account, asset)
);

-- Holes the router could not fill: the ledger knows that it does not know.
CREATE TABLE gaps (
    topic      TEXT NOT NULL,
    partition  INTEGER NOT NULL,
    log_offset BIGINT NOT NULL,
    first_slot BIGINT NOT NULL,
    last_slot  BIGINT NOT NULL,
    records    BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    source     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
);
