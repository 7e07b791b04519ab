//! Made blocks: what the recorded ones of the repository have not.

use chain_blocks::ChainBlock;
use event_schema::{
    Blockhash, Slot,
    proto::{
        confirmed_block::{
            CompiledInstruction, InnerInstruction, InnerInstructions, Message, MessageHeader,
            Reward, Rewards, TokenBalance, Transaction, TransactionStatusMeta, UiTokenAmount,
            UnixTimestamp,
        },
        geyser::{
            SubscribeUpdateAccountInfo, SubscribeUpdateBlockMeta, SubscribeUpdateTransactionInfo,
        },
    },
};
use warehouse::decode::{Key, programs};

/// The account of which every block has a write.
pub const WATCHED: Key = key("SysvarC1ock11111111111111111111111111111111");
/// Raydium's pool of SOL and USDC.
pub const POOL: Key = key("58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLyQo2");
pub const USDC: Key = key("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v");
/// Buys, lets another buy, and sells.
pub const TRADER: Key = [21; 32];
const OTHER: Key = [22; 32];
/// The token account that is closed.
pub const CLOSED: Key = [24; 32];
/// A program, and the account with its code.
pub const PROGRAM: Key = programs::WHIRLPOOL;
pub const CODE: Key = [25; 32];
/// Is credited the fees of every made block.
pub const LEADER: Key = [23; 32];

/// The made block with trades.
pub const TRADES: u64 = 120;
/// The block without a time.
pub const TIMELESS: u64 = 121;
/// Confirmed and not final.
pub const CONFIRMED: u64 = 122;
/// Confirmed and then abandoned.
pub const ABANDONED: u64 = 123;
pub const TIME: i64 = 1_795_374_435;

const fn key(base58: &str) -> Key {
    bs58::decode(base58.as_bytes()).into_array_const_unwrap()
}

/// Tokens of an account before and after; `None`: it is no token account then.
struct Held {
    account: Key,
    mint: Key,
    owner: Key,
    before: Option<u64>,
    after: Option<u64>,
}

/// A call by keys; `beneath` are the inner ones, with their stack heights.
struct Call {
    program: Key,
    accounts: Vec<Key>,
    data: Vec<u8>,
    beneath: Vec<(u32, Call)>,
}

impl Call {
    fn new(program: Key, accounts: &[Key], data: Vec<u8>) -> Self {
        Self {
            program,
            accounts: accounts.to_vec(),
            data,
            beneath: Vec::new(),
        }
    }
}

/// A transaction of `payer` that pays 5,000 lamports.
fn transaction(
    slot: u64,
    index: u64,
    payer: Key,
    call: Call,
    held: &[Held],
) -> SubscribeUpdateTransactionInfo {
    let mut keys = vec![payer];
    let mut place = |key: &Key| {
        let found = keys.iter().position(|known| known == key);
        found.unwrap_or_else(|| {
            keys.push(*key);
            keys.len() - 1
        }) as u8
    };
    let outer = CompiledInstruction {
        accounts: call.accounts.iter().map(&mut place).collect(),
        program_id_index: place(&call.program).into(),
        data: call.data,
    };
    let inner = call
        .beneath
        .into_iter()
        .map(|(height, call)| InnerInstruction {
            accounts: call.accounts.iter().map(&mut place).collect(),
            program_id_index: place(&call.program).into(),
            data: call.data,
            stack_height: Some(height),
        });
    let inner = inner.collect();
    let listed = |side: fn(&Held) -> Option<u64>, place: &mut dyn FnMut(&Key) -> u8| {
        let held = held.iter().filter_map(|held| Some((held, side(held)?)));
        held.map(|(held, amount)| TokenBalance {
            account_index: place(&held.account).into(),
            mint: bs58::encode(held.mint).into_string(),
            owner: bs58::encode(held.owner).into_string(),
            ui_token_amount: Some(UiTokenAmount {
                decimals: if held.mint == programs::WRAPPED_SOL {
                    9
                } else {
                    6
                },
                amount: amount.to_string(),
                ..UiTokenAmount::default()
            }),
            ..TokenBalance::default()
        })
        .collect::<Vec<_>>()
    };
    let pre_token_balances = listed(|held| held.before, &mut place);
    let post_token_balances = listed(|held| held.after, &mut place);
    let mut signature = vec![7; 64];
    signature[..8].copy_from_slice(&slot.to_le_bytes());
    signature[8..16].copy_from_slice(&index.to_le_bytes());
    let accounts = keys.len();
    SubscribeUpdateTransactionInfo {
        signature: signature.clone(),
        is_vote: false,
        index,
        transaction: Some(Transaction {
            signatures: vec![signature],
            message: Some(Message {
                header: Some(MessageHeader {
                    num_required_signatures: 1,
                    ..MessageHeader::default()
                }),
                account_keys: keys.iter().map(|key| key.to_vec()).collect(),
                recent_blockhash: vec![8; 32],
                instructions: vec![outer],
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            fee: 5_000,
            pre_balances: vec![1_000_000; accounts],
            post_balances: [vec![995_000], vec![1_000_000; accounts - 1]].concat(),
            pre_token_balances,
            post_token_balances,
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: inner,
            }],
            compute_units_consumed: Some(30_000),
            ..TransactionStatusMeta::default()
        }),
    }
}

