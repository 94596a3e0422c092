use proptest::prelude::*;
use smallvec::smallvec;

use super::*;

/// Octet `i` of every stream in these tests.
fn octet(i: usize) -> u8 {
    (i % 251) as u8
}

fn payload(start: usize, len: usize) -> Payload {
    smallvec![(start..start + len).map(octet).collect::<Bytes>()]
}

fn contents(data: ReceiveBuffer) -> Vec<u8> {
    let mut data = data;
    let mut out = vec![0; data.len()];
    data.read(&mut out);
    out
}

fn ranges(queue: &Reassembly) -> Vec<(u32, u32)> {
    queue.ranges().map(|(l, r)| (l.0, r.0)).collect()
}

fn seq(range: (u32, u32)) -> (SeqNum, SeqNum) {
    (SeqNum(range.0), SeqNum(range.1))
}

#[test]
fn overlaps_are_trimmed_and_reported() {
    // Ranges 10..20 and 30..40 are held. Segment, new octets, duplicate, range it belongs to, number of ranges.
    type Case = ((u32, u32), usize, Option<(u32, u32)>, (u32, u32), usize);
    let cases: [Case; 12] = [
        ((50, 60), 10, None, (50, 60), 3),
        ((20, 25), 5, None, (10, 25), 2),
        ((25, 30), 5, None, (25, 40), 2),
        ((20, 30), 10, None, (10, 40), 1),
        ((10, 20), 0, Some((10, 20)), (10, 20), 2),
        ((12, 15), 0, Some((12, 15)), (10, 20), 2),
        ((15, 25), 5, Some((15, 20)), (10, 25), 2),
        ((5, 15), 5, Some((10, 15)), (5, 20), 2),
        ((5, 45), 20, Some((10, 20)), (5, 45), 1),
        ((15, 35), 10, Some((15, 20)), (10, 40), 1),
        ((25, 45), 10, Some((30, 40)), (25, 45), 2),
        ((5, 10), 5, None, (5, 20), 2),
    ];
    for base in [0, u32::MAX - 19, 1 << 31] {
        for (segment, new_bytes, duplicate, range, count) in cases {
            let at = |n: u32| base.wrapping_add(n);
            let mut queue = Reassembly::new(8);
            queue.insert(SeqNum(at(10)), &payload(10, 10), false);
            queue.insert(SeqNum(at(30)), &payload(30, 10), false);
            let (left, right) = segment;
            let data = payload(left as usize, (right - left) as usize);
            let inserted = queue.insert(SeqNum(at(left)), &data, false);
            let expected = Inserted {
                new_bytes,
                duplicate: duplicate.map(|(l, r)| seq((at(l), at(r)))),
                range: Some(seq((at(range.0), at(range.1)))),
            };
            assert_eq!(inserted, expected, "{segment:?}");
            assert_eq!(queue.ranges().count(), count, "{segment:?}");
            assert_eq!(queue.len(), 20 + new_bytes);
        }
    }
}

#[test]
fn first_copy_wins() {
    let mut queue = Reassembly::new(8);
    queue.insert(SeqNum(10), &smallvec![Bytes::from_static(b"held")], false);
    queue.insert(
        SeqNum(8),
        &smallvec![Bytes::from_static(b"XXXXXXXX")],
        false,
    );
    let ready = queue.take_ready(SeqNum(8)).unwrap();
    assert_eq!(contents(ready.data), b"XXheldXX");
}

#[test]
fn data_is_ready_when_the_hole_is_filled() {
    // RFC 9293 SHLD-31.
    let mut queue = Reassembly::new(8);
    queue.insert(SeqNum(10), &payload(10, 10), false);
    assert!(queue.take_ready(SeqNum(9)).is_none());
    // The hole was filled by a segment that overlapped what is held.
    let ready = queue.take_ready(SeqNum(13)).unwrap();
    assert_eq!(
        contents(ready.data),
        (13..20).map(octet).collect::<Vec<_>>()
    );
    assert!(!ready.fin && queue.is_empty());
    assert_eq!((queue.len(), queue.charged()), (0, 0));
    // What lies wholly before RCV.NXT is forgotten.
    queue.insert(SeqNum(30), &payload(30, 10), false);
    queue.insert(SeqNum(50), &payload(50, 10), false);
    let ready = queue.take_ready(SeqNum(55)).unwrap();
    assert_eq!(ready.data.len(), 5);
    assert!(queue.is_empty());
}

#[test]
fn early_fin_is_remembered() {
    let mut queue = Reassembly::new(8);
    queue.insert(SeqNum(10), &payload(10, 10), true);
    let ready = queue.take_ready(SeqNum(10)).unwrap();
    assert!(ready.fin && ready.data.len() == 10 && queue.is_empty());
    // A bare FIN after a hole.
    queue.insert(SeqNum(30), &Payload::new(), true);
    assert!(!queue.is_empty());
    assert!(queue.take_ready(SeqNum(29)).is_none());
    let ready = queue.take_ready(SeqNum(30)).unwrap();
    assert!(ready.fin && ready.data.is_empty() && queue.is_empty());
}

