//! Proofs. `universe` makes small worlds of accounts, transactions and requests in which things collide often; `oracle` says
//! from the written rules alone who gets what; `equivalence` compares the index with it; the rest are tables of cases.

mod changes;
mod cost;
mod cuckoos;
mod equivalence;
mod harm;
mod kinds;
mod matching;
mod oracle;
mod requests;
mod universe;