fn moved(from: Key, to: Key, owner: Key, amount: u64) -> Call {
    Call::new(
        programs::TOKEN,
        &[from, to, owner],
        [&[3_u8][..], &amount.to_le_bytes()].concat(),
    )
}

const VAULT_SOL: Key = [31; 32];
const VAULT_USDC: Key = [32; 32];
const POOL_AUTHORITY: Key = [33; 32];

/// Token accounts of a user, for SOL and for USDC.
fn purses(user: Key) -> [Key; 2] {
    [[user[0] + 100; 32], [user[0] + 110; 32]]
}

/// A swap in [`POOL`]: so many raw USDC for so much wrapped SOL, or back. With it what everybody held.
fn swap(user: Key, sol: u64, usdc: u64, buys_sol: bool) -> (Call, Vec<Held>) {
    let [purse_sol, purse_usdc] = purses(user);
    let (from, to) = if buys_sol {
        (purse_usdc, purse_sol)
    } else {
        (purse_sol, purse_usdc)
    };
    let accounts = [
        programs::TOKEN,
        POOL,
        POOL_AUTHORITY,
        VAULT_SOL,
        VAULT_USDC,
        from,
        to,
        user,
    ];
    let amount_in = if buys_sol { usdc } else { sol };
    // swap_base_in_v2
    let data = [&[16_u8][..], &amount_in.to_le_bytes(), &0_u64.to_le_bytes()].concat();
    let mut call = Call::new(programs::RAYDIUM_AMM, &accounts, data);
    call.beneath = if buys_sol {
        vec![
            (2, moved(purse_usdc, VAULT_USDC, user, usdc)),
            (2, moved(VAULT_SOL, purse_sol, POOL_AUTHORITY, sol)),
        ]
    } else {
        vec![
            (2, moved(purse_sol, VAULT_SOL, user, sol)),
            (2, moved(VAULT_USDC, purse_usdc, POOL_AUTHORITY, usdc)),
        ]
    };
    const MUCH: u64 = 1_000_000_000_000;
    let held = |account, mint, owner, gains: bool, amount| Held {
        account,
        mint,
        owner,
        before: Some(MUCH),
        after: Some(if gains { MUCH + amount } else { MUCH - amount }),
    };
    let held = vec![
        held(purse_sol, programs::WRAPPED_SOL, user, buys_sol, sol),
        held(purse_usdc, USDC, user, !buys_sol, usdc),
        held(
            VAULT_SOL,
            programs::WRAPPED_SOL,
            POOL_AUTHORITY,
            !buys_sol,
            sol,
        ),
        held(VAULT_USDC, USDC, POOL_AUTHORITY, buys_sol, usdc),
    ];
    (call, held)
}

