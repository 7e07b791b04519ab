//! Which pieces of an account's data are sent, without copying them.

use super::{FilterError, account::DATA_BYTES_MAX, config::DataSliceConfig};

const SLICES_MAX: usize = 64;

/// Sorted pieces that do not overlap; none configured means all data. As in yellowstone, a piece that reaches past the
/// end of an account's data is left out whole, not shortened.
#[derive(Debug, Clone, Default)]
pub struct DataSlices(Box<[Piece]>);

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    end: usize,
}

impl DataSlices {
    pub(super) fn compile(written: &[DataSliceConfig]) -> Result<Self, FilterError> {
        if written.len() > SLICES_MAX {
            return Err(FilterError::new(
                "accounts_data_slice",
                format!("has {} entries", written.len()),
                format!("write at most {SLICES_MAX}; neighbouring pieces fit into one"),
            ));
        }
        let mut pieces = Vec::with_capacity(written.len());
        let mut earliest = 0;
        for (index, DataSliceConfig { offset, length }) in written.iter().enumerate() {
            let end = offset.saturating_add(*length);
            if end > DATA_BYTES_MAX {
                return Err(FilterError::new(
                    format!("accounts_data_slice[{index}]"),
                    format!("ends at byte {end}, and the largest account at {DATA_BYTES_MAX}"),
                    "write a smaller offset or length",
                ));
            }
            if *offset < earliest {
                return Err(FilterError::new(
                    format!("accounts_data_slice[{index}].offset"),
                    format!("is {offset}, before the end of the piece above it, {earliest}"),
                    "sort the pieces by offset and merge those that overlap",
                ));
            }
            earliest = end;
            // Both are at most 10 MiB.
            pieces.push(Piece {
                start: *offset as usize,
                end: end as usize,
            });
        }
        Ok(Self(pieces.into()))
    }

    /// Nothing is cut: all data is sent.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// What is sent is these, one after the other.
    pub fn pieces<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        let whole = self.is_whole().then_some(data);
        let cut = self
            .0
            .iter()
            .filter_map(move |piece| data.get(piece.start..piece.end));
        whole.into_iter().chain(cut)
    }

    /// Of all pieces together, in bytes.
    pub fn length(&self, data: &[u8]) -> usize {
        self.pieces(data).map(<[u8]>::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn slices(written: &[(u64, u64)]) -> DataSlices {
        let written: Vec<DataSliceConfig> = written
            .iter()
            .map(|&(offset, length)| DataSliceConfig { offset, length })
            .collect();
        DataSlices::compile(&written).unwrap()
    }

    #[test]
    fn a_piece_past_the_end_is_left_out_whole() {
        let data = [0, 1, 2, 3, 4, 5];
        for (written, sent) in [
            (&[][..], &data[..]),
            (&[(0, 0)], &[]),
            (&[(0, 6)], &data),
            (&[(0, 7)], &[]),
            (&[(1, 2), (4, 2)], &[1, 2, 4, 5]),
            (&[(1, 2), (4, 3)], &[1, 2]),
            (&[(1, 2), (3, 1)], &[1, 2, 3]),
            (&[(6, 0), (6, 1)], &[]),
            (&[(100, 1)], &[]),
        ] {
            let slices = slices(written);
            assert_eq!(slices.pieces(&data).collect::<Vec<_>>().concat(), sent);
            assert_eq!(slices.length(&data), sent.len());
            assert_eq!(slices.is_whole(), written.is_empty());
        }
    }

    proptest! {
        #[test]
        fn pieces_are_what_a_plain_model_sends(
            steps in vec((0..6_u64, 0..6_u64), 0..8), data in vec(any::<u8>(), 0..60),
        ) {
            let mut written = Vec::new();
            let mut end = 0;
            for (gap, length) in steps {
                written.push((end + gap, length));
                end += gap + length;
            }
            let mut sent = Vec::new();
            for (offset, length) in &written {
                let bytes: Vec<u8> = data.iter().skip(*offset as usize).take(*length as usize).copied().collect();
                if bytes.len() as u64 == *length {
                    sent.extend(bytes);
                }
            }
            if written.is_empty() {
                sent = data.clone();
            }
            let slices = slices(&written);
            prop_assert_eq!(slices.length(&data), sent.len());
            prop_assert_eq!(slices.pieces(&data).flatten().copied().collect::<Vec<u8>>(), sent);
            // They lie in the data: nothing was copied.
            let lies_inside = |piece: &[u8]| piece.is_empty() || data.as_ptr_range().contains(&piece.as_ptr());
            prop_assert!(slices.pieces(&data).all(lies_inside));
        }

        /// Accepted exactly when sorted and not overlapping.
        #[test]
        fn order_is_checked(written in vec((0..10_u64, 0..5_u64), 0..5)) {
            let in_order = written.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0);
            let config: Vec<DataSliceConfig> =
                written.iter().map(|&(offset, length)| DataSliceConfig { offset, length }).collect();
            prop_assert_eq!(DataSlices::compile(&config).is_ok(), in_order);
        }
    }
}
