//! Pure: which of the numbered updates came, and how often.

/// See the module. Which number is the first is known before anything is sent: what came first says nothing, because updates of
/// different partitions have no common order.
#[derive(Debug, Clone)]
pub struct Numbers {
    first: u64,
    /// How often each came, from the first one on.
    came: Vec<u8>,
    received: u64,
}

/// From the first to the last that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Account {
    pub due: u64,
    pub missing: u64,
    pub repeated: u64,
    /// The first and the last that are missing.
    pub hole: Option<(u64, u64)>,
}

impl Numbers {
    pub fn starting_at(first: u64) -> Self {
        Self {
            first,
            came: Vec::new(),
            received: 0,
        }
    }

    pub fn add(&mut self, number: u64) {
        self.received += 1;
        // What is of an earlier measurement was not asked for.
        let Some(place) = number.checked_sub(self.first) else {
            return;
        };
        let place = place as usize;
        if place >= self.came.len() {
            self.came.resize(place + 1, 0);
        }
        self.came[place] = self.came[place].saturating_add(1);
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether this one, and all between the first and it, has come.
    pub fn is_complete_to(&self, last: u64) -> bool {
        let account = self.account(last);
        account.due > 0 && account.missing == 0
    }

    pub fn account(&self, last: u64) -> Account {
        let Some(due) = (last + 1).checked_sub(self.first) else {
            return Account::default();
        };
        let came = &self.came[..self.came.len().min(due as usize)];
        let distinct = came.iter().filter(|times| **times > 0).count() as u64;
        let is_missing = |place: &u64| came.get(*place as usize).is_none_or(|times| *times == 0);
        let first = (0..due).find(is_missing);
        let last = (0..due).rev().find(is_missing);
        Account {
            hole: first
                .zip(last)
                .map(|(first, last)| (self.first + first, self.first + last)),
            due,
            missing: due - distinct,
            repeated: came
                .iter()
                .map(|times| u64::from(times.saturating_sub(1)))
                .sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repetitions_are_counted() {
        let mut numbers = Numbers::starting_at(10);
        assert!(!numbers.is_complete_to(3));
        for number in [9, 10, 11, 13, 13, 12, 16] {
            numbers.add(number);
        }
        assert!(numbers.is_complete_to(13));
        let expected = Account {
            due: 9,
            missing: 4,
            repeated: 1,
            hole: Some((14, 18)),
        };
        assert_eq!(numbers.account(18), expected);
        assert_eq!(numbers.received(), 7);
    }

    /// Two partitions, and the second is ahead: that 4 came before 3 makes 3 no gap, and that 3 never came is one.
    #[test]
    fn the_first_that_comes_is_not_the_first_there_is() {
        let mut numbers = Numbers::starting_at(3);
        numbers.add(4);
        numbers.add(5);
        assert_eq!(numbers.account(5).missing, 1);
        numbers.add(3);
        assert!(numbers.is_complete_to(5));
    }
}