/// The same through Jupiter.
fn route(user: Key, sol: u64, usdc: u64) -> (Call, Vec<Held>) {
    let (leg, held) = swap(user, sol, usdc, true);
    let [purse_sol, purse_usdc] = purses(user);
    let jupiter = programs::JUPITER;
    let accounts = [
        programs::TOKEN,
        user,
        purse_usdc,
        purse_sol,
        jupiter,
        programs::WRAPPED_SOL,
        jupiter,
        jupiter,
        jupiter,
    ];
    let mut call = Call::new(
        jupiter,
        &accounts,
        vec![229, 23, 203, 151, 122, 227, 173, 42],
    );
    let transfers = leg
        .beneath
        .into_iter()
        .map(|(height, call)| (height + 1, call));
    let leg = Call {
        beneath: Vec::new(),
        ..leg
    };
    call.beneath = [(2, leg)].into_iter().chain(transfers).collect();
    (call, held)
}

fn block(
    slot: u64,
    parent: u64,
    time: Option<i64>,
    transactions: Vec<SubscribeUpdateTransactionInfo>,
) -> ChainBlock {
    let fees = 5_000 * transactions.len() as i64;
    let reward = Reward {
        pubkey: bs58::encode(LEADER).into_string(),
        lamports: fees - fees / 2,
        post_balance: 1_000_000 + slot,
        // Fee.
        reward_type: 1,
        ..Reward::default()
    };
    let hash = |slot: u64| {
        let mut hash = [9; 32];
        hash[..8].copy_from_slice(&slot.to_le_bytes());
        Blockhash(hash)
    };
    ChainBlock {
        slot: Slot(slot),
        blockhash: hash(slot),
        parent_slot: Slot(parent),
        parent_blockhash: Some(hash(parent)),
        transactions,
        meta: SubscribeUpdateBlockMeta {
            slot,
            rewards: Some(Rewards {
                rewards: vec![reward],
                ..Rewards::default()
            }),
            block_time: time.map(|timestamp| UnixTimestamp { timestamp }),
            parent_slot: parent,
            ..SubscribeUpdateBlockMeta::default()
        },
    }
}

/// One buys, another buys, the first buys again and sells; a route; a stake; a token account that is filled, emptied and closed; a
/// program that is upgraded for the last time.
pub fn trades() -> ChainBlock {
    let parts = [
        (TRADER, swap(TRADER, 10_000_000_000, 1_500_000_000, true)),
        (OTHER, swap(OTHER, 5_000_000_000, 760_000_000, true)),
        (TRADER, swap(TRADER, 1_000_000_000, 155_000_000, true)),
        (TRADER, swap(TRADER, 10_000_000_000, 1_530_000_000, false)),
        (OTHER, route(OTHER, 1_000_000_000, 150_000_000)),
        (TRADER, delegation()),
        (OTHER, giving()),
        (OTHER, closing()),
        (TRADER, upgrade()),
        (TRADER, renunciation()),
    ];
    let transactions = (0..)
        .zip(parts)
        .map(|(index, (payer, (call, held)))| transaction(TRADES, index, payer, call, &held));
    block(TRADES, 112, Some(TIME), transactions.collect())
}

fn delegation() -> (Call, Vec<Held>) {
    let accounts = [[41; 32], [42; 32], [43; 32], [44; 32], [45; 32], TRADER];
    (
        Call::new(programs::STAKE, &accounts, 2_u32.to_le_bytes().to_vec()),
        Vec::new(),
    )
}

fn upgrade() -> (Call, Vec<Held>) {
    let [rent, clock] = [[51; 32], [52; 32]];
    let accounts = [CODE, PROGRAM, [53; 32], TRADER, rent, clock, TRADER];
    let data = 3_u32.to_le_bytes().to_vec();
    (
        Call::new(programs::LOADER_UPGRADEABLE, &accounts, data),
        Vec::new(),
    )
}

