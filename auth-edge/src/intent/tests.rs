use super::*;
use proptest::prelude::*;
use solana_message::{Instruction, legacy};

fn address(byte: u8) -> Address {
    Address::new_from_array([byte; 32])
}

fn send(lamports: u64) -> SendSol {
    SendSol {
        from: address(1),
        to: address(2),
        amount: SendAmount::new(lamports).expect("in range"),
    }
}

#[test]
fn amounts_have_one_spelling_and_a_range() {
    assert_eq!("1".parse(), Ok(SendAmount(1)));
    assert_eq!(
        "9223372036854775807".parse(),
        Ok(SendAmount(SendAmount::MAX))
    );
    assert_eq!(
        "9223372036854775808".parse::<SendAmount>(),
        Err(AmountError::TooLarge)
    );
    assert_eq!(
        "99999999999999999999999".parse::<SendAmount>(),
        Err(AmountError::TooLarge)
    );
    assert_eq!("0".parse::<SendAmount>(), Err(AmountError::Zero));
    for text in ["", "-1", "+1", "1.5", "1e9", " 1", "0x10", "１"] {
        assert_eq!(
            text.parse::<SendAmount>(),
            Err(AmountError::NotANumber),
            "{text:?}"
        );
    }
}

#[test]
fn sol_is_shown_exactly() {
    for (lamports, text) in [
        (0, "0"),
        (1, "0.000000001"),
        (1_500_000_000, "1.5"),
        (u64::MAX, "18446744073.709551615"),
    ] {
        assert_eq!(Sol(lamports).to_string(), text);
    }
}

#[test]
fn what_is_built_reads_back_the_same() {
    let hash = Hash::new_from_array([7; 32]);
    let decoded = Decoded::read(&send(1_500_000_000).message(hash).unwrap()).unwrap();
    assert_eq!(decoded.send, send(1_500_000_000));
    assert_eq!(decoded.blockhash, hash);
    assert_eq!(decoded.programs, [SYSTEM_PROGRAM]);
    let text = decoded.canonical_text(&Hash::new_from_array([9; 32]), 5000);
    assert!(
        text.contains("amount: 1.5 SOL (1500000000 lamports)"),
        "{text}"
    );
    assert!(
        text.contains("network fee: 0.000005 SOL (5000 lamports)"),
        "{text}"
    );
}

fn bytes_of(payer: u8, instructions: &[Instruction]) -> Vec<u8> {
    let message =
        legacy::Message::new_with_blockhash(instructions, Some(&address(payer)), &Hash::default());
    VersionedMessage::Legacy(message).serialize()
}

#[test]
fn messages_that_do_anything_else_are_refused() {
    use solana_system_interface::instruction as system;
    let (from, to) = (address(1), address(2));
    let mut foreign = transfer(&from, &to, 5);
    foreign.program_id = address(3);
    let mut longer = transfer(&from, &to, 5);
    longer.data.push(0);
    let cases: [(&str, Vec<u8>); 7] = [
        (
            "a second instruction",
            bytes_of(1, &[transfer(&from, &to, 5), transfer(&from, &to, 5)]),
        ),
        ("another program", bytes_of(1, &[foreign])),
        ("assign", bytes_of(1, &[system::assign(&from, &to)])),
        (
            "transfer with seed",
            bytes_of(
                1,
                &[system::transfer_with_seed(
                    &from,
                    &to,
                    "s".into(),
                    &from,
                    &to,
                    5,
                )],
            ),
        ),
        ("another fee payer", bytes_of(9, &[transfer(&from, &to, 5)])),
        ("trailing data", bytes_of(1, &[longer])),
        ("zero lamports", bytes_of(1, &[transfer(&from, &to, 0)])),
    ];
    for (name, bytes) in cases {
        assert!(
            matches!(Decoded::read(&bytes), Err(MessageError::NotASend(_))),
            "{name}: {:?}",
            Decoded::read(&bytes)
        );
    }
    assert!(
        Decoded::read(&bytes_of(1, &[transfer(&from, &to, 5)])).is_ok(),
        "the plain legacy transfer is fine"
    );
}

proptest! {
    /// Whatever one byte of the message says differently, the reader sees a different deed or refuses.
    #[test]
    fn no_byte_of_the_message_is_ignored(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let bytes = send(1_500_000_000).message(Hash::new_from_array([7; 32])).unwrap();
        let mut changed = bytes.clone();
        let index = at.index(bytes.len());
        changed[index] ^= flip;
        let before = Decoded::read(&bytes).unwrap();
        // The header's count of read-only accounts changes locking, not the deed; the challenge covers it as a byte.
        if let Ok(after) = Decoded::read(&changed) && index > 3 {
            prop_assert_ne!(after, before);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Decoded::read(&bytes);
    }

    #[test]
    fn truncated_messages_are_refused(keep in 0usize..150) {
        let bytes = send(7).message(Hash::default()).unwrap();
        if keep < bytes.len() {
            prop_assert!(Decoded::read(&bytes[..keep]).is_err());
        }
    }
}
