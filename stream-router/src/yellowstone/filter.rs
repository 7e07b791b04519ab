//! Being written.

pub type SubscriberId = u64;

#[derive(Debug, Clone)]
pub struct Filters;

#[derive(Debug, Clone)]
pub struct FilterError;
