//! Which instructions of the Token programs move tokens, and how many. Pure; layouts are the programs' own.
//!
//! The programs' source is the contract: first byte the instruction, little-endian amounts. What an instruction does not
//! say (a transfer's mint, a withheld fee) is `None` here and never guessed as zero.

/// `TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA`.
pub const TOKEN: [u8; 32] = [
    6, 221, 246, 225, 215, 101, 161, 147, 217, 203, 225, 70, 206, 235, 121, 172, 28, 180, 133, 237,
    95, 91, 55, 145, 58, 140, 245, 133, 126, 255, 0, 169,
];
/// `TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb`.
pub const TOKEN_2022: [u8; 32] = [
    6, 221, 246, 225, 238, 117, 143, 222, 24, 66, 93, 188, 228, 108, 205, 218, 182, 26, 252, 77,
    131, 185, 13, 39, 254, 189, 249, 40, 216, 161, 139, 252,
];

/// A movement of tokens; account fields are places in the instruction's account list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    pub kind: &'static str,
    pub amount: Option<u64>,
    pub decimals: Option<u8>,
    /// Withheld by a transfer fee; known only where the instruction states it, or where the program has no fees.
    pub fee: Option<u64>,
    pub mint: Option<u8>,
    pub source: Option<u8>,
    pub destination: Option<u8>,
    pub authority: Option<u8>,
}

/// One movement with the accounts it refers to: the whole instruction's, or one part's of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<'a> {
    pub movement: Movement,
    pub accounts: &'a [u8],
}

/// Deepest batch followed. The program refuses batches within batches.
const BATCH: u8 = 255;

/// The movements of one instruction of either program. `accounts`: its indices into the transaction's keys.
pub fn movements<'a>(program: &[u8; 32], data: &'a [u8], accounts: &'a [u8]) -> Vec<Located<'a>> {
    if *program != TOKEN && *program != TOKEN_2022 {
        return Vec::new();
    }
    if data.first() == Some(&BATCH) {
        return batch(program, &data[1..], accounts);
    }
    single(program, data)
        .map(|movement| Located { movement, accounts })
        .into_iter()
        .collect()
}

/// Parts of a batch: account count, data length, data; their accounts follow one another.
fn batch<'a>(program: &[u8; 32], mut data: &'a [u8], mut accounts: &'a [u8]) -> Vec<Located<'a>> {
    let mut found = Vec::new();
    while let [count, length, rest @ ..] = data {
        let (count, length) = (usize::from(*count), usize::from(*length));
        if rest.len() < length || accounts.len() < count {
            break;
        }
        let (part, after) = rest.split_at(length);
        let (own, others) = accounts.split_at(count);
        if part.first() != Some(&BATCH)
            && let Some(movement) = single(program, part)
        {
            found.push(Located {
                movement,
                accounts: own,
            });
        }
        (data, accounts) = (after, others);
    }
    found
}

fn single(program: &[u8; 32], data: &[u8]) -> Option<Movement> {
    let (tag, rest) = data.split_first()?;
    // The Token program has no transfer fees.
    let no_fee = (*program == TOKEN).then_some(0);
    let movement =
        |kind, amount, decimals, fee, [mint, source, destination, authority]: [Option<u8>; 4]| {
            Some(Movement {
                kind,
                amount: Some(amount),
                decimals,
                fee,
                mint,
                source,
                destination,
                authority,
            })
        };
    match tag {
        3 => movement(
            "transfer",
            amount(rest)?,
            None,
            no_fee,
            [None, Some(0), Some(1), Some(2)],
        ),
        12 => movement(
            "transfer_checked",
            amount(rest)?,
            Some(*rest.get(8)?),
            no_fee,
            [Some(1), Some(0), Some(2), Some(3)],
        ),
        7 => movement(
            "mint_to",
            amount(rest)?,
            None,
            Some(0),
            [Some(0), None, Some(1), Some(2)],
        ),
        14 => movement(
            "mint_to_checked",
            amount(rest)?,
            Some(*rest.get(8)?),
            Some(0),
            [Some(0), None, Some(1), Some(2)],
        ),
        8 => movement(
            "burn",
            amount(rest)?,
            None,
            Some(0),
            [Some(1), Some(0), None, Some(2)],
        ),
        15 => movement(
            "burn_checked",
            amount(rest)?,
            Some(*rest.get(8)?),
            Some(0),
            [Some(1), Some(0), None, Some(2)],
        ),
        26 if *program == TOKEN_2022 => transfer_fee_extension(rest),
        _ => None,
    }
}

