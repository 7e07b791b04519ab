use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    topic: ObservedTopic,
    partition: u32,
    header: [u8; ObservedHeader::LENGTH],
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Owned {
    fn frame(&self) -> Frame<'_> {
        Frame {
            output: self.header[0] % 8,
            topic: self.topic,
            partition: self.partition,
            header: &self.header,
            key: &self.key,
            value: &self.value,
        }
    }
}

fn record(number: u8, size: usize) -> Owned {
    Owned {
        topic: ObservedTopic::ALL[usize::from(number) % 3],
        partition: number.into(),
        header: [number; ObservedHeader::LENGTH],
        key: vec![number; usize::from(number) % 65],
        value: vec![number; size],
    }
}

fn take(spill: &mut Spill, finished: &mut Vec<Finished>) -> Option<Owned> {
    let frame = spill.peek(finished)?;
    let owned = Owned {
        topic: frame.topic,
        partition: frame.partition,
        header: *frame.header,
        key: frame.key.to_vec(),
        value: frame.value.to_vec(),
    };
    spill.advance();
    Some(owned)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // `true` appends, `false` takes; sizes cross the 1 MiB segment limit now and then.
    #[test]
    fn what_goes_in_comes_out_in_order(steps in proptest::collection::vec((any::<bool>(), prop_oneof![0_usize..300, Just(400_000)]), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(dir.path(), 1 << 30).unwrap();
        spill.segment_bytes = 1 << 20;
        let mut model = std::collections::VecDeque::new();
        let mut finished = Vec::new();
        for (number, (append, size)) in steps.into_iter().enumerate() {
            if append {
                let record = record(number as u8, size);
                spill.append(record.frame()).unwrap();
                model.push_back(record);
            } else {
                prop_assert_eq!(take(&mut spill, &mut finished), model.pop_front());
            }
        }
        while let Some(expected) = model.pop_front() {
            prop_assert_eq!(take(&mut spill, &mut finished), Some(expected));
        }
        prop_assert_eq!(take(&mut spill, &mut finished), None);
        prop_assert!(spill.is_empty());
        for segment in &finished {
            spill.delete(segment);
        }
        prop_assert_eq!(spill.bytes(), 0);
        prop_assert!(segments(dir.path()).is_empty());
    }
}

#[test]
fn a_later_instance_finds_what_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
    for number in 0..10 {
        spill.append(record(number, 100).frame()).unwrap();
    }
    let mut finished = Vec::new();
    assert_eq!(take(&mut spill, &mut finished), Some(record(0, 100)));
    drop(spill);
    let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
    spill.append(record(10, 50).frame()).unwrap();
    // Read but not deleted means not known to be safe: it comes again.
    for number in 0..10 {
        assert_eq!(take(&mut spill, &mut finished), Some(record(number, 100)));
    }
    assert_eq!(take(&mut spill, &mut finished), Some(record(10, 50)));
    assert_eq!(take(&mut spill, &mut finished), None);
}

#[test]
fn a_torn_or_damaged_segment_costs_only_its_rest() {
    for cut in [3_u64, 20, 150] {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
        for number in 0..3 {
            spill.append(record(number, 100).frame()).unwrap();
        }
        drop(spill);
        let path = segments(dir.path()).remove(0);
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - cut)
            .unwrap();
        let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
        spill.append(record(9, 10).frame()).unwrap();
        let mut finished = Vec::new();
        assert_eq!(take(&mut spill, &mut finished), Some(record(0, 100)));
        assert_eq!(take(&mut spill, &mut finished), Some(record(1, 100)));
        assert_eq!(take(&mut spill, &mut finished), Some(record(9, 10)));
        assert_eq!(spill.damaged(), 1);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
    spill.append(record(1, 100).frame()).unwrap();
    drop(spill);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(take(&mut spill, &mut Vec::new()), None);
    assert_eq!(spill.damaged(), 1);
}

#[test]
fn the_bound_holds_and_space_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut spill = Spill::open(dir.path(), 10_000).unwrap();
    let mut taken = 0_u8;
    while spill.append(record(taken, 500).frame()).is_ok() {
        taken += 1;
    }
    assert!((10..20).contains(&taken), "{taken}");
    assert!(matches!(
        spill.append(record(0, 500).frame()),
        Err(SpillError::Full(10_000))
    ));
    let mut finished = Vec::new();
    while take(&mut spill, &mut finished).is_some() {}
    for segment in &finished {
        spill.delete(segment);
    }
    spill.append(record(0, 500).frame()).unwrap();
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Spill::open(dir.path(), 1 << 20).unwrap();
    let error = Spill::open(dir.path(), 1 << 20).unwrap_err().to_string();
    assert!(
        error.contains("in use by another plugin instance"),
        "{error}"
    );
    drop(first);
    assert!(Spill::open(dir.path(), 1 << 20).is_ok());
}

#[test]
fn what_is_prepended_comes_first_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut finished = Vec::new();
    let mut spill = Spill::open(dir.path(), 1 << 20).unwrap();
    for number in 10..13 {
        spill.append(record(number, 50).frame()).unwrap();
    }
    assert_eq!(take(&mut spill, &mut finished), Some(record(10, 50)));
    for (first, second) in [(1, 2), (3, 4)] {
        spill
            .prepend(|segment| {
                segment.append(record(first, 60).frame())?;
                segment.append(record(second, 60).frame())
            })
            .unwrap();
    }
    // Beyond the bound, but appended behind.
    spill.append(record(13, 50).frame()).unwrap();
    drop(spill);
    let mut spill = Spill::open(dir.path(), 100).unwrap();
    let mut taken = Vec::new();
    while let Some(record) = take(&mut spill, &mut finished) {
        taken.push(record.value[0]);
    }
    assert_eq!(taken, [3, 4, 1, 2, 10, 11, 12, 13]);
}