#[test]
fn nothing_is_taken_beyond_the_end_of_the_stream() {
    let mut queue = Reassembly::new(8);
    queue.insert(SeqNum(10), &payload(10, 10), true);
    let inserted = queue.insert(SeqNum(15), &payload(15, 10), false);
    assert_eq!(inserted.new_bytes, 0);
    assert_eq!(
        queue.insert(SeqNum(25), &payload(25, 10), true),
        Inserted::default()
    );
    assert_eq!(ranges(&queue), [(10, 20)]);
    // A FIN before data that is held is not believed either.
    let mut queue = Reassembly::new(8);
    queue.insert(SeqNum(20), &payload(20, 10), false);
    queue.insert(SeqNum(10), &payload(10, 5), true);
    assert!(!queue.take_ready(SeqNum(10)).unwrap().fin);
}

#[test]
fn too_many_ranges_are_refused_but_holes_still_fill() {
    let mut queue = Reassembly::new(3);
    for i in 0..5u32 {
        let inserted = queue.insert(SeqNum(i * 10), &payload(i as usize * 10, 5), false);
        assert_eq!(inserted.range.is_some(), i < 3);
    }
    assert_eq!(ranges(&queue), [(0, 5), (10, 15), (20, 25)]);
    assert_eq!(queue.insert(SeqNum(5), &payload(5, 5), false).new_bytes, 5);
    assert_eq!(
        queue.insert(SeqNum(40), &payload(40, 5), false).new_bytes,
        5
    );
}

#[test]
fn positions_hold_over_a_long_life_that_is_never_empty() {
    // One range is always waiting while the stream moves by more than 2^32.
    let mut queue = Reassembly::new(8);
    let mut next = 0u64;
    queue.insert(SeqNum(100), &payload(0, 100), false);
    for _ in 0..50 {
        next += 100_000_000;
        queue.insert(SeqNum((next + 100) as u32), &payload(0, 100), false);
        queue
            .take_ready(SeqNum((next - 100_000_000 + 100) as u32))
            .unwrap();
        assert_eq!(queue.ranges().count(), 1);
    }
}

#[test]
fn hostile_patterns_stay_cheap_in_chunks_and_memory() {
    // 100,000 segments of one octet: backwards; every second octet forwards, then the others backwards.
    const N: usize = 100_000;
    let orders: [Vec<usize>; 2] = [
        (0..N).rev().collect(),
        (0..N)
            .step_by(2)
            .chain((0..N).skip(1).step_by(2).rev())
            .collect(),
    ];
    for order in orders {
        let mut queue = Reassembly::new(N);
        let mut most = 0;
        for i in order {
            queue.insert(SeqNum(1000 + i as u32), &payload(i, 1), false);
            most = most.max(queue.charged());
        }
        assert!(most <= 300 * N, "{most}");
        assert!(queue.charged() < 5 * N, "compacted: {}", queue.charged());
        let ready = queue.take_ready(SeqNum(1000)).unwrap();
        assert_eq!(contents(ready.data), (0..N).map(octet).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn behaves_like_an_array_of_octets(
        base in prop_oneof![Just(0u32), Just(u32::MAX - 300), any::<u32>()],
        segments in prop::collection::vec((0usize..600, 0usize..120, 1usize..50, 0usize..30), 1..80),
    ) {
        const SIZE: usize = 1000;
        let mut queue = Reassembly::new(1000);
        let mut held = [false; SIZE];
        let mut next = 0usize;
        for (offset, len, cut, take) in segments {
            let start = next + 1 + offset % 300;
            let end = (start + len).min(SIZE);
            if start >= end {
                continue;
            }
            // The payload comes in several slices.
            let data: Payload = (start..end)
                .step_by(cut)
                .map(|i| (i..(i + cut).min(end)).map(octet).collect())
                .collect();
            let inserted = queue.insert(SeqNum(base.wrapping_add(start as u32)), &data, false);
            let fresh = held[start..end].iter().filter(|held| !**held).count();
            prop_assert_eq!(inserted.new_bytes, fresh);
            let first_duplicate = (start..end).find(|i| held[*i]).map(|left| {
                let right = (left..end).find(|i| !held[*i]).unwrap_or(end);
                (SeqNum(base.wrapping_add(left as u32)), SeqNum(base.wrapping_add(right as u32)))
            });
            prop_assert_eq!(inserted.duplicate, first_duplicate);
            held[start..end].fill(true);
            let left = (0..start).rev().find(|i| !held[*i]).map_or(0, |i| i + 1);
            let right = (end..SIZE).find(|i| !held[*i]).unwrap_or(SIZE);
            prop_assert_eq!(
                inserted.range,
                Some((SeqNum(base.wrapping_add(left as u32)), SeqNum(base.wrapping_add(right as u32))))
            );
            prop_assert_eq!(queue.len(), held.iter().filter(|held| **held).count());
            prop_assert!(queue.charged() >= queue.len());
            if take == 0 {
                // The stream moves on: everything up to some octet has come in order.
                next = start;
                held[..next].fill(false);
                match queue.take_ready(SeqNum(base.wrapping_add(next as u32))) {
                    None => prop_assert!(!held[next]),
                    Some(ready) => {
                        let run = (next..SIZE).take_while(|i| held[*i]).count();
                        let expected: Vec<u8> = (next..next + run).map(octet).collect();
                        prop_assert_eq!(contents(ready.data), expected);
                        held[next..next + run].fill(false);
                        next += run;
                    }
                }
                prop_assert_eq!(queue.len(), held.iter().filter(|held| **held).count());
            }
        }
    }
}
