-- Everything the edge remembers. All tables live in the schema `edge`: the connection's search_path is set to it.

-- Which custody master secret the wallets below were derived from. One row, written at the first start.
CREATE TABLE custody (
    only_row    BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    fingerprint BYTEA NOT NULL CHECK (octet_length(fingerprint) = 32)
);

CREATE TABLE users (
    id          UUID PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{2,31}$'),
    wallet      TEXT NOT NULL UNIQUE,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    disabled_at TIMESTAMPTZ
);

-- The primary key makes a credential id unique over all users, which the verifier library leaves to its caller.
CREATE TABLE credentials (
    id           BYTEA PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 1023),
    user_id      UUID NOT NULL REFERENCES users (id),
    credential   JSONB NOT NULL,
    counter      BIGINT NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_used_at TIMESTAMPTZ,
    -- Set when the signature counter went back: two copies of the key may exist.
    frozen_at    TIMESTAMPTZ
);
CREATE INDEX credentials_by_user ON credentials (user_id);

-- Registrations and logins in progress. A row is deleted by the request that answers it, so a challenge works once.
CREATE TABLE ceremonies (
    id           UUID PRIMARY KEY,
    kind         TEXT NOT NULL CHECK (kind IN ('register', 'login')),
    browser_hash BYTEA NOT NULL CHECK (octet_length(browser_hash) = 32),
    user_id      UUID,
    user_name    TEXT,
    state        JSONB NOT NULL,
    expires_unix BIGINT NOT NULL
);
CREATE INDEX ceremonies_by_expiry ON ceremonies (expires_unix);

-- Opaque sessions: only the SHA-256 of a token is stored.
CREATE TABLE sessions (
    token_hash       BYTEA PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_id          UUID NOT NULL REFERENCES users (id),
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_seen_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    absolute_expiry  TIMESTAMPTZ NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE approvals (
    id                      UUID PRIMARY KEY,
    user_id                 UUID NOT NULL REFERENCES users (id),
    session_hash            BYTEA NOT NULL,
    state                   TEXT NOT NULL DEFAULT 'created' CHECK (state IN
        ('created', 'asserted', 'reserved', 'signed', 'handed', 'landed', 'failed', 'expired')),
    destination             TEXT NOT NULL,
    lamports                NUMERIC(39, 0) NOT NULL CHECK (lamports > 0),
    fee_lamports            NUMERIC(39, 0) NOT NULL CHECK (fee_lamports >= 0),
    message                 BYTEA NOT NULL,
    intent                  TEXT NOT NULL,
    genesis                 BYTEA NOT NULL CHECK (octet_length(genesis) = 32),
    nonce                   BYTEA NOT NULL CHECK (octet_length(nonce) = 16),
    policy_version          BYTEA NOT NULL CHECK (octet_length(policy_version) = 32),
    expires_unix            BIGINT NOT NULL,
    last_valid_block_height BIGINT NOT NULL,
    -- authenticatorData, clientDataJSON, signature and credential id of the passkey that approved.
    evidence                JSONB,
    signature               TEXT UNIQUE,
    wire                    BYTEA,
    slot                    BIGINT,
    commitment              TEXT,
    problem_code            TEXT,
    problem                 TEXT,
    hand_attempts           INTEGER NOT NULL DEFAULT 0,
    created_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    changed_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    next_check_at           TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX approvals_by_user ON approvals (user_id, created_at DESC);
CREATE INDEX approvals_in_flight ON approvals (next_check_at)
    WHERE state IN ('created', 'asserted', 'reserved', 'signed', 'handed', 'landed');

-- The database refuses a step that the state machine does not have, and any change to what the passkey approved.
CREATE FUNCTION approval_step() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.message, NEW.intent, NEW.destination, NEW.lamports, NEW.user_id, NEW.nonce, NEW.policy_version, NEW.expires_unix)
        IS DISTINCT FROM
       (OLD.message, OLD.intent, OLD.destination, OLD.lamports, OLD.user_id, OLD.nonce, OLD.policy_version, OLD.expires_unix)
    THEN
        RAISE EXCEPTION 'approval %: what was shown to the user cannot be changed', OLD.id;
    END IF;
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'created'  AND NEW.state IN ('asserted', 'failed', 'expired')) OR
        (OLD.state = 'asserted' AND NEW.state IN ('reserved', 'failed', 'expired')) OR
        (OLD.state = 'reserved' AND NEW.state IN ('signed', 'failed', 'expired')) OR
        (OLD.state = 'signed'   AND NEW.state IN ('handed', 'landed', 'failed', 'expired')) OR
        (OLD.state = 'handed'   AND NEW.state IN ('landed', 'failed', 'expired')) OR
        (OLD.state = 'landed'   AND NEW.state IN ('failed', 'expired')
                                AND OLD.commitment IS DISTINCT FROM 'finalized'))
    THEN
        RAISE EXCEPTION 'approval %: no step from % to %', OLD.id, OLD.state, NEW.state;
    END IF;
    IF NEW.state <> OLD.state THEN
        NEW.changed_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approval_step BEFORE UPDATE ON approvals FOR EACH ROW EXECUTE FUNCTION approval_step();

-- What counts against a user's daily limit. Released when the transfer provably did not happen.
CREATE TABLE reservations (
    approval_id UUID PRIMARY KEY REFERENCES approvals (id),
    user_id     UUID NOT NULL REFERENCES users (id),
    lamports    NUMERIC(39, 0) NOT NULL CHECK (lamports > 0),
    reserved_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    released_at TIMESTAMPTZ
);
CREATE INDEX reservations_live ON reservations (user_id, reserved_at) WHERE released_at IS NULL;

-- Append-only, each row hashed together with the one before it.
CREATE TABLE audit (
    seq        BIGINT PRIMARY KEY CHECK (seq > 0),
    at_unix_ms BIGINT NOT NULL,
    event      TEXT NOT NULL,
    actor      TEXT NOT NULL,
    subject    TEXT NOT NULL,
    detail     TEXT NOT NULL,
    previous   BYTEA NOT NULL CHECK (octet_length(previous) = 32),
    hash       BYTEA NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE FUNCTION audit_is_append_only() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit table is append-only';
END $$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
