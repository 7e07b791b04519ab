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

proptest! {
    /// By the arguments of each version, all of which the program has had.
    #[test]
    fn creations_are_read(
        texts in ("[a-zA-Z ]{0,12}", "[A-Z]{0,10}", "[a-z:/.]{0,60}"), creators in prop::option::of(0_u32..4),
        collection in any::<bool>(), uses in any::<bool>(), mutable in any::<bool>(), cut in any::<prop::sample::Index>(),
    ) {
        let creators = creators.map_or(vec![0], |count| [&[1][..], &count.to_le_bytes(), &vec![8; CREATOR_BYTES * count as usize]].concat());
        let (name, symbol, uri) = &texts;
        let described = [text(name, 0), text(symbol, 0), text(uri, 0), vec![0, 0], creators].concat();
        let optional = |there: bool, bytes: usize| if there { vec![1; 1 + bytes] } else { vec![0] };
        let more = [optional(collection, 33), optional(uses, 17)].concat();
        let mutable_byte = [mutable.into()];
        for (data, places) in [
            ([&[0][..], &described, &mutable_byte].concat(), (1, 4)),
            ([&[16][..], &described, &more, &mutable_byte].concat(), (1, 4)),
            ([&[33][..], &described, &more, &mutable_byte, &[0]].concat(), (1, 4)),
            ([&[42, 0][..], &described, &[0], &mutable_byte, &[2]].concat(), (2, 5)),
        ] {
            let accounts = [0, 1, 2, 3, 4, 5];
            let of = |data: &[u8]| of_instruction(&Instruction { program: &programs::METAPLEX_METADATA, data, accounts: &accounts });
            let statement = of(&data).unwrap();
            prop_assert_eq!((statement.mint, statement.metadata_authority), (places.0, Some(places.1)));
            let state = statement.state;
            prop_assert_eq!((state.name.as_ref(), state.uri.as_ref(), state.metadata_mutable), (Some(name), Some(uri), Some(mutable)));
            let _ = of(&data[..cut.index(data.len())]);
        }
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
