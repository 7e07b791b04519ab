use super::*;
use proptest::prelude::*;
use solana_hash::Hash;
use solana_keypair::{Keypair, Signer};
use solana_message::{Message, v0};
use solana_system_interface::instruction as system;

fn keypair(seed: u8) -> Keypair {
    Keypair::new_from_array([seed; 32])
}

fn transfer(from: &Keypair, blockhash: Hash) -> VersionedTransaction {
    let instruction = system::transfer(&from.pubkey(), &keypair(99).pubkey(), 5);
    let message = Message::new_with_blockhash(&[instruction], Some(&from.pubkey()), &blockhash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[from]).unwrap()
}

fn wire(transaction: &VersionedTransaction) -> Vec<u8> {
    wincode::serialize(transaction).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_legacy_transfer_is_read_in_both_encodings() {
    let payer = keypair(1);
    let transaction = transfer(&payer, Hash::new_from_array([7; 32]));
    let bytes = wire(&transaction);
    for (text, encoding) in [
        (base64(&bytes), Encoding::Base64),
        (bs58::encode(&bytes).into_string(), Encoding::Base58),
    ] {
        let read = decode(&text, encoding).unwrap();
        assert_eq!(read.wire, bytes);
        assert_eq!(
            read.signature.to_string(),
            transaction.signatures[0].to_string()
        );
        assert_eq!(read.fee_payer.to_string(), payer.pubkey().to_string());
        assert_eq!(read.blockhash, Blockhash([7; 32]));
        assert_eq!((read.version, read.nonce_account), (None, None));
    }
}

#[test]
fn a_v0_transaction_is_read() {
    let payer = keypair(1);
    let instruction = system::transfer(&payer.pubkey(), &keypair(2).pubkey(), 5);
    let message =
        v0::Message::try_compile(&payer.pubkey(), &[instruction], &[], Hash::default()).unwrap();
    let transaction =
        VersionedTransaction::try_new(VersionedMessage::V0(message), &[&payer]).unwrap();
    let read = decode(&base64(&wire(&transaction)), Encoding::Base64).unwrap();
    assert_eq!(read.version, Some(0));
}

/// A v1 transaction whose one instruction carries `data` bytes.
fn v1_transaction(data: usize) -> Vec<u8> {
    let payer = keypair(1);
    let instruction = solana_instruction::Instruction {
        program_id: solana_pubkey::Pubkey::new_from_array([9; 32]),
        accounts: vec![solana_instruction::AccountMeta::new(payer.pubkey(), true)],
        data: vec![3; data],
    };
    let message =
        v1::Message::try_compile(&payer.pubkey(), &[instruction], Hash::default()).unwrap();
    let transaction =
        VersionedTransaction::try_new(VersionedMessage::V1(message), &[&payer]).unwrap();
    wire(&transaction)
}

#[test]
fn a_v1_transaction_may_be_larger_than_a_packet() {
    let bytes = v1_transaction(3000);
    assert!(bytes.len() > LEGACY_SIZE_MAX && bytes.len() <= V1_SIZE_MAX);
    let read = decode(&base64(&bytes), Encoding::Base64).unwrap();
    assert_eq!(read.version, Some(1));
    assert_eq!(read.wire, bytes);
}

#[test]
fn sizes_are_limited_by_version() {
    let overhead = v1_transaction(0).len();
    let largest = v1_transaction(V1_SIZE_MAX - overhead);
    assert_eq!(largest.len(), V1_SIZE_MAX);
    assert_eq!(base64(&largest).len(), BASE64_LENGTH_MAX);
    decode(&base64(&largest), Encoding::Base64).unwrap();
    let mut too_large = largest;
    too_large.push(0);
    let refusal = decode(&base64(&too_large), Encoding::Base64).unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::TextTooLong { .. } | Refusal::TooLarge { .. }
        ),
        "{refusal}"
    );

    let refusal = decode(&base64(&[1; LEGACY_SIZE_MAX + 1]), Encoding::Base64).unwrap_err();
    let expected = Refusal::TooLarge {
        version: "legacy and version 0",
        size: LEGACY_SIZE_MAX + 1,
        limit: LEGACY_SIZE_MAX,
    };
    assert_eq!(refusal, expected);

    let long = "1".repeat(BASE58_LENGTH_MAX + 1);
    let refusal = decode(&long, Encoding::Base58).unwrap_err();
    assert!(refusal.fix().contains("base64"), "{}", refusal.fix());
}

