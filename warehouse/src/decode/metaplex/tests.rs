use proptest::prelude::*;

use super::*;

fn text(text: &str, filled_to: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().max(filled_to), 0);
    [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
}

fn account(texts: [&str; 3], filled: bool, creators: Option<u32>, mutable: bool) -> Vec<u8> {
    let fill = |length: usize| if filled { length } else { 0 };
    let [name, symbol, uri] = texts;
    let creators = creators.map_or(vec![0], |count| {
        let list = vec![8; CREATOR_BYTES * count as usize];
        [&[1][..], &count.to_le_bytes(), &list].concat()
    });
    [
        &[METADATA][..],
        &[2; 32],
        &[3; 32],
        &text(name, fill(32)),
        &text(symbol, fill(10)),
        &text(uri, fill(200)),
        &500_u16.to_le_bytes(),
        &creators,
        &[1, mutable.into()],
        // What later versions add.
        &[1, 255, 0, 0],
    ]
    .concat()
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        name in "[a-zA-Z$ \u{1f600}]{0,8}", symbol in "[A-Z]{0,10}", uri in "[a-z:/.]{0,60}",
        filled in any::<bool>(), creators in prop::option::of(0_u32..6), mutable in any::<bool>(),
    ) {
        let data = account([&name, &symbol, &uri], filled, creators, mutable);
        let (mint, state) = of_account(&programs::METAPLEX_METADATA, &data).unwrap();
        prop_assert_eq!((mint, state.metadata_authority), ([3; 32], Some(Some([2; 32]))));
        prop_assert_eq!([state.name, state.symbol, state.uri], [Some(name), Some(symbol), Some(uri)]);
        prop_assert_eq!((state.metadata_mutable, state.decimals), (Some(mutable), None));
        prop_assert_eq!(of_account(&programs::TOKEN, &data), None);
    }

    #[test]
    fn damaged_bytes_are_answered(at in any::<prop::sample::Index>(), bytes in any::<[u8; 4]>(), cut in any::<prop::sample::Index>()) {
        let mut data = account(["A", "B", "C"], true, Some(2), true);
        let place = at.index(data.len() - 4);
        data[place..place + 4].copy_from_slice(&bytes);
        data.truncate(cut.index(data.len() + 1));
        let _ = of_account(&programs::METAPLEX_METADATA, &data);
    }

    #[test]
    fn any_bytes_are_answered(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = of_account(&programs::METAPLEX_METADATA, &data);
    }
}

#[test]
fn lengths_beyond_the_account_are_refused() {
    let whole = account(["A", "B", "C"], false, Some(1), true);
    for at in [65, 70] {
        let mut data = whole.clone();
        data[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            of_account(&programs::METAPLEX_METADATA, &data),
            None,
            "{at}"
        );
    }
    let mut edition = whole;
    edition[0] = 6;
    assert_eq!(of_account(&programs::METAPLEX_METADATA, &edition), None);
}
