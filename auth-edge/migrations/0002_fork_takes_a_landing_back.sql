-- A block that is not final yet can be abandoned with its fork; then the transfer is on its way again.
CREATE OR REPLACE FUNCTION approval_step() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.message, NEW.intent, NEW.destination, NEW.lamports, NEW.user_id, NEW.nonce, NEW.policy_version, NEW.expires_unix,
        NEW.genesis)
        IS DISTINCT FROM
       (OLD.message, OLD.intent, OLD.destination, OLD.lamports, OLD.user_id, OLD.nonce, OLD.policy_version, OLD.expires_unix,
        OLD.genesis)
    THEN
        RAISE EXCEPTION 'approval %: what was shown to the user cannot be changed', OLD.id;
    END IF;
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'created'  AND NEW.state IN ('asserted', 'failed', 'expired')) OR
        (OLD.state = 'asserted' AND NEW.state IN ('reserved', 'failed', 'expired')) OR
        (OLD.state = 'reserved' AND NEW.state IN ('signed', 'failed', 'expired')) OR
        (OLD.state = 'signed'   AND NEW.state IN ('handed', 'landed', 'failed', 'expired')) OR
        (OLD.state = 'handed'   AND NEW.state IN ('landed', 'failed', 'expired')) OR
        (OLD.state = 'landed'   AND NEW.state IN ('handed', 'failed', 'expired')
                                AND OLD.commitment IS DISTINCT FROM 'finalized'))
    THEN
        RAISE EXCEPTION 'approval %: no step from % to %', OLD.id, OLD.state, NEW.state;
    END IF;
    IF NEW.state <> OLD.state THEN
        NEW.changed_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
