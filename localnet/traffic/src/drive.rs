//! Sets the scene, then sends transactions at a steady rate and follows each until it is confirmed or has expired.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Serialize;
use solana_keypair::Keypair;
use solana_message::AddressLookupTableAccount;
use solana_signature::Signature;
use solana_signer::Signer;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    act::{self, Draft, Kind, MIX},
    rpc::{Rpc, RpcError},
    scene::{Effect, Scene, WALLETS},
};

/// What every wallet is given at the start.
const WALLET_LAMPORTS: u64 = 100_000_000_000;
/// Raw units of both tokens that every wallet is given at the start.
const WALLET_TOKENS: u64 = 1_000_000_000_000;
/// A blockhash is good for 150 slots; twice that at 400 ms is surely too late.
const EXPIRY: Duration = Duration::from_secs(120);
/// How long stragglers are waited for at the end.
const SETTLE: Duration = Duration::from_secs(60);
const BLOCKHASH_AGE_MAX: Duration = Duration::from_secs(2);
const STATUS_PERIOD: Duration = Duration::from_millis(400);
/// What `getSignatureStatuses` takes at once.
const STATUSES_PER_CALL: usize = 256;
/// Requests on their way at once; a slower node slows the traffic down.
const SENDS_IN_FLIGHT_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
pub enum End {
    Seconds(u64),
    Slot(u64),
    Never,
}

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub end: End,
    pub transactions_per_second: u32,
    pub seed: u64,
}

/// How the transactions of one kind ended.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Count {
    pub sent: u64,
    /// In a block, without error.
    pub landed: u64,
    /// In a block, with an error.
    pub failed: u64,
    /// Not taken by the node.
    pub refused: u64,
    /// Taken and never seen in a block.
    pub lost: u64,
}

#[derive(Debug, Serialize)]
pub struct Summary {
    pub seconds: f64,
    pub seed: u64,
    pub first_slot: u64,
    pub last_slot: u64,
    pub sent: u64,
    pub landed: u64,
    pub failed: u64,
    /// Failed although their kind is not meant to.
    pub unexpected: u64,
    pub refused: u64,
    pub lost: u64,
    pub version_1: String,
    /// The first refusal and the first unexpected failure, in the node's words.
    pub remarks: Vec<String>,
    pub kinds: BTreeMap<Kind, Count>,
}