fn renunciation() -> (Call, Vec<Held>) {
    let data = 4_u32.to_le_bytes().to_vec();
    (
        Call::new(programs::LOADER_UPGRADEABLE, &[CODE, TRADER], data),
        Vec::new(),
    )
}

/// Writes of a block beside that of [`WATCHED`]: the mint of USDC, and what Metaplex's program says of it. An abandoned block says
/// otherwise.
pub fn writes(slot: u64) -> Vec<SubscribeUpdateAccountInfo> {
    let (supply, name) = match slot {
        TRADES => (7_500_000_000_u64, "USD Coin"),
        ABANDONED => (1, "Not it"),
        _ => return Vec::new(),
    };
    let mint = [
        &1_u32.to_le_bytes()[..],
        &[61; 32],
        &supply.to_le_bytes(),
        &[6, 1],
        &1_u32.to_le_bytes(),
        &[62; 32],
    ]
    .concat();
    let text = |text: &str, filled_to: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(filled_to, 0);
        [&(filled_to as u32).to_le_bytes()[..], &bytes].concat()
    };
    let metadata = [
        &[4][..],
        &[63; 32],
        &USDC,
        &text(name, 32),
        &text("USDC", 10),
        &text("", 200),
        // No royalties, no creators, not sold, mutable.
        &[0, 0, 0, 0, 1],
    ]
    .concat();
    let write = |pubkey: Key, owner: Key, data, place| SubscribeUpdateAccountInfo {
        pubkey: pubkey.to_vec(),
        lamports: 1,
        owner: owner.to_vec(),
        data,
        write_version: slot * 10 + place,
        ..SubscribeUpdateAccountInfo::default()
    };
    vec![
        write(USDC, programs::TOKEN, mint, 1),
        write([64; 32], programs::METAPLEX_METADATA, metadata, 2),
    ]
}

fn giving() -> (Call, Vec<Held>) {
    const MUCH: u64 = 1_000_000;
    let [_, purse] = purses(OTHER);
    let held = |account, before, after| Held {
        account,
        mint: USDC,
        owner: OTHER,
        before: Some(before),
        after: Some(after),
    };
    (
        moved(purse, CLOSED, OTHER, 500),
        vec![held(purse, MUCH, MUCH - 500), held(CLOSED, 0, 500)],
    )
}

fn closing() -> (Call, Vec<Held>) {
    let purse = CLOSED;
    let burn = [&[8_u8][..], &500_u64.to_le_bytes()].concat();
    let mut call = Call::new([77; 32], &[purse], vec![1]);
    call.beneath = vec![
        (2, Call::new(programs::TOKEN, &[purse, USDC, OTHER], burn)),
        (
            2,
            Call::new(programs::TOKEN, &[purse, OTHER, OTHER], vec![9]),
        ),
    ];
    let held = Held {
        account: purse,
        mint: USDC,
        owner: OTHER,
        before: Some(500),
        after: None,
    };
    (call, vec![held])
}

/// One trade in a block of which the chain states no time.
pub fn timeless() -> ChainBlock {
    one_trade(TIMELESS, TRADES, None)
}

/// One trade in a block that nothing makes final.
pub fn confirmed() -> ChainBlock {
    one_trade(CONFIRMED, TIMELESS, Some(TIME + 1))
}

pub fn abandoned() -> ChainBlock {
    one_trade(ABANDONED, CONFIRMED, Some(TIME + 1))
}

fn one_trade(slot: u64, parent: u64, time: Option<i64>) -> ChainBlock {
    let (call, held) = swap(OTHER, 2_000_000_000, 300_000_000, true);
    block(
        slot,
        parent,
        time,
        vec![transaction(slot, 0, OTHER, call, &held)],
    )
}