fn transfer_fee_extension(data: &[u8]) -> Option<Movement> {
    let (tag, rest) = data.split_first()?;
    let withdraw = |kind| Movement {
        kind,
        amount: None,
        decimals: None,
        fee: None,
        mint: Some(0),
        source: None,
        destination: Some(1),
        authority: Some(2),
    };
    match tag {
        1 => Some(Movement {
            kind: "transfer_checked_with_fee",
            amount: Some(amount(rest)?),
            decimals: Some(*rest.get(8)?),
            fee: Some(amount(rest.get(9..)?)?),
            mint: Some(1),
            source: Some(0),
            destination: Some(2),
            authority: Some(3),
        }),
        2 => Some(withdraw("withdraw_withheld_from_mint")),
        3 => Some(withdraw("withdraw_withheld_from_accounts")),
        _ => None,
    }
}

fn amount(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(program: &[u8; 32], data: &[u8]) -> Movement {
        let found = movements(program, data, &[9, 8, 7, 6]);
        assert_eq!(found.len(), 1);
        found[0].movement
    }

    #[test]
    fn the_program_ids_are_right() {
        assert_eq!(
            bs58::encode(TOKEN).into_string(),
            "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
        );
        assert_eq!(
            bs58::encode(TOKEN_2022).into_string(),
            "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
        );
    }

    #[test]
    fn reads_amounts_exactly() {
        let plain = only(&TOKEN, &[&[3][..], &u64::MAX.to_le_bytes()].concat());
        assert_eq!(
            (plain.kind, plain.amount, plain.fee, plain.mint),
            ("transfer", Some(u64::MAX), Some(0), None)
        );
        let checked = only(
            &TOKEN_2022,
            &[&[12][..], &5_u64.to_le_bytes(), &[6]].concat(),
        );
        assert_eq!(
            (checked.amount, checked.decimals, checked.fee),
            (Some(5), Some(6), None)
        );
        let with_fee = only(
            &TOKEN_2022,
            &[
                &[26, 1][..],
                &500_u64.to_le_bytes(),
                &[9],
                &3_u64.to_le_bytes(),
            ]
            .concat(),
        );
        assert_eq!(
            (with_fee.amount, with_fee.decimals, with_fee.fee),
            (Some(500), Some(9), Some(3))
        );
        let withdrawn = only(&TOKEN_2022, &[26, 2]);
        assert_eq!((withdrawn.amount, withdrawn.fee), (None, None));
    }

    #[test]
    fn a_batch_gives_each_part_its_accounts() {
        let transfer = [&[3][..], &1_u64.to_le_bytes()].concat();
        let burn = [&[8][..], &2_u64.to_le_bytes()].concat();
        let data = [&[255, 3, 9][..], &transfer, &[3, 9], &burn].concat();
        let found = movements(&TOKEN, &data, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].movement.kind, found[0].accounts),
            ("transfer", &[1, 2, 3][..])
        );
        assert_eq!(
            (found[1].movement.kind, found[1].accounts),
            ("burn", &[4, 5, 6][..])
        );
    }

    #[test]
    fn short_or_foreign_data_is_no_movement() {
        assert!(movements(&TOKEN, &[3, 1, 2], &[]).is_empty());
        assert!(movements(&TOKEN, &[], &[]).is_empty());
        assert!(movements(&[1; 32], &[3, 0, 0, 0, 0, 0, 0, 0, 0], &[]).is_empty());
        assert!(movements(&TOKEN, &[26, 1, 0, 0], &[]).is_empty());
        assert!(movements(&TOKEN, &[255, 9, 9, 3], &[1]).is_empty());
    }
}