#[test]
fn every_signature_is_checked_and_the_wrong_one_named() {
    let (payer, second) = (keypair(1), keypair(2));
    let mut instruction = system::transfer(&payer.pubkey(), &keypair(3).pubkey(), 1);
    instruction
        .accounts
        .push(solana_instruction::AccountMeta::new_readonly(
            second.pubkey(),
            true,
        ));
    let message = Message::new(&[instruction], Some(&payer.pubkey()));
    let good = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&payer, &second])
        .unwrap();
    decode(&base64(&wire(&good)), Encoding::Base64).unwrap();
    for (index, signer) in [(0, &payer), (1, &second)] {
        let mut bad = good.clone();
        let mut signature: [u8; 64] = bad.signatures[index].into();
        signature[5] ^= 1;
        bad.signatures[index] = signature.into();
        let refusal = decode(&base64(&wire(&bad)), Encoding::Base64).unwrap_err();
        assert!(refusal.is_signature_failure());
        assert!(
            refusal
                .to_string()
                .contains("Transaction signature verification failure")
        );
        assert!(
            refusal.to_string().contains(&signer.pubkey().to_string()),
            "{refusal}"
        );
    }
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let good = transfer(&keypair(1), Hash::default());
    let bytes = wire(&good);
    for cut in [0, 1, 40, bytes.len() - 1] {
        let refusal = decode(&base64(&bytes[..cut]), Encoding::Base64).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed(_)), "{cut}: {refusal}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let refusal = decode(&base64(&longer), Encoding::Base64).unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}");

    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    let refusal = decode(&base64(&wire(&unsigned)), Encoding::Base64).unwrap_err();
    assert!(matches!(refusal, Refusal::Unsanitary(_)), "{refusal}");

    let VersionedMessage::Legacy(mut message) = good.message else {
        unreachable!()
    };
    message.account_keys[1] = message.account_keys[0];
    let twice = VersionedTransaction {
        signatures: vec![keypair(1).sign_message(&message.serialize())],
        message: VersionedMessage::Legacy(message),
    };
    let refusal = decode(&base64(&wire(&twice)), Encoding::Base64).unwrap_err();
    assert!(matches!(refusal, Refusal::DuplicateAccount(_)), "{refusal}");
}

#[test]
fn the_wrong_encoding_is_said() {
    let text = base64(&wire(&transfer(&keypair(1), Hash::default())));
    let refusal = decode(&text, Encoding::Base58).unwrap_err();
    assert!(matches!(refusal, Refusal::Encoding { .. }), "{refusal}");
    assert!(refusal.fix().contains("base64"));
}

#[test]
fn a_durable_nonce_is_recognized() {
    let (payer, nonce) = (keypair(1), keypair(4));
    let advance = system::advance_nonce_account(&nonce.pubkey(), &payer.pubkey());
    let transfer = system::transfer(&payer.pubkey(), &keypair(5).pubkey(), 1);
    let message = Message::new(&[advance, transfer], Some(&payer.pubkey()));
    let transaction =
        VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&payer]).unwrap();
    let read = decode(&base64(&wire(&transaction)), Encoding::Base64).unwrap();
    assert_eq!(
        read.nonce_account.map(|key| key.0),
        Some(nonce.pubkey().to_bytes())
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = decode(&text, Encoding::Base58);
        let _ = decode(&text, Encoding::Base64);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let _ = decode(&base64(&bytes), Encoding::Base64);
    }

    /// One changed byte anywhere never passes: every byte is under a signature, or is one.
    #[test]
    fn no_changed_byte_passes(at in 0usize..200, change in 1u8..=255, v1_form: bool) {
        let mut bytes = if v1_form { v1_transaction(20) } else { wire(&transfer(&keypair(1), Hash::default())) };
        let at = at % bytes.len();
        bytes[at] ^= change;
        prop_assert!(decode(&base64(&bytes), Encoding::Base64).is_err());
    }
}

/// Transactions of mainnet in all three versions, when there is a folder of them.
#[test]
fn real_transactions_are_accepted() {
    let Some(folder) = std::env::var_os("HELIOGRAPH_DATA") else {
        eprintln!("skipped: HELIOGRAPH_DATA is not set");
        return;
    };
    let folder = std::path::Path::new(&folder).join("transactions");
    let mut versions = std::collections::BTreeMap::<Option<u8>, usize>::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if !path.to_string_lossy().ends_with(".base64.json") {
            continue;
        }
        let value: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for text in encoded_transactions(&value) {
            let read = decode(text, Encoding::Base64)
                .unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
            *versions.entry(read.version).or_default() += 1;
        }
    }
    eprintln!("real transactions accepted, by version: {versions:?}");
    assert!(
        versions.len() == 3,
        "expected legacy, v0 and v1 in {}: {versions:?}",
        folder.display()
    );
}

/// `"transaction": ["…", "base64"]`, wherever it is.
fn encoded_transactions(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(encoded_transactions).collect(),
        serde_json::Value::Object(fields) => fields
            .iter()
            .flat_map(
                |(key, value)| match (key.as_str(), value.as_array().map(Vec::as_slice)) {
                    ("transaction", Some([serde_json::Value::String(text), encoding]))
                        if encoding == "base64" =>
                    {
                        vec![text.as_str()]
                    }
                    _ => encoded_transactions(value),
                },
            )
            .collect(),
        _ => Vec::new(),
    }
}
