//! A transaction of the canonical stream → the bytes a validator keeps, to compare with what its RPC returns. Pure.
//!
//! Written from Solana's wire format, not with the crates that the plugin encodes with: an independent second opinion.

use event_schema::proto::confirmed_block::{
    CompiledInstruction, Message, MessageHeader, Transaction,
};

/// `None` when a part is missing.
pub fn encode(transaction: &Transaction) -> Option<Vec<u8>> {
    let message = transaction.message.as_ref()?;
    let header = message.header.as_ref()?;
    if message.config.is_some() {
        return encode_v1(transaction, message, header);
    }
    let mut out = Vec::new();
    length(&mut out, transaction.signatures.len());
    for signature in &transaction.signatures {
        out.extend_from_slice(signature);
    }
    if message.versioned {
        // Version 0, with the bit that no legacy message has.
        out.push(0x80);
    }
    for count in [
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    ] {
        out.push(u8::try_from(count).ok()?);
    }
    length(&mut out, message.account_keys.len());
    for key in &message.account_keys {
        out.extend_from_slice(key);
    }
    out.extend_from_slice(&message.recent_blockhash);
    length(&mut out, message.instructions.len());
    for instruction in &message.instructions {
        encode_instruction(&mut out, instruction)?;
    }
    if message.versioned {
        length(&mut out, message.address_table_lookups.len());
        for lookup in &message.address_table_lookups {
            out.extend_from_slice(&lookup.account_key);
            bytes(&mut out, &lookup.writable_indexes);
            bytes(&mut out, &lookup.readonly_indexes);
        }
    }
    Some(out)
}

// SIMD-0385: everything of fixed size first, instruction heads before their payloads, signatures last.
fn encode_v1(
    transaction: &Transaction,
    message: &Message,
    header: &MessageHeader,
) -> Option<Vec<u8>> {
    let config = message.config.as_ref()?;
    let mut out = vec![0x81];
    for count in [
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    ] {
        out.push(u8::try_from(count).ok()?);
    }
    let mut mask = 0_u32;
    let mut values = Vec::new();
    if let Some(fee) = config.priority_fee {
        mask |= 0b11;
        values.extend_from_slice(&fee.to_le_bytes());
    }
    for (bit, value) in [
        (2, config.compute_unit_limit),
        (3, config.loaded_accounts_data_size_limit),
        (4, config.heap_size),
    ] {
        if let Some(value) = value {
            mask |= 1 << bit;
            values.extend_from_slice(&value.to_le_bytes());
        }
    }
    out.extend_from_slice(&mask.to_le_bytes());
    out.extend_from_slice(&message.recent_blockhash);
    out.push(u8::try_from(message.instructions.len()).ok()?);
    out.push(u8::try_from(message.account_keys.len()).ok()?);
    for key in &message.account_keys {
        out.extend_from_slice(key);
    }
    out.append(&mut values);
    for instruction in &message.instructions {
        out.push(u8::try_from(instruction.program_id_index).ok()?);
        out.push(u8::try_from(instruction.accounts.len()).ok()?);
        out.extend_from_slice(&u16::try_from(instruction.data.len()).ok()?.to_le_bytes());
    }
    for instruction in &message.instructions {
        out.extend_from_slice(&instruction.accounts);
        out.extend_from_slice(&instruction.data);
    }
    for signature in &transaction.signatures {
        out.extend_from_slice(signature);
    }
    Some(out)
}

fn encode_instruction(out: &mut Vec<u8>, instruction: &CompiledInstruction) -> Option<()> {
    out.push(u8::try_from(instruction.program_id_index).ok()?);
    bytes(out, &instruction.accounts);
    bytes(out, &instruction.data);
    Some(())
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

// Solana's "short vector" length: seven bits a byte, the lowest first.
fn length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_vectors() {
        for (value, expected) in [
            (0_usize, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (16_384, vec![0x80, 0x80, 1]),
        ] {
            let mut out = Vec::new();
            length(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_legacy_transfer_has_the_known_layout() {
        let transaction = Transaction {
            signatures: vec![vec![7; 64]],
            message: Some(Message {
                header: Some(MessageHeader {
                    num_required_signatures: 1,
                    num_readonly_signed_accounts: 0,
                    num_readonly_unsigned_accounts: 1,
                }),
                account_keys: vec![vec![1; 32], vec![2; 32], vec![0; 32]],
                recent_blockhash: vec![9; 32],
                instructions: vec![CompiledInstruction {
                    program_id_index: 2,
                    accounts: vec![0, 1],
                    data: vec![2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
                }],
                ..Message::default()
            }),
        };
        let out = encode(&transaction).unwrap();
        assert_eq!(
            out.len(),
            1 + 64 + 3 + 1 + 3 * 32 + 32 + 1 + 1 + 1 + 2 + 1 + 12
        );
        assert_eq!(&out[..2], &[1, 7]);
        assert_eq!(&out[65..69], &[1, 0, 1, 3]);
        assert!(encode(&Transaction::default()).is_none());
    }
}