impl Summary {
    fn new(seed: u64, first_slot: u64) -> Self {
        Self {
            seconds: 0.0,
            seed,
            first_slot,
            last_slot: first_slot,
            sent: 0,
            landed: 0,
            failed: 0,
            unexpected: 0,
            refused: 0,
            lost: 0,
            version_1: String::new(),
            remarks: Vec::new(),
            kinds: BTreeMap::new(),
        }
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{:.0} s, slots {}–{}: {} sent, {} landed, {} failed ({} unexpectedly), {} refused, {} lost; version 1: {}\n",
            self.seconds,
            self.first_slot,
            self.last_slot,
            self.sent,
            self.landed,
            self.failed,
            self.unexpected,
            self.refused,
            self.lost,
            self.version_1
        );
        for (kind, count) in &self.kinds {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "  {:<26}{:>7} landed{:>7} failed{:>5} lost",
                format!("{kind:?}"),
                count.landed,
                count.failed,
                count.lost
            );
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  {remark}");
        }
        text
    }

    fn count(&mut self, kind: Kind) -> &mut Count {
        self.kinds.entry(kind).or_default()
    }

    fn sent(&mut self, kind: Kind) {
        self.sent += 1;
        self.count(kind).sent += 1;
    }

    fn ended(&mut self, kind: Kind, slot: u64, error: Option<&serde_json::Value>) {
        self.last_slot = self.last_slot.max(slot);
        match error {
            None => {
                self.landed += 1;
                self.count(kind).landed += 1;
            }
            Some(error) => {
                self.failed += 1;
                self.count(kind).failed += 1;
                if !kind.fails() {
                    self.unexpected += 1;
                    self.remark(format!("{kind:?} failed unexpectedly: {error}"));
                }
            }
        }
    }

    fn refused(&mut self, kind: Kind, error: &RpcError) {
        self.refused += 1;
        self.count(kind).refused += 1;
        self.remark(format!("{kind:?}: {error}"));
    }

    fn lost(&mut self, kind: Kind) {
        self.lost += 1;
        self.count(kind).lost += 1;
    }

    fn remark(&mut self, remark: String) {
        if self.remarks.len() < 5 && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

/// A transaction that was handed in and not yet seen in a confirmed block.
struct Pending {
    kind: Kind,
    effect: Option<Effect>,
    since: Instant,
}

pub async fn run(rpc: &Rpc, mint: Keypair, plan: Plan) -> anyhow::Result<Summary> {
    let begin = Instant::now();
    let mut summary = Summary::new(plan.seed, rpc.slot("processed").await?);
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut scene = set(rpc, Arc::new(mint), &mut summary).await?;
    eprintln!(
        "the scene stands after {:.1} s; driving {} transactions per second (seed {})",
        begin.elapsed().as_secs_f64(),
        plan.transactions_per_second,
        plan.seed
    );

    let driving = Instant::now();
    let mut pending: HashMap<Signature, Pending> = HashMap::new();
    let mut sends: JoinSet<(Signature, Result<(), RpcError>)> = JoinSet::new();
    let mut tick = interval(Duration::from_secs(1) / plan.transactions_per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut blockhash, mut blockhash_since) = (rpc.latest_blockhash().await?, Instant::now());
    let mut statuses_since = Instant::now();
    let mut reached = summary.first_slot;
    while !ended(plan.end, driving, reached) {
        tokio::select! {
            _ = tick.tick(), if sends.len() < SENDS_IN_FLIGHT_MAX => {
                let kind = pick(&mut random);
                let Some(draft) = act::draft(kind, &mut scene, &mut random)? else {
                    continue;
                };
                let transaction = draft.sign(blockhash)?;
                let Some(signature) = transaction.signatures.first().copied() else {
                    continue;
                };
                let since = Instant::now();
                let new = Pending { kind: draft.kind, effect: draft.effect, since };
                if pending.insert(signature, new).is_none() {
                    summary.sent(draft.kind);
                    let rpc = rpc.clone();
                    sends.spawn(async move { (signature, rpc.send(&transaction, false).await) });
                }
            }
            Some(Ok((signature, answer))) = sends.join_next() => {
                note_answer(&mut pending, &mut summary, signature, answer);
            }
        }
        if blockhash_since.elapsed() > BLOCKHASH_AGE_MAX {
            blockhash = rpc.latest_blockhash().await?;
            scene.recent_slot = rpc.slot("finalized").await?;
            reached = rpc.slot("processed").await?;
            blockhash_since = Instant::now();
        }
        if statuses_since.elapsed() > STATUS_PERIOD {
            settle(rpc, &mut pending, &mut scene, &mut summary).await?;
            statuses_since = Instant::now();
        }
    }

    while let Some(Ok((signature, answer))) = sends.join_next().await {
        note_answer(&mut pending, &mut summary, signature, answer);
    }
    let settling = Instant::now();
    while !pending.is_empty() && settling.elapsed() < SETTLE {
        settle(rpc, &mut pending, &mut scene, &mut summary).await?;
        sleep(STATUS_PERIOD).await;
    }
    for (_, straggler) in pending.drain() {
        summary.lost(straggler.kind);
    }
    summary.seconds = begin.elapsed().as_secs_f64();
    Ok(summary)
}

/// Sends one transaction and returns when it is confirmed; an error in the block is an error here.
pub async fn send_and_confirm(rpc: &Rpc, draft: &Draft) -> anyhow::Result<Signature> {
    let (signature, slot, error) = land(rpc, draft).await?;
    match error {
        None => Ok(signature),
        Some(error) => bail!(
            "{:?} {signature} failed in slot {slot}: {error}",
            draft.kind
        ),
    }
}

async fn land(
    rpc: &Rpc,
    draft: &Draft,
) -> anyhow::Result<(Signature, u64, Option<serde_json::Value>)> {
    let transaction = draft.sign(rpc.latest_blockhash().await?)?;
    let signature = *transaction
        .signatures
        .first()
        .context("a signed transaction")?;
    rpc.send(&transaction, true).await?;
    let since = Instant::now();
    while since.elapsed() < EXPIRY {
        if let [Some(status)] = rpc.signature_statuses(&[signature]).await?.as_slice()
            && status.is_confirmed()
        {
            return Ok((signature, status.slot, status.err.clone()));
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!(
        "{:?} {signature} did not land within {} s",
        draft.kind,
        EXPIRY.as_secs()
    )
}

/// Funds the wallets, creates mints, token accounts and the table, and finds out whether version 1 is taken.
async fn set(rpc: &Rpc, mint: Arc<Keypair>, summary: &mut Summary) -> anyhow::Result<Scene> {
    let wallets: Vec<Arc<Keypair>> = (0..WALLETS).map(|_| Arc::new(Keypair::new())).collect();
    let needed = WALLET_LAMPORTS * WALLETS as u64;
    let balance = rpc.balance(&mint.pubkey()).await?;
    if balance <= needed {
        bail!(
            "the mint {} holds {balance} lamports; {needed} are needed. Fix: give the validator's own --mint-keypair",
            mint.pubkey()
        );
    }
    let addresses: Vec<_> = wallets.iter().map(|wallet| wallet.pubkey()).collect();
    must(rpc, summary, act::fund(mint, &addresses, WALLET_LAMPORTS)).await?;

    let authority = &wallets[0];
    let token_mint_rent = rpc.rent_exempt_lamports(act::token_mint_bytes()).await?;
    let fee_mint_rent = rpc.rent_exempt_lamports(act::fee_mint_bytes()?).await?;
    let (draft, token) = act::token_mint(authority, token_mint_rent)?;
    must(rpc, summary, draft).await?;
    let (draft, fee_token) = act::fee_mint(authority, fee_mint_rent)?;
    must(rpc, summary, draft).await?;
    for (mint, kind) in [(token, Kind::TokenMintTo), (fee_token, Kind::FeeMintTo)] {
        for owners in wallets.chunks(3) {
            must(rpc, summary, act::token_accounts(authority, owners, &mint)).await?;
        }
        let draft = act::mint_to(kind, authority, &wallets, &mint, WALLET_TOKENS)?;
        must(rpc, summary, draft).await?;
    }

    // A table is derived from a slot that the bank already knows as past; a finalized one surely is.
    let recent_slot = rpc.slot("finalized").await?;
    let (draft, table) = act::lookup_table(authority, recent_slot);
    must(rpc, summary, draft).await?;
    let looked_up = Scene::table_addresses(&wallets, &[token, fee_token]);
    let filling = act::extend_table(authority, table, looked_up.clone());
    let table_filled_slot = must(rpc, summary, filling).await?;

    let probe = act::version_1_transfer(authority, &addresses[1], 1);
    summary.sent(probe.kind);
    let version_1_accepted = match land(rpc, &probe).await {
        Ok((_, slot, error)) => {
            summary.ended(probe.kind, slot, error.as_ref());
            summary.version_1 = "accepted".into();
            true
        }
        Err(e) => {
            summary.refused += 1;
            summary.count(probe.kind).refused += 1;
            summary.version_1 = format!("not accepted: {e}");
            false
        }
    };
    Ok(Scene {
        wallets,
        token,
        fee_token,
        table: AddressLookupTableAccount {
            key: table,
            addresses: looked_up,
        },
        table_filled_slot,
        token_mint_rent,
        fee_mint_rent,
        version_1_accepted,
        opened: Vec::new(),
        wrapped: Default::default(),
        unwrapped: (0..WALLETS).collect(),
        recent_slot,
        last_table_slot: recent_slot,
    })
}

/// Sends a transaction without which there is no scene; the slot it landed in.
async fn must(rpc: &Rpc, summary: &mut Summary, draft: Draft) -> anyhow::Result<u64> {
    summary.sent(draft.kind);
    let (_, slot, error) = land(rpc, &draft)
        .await
        .with_context(|| format!("setting the scene: {:?}", draft.kind))?;
    summary.ended(draft.kind, slot, error.as_ref());
    match error {
        None => Ok(slot),
        Some(error) => bail!("setting the scene: {:?} failed: {error}", draft.kind),
    }
}

/// Asks for everything that is pending; counts what is confirmed or has expired.
async fn settle(
    rpc: &Rpc,
    pending: &mut HashMap<Signature, Pending>,
    scene: &mut Scene,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let signatures: Vec<Signature> = pending.keys().copied().collect();
    for chunk in signatures.chunks(STATUSES_PER_CALL) {
        let statuses = rpc.signature_statuses(chunk).await?;
        for (signature, status) in chunk.iter().zip(statuses) {
            let confirmed = status.filter(|status| status.is_confirmed());
            if let Some(status) = confirmed {
                if let Some(done) = pending.remove(signature) {
                    summary.ended(done.kind, status.slot, status.err.as_ref());
                    if let Some(effect) = done.effect.filter(|_| status.err.is_none()) {
                        scene.apply(effect);
                    }
                }
            } else if pending
                .get(signature)
                .is_some_and(|p| p.since.elapsed() > EXPIRY)
                && let Some(expired) = pending.remove(signature)
            {
                summary.lost(expired.kind);
            }
        }
    }
    Ok(())
}

fn note_answer(
    pending: &mut HashMap<Signature, Pending>,
    summary: &mut Summary,
    signature: Signature,
    answer: Result<(), RpcError>,
) {
    if let Err(error) = answer
        && let Some(refused) = pending.remove(&signature)
    {
        summary.refused(refused.kind, &error);
    }
}

fn pick(random: &mut StdRng) -> Kind {
    let total: u32 = MIX.iter().map(|(_, weight)| weight).sum();
    let mut at = random.random_range(0..total);
    for (kind, weight) in MIX {
        if at < *weight {
            return *kind;
        }
        at -= weight;
    }
    Kind::SolTransfer
}

fn ended(end: End, driving: Instant, reached: u64) -> bool {
    match end {
        End::Seconds(seconds) => driving.elapsed() >= Duration::from_secs(seconds),
        End::Slot(slot) => reached >= slot,
        End::Never => false,
    }
}
